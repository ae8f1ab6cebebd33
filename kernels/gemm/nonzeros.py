"""x @ W for an x that is mostly zeros, as images of digits are: row by row, only the numbers that are not zero.

81 % of MNIST's pixels are zeros. A row of the result is the sum of the rows of W that meet its other numbers: out[r] = b +
sum of x[r, k] * W[k]. The sum stays in registers, up to eight vectors of columns at a time, of 32 bytes thirteen; W is taken
in blocks of rows that stay close while all rows of x pass, and copied to where its rows begin on cache lines. In which
columns a row has numbers is found eight at a time and without a branch (`append_set_bits`): how many there are is not known
before, and a branch for each was mispredicted more often than not. x may have another dtype than W: a data set of float32
needs no copy in float64.

0 * inf is NaN, so what is passed over must meet finite numbers: that is looked at on the way, and otherwise the result is
None and the dense product is made.

(100, 784) @ (784, 50), x in the cache, one thread of a Xeon with AVX-512, beside six rows together, of which what is zero in
all was passed over: a whole call of affine_forward in float64 70 to 79 us against 110 to 115, in float32 57 against 65; the
loops alone 54 and 35 us, with vectors of 32 bytes 81 and 43. Measured and rejected: zeros found in scalar code, or with a
loop over the bits of 16 (as slow as six rows together); blocks of 64 or
196 rows (0 to 15 % slower); reading the next row ahead. For x.T @ dout see `nonzero_columns`.

Vectors of 32 bytes, one thread of an EPYC without AVX-512, thirteen of them together instead of eight and five (each strip
looks for the numbers of x once more): affine_forward of 100 x 784 x 50 in float64 0.79 of the time, x 100 0.86, in float32
x 100 0.77; blocks of 56 rows as fast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.arrays import empty, flat, workspace
from ..runtime.chunks import CHUNKS_PER_THREAD, chunk_bounds, claimed
from ..runtime.compiler import device, kernel
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import (
    add,
    broadcast,
    fma,
    lanes,
    load,
    load_scalar,
    noinline,
    reduce_add,
    store,
    store_scalar,
    zeros,
)
from ..runtime.threads import parallel_kernel, run
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

LARGEST_DENSITY = 0.3
SAMPLES = 1024  # numbers looked at to estimate the density
LEAST_ROWS = 6  # below, copying W takes longer than multiplying
SPARSE_THRESHOLD = 500_000  # multiplications; below, dense products are as fast
PARALLEL_THRESHOLD = 600_000  # multiplications, zeros among them: two threads take 0.55 to 0.75 of the time
BLOCK = 112  # rows of W: with 8 vectors of 64 bytes, 56 KB; with 13 of 32 bytes, 46 KB
BATCH = 128  # rows of x that pass together: their sums, and they themselves, stay in the second-level cache
MOST_VECTORS = COUNTS[-1]
PLACES, PLACE = BLOCK + FOUND_AT_ONCE, np.dtype(np.int32)


class Numbers(NamedTuple):
    """The left-hand side: number (r, k) is array[start + r * depth + k], and `bits` the same memory as integers."""

    array: Any
    bits: Any
    start: int
    depth: int


class Strip(NamedTuple):
    """Some columns of a matrix, copied: row i begins at array[start + i * step], on a cache line."""

    array: Any
    start: int
    step: int


def is_sparse(x, W):
    """Whether x (N, D) @ W (D, M) repays looking for zeros."""
    if not repays_looking(len(x), *W.shape, W.dtype):
        return False
    return x.flags.c_contiguous and W.flags.c_contiguous and _has_mostly_zeros(flat(x))


def repays_looking(rows, depth, columns, dtype):
    """Whether a product of these sizes repays looking for zeros."""
    if rows * depth * columns < SPARSE_THRESHOLD or rows < LEAST_ROWS or depth < FOUND_AT_ONCE:
        return False
    return columns * dtype.itemsize >= 2 * VECTOR_BYTES


def sparse_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> x @ W + b, (N, M), or None where W is not finite."""
    (rows, depth), columns = x.shape, W.shape[1]
    out = empty((rows, columns), W.dtype)
    threads = threads_for(x.size * columns, PARALLEL_THRESHOLD)
    chunk_count = min(max(threads, -(-rows // BATCH)), CHUNKS_PER_THREAD * threads)
    size = (BATCH + BLOCK) * MOST_VECTORS * VECTOR_BYTES // W.itemsize
    scratch = workspace(threads * size, W.dtype)[: threads * size]
    sizes = rows, depth, columns, chunk_count
    numbers, places = flat(x), workspace(threads * PLACES, PLACE)
    x_fields = numbers, numbers.view(f"i{numbers.itemsize}"), 0, depth
    zeros_times_W = np.zeros(threads, W.dtype)
    run(_forward, threads, out.reshape(-1), x_fields, flat(W), flat(b), sizes, scratch, (places, zeros_times_W))
    return out if not zeros_times_W.any() else None


@kernel
def _has_mostly_zeros(x):
    return has_mostly_zeros(x)


@device
def has_mostly_zeros(x):
    """Whether most numbers of x are zero, by a sample of about SAMPLES, evenly spread."""
    noinline()
    step, found = max(1, x.size // SAMPLES) | 1, 0
    for i in range(0, x.size, step):
        found += load_scalar(x, i) != 0
    return found < LARGEST_DENSITY * SAMPLES


@parallel_kernel
def _forward(work, out, x, W, bias, sizes, scratch, found):
    """found: places of numbers, and for each thread the sum of 0 times what it has read of W, NaN if that is not finite."""
    thread, threads, _ = work
    x, (rows, depth, columns, chunk_count) = Numbers(*x), sizes
    size, places = len(scratch) // threads, Span(found[0], thread * PLACES)
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds(rows, chunk, chunk_count)
        for top in range(first, end, BATCH):
            batch = Numbers(x.array, x.bits, x.start + top * depth, depth)
            out_rows, count = Span(out, top * columns), min(BATCH, end - top)
            zero = multiply_rows(out_rows, batch, W, bias, (count, columns), Span(scratch, thread * size), places)
            store_scalar(found[1], thread, load_scalar(found[1], thread) + zero)


@device
def multiply_rows(out, x, W, bias, sizes, scratch, places):
    """The Span out (rows, columns) = the Numbers x @ W + bias. sizes: rows, at most BATCH, and columns.

    Returns the sum of 0 times the numbers of W.
    """
    (rows, columns), zero = sizes, W.dtype.type(0)
    for left, high, step in strips_of(columns, W):
        sums = Strip(scratch.array, scratch.start, step)
        block = Strip(scratch.array, scratch.start + BATCH * step, step)
        for r in range(rows):
            for j in range(high):
                store_scalar(sums.array, sums.start + r * step + j, load_scalar(bias, left + j))
        for top in range(0, x.depth, BLOCK):
            count = min(BLOCK, x.depth - top)
            zero += copy_in(block, Span(W, top * columns + left), columns, count, high)
            if zero != 0:  # the result will not do: of a network that has diverged, all W are NaN
                return zero
            add_block(sums, block, Numbers(x.array, x.bits, x.start + top, x.depth), (rows, count), places)
        copy_out(Span(out.array, out.start + left), columns, sums, rows, high)
    return zero


@device
def strips_of(columns, like):
    """A matrix of so many columns in as few strips as can be, all but the last of them as wide: of each the first column,
    how many columns it has, and numbers from row to row, those of as many whole vectors as there is code for."""
    needed = (columns + lanes(like) - 1) // lanes(like)
    count = (needed + MOST_VECTORS - 1) // MOST_VECTORS
    step = count_for((needed + count - 1) // count) * lanes(like)
    for left in range(0, columns, step):
        high = min(step, columns - left)
        yield left, high, count_for((high + lanes(like) - 1) // lanes(like)) * lanes(like)


@device
def count_for(needed):
    """The least of COUNTS that is enough for so many vectors."""
    if needed > COUNTS[2]:
        return COUNTS[3]
    if needed > COUNTS[1]:
        return COUNTS[2]
    return COUNTS[1] if needed > COUNTS[0] else COUNTS[0]


@device
def copy_in(strip, source, columns, rows, high):
    """`high` columns of a matrix of so many columns, from the Span on, to the strip; what is beyond them is any number.

    Returns the sum of 0 times the numbers: looking at W before would read it once more, 30 us of 230 in a script's step.
    """
    array, width, rest = strip.array, lanes(strip.array), strip.array.dtype.type(0)
    whole, pairs, zero, other = high // width * width, high // (2 * width) * 2 * width, zeros(array), zeros(array)
    for i in range(rows):
        start, target = source.start + i * columns, strip.start + i * strip.step
        for j in range(0, pairs, 2 * width):  # one sum alone would wait for each addition
            numbers, more = load(source.array, start + j), load(source.array, start + j + width)
            zero, other = fma(numbers, zeros(array), zero), fma(more, zeros(array), other)
            store(array, target + j, numbers)
            store(array, target + j + width, more)
        for j in range(pairs, whole, width):
            numbers = load(source.array, start + j)
            zero = fma(numbers, zeros(array), zero)
            store(array, target + j, numbers)
        for j in range(whole, high):
            number = load_scalar(source.array, start + j)
            rest += array.dtype.type(0) * number
            store_scalar(array, target + j, number)
    return rest + reduce_add(add(zero, other))


@device
def copy_out(target, columns, strip, rows, high):
    """The first `high` columns of the strip to a matrix of so many columns, from the Span on."""
    whole = high // lanes(strip.array) * lanes(strip.array)
    for i in range(rows):
        out, source = target.start + i * columns, strip.start + i * strip.step
        for j in range(0, whole, lanes(strip.array)):
            store(target.array, out + j, load(strip.array, source + j))
        for j in range(whole, high):
            store_scalar(target.array, out + j, load_scalar(strip.array, source + j))


@device
def add_block(sums, block, x, sizes, places):
    """sums += x @ block. sizes: rows of x, rows of the block."""
    (rows, count), vectors = sizes, sums.step // lanes(sums.array)
    if vectors == COUNTS[3]:
        add_block_of(sums, block, x, rows, count, places, widest(block.array))
    elif vectors == COUNTS[2]:
        add_block_of(sums, block, x, rows, count, places, wide(block.array))
    elif vectors == COUNTS[1]:
        add_block_of(sums, block, x, rows, count, places, narrow(block.array))
    else:
        add_block_of(sums, block, x, rows, count, places, narrowest(block.array))


@device
def add_block_of(sums, block, x, rows, count, places, like):
    """like: as many vectors as a row of the strips has."""
    noinline()
    for r in range(rows):
        row, out = x.start + r * x.depth, sums.start + r * sums.step
        found = find_nonzeros(places, x.bits, row, count)
        if found > 0:
            total = load_vectors(sums.array, out, like)
            for i in range(places.start, places.start + found):
                k = np.intp(load_scalar(places.array, i))
                number = broadcast(block.array, x.array, row + k)
                total = add_scaled(total, number, block.array, block.start + k * block.step)
            store_vectors(sums.array, out, total)


@device
def find_nonzeros(places, bits, start, count):
    """Write the k < count where bits[start + k] is not 0 to the Span places; how many there are. -0.0 counts as a number."""
    place, whole = places.start, count // FOUND_AT_ONCE * FOUND_AT_ONCE
    for k in range(0, whole, FOUND_AT_ONCE):
        place = append_set_bits(places.array, place, nonzero_bits(bits, start + k), k)
    for k in range(whole, count):
        store_scalar(places.array, place, k)
        place += np.intp(load_scalar(bits, start + k) != 0)
    return place - places.start
