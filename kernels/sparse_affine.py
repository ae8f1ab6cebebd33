"""Affine for inputs with many zeros, as images of digits have: a tile passes over what is zero in all of its six rows.

81 % of MNIST's pixels are zeros. Of six images 56 %, and of six neighbouring pixels of an image 66 %, are all zeros. So
x @ W goes by six rows of x, and x.T @ dout by six columns: the numbers where not all are zeros are listed and copied, six
by six, as tiles read them fastest (and converted: 60,000 images of float32 need no copy in float64). Then they are
multiplied by the listed rows of the other matrix, which is read where it is.

0 * inf is NaN, so what is passed over must meet finite numbers: that is looked at first, and otherwise the result is None
and the dense products are made. The last panel of columns may overlap the one before it.

Tried and lost, (100, 784) float32 @ (784, 50) float64 on one core: each row by itself, only its numbers that are not zero,
with all sums in registers. It has half the products, but no row of W is used twice, and the second-level cache delivers
them more slowly than a tile multiplies: 220 us against 170.
"""

from __future__ import annotations

import numpy as np

from .arrays import flat, scratch
from .compiler import kernel
from .machine import VECTOR_BYTES
from .magnitude import is_finite
from .matmul import ROWS, panel_width
from .simd import at, broadcast, fma, kept_apart, lanes, load, put, store
from .threads import most_parts, run, share, take, threads_for

LARGEST_DENSITY = 0.3
SAMPLES = 1024  # numbers looked at to estimate the density
WORTH_LISTING = 500_000  # multiplications; below, dense products are as fast
WORTH_A_THREAD = 3_000_000  # multiplications, zeros among them


def is_sparse(x, W):
    """Whether x (N, D) @ W (D, M) repays the lists."""
    columns = W.shape[1]
    if len(x) < ROWS or x.size * columns < WORTH_LISTING or not (x.flags.c_contiguous and W.flags.c_contiguous):
        return False
    return columns * W.itemsize >= 2 * VECTOR_BYTES and _sample(flat(x)) < LARGEST_DENSITY * SAMPLES


