"""Leaky ReLU: x where x > 0, slope * x elsewhere (Maas et al. 2013)."""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.threads import parallel_kernel, run

SLOPE = 0.01  # in networks
PARALLEL_THRESHOLD = 1_000_000  # numbers; below, a second thread costs more than it brings


def leaky_relu_forward(x, slope):
    """x (any shape), slope -> out, mask, like x: out is slope * x where x <= 0, mask is True there. NaN passes."""
    out, mask = empty(x.shape, x.dtype), empty(x.shape, np.bool_)
    run(_forward, threads_for(x.size, PARALLEL_THRESHOLD), flat(out), flat(mask), flat(x), x.dtype.type(slope))
    return out, mask


def leaky_relu_backward(dout, mask, slope):
    """dout (any shape), mask (the same), slope -> dx: dout, and slope * dout where the mask is True."""
    dx = empty(dout.shape, dout.dtype)
    run(_backward, threads_for(dx.size, PARALLEL_THRESHOLD), flat(dx), flat(dout), flat(mask), dout.dtype.type(slope))
    return dx


@parallel_kernel
def _forward(work, out, mask, x, slope):
    for first, end in chunks(work, 1, x.size):
        for i in range(first, end):
            masked = load_scalar(x, i) <= 0
            store_scalar(mask, i, masked)
            store_scalar(out, i, slope * load_scalar(x, i) if masked else load_scalar(x, i))


@parallel_kernel
def _backward(work, dx, dout, mask, slope):
    for first, end in chunks(work, 1, dout.size):
        for i in range(first, end):
            store_scalar(dx, i, slope * load_scalar(dout, i) if load_scalar(mask, i) else load_scalar(dout, i))
