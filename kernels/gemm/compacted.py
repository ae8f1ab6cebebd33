"""Products with many zeros on the left, as in images of digits: what is zero in six rows at once is passed over.

81 % of MNIST's pixels are zeros. Of six images 56 %, and of six neighbouring pixels of an image 66 %, are all zeros. So
x @ W goes by six rows of x, and x.T @ dout by six columns: the numbers where not all are zeros are compacted, six by six, as
the micro-kernel reads them fastest (and converted: 60,000 images of float32 need no copy in float64). Then they are
multiplied by the selected rows of the other matrix, which is read where it is.

0 * inf is NaN, so what is passed over must meet finite numbers: that is looked at first, and otherwise the result is None
and the dense products are made. The last panel of columns may overlap the one before it.

Measured and rejected, (100, 784) float32 @ (784, 50) float64 on one core: each row by itself, only its numbers that are not
zero, with all sums in registers. It has half the products, but no row of W is used twice, and the second-level cache
delivers them more slowly than the micro-kernel multiplies: 220 us against 170. With W in blocks that stay in the first-level
cache, and its zeros found by 16 at a time (Zen 5 with AVX-512, other digits in each call): 74 us against 77, and 134 against
111 for 100 columns, 399 against 289 for 256; the loops are as short as a row has numbers in a block, and end mispredicted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.arrays import empty, flat, workspace
from ..runtime.chunks import chunk_bounds, claimed, most_chunks
from ..runtime.compiler import device, kernel
from ..runtime.magnitude import is_finite
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import lanes, load, load_scalar, noinline, store_scalar
from ..runtime.threads import parallel_kernel, run
from .matrices import Matrix, MicroPanel, SelectedRows, Span
from .microkernel import AS_IT_IS, Epilogue, micro_kernel
from .packing import ROWS, panel_width

LARGEST_DENSITY = 0.3
SAMPLES = 1024  # numbers looked at to estimate the density
SPARSE_THRESHOLD = 500_000  # multiplications; below, dense products are as fast
PARALLEL_THRESHOLD = 600_000  # multiplications, zeros among them: two threads take 0.55 to 0.75 of the time


class Buffers(NamedTuple):
    """What compacting needs beside x: its bits, and for all threads marks, places and packed numbers."""

    bits: Any
    marks: Any
    places: Any
    packed: Any


class Compacted(NamedTuple):
    """Up to six rows where not all are zero: `count` places from places[start] on, and [place][row] their numbers."""

    packed: Any
    places: Any
    start: int
    count: int


def is_sparse(x, W):
    """Whether x (N, D) @ W (D, M) repays compacting."""
    columns = W.shape[1]
    if len(x) < ROWS or x.size * columns < SPARSE_THRESHOLD or not (x.flags.c_contiguous and W.flags.c_contiguous):
        return False
    return columns * W.itemsize >= 2 * VECTOR_BYTES and _sample(flat(x)) < LARGEST_DENSITY * SAMPLES


def sparse_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> x @ W + b, (N, M), or None where W is not finite."""
    if not is_finite(W):
        return None
    (rows, depth), columns = x.shape, W.shape[1]
    out = empty((rows, columns), W.dtype)
    threads = threads_for(x.size * columns, PARALLEL_THRESHOLD)
    numbers, packed = flat(x), workspace(threads * depth * ROWS, W.dtype)
    sizes = rows, depth, columns
    run(_forward, threads, out.reshape(-1), numbers, flat(W), flat(b), sizes, buffers(numbers, threads * depth, packed))
    return out


def buffers(numbers, places, packed):
    """Buffers for the flat x, with scratch for so many places."""
    bits = numbers.view(f"i{numbers.itemsize}")
    scratch = workspace(2 * places, np.dtype(np.intp))  # there is one for each dtype: marks may have that of the places
    return bits, scratch[places:].view(bits.dtype), scratch[:places], packed


@kernel
def _sample(x):
    """How many of about SAMPLES numbers of x, evenly spread, are not zero."""
    step, found = max(1, x.size // SAMPLES) | 1, 0
    for i in range(0, x.size, step):
        found += load_scalar(x, i) != 0
    return found


@parallel_kernel
def _forward(work, out, x, W, bias, sizes, buffers):
    thread, threads, _ = work
    rows, depth, columns = sizes
    chunk_count = most_chunks(threads)
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds((rows + ROWS - 1) // ROWS, chunk, chunk_count)
        for top in range(first * ROWS, min(end * ROWS, rows), ROWS):
            high = min(ROWS, rows - top)
            compacted = compact_rows(
                Buffers(*buffers), thread * depth, Matrix(x, top * depth, depth, np.intp(1)), high, depth
            )
            multiply_compacted(Span(out, top * columns), compacted, W, bias, high, columns)


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
def compact_rows(buffers, start, x, high, depth):
    """The first `high` rows of the Matrix x, of six: the k where not all are zero, and their numbers.

    Whether all are zero is seen by their bits, in a loop that becomes vectors; -0.0 counts as a number.
    """
    noinline()
    bits, marks, places, packed = buffers
    last, count, r0 = high - 1, 0, x.start
    r1, r2, r3 = r0 + min(1, last) * x.row_step, r0 + min(2, last) * x.row_step, r0 + min(3, last) * x.row_step
    r4, r5 = r0 + min(4, last) * x.row_step, r0 + min(5, last) * x.row_step
    for k in range(depth):
        first = load_scalar(bits, r0 + k) | load_scalar(bits, r1 + k) | load_scalar(bits, r2 + k)
        second = load_scalar(bits, r3 + k) | load_scalar(bits, r4 + k)
        store_scalar(marks, start + k, first | second | load_scalar(bits, r5 + k))
    for k in range(depth):
        store_scalar(places, start + count, k)
        count += np.intp(load_scalar(marks, start + k) != 0)
    for place in range(count):
        k, target = load_scalar(places, start + place), (start + place) * ROWS
        store_scalar(packed, target, load_scalar(x.array, r0 + k))
        store_scalar(packed, target + 1, load_scalar(x.array, r1 + k))
        store_scalar(packed, target + 2, load_scalar(x.array, r2 + k))
        store_scalar(packed, target + 3, load_scalar(x.array, r3 + k))
        store_scalar(packed, target + 4, load_scalar(x.array, r4 + k))
        store_scalar(packed, target + 5, load_scalar(x.array, r5 + k))
    return Compacted(packed, places, start, count)


@device
def compact_columns(buffers, start, x, high, depth):
    """The same for `high` neighbouring columns of x, given as the Matrix of its transpose."""
    noinline()
    bits, places, packed = buffers.bits, buffers.places, buffers.packed
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