def sparse_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> x @ W + b, (N, M), or None where W is not finite."""
    if not is_finite(W):
        return None
    (rows, depth), columns = x.shape, W.shape[1]
    out = np.empty((rows, columns), W.dtype)
    threads = threads_for(x.size * columns, WORTH_A_THREAD)
    strips = scratch(threads * depth * ROWS, W.dtype)
    run(
        _forward, threads, *listing(flat(x), threads * depth), strips, flat(W), flat(b), out.reshape(-1), rows, depth,
        columns,
    )  # fmt: skip
    return out


def listing(numbers, places):
    """The flat x, its bits, and room for marks and lists of so many places."""
    bits = numbers.view(f"i{numbers.itemsize}")
    room = scratch(
        2 * places, np.dtype(np.intp)
    )  # scratch memory is one for each dtype: marks may have that of the lists
    return numbers, bits, room[places:].view(bits.dtype), room[:places]


@kernel
def _sample(x):
    """How many of about SAMPLES numbers of x, evenly spread, are not zero."""
    step, found = max(1, x.size // SAMPLES) | 1, 0
    for i in range(0, x.size, step):
        found += at(x, i) != 0
    return found


@kernel
def _forward(thread, threads, control, x, bits, marks, lists, strips, W, bias, out, rows, depth, columns):
    own, own_strip, parts = thread * depth, thread * depth * ROWS, most_parts(threads)
    part = take(control, 1, parts, thread, threads, -1)
    while part >= 0:
        first, end = share((rows + ROWS - 1) // ROWS, part, parts)
        for top in range(first * ROWS, min(end * ROWS, rows), ROWS):
            high = min(ROWS, rows - top)
            count = list_rows(x, bits, top * depth, depth, high, depth, marks, own, lists, own, strips, own_strip)
            listed_line(strips, own_strip, high, lists, own, count, W, columns, bias, out, top * columns)
        part = take(control, 1, parts, thread, threads, part)


@kernel(part=True)
def weights_gradient(part, parts, thread, x, bits, lists, strips, dout, zero, dW, rows, depth, columns):
    """This part of dW = x.T @ dout, in this thread's room: x (rows, depth), dout (rows, columns), zero (columns,)."""
    own, own_strip = thread * rows, thread * rows * ROWS
    first, end = share((depth + ROWS - 1) // ROWS, part, parts)
    for top in range(first * ROWS, min(end * ROWS, depth), ROWS):
        high = min(ROWS, depth - top)
        count = list_columns(x, bits, top, depth, high, rows, lists, own, strips, own_strip)
        listed_line(strips, own_strip, high, lists, own, count, dout, columns, zero, dW, top * columns)


@kernel(part=True)
def listed_line(strips, strip, high, lists, listed, count, b, columns, bias, out, o0):
    """out (high, columns) = bias + the listed strip times the listed rows of b (.., columns)."""
    width = panel_width(b)
    for left in range(0, columns, width):
        left = min(left, columns - width)
        listed_tile(strips, strip, high, lists, listed, count, b, left, columns, bias, left, out, o0 + left)


@kernel(part=True)
def list_rows(x, bits, x0, row_step, high, depth, marks, m0, lists, l0, strips, s0):
    """Six rows of x: in `lists` the k where not all are zero, in `strips` their numbers, [place][row]; how many.

    Whether all are zero is seen by their bits, in a loop that becomes vectors; -0.0 counts as a number.
    """
    kept_apart()
    last, count = high - 1, 0
    r1, r2, r3 = x0 + min(1, last) * row_step, x0 + min(2, last) * row_step, x0 + min(3, last) * row_step
    r4, r5 = x0 + min(4, last) * row_step, x0 + min(5, last) * row_step
    for k in range(depth):
        first, second = at(bits, x0 + k) | at(bits, r1 + k) | at(bits, r2 + k), at(bits, r3 + k) | at(bits, r4 + k)
        put(marks, m0 + k, first | second | at(bits, r5 + k))
    for k in range(depth):
        put(lists, l0 + count, k)
        count += np.intp(at(marks, m0 + k) != 0)
    for place in range(count):
        k, target = at(lists, l0 + place), s0 + place * ROWS
        put(strips, target, at(x, x0 + k))
        put(strips, target + 1, at(x, r1 + k))
        put(strips, target + 2, at(x, r2 + k))
        put(strips, target + 3, at(x, r3 + k))
        put(strips, target + 4, at(x, r4 + k))
        put(strips, target + 5, at(x, r5 + k))
    return count


@kernel(part=True)
def list_columns(x, bits, x0, k_step, high, depth, lists, l0, strips, s0):
    """The same for six neighbouring columns of x, whose k are `k_step` apart."""
    kept_apart()
    count = 0
    if high == ROWS:
        for k in range(depth):
            i = x0 + k * k_step
            first, second = at(bits, i) | at(bits, i + 1) | at(bits, i + 2), at(bits, i + 3) | at(bits, i + 4)
            put(lists, l0 + count, k)
            count += np.intp((first | second | at(bits, i + 5)) != 0)
    else:
        for k in range(depth):
            put(lists, l0 + k, k)
        count = depth
    for place in range(count):
        source, target = x0 + at(lists, l0 + place) * k_step, s0 + place * ROWS
        for i in range(high):
            put(strips, target + i, at(x, source + i))
    return count


@kernel(part=True)
def listed_tile(a, a0, rows, lists, l0, count, b, b0, b_step, start, start0, c, c0):
    """c (rows <= 6, one panel of b_step columns) = start + a [place][row] times the listed rows of b."""
    kept_apart()
    width = lanes(b)
    left, right = load(start, start0), load(start, start0 + width)
    l0_ = l1 = l2 = l3 = l4 = l5 = left
    r0 = r1 = r2 = r3 = r4 = r5 = right
    for place in range(l0, l0 + count):
        source = b0 + at(lists, place) * b_step
        left, right = load(b, source), load(b, source + width)
        v = broadcast(b, a, a0)
        l0_, r0 = fma(v, left, l0_), fma(v, right, r0)
        v = broadcast(b, a, a0 + 1)
        l1, r1 = fma(v, left, l1), fma(v, right, r1)
        v = broadcast(b, a, a0 + 2)
        l2, r2 = fma(v, left, l2), fma(v, right, r2)
        v = broadcast(b, a, a0 + 3)
        l3, r3 = fma(v, left, l3), fma(v, right, r3)
        v = broadcast(b, a, a0 + 4)
        l4, r4 = fma(v, left, l4), fma(v, right, r4)
        v = broadcast(b, a, a0 + 5)
        l5, r5 = fma(v, left, l5), fma(v, right, r5)
        a0 += ROWS
    store_row(c, c0, l0_, r0)
    if rows > 1:
        store_row(c, c0 + b_step, l1, r1)
    if rows > 2:
        store_row(c, c0 + 2 * b_step, l2, r2)
    if rows > 3:
        store_row(c, c0 + 3 * b_step, l3, r3)
    if rows > 4:
        store_row(c, c0 + 4 * b_step, l4, r4)
    if rows > 5:
        store_row(c, c0 + 5 * b_step, l5, r5)


@kernel(part=True)
def store_row(c, c0, left, right):
    store(c, c0, left)
    store(c, c0 + lanes(c), right)
