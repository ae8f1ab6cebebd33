"""Affine for inputs that are mostly zeros, as images of digits are: only the numbers that are not zero are multiplied.

81 % of MNIST's pixels are zeros. Forward lists, row by row, where the others are; backward lists, feature by feature, the
rows in which it is not zero. Each sum stays in registers: a group of GROUP vectors of columns at a time; the last group
may overlap the one before it.

0 * inf is NaN, so what is skipped must meet finite numbers only: that is looked at first, and otherwise the result is
None and the dense products are made.
"""

from __future__ import annotations

import numpy as np

from .arrays import flat, scratch
from .compiler import kernel
from .machine import VECTOR_BYTES
from .simd import add, add_up, at, broadcast, fma, kept_apart, lanes, load, put, store, zeros
from .threads import begin, meet, run, share, threads_for

GROUP = 7
LARGEST_DENSITY = 0.35
SAMPLES = 1024  # numbers looked at to estimate the density
WORTH_LISTING = 1_000_000  # multiplications; below, dense products are as fast
WORTH_A_THREAD = 4_000_000  # dense multiplications


def is_sparse(x, W):
    """Whether x (N, D) @ W (D, M) repays the lists."""
    columns = W.shape[1]
    if len(x) < 4 or x.size * columns < WORTH_LISTING or not (x.flags.c_contiguous and W.flags.c_contiguous):
        return False
    return columns * W.itemsize >= GROUP * VECTOR_BYTES and _sample(flat(x)) < LARGEST_DENSITY * SAMPLES


def sparse_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> x @ W + b, (N, M), or None where W is not finite."""
    rows, depth = x.shape
    if not _finite(flat(W)):
        return None
    out = np.empty((rows, W.shape[1]), W.dtype)
    threads = threads_for(x.size * W.shape[1], WORTH_A_THREAD)
    places = scratch(threads * depth, np.dtype(np.int64))
    run(_forward, threads, flat(x), flat(W), flat(b), out.reshape(-1), places, rows, depth, W.shape[1])
    return out


def sparse_weights_gradient(dout, x):
    """dout (N, M), x (N, D) -> x.T @ dout, (D, M), or None where dout is not finite."""
    rows, depth = x.shape
    columns = dout.shape[1]
    if not _finite(flat(dout)):
        return None
    dW = np.empty((depth, columns), dout.dtype)
    threads = threads_for(x.size * columns, WORTH_A_THREAD)
    lists, counts = scratch(depth * rows, np.dtype(np.int32)), scratch(depth, np.dtype(np.int64))
    run(_transposed, threads, flat(x), flat(dout), dW.reshape(-1), lists, counts, rows, depth, columns)
    return dW


@kernel
def _sample(x):
    """How many of about SAMPLES numbers of x, evenly spread, are not zero."""
    step, found = max(1, x.size // SAMPLES) | 1, 0
    for i in range(0, x.size, step):
        found += at(x, i) != 0
    return found


@kernel
def _finite(x):
    """Whether all numbers are: 0 times them is 0, and NaN for the others."""
    even, odd, width = zeros(x), zeros(x), lanes(x)
    whole = x.size // (2 * width) * 2 * width
    for i in range(0, whole, 2 * width):
        even, odd = fma(load(x, i), zeros(x), even), fma(load(x, i + width), zeros(x), odd)
    total = add_up(add(even, odd))
    for i in range(whole, x.size):
        total += at(x, i) * x.dtype.type(0)
    return total == 0


@kernel
def _forward(thread, threads, control, x, W, b, out, places, rows, depth, columns):
    begin(control, thread)
    first, end = share(rows, thread, threads)
    listed, wide = thread * depth, GROUP * lanes(W)
    for i in range(first, end):
        count = 0
        for k in range(depth):
            put(places, listed + count, k)
            count += at(x, i * depth + k) != 0
        for left in range(0, columns, wide):
            left = min(left, columns - wide)
            add_products(
                x, i * depth, np.intp(1), places, listed, count, W, left, columns, b, left, out, i * columns + left
            )  # fmt: skip
    meet(control, 1, threads)


@kernel
def _transposed(thread, threads, control, x, dout, dW, lists, counts, rows, depth, columns):
    """Each thread has features of its own: lists[k] are the rows in which feature k is not zero, counts[k] how many."""
    begin(control, thread)
    first, end = share(depth, thread, threads)
    wide = GROUP * lanes(dW)
    for k in range(first, end):
        put(counts, k, 0)
    for i in range(rows):
        for k in range(first, end):
            put(lists, k * rows + at(counts, k), i)
            put(counts, k, at(counts, k) + (at(x, i * depth + k) != 0))
    for i in range(first * columns, end * columns):
        put(dW, i, 0)
    for k in range(first, end):
        if at(counts, k) == 0:
            continue
        for left in range(0, columns, wide):
            left = min(left, columns - wide)
            place = k * columns + left
            for j in range(wide):  # sums begin at 0, also where groups overlap
                put(dW, place + j, 0)
            add_products(
                x, k, depth, lists, k * rows, at(counts, k), dout, left, columns, dW, place, dW, place
            )  # fmt: skip
    meet(control, 1, threads)


@kernel(part=True)
def add_products(x, x0, x_step, places, p0, count, w, w0, w_step, start, s0, out, o0):
    """out (one group of columns) = start + the sum over listed p of x[x0 + p * x_step] * w[w0 + p * w_step]."""
    kept_apart()
    n = lanes(w)
    s1, s2, s3, s4, s5, s6, s7 = (
        load(start, s0), load(start, s0 + n), load(start, s0 + 2 * n), load(start, s0 + 3 * n),
        load(start, s0 + 4 * n), load(start, s0 + 5 * n), load(start, s0 + 6 * n),
    )  # fmt: skip
    for i in range(p0, p0 + count):
        place = np.intp(at(places, i))
        v, at_w = broadcast(w, x, x0 + place * x_step), w0 + place * w_step
        s1, s2 = fma(v, load(w, at_w), s1), fma(v, load(w, at_w + n), s2)
        s3, s4 = fma(v, load(w, at_w + 2 * n), s3), fma(v, load(w, at_w + 3 * n), s4)
        s5, s6 = fma(v, load(w, at_w + 4 * n), s5), fma(v, load(w, at_w + 5 * n), s6)
        s7 = fma(v, load(w, at_w + 6 * n), s7)
    store(out, o0, s1)
    store(out, o0 + n, s2)
    store(out, o0 + 2 * n, s3)
    store(out, o0 + 3 * n, s4)
    store(out, o0 + 4 * n, s5)
    store(out, o0 + 5 * n, s6)
    store(out, o0 + 6 * n, s7)
