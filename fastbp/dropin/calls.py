"""One call of an accelerated method: the fast way if it takes the arguments, else the user's own; counted if wanted."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .fast_layers import PASS, Method

Wrapper = Callable[[str, Method, Method], Method]


class _Beginning:
    """Until so many seconds were spent in accelerated methods, the user's own run: a short script is over before Numba is
    imported, which takes longer."""

    SECONDS = 0.3

    def __init__(self) -> None:
        self.over, self.spent = False, 0.0

    def run(self, own: Method, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        start = time.perf_counter()
        try:
            return own(*arguments, **named)
        finally:
            self.spent += time.perf_counter() - start
            self.over = self.spent > self.SECONDS or "fastbp.kernels" in sys.modules


_beginning = _Beginning()


def plain(name: str, fast: Method, own: Method) -> Method:
    """`eager`, once the beginning is over."""
    accelerated = eager(name, fast, own)

    @functools.wraps(own)
    def call(*arguments: Any, **named: Any) -> Any:
        if _beginning.over:
            return accelerated(*arguments, **named)
        return _beginning.run(own, arguments, named)

    return call


def eager(name: str, fast: Method, own: Method) -> Method:
    """`fast`, and `own` where that passes, or where the number of arguments is not the book's or some are named."""
    least, most = positional(fast)

    @functools.wraps(own)
    def call(*arguments: Any, **named: Any) -> Any:
        if not named and least <= len(arguments) <= most:
            result = fast(*arguments)
            if result is not PASS:
                return result
        return own(*arguments, **named)

    return call


def positional(function: Method) -> tuple[int, int]:
    """How many positional arguments a function takes, at the least and at the most."""
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.default is parameter.empty for parameter in parameters), len(parameters)


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

        functools.update_wrapper(passing, own)
        inner = eager(name, fast, passing)

        @functools.wraps(own)
        def counted(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                count.calls += 1
                count.seconds += time.perf_counter() - start

        return counted
