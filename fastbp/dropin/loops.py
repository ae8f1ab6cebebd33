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
    """The loops through layers among a method's own statements, whose variable nothing reads after them."""
    for statement in node.body:
        for method in ("forward", "backward"):
            if (loop := loop_of(statement, method)) is not None and not _is_read_outside(node, loop.layer):
                yield loop


def _is_read_outside(node: ast.AST, name: str) -> bool:
    """Whether a variable is read anywhere but in loops that set it."""
    if isinstance(node, ast.Name):
        return node.id == name
    targets = [node.target] if isinstance(node, ast.For) else [one.target for one in getattr(node, "generators", ())]
    if any(isinstance(part, ast.Name) and part.id == name for target in targets for part in ast.walk(target)):
        return False
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
