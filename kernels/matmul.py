"""Matrix products from register tiles: c += alpha * a @ b.

A tile is 6 rows of c by one *panel* of columns (two vectors): 12 sums that stay in registers while k runs. Each turn of
its loop loads two vectors of b and six numbers of a, and does 12 multiply-adds.

- `b` is read a panel at a time. In *panel layout* the panels lie one after the other, [panel][k][column], padded with
  zeros on the right, so that every load is a full, contiguous vector: `pack` makes it. A row-major matrix whose rows
  are padded to whole panels serves as well, with other steps.
- `a` is read a number at a time, where it is in memory. Where it is of another dtype, or transposed and deep, a block of
  it is copied first, in the order in which the tiles read it.
- `c` is written a panel wide too; its rows are padded like b's.

The blocks are Goto's (Anatomy of High-Performance Matrix Multiplication, 2008): K_BLOCK rows of a panel of b stay in the
first-level cache while ROW_BLOCK rows of a pass, which stay in the second-level cache while the panels pass.

Tried and lost, float32, one AVX2 core, (96, 784) @ (784, 64), GFLOP/s: plain loops that Numba vectorises 20; the same
tile with a's numbers converted from float64 or uint8 inside the loop 18 to 35, against 53 for converting before.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .simd import (
    add,
    at,
    broadcast,
    fill,
    fma,
    kept_apart,
    lanes,
    load,
    load_converted,
    multiply,
    put,
    store,
    where_positive,
    zeros,
)

ROWS = 6  # of a tile. With two vectors a row: 12 sums + 2 of b + 1 of a, the 16 registers of AVX2 less one
ROW_BLOCK = 8 * ROWS
FEW_ROWS = 3  # a tile of fewer rows than six takes as long as a full one; up to here, rows by themselves are faster
SHORT = 160  # up to this depth, a transposed block of `a` stays in the first-level cache, and need not be copied
K_BLOCK = 400  # a panel of b is then at most 25 KB
AS_IT_IS, POSITIVE_PART, GATED = range(3)  # what comes after a product, see multiply_through
SCRATCH = ROW_BLOCK * K_BLOCK  # numbers that `multiply_add_copied` needs to work in


@kernel(part=True)
def panel_width(like):
    """How many columns of like's dtype a panel has."""
    return 2 * lanes(like)


@kernel(part=True)
def pack(b, b0, k_step, column_step, depth, columns, panels, p0):
    """Copy b (depth, columns), which starts at b0, to panel layout, at p0 in `panels`."""
    kept_apart()
    width = panel_width(panels)
    for left in range(0, columns, width):
        wide = min(width, columns - left)
        for k in range(depth):
            source = b0 + k * k_step + left * column_step
            if wide == width and column_step == 1:
                for j in range(0, width, lanes(panels)):
                    store(panels, p0 + j, load(b, source + j))
            else:
                for j in range(wide):
                    put(panels, p0 + j, at(b, source + j * column_step))
                for j in range(wide, width):
                    put(panels, p0 + j, 0)
            p0 += width


