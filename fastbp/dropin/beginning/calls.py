"""One call of an accelerated method: the fast way if it takes the arguments, else the user's own; counted if wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..objects.arguments import PASS, Method
from ..objects.marks import in_place_of, signature_of
from ..objects.trying import trying
from .estimates import LEAST_COUNTED, LEAST_EXPECTED, estimated_seconds, expected_seconds
from .idling import NeverIdling, wake_all
from .loading import Loader

Wrapper = Callable[[str, Method, Method], Method]
Weigher = Callable[[float, tuple[Any, ...], Any], float | None]


def all_of_it(seconds: float, arguments: tuple[Any, ...], result: Any) -> float | None:
    """Count the whole of a call: of what is known, or is no layer."""
    return seconds


class _Beginning:
    """Until the layers have done so much work, the user's own methods run: a short script is over before Numba is imported.

    Work is what NumPy would take for the calls that kernels would take, estimated from the shapes of arrays and never
    measured, so that the kernels begin at the same call in every run of a script, however busy the machine is.
    """

    # Importing Numba and loading kernels take 0.4 s, trying a class 0.05 to 0.15 s. LOADING: when importing begins, in a
    # thread, if most of the work is calls of LONG or more, in which NumPy has let go of Python's lock. Between short ones
    # the script waits for that lock, and an import of 0.4 s held it up by 0.6: a network with 5 x 100 hidden units took 2.0
    # s for 120 steps, in Python 1.25 and without the thread 1.4; for 200 steps 2.6, 1.8 and 1.9. Measured and rejected: 1.0
    # without a thread: two readers' deep networks, of 8 s, gained 2.3 and 2.4, not 3.5 and 3.4. 0.25 and 0.6: convolutional
    # networks of 1.4 to 7 s take 0.1 to 0.3 s longer, short ones too.
    LOADING, LONG, SECONDS = 0.1, 2e-3, 0.4
    # And of the time since the first call that is counted: at what moment Numba is imported changes no number. A reader's
    # script of 11 s, of which kernels had 0.03 to do, imported it for nothing, and took 0.5 to 0.9 s longer.
    RATE = 0.1
    # What kernels must save for each call that is left to NumPy: it takes 1 us longer with them, the others half as long.
    # A network of a few numbers, with 20 such calls for each large one, takes 1.1 of Python's time so; it took 1.25.
    SMALL = 2.5e-6
    # Seconds: where kernels would lose so much, a larger call in between does not keep a class from idling. One script's
    # evaluations of 525 rows, after each 21 steps of 25, kept all of its 600,000 calls looked at: 0.9 s of 7, now 0.3.
    LOST = -0.02
    # Of SECONDS: how much work there may be until a network's next loop through its layers, which kernels wait for if a
    # script has such loops. In the middle of one, each layer by itself would need kernels, which the loops that follow
    # have no use for: a first run of MultiLayerNetExtend with batch normalisation compiles 6.3 s so, and 10.4 otherwise.
    OVERDUE = 3.0

    def __init__(self) -> None:
        self.over, self.work, self.small = False, 0.0, 0
        self._in_long_calls = 0.0
        self.loader, self._first = Loader(), 0.0
        self._has_loops = self._is_due = False

    def count(self, name: str, arguments: tuple[Any, ...], result: Any, weigh: Weigher) -> float:
        """Count the work of a call, and return it; 0 where the kernels would lose, or where it is none of theirs."""
        seconds = estimated_seconds(name, arguments, result)
        self._first = self._first or time.perf_counter()
        counted = weigh(seconds, arguments, result) if seconds else 0.0
        if counted is None:
            return 0.0
        self.work += counted
        self._in_long_calls += counted if seconds >= self.LONG else 0.0
        worth = self.work - self.SMALL * self.small
        self._go_on(worth, may_wait=self._has_loops)
        return seconds if worth > self.LOST else 0.0

    def ends_with(self, arguments: tuple[Any, ...], is_first: bool = False) -> bool:
        """Whether a layer's forward that is to be called now is so much work that kernels begin before it; is_first: in a
        loop.

        Evaluating 60,000 images takes 0.3 to 1.1 s, and comes early in many scripts: they waited for it, and then for Numba.
        """
        coming = expected_seconds(*arguments[:2])
        worth = self.work - self.SMALL * self.small + coming
        self._go_on(worth, may_wait=self._has_loops and not is_first, coming=coming)
        return self.over

    def loop_begins(self) -> bool:
        """Note that a loop through a network's layers is to begin with the first; whether kernels are used in it."""
        self._has_loops = True
        if self._is_due and not self.over:
            self._begin()
        return self.over

    def _go_on(self, worth: float, may_wait: bool, coming: float = 0.0) -> None:
        """coming: seconds of the call that is to be made now, which `worth` has."""
        in_long_calls = self._in_long_calls + (coming if coming >= self.LONG else 0.0)
        self._is_due = worth > self.SECONDS or (not self.loader.has_begun and "fastbp.kernels" in sys.modules)
        if self._is_due and not (may_wait and worth < self.OVERDUE * self.SECONDS):
            self._begin()
        elif worth > self.LOADING and in_long_calls > (self.work + coming) / 2 and self._is_much_of_the_time(worth):
            self.loader.begin()

    def _is_much_of_the_time(self, worth: float) -> bool:
        return worth > self.RATE * (time.perf_counter() - self._first)

    def _begin(self) -> None:
        self.loader.wait()
        self.over = True
        wake_all()  # what was small until now may be large enough for kernels


