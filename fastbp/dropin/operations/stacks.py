"""What all layers of a stack do at once, on the compiled kernels: arrays in, arrays out, or PASS.

A stack is affine layers, one after the other, with ReLU, sigmoid or nothing after each, and dropout after ReLU. As in
`layers`, PASS is said of whatever the kernel is not made for, and WASTED of results of which NumPy may warn, before
anything is changed.
"""

from __future__ import annotations

import itertools
import math
import operator
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..beginning.ahead import ahead
from ..objects.arguments import (
    INPUTS,
    LARGEST_EXPONENT,
    LEAST_PRODUCT,
    PASS,
    TAME,
    WASTED,
    fits,
    is_array,
    is_factor,
    is_floating,
    no_gradient,
)
from ..objects.global_random import saved_state, uniform
from ..objects.kept import Kept
from .kernel_calls import kernels

MOST_LAYERS = 16  # affine ones
MOST_KERNELS = 16  # of networks of other sizes, that are kept
MOST_ROWS = 4096  # backward: of more, Python's part is small, and single layers need less workspace
LARGEST_SCALE = 1e6  # that what dropout keeps is multiplied with: numbers that are TAME stay far from overflow
LEAST_ROWS = 4  # of fewer, kernels for single layers are faster
_BOOL = np.dtype(bool)


# What is multiplied with what is kept, by the operation of `layers`; for a ratio.
SCALES: dict[str, Callable[[float], float]] = {
    "dropout_forward": lambda ratio: 1.0,
    "dropout_forward_inverted": lambda ratio: 1 / (1 - ratio) if ratio < 1 else math.inf,
    "dropout_apply": lambda ratio: 1.0 - ratio,
    "dropout_off": lambda ratio: 1.0,
}
SCALES["dropout_backward"] = SCALES["dropout_forward"]
SCALES["dropout_backward_inverted"] = SCALES["dropout_forward_inverted"]


class Dropped(NamedTuple):
    """Dropout after a layer's ReLU, by the name of its operation."""

    operation: str

    @property
    def draws(self) -> bool:
        return self.operation.startswith("dropout_forward")

    def scale(self, ratio: Any, dtype: np.dtype[Any]) -> float | None:
        """What is multiplied with what is kept; None where that is no number of an ordinary size, or of another dtype."""
        scale = SCALES[self.operation](ratio) if is_factor(ratio, dtype) else math.inf
        return scale if abs(scale) <= LARGEST_SCALE else None


class Drawn(NamedTuple):
    """drops: for each layer None, or the mask of what is kept (None: all) and its factor; undo: puts drawn numbers back."""

    drops: list[Any] | None
    undo: Callable[[], None]

    @property
    def keeps(self) -> list[Any]:
        return [None if one is None else one[0] for one in self.drops or ()]


NOTHING_DRAWN = Drawn(None, lambda: None)


