"""x.T @ dout for an x that is mostly zeros: what is zero in six columns at once is passed over.

Of six neighbouring pixels of an image, 66 % are all zeros. So x.T @ dout goes by six columns of x: the numbers where not all
are zeros are compacted, six by six, as the micro-kernel reads them fastest (and converted). Then they are multiplied by the
selected rows of dout, which are read where they are. The last panel of columns may overlap the one before it. As for x @ W,
see `nonzeros`, what is passed over must meet finite numbers.

Measured and rejected: x transposed, 128 columns at a time, and multiplied row by row as in `nonzeros`: 100 rows of MNIST by
50 columns, float64, 136 us instead of 109, of which transposing takes 46; by 100 and 256 columns 1.2 to 1.4 times as long.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.arrays import workspace
from ..runtime.compiler import device
from ..runtime.simd import lanes, load, load_scalar, noinline, store_scalar
from .matrices import Matrix, MicroPanel, SelectedRows, Span
from .microkernel import AS_IT_IS, Epilogue, micro_kernel
from .packing import ROWS, panel_width


class Buffers(NamedTuple):
    """What compacting needs beside x: its bits, and for all threads places and packed numbers."""

    bits: Any
    places: Any
    packed: Any


class Compacted(NamedTuple):
    """Up to six columns where not all are zero: `count` places from places[start] on, and [place][column] their numbers."""

    packed: Any
    places: Any
    start: int
    count: int


def buffers(numbers, places, packed):
    """Buffers for the flat x, with scratch for so many places."""
    return numbers.view(f"i{numbers.itemsize}"), workspace(places, np.dtype(np.intp)), packed


@device
def weights_gradient(dW, x, dout, zero, sizes, bounds, thread, buffers):
    """dW = x.T @ dout, its rows by sixes from bounds[0] to bounds[1].

    sizes: of x (rows, depth) and dout (rows, columns); zero (columns,).
    """
    rows, depth, columns = sizes
    for top in range(bounds[0] * ROWS, min(bounds[1] * ROWS, depth), ROWS):
        high = min(ROWS, depth - top)
        compacted = compact_columns(buffers, thread * rows, Matrix(x, top, np.intp(1), depth), high, rows)
        multiply_compacted(Span(dW, top * columns), compacted, dout, zero, high, columns)


@device
def multiply_compacted(out, a, b, bias, rows, columns):
    """The Span out (rows, columns) = bias + the compacted a times the selected rows of b (.., columns)."""
    panel = panel_width(b)
    for left in range(0, columns, panel):
        multiply_panel(out, a, b, bias, rows, columns, min(left, columns - panel))


@device
def multiply_panel(out, a, b, bias, rows, columns, left):
    """The same for the panel of columns from `left` on."""
    noinline()
    micro_kernel(
        Matrix(out.array, out.start + left, columns, np.intp(1)),
        MicroPanel(a.packed, a.start * ROWS),
        SelectedRows(b, left, columns, a.places, a.start),
        (load(bias, left), load(bias, left + lanes(b))), rows, a.count,
        Epilogue(b.dtype.type(1), True, np.intp(AS_IT_IS), np.intp(0)),
    )  # fmt: skip


@device
def compact_columns(buffers, start, x, high, depth):
    """Of `high` neighbouring columns of x, of six, given as the Matrix of its transpose: the k where not all are zero, and
    their numbers. Whether all are zero is seen by their bits; -0.0 counts as a number.
    """
    noinline()
    bits, places, packed = buffers
    count, step = 0, x.column_step
    if high == ROWS:
        for k in range(depth):
            i = x.start + k * step
            first = load_scalar(bits, i) | load_scalar(bits, i + 1) | load_scalar(bits, i + 2)
            second = load_scalar(bits, i + 3) | load_scalar(bits, i + 4)
            store_scalar(places, start + count, k)
            count += np.intp((first | second | load_scalar(bits, i + 5)) != 0)
    else:
        for k in range(depth):
            store_scalar(places, start + k, k)
        count = depth
    for place in range(count):
        source, target = x.start + load_scalar(places, start + place) * step, (start + place) * ROWS
        for i in range(high):
            store_scalar(packed, target + i, load_scalar(x.array, source + i))
    return Compacted(packed, places, start, count)
