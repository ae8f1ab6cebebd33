"""Dropout (Srivastava et al., 2014): a mask, and the product with it.

The mask is of random draws, or a function of the seed, the update, the layer, the row and the column: splitmix64 (Steele,
Lea, Flood 2014), counting columns. engine/dropout.py has the same function.
"""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 500_000  # numbers

_GOLDEN, _MIX1, _MIX2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_HIGH = np.float64(2.0**53)


def dropout_forward(x, draws, ratio, scale):
    """x (any shape), draws (the same, float64) -> out, mask: mask = draws > ratio, out = x * mask * scale."""
    out, mask = empty(x.shape, x.dtype), empty(x.shape, np.bool_)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    run(_forward, threads, flat(out), flat(mask), flat(x), flat(draws), float(ratio), x.dtype.type(scale))
    return out, mask


def seeded_dropout_forward(x, draw, ratio, scale):
    """x (N, D), draw: seed, step, layer, rows (N,) -> out, mask: out = x * scale where mask is set, 0 elsewhere."""
    out, mask = empty(x.shape, x.dtype), empty(x.shape, np.bool_)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    keys = np.array([draw.seed, draw.step, draw.layer], np.int64)
    numbers = flat(draw.rows.astype(np.int64, copy=False))
    run(_seeded, threads, (flat(out), flat(mask)), flat(x), numbers, keys, 1 - float(ratio), x.dtype.type(scale))
    return out, mask


def dropout_backward(dout, mask, scale):
    """dout (any shape), mask (the same) -> dx = dout * mask * scale."""
    dx = empty(dout.shape, dout.dtype)
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
def _seeded(work, results, x, numbers, keys, keep, scale):
    """results: out, mask; keys: the seed, and the numbers of the update and the layer."""
    (out, mask), rows = results, len(numbers)
    columns = x.size // rows if rows > 0 else 0
    start, bound = layer_state(keys[0], keys[1], keys[2]), np.uint64(keep * _HIGH)
    for first, end in chunks(work, 1, rows):
        for i in range(first, end):
            state = row_state(start, load_scalar(numbers, i))
            for j in range(columns):
                kept = is_kept(state, j, bound)
                store_scalar(mask, i * columns + j, kept)
                store_scalar(out, i * columns + j, load_scalar(x, i * columns + j) * scale if kept else x.dtype.type(0))


@device
def layer_state(seed, step, layer):
    return splitmix64(splitmix64(np.uint64(seed)) + np.uint64(step)) + np.uint64(layer)


@device
def row_state(start, row):
    return splitmix64(splitmix64(start) + np.uint64(row))


@device
def is_kept(state, column, bound):
    return splitmix64(state + np.uint64(column)) >> np.uint64(11) < bound


@device
def splitmix64(state):
    state = state * _GOLDEN + _GOLDEN
    state = (state ^ state >> np.uint64(30)) * _MIX1
    state = (state ^ state >> np.uint64(27)) * _MIX2
    return state ^ state >> np.uint64(31)


@parallel_kernel
def _backward(work, dx, dout, mask, scale):
    zero = dout.dtype.type(0)
    for first, end in chunks(work, 1, dout.size):
        for i in range(first, end):
            store_scalar(dx, i, load_scalar(dout, i) * (scale if load_scalar(mask, i) else zero))
