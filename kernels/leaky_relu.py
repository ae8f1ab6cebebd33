"""Leaky ReLU: x where x > 0, slope * x elsewhere (Maas et al. 2013)."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, put
from .threads import next_part, run, share, threads_for

SLOPE = 0.01  # in networks
WORTH_A_THREAD = 1_000_000  # numbers; below, a second thread costs more than it brings


def leaky_relu_forward(x, slope):
    """x (any shape), slope -> out, mask, like x: out is slope * x where x <= 0, mask is True there. NaN passes."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    run(_forward, threads_for(x.size, WORTH_A_THREAD), flat(x), x.dtype.type(slope), flat(out), flat(mask))
    return out, mask


def leaky_relu_backward(dout, mask, slope):
    """dout (any shape), mask (the same), slope -> dx: dout, and slope * dout where the mask is True."""
    dx = np.empty(dout.shape, dout.dtype)
    run(_backward, threads_for(dx.size, WORTH_A_THREAD), flat(dout), flat(mask), dout.dtype.type(slope), flat(dx))
    return dx


@kernel
def _forward(thread, threads, control, x, slope, out, mask):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(x.size, part, threads)
        for i in range(first, end):
            masked = at(x, i) <= 0
            put(mask, i, masked)
            put(out, i, slope * at(x, i) if masked else at(x, i))
        part = next_part(control, thread, threads, part)


@kernel
def _backward(thread, threads, control, dout, mask, slope, dx):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(dout.size, part, threads)
        for i in range(first, end):
            put(dx, i, slope * at(dout, i) if at(mask, i) else at(dout, i))
        part = next_part(control, thread, threads, part)
