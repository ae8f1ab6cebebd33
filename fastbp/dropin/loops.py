"""Loops through a network's layers, read from a method's syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class Loop(NamedTuple):
    """`for layer in layers: value = layer.method(value)`."""

    statement: ast.For
    layer: str
    value: str
    method: str


def loops_in(node: ast.FunctionDef) -> Iterator[Loop]:
    """The loops through layers among a method's own statements, where their value is set before them, whose variable
    nothing reads after them."""
    outer = {name for part in ast.walk(node) if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}
    is_set = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    for statement in node.body:
        for method in ("forward", "backward"):
            loop = loop_of(statement, method)
            if loop is None or loop.layer == loop.value or loop.value not in is_set:
                continue
            if outer.isdisjoint({loop.layer, loop.value}) and not _is_read_outside(node, loop.layer):
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
    match statement:
        case ast.For(
            target=ast.Name(id=layer),
            body=[
                ast.Assign(
                    targets=[ast.Name(id=value)],
                    value=ast.Call(
                        func=ast.Attribute(value=ast.Name(id=called), attr=name), args=[ast.Name(id=given)], keywords=[]
                    ),
                )
            ],
            orelse=[],
        ) if (called, name, given) == (layer, method, value):
            return Loop(statement, layer, value, method)
    return None
