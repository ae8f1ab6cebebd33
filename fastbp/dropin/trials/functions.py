"""Functions named im2col and col2im that are not the book's text: what they compute is found by trying them.

As with classes (see `trials`): a function that does nothing but compute is called with drawn images, windows, strides and
paddings, beside the reference backend. If it gives the same every time, it is accelerated; where it does so for float32 or
float64 alone, or for windows that leave no rest, or of stride 1, then for these.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from ... import reference
from ..objects.arguments import FLOAT, PASS, is_count
from ..objects.global_random import in_arrays, random_state
from ..objects.trying import trying, undisturbed
from ..operations.functions import FUNCTIONS, is_window
from ..reading.found import Found
from ..reading.screening import NotPlain, looked_into, screen_function
from .drawing import Shape
from .subjects import copied, same

COUNT = 24  # inputs
DTYPES = {"im2col": (FLOAT, np.dtype(np.float32)), "col2im": (FLOAT,)}
PARAMETERS = {"im2col": 5, "col2im": 6}  # lastly: the height and width of the filter, stride, padding
Fits = Callable[[Shape, Shape], bool]  # of the shape of images and a window


def _any(shape: Shape, window: Shape) -> bool:
    return True


def _without_rest(shape: Shape, window: Shape) -> bool:
    high, wide, stride, pad = window
    return (shape[2] + 2 * pad - high) % stride == 0 and (shape[3] + 2 * pad - wide) % stride == 0


def _of_stride_1(shape: Shape, window: Shape) -> bool:
    return window[2] == 1


FITTING: dict[Fits, str] = {_any: "", _without_rest: " without a rest", _of_stride_1: " of stride 1"}


class TriedFunction:
    """What is called in the place of a function; at its first call it is found out whether a kernel takes its calls."""

    def __init__(self, name: str, function: FunctionType, found: Found):
        self._name, self._own, self._found = name, function, found
        self._fitting: dict[np.dtype[Any], Fits] | None = None  # by dtype, the windows
        self._helpers: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        if trying.now:
            return PASS
        if self._fitting is None:
            self._fitting = self._try()
        missing = PARAMETERS[self._name] - len(arguments)
        if missing > 0:
            arguments += (self._own.__defaults__ or ())[-missing:]
        if type(arguments[0]) is not np.ndarray or not self._takes(arguments[0], *arguments[-5:]):
            return PASS
        if any(one.module.get(one.name) is not one.function for one in self._helpers):
            return PASS
        return FUNCTIONS[self._name](*arguments)

    @property
    def adds(self) -> bool:
        """Whether its results are sums."""
        return self._name == "col2im"

    def _takes(self, array: Any, images: Any, *window: Any) -> bool:
        """images: or their shape."""
        fits = (self._fitting or {}).get(array.dtype)
        if fits is None or len(window) != 4 or not is_window(*window):
            return False
        shape = getattr(images, "shape", images)
        return type(shape) is tuple and len(shape) == 4 and is_count(*shape, at_least=0) and fits(shape, window)

    def _try(self) -> dict[np.dtype[Any], Fits]:
        found, code = self._found, self._own.__code__
        found.reason = "it gives something else than the book's"
        if (code.co_argcount, code.co_kwonlyargcount) != (PARAMETERS[self._name], 0):
            found.reason = "it takes other arguments than the book's"
            return {}
        screened = looked_into(screen_function, self._own)
        if isinstance(screened, NotPlain):
            found.reason = str(screened)
            return {}
        self._helpers = screened.helpers
        fitting = {one: fits for one in DTYPES[self._name] for fits in self._fits(one)}
        if fitting:
            windows = FITTING[fitting.get(FLOAT, _any)]
            found.accelerated, found.reason = True, ""
            found.how = f"{self._name}, tried on {COUNT} {'windows' + windows if windows else 'inputs'}"
        return fitting

    def _fits(self, dtype: np.dtype[Any]) -> list[Fits]:
        """The first of FITTING for which the function gives what the book's does, of inputs of a dtype; else none."""
        with undisturbed():
            return next(([fits] for fits in FITTING if _agrees(self._name, self._own, dtype, fits)), [])


def _agrees(name: str, own: FunctionType, dtype: np.dtype[Any], fits: Fits) -> bool:
    rng = np.random.default_rng(5)
    for place in range(COUNT):
        arguments, expected = _drawn(rng, place, name, dtype, fits)
        given, before = tuple(map(copied, arguments)), in_arrays(random_state())
        try:
            result = own(*given)
        except Exception:
            return False
        if not same(in_arrays(random_state()), before):
            return False
        if type(result) is not np.ndarray or np.may_share_memory(result, given[0]):
            return False
        if not same(given[0], arguments[0], exactly=True) or not same(result, expected, exactly=name == "im2col"):
            return False
    return True


def _drawn(rng: Any, place: int, name: str, dtype: np.dtype[Any], fits: Fits) -> tuple[tuple[Any, ...], Any]:
    """The arguments of a call, and what the reference gives."""
    high, wide, stride, pad = 1 + place % 3, 1 + place // 2 % 4, 1 + place // 3 % 3, place // 5 % 3
    stride = 1 if fits is _of_stride_1 else stride
    window, more = (high, wide, stride, pad), rng.integers(0, 6, 2) * (stride if fits is _without_rest else 1)
    more += stride if fits is _without_rest else 0
    shape = 1 + place % 3, 1 + place // 3 % 3, high - 2 * pad + int(more[0]), wide - 2 * pad + int(more[1])
    if min(shape) < 1:
        shape = *shape[:2], shape[2] + 6, shape[3] + 6  # 6 is a multiple of each stride
    images = rng.standard_normal(shape).astype(dtype)
    if place % 5 == 4:
        images.flat[[0, -1]] = np.nan, np.inf
    col = reference.im2col(images, *window, FLOAT)
    if name == "im2col":
        return (images, *window), col
    col = rng.standard_normal(col.shape).astype(dtype)
    return (col, shape, *window), reference.col2im(col, shape, *window)
