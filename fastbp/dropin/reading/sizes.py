"""What an array's shape, or how often a loop runs, depends on: on other shapes and settings, or on the numbers in an array.

An array that a mask or np.nonzero has found is of a size that depends on numbers; so is what somebody's function gives for
such an array, or np.zeros of a sum.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .allowed import BUILTINS, OF_ARRAYS
from .lists import also_called, changes_in_place

SHAPES = {"ndim", "shape", "size", "dtype"}
_OF_SHAPES = {".ndim", ".shape", ".size"}
_BY_NUMBERS = {"nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract", "delete"}
# The arguments after the arrays are sizes and axes: from which one on, of NumPy's functions; of methods, one before that.
_SIZES_FROM = {
    "zeros": 0, "ones": 0, "empty": 0, "full": 0, "arange": 0, "eye": 0, "identity": 0, "linspace": 2,
    **dict.fromkeys(
        (
            "tile", "repeat", "resize", "reshape", "broadcast_to", "as_strided", "sliding_window_view", "pad", "split",
            "hsplit", "vsplit", "array_split", "sum", "mean", "max", "min", "amax", "amin", "prod", "all", "any", "argmax",
            "argmin", "std", "var", "cumsum", "swapaxes", "moveaxis", "rollaxis", "transpose", "diff", "expand_dims",
            "squeeze", "stack", "concatenate", "average", "size", "flip",
        ),
        1,
    ),
}  # fmt: skip
_NO_SIZES = {
    "dtype", "mode", "constant_values", "out", "where", "initial", "order", "copy", "casting", "fill_value", "ddof",
}  # fmt: skip
_PLAIN = BUILTINS - {"isinstance", "type"}
_OF_SIZES = _PLAIN - {"len", "float", "bool"}
_KEEP_NO_LIST = _PLAIN - {"zip", "list", "tuple", "max", "min"}  # what they give has no list among its parts
_OF_SIZES_BY_NUMPY = {"floor", "ceil", "prod", "abs", "int", "int32", "int64", "intp"}
_NO_MASKS = {"argmax", "argmin", "arange", "argsort", "eye", "identity"}

_ANYTHING = ast.Compare(ast.Constant(0), [ast.Eq()], [ast.Constant(0)])  # of a known size, but no shape

Test = Callable[[ast.expr, "Names"], bool]


class Reader(Protocol):
    """Who looks into the function, and knows what its names mean."""

    def is_numpy(self, called: ast.expr) -> bool: ...

    def each_result(self, call: ast.Call, names: Names, test: Test) -> bool | None:
        """Whether a test is true of all that somebody's function returns; None of other calls."""


class Given(NamedTuple):
    """What a call gives a function's parameters: those that are given an attribute of the object, or a constant; a shape;
    a flag of the caller's, None for all; and those that are what Names says of variables.
    """

    settings: frozenset[str] = frozenset()
    shapes: frozenset[str] = frozenset()
    flags: frozenset[str] | None = None
    unsure: frozenset[str] = frozenset()
    varying: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    masks: frozenset[str] = frozenset()


class Names(NamedTuple):
    """A function's variables, and the attributes that it sets, "self.name".

    shapes: those that never hold an array's numbers; flags: parameters that are arrays, or flags; unsure: those that may
    hold arrays whose shapes depend on numbers, such as `x[x > 0]`; varying: arrays of which `ndim` may, too; lists and
    masks: those that may be lists, or arrays of truth values. me: the name of the object; own: the attributes that are set.
    """

    shapes: frozenset[str]
    flags: frozenset[str]
    unsure: frozenset[str]
    varying: frozenset[str]
    lists: frozenset[str]
    masks: frozenset[str]
    me: str
    own: frozenset[str]
    reader: Reader


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.comprehension | ast.keyword):
            yield from expressions(child)


def no_names(reader: Reader) -> Names:
    nothing = frozenset[str]()
    return Names(nothing, nothing, nothing, nothing, nothing, nothing, "", nothing, reader)


