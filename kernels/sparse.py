"""Input that is mostly zeros, such as MNIST's images (81 %): the zeros are left out, once, and never multiplied.

A row becomes its numbers that are not 0 and their columns. The first layer then reads one row of W for each of them:
    z[r] = b + sum of value * W[column]          W[column] += alpha * value * delta[r]
The sums are made in the same order as the dense product's, k rising, with the zeros missing. 0 * w is 0 for every w that
is finite, so the result is the same as long as W is; the caller looks to that.

What costs is reading: W, the data, and the code of a number's place. So the rows of W are taken in blocks, of which two
panels stay in the first-level cache while all rows of the batch pass. A number of the data takes two bytes: its column
within the block, and its code, where a data set has no more than 256 different numbers, as images have. And four of them
are read at once, a *quad*; what is left free in the last quad of a block is 0 * the block's first row.

All of it together, float32 recipe, two threads: training 1.3 to 1.8 times as fast, evaluating 2.2 times. Tried and lost:
blocks and codes with one sum for each vector instead of two (no gain: each addition waits for the one before it); blocks
of 12, 16, 20, 28 or 32 KB (7 to 13 % slower); the next batch prefetched row by row between the updates (30 us a step).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arrays import flat
from .compiler import kernel
from .layout import DELTA, SIZE, WIDTH, B, W, Z
from .machine import VECTOR_BYTES
from .matmul import copy_row, panel_width
from .simd import add, at, broadcast, fill, fma, lanes, load, multiply, prefetch, store, zeros
from .threads import available_threads, next_part, run, share

LARGEST_DENSITY = 0.4  # measured: up to here sparse is the faster, 1.1 times at 0.4 (784-512-10), 2.4 times at 0.1
LARGEST_BLOCK = min(256, 25 * 1024 // (4 * VECTOR_BYTES))  # two panels of it leave room in a first-level cache of 32 KB
CODES, SLOTS = 256, 1024


class Rows(NamedTuple):
    """A data set as kernels read it: dense, or sparse by blocks of `block` columns.

    Dense: number i = row * features + column is numbers[codes[i]], or numbers[i] where codes is empty; quads and starts
    are empty. Sparse: block b of row r has the quads from starts[r * blocks + b] to the next start, of four numbers
    each, 16 bits for each: the number's column less b * block in the lower 8, and its code in the upper 8. Number i is
    numbers[code], or, where `coded` is 0, numbers[i].
    """

    numbers: Any
    codes: Any
    quads: Any
    starts: Any
    block: int
    blocks: int
    coded: int


def dense_rows(x, numbers=None) -> Rows:
    """x (N, features), C-contiguous, floating, or codes, uint8, of `numbers` (256,) -> the same memory, for kernels."""
    codes, quads, starts = np.empty(0, np.uint8), np.empty(0, np.uint64), np.empty(0, np.int64)
    if numbers is None:
        return Rows(flat(x), codes, quads, starts, 0, 0, 0)
    return Rows(numbers, flat(x), quads, starts, 0, 0, 1)


def prepare_rows(x, numbers=None) -> Rows:
    """The same, sparse where that is faster; with `numbers`, numbers[0] is 0."""
    sample, features = x[:: max(1, len(x) // 256)], x.shape[1]
    if np.count_nonzero(sample) > LARGEST_DENSITY * sample.size or not x.size:
        return dense_rows(x, numbers)
    blocks = -(-features // LARGEST_BLOCK)
    block, threads, values = -(-features // blocks), available_threads(), flat(x)
    bits, starts = values.view(f"uint{8 * x.itemsize}"), np.zeros(len(x) * blocks + 1, np.int64)
    slots = np.zeros(threads * SLOTS if numbers is None else 0, bits.dtype)
    run(_count_quads, threads, values, bits, features, block, blocks, starts, slots)
    np.cumsum(starts, out=starts)
    distinct = np.unique(slots)  # 0 is one of them: more than half of the slots are empty
    slot_codes = np.searchsorted(distinct, slots).astype(np.uint8)
    coded = numbers is not None or len(distinct) <= CODES
    if numbers is None:
        numbers = distinct.view(x.dtype) if coded else np.zeros(4 * starts[-1], x.dtype)
    rows = Rows(numbers, np.empty(0, np.uint8), np.zeros(starts[-1], np.uint64), starts, block, blocks, int(coded))
    run(_leave_out_zeros, threads, values, bits, features, slots, slot_codes, rows)
    return rows


@kernel
def _count_quads(thread, threads, control, x, bits, features, block, blocks, counts, slots):
    """counts[r * blocks + b + 1] = the quads that block b of row r needs; its different numbers are put in `slots`."""
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share((len(counts) - 1) // blocks, part, threads)
        room = CODES if len(slots) > 0 else 0
        for r in range(first, end):
            for b in range(blocks):
                count = 0
                for k in range(r * features + b * block, r * features + min((b + 1) * block, features)):
                    if at(x, k) != 0:
                        count += 1
                        if room > 0:
                            place = slot(slots, part, bits[k])
                            room -= slots[place] == 0
                            slots[place] = bits[k]
                counts[r * blocks + b + 1] = (count + 3) // 4
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def slot(slots, part, bits):
    """Where these bits, not all 0, are in this part's hash table, or belong: the first free slot from their own on."""
    start, at = part * SLOTS, np.uint64(bits) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(54)  # Fibonacci hashing
    while slots[start + np.intp(at)] != 0 and slots[start + np.intp(at)] != bits:
        at = (at + np.uint64(1)) % np.uint64(SLOTS)
    return start + np.intp(at)


