"""The book's functions on the compiled kernels, for arrays that are large enough to gain. PASS: run the user's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .fast_layers import FLOAT, PASS, Method, as_float, is_array, is_count, kernels

LARGE = 4096  # numbers; below, NumPy's own loops are over before a kernel is called


def sigmoid(x: Any) -> Any:
    return kernels.sigmoid_forward(x) if is_array(x) and x.size >= LARGE else PASS


def softmax(x: Any) -> Any:
    if not is_array(x) or x.ndim != 2 or x.size < LARGE:
        return PASS
    return kernels.softmax_cross_entropy_forward(x, np.zeros(len(x), np.int64))[1]


def im2col(input_data: Any, filter_h: Any, filter_w: Any, stride: Any = 1, pad: Any = 0) -> Any:
    images = as_float(input_data)
    if images is None or images.ndim != 4 or not images.size or not _is_window(filter_h, filter_w, stride, pad):
        return PASS
    if images.shape[2] + 2 * pad < filter_h or images.shape[3] + 2 * pad < filter_w:
        return PASS
    return kernels.im2col(images, filter_h, filter_w, stride, pad, FLOAT)


def col2im(col: Any, input_shape: Any, filter_h: Any, filter_w: Any, stride: Any = 1, pad: Any = 0) -> Any:
    if not is_array(col) or not col.size or not _is_window(filter_h, filter_w, stride, pad):
        return PASS
    if type(input_shape) is not tuple or len(input_shape) != 4 or not is_count(*input_shape, at_least=1):
        return PASS
    count, channels, height, width = input_shape
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    if min(rows) < 1 or col.size != math.prod((count, channels, filter_h, filter_w, *rows)):
        return PASS
    return kernels.col2im(col, input_shape, filter_h, filter_w, stride, pad)


def _is_window(filter_h: Any, filter_w: Any, stride: Any, pad: Any) -> bool:
    return is_count(filter_h, filter_w, stride, at_least=1) and is_count(pad, at_least=0)


FUNCTIONS: dict[str, Method] = {"sigmoid": sigmoid, "softmax": softmax, "im2col": im2col, "col2im": col2im}
EXACT = {"im2col", "col2im"}  # the same numbers to the last bit
