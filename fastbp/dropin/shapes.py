"""What a test in somebody's code decides by: shapes, flags and None, or the numbers in an array.

What was tried goes for all numbers only where it does not decide by these (see `screening`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .lists import also_called, changes_in_place

SHAPES = {"ndim", "shape", "size", "dtype"}
_OF_SHAPES = {".ndim", ".shape", ".size"}
_BY_NUMBERS = {"nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract", "delete"}
# These make arrays, or lists, of the sizes that they are given: the last of their arguments, from this one on.
_MAKERS = {
    "zeros": 0, "ones": 0, "empty": 0, "full": 0, "arange": 0, "range": 0, "eye": 0, "identity": 0, "linspace": 2,
    "tile": 1, "repeat": 1, "resize": 1, "reshape": 1, "broadcast_to": 1, "as_strided": 1, "sliding_window_view": 1,
    "pad": 1, "split": 1, "hsplit": 1, "vsplit": 1, "array_split": 1,
}  # fmt: skip
_PLAIN = {"enumerate", "zip", "reversed", "list", "tuple", "abs", "float", "int", "bool", "max", "min", "sum", "round"}


class Names(NamedTuple):
    """A function's variables.

    shapes: those that never hold an array's numbers; flags: parameters that are arrays, or flags; unsure: those that may
    hold arrays whose shapes depend on numbers, such as `x[x > 0]`; varying: arrays of which `ndim` may, too; lists: those
    that may be lists. gives: of a call of somebody's function, whether what it gives has a shape that no numbers decide;
    None of other calls.
    """

    shapes: set[str]
    flags: set[str]
    unsure: set[str]
    varying: set[str]
    lists: set[str]
    gives: Callable[[ast.Call, Names], bool | None]


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.comprehension | ast.keyword):
            yield from expressions(child)


def names_of(
    function: ast.FunctionDef,
    parameters: set[str],
    sizes: frozenset[str],
    gives: Callable[[ast.Call, Names], bool | None],
) -> Names:
    """A function's Names; sizes: parameters that are given shapes and settings. What comes from these alone is no array's
    numbers."""
    assigned = _assignments(function)
    for changed, value in changes_in_place(function):
        for name in also_called(changed, assigned):
            assigned.setdefault(name, []).append(value)
    others, flags = sizes - set(assigned), parameters - set(assigned) - sizes
    known = Names({name for name in assigned if name not in parameters} | others, flags, set(), set(), set(), gives)
    while True:
        before = known
        known = before._replace(
            shapes={name for name in before.shapes - others if _is_each(is_shape, assigned[name], before)} | others,
            unsure={name for name, values in assigned.items() if not _is_each(has_sure_shape, values, before)},
            varying={name for name, values in assigned.items() if not _is_each(has_sure_dimensions, values, before)},
            lists={name for name, values in assigned.items() if any(_may_be_list(one, before.lists) for one in values)},
        )
        if known == before:
            return known


def _is_each(test: Callable[[ast.expr, Names], bool], values: list[ast.expr | None], names: Names) -> bool:
    """Whether a test is true of all that a variable is assigned; where it is declared, there is no value."""
    return all(value is None or test(value, names) for value in values)


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


def is_shape(node: ast.expr, names: Names) -> bool:
    """An expression of shapes and constants."""
    if isinstance(node, ast.Attribute) and node.attr in SHAPES:
        return has_sure_dimensions(node.value, names) if node.attr == "ndim" else has_sure_shape(node.value, names)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name)
    if _is_shape_by_numpy(node):
        return all(has_sure_shape(one, names) for one in expressions(node))
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called == "len":
            return all(
                has_sure_dimensions(one.value, names)
                if isinstance(one, ast.Attribute) and one.attr == "shape"
                else has_sure_shape(one, names)
                for one in node.args
            )
        return called in ("int", "range", "min", "max", "enumerate", "zip", "reversed") and all(
            is_shape(one, names) for one in node.args
        )
    if isinstance(node, ast.Subscript):
        return is_shape(node.value, names) and is_shape(node.slice, names)
    if isinstance(node, ast.Name):
        return node.id in names.shapes
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Tuple | ast.List):
        return all(is_shape(child, names) for child in expressions(node))
    return False


def _is_shape_by_numpy(node: ast.expr) -> bool:
    """np.ndim(x), np.shape(x) or np.size(x)."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("numpy").removeprefix("np") in _OF_SHAPES


