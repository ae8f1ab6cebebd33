"""Input that is mostly zeros, such as MNIST's images (81 %): the zeros are left out, once, and never multiplied.

A row becomes its numbers that are not 0 and their columns. The first layer then reads one row of W for each of them:
    z[r] = b + sum of value * W[column]          W[column] -= rate * value * delta[r]
The sums are made in the same order as the dense product's, k rising, with the zeros missing. 0 * w is 0 for every w that
is finite, so the result is the same as long as W is; the caller looks to that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arrays import flat
from .compiler import kernel
from .layout import DELTA, SIZE, WIDTH, B, W, Z
from .matmul import panel_width
from .simd import broadcast, fill, fma, lanes, load, multiply, prefetch, store
from .threads import available_threads, run, share

LARGEST_DENSITY = 0.35  # an estimate, from instructions, of where the dense product's tiles become faster
MOST_COLUMNS = 1 << 16


class Rows(NamedTuple):
    """A data set as kernels read it.

    Dense: values (rows * features,), columns and starts empty. Sparse: row r is values[starts[r] : starts[r + 1]] at
    columns[starts[r] : starts[r + 1]].
    """

    values: Any
    columns: Any
    starts: Any


def dense_rows(x) -> Rows:
    """x (N, features), C-contiguous -> the same memory, for kernels."""
    return Rows(flat(x), np.empty(0, np.uint16), np.empty(0, np.int64))


def prepare_rows(x) -> Rows:
    """x (N, features), C-contiguous, of any real dtype -> the same for kernels, sparse where that is faster."""
    sample = x[:: max(1, len(x) // 256)]
    if np.count_nonzero(sample) > LARGEST_DENSITY * sample.size or x.shape[1] > MOST_COLUMNS:
        return dense_rows(x)
    starts, threads = np.zeros(len(x) + 1, np.int64), available_threads()
    run(_count_numbers, threads, flat(x), x.shape[1], starts)
    np.cumsum(starts, out=starts)
    rows = Rows(np.empty(starts[-1], x.dtype), np.empty(starts[-1], np.uint16), starts)
    run(_leave_out_zeros, threads, flat(x), x.shape[1], *rows)
    return rows


@kernel
def _count_numbers(thread, threads, control, x, features, counts):
    """counts[r + 1] = how many numbers of row r are not 0."""
    first, end = share(len(counts) - 1, thread, threads)
    for r in range(first, end):
        count = 0
        for k in range(r * features, (r + 1) * features):
            count += x[k] != 0
        counts[r + 1] = count


@kernel
def _leave_out_zeros(thread, threads, control, x, features, values, columns, starts):
    first, end = share(len(starts) - 1, thread, threads)
    for r in range(first, end):
        at = starts[r]
        for k in range(features):
            value = x[r * features + k]
            if value != 0:
                values[at], columns[at] = value, k
                at += 1


@kernel(part=True)
def forward_sparse_row(memory, table, data, row, r, first, end):
    """Row r of the first layer's sums, its panels from `first` to `end`, from one row of a sparse data set.

    Four panels at a time are eight independent sums, which hide each other's latency; fewer do not quite.
    """
    width, panel = lanes(memory), panel_width(memory)
    start, stop, panel_step = data.starts[row], data.starts[row + 1], table[0, SIZE] * panel
    b, out = table[0, B], table[1, Z] + r * table[1, WIDTH]
    p = first
    while p + 3 < end:
        j = b + p * panel
        s0, s1, s2, s3 = (
            load(memory, j),
            load(memory, j + width),
            load(memory, j + panel),
            load(memory, j + panel + width),
        )
        j += 2 * panel
        s4, s5, s6, s7 = (
            load(memory, j),
            load(memory, j + width),
            load(memory, j + panel),
            load(memory, j + panel + width),
        )
        for k in range(start, stop):
            v = broadcast(memory, data.values, k)
            i = table[0, W] + p * panel_step + np.intp(data.columns[k]) * panel
            s0, s1 = fma(v, load(memory, i), s0), fma(v, load(memory, i + width), s1)
            i += panel_step
            s2, s3 = fma(v, load(memory, i), s2), fma(v, load(memory, i + width), s3)
            i += panel_step
            s4, s5 = fma(v, load(memory, i), s4), fma(v, load(memory, i + width), s5)
            i += panel_step
            s6, s7 = fma(v, load(memory, i), s6), fma(v, load(memory, i + width), s7)
        store_panels(memory, out + p * panel, s0, s1, s2, s3)
        store_panels(memory, out + (p + 2) * panel, s4, s5, s6, s7)
        p += 4
    while p < end:
        j, two = b + p * panel, min(1, end - 1 - p)  # one panel that is left is computed twice, into the same place
        s0, s1 = load(memory, j), load(memory, j + width)
        s2, s3 = load(memory, j + two * panel), load(memory, j + two * panel + width)
        for k in range(start, stop):
            v = broadcast(memory, data.values, k)
            i = table[0, W] + p * panel_step + np.intp(data.columns[k]) * panel
            s0, s1 = fma(v, load(memory, i), s0), fma(v, load(memory, i + width), s1)
            i += two * panel_step
            s2, s3 = fma(v, load(memory, i), s2), fma(v, load(memory, i + width), s3)
        store(memory, out - b + j, s0)
        store(memory, out - b + j + width, s1)
        store(memory, out - b + j + two * panel, s2)
        store(memory, out - b + j + two * panel + width, s3)
        p += 2


@kernel(part=True)
def store_panels(memory, out, s0, s1, s2, s3):
    width = lanes(memory)
    store(memory, out, s0)
    store(memory, out + width, s1)
    store(memory, out + 2 * width, s2)
    store(memory, out + 3 * width, s3)


@kernel(part=True)
def update_sparse_row(memory, table, data, row, r, rate, first, end):
    """The first layer's W, its panels from `first` to `end`, -= rate * one row of a sparse data set * its delta."""
    width, panel, factor = lanes(memory), panel_width(memory), fill(memory, -rate)
    start, stop, panel_step = data.starts[row], data.starts[row + 1], table[0, SIZE] * panel
    source = table[1, DELTA] + r * table[1, WIDTH]
    p = first
    while p < end:
        j, two = source + p * panel, end - p > 1
        d0, d1 = multiply(factor, load(memory, j)), multiply(factor, load(memory, j + width))
        if two:
            d2, d3 = multiply(factor, load(memory, j + panel)), multiply(factor, load(memory, j + panel + width))
            for k in range(start, stop):
                v = broadcast(memory, data.values, k)
                i = table[0, W] + p * panel_step + np.intp(data.columns[k]) * panel
                store(memory, i, fma(v, d0, load(memory, i)))
                store(memory, i + width, fma(v, d1, load(memory, i + width)))
                i += panel_step
                store(memory, i, fma(v, d2, load(memory, i)))
                store(memory, i + width, fma(v, d3, load(memory, i + width)))
        else:
            for k in range(start, stop):
                v = broadcast(memory, data.values, k)
                i = table[0, W] + p * panel_step + np.intp(data.columns[k]) * panel
                store(memory, i, fma(v, d0, load(memory, i)))
                store(memory, i + width, fma(v, d1, load(memory, i + width)))
        p += 2


@kernel(part=True)
def prefetch_row(data, row):
    """Have one row of a sparse data set brought to the cache, while other work goes on."""
    for k in range(data.starts[row], data.starts[row + 1], 16):
        prefetch(data.values, k)
        prefetch(data.columns, k)
