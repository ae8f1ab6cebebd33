"""Copies of matrices in the order in which the micro-kernel reads them.

A right-hand side is read a *panel* of columns at a time, two vectors wide. In panel layout the panels lie one after
the other, [panel][k][column], padded with zeros on the right, so that every load is a full, contiguous vector. A left-hand
side is read a number at a time, where it is in memory; where it is of another dtype, or transposed and deep, a block of it
is copied first, to micro-panels of six rows, [micro-panel][k][row].
"""

from __future__ import annotations

import numpy as np

from ..runtime.compiler import by_type, device
from ..runtime.processors import VECTOR_BYTES
from ..runtime.simd import lanes, load, load_converted, load_scalar, noinline, store, store_scalar
from .matrices import Matrix, MicroPanels, Panels, Span
from .transposing import copy_transposed

ROWS = 6  # of the micro-kernel. With two vectors a row: 12 sums + 2 of b + 1 of a, the 16 registers of AVX2 less one
MC = 8 * ROWS  # rows of a pass, which stay in the second-level cache while the panels pass
KC = 400  # rows of a panel that stay in the first-level cache: 25 KB at the most
SHORT = 160  # up to this depth, a transposed block of `a` stays in the first-level cache, and need not be copied
BLOCK_SIZE = MC * KC  # numbers of a copied block
WHOLE = 1 << 18  # bytes: up to here, panels are packed for all k at once, and kept for the next rows


def packed_size(panels, depth, dtype):
    """Numbers of workspace for so many panels of `depth` rows, packed at once or block by block."""
    row = panels * 2 * VECTOR_BYTES // dtype.itemsize
    return row * min(depth, max(KC, -(-WHOLE // max(1, row * dtype.itemsize))))


@device
def panel_width(like):
    """How many columns of like's dtype a panel has."""
    return 2 * lanes(like)


@device
def panels_at(array, start, depth):
    """Packed panels of `depth` rows, from `start` on."""
    width = panel_width(array)
    return Panels(array, start, width, width * depth)


@device
def pack(packed, b, depth, columns):
    """Copy the Matrix b (depth, columns) to the panels `packed`."""
    noinline()
    width = panel_width(packed.array)
    for left in range(0, columns, width):
        panel, wide = Span(packed.array, packed.start + left * depth), min(width, columns - left)
        if b.row_step == 1:
            copy_transposed(panel, width, Span(b.array, b.start + left * b.column_step), b.column_step, wide, depth)
        else:
            copy_rows(panel, submatrix(b, 0, left), depth, wide)
        for k in range(depth if wide < width else 0):
            for j in range(wide, width):
                store_scalar(panel.array, panel.start + k * width + j, 0)


@device
def copy_rows(panel, b, depth, wide):
    """The Matrix b (depth, wide) to the Span `panel`, of which each row is a panel's width from the one before."""
    width = panel_width(panel.array)
    for k in range(depth):
        source, target = b.start + k * b.row_step, panel.start + k * width
        if wide == width and b.column_step == 1:
            for j in range(0, width, lanes(panel.array)):
                store(panel.array, target + j, load(b.array, source + j))
        else:
            for j in range(wide):
                store_scalar(panel.array, target + j, load_scalar(b.array, source + j * b.column_step))


@device
def even_block(depth):
    """KC or less, so that all blocks of k are about as long: every block reads and writes all of c once."""
    blocks = max(1, (depth + KC - 1) // KC)
    return max(1, (depth + blocks - 1) // blocks)


@device
def submatrix(a, i, j):
    """The Matrix from its element (i, j) on."""
    return Matrix(a.array, a.start + i * a.row_step + j * a.column_step, a.row_step, a.column_step)


@device
def in_place(a):
    """The Matrix a as micro-panels, where it is."""
    return MicroPanels(a.array, a.start, ROWS * a.row_step, a.row_step, a.column_step)


@device
def copy_block(block, a, rows, depth):
    """A block (rows, depth) of the Matrix a, of any real dtype, copied to the Span `block`: its MicroPanels."""
    if a.column_step == 1:
        for r in range(rows):
            copy_row(block.array, block.start + r * depth, a.array, a.start + r * a.row_step, depth)
        return MicroPanels(block.array, block.start, ROWS * depth, depth, np.intp(1))
    copy_columns(block, a, rows, depth)
    return MicroPanels(block.array, block.start, ROWS * depth, np.intp(1), np.intp(ROWS))


def micro_panels(a, place, sizes, buffer, is_copied):
    """A block of the Matrix a as MicroPanels: where it is, or copied to the Span `buffer`.

    place: its first row and column; sizes: its rows and columns. Of another dtype than the buffer it is always copied:
    nothing is compiled for reading it where it is, which made the first call of a layer on float32 images wait a second
    longer. Inside kernels.
    """
    raise NotImplementedError("micro_panels exists inside kernels only")


@by_type(micro_panels)
def _micro_panels(a, place, sizes, buffer, is_copied):
    return _copied_if_wanted if a.types[0] == buffer.types[0] else _copied


def _copied_if_wanted(a, place, sizes, buffer, is_copied):
    if is_copied:
        return copy_block(buffer, submatrix(a, place[0], place[1]), sizes[0], sizes[1])
    return in_place(submatrix(a, place[0], place[1]))


def _copied(a, place, sizes, buffer, is_copied):
    return copy_block(buffer, submatrix(a, place[0], place[1]), sizes[0], sizes[1])


@device
def copy_row(out, o0, a, a0, count):
    """out[o0 : o0 + count] = a[a0 : a0 + count], converted to out's dtype."""
    noinline()
    whole = count // lanes(out) * lanes(out)
    for k in range(0, whole, lanes(out)):
        store(out, o0 + k, load_converted(out, a, a0 + k))
    for k in range(whole, count):
        store_scalar(out, o0 + k, load_scalar(a, a0 + k))


@device
def copy_columns(block, a, rows, depth):
    """In micro-panels, [micro-panel][k][row]; the rows of the last one that are not there stay as they were.

    Whole vectors where a's rows are next to each other: what they write beyond the six is overwritten by the next k,
    or by the next micro-panel, and the last one of a block is copied number by number.
    """
    noinline()
    out, width = block.array, lanes(block.array)
    span = (ROWS + width - 1) // width * width
    for r in range(0, rows, ROWS):
        target, source = block.start + r * depth, a.start + r * a.row_step
        if a.row_step == 1 and r + span <= rows:
            for _ in range(depth):
                for i in range(0, span, width):
                    store(out, target + i, load_converted(out, a.array, source + i))
                target, source = target + ROWS, source + a.column_step
        else:
            for _ in range(depth):
                for i in range(min(ROWS, rows - r)):
                    store_scalar(out, target + i, load_scalar(a.array, source + i * a.row_step))
                target, source = target + ROWS, source + a.column_step