class Stack:
    """Affine layers with one of the activations of `affine_stack` after each, and maybe dropout."""

    def __init__(self, activations: tuple[str, ...], dropped: tuple[Dropped | None, ...] = ()):
        self._activations, self._dropped = activations, dropped
        self._kernels: Kept[tuple[Any, ...], Any] = Kept(MOST_KERNELS)
        self._last = _Known((), None, 0)

    def forward(self, x: Any, weights: tuple[Any, ...], biases: tuple[Any, ...], ratios: tuple[Any, ...] = ()) -> Any:
        """-> rows: x as (N, D), and for each layer z (N, M), what comes after it, the mask of its ReLU, that of its dropout.

        ratios: of each layer with dropout its ratio, else None; none at all without dropout.
        """
        known = self._known(weights, biases)
        if known is None or not fits(x, weights[0]) or x.dtype not in INPUTS:
            return PASS
        rows = x.reshape(len(x), -1)
        if not is_worth_it(rows, known.products):
            return PASS
        wanted = "affine_network" if ahead.has_network else "affine_stack"
        ahead.compile_meanwhile(wanted, weights[0].dtype, x.dtype)
        if (drawn := self._drawn(ratios, len(rows), weights)) is None:
            return PASS
        zs, outs, masks, largest = known.kernel.forward(rows, weights, biases, drawn.drops)
        tame, exponent = TAME[weights[0].itemsize], LARGEST_EXPONENT[weights[0].itemsize]
        for size, name in zip(largest, self._activations, strict=True):
            if not size < tame or (name == "sigmoid" and size > exponent):
                drawn.undo()
                return WASTED
        return rows, zs, outs, masks, drawn.keeps

    def backward(
        self, dout: Any, inputs: tuple[Any, ...], weights: tuple[Any, ...], saved: tuple[Any, ...],
        shapes: tuple[Any, ...], needs_dx: bool, dropped: tuple[Any, ...] = (),
    ) -> Any:  # fmt: skip
        """-> dx, of shapes[0], and dW and db of each layer.

        inputs: of each layer, as rows; saved: of each activation but the last its mask, or what it gave; shapes: of each
        layer's x; dropped: of each dropout its mask and ratio, or None; none at all without dropout.
        """
        known = self._known(weights, ())
        if known is None or not self._are_fitting(dout, inputs, weights, shapes, known.products):
            return PASS
        masks, drops = self._masks(saved, inputs), self._drops(dropped, inputs)
        if masks is None or drops is None:
            return PASS
        dx, dWs, dbs, largest = known.kernel.backward(dout, inputs, weights, masks, needs_dx, drops or None)
        if not largest < TAME[weights[0].itemsize]:
            return WASTED  # a mask may hide what is not finite
        return no_gradient(shapes[0]) if dx is None else dx.reshape(shapes[0]), dWs, dbs

    def _are_fitting(
        self, dout: Any, inputs: tuple[Any, ...], weights: tuple[Any, ...], shapes: tuple[Any, ...], products: int
    ) -> bool:
        """Whether arrays that backward is given are of the network's sizes, and these worth it."""
        if type(dout) is not np.ndarray or dout.ndim != 2:
            return False
        count, dtype = len(dout), weights[0].dtype
        if not LEAST_ROWS <= count <= MOST_ROWS or count * products < LEAST_PRODUCT:
            return False
        if not is_matrix(dout, dtype, (count, weights[-1].shape[1])):
            return False
        if type(inputs[0]) is not np.ndarray or inputs[0].dtype not in INPUTS:
            return False
        for place, (rows, W, shape) in enumerate(zip(inputs, weights, shapes, strict=True)):
            if not is_matrix(rows, dtype if place else rows.dtype, (count, len(W))) or type(shape) is not tuple:
                return False
            if shape != rows.shape and (place or shape[:1] != (count,) or math.prod(shape) != rows.size):
                return False
        return True

    def _masks(self, saved: tuple[Any, ...], inputs: tuple[Any, ...]) -> list[Any] | None:
        """For each layer the mask of its ReLU, else None; None for all where what is saved does not fit the inputs."""
        masks = []
        for name, value, following in zip(self._activations, saved, inputs[1:], strict=False):
            if name == "relu" and not is_matrix(value, _BOOL, following.shape):
                return None
            if name == "sigmoid" and not _is_all_of(following, value):
                return None
            masks.append(value if name == "relu" else None)
        return [*masks, None]

    def _drawn(self, ratios: tuple[Any, ...], count: int, weights: tuple[Any, ...]) -> Drawn | None:
        """What is kept of so many rows; None where the ratios are not ordinary ones, or somebody's own generator draws."""
        if not ratios:
            return NOTHING_DRAWN
        drops = list[Any]()
        for dropped, ratio in zip(self._dropped, ratios, strict=True):
            scale = None if dropped is None else dropped.scale(ratio, weights[0].dtype)
            if dropped is not None and scale is None:
                return None
            drops.append(None if dropped is None else (None, scale))
        if not any(one is not None and one.draws for one in self._dropped):
            return Drawn(drops, NOTHING_DRAWN.undo)
        if (undo := saved_state()) is None:
            return None
        for place, (dropped, ratio, W) in enumerate(zip(self._dropped, ratios, weights, strict=True)):
            if dropped is not None and dropped.draws:
                drops[place] = uniform((count, W.shape[1]), kernels) > ratio, drops[place][1]
        return Drawn(drops, undo)

    def _drops(self, dropped: tuple[Any, ...], inputs: tuple[Any, ...]) -> list[Any] | None:
        """Dropout for each layer, as kernels take it; None where a mask does not fit the input of the layer after it."""
        drops = list[Any]()
        if not dropped:
            return drops
        for settings, given, following in itertools.zip_longest(self._dropped, dropped, inputs[1:]):
            if settings is None:
                drops.append(None)
                continue
            mask, ratio = given
            scale = settings.scale(ratio, following.dtype)
            if scale is None or not is_matrix(mask, _BOOL, following.shape):
                return None
            drops.append((mask, scale))
        return drops

    def _kernel(self, widths: tuple[int, ...], dtype: Any) -> Any:
        return kernels.affine_stack(widths, self._activations, dtype)

    def _known(self, weights: tuple[Any, ...], biases: tuple[Any, ...]) -> _Known | None:
        """The kernel for these parameters, if they are plain arrays of fitting shapes.

        Those of the call before are, if they are the same. What belongs together is kept in one attribute: another thread
        may call at once, for a network of other sizes.
        """
        given, last = (*weights, *biases), self._last
        if last.is_of(given):
            return last
        if not is_floating(weights[0]) or any(getattr(W, "ndim", 0) != 2 for W in weights):
            return None
        dtype = weights[0].dtype
        if not all(is_array(one, dtype) and one.flags.carray and one.size for one in given):
            return None
        widths = [len(weights[0]), *(W.shape[1] for W in weights)]
        if any(len(W) != width for W, width in zip(weights, widths, strict=False)):
            return None
        if any(b.shape != (width,) for b, width in zip(biases, widths[1:], strict=False)):
            return None
        key = (*widths, dtype)
        if (kernel := self._kernels.get(key)) is None:
            kernel = self._kernels[key] = self._kernel(tuple(widths), dtype)
        products = sum(itertools.starmap(operator.mul, itertools.pairwise(widths)))
        parameters = tuple([(weakref.ref(one), one.shape, one.dtype) for one in given])
        self._last = known = _Known(parameters, kernel, products)
        return known


