"""What becomes of the lists that somebody's function makes: which are its own, and what is put into them.

A list may be appended to where nobody else has it, and may hold an array's numbers then: nothing may be decided by it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_OF_LISTS = {"list", "tuple", "zip", "enumerate", "reversed"}  # built-in functions that take a list as it is


def own_lists(function: ast.FunctionDef) -> set[str]:
    """The variables that are lists which the function makes, and nothing else: what it appends to them is its own."""
    arguments = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
    bound = [one for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    made = [
        one.targets[0]
        for one in ast.walk(function)
        if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.value, ast.List | ast.ListComp)
    ]
    lists = {one.id for one in made if isinstance(one, ast.Name)} - arguments - _looked_at(function)
    return {name for name in lists if all(any(one is other for other in made) for one in bound if one.id == name)}


def _looked_at(function: ast.FunctionDef) -> set[str]:
    """Variables that are used otherwise than whole lists are: handed to NumPy, returned, gone through or a part of taken.

    How long a list has become may depend on numbers, so its length and its truth are nothing to decide by.
    """
    found = set()
    for node in ast.walk(function):
        used = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.Name)]
        is_whole = isinstance(node, ast.Return | ast.For | ast.comprehension | ast.Subscript | ast.Attribute) or (
            isinstance(node, ast.Call)
            and (
                isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in _OF_LISTS)
            )
        )
        found |= {one.id for one in used if isinstance(one.ctx, ast.Load) and not is_whole}
    return found


def changes_in_place(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | None]]:
    """The variables that are appended to, or of which a part is assigned, with what they then have among their parts."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            yield from ((name, one) for name in _base_of(node.func.value) for one in node.args)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (one for target in targets for one in ast.walk(target) if isinstance(one, ast.Subscript))
            yield from ((name, node.value) for part in parts for name in _base_of(part))


def _base_of(node: ast.expr) -> list[str]:
    while isinstance(node, ast.Subscript):
        node = node.value
    return [node.id] if isinstance(node, ast.Name) else []


def also_called(name: str, assigned: dict[str, list[ast.expr | None]]) -> set[str]:
    """The variable, and those that are another name of the same."""
    found, size = {name}, 0
    while size < len(found):
        size = len(found)
        same = [value for one in found for value in assigned.get(one, ())]  # a = b = []
        for one, values in assigned.items():
            others = {value.id for value in values if isinstance(value, ast.Name)}
            if one in found:
                found |= others
            elif others & found or any(value is other for value in values for other in same):
                found.add(one)
    return found
