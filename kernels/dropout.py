"""Dropout (Srivastava et al., 2014): a mask of random draws, and the product with it."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, put
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 500_000  # numbers


def dropout_forward(x, draws, ratio, scale):
    """x (any shape), draws (the same, float64) -> out, mask: mask = draws > ratio, out = x * mask * scale."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    threads = threads_for(x.size, WORTH_A_THREAD)
    run(_forward, threads, flat(x), flat(draws), float(ratio), x.dtype.type(scale), flat(out), flat(mask))
    return out, mask


def dropout_backward(dout, mask, scale):
    """dout (any shape), mask (the same) -> dx = dout * mask * scale."""
    dx = np.empty(dout.shape, dout.dtype)
    run(
        _backward, threads_for(dout.size, WORTH_A_THREAD), flat(dout), flat(mask), dout.dtype.type(scale), flat(dx)
    )  # fmt: skip
    return dx


@kernel
def _forward(thread, threads, control, x, draws, ratio, scale, out, mask):
    zero = x.dtype.type(0)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(x.size, part, threads)
        for i in range(first, end):
            kept = at(draws, i) > ratio
            put(mask, i, kept)
            put(out, i, at(x, i) * (scale if kept else zero))  # a product: NaN and -0.0 are NumPy's
        part = next_part(control, thread, threads, part)


@kernel
def _backward(thread, threads, control, dout, mask, scale, dx):
    zero = dout.dtype.type(0)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(dout.size, part, threads)
        for i in range(first, end):
            put(dx, i, at(dout, i) * (scale if at(mask, i) else zero))
        part = next_part(control, thread, threads, part)
