"""ReLU: max(x, 0), and the mask that its gradient needs."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, put
from .threads import begin, meet, run, share, threads_for

WORTH_A_THREAD = 1_000_000  # numbers; below, a second thread costs more than it brings


def relu_forward(x):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there. NaN passes."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    run(_forward, threads_for(x.size, WORTH_A_THREAD), flat(x), flat(out), flat(mask))
    return out, mask


def relu_backward(dout, mask):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True."""
    dx = np.empty(dout.shape, dout.dtype)
    run(_backward, threads_for(dx.size, WORTH_A_THREAD), flat(dout), flat(mask), flat(dx))
    return dx


@kernel
def _forward(thread, threads, control, x, out, mask):
    begin(control, thread)
    zero = x.dtype.type(0)
    first, end = share(x.size, thread, threads)
    for i in range(first, end):
        masked = at(x, i) <= zero
        put(mask, i, masked)
        put(out, i, zero if masked else at(x, i))
    meet(control, 1, threads)


@kernel
def _backward(thread, threads, control, dout, mask, dx):
    begin(control, thread)
    zero = dout.dtype.type(0)
    first, end = share(dout.size, thread, threads)
    for i in range(first, end):
        put(dx, i, zero if at(mask, i) else at(dout, i))
    meet(control, 1, threads)
