"""Softmax followed by the cross-entropy with the labels: one pass forward, one pass backward."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .exponential import exponential
from .simd import add, add_up, at, lanes, largest_lane, load, maximum, put, zeros
from .sums import added
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 300_000  # numbers; below, starting a thread costs more than it brings
EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def softmax_cross_entropy_forward(x, t):
    """x (N, C), t: indices (N,) or one-hot (N, C) -> loss, y: the mean of -log(y[label] + 1e-7), softmax(x) (N, C).

    The label of a one-hot row is its first maximum. The loss of no rows is NaN.
    """
    y, labels, threads = (
        np.empty(x.shape, x.dtype),
        t if t.ndim == 1 else t.argmax(axis=1),
        threads_for(x.size, WORTH_A_THREAD),
    )
    losses = np.zeros(8 * threads)
    run(_forward, threads, flat(x), flat(labels), flat(y), losses, *x.shape)
    return losses.sum() / len(x) if len(x) else np.nan, y


def softmax_cross_entropy_backward(y, t):
    """y = softmax(x) (N, C), t: indices (N,) or one-hot (N, C) -> dx = (y - one-hot t) / N, (N, C)."""
    dx = np.empty(y.shape, y.dtype)
    if t.ndim == 1:
        run(_backward_indices, threads_for(y.size, WORTH_A_THREAD), flat(y), flat(t), flat(dx), *y.shape)
    else:
        run(_backward_one_hot, threads_for(y.size, WORTH_A_THREAD), flat(y), flat(t), flat(dx), len(y))
    return dx


@kernel(part=True)
def softmax_row(x, start, classes, y, y_start):
    """y[y_start : + classes] = softmax of x[start : + classes]. The maximum is taken off first: exp cannot overflow.

    Numba would not make vectors of the maximum and the sum, whose order that changes.
    """
    largest = row_maximum(x, start, classes)
    for j in range(classes):
        put(y, y_start + j, exponential(at(x, start + j) - largest))
    scale = y.dtype.type(1) / row_sum(y, y_start, classes)
    for j in range(classes):
        put(y, y_start + j, at(y, y_start + j) * scale)


@kernel(part=True)
def row_maximum(x, start, count):
    """The largest of x[start : start + count]; with NaN among them, NaN or the largest of the others."""
    width, largest, done = lanes(x), at(x, start), 0
    if count >= width:
        largest_of_lanes = load(x, start)
        for j in range(width, count - width + 1, width):
            largest_of_lanes = maximum(largest_of_lanes, load(x, start + j))
        largest, done = largest_lane(largest_of_lanes), count // width * width
    for j in range(done, count):
        largest = at(x, start + j) if at(x, start + j) > largest else largest
    return largest


@kernel(part=True)
def row_sum(x, start, count):
    width, totals, done = lanes(x), zeros(x), count // lanes(x) * lanes(x)
    for j in range(0, done, width):
        totals = add(totals, load(x, start + j))
    total = add_up(totals)
    for j in range(done, count):
        total += at(x, start + j)
    return total


@kernel
def _forward(thread, threads, control, x, labels, y, losses, rows, classes):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(rows, part, threads)
        loss = 0.0, 0.0, 0.0
        for i in range(first, end):
            start = i * classes
            softmax_row(x, start, classes, y, start)
            loss = added(loss, -np.log(y[start + labels[i]] + y.dtype.type(EPSILON)), i - first)
        losses[8 * part] = loss[0] + loss[1] + loss[2]
        part = next_part(control, thread, threads, part)


@kernel
def _backward_indices(thread, threads, control, y, labels, dx, rows, classes):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(rows, part, threads)
        scale = y.dtype.type(1) / y.dtype.type(rows)
        for i in range(first, end):
            start = i * classes
            for j in range(classes):
                put(dx, start + j, at(y, start + j) * scale)
            label = start + labels[i]
            dx[label] = (y[label] - y.dtype.type(1)) * scale
        part = next_part(control, thread, threads, part)


@kernel
def _backward_one_hot(thread, threads, control, y, t, dx, rows):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(y.size, part, threads)
        scale = y.dtype.type(1) / y.dtype.type(rows)
        for i in range(first, end):
            put(dx, i, (at(y, i) - at(t, i)) * scale)
        part = next_part(control, thread, threads, part)
