"""Weight decay in the methods of a network: np.sum(W ** 2) without the array of the squares.

    weight_decay += 0.5 * self.weight_decay_lambda * np.sum(W ** 2)

With it, a step of a network of five or six hidden layers of 100 takes 3 to 10 % longer. Such a method is compiled anew from
its own source, with a call in the expression's place; where the operand is not what the kernel takes, the call computes the
expression as it stood. Lines, names and whatever else shows stay what they are.
"""

from __future__ import annotations
import __future__

import ast
import copy
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np

from . import calls
from .operations import sum_of_squares
from .recognition import function_node

SUM, SQUARES = "_fastbp_sum", "_fastbp_sum_of_squares"
OF_NETWORKS = {"forward", "backward", "layers", "params", "W", "weights"}  # names in a method that is looked into


def without_squares(method: FunctionType, owner: str, wrap: calls.Wrapper) -> FunctionType | None:
    """The method of a class of that name, with calls for such expressions; None if it has none.

    wrap: how the calls are made, see `calls`.
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
    return _compiled(method, owner, rewritten, wrap("np.sum(W ** 2)", sum_of_squares, _own))


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


def _compiled(method: FunctionType, owner: str, node: ast.FunctionDef, squares: Any) -> FunctionType:
    """A function as `method` is, of another body: compiled within a class, as names with two underscores are read there,
    and within a function, of which SUM and SQUARES are variables, and the class, which the method may name, is not."""
    within = ast.parse(f"def outer({SUM}, {SQUARES}):\n    global {owner}\n    class {owner}:\n        pass")
    within.body[0].body[1].body = [node]  # type: ignore[attr-defined]
    future = method.__code__.co_flags & __future__.annotations.compiler_flag
    code = compile(within, method.__code__.co_filename, "exec", flags=future, dont_inherit=True)
    inner = _code_named(_code_named(_code_named(code, "outer"), owner), node.name)
    cells = tuple(CellType({SUM: np.sum, SQUARES: squares}[name]) for name in inner.co_freevars)
    made = FunctionType(inner, method.__globals__, method.__name__, method.__defaults__, cells)
    made.__dict__.update(method.__dict__)
    annotations = "__annotate__" if hasattr(method, "__annotate__") else "__annotations__"  # not evaluated since 3.14
    for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__", annotations):
        setattr(made, name, getattr(method, name))
    return made


def _code_named(code: CodeType, name: str) -> CodeType:
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
