"""Weight decay in the methods of a network: np.sum(W ** 2), and a gradient plus a factor times weights, in one pass each.

    weight_decay += 0.5 * self.weight_decay_lambda * np.sum(W ** 2)
    grads["W1"] = self.layers["Affine1"].dW + self.weight_decay_lambda * self.params["W1"]

In NumPy these make four arrays of the size of the weights, a tenth of a step of a network of 100 by 100. A method that goes
through layers is compiled once more from its own source with these expressions as calls; where their operands are not what
kernels take, the calls compute the expressions as they stood. Lines, names and results stay what they are.
"""

from __future__ import annotations

import ast
import copy
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np

from . import calls
from .operations import add_scaled, sum_of_squares
from .recognition import function_node

SUM, SQUARES, ADD = "_fastbp_sum", "_fastbp_sum_of_squares", "_fastbp_add_scaled"
OF_NETWORKS = {"forward", "backward"}  # what a method calls that goes through layers


def in_one_pass(method: FunctionType, owner: str, wrap: calls.Wrapper) -> FunctionType | None:
    """The method of a class of that name, with such expressions as calls; None if it has none.

    wrap: how the calls are made, see `calls`.
    """
    code = method.__code__
    if OF_NETWORKS.isdisjoint(code.co_names) or code.co_freevars:
        return None
    node = function_node(method)
    if node is None or node.decorator_list:
        return None
    rewriting = _Rewriting()
    rewritten = rewriting.visit(copy.deepcopy(node))
    if not rewriting.found:
        return None
    return _compiled(method, owner, rewritten, wrap)


def _function(name: str, wrap: calls.Wrapper) -> Any:
    """What is called by a name."""
    if name == SUM:
        return np.sum
    if name == SQUARES:
        return wrap("np.sum(W ** 2)", sum_of_squares, _own_sum_of_squares)
    return wrap("dW + decay * W", add_scaled, _own_add_scaled)


def _own_sum_of_squares(x: Any) -> Any:
    return np.sum(x**2)


def _own_add_scaled(a: Any, scale: Any, b: Any) -> Any:
    return a + scale * b


class _Rewriting(ast.NodeTransformer):
    """Makes calls of the expressions; `found`: whether there were any. What is computed first is still computed first."""

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
                test = ast.Compare(function, [ast.Is()], [_name(SUM)])
                return self._instead(ast.IfExp(test, ast.Call(_name(SQUARES), [squared], []), node), node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        self.generic_visit(node)
        match node:
            case ast.Assign(
                targets=[ast.Subscript()],
                value=ast.BinOp(
                    left=ast.Attribute() as gradient,
                    op=ast.Add(),
                    right=ast.BinOp(left=scale, op=ast.Mult(), right=weights),
                ),
            ):
                node.value = self._instead(ast.Call(_name(ADD), [gradient, scale, weights], []), node.value)
        return node

    def _instead(self, call: ast.expr, node: ast.expr) -> ast.expr:
        self.found = True
        return ast.fix_missing_locations(ast.copy_location(call, node))


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _compiled(method: FunctionType, owner: str, node: ast.FunctionDef, wrap: calls.Wrapper) -> FunctionType:
    """A function as `method` is, of another body: within a class, as names with two underscores are read there, and
    within a function, whose variables the calls are."""
    within = ast.parse(f"def outer({SUM}, {SQUARES}, {ADD}):\n    class {owner}:\n        pass")
    within.body[0].body[0].body = [node]  # type: ignore[attr-defined]
    code = compile(ast.fix_missing_locations(within), method.__code__.co_filename, "exec", dont_inherit=True)
    inner = _code_named(_code_named(_code_named(code, "outer"), owner), node.name)
    cells = tuple(CellType(_function(name, wrap)) for name in inner.co_freevars)
    made = FunctionType(inner, method.__globals__, method.__name__, method.__defaults__, cells)
    made.__kwdefaults__, made.__qualname__, made.__module__ = (
        method.__kwdefaults__,
        method.__qualname__,
        method.__module__,
    )
    made.__doc__, made.__annotations__ = method.__doc__, method.__annotations__
    made.__dict__.update(method.__dict__)
    return made


def _code_named(code: CodeType, name: str) -> CodeType:
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
