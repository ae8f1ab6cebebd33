"""A class that is tried, on copies of a real object: with what is drawn put into them, and called as a script calls them."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from ... import reference
from ..objects.lazy import OURS
from ..objects.marks import signature_of
from ..operations import kernel_calls
from ..operations.methods import NAMES, OPERATIONS, Operation
from ..reading.screening import Screened
from .drawing import Values
from .families import STATES, Family, Shape
from .restrictions import NONE

TOLERANCE = {8: 1e-10, 4: 1e-4}  # of the largest number in an array
LARGE = 10_000  # numbers of an array
MOST = 200_000  # weights of a layer that is tried as it is
FIRST_ROWS = 2  # of a call's arrays
COUNT = 36  # inputs that a method is tried on


class Differs(Exception):
    """The method is not this operation; the message says what differs, `stage` how much was found to be the same."""

    def __init__(self, message: str, stage: int = 0):
        super().__init__(message)
        self.stage = stage


class Subject:
    """A class, and a real object of it with the arguments of a call; and the family that it is tried to be of.

    sets: the attributes that its methods set: of a batch that the object has seen, nothing large is copied.
    is_small: whether copies have fewer weights; a real layer's may be millions. restriction: of what is drawn.
    """

    def __init__(
        self, own: dict[str, FunctionType], layer: Any, arguments: tuple[Any, ...], family: Family, sets: set[str]
    ):
        self.own, self.layer, self.arguments, self.family, self.sets = own, layer, arguments, family, sets
        self.is_small, self.restriction, self.flag = True, NONE, ""
        self.parameters = {name: parameters_of(method) for name, method in own.items()}

    def weights(self, binding: dict[str, str]) -> list[Any]:
        """The arrays that the operation takes from attributes."""
        values = (evaluate(path, {"self": self.layer}) for path in binding.values())
        return [value for value in values if isinstance(value, np.ndarray)]

    def small_shapes(self, binding: dict[str, str]) -> dict[Shape, Shape]:
        """Those of the arrays that the operation takes from attributes, and those that copies with fewer weights have."""
        parts = {role: evaluate(attribute_of(path), {"self": self.layer}) for role, path in binding.items()}
        shapes = {role: value.shape for role, value in parts.items() if isinstance(value, np.ndarray)}
        smaller = self.family.smaller(shapes)
        return {shape: smaller[role] for role, shape in shapes.items()}

    def find_flag(self, reads: Iterable[str]) -> None:
        """The attribute that says whether the network trains, if no parameter does: one that nothing here sets."""
        names = [path.removeprefix("self.") for path in reads]
        flags = [name for name in names if type(vars(self.layer).get(name)) is bool and name not in self.sets]
        is_one = len(flags) == 1 and self.family.has_flag and not self._beside_arrays()
        self.flag = flags[0] if is_one else ""

    def constant(self, paths: Iterable[str], name: str = "forward") -> list[str]:
        """Conditions: what a method reads that nothing sets is what it was when tried. Raises Differs for an array."""
        conditions = []
        for path in sorted(paths):
            value = evaluate(path, {"self": self.layer})
            if path == f"self.{self.flag}":
                conditions += [f"{path} is True"] if name == "backward" else [f"{path}.__class__ is bool"]
            elif attribute_name(path) in self.sets or not is_constant(value):
                raise Differs(f"{name} also reads {path}", 3)
            else:
                conditions.append(f"{path}.__class__ is {type(value).__name__} and {path} == {value!r}")
        return conditions

    def copy(self, binding: dict[str, str], flag: bool | None) -> Any:
        """With what the method sets, but nothing large of it other than arrays of the weights' shapes, which may be written
        into."""
        double = object.__new__(type(self.layer))
        shapes = self.small_shapes(binding)
        for name, value in vars(self.layer).items():
            is_large = isinstance(value, np.ndarray) and value.size > LARGE and value.shape not in shapes
            if not name.startswith(OURS):
                vars(double)[name] = None if is_large and name in self.sets else copied(value)
        if self.is_small:
            vars(double).update({name: shrunk(value, shapes) for name, value in vars(double).items()})
        if self.flag:
            vars(double)[self.flag] = flag
        return double

    def draw_into(self, rng: Any, place: int, binding: dict[str, str], layers: list[Any]) -> Values:
        """Draw what the operation takes; what is an attribute is put there, in each of the copies."""
        layer = layers[0]
        current = {role: evaluate(path, {"self": layer}) for role, path in binding.items()}
        drawn = self.family.draw(rng, place, current, self.arguments)
        drawn = self.restriction.adjust(drawn)
        drawn.update({role: current[role] for role, path in binding.items() if not path.startswith("self.")})
        for role, path in binding.items():
            if path.startswith("self."):
                for one in layers:
                    store(path, one, copied(drawn[role]))
        for role, path in binding.items():  # one attribute may be two settings
            if not isinstance(drawn[role], np.ndarray) and drawn[role] is not None:
                drawn[role] = evaluate(path, {"self": layer})
        return drawn

    def inputs(self, drawn: Values, flag: bool | None) -> list[Any]:
        """The arguments of forward: arrays first, then the flag, if there is one."""
        given: list[Any] = [copied(drawn[role]) for role in self.family.arguments]
        if self.parameters["forward"][len(given) :] and flag is not None:
            given.append(flag)
        return given

    def _beside_arrays(self) -> list[inspect.Parameter]:
        return self.parameters["forward"][len(self.family.arguments) :]

    def gradients(self, drawn: Values) -> list[Any]:
        """backward's arguments: none for 1, where dout has a default."""
        parameters, given = self.parameters["backward"], list(drawn.values())
        if not parameters:
            return []
        has_default = parameters[0].default is not parameters[0].empty
        return [] if has_default and len(given) == 1 and type(given[0]) is int else given

    def flags(self) -> tuple[bool | None, ...]:
        """The values of a parameter beside the arrays; (None,) where there is none. Raises Differs if it is no flag."""
        count = len(self.family.arguments)
        rest = self._beside_arrays()
        given = self.arguments[count] if len(self.arguments) > count else None
        if len(self.parameters["forward"]) < count or len(rest) > 1:
            raise Differs("forward takes another number of arguments")
        if any(one.default is one.empty and not isinstance(given, bool) for one in rest):
            raise Differs("forward takes another number of arguments")
        if self.flag:
            return True, False
        is_flag = rest and (rest[0].default is rest[0].empty or isinstance(rest[0].default, bool))
        return (True, False) if is_flag else (None,)


