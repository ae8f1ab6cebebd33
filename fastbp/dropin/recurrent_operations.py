"""What recurrent layers do in one step of time, on the compiled kernels. See `operations`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import LARGEST_EXPONENT, PASS, WASTED, fits, is_array, is_floating
from .kernel_calls import is_tame, kernels


def lstm_forward(x: Any, h: Any, c: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    """-> h_next, c_next, f, g, i, o, each (N, H). Wx (D, 4 H), Wh (H, 4 H), b (4 H,): of f, g, i and o, in this order."""
    if not (_is_cell(x, h, c, Wx, Wh) and is_array(b, Wh.dtype) and b.shape == Wh.shape[1:]):
        return PASS
    of_x, of_h = kernels.affine_forward(x, Wx, b), kernels.affine_forward(h, Wh, np.zeros_like(b))
    largest = kernels.largest_magnitude(of_x) + kernels.largest_magnitude(of_h)
    if not (largest < LARGEST_EXPONENT[of_x.itemsize] and is_tame(c)):
        return WASTED
    return kernels.lstm_forward(of_x, of_h, c.astype(of_x.dtype, copy=False))


def lstm_backward(dh: Any, dc: Any, *kept: Any) -> Any:
    """-> dx (N, D), dh_prev, dc_prev (N, H), dWx, dWh, db. dc, the gradient of c_next, may be 0, as at the last step."""
    x, h, c, c_next, f, g, i, o, Wx, Wh = kept
    if not (_is_cell(x, h, c, Wx, Wh) and is_array(dh, Wh.dtype)):
        return PASS
    dc = np.zeros_like(dh) if type(dc) is int and dc == 0 else dc
    if not all(is_array(one, Wh.dtype) and one.shape == h.shape for one in (dh, dc, c_next, f, g, i, o)):
        return PASS
    dz, dc_prev = kernels.lstm_backward(dh, dc, c.astype(dh.dtype, copy=False), (c_next, f, g, i, o))
    dx, dWx, db = kernels.affine_backward(dz, x, Wx)
    dh_prev, dWh, _ = kernels.affine_backward(dz, h, Wh)
    return (dx, dh_prev, dc_prev, dWx, dWh, db) if is_tame(x, h, db, dx, dh_prev) else WASTED


def _is_cell(x: Any, h: Any, c: Any, Wx: Any, Wh: Any) -> bool:
    """Whether x (N, D), h and c (N, H) and the weights fit each other, and all results have the dtype of the weights."""
    if not (all(map(is_floating, (x, h, c))) and x.ndim == h.ndim == 2 and fits(x, Wx) and fits(h, Wh)):
        return False
    return bool(
        c.shape == h.shape and len(x) == len(h) and Wx.dtype == Wh.dtype and Wx.shape[1] == Wh.shape[1] == 4 * len(Wh)
    )
