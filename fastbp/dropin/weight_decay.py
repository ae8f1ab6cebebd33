"""Weight decay in the methods of a network: np.sum(W ** 2) without the array of the squares.

    weight_decay += 0.5 * self.weight_decay_lambda * np.sum(W ** 2)

With it, a step of a network of five or six hidden layers of 100 takes 3 to 10 % longer. Such a method is compiled anew from
its own source, with a call in the expression's place; where the operand is not what the kernel takes, the call computes the
expression as it stood (see `recompiling`).
"""

from __future__ import annotations

import ast
import copy
from types import FunctionType
from typing import Any

import numpy as np

from . import calls
from .arguments import PASS
from .idling import Idling
from .operations import sum_of_squares
from .recognition import function_node
from .recompiling import recompiled

SUM, SQUARES = "_fastbp_sum", "_fastbp_sum_of_squares"
OF_NETWORKS = {"forward", "backward", "layers", "params", "W", "weights"}  # names in a method that is looked into


def without_squares(method: FunctionType, owner: str, wrap: calls.Wrapper, idling: Idling) -> FunctionType | None:
    """The method of a class of that name, with calls for such expressions; None if it has none.

    wrap: how the calls are made, see `calls`; idling: what notes their sizes.
    """
    code = method.__code__
    if "sum" not in code.co_names or OF_NETWORKS.isdisjoint(code.co_names) or code.co_freevars:
        return None
    node = function_node(method)
    if node is None or node.decorator_list:
        return None
    rewriting = _Rewriting()
    rewritten = rewriting.visit(copy.deepcopy(node))
    if not rewriting.found:
        return None
    name = method.__name__
    own = FunctionType(_own.__code__, globals(), name)
    names = {SUM: np.sum, SQUARES: wrap("np.sum(W ** 2)", _Squares(idling, name), own)}
    return recompiled(method, owner, rewritten, names)


class _Squares:
    """`sum_of_squares`, of which `idling` notes whether the method of that name has large arrays."""

    def __init__(self, idling: Idling, name: str):
        self.idling, self._name = idling, name

    def __call__(self, x: Any) -> Any:
        result = sum_of_squares(x)
        if result is PASS:
            self.idling.small(self._name)
        else:
            self.idling.large()
        return result


def _own(x: Any) -> Any:
    return np.sum(x**2)


class _Rewriting(ast.NodeTransformer):
    """Makes calls of the expressions, where `np.sum` is NumPy's; `found`: whether there were any."""

    def __init__(self) -> None:
        self.found = False

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(), attr="sum") as function,
                args=[ast.BinOp(left=squared, op=ast.Pow(), right=ast.Constant(value=2))],
                keywords=[],
            ):
                self.found = True
                test = ast.Compare(function, [ast.Is()], [ast.Name(SUM, ast.Load())])
                call = ast.Call(ast.Name(SQUARES, ast.Load()), [squared], [])
                return ast.fix_missing_locations(ast.copy_location(ast.IfExp(test, call, node), node))
        return node
