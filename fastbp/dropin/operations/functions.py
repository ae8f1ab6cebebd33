"""The book's im2col and col2im on the compiled kernels: the same numbers to the last bit. PASS: run the user's own.

Measured and rejected: sigmoid and softmax. Networks that call them, and not the layers, spend their time in np.dot; the
kernels' threads and OpenBLAS's got in each other's way, the script of chapter 4 took a sixth longer, and importing Numba
half a second. The layers Sigmoid and SoftmaxWithLoss do not need them.
"""

from __future__ import annotations

import math
from typing import Any

from ..objects.arguments import FLOAT, PASS, Method, as_float, is_array, is_count
from ..objects.trying import trying
from .kernel_calls import is_tame, kernels


def im2col(input_data: Any, filter_h: Any, filter_w: Any, stride: Any = 1, pad: Any = 0) -> Any:
    images = as_float(input_data)
    if (
        trying.now
        or images is None
        or images.ndim != 4
        or not images.size
        or not is_window(filter_h, filter_w, stride, pad)
    ):
        return PASS
    if images.shape[2] + 2 * pad < filter_h or images.shape[3] + 2 * pad < filter_w:
        return PASS
    return kernels.im2col(images, filter_h, filter_w, stride, pad, FLOAT)


def col2im(col: Any, input_shape: Any, filter_h: Any, filter_w: Any, stride: Any = 1, pad: Any = 0) -> Any:
    if trying.now or not is_array(col) or not col.size or not is_window(filter_h, filter_w, stride, pad):
        return PASS
    if type(input_shape) is not tuple or len(input_shape) != 4 or not is_count(*input_shape, at_least=1):
        return PASS
    count, channels, height, width = input_shape
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    if min(rows) < 1 or col.size != math.prod((count, channels, filter_h, filter_w, *rows)):
        return PASS
    images = kernels.col2im(col, input_shape, filter_h, filter_w, stride, pad)
    return images if is_tame(images) else PASS  # NumPy may warn where it adds what is not finite


def is_window(filter_h: Any, filter_w: Any, stride: Any, pad: Any) -> bool:
    return is_count(filter_h, filter_w, stride, at_least=1) and is_count(pad, at_least=0)


FUNCTIONS: dict[str, Method] = {"im2col": im2col, "col2im": col2im}