_beginning = _Beginning()


def has_begun() -> bool:
    """Whether kernels are used now."""
    return _beginning.over


def loop_begins() -> bool:
    """Whether kernels are used in a loop through a network's layers, which is to begin with the first layer's forward."""
    return _beginning.loop_begins()


def is_huge(x: Any) -> bool:
    """Whether kernels may begin with a call that is given x."""
    return type(x) is np.ndarray and x.size >= LEAST_EXPECTED


def begins_with(layer: Any, x: Any) -> bool:
    """Whether kernels begin with a loop whose first call is layer.forward(x), as that is so much work."""
    return is_huge(x) and _beginning.ends_with((layer, x), is_first=True)


def script_is_over() -> None:
    """Where the kernels have not begun, nothing more is imported for them."""
    if not _beginning.over:
        _beginning.loader.give_up()


def plain(name: str, fast: Method, own: Method) -> Method:
    """`eager`, once the beginning is over.

    `fast` may have attributes: `idling`, which notes the sizes of calls; `weigh`, which says of a call that is over, of
    so many seconds, how many are to be counted now, None where no kernel will take such calls; and `is_ours`, which says of
    a layer's forward, that is about to be called, whether kernels are known to take it.
    """
    names: dict[str, Any] = {"accelerated": eager(fast, own), "own": own, "beginning": _beginning}
    names.update(name=own.__name__, ndarray=np.ndarray, counted=LEAST_COUNTED, large=LEAST_EXPECTED)
    names["idling"] = getattr(fast, "idling", NeverIdling())
    names["weigh"] = getattr(fast, "weigh", all_of_it)
    names["is_ours"] = getattr(fast, "is_ours", _never)
    exec(_PLAIN.format(_Signature(own)), names)
    call: Method = names["call"]
    call.__defaults__ = getattr(own, "__defaults__", None)
    in_place_of(own)(call)
    return call


def _never(*arguments: Any) -> bool:
    return False


_NAMES = {
    "accelerated",
    "own",
    "beginning",
    "name",
    "ndarray",
    "counted",
    "large",
    "idling",
    "weigh",
    "is_ours",
    "result",
    "type",
}
# Written out for the parameters that `own` has: a call costs 0.1 us instead of 0.4 with *arguments and **named, and a script
# of small arrays makes a million of them. Where the array that is given is small, the call is left to NumPy and not
# counted as work: counting takes 2 us.
_PLAIN = """
def call({0.parameters}):
    if beginning.over:
        return accelerated({0.arguments})
    if {0.given_is_huge} and is_ours({0.positional}) and beginning.ends_with(({0.positional})):
        return accelerated({0.arguments})
    result = own({0.arguments})
    if {0.given_may_be_large}:
        idling.large() if beginning.count(name, ({0.positional}), result, weigh) else idling.small(name)
    else:
        beginning.small += 1
        idling.small(name)
    return result
"""