def parameters_of(method: FunctionType) -> list[inspect.Parameter]:
    """Those of a method beside self, and beside **named, which one that is tried does not read."""
    parameters = list(signature_of(method).parameters.values())[1:]
    return [one for one in parameters if one.kind is not one.VAR_KEYWORD]


PLAIN = (int, float, bool, str, type(None), np.ndarray)


def of_first_rows(
    family: Family, operation: Operation, binding: dict[str, str], layer: Any, arguments: tuple[Any, ...]
) -> Any:
    """What an operation makes of a layer's attributes and the first rows of a call's arrays; NotImplemented if it raises."""
    values = {role: evaluate(path, {"self": layer}) for role, path in binding.items()}
    arrays = [one for one in arguments if isinstance(one, np.ndarray)]
    values.update({role: first_rows(values[role]) for role in STATES if isinstance(values.get(role), np.ndarray)})
    values.update({role: first_rows(one) for role, one in zip(family.arguments, arrays, strict=False)})
    try:
        return operation.function(on_numpy())(*(copied(values.get(role)) for role in operation.inputs))
    except Exception:
        return NotImplemented


def first_rows(array: Any) -> Any:
    """A copy of an array's first rows: of one alone twice the same, as some operations take two at least."""
    return np.repeat(array, FIRST_ROWS, axis=0) if len(array) == 1 else array[:FIRST_ROWS].copy()


def numbers_of(layer: Any, screened: Screened) -> list[float]:
    """Those in a method's code, and those that the object keeps and the method reads: an epsilon may be among them."""
    kept = (evaluate(path, {"self": layer}) for path in screened.reads)
    return [*screened.numbers, *(value for value in kept if type(value) is float)]


def not_plain(layer: Any, names: set[str], of_steps: Iterable[type] = ()) -> str | None:
    """The first of the attributes that a copy would not have to itself, or that does more than hold a value; if any.

    of_steps: classes of objects that it may hold, as the layer makes them anew (see `through_time`).
    """
    plain = (*PLAIN, *of_steps)
    for name in sorted(names):
        shared = inspect.getattr_static(type(layer), name, None)
        value = vars(layer).get(name, shared)
        parts = value if type(value) in (list, tuple) else value.values() if type(value) is dict else [value]
        if not isinstance(shared, int | float | str | None) or not all(
            type(part) in plain or isinstance(part, np.generic) for part in parts
        ):
            return name
    return None


def parts_of_lists(paths: Iterable[str], layer: Any) -> list[str]:
    """The paths, and of a list of arrays that of each."""
    found = []
    for path in paths:
        value = evaluate(path, {"self": layer})
        is_list = type(value) is list and all(isinstance(one, np.ndarray) for one in value)
        found += [f"{path}[{place}]" for place in range(len(value))] if is_list and value else [path]
    return found


