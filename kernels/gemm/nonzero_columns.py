"""x.T @ dout for an x that is mostly zeros: column by column of x, only the numbers that are not zero.

dW[k] = sum of x[r, k] * dout[r] over those rows r where x[r, k] is not zero. The sum stays in registers, as many vectors of
dout's columns as in `nonzeros` at a time, which are copied so that their rows are whole vectors. In which rows a column has
numbers is found without a branch: eight rows of eight columns are 64 bits, which are transposed, and each of the eight bytes
is appended to its column's list from a table (`append_set_bits`). As for x @ W, what is passed over must meet finite
numbers.

A whole call of affine_backward without dx between a script's NumPy calls, MNIST's float32 rows and dout of float64, one
thread of a Xeon with AVX-512: NumPy with two threads, six columns together (what is zero in all of them passed over, the
rest multiplied by the micro-kernel), and so: 100 x 784 x 50: 200, 154 and 104 us; 32 x 784 x 50: 70, 95 and 82; 100 x 784
x 256: 605, 587 and 436; two threads: 540, 384 and 322. With vectors of 32 bytes AffineStack.backward took
0.73 to 0.91 of its time with six together.

Measured and rejected: six columns together, see above; each number appended to the list of its column, row by row (0.7 to
0.9 of the speed: 55 of 130 us go into appending); x transposed and multiplied as in `nonzeros` (1.25 times as long as six
columns together); each row of dout added to the rows of dW that it meets (0.9 of six columns' time for 50 columns of dout, 1
to 1.25 for more); strips of four vectors (no difference); where x has numbers noted for all columns first, row by row, which
in C took half of the time (AffineStack, vectors of 32 bytes, one thread: 1.02 of its time, two: 1.14).
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..runtime.arrays import workspace
from ..runtime.compiler import InnerKernel, device
from ..runtime.pointers import address_of, call_at
from ..runtime.processors import VECTOR_BYTES
from ..runtime.simd import broadcast, lanes, load_scalar, noinline, store_scalar
from ..runtime.vectors import (
    COUNTS,
    FOUND_AT_ONCE,
    add_scaled,
    append_set_bits,
    load_vectors,
    narrow,
    narrowest,
    nonzero_bits,
    store_vectors,
    wide,
    widest,
)
from .matrices import Span
from .nonzeros import Numbers, Strip, copy_in, copy_out, strips_of

BLOCK = 56  # columns of x whose lists are made together
BATCH = 128  # rows of x, by eights: so many numbers, of a byte each, a list has space for
LISTS, LENGTHS = BLOCK * BATCH, 2 * BLOCK  # of a thread; half of the lengths are used, no cache line by two threads
# Vectors that a matrix's last strip has more than it needs.
LARGEST_ROUNDING = max(more - less - 1 for less, more in itertools.pairwise((0, *COUNTS)))


class Buffers(NamedTuple):
    """What is needed beside x: where the kernel is; x's bits; for each thread lists and their lengths; space for `strips`
    and for sums."""

    address: int
    bits: Any
    lists: Any
    lengths: Any
    strips: Any
    sums: Any


class Product(NamedTuple):
    """x.T @ dout: the Numbers x, of so many rows, and how many columns dout has."""

    x: Numbers
    rows: int
    columns: int


_NO_LISTS, _NO_LENGTHS = np.empty(0, np.uint8), np.empty(0, np.int64)


def workspace_and_buffers(size, numbers, sizes, threads, dtype, sparse):
    """Workspace of `size` numbers, and behind them the fields of Buffers for x, `numbers`, flat, and dout of these sizes.

    Where x is not sparse, these are of the types that they have, and nothing is read of them.
    """
    rows, columns = sizes
    if not sparse:
        space = workspace(size, dtype)
        return space, no_buffers(space, numbers)
    size = -(-size // VECTOR_BYTES) * VECTOR_BYTES  # what follows begins on a cache line
    strips, sums = size + rows * _widest(columns, dtype), threads * BLOCK * _widest(columns, dtype)
    space = workspace(strips + sums, dtype)
    lists, lengths = workspace(threads * LISTS, np.dtype(np.uint8)), workspace(threads * LENGTHS, np.dtype(np.int64))
    address = zeros_address(np.dtype(dtype), numbers.dtype)
    bits = numbers.view(f"i{numbers.itemsize}")
    return space, (address, bits, lists, lengths, space[size:strips], space[strips:])


def no_buffers(space, numbers):
    """The fields of Buffers where nothing is read of them, of the types that they have."""
    return 0, numbers.view(f"i{numbers.itemsize}"), _NO_LISTS, _NO_LENGTHS, space, space


@cache
def zeros_address(dtype, x_dtype):
    """Where `_weights_gradient` is: of networks whose input is no such x, it need not be compiled."""
    numbers, x, empty = np.empty(0, dtype), np.empty(0, x_dtype), (_NO_LISTS, _NO_LENGTHS)
    of_x = x, x.view(f"i{x.itemsize}"), 0, 0
    return address_of(_weights_gradient, numbers, of_x, (0, 0), (0, 0), 0, (*empty, numbers, numbers))


def _widest(columns, dtype):
    """Numbers that a row of all strips has at the most, in whole cache lines."""
    vector = VECTOR_BYTES // dtype.itemsize
    return (-(-columns // vector) + LARGEST_ROUNDING) * vector


@device
def pack_strips(strips, dout, rows, columns, low, high):
    """The rows of dout from `low` to `high`, of so many, in strips of up to MOST_VECTORS vectors, one after the other."""
    for left, count, step in strips_of(columns, dout):
        strip = Strip(strips, rows * left + low * step, step)
        copy_in(strip, Span(dout, low * columns + left), columns, high - low, count)


@device
def weights_gradient(dW, product, bounds, thread, buffers):
    """dW = x.T @ dout, its rows, by eights, from bounds[0] to bounds[1]; dout is in strips already."""
    x, of_thread = product.x, (buffers.lists, buffers.lengths, buffers.strips, buffers.sums)
    x_fields, sizes = (x.array, x.bits, x.start, x.depth), (product.rows, product.columns)
    call_at(buffers.address, None, (dW, x_fields, sizes, bounds, thread, of_thread))


@InnerKernel
def _weights_gradient(dW, x, sizes, bounds, thread, memory):
    """x: the fields of Numbers; sizes: its rows, the columns of dout; memory: the fields of Buffers from `lists` on."""
    x, (rows, columns), (lists, lengths, strips, sums) = Numbers(*x), sizes, memory
    end, lists = min(x.depth, bounds[1] * FOUND_AT_ONCE), Span(lists, thread * LISTS)
    lengths, sums = Span(lengths, thread * LENGTHS), Span(sums, thread * BLOCK * (len(strips) // rows))
    for top in range(bounds[0] * FOUND_AT_ONCE, end, BLOCK):
        count = min(BLOCK, end - top)
        for low in range(0, rows, BATCH):
            batch = Numbers(x.array, x.bits, x.start + low * x.depth, x.depth)
            list_nonzeros(lists, lengths, batch, top, count, min(BATCH, rows - low))
            for left, _, step in strips_of(columns, dW):
                strip = Strip(strips, rows * left + low * step, step)
                out = Strip(sums.array, sums.start + BLOCK * left, step)
                add_columns(out, strip, batch, (lists, lengths), (top, count), low == 0)
        for left, high, step in strips_of(columns, dW):
            strip = Strip(sums.array, sums.start + BLOCK * left, step)
            copy_out(Span(dW, top * columns + left), columns, strip, count, high)


@device
def first_column(x, column):
    """Where the eight columns that are looked at for this one begin: the last of x may overlap those before them."""
    return min(column, x.depth - FOUND_AT_ONCE)


@device
def list_nonzeros(lists, lengths, x, top, count, rows):
    """For each of `count` columns of x from `top` on, the rows where it is not 0, -0.0 being a number."""
    noinline()
    for left in range(0, count, FOUND_AT_ONCE):
        column = x.start + first_column(x, top + left)
        for j in range(left, left + FOUND_AT_ONCE):
            store_scalar(lengths.array, lengths.start + j, 0)
        for r in range(0, rows, FOUND_AT_ONCE):
            square = np.uint64(0)
            for i in range(r, min(rows, r + FOUND_AT_ONCE)):
                square |= nonzero_bits(x.bits, column + i * x.depth) << np.uint64(8 * (i - r))
            square = transpose_bits(square)
            for j in range(left, left + FOUND_AT_ONCE):
                start = lists.start + j * BATCH
                length = load_scalar(lengths.array, lengths.start + j)
                end = append_set_bits(lists.array, start + length, square & np.uint64(255), r)
                store_scalar(lengths.array, lengths.start + j, end - start)
                square >>= np.uint64(8)


@device
def transpose_bits(square):
    """Eight bytes of eight bits: bit j of byte i becomes bit i of byte j (Hacker's Delight, 7-3)."""
    square = exchange_bits(square, np.uint64(7), np.uint64(0x00AA00AA00AA00AA))
    square = exchange_bits(square, np.uint64(14), np.uint64(0x0000CCCC0000CCCC))
    return exchange_bits(square, np.uint64(28), np.uint64(0x00000000F0F0F0F0))


@device
def exchange_bits(bits, shift, mask):
    """The bits of the mask and those `shift` after them change places."""
    changed = (bits ^ bits >> shift) & mask
    return bits ^ changed ^ changed << shift


@device
def add_columns(sums, strip, x, found, columns, is_first):
    """sums[k] (+)= the numbers of column k of x times the strip's rows. found: lists, lengths; columns: first, count."""
    vectors = strip.step // lanes(strip.array)
    if vectors == COUNTS[3]:
        add_columns_of(sums, strip, x, found, columns, is_first, widest(strip.array))
    elif vectors == COUNTS[2]:
        add_columns_of(sums, strip, x, found, columns, is_first, wide(strip.array))
    elif vectors == COUNTS[1]:
        add_columns_of(sums, strip, x, found, columns, is_first, narrow(strip.array))
    else:
        add_columns_of(sums, strip, x, found, columns, is_first, narrowest(strip.array))


@device
def add_columns_of(sums, strip, x, found, columns, is_first, like):
    """like: as many vectors as a row of the strips has."""
    noinline()
    (lists, lengths), (top, count) = found, columns
    for k in range(count):
        column, left = top + k, k // FOUND_AT_ONCE * FOUND_AT_ONCE
        which = left + column - first_column(x, top + left)
        total = like if is_first else load_vectors(sums.array, sums.start + k * sums.step, like)
        first = lists.start + which * BATCH
        for i in range(first, first + load_scalar(lengths.array, lengths.start + which)):
            r = np.intp(load_scalar(lists.array, i))
            number = broadcast(strip.array, x.array, x.start + r * x.depth + column)
            total = add_scaled(total, number, strip.array, strip.start + r * strip.step)
        store_vectors(sums.array, sums.start + k * sums.step, total)
