"""Dropout (Srivastava et al., 2014): a mask of random draws, and the product with it."""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import flat
from ..runtime.chunks import chunks
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 500_000  # numbers


def dropout_forward(x, draws, ratio, scale):
    """x (any shape), draws (the same, float64) -> out, mask: mask = draws > ratio, out = x * mask * scale."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    run(_forward, threads, flat(out), flat(mask), flat(x), flat(draws), float(ratio), x.dtype.type(scale))
    return out, mask


def dropout_backward(dout, mask, scale):
    """dout (any shape), mask (the same) -> dx = dout * mask * scale."""
    dx = np.empty(dout.shape, dout.dtype)
    threads = threads_for(dout.size, PARALLEL_THRESHOLD)
    run(_backward, threads, flat(dx), flat(dout), flat(mask), dout.dtype.type(scale))
    return dx


@parallel_kernel
def _forward(work, out, mask, x, draws, ratio, scale):
    zero = x.dtype.type(0)
    for first, end in chunks(work, 1, x.size):
        for i in range(first, end):
            kept = load_scalar(draws, i) > ratio
            store_scalar(mask, i, kept)
            store_scalar(out, i, load_scalar(x, i) * (scale if kept else zero))  # a product: NaN and -0.0 are NumPy's


@parallel_kernel
def _backward(work, dx, dout, mask, scale):
    zero = dout.dtype.type(0)
    for first, end in chunks(work, 1, dout.size):
        for i in range(first, end):
            store_scalar(dx, i, load_scalar(dout, i) * (scale if load_scalar(mask, i) else zero))