def names_of(function: ast.FunctionDef, parameters: set[str], given: Given, me: str, reader: Reader) -> Names:
    """A function's Names. What comes from shapes and settings alone is no array's numbers."""
    assigned = _assignments(function, me)
    for changed, value in changes_in_place(function):
        for name in also_called(changed, assigned):
            assigned.setdefault(name, []).append(value)
    for name in _handed_on(function, assigned, reader):
        assigned[name].append(_ANYTHING)
    unchanged = parameters - set(assigned)
    sizes = (given.settings | given.shapes) & unchanged
    flags = (unchanged if given.flags is None else unchanged & given.flags) - sizes
    own = frozenset(name for name in assigned if "." in name)
    names = no_names(reader)._replace(
        shapes=frozenset(assigned) - parameters | sizes, flags=frozenset(flags), me=me, own=own,
        unsure=given.unsure, varying=given.varying, lists=given.lists, masks=given.masks,
    )  # fmt: skip
    while True:
        before = names
        names = before._replace(
            shapes=_each(is_shape, assigned, before) & before.shapes | sizes,
            unsure=given.unsure | (set(assigned) - _each(has_sure_shape, assigned, before)),
            varying=given.varying | (set(assigned) - _each(has_sure_dimensions, assigned, before)),
            lists=given.lists | (set(assigned) - _each(is_no_list, assigned, before)),
            masks=given.masks | (set(assigned) - _each(is_no_mask, assigned, before)),
        )
        if names == before:
            return names


def _each(test: Test, assigned: dict[str, list[ast.expr | None]], names: Names) -> frozenset[str]:
    """The variables of which a test is true of all that they are assigned; where one is declared, there is no value."""
    return frozenset(
        name for name, values in assigned.items() if all(value is None or test(value, names) for value in values)
    )


def _assignments(function: ast.FunctionDef, me: str) -> dict[str, list[ast.expr | None]]:
    """What each variable, and each attribute of the object, is assigned, or is a part of, or goes through."""
    assigned: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name, value in _pairs(target, node.value, me):
                    assigned.setdefault(name, []).append(value)
        elif isinstance(node, ast.AnnAssign):
            for name in _bound(node.target, me):
                assigned.setdefault(name, []).append(node.value)
        elif isinstance(node, ast.AugAssign):
            for name in _bound(node.target, me):
                assigned.setdefault(name, []).append(ast.BinOp(node.target, node.op, node.value))
        elif isinstance(node, ast.For | ast.comprehension):
            for name in _bound(node.target, me):
                assigned.setdefault(name, []).append(_element(node.iter))
    return assigned