def attribute_name(path: str) -> str:
    """The attribute of self that a path begins with."""
    return re.split(r"[.\[]", path)[1]


def is_constant(value: Any) -> bool:
    """Whether a value can be written down and compared."""
    return type(value) in (int, bool, str) or (type(value) is float and math.isfinite(value))


def shrunk(value: Any, shapes: dict[Shape, Shape]) -> Any:
    """A copy's attribute, with arrays of these shapes made smaller."""
    if isinstance(value, np.ndarray) and value.shape in shapes:
        return np.resize(value, shapes[value.shape])
    if type(value) in (list, tuple):
        return type(value)(shrunk(one, shapes) for one in value)
    return {key: shrunk(one, shapes) for key, one in value.items()} if type(value) is dict else value


def copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return {key: copied(one) for key, one in value.items()} if type(value) is dict else value


@lru_cache(maxsize=1)
def on_numpy() -> tuple[ModuleType, ...]:
    """The operations once more, on the NumPy backend: nothing is compiled for a trial."""
    calls = _once_more(kernel_calls, {})
    vars(calls)["kernels"] = reference
    return tuple(_once_more(one, vars(calls)) for one in OPERATIONS)


def _once_more(module: ModuleType, replaced: Values) -> ModuleType:
    """A module that is executed a second time, with other things in the place of those that it imports of kernel_calls."""
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    for name, value in vars(kernel_calls).items():
        if name in replaced and vars(double).get(name) is value:
            vars(double)[name] = replaced[name]
    return double


def attribute_of(path: str) -> str:
    """The attribute, or the item of one, of which a path reads a view."""
    return path.removesuffix(".T").removesuffix(".reshape(-1)")


def store(path: str, layer: Any, value: Any) -> None:
    """Put what a role shall have where `path`, an attribute and perhaps a transposition, reads it from."""
    target = attribute_of(path)
    if value is None and target != path:  # there is no view of nothing: it stays what it is, and the two differ
        return
    if path.endswith(".T"):
        value = value.T.copy()
    elif path.endswith(".reshape(-1)"):
        value = value.reshape(evaluate(target, {"self": layer}).shape)
    exec(_compiled(f"{target} = value", "exec"), {"self": layer, "value": value})


@lru_cache(maxsize=1024)
def _compiled(source: str, mode: str = "eval") -> Any:
    return compile(source, "<expression>", mode)


def evaluate(expression: str, values: Values) -> Any:
    """The value of an expression; NotImplemented where it has none."""
    try:
        return eval(_compiled(expression), dict(NAMES), values)
    except Exception:
        return NotImplemented


def call(method: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the exception that was raised."""
    try:
        return method(*arguments)
    except Exception as error:
        return error


def same(one: Any, other: Any, exactly: bool = False) -> bool:
    """Whether two values are equal, up to rounding: in type, dtype and shape, and in every number."""
    if isinstance(one, np.ndarray | np.generic) or isinstance(other, np.ndarray | np.generic):
        return _same_numbers(one, other, exactly)
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, float):
        return bool(one == other) or (one != one and other != other) or abs(one - other) <= 1e-10 * abs(other)
    if one is None or isinstance(one, bool | int | str):
        return bool(one == other)
    is_layer = hasattr(type(one), "forward") and not isinstance(one, type)  # of a step in time
    return one is other or (is_layer and same(vars(one), vars(other)))


def _same_numbers(one: Any, other: Any, exactly: bool) -> bool:
    if isinstance(one, np.ndarray) != isinstance(other, np.ndarray):
        return False
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return a is b
    if (a == b).all():  # most are, what nobody has changed above all
        return True
    if exactly or a.dtype.kind != "f":
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    with np.errstate(all="ignore"):
        finite = np.isfinite(b)
        if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
            return False
        largest = np.max(np.abs(b), where=finite, initial=0)
        return bool(np.all(np.abs(a - b)[finite] <= TOLERANCE.get(a.itemsize, 1e-3) * largest))


def each_same(one: Any, other: Any) -> bool:
    """Whether each number of two arrays is equal but for rounding, the small ones too."""
    tolerance = {8: 5e-13, 4: 5e-5}.get(one.itemsize, 1e-3)
    with np.errstate(all="ignore"):
        finite = np.isfinite(one) & np.isfinite(other)
        return bool(np.all((np.abs(one - other) <= tolerance * np.abs(other))[finite]))
