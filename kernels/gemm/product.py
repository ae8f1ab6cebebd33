"""Products of matrices, block by block, from the micro-kernel.

The blocks are Goto's: KC rows of a panel of b stay in the first-level cache while MC rows of a, which stay in the
second-level cache while the panels pass, are multiplied by them. Everything here works on panels: each column of a product
depends on that column of its right-hand side alone, so the padding of the last panel does no harm.
"""

from __future__ import annotations

import numpy as np

from ..runtime.compiler import device
from ..runtime.simd import add, fma, lanes, load, load_scalar, noinline, reduce_add, zeros
from .matrices import Matrix, Panels, Span
from .microkernel import (
    AS_IT_IS,
    HAS_32_REGISTERS,
    Epilogue,
    double_kernel,
    half_panel_kernel,
    micro_kernel,
    row_kernel,
)
from .packing import MC, ROWS, even_block, in_place, micro_panels, panel_width, submatrix

# A micro-kernel of fewer rows than six takes as long as a full one: up to here, rows by themselves are faster.
FEW_ROWS = 3


@device
def panels_from(b, i, p):
    """The Panels from row i of panel p on."""
    return Panels(b.array, b.start + i * b.row_step + p * b.panel_step, b.row_step, b.panel_step)


@device
def multiply_add(c, a, b, sizes, alpha, buffer, is_copied):
    """The Panels c (rows, panels) += alpha * the Matrix a (rows, depth) @ the Panels b (depth, panels).

    sizes: rows, depth, panels. a is read where it is, or copied block by block to the Span `buffer`.
    """
    rows, depth, panels = sizes
    deep = even_block(depth)
    for k in range(0, depth, deep):
        for i in range(0, rows, MC):
            high, wide = min(MC, rows - i), min(deep, depth - k)
            block = micro_panels(a, (i, k), (high, wide), buffer, is_copied)
            multiply_block(
                panels_from(c, i, 0), block, panels_from(b, k, 0), zero_bias(c), (high, wide, panels), adding(alpha)
            )


@device
def adding(alpha):
    """The Epilogue of c += alpha * a @ b."""
    return Epilogue(alpha, np.bool_(False), np.intp(AS_IT_IS), np.intp(0))


@device
def zero_bias(c):
    """For `multiply_block`: sums begin at 0."""
    return Span(c.array, np.intp(-1))


@device
def multiply_block(c, a, b, bias, sizes, epilogue):
    """One block, a in MicroPanels: the micro-kernel over all panels, and over the rows six by six.

    sizes: rows, depth, panels. bias: the Span of a row of panels, from which the sums begin, or `zero_bias`.
    """
    noinline()
    rows, depth, panels = sizes
    doubled = panels // 2 * 2 if HAS_32_REGISTERS else 0
    for p in range(0, doubled, 2):
        initial = sums_of_panel(bias, p), sums_of_panel(bias, p + 1)
        for i in range(0, rows, ROWS):
            double_kernel(
                (tile_of(c, i, p), tile_of(c, i, p + 1)), micro_panel_of(a, i),
                (panel_of(b, p), panel_of(b, p + 1)), (*initial[0], *initial[1]), min(ROWS, rows - i), depth, epilogue,
            )  # fmt: skip
    for p in range(doubled, panels):
        first = sums_of_panel(bias, p)
        for i in range(0, rows, ROWS):
            tile, six, high = tile_of(c, i, p), micro_panel_of(a, i), min(ROWS, rows - i)
            micro_kernel(tile, six, panel_of(b, p), first, high, depth, epilogue)


@device
def sums_of_panel(bias, p):
    """The two vectors from which the sums of panel p begin."""
    width = lanes(bias.array)
    place = bias.start + p * 2 * width
    if bias.start < 0:
        return zeros(bias.array), zeros(bias.array)
    return load(bias.array, place), load(bias.array, place + width)


@device
def tile_of(c, i, p):
    """The Matrix from row i of panel p of the Panels on."""
    return Matrix(c.array, c.start + p * c.panel_step + i * c.row_step, c.row_step, np.intp(1))


@device
def panel_of(b, p):
    """Panel p of the Panels, as a Matrix."""
    return Matrix(b.array, b.start + p * b.panel_step, b.row_step, np.intp(1))


@device
def micro_panel_of(a, i):
    """The MicroPanels from row i on, a multiple of ROWS, as a Matrix."""
    return Matrix(a.array, a.start + i // ROWS * a.panel_step, a.row_step, a.k_step)


@device
def multiply_half_panel(c, a, b, bias, sizes, is_first):
    """c = bias + a @ b where columns are left for half a panel at most; or c += a @ b, after the first block of k.

    sizes: rows, depth. What c has beyond the half panel stays as it is.
    """
    noinline()
    rows, depth = sizes
    initial = load(bias.array, bias.start) if is_first else zeros(b.array)
    for i in range(0, rows, ROWS):
        tile, six, high = tile_of(c, i, 0), micro_panel_of(a, i), min(ROWS, rows - i)
        half_panel_kernel(tile, six, panel_of(b, 0), initial, high, depth, is_first)


@device
def multiply_fused(c, a, b, bias, sizes, gate, z_offset):
    """The Panels c (rows, panels) = gate(bias + a (rows, depth) @ b (depth, panels)), for a block of rows.

    sizes: rows, depth, panels. a: Matrix. bias: where a row of panels begins in c's array, or below 0, for zeros. gate,
    z_offset: see Epilogue. All of it happens in the registers of the micro-kernel: with passes of their own, over c in the
    cache, a step took 1.03 to 1.2 times as long (784-512-256-10, 10-100-1).
    """
    rows, depth, panels = sizes
    array, deep, one = c.array, even_block(depth), c.array.dtype.type(1)
    for k in range(0, depth, deep):
        epilogue = Epilogue(one, k == 0, gate if k + deep >= depth else np.intp(AS_IT_IS), z_offset)
        start = Span(array, bias if k == 0 else np.intp(-1))
        sizes_of_block = rows, min(deep, depth - k), panels
        multiply_block(c, in_place(submatrix(a, 0, k)), panels_from(b, k, 0), start, sizes_of_block, epilogue)


@device
def multiply_few(c, a, b, bias, sizes):
    """The Panels c (rows, panels) = bias + the Matrix a (rows, depth) @ the Panels b (depth, panels) for very few rows.

    sizes: rows, depth, panels. bias: where a row of panels begins in c's array.
    """
    noinline()
    rows, depth, panels = sizes
    for r in range(rows):
        for p in range(panels):
            row_kernel(
                Span(c.array, c.start + r * c.row_step + p * c.panel_step),
                submatrix(a, r, 0),
                Matrix(b.array, b.start + p * b.panel_step, b.row_step, np.intp(1)),
                Span(c.array, bias + p * panel_width(c.array)), depth,
            )  # fmt: skip


@device
def dot(a, b, count):
    """The sum of the Span a times a row or column of b, the Matrix's first; in two vectors where b is contiguous."""
    array, start, width = b.array, 0, lanes(b.array)
    total = array.dtype.type(0)
    if b.row_step == 1:
        even = odd = zeros(array)
        while start + 2 * width <= count:
            even = fma(load(a.array, a.start + start), load(array, b.start + start), even)
            odd = fma(load(a.array, a.start + start + width), load(array, b.start + start + width), odd)
            start += 2 * width
        total = reduce_add(add(even, odd))
    for k in range(start, count):
        total += load_scalar(a.array, a.start + k) * load_scalar(array, b.start + k * b.row_step)
    return total
