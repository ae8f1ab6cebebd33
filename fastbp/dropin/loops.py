"""Loops through a network's layers, read from a method's syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class Loop(NamedTuple):
    """`for layer in layers: value = layer.method(value)`, or through a dict's items.

    key: the variable of the dict's keys, if it is through those; other: a test of the key, of layers that are called
    otherwise, as the book's MultiLayerNetExtend calls its dropout with a flag.
    """

    statement: ast.For
    layer: str
    value: str
    method: str
    key: str = ""
    other: ast.expr | None = None

    @property
    def variables(self) -> set[str]:
        return {self.layer, self.key} - {""}


def loops_in(node: ast.FunctionDef) -> Iterator[Loop]:
    """The loops through layers among a method's own statements, where their value is set before them, whose variables
    nothing reads after them."""
    outer = {name for part in ast.walk(node) if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}
    is_set = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    for statement in node.body:
        for method in ("forward", "backward"):
            loop = loop_of(statement, method)
            if loop is None or loop.value in loop.variables or loop.value not in is_set:
                continue
            if outer.isdisjoint({*loop.variables, loop.value}) and not any(
                _is_read_outside(node, name) for name in loop.variables
            ):
                yield loop
        if isinstance(statement, ast.Assign):
            is_set.update(target.id for target in statement.targets if isinstance(target, ast.Name))


def _is_read_outside(node: ast.AST, name: str) -> bool:
    """Whether a variable is read anywhere but in loops that set it."""
    if isinstance(node, ast.Name):
        return node.id == name
    setting: list[ast.For | ast.comprehension] = (
        [node] if isinstance(node, ast.For) else getattr(node, "generators", [])
    )
    targets = [part for one in setting for part in ast.walk(one.target)]
    if any(isinstance(part, ast.Name) and part.id == name for part in targets):
        return _is_read_outside(setting[0].iter, name)
    return any(_is_read_outside(part, name) for part in ast.iter_child_nodes(node))


def loop_of(statement: ast.stmt, method: str) -> Loop | None:
    """The statement as a Loop; None for anything else."""
    key, other = "", None
    match statement:
        case ast.For(target=ast.Name(id=layer), body=[call], orelse=[]):
            pass
        case ast.For(
            target=ast.Tuple(elts=[ast.Name(id=key), ast.Name(id=layer)]),
            iter=ast.Call(func=ast.Attribute(attr="items"), args=[], keywords=[]),
            body=[call],
            orelse=[],
        ) if key != layer:
            if isinstance(call, ast.If) and len(call.orelse) == 1 and _is_of_key(call.test, key):
                other = call.test
                call = call.orelse[0]
        case _:
            return None
    value = _value_of(call, layer, method)
    return None if value is None else Loop(statement, layer, value, method, key, other)


def _value_of(call: ast.stmt, layer: str, method: str) -> str | None:
    """The variable in `value = layer.method(value)`; None for any other statement."""
    match call:
        case ast.Assign(
            targets=[ast.Name(id=value)],
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=called), attr=name), args=[ast.Name(id=given)], keywords=[]
            ),
        ) if (called, name, given) == (layer, method, value):
            return value
    return None


def _is_of_key(test: ast.expr, key: str) -> bool:
    """Whether a test is of the key and constants alone, and calls nothing: `"Dropout" in key or key == "BatchNorm1"`."""
    simple = (ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop, ast.UnaryOp, ast.Not, ast.Constant, ast.Name, ast.Load)
    return all(
        isinstance(part, simple) and (not isinstance(part, ast.Name) or part.id == key) for part in ast.walk(test)
    )
