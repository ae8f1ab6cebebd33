"""Input that is mostly zeros, such as MNIST's images (81 %): the zeros are left out, once, and never multiplied.

A row becomes its numbers that are not 0 and their columns. The first layer then reads one row of W for each of them:
    z[r] = b + sum of value * W[column]          W[column] += alpha * value * delta[r]
0 * w is 0 for every w that is finite, so the result is that of a dense product, up to rounding, as long as W is; the caller
looks to that.

What costs is reading: W, the data, and the code of a number's place. So the rows of W are taken in blocks, of which two
panels stay in the first-level cache while all rows of the batch pass. A number of the data takes two bytes, a *packed
entry*: its column within the block, and its code in a *codebook*, where a data set has no more than 256 different
numbers, as images have. Two of them are read at once; what is left free in the last two of a block is 0 * the block's
first row. (Four at once: 784-50-10 float32, 73 us a step in two threads, not 68: 6 % more entries, all such zeros, where
pairs make it 2 %.)

How many entries a row has in a block, no branch prediction foresees: 1,600 times in a step of MNIST the processor begins
anew, and then waits for the row's entries and for where they lie. So each row's bounds are read, and its entries brought to
the first-level cache, while the row before is worked on: 104 -> 86 us a step in one thread, 68 -> 59 in two.

Measured and rejected: blocks and codes with one sum for each vector instead of two (no gain: each addition waits for the one
before it); blocks of 12, 16, 20, 28 or 32 KB (7 to 13 % slower); the next batch prefetched row by row between the updates
(30 us a step; beside the rows that are a row ahead, 5 us); a row's last entries brought to the cache as well as its first
(no difference); two rows of the batch at once, by the columns that either has, 24 % fewer than both have, so that W's rows
are read and written once for both (in C, float32, one thread: forward 23 us instead of 17, update 28 instead of 25).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.arrays import flat
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.processors import VECTOR_BYTES, available_threads, first_level_cache
from ..runtime.simd import (
    add,
    broadcast,
    fill,
    fma,
    lanes,
    load,
    load_scalar,
    multiply,
    noinline,
    prefetch,
    store,
    store_scalar,
    zeros,
)
from ..runtime.threads import parallel_kernel, run
from .packing import copy_row, panel_width

LARGEST_DENSITY = 0.4  # measured: up to here sparse is the faster, 1.1 times at 0.4 (784-512-10), 2.4 times at 0.1
# Two panels of it leave some space in a first-level cache. In one of 48 KB six blocks of MNIST's columns take 0.95 of the
# time of a step that eight take, which are right for 32 KB. Sums are rounded otherwise then, as with other vectors.
LARGEST_BLOCK = min(256, first_level_cache() * 25 // 32 // (4 * VECTOR_BYTES))
CODES, SLOTS = 256, 1024
PAIRS_APART = 16  # as many as a cache line has


class Rows(NamedTuple):
    """A data set as kernels read it: dense, or sparse by blocks of `block` columns.

    Dense: number i = row * features + column is codebook[codes[i]], or codebook[i] where codes is empty; entries and indptr
    are empty. Sparse: block b of row r has the entries, in pairs, from indptr[r * blocks + b] to the next indptr. An
    entry has 16 bits: the number's column less b * block in the lower 8, and its code in the upper 8. Number i is
    codebook[code], or, where `coded` is 0, codebook[i]. The blocks before b have pairs_before[b] pairs in all rows.
    """

    codebook: Any
    codes: Any
    entries: Any
    indptr: Any
    block: int
    blocks: int
    coded: int
    pairs_before: Any


class Selection(NamedTuple):
    """Rows of a data set, such as a batch: those with the numbers order[first : first + count]."""

    order: Any
    first: int
    count: int


class Extent(NamedTuple):
    """The panels of W's columns from `first` to `end`, of the blocks of its rows from `low` to `high`."""

    first: int
    end: int
    low: int
    high: int


def dense_rows(x, codebook=None) -> Rows:
    """x (N, features), C-contiguous, floating, or codes, uint8, of `codebook` (256,) -> the same memory, for kernels."""
    codes, entries, indptr = np.empty(0, np.uint8), np.empty(0, np.uint32), np.empty(0, np.int64)
    if codebook is None:
        return Rows(flat(x), codes, entries, indptr, 0, 0, 0, indptr)
    return Rows(codebook, flat(x), entries, indptr, 0, 0, 1, indptr)