def _pairs(target: ast.expr, value: ast.expr, me: str) -> Iterator[tuple[str, ast.expr]]:
    """What each variable of a target is assigned: of `a, b = c, d` its own part."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield from ((name, value) for name in _bound(target, me))
    elif isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
        for one, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, part, me)
    else:
        yield from ((name, _element(value)) for name in _bound(target, me))


def _element(value: ast.expr) -> ast.expr:
    return ast.Subscript(value, ast.Constant(0), ast.Load())


def _handed_on(function: ast.FunctionDef, assigned: dict[str, list[ast.expr | None]], reader: Reader) -> set[str]:
    """The lists that a function makes, and others may write into: functions of somebody's, or by another name."""
    made = {
        name for name, values in assigned.items() if any(isinstance(one, ast.List | ast.ListComp) for one in values)
    }
    found = set()
    for node in ast.walk(function):
        used = {
            one.id for one in ast.iter_child_nodes(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
        }
        if isinstance(node, ast.Call):
            is_plain = isinstance(node.func, ast.Name) and node.func.id in _KEEP_NO_LIST
            is_known = is_plain or reader.is_numpy(node.func)
        else:
            is_known = not isinstance(node, ast.List | ast.Tuple | ast.Starred | ast.IfExp)
        found |= set() if is_known else used & made
    return found


def _bound(target: ast.expr, me: str) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and me and node.value.id == me:
            yield f"{me}.{node.attr}"


def _key(node: ast.expr, names: Names) -> str:
    """A variable's name, or "self.name" of an attribute that the function sets."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        key = f"{node.value.id}.{node.attr}"
        return key if key in names.own else ""
    return node.id if isinstance(node, ast.Name) else ""


def is_setting(node: ast.expr, names: Names) -> bool:
    """An attribute that the function does not set, or sets to shapes; none of an array's."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.attr in SHAPES:
        return False
    if node.value.id != names.me and node.attr in OF_ARRAYS:
        return False
    return not _key(node, names) or _key(node, names) in names.shapes


def is_shape(node: ast.expr, names: Names) -> bool:
    """An expression of shapes, settings and constants."""
    if isinstance(node, ast.Attribute) and node.attr in SHAPES:
        return has_sure_dimensions(node.value, names) if node.attr == "ndim" else has_sure_shape(node.value, names)
    if isinstance(node, ast.Attribute):
        return is_setting(node, names) or (node.attr in ("strides", "itemsize") and has_sure_shape(node.value, names))
    if isinstance(node, ast.Call):
        return _is_call_of_shapes(node, names)
    if isinstance(node, ast.Subscript):
        return is_shape(node.value, names) and is_shape(node.slice, names)
    if isinstance(node, ast.Name):
        return node.id in names.shapes
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Tuple | ast.List | ast.Slice | ast.Starred):
        return all(is_shape(child, names) for child in expressions(node))
    if isinstance(node, ast.IfExp):  # what it chooses by is looked at elsewhere
        return is_shape(node.body, names) and is_shape(node.orelse, names)
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        return is_shape(node.elt, names) and all(is_shape(part.iter, names) for part in node.generators)
    return False


def _is_call_of_shapes(node: ast.Call, names: Names) -> bool:
    if (verdict := names.reader.each_result(node, names, is_shape)) is not None:
        return verdict
    arguments = [*node.args, *(one.value for one in node.keywords)]
    if _is_shape_by_numpy(node):
        return all(has_sure_shape(one, names) for one in node.args[:1]) and all(
            is_shape(one, names) for one in arguments[1:]
        )
    if isinstance(node.func, ast.Name) and node.func.id == "len":
        return all(
            has_sure_dimensions(one.value, names)
            if isinstance(one, ast.Attribute) and one.attr == "shape"
            else has_sure_shape(one, names)
            for one in arguments
        )
    if isinstance(node.func, ast.Attribute):
        known = node.func.attr in _OF_SIZES_BY_NUMPY and names.reader.is_numpy(node.func)
    else:
        known = isinstance(node.func, ast.Name) and node.func.id in _OF_SIZES
    return known and all(is_shape(one, names) for one in arguments)