@kernel
def _leave_out_zeros(thread, threads, control, x, bits, features, slots, slot_codes, rows):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share((len(rows.starts) - 1) // rows.blocks, part, threads)
        for r in range(first, end):
            for b in range(rows.blocks):
                place, left = 4 * rows.starts[r * rows.blocks + b], r * features + b * rows.block
                for k in range(left, r * features + min((b + 1) * rows.block, features)):
                    if at(x, k) != 0:
                        code = np.uint64(0)
                        if rows.coded == 0:
                            rows.numbers[place] = x[k]
                        elif len(slots) > 0:
                            code = np.uint64(slot_codes[slot(slots, part, bits[k])])
                        else:
                            code = np.uint64(bits[k])
                        entry = np.uint64(k - left) | code << np.uint64(8)
                        rows.quads[place // 4] |= entry << np.uint64(16 * (place % 4))
                        place += 1
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def take(memory, data, numbers, quad, place, turn):
    """Number `turn` of a quad, which stands at `place`: in all lanes of a vector; and its column."""
    entry = quad >> np.uint64(16 * turn)
    i = np.intp(entry >> np.uint64(8) & np.uint64(255)) if data.coded != 0 else 4 * place + turn
    return broadcast(memory, numbers, i), np.intp(entry & np.uint64(255))


@kernel(part=True)
def copy_dense_row(data, row, features, memory, target):
    """One row of a dense data set -> memory[target : target + features]."""
    if len(data.codes) == 0:
        copy_row(data.numbers, row * features, features, memory, target)
    else:
        for k in range(features):
            memory[target + k] = data.numbers[data.codes[row * features + k]]


@kernel(part=True)
def forward_sparse(memory, table, data, batches, rows, r0, count, first, end):
    """The first layer's sums, its panels from `first` to `end`: rows r0 to r0 + count of z from batches[rows], ..."""
    width, panel = lanes(memory), panel_width(memory)
    wide, z = table[1, WIDTH], table[1, Z] + r0 * table[1, WIDTH]
    for r in range(count):
        for j in range(first * panel, end * panel, width):
            store(memory, z + r * wide + j, load(memory, table[0, B] + j))
    for block in range(data.blocks):
        for p in range(first, end, 2):
            w = table[0, W] + (p * table[0, SIZE] + block * data.block) * panel
            step = min(1, end - 1 - p) * table[0, SIZE] * panel  # to the second panel. A single one is taken twice
            for r in range(count):
                place = batches[rows + r] * data.blocks + block
                start, stop = data.starts[place], data.starts[place + 1]
                add_numbers(memory, data, start, stop, w, step, z + r * wide + p * panel)


@kernel(part=True)
def add_numbers(memory, data, start, stop, w, step, out):
    """Two panels of z from `out`: += the quads from `start` to `stop` * their rows of W, at w and w + step.

    Two sums of each, or every addition would wait for the one before it.
    """
    width, panel = lanes(memory), panel_width(memory)
    right = out + min(step, panel)
    s0, s1, s2, s3 = load(memory, out), load(memory, out + width), load(memory, right), load(memory, right + width)
    t0 = t1 = t2 = t3 = zeros(memory)
    for place in range(start, stop):
        quad = at(data.quads, place)
        for turn in range(0, 4, 2):
            v, column = take(memory, data, data.numbers, quad, place, turn)
            i = w + column * panel
            s0, s1 = fma(v, load(memory, i), s0), fma(v, load(memory, i + width), s1)
            i += step
            s2, s3 = fma(v, load(memory, i), s2), fma(v, load(memory, i + width), s3)
            v, column = take(memory, data, data.numbers, quad, place, turn + 1)
            i = w + column * panel
            t0, t1 = fma(v, load(memory, i), t0), fma(v, load(memory, i + width), t1)
            i += step
            t2, t3 = fma(v, load(memory, i), t2), fma(v, load(memory, i + width), t3)
    store(memory, out, add(s0, t0))
    store(memory, out + width, add(s1, t1))
    store(memory, right, add(s2, t2))
    store(memory, right + width, add(s3, t3))


@kernel(part=True)
def update_sparse(memory, table, data, batches, rows, count, alpha, to, first, end):
    """The first layer's W, its panels from `first` to `end`, += alpha * the rows batches[rows], ... * their deltas.

    `to` is where from W: 0, or SPAN for its gradient.
    """
    panel, wide = panel_width(memory), table[1, WIDTH]
    for block in range(data.blocks):
        for p in range(first, end, 2):
            w = table[0, W] + to + (p * table[0, SIZE] + block * data.block) * panel
            step, delta = table[0, SIZE] * panel, table[1, DELTA] + p * panel
            for r in range(count):
                place = batches[rows + r] * data.blocks + block
                start, stop = data.starts[place], data.starts[place + 1]
                if p + 1 < end:
                    add_to_panels(memory, data, start, stop, w, step, delta + r * wide, alpha)
                else:
                    add_to_one_panel(memory, data, start, stop, w, delta + r * wide, alpha)


@kernel(part=True)
def add_to_panels(memory, data, start, stop, w, step, delta, alpha):
    """Rows of W, two panels, at w and w + step: += alpha * the quads from `start` to `stop` * delta."""
    width, panel, factor = lanes(memory), panel_width(memory), fill(memory, alpha)
    d0, d1 = multiply(factor, load(memory, delta)), multiply(factor, load(memory, delta + width))
    delta += panel
    d2, d3 = multiply(factor, load(memory, delta)), multiply(factor, load(memory, delta + width))
    for place in range(start, stop):
        quad = at(data.quads, place)
        for turn in range(4):
            v, column = take(memory, data, data.numbers, quad, place, turn)
            i = w + column * panel
            store(memory, i, fma(v, d0, load(memory, i)))
            store(memory, i + width, fma(v, d1, load(memory, i + width)))
            i += step
            store(memory, i, fma(v, d2, load(memory, i)))
            store(memory, i + width, fma(v, d3, load(memory, i + width)))


@kernel(part=True)
def add_to_one_panel(memory, data, start, stop, w, delta, alpha):
    width, panel, factor = lanes(memory), panel_width(memory), fill(memory, alpha)
    d0, d1 = multiply(factor, load(memory, delta)), multiply(factor, load(memory, delta + width))
    for place in range(start, stop):
        quad = at(data.quads, place)
        for turn in range(4):
            v, column = take(memory, data, data.numbers, quad, place, turn)
            i = w + column * panel
            store(memory, i, fma(v, d0, load(memory, i)))
            store(memory, i + width, fma(v, d1, load(memory, i + width)))


@kernel(part=True)
def prefetch_rows(data, batches, rows, count):
    """Have the rows batches[rows], ... brought to the cache, while other work goes on; of those after them, the starts.

    In a loop of its own: between the rows of an update, each start that is waited for held up the update, 30 us a step.
    """
    for i in range(rows, min(rows + count, len(batches))):
        if batches[i] < 0:  # the end of a shorter batch
            return
        place = batches[i] * data.blocks
        for quad in range(data.starts[place], data.starts[place + data.blocks], 8):
            prefetch(data.quads, quad)
    for i in range(rows + count, min(rows + 2 * count, len(batches))):
        prefetch(data.starts, batches[i] * data.blocks)