def prepare_rows(x, codebook=None) -> Rows:
    """Rows as `dense_rows` gives them, sparse where that is faster; with a codebook, codebook[0] is 0."""
    sample, features = x[:: max(1, len(x) // 256)], x.shape[1]
    if np.count_nonzero(sample) > LARGEST_DENSITY * sample.size or not x.size:
        return dense_rows(x, codebook)
    blocks = -(-features // LARGEST_BLOCK)
    block, threads, values = -(-features // blocks), available_threads(), flat(x)
    bits, indptr = values.view(f"uint{8 * x.itemsize}"), np.zeros(len(x) * blocks + 1, np.int64)
    slots = np.zeros(threads * SLOTS, bits.dtype) if codebook is None else None
    run(_count_pairs, threads, indptr, slots, values, bits, (features, block, blocks))
    pairs_before = np.concatenate(([0], np.cumsum(indptr[1:].reshape(-1, blocks).sum(axis=0))))
    np.cumsum(indptr, out=indptr)
    coded, slot_codes = True, None
    if codebook is None:
        distinct = np.unique(slots)  # 0 is one of them: more than half of the slots are empty
        slot_codes = np.searchsorted(distinct, slots).astype(np.uint8)
        coded = len(distinct) <= CODES
        codebook = distinct.view(x.dtype) if coded else np.zeros(2 * indptr[-1], x.dtype)
    codes, entries = np.empty(0, np.uint8), np.zeros(indptr[-1] + threads * PAIRS_APART, np.uint32)
    rows = Rows(codebook, codes, entries, indptr, block, blocks, int(coded), pairs_before)
    run(_pack_entries, threads, entries.view(np.uint16), tuple(rows), values, bits, features, slots, slot_codes)
    return rows


@parallel_kernel
def _count_pairs(work, counts, slots, x, bits, sizes):
    """counts[r * blocks + b + 1] = the pairs of entries that block b of row r needs; its different numbers go to `slots`.

    slots: None for bytes, which are their own codes. sizes: features, block, blocks.
    """
    threads, (features, block, blocks) = work[1], sizes
    for chunk in claimed(work, 1, threads):
        first, end = chunk_bounds((len(counts) - 1) // blocks, chunk, threads)
        left = CODES
        for r in range(first, end):
            for b in range(blocks):
                count, start, stop = 0, r * features + b * block, r * features + min((b + 1) * block, features)
                for k in range(start, stop):
                    count += load_scalar(x, k) != 0
                if slots is not None and left > 0 and count > 0:
                    left -= note_numbers(slots, chunk, x, bits, (start, stop, left))
                counts[r * blocks + b + 1] = (count + 1) // 2


@device
def note_numbers(slots, chunk, x, bits, where):
    """Put the numbers from where[0] to where[1] that are not 0 in this chunk's slots -> how many were new, of at most
    where[2]."""
    noinline()
    start, stop, left = where
    before = left
    for k in range(start, stop):
        if load_scalar(x, k) != 0 and left > 0:
            place = slot(slots, chunk, bits[k])
            left -= slots[place] == 0
            slots[place] = bits[k]
    return before - left


@device
def slot(slots, chunk, bits):
    """Where these bits, not all 0, are in this chunk's hash table, or belong: the first free slot from their own on."""
    start, place = chunk * SLOTS, np.uint64(bits) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(54)  # Fibonacci hashing
    while slots[start + np.intp(place)] != 0 and slots[start + np.intp(place)] != bits:
        place = (place + np.uint64(1)) % np.uint64(SLOTS)
    return start + np.intp(place)


@parallel_kernel
def _pack_entries(work, entries, rows, x, bits, features, slots, slot_codes):
    """entries: those of rows, one by one. At their end each chunk has a place for what is 0: written there, not left
    out, for which of them are 0 is hard to foresee, bytes take 0.45 of the time."""
    threads, rows = work[1], Rows(*rows)
    for chunk in claimed(work, 1, threads):
        first, end = chunk_bounds((len(rows.indptr) - 1) // rows.blocks, chunk, threads)
        beyond = len(entries) - 2 * PAIRS_APART * (chunk + 1)
        for r in range(first, end):
            for b in range(rows.blocks):
                place, left = 2 * rows.indptr[r * rows.blocks + b], r * features + b * rows.block
                for column in range(min(rows.block, features - b * rows.block)):
                    k = left + column
                    if slots is None:
                        is_there = load_scalar(bits, k) != 0
                        entry = np.uint16(column) | np.uint16(load_scalar(bits, k)) << np.uint16(8)
                        store_scalar(entries, place if is_there else beyond, entry)
                        place += is_there
                    elif load_scalar(x, k) != 0:
                        code = np.uint16(0)
                        if rows.coded == 0:
                            rows.codebook[place] = x[k]
                        else:
                            code = np.uint16(slot_codes[slot(slots, chunk, bits[k])])
                        store_scalar(entries, place, np.uint16(column) | code << np.uint16(8))
                        place += 1


@device
def unpack_entry(like, data, pair, place, number):
    """Entry `number` of the pair at `place`: its value in all lanes of a vector of like's dtype, and its column."""
    entry = np.uint64(pair) >> np.uint64(16 * number)
    i = np.intp(entry >> np.uint64(8) & np.uint64(255)) if data.coded != 0 else 2 * place + number
    return broadcast(like, data.codebook, i), np.intp(entry & np.uint64(255))


@device
def copy_dense_row(out, o0, data, row, features):
    """One row of a dense data set -> out[o0 : o0 + features]."""
    if len(data.codes) == 0:
        copy_row(out, o0, data.codebook, row * features, features)
    else:
        for k in range(features):
            out[o0 + k] = data.codebook[data.codes[row * features + k]]


@device
def multiply_sparse(z, w, bias, data, rows, extent):
    """The panels of z = bias + the selected rows of the data times those of w, as far as they are in an Extent.

    bias: where a row of panels begins in z's array, or -1 for zeros.
    """
    array, width, (first, end, low, high) = z.array, lanes(z.array), extent
    if rows.count == 0:
        return
    for r in range(rows.count):
        for p in range(first, end):
            for j in range(0, z.panel_step, width):
                place = p * z.panel_step + j
                begin = load(array, bias + place) if bias >= 0 else zeros(array)
                store(array, z.start + r * z.row_step + place, begin)
    for block in range(low, high):
        for p in range(first, end, 2):
            rows_of_w = w.start + p * w.panel_step + block * data.block * w.row_step
            ahead = bounds_ahead(data, rows, 0, block)
            for r in range(rows.count):
                bounds, ahead = ahead, bounds_ahead(data, rows, r + 1, block)
                out = z.start + r * z.row_step + p * z.panel_step
                if p + 1 < end:
                    add_two_panels(array, out, data, bounds, rows_of_w, w.panel_step)
                else:
                    add_one_panel(array, out, data, bounds, rows_of_w)


@device
def bounds_ahead(data, rows, r, block):
    """Where the pairs of row r in a block begin and end; they are brought to the cache. Beyond the last row: the last's."""
    place = load_scalar(rows.order, rows.first + min(r, rows.count - 1)) * data.blocks + block
    first, end = load_scalar(data.indptr, place), load_scalar(data.indptr, place + 1)
    prefetch(data.entries, first)
    return first, end


@device
def add_two_panels(array, out, data, bounds, w, step):
    """Two panels of z at `out` += the entries from bounds[0] to bounds[1] * their rows of W, at w and w + step.

    Two sums of each, or every addition would wait for the one before it.
    """
    width, panel = lanes(array), panel_width(array)
    right = out + panel
    s0, s1, s2, s3 = load(array, out), load(array, out + width), load(array, right), load(array, right + width)
    t0 = t1 = t2 = t3 = zeros(array)
    for place in range(bounds[0], bounds[1]):
        pair = load_scalar(data.entries, place)
        v, column = unpack_entry(array, data, pair, place, 0)
        i = w + column * panel
        s0, s1 = fma(v, load(array, i), s0), fma(v, load(array, i + width), s1)
        i += step
        s2, s3 = fma(v, load(array, i), s2), fma(v, load(array, i + width), s3)
        v, column = unpack_entry(array, data, pair, place, 1)
        i = w + column * panel
        t0, t1 = fma(v, load(array, i), t0), fma(v, load(array, i + width), t1)
        i += step
        t2, t3 = fma(v, load(array, i), t2), fma(v, load(array, i + width), t3)
    store(array, out, add(s0, t0))
    store(array, out + width, add(s1, t1))
    store(array, right, add(s2, t2))
    store(array, right + width, add(s3, t3))


@device
def add_one_panel(array, out, data, bounds, w):
    """What `add_two_panels` does, for one panel: the same sums in the same order."""
    width, panel = lanes(array), panel_width(array)
    s0, s1 = load(array, out), load(array, out + width)
    t0 = t1 = zeros(array)
    for place in range(bounds[0], bounds[1]):
        pair = load_scalar(data.entries, place)
        v, column = unpack_entry(array, data, pair, place, 0)
        i = w + column * panel
        s0, s1 = fma(v, load(array, i), s0), fma(v, load(array, i + width), s1)
        v, column = unpack_entry(array, data, pair, place, 1)
        i = w + column * panel
        t0, t1 = fma(v, load(array, i), t0), fma(v, load(array, i + width), t1)
    store(array, out, add(s0, t0))
    store(array, out + width, add(s1, t1))


@device
def update_sparse(w, delta, data, rows, alpha, extent):
    """The panels of w += alpha * the selected rows of the data, transposed, times those of delta, within an Extent."""
    array, (first, end, low, high) = w.array, extent
    if rows.count == 0:
        return
    for block in range(low, high):
        for p in range(first, end, 2):
            rows_of_w = w.start + p * w.panel_step + block * data.block * w.row_step
            ahead, d = bounds_ahead(data, rows, 0, block), delta.start + p * delta.panel_step
            for r in range(rows.count):
                bounds, ahead = ahead, bounds_ahead(data, rows, r + 1, block)
                if p + 1 < end:
                    add_to_two_panels(array, rows_of_w, w.panel_step, data, bounds, d + r * delta.row_step, alpha)
                else:
                    add_to_one_panel(array, rows_of_w, data, bounds, d + r * delta.row_step, alpha)


@device
def add_to_two_panels(array, w, step, data, bounds, delta, alpha):
    """Rows of W, two panels, at w and w + step: += alpha * the entries from bounds[0] to bounds[1] * delta."""
    width, panel, factor = lanes(array), panel_width(array), fill(array, alpha)
    d0, d1 = multiply(factor, load(array, delta)), multiply(factor, load(array, delta + width))
    delta += panel
    d2, d3 = multiply(factor, load(array, delta)), multiply(factor, load(array, delta + width))
    for place in range(bounds[0], bounds[1]):
        pair = load_scalar(data.entries, place)
        for number in range(2):
            v, column = unpack_entry(array, data, pair, place, number)
            i = w + column * panel
            store(array, i, fma(v, d0, load(array, i)))
            store(array, i + width, fma(v, d1, load(array, i + width)))
            i += step
            store(array, i, fma(v, d2, load(array, i)))
            store(array, i + width, fma(v, d3, load(array, i + width)))


@device
def add_to_one_panel(array, w, data, bounds, delta, alpha):
    width, panel, factor = lanes(array), panel_width(array), fill(array, alpha)
    d0, d1 = multiply(factor, load(array, delta)), multiply(factor, load(array, delta + width))
    for place in range(bounds[0], bounds[1]):
        pair = load_scalar(data.entries, place)
        for number in range(2):
            v, column = unpack_entry(array, data, pair, place, number)
            i = w + column * panel
            store(array, i, fma(v, d0, load(array, i)))
            store(array, i + width, fma(v, d1, load(array, i + width)))


@device
def prefetch_rows(data, rows, low, high):
    """Have the blocks from `low` to `high` of the selected rows brought to the cache, while other work goes on; of the rows
    after them, the indptr.

    In a loop of its own: between the rows of an update, each indptr that is waited for held up the update, 30 us a step.
    """
    order, first, count = rows
    for i in range(first, min(first + count, len(order))):
        if order[i] < 0:  # the end of a shorter batch
            return
        place = order[i] * data.blocks
        for pair in range(data.indptr[place + low], data.indptr[place + high], 16):
            prefetch(data.entries, pair)
    for i in range(first + count, min(first + 2 * count, len(order))):
        prefetch(data.indptr, order[i] * data.blocks)