def _is_shape_by_numpy(node: ast.expr) -> bool:
    """np.ndim(x), np.shape(x) or np.size(x)."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("numpy").removeprefix("np") in _OF_SHAPES


def has_sure_shape(node: ast.expr, names: Names) -> bool:
    """Whether the shape, or the length, of what an expression gives does not depend on the numbers in an array."""
    if key := _key(node, names):
        return key not in names.unsure
    if isinstance(node, ast.Subscript):
        return has_sure_shape(node.value, names) and is_sure_index(node.slice, names)
    if isinstance(node, ast.Call):
        return _makes_sure(node, names, has_sure_shape)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and not is_no_list(node, names):
        sides = node.left, node.right
        return all(
            has_sure_shape(side, names) and (is_shape(side, names) or not is_no_list(side, names)) for side in sides
        )
    return all(has_sure_shape(child, names) for child in expressions(node))


def has_sure_dimensions(node: ast.expr, names: Names) -> bool:
    """Whether its number of dimensions follows from those of the arguments: x[mask] has a sure one, and no sure shape."""
    if key := _key(node, names):
        return key not in names.varying
    if isinstance(node, ast.BinOp) and not is_no_list(node, names):
        return has_sure_shape(node, names)
    if isinstance(node, ast.Subscript) and not is_no_list(node.slice, names):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
        if not parts and not has_sure_shape(node.slice, names):
            return False
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "squeeze" and not has_sure_shape(node, names):
            return False
        return _makes_sure(node, names, has_sure_dimensions)
    return all(has_sure_dimensions(child, names) for child in expressions(node))


def _makes_sure(node: ast.Call, names: Names, test: Test) -> bool:
    """What a call makes: of a shape, or of dimensions, that no numbers decide."""
    if (verdict := names.reader.each_result(node, names, test)) is not None:
        return verdict
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    is_method = isinstance(node.func, ast.Attribute) and not names.reader.is_numpy(node.func)
    if isinstance(node.func, ast.Name) and called not in _PLAIN:
        return False
    if test is has_sure_shape and (called in _BY_NUMBERS or (called == "where" and len(node.args) == 1)):
        return False
    first = len(node.args)
    if isinstance(node.func, ast.Name):
        first = 0 if called == "range" else first
    elif called in _SIZES_FROM:
        first = max(0, _SIZES_FROM[called] - is_method)
    sizes = [*node.args[first:], *(one.value for one in node.keywords if one.arg not in _NO_SIZES)]
    others = [*node.args[:first], *(one.value for one in node.keywords if one.arg in _NO_SIZES)]
    if is_method:
        others.append(node.func.value)  # type: ignore[attr-defined]
    return all(is_shape(one, names) for one in sizes) and all(test(one, names) for one in others)


def is_sure_index(node: ast.expr, names: Names) -> bool:
    """Whether an index is made of numbers, of slices bounded by shapes, and of arrays of sure shapes that are no masks."""
    if isinstance(node, ast.Tuple):
        return all(is_sure_index(one, names) for one in node.elts)
    if isinstance(node, ast.Slice) or is_shape(node, names):
        return is_shape(node, names)
    return has_sure_shape(node, names) and is_no_mask(node, names)


def is_no_list(node: ast.expr, names: Names) -> bool:
    """Whether it is no list, tuple or text, which a product would make longer."""
    if key := _key(node, names):
        return key not in names.lists
    if isinstance(node, ast.BinOp | ast.IfExp):
        return all(is_no_list(child, names) for child in expressions(node))
    if isinstance(node, ast.Subscript):
        return _has_no_lists(node.value, names)
    if isinstance(node, ast.Call):
        return not isinstance(node.func, ast.Name) or node.func.id not in ("list", "tuple", "zip")
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str)
    return not isinstance(node, ast.List | ast.ListComp | ast.Tuple) and getattr(node, "attr", "") != "shape"


def _has_no_lists(node: ast.expr, names: Names) -> bool:
    """Whether the parts of a list, or of what is made of arrays, are no lists."""
    if isinstance(node, ast.Attribute) and node.attr == "shape":
        return True
    if isinstance(node, ast.Tuple | ast.List):
        return all(is_no_list(one, names) for one in node.elts)
    if isinstance(node, ast.Call):
        return all(is_no_list(one, names) or _has_no_lists(one, names) for one in node.args)
    return is_no_list(node, names)


def is_no_mask(node: ast.expr, names: Names) -> bool:
    """No array of truth values, which as an index picks as many as are true."""
    if key := _key(node, names):
        return key not in names.masks
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("reshape", "ravel", "flatten", "copy") and isinstance(node.func, ast.Attribute):
            return not names.reader.is_numpy(node.func) and is_no_mask(node.func.value, names)
        is_integer = called == "astype" and [ast.unparse(one) for one in node.args] in (
            ["int"],
            ["np.int64"],
            ["np.int32"],
        )
        return called in _NO_MASKS or is_integer or is_shape(node, names)
    if isinstance(node, ast.Subscript | ast.BinOp | ast.IfExp):
        parts = [node.value] if isinstance(node, ast.Subscript) else list(expressions(node))
        return all(is_no_mask(one, names) for one in parts)
    return isinstance(node, ast.Constant) or is_shape(node, names)
