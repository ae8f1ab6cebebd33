"""Matrix products from register tiles: c += alpha * a @ b.

A tile is 6 rows of c by one *panel* of columns (two vectors): 12 sums that stay in registers while k runs. Each turn of
its loop loads two vectors of b and six numbers of a, and does 12 multiply-adds.

- `b` is read a panel at a time. In *panel layout* the panels lie one after the other, [panel][k][column], padded with
  zeros on the right, so that every load is a full, contiguous vector: `pack` makes it. A row-major matrix whose rows
  are padded to whole panels serves as well, with other steps.
- `a` is read a number at a time. Where its k runs along the rows in memory it is read in place; where it is transposed,
  or of another dtype, a block of it is copied first, in the order in which the tiles read it.
- `c` is written a panel wide too; its rows are padded like b's.

The blocks are Goto's (Anatomy of High-Performance Matrix Multiplication, 2008): K_BLOCK rows of a panel of b stay in the
first-level cache while ROW_BLOCK rows of a pass, which stay in the second-level cache while the panels pass.

Tried and lost, float32, one AVX2 core, (96, 784) @ (784, 64), GFLOP/s: plain loops that Numba vectorises 20; the same
tile with a's numbers converted from float64 or uint8 inside the loop 18 to 35, against 53 for converting before.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .simd import broadcast, fill, fma, kept_apart, lanes, load, load_converted, store, zeros

ROWS = 6  # of a tile. With two vectors a row: 12 sums + 2 of b + 1 of a, the 16 registers of AVX2 less one
ROW_BLOCK = 8 * ROWS
K_BLOCK = 400  # a panel of b is then at most 25 KB
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
                    panels[p0 + j] = b[source + j * column_step]
                for j in range(wide, width):
                    panels[p0 + j] = 0
            p0 += width


@kernel(part=True)
def even_block(depth):
    """K_BLOCK or less, so that all blocks of k are about as long: every block reads and writes all of c once."""
    blocks = max(1, (depth + K_BLOCK - 1) // K_BLOCK)
    return max(1, (depth + blocks - 1) // blocks)


@kernel(part=True)
def multiply_add(a, a0, row_step, rows, depth, b, b0, b_step, b_panel, panels, c, c0, c_step, c_panel, alpha):
    """c (rows, panels) += alpha * a (rows, depth) @ b (depth, panels); a's k runs along its rows.

    A step is the distance between two rows; b_panel and c_panel are the distances between two panels of columns.
    """
    deep = even_block(depth)
    for k in range(0, depth, deep):
        for i in range(0, rows, ROW_BLOCK):
            multiply_block(
                a, a0 + i * row_step + k, ROWS * row_step, row_step, np.intp(1), min(ROW_BLOCK, rows - i),
                min(deep, depth - k), b, b0 + k * b_step, b_step, b_panel, panels,
                c, c0 + i * c_step, c_step, c_panel, alpha,
            )  # fmt: skip


@kernel(part=True)
def multiply_add_copied(
    a, a0, row_step, k_step, rows, depth, b, b0, b_step, b_panel, panels, c, c0, c_step, c_panel, alpha, scratch, s0
):  # fmt: skip
    """The same for an `a` of any steps and any real dtype, copied block by block to `scratch`, from s0."""
    block = even_block(depth)
    for k in range(0, depth, block):
        deep = min(block, depth - k)
        for i in range(0, rows, ROW_BLOCK):
            high = min(ROW_BLOCK, rows - i)
            if k_step == 1:
                copy_rows(a, a0 + i * row_step + k, row_step, high, deep, scratch, s0)
                strip_step, in_row, in_k = ROWS * deep, deep, np.intp(1)
            else:
                copy_columns(a, a0 + i * row_step + k * k_step, row_step, k_step, high, deep, scratch, s0)
                strip_step, in_row, in_k = ROWS * deep, np.intp(1), np.intp(ROWS)
            multiply_block(
                scratch, s0, strip_step, in_row, in_k, high, deep, b, b0 + k * b_step, b_step, b_panel, panels,
                c, c0 + i * c_step, c_step, c_panel, alpha,
            )  # fmt: skip


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
        target[t0 + k] = a[a0 + k]


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
                    scratch[target + i] = a[source + i * row_step]
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
                c, c0 + panel * c_panel + i * c_step, c_step, alpha,
            )  # fmt: skip


@kernel(part=True)
def tile(a, a0, row_step, k_step, rows, depth, b, b0, b_step, c, c0, c_step, alpha):
    """c (rows <= 6, one panel) += alpha * a (rows, depth) @ b (depth, one panel)."""
    width = lanes(b)
    last = rows - 1  # rows that are not there are computed as copies of the last one, and not stored
    i0, i1, i2 = a0, a0 + min(1, last) * row_step, a0 + min(2, last) * row_step
    i3, i4, i5 = a0 + min(3, last) * row_step, a0 + min(4, last) * row_step, a0 + min(5, last) * row_step
    l0 = r0 = l1 = r1 = l2 = r2 = l3 = r3 = l4 = r4 = l5 = r5 = zeros(b)
    for _ in range(depth):
        left, right = load(b, b0), load(b, b0 + width)
        v = broadcast(b, a, i0)
        l0, r0 = fma(v, left, l0), fma(v, right, r0)
        v = broadcast(b, a, i1)
        l1, r1 = fma(v, left, l1), fma(v, right, r1)
        v = broadcast(b, a, i2)
        l2, r2 = fma(v, left, l2), fma(v, right, r2)
        v = broadcast(b, a, i3)
        l3, r3 = fma(v, left, l3), fma(v, right, r3)
        v = broadcast(b, a, i4)
        l4, r4 = fma(v, left, l4), fma(v, right, r4)
        v = broadcast(b, a, i5)
        l5, r5 = fma(v, left, l5), fma(v, right, r5)
        b0 += b_step
        i0, i1, i2, i3, i4, i5 = i0 + k_step, i1 + k_step, i2 + k_step, i3 + k_step, i4 + k_step, i5 + k_step
    scale = fill(b, alpha)
    add_row(c, c0, scale, l0, r0)
    if rows > 1:
        add_row(c, c0 + c_step, scale, l1, r1)
    if rows > 2:
        add_row(c, c0 + 2 * c_step, scale, l2, r2)
    if rows > 3:
        add_row(c, c0 + 3 * c_step, scale, l3, r3)
    if rows > 4:
        add_row(c, c0 + 4 * c_step, scale, l4, r4)
    if rows > 5:
        add_row(c, c0 + 5 * c_step, scale, l5, r5)


@kernel(part=True)
def add_row(c, c0, scale, left, right):
    """c[c0 : c0 + panel] += scale * (left, right)."""
    width = lanes(c)
    store(c, c0, fma(scale, left, load(c, c0)))
    store(c, c0 + width, fma(scale, right, load(c, c0 + width)))
