"""ReLU: max(x, 0), and the mask that its gradient needs.

Numbers are chosen by their bits, & 0 or & -1: a choice between floating point numbers becomes a branch, and for numbers
without order half of the branches are mispredicted (8 ns each, against 1).
"""

from __future__ import annotations

import numpy as np

from .arrays import flat, strided
from .compiler import kernel
from .simd import as_number, at, put
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 300_000  # numbers; below, a second thread costs more than it brings


def relu_forward(x):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there. NaN passes."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    threads = threads_for(x.size, WORTH_A_THREAD)
    if x.ndim == 4 and not x.flags.c_contiguous:
        memory, steps = strided(x)
        run(_forward_strided, threads, memory, _bits(memory), steps, x.shape, _bits(flat(out)), _bits(flat(mask)))
    else:
        run(_forward, threads, flat(x), _bits(flat(x)), _bits(flat(out)), _bits(flat(mask)))
    return out, mask


def relu_backward(dout, mask, out=None):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True; `out`, which may be dout, or new."""
    dx = np.empty(dout.shape, dout.dtype) if out is None else out
    threads = threads_for(dx.size, WORTH_A_THREAD)
    if dx.ndim == 4 and not (dout.flags.c_contiguous and dx.flags.c_contiguous):
        (memory, steps), (dx_memory, dx_steps) = strided(dout), strided(dx)
        run(
            _backward_strided, threads, _bits(memory), steps, dout.shape, _bits(flat(mask)), _bits(dx_memory), dx_steps
        )  # fmt: skip
    elif dx.flags.carray:
        run(_backward, threads, _bits(flat(dout)), _bits(flat(mask)), _bits(flat(dx)))
    else:
        dx[...] = relu_backward(dout, mask)
    return dx


def _bits(memory):
    """Flat memory as signed integers."""
    return memory.view(f"i{memory.itemsize}")


@kernel
def _forward(thread, threads, control, x, x_bits, out, mask):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(x.size, part, threads)
        for i in range(first, end):
            masked = out.dtype.type(at(x, i) <= x.dtype.type(0))
            put(mask, i, masked)
            put(out, i, at(x_bits, i) & (masked - out.dtype.type(1)))
        part = next_part(control, thread, threads, part)


@kernel
def _forward_strided(thread, threads, control, x, x_bits, steps, shape, out, mask):
    """x (N, C, H, W) in any layout, out and mask in C order: what a convolution gives lies as (N, H, W, C)."""
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0] * shape[2], part, threads)
        for line in range(first, end):
            n, y = line // shape[2], line % shape[2]
            for c in range(shape[1]):
                start = n * steps[0] + c * steps[1] + y * steps[2]
                target = ((n * shape[1] + c) * shape[2] + y) * shape[3]
                for i in range(shape[3]):
                    masked = as_number(at(x, start + i * steps[3]) <= x.dtype.type(0))
                    put(mask, target + i, masked)
                    put(out, target + i, at(x_bits, start + i * steps[3]) & (masked - 1))
        part = next_part(control, thread, threads, part)


@kernel
def _backward(thread, threads, control, dout, mask, dx):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(dout.size, part, threads)
        for i in range(first, end):
            put(dx, i, at(dout, i) & (dx.dtype.type(at(mask, i)) - dx.dtype.type(1)))
        part = next_part(control, thread, threads, part)


@kernel
def _backward_strided(thread, threads, control, dout, steps, shape, mask, dx, dx_steps):
    """dout and dx (N, C, H, W) in any layout, the mask in C order."""
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0] * shape[2], part, threads)
        for line in range(first, end):
            n, y = line // shape[2], line % shape[2]
            for c in range(shape[1]):
                source = n * steps[0] + c * steps[1] + y * steps[2]
                target = n * dx_steps[0] + c * dx_steps[1] + y * dx_steps[2]
                place = ((n * shape[1] + c) * shape[2] + y) * shape[3]
                for i in range(shape[3]):
                    kept = dx.dtype.type(at(mask, place + i)) - dx.dtype.type(1)
                    put(dx, target + i * dx_steps[3], at(dout, source + i * steps[3]) & kept)
        part = next_part(control, thread, threads, part)