class _Signature:
    """The parameters of a function in source code: with names of their own if they are ordinary ones, else any."""

    def __init__(self, function: Method):
        parameters = list(signature_of(function).parameters.values())
        are_ordinary = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
        names = [one.name for one in parameters]
        if not are_ordinary or not _NAMES.isdisjoint(names):
            self.parameters = self.arguments = "*arguments, **named"
            self.positional, self.given_may_be_large, self.given_is_huge = "*arguments,", "True", "False"
            return
        shown = [
            name if one.default is one.empty else f"{name}=None" for one, name in zip(parameters, names, strict=True)
        ]
        self.parameters, self.arguments = ", ".join(shown), ", ".join(names)
        self.positional = "".join(f"{name}, " for name in names)
        given = names[1] if len(names) > 1 else names[0] if names else "None"
        needed = [one.name for one in parameters[2:] if one.default is one.empty]
        sizes = " + ".join([f"{given}.size", *(f"({name}.size if type({name}) is ndarray else 0)" for name in needed)])
        # A step of a recurrent layer is given several arrays, which are small beside its weights.
        may_be_step = len(needed) > 1 or (len(needed) == 1 and function.__name__ == "backward")
        least = f"(counted / 4 if type({needed[-1]}) is ndarray else counted)" if may_be_step else "counted"
        self.given_may_be_large = f"type({given}) is not ndarray or {sizes} >= {least}"
        self.given_is_huge = f"type({given}) is ndarray and {given}.size >= large"


def eager(fast: Method, own: Method) -> Method:
    """`fast`, and `own` where that passes, or where the arguments are not those that `own` takes."""
    order = Order(own)

    @in_place_of(own)
    def call(*arguments: Any, **named: Any) -> Any:
        given = order.place(arguments, named) if named else arguments
        if given is not None and order.least <= len(given) <= order.most:
            result = fast(*given)
            if result is not PASS:
                return result
        return own(*arguments, **named)

    accelerated: Method = call
    return accelerated


class Order:
    """The order of a function's parameters, and how many positional arguments it takes; none if that is any number.

    What is named and goes to **named is left out: of methods that read it, nothing is accelerated (see `screening`).
    """

    def __init__(self, function: Method):
        parameters = list(signature_of(function).parameters.values())
        self.takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
        ordinary = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
        self.names = [parameter.name for parameter in ordinary]
        self.least, self.most = sum(one.default is one.empty for one in ordinary), len(ordinary)
        if any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.POSITIONAL_ONLY) for one in ordinary):
            self.most = -1

    def place(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...] | None:
        """All arguments by their places; None if that cannot be."""
        if self.takes_any:
            named = {name: value for name, value in named.items() if name in self.names}
        following = self.names[len(arguments) : len(arguments) + len(named)]
        return (*arguments, *map(named.__getitem__, following)) if set(following) == set(named) else None


@dataclass
class Count:
    """How often a method was called, and how long that took, in seconds; `passed` are the calls left to the user's own."""

    calls: int = 0
    passed: int = 0
    seconds: float = 0.0


@dataclass
class Counter:
    """Wraps methods as `eager` does, and counts their calls by name."""

    counts: dict[str, Count] = field(default_factory=dict)

    def __call__(self, name: str, fast: Method, own: Method) -> Method:
        count = self.counts.setdefault(name, Count())

        def passing(*arguments: Any, **named: Any) -> Any:
            count.passed += 1
            return own(*arguments, **named)

        inner = eager(fast, in_place_of(own)(passing))

        @in_place_of(own)
        def counted(*arguments: Any, **named: Any) -> Any:
            if trying.now:
                return own(*arguments, **named)
            start = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                count.calls += 1
                count.seconds += time.perf_counter() - start

        method: Method = counted
        return method
