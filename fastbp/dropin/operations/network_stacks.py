"""What a network of affine layers and a softmax with its loss does at once: see `stacks`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..beginning.ahead import ahead
from ..objects.arguments import INPUTS, LARGEST_EXPONENT, LEAST_PRODUCT, PASS, SCALE, TAME, WASTED, Method, fits
from .kernel_calls import kernels
from .stacks import MOST_ROWS, Stack

# From so many rows on, or multiplications, a call takes less time than NumPy's twenty and more, most of it Python's. The
# gradient of 784-50-10 for two rows takes 0.9 of NumPy's time, that of 20-30-3 for 100 rows 0.7 to 0.8, its loss 0.8 to 0.9.
MANY_ROWS, LEAST_OF_STEP = 64 * SCALE, 75_000 * SCALE


class _Given(NamedTuple):
    """What a kernel takes: x as rows, and labels or targets."""

    kernel: Any
    rows: Any
    t: Any


class NetworkStack(Stack):
    """Affine layers with one of the activations of `affine_stack` after each but the last, and a softmax with its loss.

    loss_of: gives another loss than the kernel's, of y, labels and t, or PASS.
    """

    def __init__(self, activations: tuple[str, ...], loss_of: Method | None = None):
        super().__init__(activations)
        self._loss_of = loss_of

    def _kernel(self, widths: tuple[int, ...], dtype: Any) -> Any:
        return kernels.affine_network(widths, self._activations, dtype)

    def loss(self, x: Any, t: Any, weights: tuple[Any, ...], biases: tuple[Any, ...]) -> Any:
        """-> rows: x as (N, D); for each layer z (N, M), what comes after it, the mask of its ReLU; loss, y, labels."""
        if (given := self._given(x, t, weights, biases, LEAST_PRODUCT)) is None:
            return PASS
        return self._results(given.rows, t, given.kernel.loss(given.rows, given.t, weights, biases))

    def gradient(self, x: Any, t: Any, weights: tuple[Any, ...], biases: tuple[Any, ...]) -> Any:
        """-> the same, and dW and db of each layer."""
        given = self._given(x, t, weights, biases, LEAST_OF_STEP)
        if given is None or len(given.rows) > MOST_ROWS:
            return PASS
        of_loss, dWs, dbs, largest = given.kernel.gradient(given.rows, given.t, weights, biases)
        if not largest < TAME[weights[0].itemsize]:
            return WASTED
        results = self._results(given.rows, t, of_loss)
        return results if results is PASS or results is WASTED else (*results, dWs, dbs)

    def _given(
        self, x: Any, t: Any, weights: tuple[Any, ...], biases: tuple[Any, ...], least: float
    ) -> _Given | None:  # fmt: skip
        known = self._known(weights, biases)
        if known is None or not fits(x, weights[0]) or x.dtype not in INPUTS:
            return None
        rows, dtype = x.reshape(len(x), -1), weights[0].dtype
        if (targets := _targets(t, (len(x), weights[-1].shape[1]), dtype)) is None:
            return None
        if not rows.flags.c_contiguous or (len(rows) < MANY_ROWS and len(rows) * known.products < least):
            return None
        ahead.compile_meanwhile("affine_network", dtype, x.dtype)
        return _Given(known.kernel, rows, targets)

    def _results(self, rows: Any, t: Any, of_loss: Any) -> Any:
        loss, y, labels, zs, outs, masks, largest = of_loss
        tame, exponent = TAME[y.itemsize], LARGEST_EXPONENT[y.itemsize]
        for size, name in zip(largest, self._activations, strict=True):
            if not size < tame or (name == "sigmoid" and size > exponent):
                return WASTED
        if math.isnan(loss):
            return PASS  # a label is no class
        value = y.dtype.type(loss) if self._loss_of is None else self._loss_of(y, labels, t)
        return PASS if value is PASS else (rows, zs, outs, masks, value, y, labels)


def _targets(t: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """Labels of scores (N, C) as int64, whatever they are, or targets in the dtype of the scores; else None."""
    if type(t) is not np.ndarray:
        return None
    if t.shape == shape:
        fits_scores = t.dtype == dtype or (t.dtype.kind in "biuf" and np.result_type(t, dtype) == dtype)
        return t.astype(dtype, copy=False) if fits_scores else None
    if t.shape != shape[:1] or shape[1] == 1 or t.dtype.kind not in "iu":
        return None
    return t.astype(np.int64, copy=False)