class _Known(NamedTuple):
    """References to parameters, which do not keep them, with their shapes and dtypes, which may be changed in place; the
    kernel for these, and how many multiplications a row takes."""

    parameters: tuple[Any, ...]
    kernel: Any
    products: int

    def is_of(self, given: tuple[Any, ...]) -> bool:
        """Whether it is for these arrays, as they are."""
        if len(given) != len(self.parameters):
            return False
        for array, (reference, shape, dtype) in zip(given, self.parameters, strict=True):
            if reference() is not array or array.shape != shape or array.dtype is not dtype:
                return False
        return True


def is_worth_it(rows: Any, products: int) -> bool:
    """Whether rows, of so many multiplications each, are enough, and lie one after the other in memory."""
    return len(rows) >= LEAST_ROWS and len(rows) * products >= LEAST_PRODUCT and bool(rows.flags.c_contiguous)


def is_matrix(value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether a value is a plain array of these, row by row in memory."""
    return is_array(value, dtype) and value.shape == shape and value.flags.c_contiguous


def _is_all_of(view: Any, array: Any) -> bool:
    """Whether `view`, row by row in memory, shows the whole of an array of the same shape."""
    if type(array) is not np.ndarray or not array.flags.c_contiguous:
        return False
    return view is array or (view.base is array and array.shape == view.shape and array.dtype == view.dtype)