@kernel(part=True)
def even_block(depth):
    """K_BLOCK or less, so that all blocks of k are about as long: every block reads and writes all of c once."""
    blocks = max(1, (depth + K_BLOCK - 1) // K_BLOCK)
    return max(1, (depth + blocks - 1) // blocks)


@kernel(part=True)
def multiply_add(a, a0, row_step, k_step, rows, depth, b, b0, b_step, b_panel, panels, c, c0, c_step, c_panel, alpha):
    """c (rows, panels) += alpha * a (rows, depth) @ b (depth, panels), a read where it is.

    A step is the distance between two rows; b_panel and c_panel are the distances between two panels of columns.
    """
    deep = even_block(depth)
    for k in range(0, depth, deep):
        for i in range(0, rows, ROW_BLOCK):
            multiply_block(
                a, a0 + i * row_step + k * k_step, ROWS * row_step, row_step, k_step, min(ROW_BLOCK, rows - i),
                min(deep, depth - k), b, b0 + k * b_step, b_step, b_panel, panels,
                c, c0 + i * c_step, c_step, c_panel, alpha,
            )  # fmt: skip


@kernel(part=True)
def multiply_through(memory, a, row_step, rows, depth, b, panels, c, c_step, start, finish, to_z):
    """c (rows, panels) = finish(start + a (rows, depth) @ b (depth, panels)) for a block of rows, all in `memory`.

    start: where a row of panels lies to begin from, or below 0, for zeros. finish: AS_IT_IS; POSITIVE_PART; or GATED: 0
    where what lies to_z after the number is not above 0. Both happen in the registers of the tiles. With passes of their
    own, over c in the cache, a step took 1.03 to 1.2 times as long (784-512-256-10, 10-100-1).
    """
    kept_apart()
    deep, panel, width, one = even_block(depth), panel_width(memory), lanes(memory), memory.dtype.type(1)
    for k in range(0, depth, deep):
        last = k + deep >= depth
        for p in range(panels):
            for i in range(0, rows, ROWS):
                left = right = zeros(memory)
                if k == 0 and start >= 0:
                    left, right = load(memory, start + p * panel), load(memory, start + p * panel + width)
                tile(
                    memory, a + i * row_step + k, row_step, np.intp(1), min(ROWS, rows - i), min(deep, depth - k),
                    memory, b + (p * depth + k) * panel, panel, memory, c + i * c_step + p * panel, c_step, one,
                    left, right, k == 0, finish if last else AS_IT_IS, to_z,
                )  # fmt: skip


@kernel(part=True)
def multiply_add_copied(
    a, a0, row_step, k_step, rows, depth, b, b0, b_step, b_panel, panels, c, c0, c_step, c_panel, alpha, scratch, s0
):  # fmt: skip
    """The same for an `a` of any real dtype, copied block by block to `scratch`, from s0."""
    deep = even_block(depth)
    for k in range(0, depth, deep):
        for i in range(0, rows, ROW_BLOCK):
            high, block = min(ROW_BLOCK, rows - i), min(deep, depth - k)
            in_row, in_k = copy_block(a, a0 + i * row_step + k * k_step, row_step, k_step, high, block, scratch, s0)
            multiply_block(
                scratch, s0, ROWS * block, in_row, in_k, high, block, b, b0 + k * b_step, b_step, b_panel, panels,
                c, c0 + i * c_step, c_step, c_panel, alpha,
            )  # fmt: skip


@kernel(part=True)
def copy_block(a, a0, row_step, k_step, rows, depth, scratch, s0):
    """A block of `a` as tiles read it fastest, strip by strip of six rows: row_step and k_step there."""
    if k_step == 1:
        copy_rows(a, a0, row_step, rows, depth, scratch, s0)
        return depth, np.intp(1)
    copy_columns(a, a0, row_step, k_step, rows, depth, scratch, s0)
    return np.intp(1), np.intp(ROWS)


@kernel(part=True)
def copy_rows(a, a0, row_step, rows, depth, scratch, s0):
    """Rows as they are, [row][k]."""
    for r in range(rows):
        copy_row(a, a0 + r * row_step, depth, scratch, s0 + r * depth)


@kernel(part=True)
def copy_row(a, a0, count, target, t0):
    """target[t0 : t0 + count] = a[a0 : a0 + count], converted to target's dtype."""
    kept_apart()
    whole = count // lanes(target) * lanes(target)
    for k in range(0, whole, lanes(target)):
        store(target, t0 + k, load_converted(target, a, a0 + k))
    for k in range(whole, count):
        put(target, t0 + k, at(a, a0 + k))


@kernel(part=True)
def copy_columns(a, a0, row_step, k_step, rows, depth, scratch, s0):
    """In strips of six rows, [strip][k][row]; the rows of the last strip that are not there stay as they were.

    Whole vectors where a's rows are next to each other: what they write beyond the six is overwritten by the next k,
    or by the next strip, and the last strip of a block is copied one by one.
    """
    kept_apart()
    span = (ROWS + lanes(scratch) - 1) // lanes(scratch) * lanes(scratch)
    for r in range(0, rows, ROWS):
        target, source = s0 + r * depth, a0 + r * row_step
        if row_step == 1 and r + span <= rows:
            for _ in range(depth):
                for i in range(0, span, lanes(scratch)):
                    store(scratch, target + i, load_converted(scratch, a, source + i))
                target, source = target + ROWS, source + k_step
        else:
            for _ in range(depth):
                for i in range(min(ROWS, rows - r)):
                    put(scratch, target + i, at(a, source + i * row_step))
                target, source = target + ROWS, source + k_step


@kernel(part=True)
def multiply_block(
    a, a0, strip_step, row_step, k_step, rows, depth, b, b0, b_step, b_panel, panels, c, c0, c_step, c_panel, alpha
):  # fmt: skip
    kept_apart()
    for panel in range(panels):
        for i in range(0, rows, ROWS):
            tile(
                a, a0 + i // ROWS * strip_step, row_step, k_step, min(ROWS, rows - i), depth,
                b, b0 + panel * b_panel, b_step,
                c, c0 + panel * c_panel + i * c_step, c_step, alpha, zeros(b), zeros(b), False, AS_IT_IS, np.intp(0),
            )  # fmt: skip


@kernel(part=True)
def tile(
    a, a0, row_step, k_step, rows, depth, b, b0, b_step, c, c0, c_step, alpha, left, right, fresh, finish, to_z
):  # fmt: skip
    """c (rows <= 6, one panel) += alpha * a (rows, depth) @ b (depth, one panel).

    Or, if it is fresh, c = the panel (left, right) + a @ b; then comes `finish`, see multiply_through.
    """
    width = lanes(b)
    last = rows - 1  # rows that are not there are computed as copies of the last one, and not stored
    i1, i2, i3 = min(1, last) * row_step, min(2, last) * row_step, min(3, last) * row_step
    i4, i5 = min(4, last) * row_step, min(5, last) * row_step
    l0 = l1 = l2 = l3 = l4 = l5 = left
    r0 = r1 = r2 = r3 = r4 = r5 = right
    for _ in range(depth):
        left, right = load(b, b0), load(b, b0 + width)
        v = broadcast(b, a, a0)
        l0, r0 = fma(v, left, l0), fma(v, right, r0)
        v = broadcast(b, a, a0 + i1)
        l1, r1 = fma(v, left, l1), fma(v, right, r1)
        v = broadcast(b, a, a0 + i2)
        l2, r2 = fma(v, left, l2), fma(v, right, r2)
        v = broadcast(b, a, a0 + i3)
        l3, r3 = fma(v, left, l3), fma(v, right, r3)
        v = broadcast(b, a, a0 + i4)
        l4, r4 = fma(v, left, l4), fma(v, right, r4)
        v = broadcast(b, a, a0 + i5)
        l5, r5 = fma(v, left, l5), fma(v, right, r5)
        a0, b0 = a0 + k_step, b0 + b_step
    scale = fill(b, alpha)
    finish_row(c, c0, scale, l0, r0, fresh, finish, to_z)
    if rows > 1:
        finish_row(c, c0 + c_step, scale, l1, r1, fresh, finish, to_z)
    if rows > 2:
        finish_row(c, c0 + 2 * c_step, scale, l2, r2, fresh, finish, to_z)
    if rows > 3:
        finish_row(c, c0 + 3 * c_step, scale, l3, r3, fresh, finish, to_z)
    if rows > 4:
        finish_row(c, c0 + 4 * c_step, scale, l4, r4, fresh, finish, to_z)
    if rows > 5:
        finish_row(c, c0 + 5 * c_step, scale, l5, r5, fresh, finish, to_z)


@kernel(part=True)
def finish_row(c, c0, scale, left, right, fresh, finish, to_z):
    """One row of a tile: what it begins with is in c, unless it is fresh."""
    width = lanes(c)
    if not fresh:
        left, right = fma(scale, left, load(c, c0)), fma(scale, right, load(c, c0 + width))
    if finish == POSITIVE_PART:
        left, right = where_positive(left, left), where_positive(right, right)
    elif finish == GATED:
        z = c0 + to_z
        left, right = where_positive(load(c, z), left), where_positive(load(c, z + width), right)
    store(c, c0, left)
    store(c, c0 + width, right)


@kernel(part=True)
def add_row(c, c0, scale, left, right):
    """c[c0 : c0 + panel] += scale * (left, right)."""
    width = lanes(c)
    store(c, c0, fma(scale, left, load(c, c0)))
    store(c, c0 + width, fma(scale, right, load(c, c0 + width)))


@kernel(part=True)
def row_tile(a, a0, k_step, depth, b, b0, b_step, start, start0, c, c0):
    """c (one row, one panel) = start (the same) + a (depth,) @ b (depth, one panel): for products of few rows.

    Eight sums, of every fourth k, or each addition would wait for the one before it.
    """
    width, whole = lanes(b), depth // 4 * 4
    l0, r0 = load(start, start0), load(start, start0 + width)
    l1 = r1 = l2 = r2 = l3 = r3 = zeros(b)
    for _ in range(0, whole, 4):
        v = broadcast(b, a, a0)
        l0, r0 = fma(v, load(b, b0), l0), fma(v, load(b, b0 + width), r0)
        a0, b0 = a0 + k_step, b0 + b_step
        v = broadcast(b, a, a0)
        l1, r1 = fma(v, load(b, b0), l1), fma(v, load(b, b0 + width), r1)
        a0, b0 = a0 + k_step, b0 + b_step
        v = broadcast(b, a, a0)
        l2, r2 = fma(v, load(b, b0), l2), fma(v, load(b, b0 + width), r2)
        a0, b0 = a0 + k_step, b0 + b_step
        v = broadcast(b, a, a0)
        l3, r3 = fma(v, load(b, b0), l3), fma(v, load(b, b0 + width), r3)
        a0, b0 = a0 + k_step, b0 + b_step
    for _ in range(whole, depth):
        v = broadcast(b, a, a0)
        l0, r0 = fma(v, load(b, b0), l0), fma(v, load(b, b0 + width), r0)
        a0, b0 = a0 + k_step, b0 + b_step
    store(c, c0, add(add(l0, l1), add(l2, l3)))
    store(c, c0 + width, add(add(r0, r1), add(r2, r3)))


@kernel(part=True)
def outer_tile(a, a0, a_step, rows, d, d0, c, c0, c_step, alpha):
    """c (rows, one panel) += alpha * a (rows,) times d (one panel): the update of W after one sample."""
    width, scale = lanes(c), fill(c, alpha)
    left, right = multiply(scale, load(d, d0)), multiply(scale, load(d, d0 + width))
    for _ in range(rows):
        v = broadcast(c, a, a0)
        store(c, c0, fma(v, left, load(c, c0)))
        store(c, c0 + width, fma(v, right, load(c, c0 + width)))
        a0, c0 = a0 + a_step, c0 + c_step
