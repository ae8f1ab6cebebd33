"""What recurrent layers do in one step of time, and in all, on the compiled kernels. See `layers`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..objects.arguments import LARGEST_EXPONENT, PASS, WASTED, Method, fits, is_array, is_floating
from ..objects.cells import Steps
from .kernel_calls import is_tame, kernels

OF_STEP = ("h_next", "c_next", "f", "g", "i", "o")  # what a step gives


def lstm_forward(x: Any, h: Any, c: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    """-> h_next, c_next, f, g, i, o, each (N, H). Wx (D, 4 H), Wh (H, 4 H), b (4 H,): of f, g, i and o, in this order."""
    if not (_is_cell(x, h, c, Wx, Wh) and is_array(b, Wh.dtype) and b.shape == Wh.shape[1:]):
        return PASS
    x, h, c = (one.astype(Wh.dtype, copy=False) for one in (x, h, c))  # of one dtype, kernels are compiled once
    of_x, of_h = kernels.affine_forward(x, Wx, b), kernels.affine_forward(h, Wh, np.zeros_like(b))
    largest = kernels.largest_magnitude(of_x) + kernels.largest_magnitude(of_h)
    if not (largest < LARGEST_EXPONENT[of_x.itemsize] and is_tame(c)):
        return WASTED
    return kernels.lstm_forward(of_x, of_h, c)


def lstm_backward(dh: Any, dc: Any, *kept: Any) -> Any:
    """-> dx (N, D), dh_prev, dc_prev (N, H), dWx, dWh, db. dc, the gradient of c_next, may be 0, as at the last step."""
    x, h, c, *of_step, Wx, Wh = kept
    if not (_is_cell(x, h, c, Wx, Wh) and is_floating(dh)):
        return PASS
    dc = np.zeros_like(dh) if type(dc) is int and dc == 0 else dc
    if not all(is_array(one, Wh.dtype) and one.shape == h.shape for one in of_step) or not is_floating(dc):
        return PASS
    if dh.shape != h.shape or dc.shape != h.shape:
        return PASS
    dh, dc, x, h, c, *of_step, Wx, Wh = _as_widest(dh, dc, x, h, c, *of_step, Wx, Wh)
    dz, dc_prev = kernels.lstm_backward(dh, dc, c, of_step)
    dx, dWx, db = kernels.affine_backward(dz, x, Wx)
    dh_prev, dWh, _ = kernels.affine_backward(dz, h, Wh)
    return (dx, dh_prev, dc_prev, dWx, dWh, db) if is_tame(x, h, db, dx, dh_prev) else WASTED


def _as_widest(*arrays: Any) -> list[Any]:
    """The arrays in the widest of their dtypes, in which NumPy computes with them."""
    dtype = np.result_type(*arrays)
    return [one.astype(dtype, copy=False) for one in arrays]


def _is_cell(x: Any, h: Any, c: Any, Wx: Any, Wh: Any) -> bool:
    """Whether x (N, D), h and c (N, H) and the weights fit each other, and all results have the dtype of the weights."""
    if not (all(map(is_floating, (x, h, c))) and x.ndim == h.ndim == 2 and fits(x, Wx) and fits(h, Wh)):
        return False
    return bool(
        c.shape == h.shape
        and len(x) == len(h)
        and np.result_type(c, Wh) == Wh.dtype == Wx.dtype
        and Wx.shape[1] == Wh.shape[1] == 4 * len(Wh)
    )


def time_lstm(dtype: str, is_afresh: bool = False) -> Method:
    """All steps of an LSTM. dtype: of what the layer gives; is_afresh: where h and c are 0 at the beginning of each call.

    The product with x is made of all steps at once.
    """

    def time_lstm_forward(x: Any, h: Any, c: Any, Wx: Any, Wh: Any, b: Any, cell: Any) -> Any:
        """x (N, T, D), h, c (N, H) or None -> out (N, T, H), h, c of the last step, and Steps."""
        if cell is None or not is_floating(x) or x.ndim != 3 or not x.size or type(Wh) is not np.ndarray:
            return PASS
        state = (len(x), len(Wh))
        h = np.zeros(state, dtype) if h is None or is_afresh else h
        c = np.zeros(state, dtype) if c is None or is_afresh else c
        if not (_is_cell(x[:, 0], h, c, Wx, Wh) and is_array(b, Wh.dtype) and b.shape == Wh.shape[1:]):
            return PASS
        of_x, rest = kernels.affine_forward(_by_time(x, Wh.dtype), Wx, b), np.zeros_like(b)
        largest, limit = kernels.largest_magnitude(of_x), LARGEST_EXPONENT[of_x.itemsize]
        made, out = [], np.empty((*x.shape[:2], len(Wh)), dtype)
        for time in range(x.shape[1]):
            of_h = kernels.affine_forward(h.astype(Wh.dtype, copy=False), Wh, rest)
            if not (largest + kernels.largest_magnitude(of_h) < limit and is_tame(c)):
                return WASTED
            here = of_x[time * len(x) : (time + 1) * len(x)]
            results = kernels.lstm_forward(here, of_h, c.astype(Wh.dtype, copy=False))
            made.append({"h": h, "c": c, **dict(zip(OF_STEP, results, strict=True))})
            h, c = results[:2]
            out[:, time] = h
        return out, h, c, Steps(cell, x, (Wx, Wh, b), made, [])

    return time_lstm_forward


def time_lstm_gradient(dtype: str) -> Method:
    """All steps back; dtype: of dx. The products for the weights' gradients are made of all steps at once."""

    def time_lstm_backward(dout: Any, steps: Any, Wx: Any, Wh: Any) -> Any:
        """dout (N, T, H) -> dx (N, T, D), dh, the gradient of the first h, dWx, dWh, db, and Steps with their gradients."""
        if steps is None or not all(one is other for one, other in zip((Wx, Wh), steps.weights, strict=False)):
            return PASS
        x, made = steps.x, steps.made
        if not is_floating(dout) or dout.shape != (*x.shape[:2], len(Wh)):
            return PASS
        gradients = _of_steps(dout, made, Wh)
        dz, before = (np.concatenate([one[name] for one in of]) for name, of in (("dz", gradients), ("h", made)))
        dz, before, Wx, Wh = _as_widest(dz, before, Wx, Wh)
        rows = _by_time(x, dz.dtype)
        of_x, dWx, db = kernels.affine_backward(dz, rows, Wx)
        dWh, dh = kernels.affine_backward(dz, before, Wh, False)[1], gradients[0]["dh_prev"]
        if not is_tame(rows, before, db, of_x, dh):
            return WASTED
        dx = np.empty(x.shape, dtype)
        dx[...] = of_x.reshape(x.shape[1], *of_x[: len(x)].shape).swapaxes(0, 1)
        for time, one in enumerate(gradients):
            here = slice(time * len(x), (time + 1) * len(x))
            one.update(dx=of_x[here], given=(rows[here], before[here]))
        return dx, dh, dWx, dWh, db, steps._replace(gradients=gradients)

    return time_lstm_backward


def _of_steps(dout: Any, made: list[dict[str, Any]], Wh: Any) -> list[dict[str, Any]]:
    """For each step dz (N, 4 H), the gradient of its gates' sums, and the gradients of the h and c before it."""
    gradients, (dh, dc), none = [], np.zeros((2, *dout[:, 0].shape), dout.dtype), np.zeros(len(Wh), Wh.dtype)
    for time in reversed(range(len(made))):
        here = made[time]
        dh, dc, c, W, zeros, *of_step = _as_widest(
            dout[:, time] + dh, dc, here["c"], Wh, none, *(here[role] for role in OF_STEP[1:])
        )
        dz, dc = kernels.lstm_backward(dh, dc, c, of_step)
        dh = kernels.affine_forward(dz, W.T, zeros)
        gradients.append({"dz": dz, "dh_prev": dh, "dc_prev": dc})
    return gradients[::-1]


def _by_time(x: Any, dtype: Any) -> Any:
    """A copy of x (N, T, D) as rows (T * N, D) of this dtype, those of the first step first."""
    return np.array(x.swapaxes(0, 1), dtype, order="C").reshape(-1, x.shape[2])
