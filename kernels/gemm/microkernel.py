"""The micro-kernel: six rows of c by one panel of columns, 12 sums that stay in registers while k runs.

Each iteration of its loop loads two vectors of b and six numbers of a, and does 12 multiply-adds. The blocks around it
are Goto's (Anatomy of High-Performance Matrix Multiplication, 2008), named as in BLIS: see product.py.

`unknown` keeps LLVM from making a pointer of its own for each of the six rows: adding seven numbers in every iteration
takes the ports that multiply-adds need. Where there are 32 registers, two panels are taken at once. With these, the bias
in the first sums and half a panel where that is enough, one core with AVX-512 takes for (100, 784) @ (784, 50) 0.8 to 0.9
of the time, for (100, 100) @ (100, 100) 0.75, for (256, 784) @ (784, 512) 0.8 to 0.85, and two cores for a step of
784-512-256-10, batch 256, float64, 0.85. With vectors of 32 bytes calls take 0.9 to 1 of the time.

Measured and rejected: two k in an iteration, 4 % for twice the code; the end of each row written out, 0 to 3 % for 6 % more
to compile; blocks of 100 to 264 k instead of 400, and of 96 to 264 rows instead of 48, with two panels at once: 0 to 4 %.
Measured and rejected, float32, one AVX2 core, (96, 784) @ (784, 64), GFLOP/s: plain loops that Numba vectorises 20; the
same micro-kernel with a's numbers converted from float64 or uint8 inside the loop 18 to 35, against 53 where that was done
before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..runtime.compiler import device
from ..runtime.processors import VECTOR_BYTES
from ..runtime.simd import (
    add,
    broadcast,
    fill,
    fma,
    lanes,
    load,
    multiply,
    store,
    unknown,
    where_positive,
    zeros,
)
from .matrices import column_place, row_place_up_to

HAS_32_REGISTERS = VECTOR_BYTES == 64  # AVX-512; the 24 sums of two panels do not fit into the 16 of AVX2
AS_IT_IS, POSITIVE_PART, GATED = range(3)  # what comes after a product


class Epilogue(NamedTuple):
    """What becomes of the sums: they are multiplied by alpha and, unless beta is 0, added to c; then comes `gate`.

    gate: AS_IT_IS; POSITIVE_PART; or GATED: 0 where what lies z_offset after the number in c is not above 0.
    """

    alpha: Any
    beta_is_zero: bool
    gate: int
    z_offset: int


@device
def micro_kernel(c, a, b, initial, rows, depth, epilogue):
    """c (rows <= 6, one panel) = epilogue(initial + a (rows, depth) @ b (depth, one panel)).

    c, b: Matrix whose columns are next to each other; a: Matrix or IndirectMatrix; initial: a pair of vectors, from which
    every row begins.
    """
    width = lanes(b.array)
    last = rows - 1  # rows that are not there are computed as copies of the last one, and not stored
    i0, i1, i2 = row_place_up_to(a, 0, last), row_place_up_to(a, 1, last), row_place_up_to(a, 2, last)
    i3, i4, i5 = row_place_up_to(a, 3, last), row_place_up_to(a, 4, last), row_place_up_to(a, 5, last)
    l0 = l1 = l2 = l3 = l4 = l5 = initial[0]
    r0 = r1 = r2 = r3 = r4 = r5 = initial[1]
    for k in range(depth):
        row, column = b.start + k * b.row_step, unknown(column_place(a, k))
        left, right = load(b.array, row), load(b.array, row + width)
        v = broadcast(b.array, a.array, i0 + column)
        l0, r0 = fma(v, left, l0), fma(v, right, r0)
        v = broadcast(b.array, a.array, i1 + column)
        l1, r1 = fma(v, left, l1), fma(v, right, r1)
        v = broadcast(b.array, a.array, i2 + column)
        l2, r2 = fma(v, left, l2), fma(v, right, r2)
        v = broadcast(b.array, a.array, i3 + column)
        l3, r3 = fma(v, left, l3), fma(v, right, r3)
        v = broadcast(b.array, a.array, i4 + column)
        l4, r4 = fma(v, left, l4), fma(v, right, r4)
        v = broadcast(b.array, a.array, i5 + column)
        l5, r5 = fma(v, left, l5), fma(v, right, r5)
    lefts, rights = (l0, l1, l2, l3, l4, l5), (r0, r1, r2, r3, r4, r5)
    for i in range(rows):
        finish_row(c, i, lefts[i], rights[i], epilogue)


@device
def finish_row(c, i, left, right, epilogue):
    """Row i of the result."""
    place, width = c.start + i * c.row_step, lanes(c.array)
    if not epilogue.beta_is_zero:
        scale = fill(c.array, epilogue.alpha)
        left, right = fma(scale, left, load(c.array, place)), fma(scale, right, load(c.array, place + width))
    if epilogue.gate == POSITIVE_PART:
        left, right = where_positive(left, left), where_positive(right, right)
    elif epilogue.gate == GATED:
        z = place + epilogue.z_offset
        left, right = where_positive(load(c.array, z), left), where_positive(load(c.array, z + width), right)
    store(c.array, place, left)
    store(c.array, place + width, right)


def _double_kernel(c, a, b, initial, rows, depth, epilogue):
    """`micro_kernel` for two panels at once, 24 sums, where the processor has 32 registers: a is read half as often.

    c, b: pairs of what `micro_kernel` takes; initial: four vectors.
    """
    width, array = lanes(b[0].array), b[0].array
    last = rows - 1
    i0, i1, i2 = row_place_up_to(a, 0, last), row_place_up_to(a, 1, last), row_place_up_to(a, 2, last)
    i3, i4, i5 = row_place_up_to(a, 3, last), row_place_up_to(a, 4, last), row_place_up_to(a, 5, last)
    p0, q0, r0, s0 = p1, q1, r1, s1 = p2, q2, r2, s2 = initial
    p3, q3, r3, s3 = p4, q4, r4, s4 = p5, q5, r5, s5 = initial
    for k in range(depth):
        column, left, right = (
            unknown(column_place(a, k)),
            b[0].start + k * b[0].row_step,
            b[1].start + k * b[1].row_step,
        )
        w, x, y, z = load(array, left), load(array, left + width), load(array, right), load(array, right + width)
        v = broadcast(array, a.array, i0 + column)
        p0, q0, r0, s0 = fma(v, w, p0), fma(v, x, q0), fma(v, y, r0), fma(v, z, s0)
        v = broadcast(array, a.array, i1 + column)
        p1, q1, r1, s1 = fma(v, w, p1), fma(v, x, q1), fma(v, y, r1), fma(v, z, s1)
        v = broadcast(array, a.array, i2 + column)
        p2, q2, r2, s2 = fma(v, w, p2), fma(v, x, q2), fma(v, y, r2), fma(v, z, s2)
        v = broadcast(array, a.array, i3 + column)
        p3, q3, r3, s3 = fma(v, w, p3), fma(v, x, q3), fma(v, y, r3), fma(v, z, s3)
        v = broadcast(array, a.array, i4 + column)
        p4, q4, r4, s4 = fma(v, w, p4), fma(v, x, q4), fma(v, y, r4), fma(v, z, s4)
        v = broadcast(array, a.array, i5 + column)
        p5, q5, r5, s5 = fma(v, w, p5), fma(v, x, q5), fma(v, y, r5), fma(v, z, s5)
    p, q, r, s = (p0, p1, p2, p3, p4, p5), (q0, q1, q2, q3, q4, q5), (r0, r1, r2, r3, r4, r5), (s0, s1, s2, s3, s4, s5)
    for i in range(rows):
        finish_row(c[0], i, p[i], q[i], epilogue)
        finish_row(c[1], i, r[i], s[i], epilogue)


def _no_double_kernel(c, a, b, initial, rows, depth, epilogue):
    """With fewer registers, nobody calls it, and there is nothing to compile."""


double_kernel = device(_double_kernel if HAS_32_REGISTERS else _no_double_kernel)


@device
def half_panel_kernel(c, a, b, initial, rows, depth, is_first):
    """c (rows <= 6, half a panel) = initial + a (rows, depth) @ b (depth, half a panel), or that added to c.

    A panel of which there are no more columns than this takes 0.6 of a whole one's time so. initial: one vector.
    """
    last = rows - 1
    i0, i1, i2 = row_place_up_to(a, 0, last), row_place_up_to(a, 1, last), row_place_up_to(a, 2, last)
    i3, i4, i5 = row_place_up_to(a, 3, last), row_place_up_to(a, 4, last), row_place_up_to(a, 5, last)
    s0 = s1 = s2 = s3 = s4 = s5 = initial
    for k in range(depth):
        v, column = load(b.array, b.start + k * b.row_step), unknown(column_place(a, k))
        s0 = fma(broadcast(b.array, a.array, i0 + column), v, s0)
        s1 = fma(broadcast(b.array, a.array, i1 + column), v, s1)
        s2 = fma(broadcast(b.array, a.array, i2 + column), v, s2)
        s3 = fma(broadcast(b.array, a.array, i3 + column), v, s3)
        s4 = fma(broadcast(b.array, a.array, i4 + column), v, s4)
        s5 = fma(broadcast(b.array, a.array, i5 + column), v, s5)
    sums = s0, s1, s2, s3, s4, s5
    for i in range(rows):
        place = c.start + i * c.row_step
        store(c.array, place, sums[i] if is_first else add(sums[i], load(c.array, place)))


@device
def row_kernel(c, a, b, initial, depth):
    """c (one panel) = initial (the same) + a (1, depth) @ b (depth, one panel): for products of few rows.

    c, initial: Span; a, b: Matrix. Eight sums, of every fourth k, or each addition would wait for the one before it.
    """
    width, whole = lanes(b.array), depth // 4 * 4
    l0, r0 = load(initial.array, initial.start), load(initial.array, initial.start + width)
    l1 = r1 = l2 = r2 = l3 = r3 = zeros(b.array)
    i, row = a.start, b.start
    for _ in range(0, whole, 4):
        v = broadcast(b.array, a.array, i)
        l0, r0 = fma(v, load(b.array, row), l0), fma(v, load(b.array, row + width), r0)
        i, row = i + a.column_step, row + b.row_step
        v = broadcast(b.array, a.array, i)
        l1, r1 = fma(v, load(b.array, row), l1), fma(v, load(b.array, row + width), r1)
        i, row = i + a.column_step, row + b.row_step
        v = broadcast(b.array, a.array, i)
        l2, r2 = fma(v, load(b.array, row), l2), fma(v, load(b.array, row + width), r2)
        i, row = i + a.column_step, row + b.row_step
        v = broadcast(b.array, a.array, i)
        l3, r3 = fma(v, load(b.array, row), l3), fma(v, load(b.array, row + width), r3)
        i, row = i + a.column_step, row + b.row_step
    for _ in range(whole, depth):
        v = broadcast(b.array, a.array, i)
        l0, r0 = fma(v, load(b.array, row), l0), fma(v, load(b.array, row + width), r0)
        i, row = i + a.column_step, row + b.row_step
    store(c.array, c.start, add(add(l0, l1), add(l2, l3)))
    store(c.array, c.start + width, add(add(r0, r1), add(r2, r3)))


@device
def outer_kernel(c, a, d, rows, alpha):
    """c (rows, one panel) += alpha * a (rows, 1) @ d (1, one panel): the update of W after one sample.

    c, a: Matrix; d: Span.
    """
    array, width, scale = c.array, lanes(c.array), fill(c.array, alpha)
    left, right = multiply(scale, load(d.array, d.start)), multiply(scale, load(d.array, d.start + width))
    place, i = c.start, a.start
    for _ in range(rows):
        v = broadcast(array, a.array, i)
        store(array, place, fma(v, left, load(array, place)))
        store(array, place + width, fma(v, right, load(array, place + width)))
        place, i = place + c.row_step, i + a.row_step
