"""ReLU: max(x, 0), and the mask that its gradient needs."""

from __future__ import annotations

import numpy as np

from .arrays import flat, strided
from .compiler import kernel
from .simd import at, put
from .threads import begin, meet, run, share, threads_for

WORTH_A_THREAD = 1_000_000  # numbers; below, a second thread costs more than it brings


def relu_forward(x):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there. NaN passes."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    threads = threads_for(x.size, WORTH_A_THREAD)
    if x.ndim == 4 and not x.flags.c_contiguous:
        memory, steps = strided(x)
        run(_forward_strided, threads, memory, steps, x.shape, flat(out), flat(mask))
    else:
        run(_forward, threads, flat(x), flat(out), flat(mask))
    return out, mask


def relu_backward(dout, mask, out=None):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True; `out`, which may be dout, or new."""
    dx = np.empty(dout.shape, dout.dtype) if out is None else out
    threads = threads_for(dx.size, WORTH_A_THREAD)
    if dx.ndim == 4 and not (dout.flags.c_contiguous and dx.flags.c_contiguous):
        run(_backward_strided, threads, *strided(dout), dout.shape, flat(mask), *strided(dx))
    elif dx.flags.carray:
        run(_backward, threads, flat(dout), flat(mask), flat(dx))
    else:
        dx[...] = relu_backward(dout, mask)
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
def _forward_strided(thread, threads, control, x, steps, shape, out, mask):
    """x (N, C, H, W) in any layout, out and mask in C order: what a convolution gives lies as (N, H, W, C)."""
    begin(control, thread)
    zero = x.dtype.type(0)
    first, end = share(shape[0] * shape[1], thread, threads)
    for image in range(first, end):
        start = image // shape[1] * steps[0] + image % shape[1] * steps[1]
        target = image * shape[2] * shape[3]
        for y in range(shape[2]):
            for i in range(shape[3]):
                number = at(x, start + y * steps[2] + i * steps[3])
                masked = number <= zero
                put(mask, target, masked)
                put(out, target, zero if masked else number)
                target += 1
    meet(control, 1, threads)


@kernel
def _backward(thread, threads, control, dout, mask, dx):
    begin(control, thread)
    zero = dout.dtype.type(0)
    first, end = share(dout.size, thread, threads)
    for i in range(first, end):
        put(dx, i, zero if at(mask, i) else at(dout, i))
    meet(control, 1, threads)


@kernel
def _backward_strided(thread, threads, control, dout, steps, shape, mask, dx, dx_steps):
    """dout and dx (N, C, H, W) in any layout, the mask in C order."""
    begin(control, thread)
    zero = dout.dtype.type(0)
    first, end = share(shape[0] * shape[1], thread, threads)
    for image in range(first, end):
        n, c, place = image // shape[1], image % shape[1], image * shape[2] * shape[3]
        source, target = n * steps[0] + c * steps[1], n * dx_steps[0] + c * dx_steps[1]
        for y in range(shape[2]):
            for i in range(shape[3]):
                number = at(dout, source + y * steps[2] + i * steps[3])
                put(dx, target + y * dx_steps[2] + i * dx_steps[3], zero if at(mask, place) else number)
                place += 1
    meet(control, 1, threads)