def has_sure_shape(node: ast.expr, names: Names) -> bool:
    """Whether the shape, or the length, of what an expression gives does not depend on the numbers in an array."""
    if isinstance(node, ast.Name):
        return node.id not in names.unsure
    if isinstance(node, ast.Subscript):
        return has_sure_shape(node.value, names) and _is_sure_index(node.slice, names)
    if isinstance(node, ast.Call):
        return _makes_sure_shape(node, names)
    if isinstance(node, ast.BinOp) and _may_be_list(node, names.lists) and isinstance(node.op, ast.Mult):
        return all(
            has_sure_shape(side, names) and (_may_be_list(side, names.lists) or _is_size_given(side, names))
            for side in (node.left, node.right)
        )
    return all(has_sure_shape(child, names) for child in expressions(node))


def has_sure_dimensions(node: ast.expr, names: Names) -> bool:
    """The same of how many dimensions it has, which masks leave as they are."""
    if isinstance(node, ast.Name):
        return node.id not in names.varying
    if isinstance(node, ast.BinOp) and _may_be_list(node, names.lists):
        return has_sure_shape(node, names)
    if isinstance(node, ast.Call):
        verdict = names.gives(node, names)
        is_squeezed = isinstance(node.func, ast.Attribute) and node.func.attr == "squeeze"
        if verdict is False or (is_squeezed and not has_sure_shape(node, names)):
            return False
    return all(has_sure_dimensions(child, names) for child in expressions(node))


def _may_be_list(node: ast.expr | None, lists: set[str]) -> bool:
    if isinstance(node, ast.BinOp):
        return _may_be_list(node.left, lists) or _may_be_list(node.right, lists)
    return isinstance(node, ast.List | ast.ListComp | ast.Tuple) or (isinstance(node, ast.Name) and node.id in lists)


def _is_sure_index(node: ast.expr, names: Names) -> bool:
    """Of numbers, slices of which the bounds are, and np.arange; an array may be a mask."""
    if isinstance(node, ast.Tuple):
        return all(_is_sure_index(one, names) for one in node.elts)
    if isinstance(node, ast.Slice):
        return all(_is_size_given(one, names) for one in expressions(node))
    return _is_size_given(node, names) or ast.unparse(node).startswith(("np.arange(", "numpy.arange("))


def _is_size_given(node: ast.expr, names: Names) -> bool:
    """A size that somebody wrote, or one of a shape; or several."""
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_size_given(one, names) for one in node.elts)
    return is_shape(node, names) or (isinstance(node, ast.Starred) and is_shape(node.value, names))


def has_sure_results(function: ast.FunctionDef, names: Names) -> bool:
    """Whether all that a function returns has a shape that no numbers decide."""
    given = [one.value for one in ast.walk(function) if isinstance(one, ast.Return)]
    return all(one is None or has_sure_shape(one, names) for one in given)


def _makes_sure_shape(node: ast.Call, names: Names) -> bool:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    is_method = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in ("np", "numpy")
    given = [*node.args, *(one.value for one in node.keywords)]
    if (verdict := names.gives(node, names)) is not None:
        return verdict and all(has_sure_shape(one, names) for one in given)
    if isinstance(node.func, ast.Name) and called not in _PLAIN and called not in ("range", "len"):
        return False
    if called in _BY_NUMBERS or (called == "where" and len(given) == 1):
        return False
    sizes = _MAKERS.get(called)
    if sizes is not None:
        sizes = 0 if is_method else sizes
        if not all(_is_size_given(one, names) for one in node.args[sizes:]):
            return False
        given = node.args[:sizes]
    if is_method:
        given.append(node.func.value)  # type: ignore[attr-defined]
    return all(has_sure_shape(one, names) for one in given)


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
    return isinstance(node, ast.Constant) or (_is_flag(node) and not _is_size(node))


def _is_comparison_of_shapes(node: ast.Compare, names: Names, settings: frozenset[str]) -> bool:
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) and side.value is None for side in sides):
        return all(isinstance(side, ast.Constant | ast.Name | ast.Attribute) for side in sides)
    if any(_is_type(side) for side in sides):
        return all(_is_type(side) or isinstance(side, ast.Name | ast.Attribute) for side in sides)
    if any(map(_is_text, sides)):  # of an attribute, which must stay what it was when tried
        return all(_is_text(side) or _is_setting(side, settings) for side in sides)
    if not all(is_shape(side, names) or _is_flag_or(side, names.flags) for side in sides):
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


def _is_flag_or(node: ast.expr, flags: set[str]) -> bool:
    return node.id in flags if isinstance(node, ast.Name) else _is_flag(node) and not _is_size(node)


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
