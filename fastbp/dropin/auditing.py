"""Every accelerated call computed twice, by the user's own code and by the kernels, and the results compared."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .beginning import calls
from .objects.arguments import PASS, Method, is_computed
from .objects.global_random import in_arrays, random_state
from .objects.lazy import OURS, LazyAttribute
from .objects.marks import in_place_of
from .rounding import Terms, largest, layer_name, parts_of, terms_of

LARGEST = 1 << 26  # bytes of an array that is an attribute, and copied
TOLERANCES = {8: 1e-10, 4: 1e-4, 2: 1e-2}  # by the size of a number, of the terms that were summed (see `rounding`)


class DifferenceFound(BaseException):
    """The kernels gave another answer. Not an Exception: a script's own `except Exception` must not hide it."""


@dataclass
class Audit(calls.Count):
    """Calls of one method that were computed twice; `seconds` on the kernels, `own_seconds` by the user's code.

    The times are without the first call. `left_seconds`: of calls that were left to the user's code, by it. `left_out`:
    how often the gradient of the input was not computed, as the network drops it; there is nothing to compare then.
    """

    own_seconds: float = 0.0
    left_seconds: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    left_out: int = 0


@dataclass
class Auditor:
    """Wraps methods so that both ways are taken. A difference beyond the tolerance raises DifferenceFound."""

    watches = True  # what is not patched is timed, too

    tolerance: float | None = None
    audits: dict[str, Audit] = field(default_factory=dict)
    _inside: threading.local = field(default_factory=threading.local)

    def __call__(self, name: str, fast: Method, own: Method) -> Method:
        audit = self.audits.setdefault(name, Audit())
        order = calls.Order(own)

        @in_place_of(own)
        def both(*arguments: Any, **named: Any) -> Any:
            given = order.place(arguments, named) if named else arguments
            if getattr(self._inside, "own", False) or given is None or not order.least <= len(given) <= order.most:
                return own(*arguments, **named)
            audit.calls += 1
            if hasattr(fast, "is_left") and fast.is_left(*given):
                return self._own(audit, own, arguments, named)
            return self._both(name, audit, fast, own, given)

        return both

    def _own(self, audit: Audit, own: Method, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What is left to the user's code; timed without the calls in it, those of a network's layers."""
        before, self._inside.seconds = getattr(self._inside, "seconds", 0.0), 0.0
        start = time.perf_counter()
        try:
            return own(*arguments, **named)
        finally:
            seconds = time.perf_counter() - start
            audit.passed += 1
            audit.left_seconds += seconds - self._inside.seconds
            self._inside.seconds = before + seconds

    def _both(self, name: str, audit: Audit, fast: Method, own: Method, arguments: tuple[Any, ...]) -> Any:
        """Both ways; the time of it all is taken off that of a call which it is in."""
        start = time.perf_counter()
        try:
            return self._compared(name, audit, fast, own, arguments)
        finally:
            self._inside.seconds = getattr(self._inside, "seconds", 0.0) + time.perf_counter() - start

    def _compared(self, name: str, audit: Audit, fast: Method, own: Method, arguments: tuple[Any, ...]) -> Any:
        copies = _copy(arguments)
        random = random_state()
        start = time.perf_counter()
        self._inside.own = True
        try:
            expected = own(*copies)
            own_seconds = time.perf_counter() - start
            random_after = random_state()
        except Exception:
            np.random.set_state(random)
            return own(*arguments)  # the same exception, with the user's own objects
        finally:
            self._inside.own = False
        np.random.set_state(random)
        start = time.perf_counter()
        result = fast(*arguments)
        seconds = time.perf_counter() - start
        if result is PASS:
            audit.passed += 1
            audit.left_seconds += own_seconds
            return own(*arguments)
        if audit.calls > 1:  # the first one loads or compiles the kernels
            audit.seconds += seconds
            audit.own_seconds += own_seconds
        terms = _Terms(lambda: self._terms(fast, own, copies))
        where = f"{name}, call {audit.calls}"
        self._compare(where, "random state", audit, terms, *map(in_arrays, (random_state(), random_after)))
        if is_computed(result):
            self._compare(where, "result", audit, terms, result, expected)
        else:
            audit.left_out += 1
        for place, (argument, copy) in enumerate(zip(arguments, copies, strict=True)):
            if hasattr(argument, "__dict__"):
                for what, actual, wanted in _attributes(argument, copy):
                    self._compare(where, what, audit, terms, actual, wanted)
            else:
                self._compare(where, f"argument {place}", audit, terms, argument, copy)
            for prefix, layer, double in _layers_in(argument, copy):
                for what, actual, wanted in _attributes(layer, double):
                    self._compare(where, f"{prefix}.{what}", audit, terms, actual, wanted)
        return result

    def _terms(self, fast: Method, own: Method, copies: tuple[Any, ...]) -> Terms:
        """What the user's own method sums up; NumPy's random state stays as it is."""
        random, self._inside.own = random_state(), True
        try:
            return terms_of(fast, own, copies)
        except Exception:
            return {}  # of a method that does not take absolute values: its results are compared with themselves
        finally:
            self._inside.own = False
            np.random.set_state(random)

    def _compare(self, where: str, what: str, audit: Audit, terms: _Terms, actual: Any, wanted: Any) -> None:
        if isinstance(wanted, dict | tuple | list):
            ones, others = dict(parts_of(what, actual)), dict(parts_of(what, wanted))
            if ones.keys() != others.keys():
                raise DifferenceFound(f"{where}: {what} has {len(others)} entries by your code, {len(ones)} by fastbp")
            for name, other in others.items():
                self._compare(where, name, audit, terms, ones[name], other)
            return
        if not isinstance(wanted, np.ndarray | np.generic | int | float):
            return
        one, other = np.asarray(actual), np.asarray(wanted)
        if one.shape != other.shape or one.dtype != other.dtype:
            raise DifferenceFound(
                f"{where}: {what} is {other.dtype} of shape {other.shape} by your code, "
                f"{one.dtype} of shape {one.shape} by fastbp"
            )
        if not one.size:
            return
        with np.errstate(all="ignore"):
            difference = np.where((one == other) | (_is_nan(one) & _is_nan(other)), 0, np.abs(one - 1.0 * other))
        difference = np.where(_is_nan(difference), np.inf, difference)
        scale, worst = largest(other), float(np.max(difference))
        if worst > self._tolerance(other.dtype) * scale:  # what was summed is looked at where it matters: it takes time
            scale = max(scale, terms.of(what))
        scale = scale or 1.0
        audit.absolute, audit.relative = max(audit.absolute, worst), max(audit.relative, worst / scale)
        if worst > self._tolerance(other.dtype) * scale:
            index = tuple(map(int, np.unravel_index(int(np.argmax(difference)), difference.shape)))
            raise DifferenceFound(
                f"{where}: {what}{list(index) if index else ''} is {other[index]!r} by your code, {one[index]!r} by fastbp"
            )

    def _tolerance(self, dtype: np.dtype[Any]) -> float:
        if dtype.kind != "f":
            return 0.0
        return TOLERANCES.get(dtype.itemsize, 0.0) if self.tolerance is None else self.tolerance


class _Terms:
    """The terms of a call, found when they are first asked for."""

    def __init__(self, find: Callable[[], Terms]):
        self._find = find
        self._found: Terms | None = None

    def of(self, what: str) -> float:
        if self._found is None:
            self._found = self._find()
        return self._found.get(what, 0.0)


def _is_nan(array: Any) -> Any:
    return array != array


def _copy(argument: Any, doubles: dict[int, Any] | None = None) -> Any:
    """What the user's code may change without anybody noticing: a copy of an array, a layer with the same attributes.

    doubles: of the layers and arrays that were met before, by their ids: a network may have a layer twice, and a layer its
    gradient as `self.dW` and in a list.
    """
    doubles = {} if doubles is None else doubles
    if id(argument) in doubles:
        return doubles[id(argument)]
    if isinstance(argument, np.ndarray):
        doubles[id(argument)] = array = argument.copy(order="K")
        return array
    if type(argument) is dict:
        return {key: _copy(value, doubles) for key, value in argument.items()}
    if type(argument) in (list, tuple):
        return type(argument)(_copy(one, doubles) for one in argument)
    if hasattr(argument, "__dict__") and not isinstance(argument, type):
        doubles[id(argument)] = double = object.__new__(type(argument))
        attributes = {
            name: _copy(value, doubles) if type(value) in (dict, list, tuple) or _is_small(value) else value
            for name, value in vars(argument).items()
        }
        double.__dict__.update(attributes)
        return double
    return argument


def _is_small(value: Any) -> bool:
    """Whether an attribute is an array that code may write into: not 60,000 images, say, which a layer has kept."""
    return isinstance(value, np.ndarray) and value.nbytes <= LARGEST


def _layers_in(argument: Any, copy: Any) -> Iterator[tuple[str, Any, Any]]:
    """The objects in a list, each with its name in a report and its double."""
    if type(argument) is list:
        for place, (one, double) in enumerate(zip(argument, copy, strict=True)):
            if hasattr(one, "__dict__"):
                yield layer_name(place), one, double


def _attributes(layer: Any, double: Any) -> Iterator[tuple[str, Any, Any]]:
    for name, wanted in vars(double).items():
        if not isinstance(inspect.getattr_static(type(layer), name, None), LazyAttribute) and not name.startswith(OURS):
            yield name, getattr(layer, name, None), wanted
