"""Softmax followed by the cross-entropy with the labels: one pass forward, one pass backward."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunk_bounds, chunks, claimed
from ..runtime.compiler import InnerKernel, device
from ..runtime.exponential import exponential
from ..runtime.pointers import address_of, call_at
from ..runtime.processors import threads_for
from ..runtime.simd import add, lanes, load, load_scalar, maximum, noinline, reduce_add, reduce_max, store_scalar, zeros
from ..runtime.sums import accumulate
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 300_000  # numbers; below, starting a thread costs more than it brings
WIDE = 128
BLOCK = 2048  # numbers that stay in the first-level cache between the maximum, exp, and the sum
EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def softmax_cross_entropy_forward(x, t):
    """x (N, C), t: indices (N,) or one-hot (N, C) -> loss, y: the mean of -log(y[label] + 1e-7), softmax(x) (N, C).

    The label of a one-hot row is its first maximum. The loss of no rows is NaN.
    """
    y, labels, threads = (
        empty(x.shape, x.dtype),
        t if t.ndim == 1 else t.argmax(axis=1),
        threads_for(x.size, PARALLEL_THRESHOLD),
    )
    losses = np.zeros(8 * threads)
    run(_forward, threads, flat(y), losses, flat(x), flat(labels), *x.shape)
    return (losses[0] if threads == 1 else losses.sum()) / len(x) if len(x) else np.nan, y


def softmax_cross_entropy_backward(y, t):
    """y = softmax(x) (N, C), t: indices (N,) or one-hot (N, C) -> dx = (y - one-hot t) / N, (N, C)."""
    dx = empty(y.shape, y.dtype)
    if t.ndim == 1:
        run(_backward_indices, threads_for(y.size, PARALLEL_THRESHOLD), flat(dx), flat(y), flat(t), *y.shape)
    else:
        run(_backward_one_hot, threads_for(y.size, PARALLEL_THRESHOLD), flat(dx), flat(y), flat(t), len(y))
    return dx


@device
def softmax_row(y, y_start, x, start, classes):
    """y[y_start : + classes] = softmax of x[start : + classes]. The maximum is taken off first: exp cannot overflow.

    Numba would not make vectors of the maximum and the sum, whose order that changes.
    """
    largest = row_maximum(x, start, classes)
    for j in range(classes):
        store_scalar(y, y_start + j, exponential(load_scalar(x, start + j) - largest))
    scale = y.dtype.type(1) / row_sum(y, y_start, classes)
    for j in range(classes):
        store_scalar(y, y_start + j, load_scalar(y, y_start + j) * scale)


@device
def softmax_rows(y, y_start, x, start, sizes):
    """`softmax_row` for some rows, one after the other. sizes: rows, classes, and the numbers from a row to the next; what y
    has in between, finite numbers, becomes 0.

    exp takes the numbers of all rows, in whole vectors: 100 rows of 10 classes take 4.9 us instead of 9.4, 1,000 rows 28
    instead of 70. Of rows that are WIDE, each by itself is as fast.
    """
    rows, classes, step = sizes
    if classes >= WIDE:
        for r in range(rows):
            softmax_row(y, y_start + r * step, x, start + r * step, classes)
        return
    for r in range(rows):
        largest = row_maximum(x, start + r * step, classes)
        for j in range(r * step, r * step + classes):
            store_scalar(y, y_start + j, load_scalar(x, start + j) - largest)
    exponential_range(y, y_start, rows * step)
    for r in range(rows):
        place = y_start + r * step
        scale = y.dtype.type(1) / row_sum(y, place, classes)
        for j in range(place, place + classes):
            store_scalar(y, j, load_scalar(y, j) * scale)
        for j in range(place + classes, place + step):
            store_scalar(y, j, 0)


@device
def exponential_range(y, start, count):
    """In place."""
    noinline()
    for i in range(start, start + count):
        store_scalar(y, i, exponential(load_scalar(y, i)))


@device
def row_maximum(x, start, count):
    """The largest of x[start : start + count]; with NaN among them, NaN or the largest of the others."""
    width, largest, done = lanes(x), load_scalar(x, start), 0
    if count >= width:
        largest_of_lanes = load(x, start)
        for j in range(width, count - width + 1, width):
            largest_of_lanes = maximum(largest_of_lanes, load(x, start + j))
        largest, done = reduce_max(largest_of_lanes), count // width * width
    for j in range(done, count):
        largest = load_scalar(x, start + j) if load_scalar(x, start + j) > largest else largest
    return largest


@device
def row_sum(x, start, count):
    width, totals, done = lanes(x), zeros(x), count // lanes(x) * lanes(x)
    for j in range(0, done, width):
        totals = add(totals, load(x, start + j))
    total = reduce_add(totals)
    for j in range(done, count):
        total += load_scalar(x, start + j)
    return total


@cache
def rows_address(dtype):
    """Where `_loss_rows` is, for scores of this dtype, compiled unless it was."""
    numbers, labels = np.empty(0, dtype), np.empty(0, np.int64)
    return address_of(_loss_rows, (numbers, np.empty(0), numbers), numbers, (labels, numbers), (0, 0), (0, 0, 0, False))


@device
def loss_rows(address, results, x, given, bounds, sizes):
    """Rows within these bounds: y = softmax(x), their losses, NaN where a label is no class, and dx, if it is needed.

    results: y, losses, dx; given: labels, and targets, of which labels are made where there are any; sizes: all rows,
    classes, numbers of targets, whether dx is needed.
    """
    call_at(address, None, (results, x, given, bounds, sizes))


@InnerKernel
def _loss_rows(results, x, given, bounds, sizes):
    (first, end), (rows, classes, are_targets, needs_dx) = bounds, sizes
    (y, losses, dx), (labels, targets) = results, given
    block, scale = max(1, BLOCK // max(1, classes)), y.dtype.type(1) / y.dtype.type(rows)
    for top in range(first, end, block):
        softmax_rows(y, top * classes, x, top * classes, (min(block, end - top), classes, classes))
    for i in range(first, end):
        start = i * classes
        if are_targets:
            labels[i] = place_of_maximum(targets, start, classes)
        label = labels[i]
        is_class = 0 <= label < classes
        losses[i] = -np.log(y[start + label] + y.dtype.type(EPSILON)) if is_class else np.nan
        if needs_dx and are_targets:
            for j in range(start, start + classes):
                store_scalar(dx, j, (load_scalar(y, j) - load_scalar(targets, j)) * scale)
        elif needs_dx:
            for j in range(start, start + classes):
                store_scalar(dx, j, load_scalar(y, j) * scale)
            if is_class:
                dx[start + label] = (y[start + label] - y.dtype.type(1)) * scale


@device
def place_of_maximum(numbers, start, count):
    """np.argmax of numbers[start : start + count]: the first of the largest, or of NaN."""
    place, largest = 0, load_scalar(numbers, start)
    for j in range(1, count):
        number = load_scalar(numbers, start + j)
        if number > largest or (number != number and largest == largest):
            place, largest = j, number
    return place


@device
def sum_of_losses(losses, rows):
    sums = (0.0, 0.0, 0.0)
    for i in range(rows):
        sums = accumulate(sums, losses[i], i)
    return sums[0] + sums[1] + sums[2]


@parallel_kernel
def _forward(work, y, losses, x, labels, rows, classes):
    threads = work[1]
    for chunk in claimed(work, 1, threads):
        first, end = chunk_bounds(rows, chunk, threads)
        loss, block = (0.0, 0.0, 0.0), max(1, BLOCK // max(1, classes))
        for top in range(first, end, block):
            count = min(block, end - top)
            softmax_rows(y, top * classes, x, top * classes, (count, classes, classes))
            for i in range(top, top + count):
                loss = accumulate(loss, -np.log(y[i * classes + labels[i]] + y.dtype.type(EPSILON)), i - first)
        losses[8 * chunk] = loss[0] + loss[1] + loss[2]


@parallel_kernel
def _backward_indices(work, dx, y, labels, rows, classes):
    for first, end in chunks(work, 1, rows):
        scale = y.dtype.type(1) / y.dtype.type(rows)
        for i in range(first, end):
            start = i * classes
            for j in range(classes):
                store_scalar(dx, start + j, load_scalar(y, start + j) * scale)
            label = start + labels[i]
            dx[label] = (y[label] - y.dtype.type(1)) * scale


@parallel_kernel
def _backward_one_hot(work, dx, y, t, rows):
    for first, end in chunks(work, 1, y.size):
        scale = y.dtype.type(1) / y.dtype.type(rows)
        for i in range(first, end):
            store_scalar(dx, i, (load_scalar(y, i) - load_scalar(t, i)) * scale)
