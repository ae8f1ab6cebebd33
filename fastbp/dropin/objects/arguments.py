"""What operations take: plain arrays of fitting dtypes and shapes, whole numbers, labels, images as rows.

Nothing here calls a kernel. See `layers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

PASS: Any = object()
WASTED: Any = object()  # PASS, said after the work: what came out is for NumPy to warn of
FLOAT = np.dtype(np.float64)
INPUTS = (FLOAT, np.dtype(np.float32), np.dtype(np.uint8))  # what a product takes beside float64 weights
Method = Callable[..., Any]

# Below these, NumPy takes less time than a call of a kernel, most of which is Python's; `writing` compares. A product of
# fewer multiplications is made in one thread by OpenBLAS, too. FASTBP_LEAST_WORK in the environment multiplies them: with
# 0, kernels take all.
# Measured and rejected: float64 products below 6,000,000. OpenBLAS alone takes 0.8 to 1 of a kernel's time for them; beside
# kernels for the rest of a network, whole scripts took longer.
SCALE = float(os.environ.get("FASTBP_LEAST_WORK", "1"))
LEAST_PRODUCT, LEAST_ELEMENTWISE, LEAST_NORMALIZATION = 262_144 * SCALE, 1_500 * SCALE, 2_500 * SCALE
LEAST_CELL = 500_000 * SCALE  # multiplications
LEAST_DROPOUT, LEAST_SOFTMAX = 3_000 * SCALE, 400 * SCALE

# Kernels do not warn of overflow, division by zero or invalid operations. So where NumPy might, the user's own method runs.
TAME = {8: 1e150, 4: 1e18}  # by the size of a number: below these, no product or sum in a layer comes near overflow
LARGEST_EXPONENT = {8: 709.0, 4: 88.0}  # likewise: exp of them does not overflow


def is_array(value: Any, dtype: np.dtype[Any] = FLOAT) -> bool:
    """A plain array of exactly this dtype; subclasses, masked arrays for one, do things of their own."""
    return type(value) is np.ndarray and value.dtype == dtype


def is_floating(value: Any) -> bool:
    return type(value) is np.ndarray and (value.dtype == FLOAT or value.dtype == np.float32)


def as_float(value: Any) -> Any:
    """A plain array of real numbers as float64, as assigning it to a float64 array converts it; else None."""
    if type(value) is not np.ndarray or value.dtype.kind not in "biuf" or value.itemsize > 8:
        return None
    return value if value.dtype == FLOAT else value.astype(FLOAT)


def is_count(*values: Any, at_least: int) -> bool:
    return all(type(value) is int and value >= at_least for value in values)


def is_factor(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a value is a number that keeps the dtype of an array it multiplies: np.float64 makes float32 float64."""
    return type(value) in (int, float) or (isinstance(value, int | float) and dtype == FLOAT)


def fits(x: Any, W: Any) -> bool:
    """Whether x (N, ...) has rows that W (D, M), float32 or float64, can take, and the product has W's dtype."""
    if type(x) is not np.ndarray or type(W) is not np.ndarray or W.ndim != 2 or x.ndim < 2 or not len(x):
        return False
    if x.size != len(x) * W.shape[0] or not W.size:
        return False
    return x.dtype in INPUTS or x.dtype.kind in "iu" if W.dtype == FLOAT else W.dtype == np.float32 == x.dtype


def are_mixed(a: Any, b: Any) -> bool:
    """Whether a, a matrix or a transposed one, is of a data set's dtype, and b a matrix of float64 that it multiplies."""
    if type(a) is not np.ndarray or not is_array(b) or a.ndim != 2 or b.ndim != 2 or not a.size:
        return False
    is_one = a.dtype != FLOAT and a.dtype in INPUTS and a.shape[1] == len(b)
    return is_one and b.flags.c_contiguous and (a.flags.c_contiguous or a.flags.f_contiguous)


def as_input(rows: Any) -> Any:
    """Rows as a product takes them: other integers than bytes as float64, as NumPy makes them."""
    return rows if rows.dtype in INPUTS else rows.astype(FLOAT)


_NOT_COMPUTED = np.array(np.nan)


@lru_cache(maxsize=16)
def no_gradient(shape: tuple[int, ...]) -> Any:
    """In the place of a gradient that is dropped: NaN everywhere, if anybody should look after all, and no memory."""
    return np.broadcast_to(_NOT_COMPUTED, shape)


def without_bias(results: Any) -> Any:
    """dx and dW, of a layer that has no bias."""
    return results[:2] if isinstance(results, tuple) else results


def is_computed(result: Any) -> bool:
    """Whether a result is not what stands in the place of a dropped gradient."""
    return not (isinstance(result, np.ndarray) and np.may_share_memory(result, _NOT_COMPUTED))


def is_transposed(*arrays: Any) -> bool:
    """Whether these are matrices by columns, as a transposed one is: NumPy's results are so, too, and kernels' are to be."""
    return all(array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous for array in arrays)


def labels_of(t: Any, shape: tuple[int, ...]) -> Any:
    """Labels of scores (N, C) as indices (N,), where the book's layer would take them so; else None."""
    if type(t) is not np.ndarray or t.dtype.kind not in "biuf":
        return None
    if t.shape == shape and t.size:
        return t.argmax(axis=1)
    if t.shape != shape[:1] or t.size in (0, shape[0] * shape[1]) or t.dtype.kind not in "iu":
        return None
    labels = t.astype(np.int64, copy=False)
    return labels if np.maximum.reduce(labels.view(np.uint64)) < shape[1] else None  # negative ones are large, too


class Rows(NamedTuple):
    """How batch normalisation takes images (N, C, H, W): each as a row of C * H * W numbers, or each pixel as one of C."""

    by_channel: bool

    def of(self, x: Any) -> Any:
        """x (N, D) or (N, C, H, W) as the rows that have a mean and a variance for each column; None for anything else."""
        if not is_array(x) or x.ndim not in (2, 4) or not x.size:
            return None
        if self.by_channel and x.ndim == 4:
            return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, x.shape[1])
        return x.reshape(x.shape[0], -1)

    def back(self, rows: Any, shape: tuple[int, ...]) -> Any:
        """Rows as an array of the shape that they were made of."""
        if self.by_channel and len(shape) == 4:
            count, channels, height, width = shape
            return rows.reshape(count, height, width, channels).transpose(0, 3, 1, 2)
        return rows.reshape(shape)


def is_frame(pad: Any, fill: float | None) -> bool:
    return bool(pad == 0) if fill is None else is_count(pad, at_least=1)


def framed(images: Any, pad: int, fill: float) -> Any:
    """The images (N, C, H, W) with `pad` numbers around each."""
    count, channels, height, width = images.shape
    larger = np.full((count, channels, height + 2 * pad, width + 2 * pad), fill)
    larger[:, :, pad:-pad, pad:-pad] = images
    return larger
