"""What a test in somebody's code decides by: shapes, flags and None, or the numbers in an array.

What was tried goes for all numbers only where it does not decide by these (see `screening`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .lists import also_called, changes_in_place

SHAPES = {"ndim", "shape", "size", "dtype"}
_OF_SHAPES = {".ndim", ".shape", ".size"}


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.comprehension | ast.keyword):
            yield from expressions(child)


def shape_names(function: ast.FunctionDef, parameters: set[str], shapes: frozenset[str]) -> set[str]:
    """Local names that never hold an array's numbers: all that they are assigned comes from shapes, parameters' too."""
    assigned = _assignments(function)
    for changed, value in changes_in_place(function):
        for name in also_called(changed, assigned):
            assigned.setdefault(name, []).append(value)
    names = {name for name in assigned if name not in parameters}
    while True:
        known = names | (shapes - set(assigned))
        kept = {name for name in names if all(value and is_shape(value, known) for value in assigned[name])}
        if kept == names:
            return names | (parameters - set(assigned))
        names = kept


def _assignments(function: ast.FunctionDef) -> dict[str, list[ast.expr | None]]:
    """What each variable is assigned, or is a part of, or goes through."""
    assigned: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        assigned.setdefault(name.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign) and isinstance(node.target, ast.Name):
            assigned.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name):
                    assigned.setdefault(name.id, []).append(node.iter)
    return assigned


def is_shape(node: ast.expr, names: set[str]) -> bool:
    """An expression of shapes and constants."""
    if isinstance(node, ast.Attribute):
        return node.attr in SHAPES or isinstance(node.value, ast.Name)
    if _is_shape_by_numpy(node):
        return True
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        return called in ("len", "int", "range", "min", "max", "enumerate", "zip") and all(
            is_shape(one, names) or called == "len" for one in node.args
        )
    if isinstance(node, ast.Subscript):
        return is_shape(node.value, names) and is_shape(node.slice, names)
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Tuple | ast.List):
        return all(is_shape(child, names) for child in expressions(node))
    return False


def _is_shape_by_numpy(node: ast.expr) -> bool:
    """np.ndim(x), np.shape(x) or np.size(x)."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("numpy").removeprefix("np") in _OF_SHAPES


def is_of_shapes(node: ast.expr, names: set[str], settings: frozenset[str]) -> bool:
    """A test by shapes, flags and None. Of sizes, only whether two are equal: so it does not matter which were tried."""
    if isinstance(node, ast.BoolOp | ast.UnaryOp):
        return all(is_of_shapes(child, names, settings) for child in expressions(node))
    if isinstance(node, ast.Compare):
        return _is_comparison_of_shapes(node, names, settings)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "isinstance"
    if isinstance(node, ast.Name):
        return node.id in names
    return isinstance(node, ast.Constant) or (_is_flag(node) and not _is_size(node))


def _is_comparison_of_shapes(node: ast.Compare, names: set[str], settings: frozenset[str]) -> bool:
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) and side.value is None for side in sides):
        return all(isinstance(side, ast.Constant | ast.Name | ast.Attribute) for side in sides)
    if any(_is_type(side) for side in sides):
        return all(_is_type(side) or isinstance(side, ast.Name | ast.Attribute) for side in sides)
    if any(map(_is_text, sides)):  # of an attribute, which must stay what it was when tried
        return all(_is_text(side) or _is_setting(side, settings) for side in sides)
    if not all(is_shape(side, names) or _is_flag(side) for side in sides):
        return False
    if any(_is_dimensions(side) for side in sides):
        return True
    numbers = [part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
    are_settings = all(
        _is_flag(side) or isinstance(side, ast.Constant) or (isinstance(side, ast.Name) and side.id in settings)
        for side in sides
    )
    if any(isinstance(one, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for one in node.ops):
        return are_settings and set(numbers) <= {0, 1}
    if numbers:  # of a setting: 0 and 1 are tried
        return (
            are_settings and not any(map(_is_size, sides)) and all(number in (0, 1, True, False) for number in numbers)
        )
    return not any(isinstance(part, ast.BinOp) for side in sides for part in ast.walk(side))


def is_equation(node: ast.expr, names: set[str]) -> bool:
    """What is asserted of shapes and settings: the layer is tried with others, and left or restricted where it raises."""
    return (
        isinstance(node, ast.Compare)
        and all(isinstance(one, ast.Eq) for one in node.ops)
        and all(is_shape(side, names) for side in (node.left, *node.comparators))
    )


def _is_type(node: ast.expr) -> bool:
    """type(x): as with isinstance, whatever is tried, and whatever kernels take, is a plain array."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) == 1


def _is_text(node: ast.expr) -> bool:
    """A text, or a tuple of such: "relu", or ("relu", "sigmoid")."""
    if isinstance(node, ast.Tuple | ast.List):
        return bool(node.elts) and all(map(_is_text, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_setting(node: ast.expr, settings: frozenset[str]) -> bool:
    """An attribute, or a parameter that is given one."""
    return (_is_flag(node) and not _is_size(node)) or (isinstance(node, ast.Name) and node.id in settings)


def _is_dimensions(node: ast.expr) -> bool:
    """x.ndim, np.ndim(x) or len(x.shape)."""
    text = ast.unparse(node)
    if isinstance(node, ast.Attribute):
        return node.attr == "ndim"
    return text.startswith(("np.ndim(", "numpy.ndim(")) or (text.startswith("len(") and text.endswith(".shape)"))


def _is_size(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in SHAPES


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
