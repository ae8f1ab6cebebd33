"""What a test in somebody's code decides by: shapes, flags and None, or the numbers in an array.

What was tried goes for all numbers only where it does not decide by these (see `screening`).
"""

from __future__ import annotations

import ast

from .sizes import SHAPES, Names, expressions, is_setting, is_shape


def is_of_shapes(node: ast.expr, names: Names, settings: frozenset[str]) -> bool:
    """A test by shapes, flags and None. Of sizes, only whether two are equal: so it does not matter which were tried."""
    if isinstance(node, ast.BoolOp | ast.UnaryOp):
        return all(is_of_shapes(child, names, settings) for child in expressions(node))
    if isinstance(node, ast.Compare):
        return _is_comparison_of_shapes(node, names, settings)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) == "isinstance"
    if isinstance(node, ast.Name):
        return node.id in names.shapes | names.flags
    return isinstance(node, ast.Constant) or is_setting(node, names)


def _is_comparison_of_shapes(node: ast.Compare, names: Names, settings: frozenset[str]) -> bool:
    sides = [node.left, *node.comparators]
    if any(isinstance(one, ast.In | ast.NotIn) for one in node.ops) and not _is_listed(sides[-1]):
        return False
    if len(node.ops) > 1 and not all(is_shape(side, names) for side in sides):
        return False
    if any(isinstance(side, ast.Constant) and side.value is None for side in sides):
        return all(isinstance(side, ast.Constant | ast.Name | ast.Attribute) for side in sides)
    if any(_is_type(side) for side in sides):
        return all(_is_type(side) or isinstance(side, ast.Name | ast.Attribute) for side in sides)
    if any(map(_is_text, sides)):  # of an attribute, which must stay what it was when tried
        return all(_is_text(side) or _is_given(side, names, settings) for side in sides)
    if not all(is_shape(side, names) or getattr(side, "id", "") in names.flags for side in sides):
        return False
    if any(_is_dimensions(side) for side in sides):
        return True
    numbers = [part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
    are_settings = all(
        isinstance(side, ast.Attribute | ast.Constant) or (isinstance(side, ast.Name) and side.id in settings)
        for side in sides
    )
    if any(isinstance(one, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for one in node.ops):
        return are_settings and set(numbers) <= {0, 1}
    if numbers:  # of a setting: 0 and 1 are tried
        return (
            are_settings and not any(map(_is_size, sides)) and all(number in (0, 1, True, False) for number in numbers)
        )
    return not any(isinstance(part, ast.BinOp) for side in sides for part in ast.walk(side))


def _is_listed(node: ast.expr) -> bool:
    """What something may be `in` without being compared with an array's numbers: a list of constants, or a shape."""
    return isinstance(node, ast.Tuple | ast.List) or (isinstance(node, ast.Attribute) and node.attr == "shape")


def is_equation(node: ast.expr, names: Names) -> bool:
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


def _is_given(node: ast.expr, names: Names, settings: frozenset[str]) -> bool:
    """An attribute, or a parameter that is given one."""
    return is_setting(node, names) or (isinstance(node, ast.Name) and node.id in settings)


def _is_dimensions(node: ast.expr) -> bool:
    """x.ndim, np.ndim(x) or len(x.shape)."""
    text = ast.unparse(node)
    if isinstance(node, ast.Attribute):
        return node.attr == "ndim"
    return text.startswith(("np.ndim(", "numpy.ndim(")) or (text.startswith("len(") and text.endswith(".shape)"))


def _is_size(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in SHAPES
