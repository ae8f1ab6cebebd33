"""ReLU: max(x, 0), and the mask that its gradient needs.

Numbers are chosen by their bits, & 0 or & -1: a choice between floating point numbers becomes a branch, and for numbers
without order half of the branches are mispredicted (8 ns each, against 1).
"""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat, strided
from ..runtime.chunks import chunks
from ..runtime.processors import threads_for
from ..runtime.simd import as_number, load_scalar, store_scalar
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 300_000  # numbers; below, a second thread costs more than it brings


def relu_forward(x, strict=False):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there; strict: where x < 0. NaN passes."""
    bound = -float(np.finfo(x.dtype).smallest_subnormal) if strict else 0.0  # the largest number to be masked
    out, mask = empty(x.shape, x.dtype), empty(x.shape, np.bool_)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    if x.ndim == 4 and not x.flags.c_contiguous:
        memory, steps = strided(x)
        run(
            _forward_strided, threads, _bits(flat(out)), _bits(flat(mask)), memory, _bits(memory), steps, x.shape, bound
        )
    else:
        run(_forward, threads, _bits(flat(out)), _bits(flat(mask)), flat(x), _bits(flat(x)), bound)
    return out, mask


def relu_backward(dout, mask, out=None):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True; `out`, which may be dout, or new."""
    dx = empty(dout.shape, dout.dtype) if out is None else out
    threads = threads_for(dx.size, PARALLEL_THRESHOLD)
    if dx.ndim == 4 and not (dout.flags.c_contiguous and dx.flags.c_contiguous):
        (memory, steps), (dx_memory, dx_steps) = strided(dout), strided(dx)
        run(_backward_strided, threads, _bits(dx_memory), dx_steps, _bits(memory), steps, _bits(flat(mask)), dout.shape)
    elif dx.flags.carray:
        run(_backward, threads, _bits(flat(dx)), _bits(flat(dout)), _bits(flat(mask)))
    else:
        dx[...] = relu_backward(dout, mask)
    return dx


def _bits(memory):
    """Flat memory as signed integers."""
    return memory.view(f"i{memory.itemsize}")


@parallel_kernel
def _forward(work, out, mask, x, x_bits, bound):
    for first, end in chunks(work, 1, x.size):
        for i in range(first, end):
            masked = out.dtype.type(load_scalar(x, i) <= x.dtype.type(bound))
            store_scalar(mask, i, masked)
            store_scalar(out, i, load_scalar(x_bits, i) & (masked - out.dtype.type(1)))


@parallel_kernel
def _forward_strided(work, out, mask, x, x_bits, steps, shape, bound):
    """x (N, C, H, W) in any layout, out and mask in C order: what a convolution gives lies as (N, H, W, C)."""
    for first, end in chunks(work, 1, shape[0] * shape[2]):
        for line in range(first, end):
            n, y = line // shape[2], line % shape[2]
            for c in range(shape[1]):
                start = n * steps[0] + c * steps[1] + y * steps[2]
                target = ((n * shape[1] + c) * shape[2] + y) * shape[3]
                for i in range(shape[3]):
                    masked = as_number(load_scalar(x, start + i * steps[3]) <= x.dtype.type(bound))
                    store_scalar(mask, target + i, masked)
                    store_scalar(out, target + i, load_scalar(x_bits, start + i * steps[3]) & (masked - 1))


@parallel_kernel
def _backward(work, dx, dout, mask):
    for first, end in chunks(work, 1, dout.size):
        for i in range(first, end):
            store_scalar(dx, i, load_scalar(dout, i) & (dx.dtype.type(load_scalar(mask, i)) - dx.dtype.type(1)))


@parallel_kernel
def _backward_strided(work, dx, dx_steps, dout, steps, mask, shape):
    """dout and dx (N, C, H, W) in any layout, the mask in C order."""
    for first, end in chunks(work, 1, shape[0] * shape[2]):
        for line in range(first, end):
            n, y = line // shape[2], line % shape[2]
            for c in range(shape[1]):
                source = n * steps[0] + c * steps[1] + y * steps[2]
                target = n * dx_steps[0] + c * dx_steps[1] + y * dx_steps[2]
                place = ((n * shape[1] + c) * shape[2] + y) * shape[3]
                for i in range(shape[3]):
                    kept = dx.dtype.type(load_scalar(mask, place + i)) - dx.dtype.type(1)
                    store_scalar(dx, target + i * dx_steps[3], load_scalar(dout, source + i * steps[3]) & kept)
