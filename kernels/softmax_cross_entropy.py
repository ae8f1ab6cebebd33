"""Softmax followed by the cross-entropy with the labels: one pass forward, one pass backward."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .exponential import exponential

EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def softmax_cross_entropy_forward(x, t):
    """x (N, C), t: indices (N,) or one-hot (N, C) -> loss, y: the mean of -log(y[label] + 1e-7), softmax(x) (N, C).

    The label of a one-hot row is its first maximum. The loss of no rows is NaN.
    """
    y = np.empty(x.shape, x.dtype)
    labels = t if t.ndim == 1 else t.argmax(axis=1)
    return _forward(flat(x), flat(labels), flat(y), *x.shape), y


def softmax_cross_entropy_backward(y, t):
    """y = softmax(x) (N, C), t: indices (N,) or one-hot (N, C) -> dx = (y - one-hot t) / N, (N, C)."""
    dx = np.empty(y.shape, y.dtype)
    if t.ndim == 1:
        _backward_indices(flat(y), flat(t), flat(dx), *y.shape)
    else:
        _backward_one_hot(flat(y), flat(t), flat(dx), y.shape[0])
    return dx


@kernel(part=True)
def softmax_row(x, start, classes, y, y_start):
    """y[y_start : + classes] = softmax of x[start : + classes]. The maximum is taken off first: exp cannot overflow."""
    largest = x[start]
    for j in range(1, classes):
        if x[start + j] > largest:
            largest = x[start + j]
    for j in range(classes):
        y[y_start + j] = exponential(x[start + j] - largest)
    total = y.dtype.type(0)
    for j in range(classes):
        total += y[y_start + j]
    for j in range(classes):
        y[y_start + j] /= total


@kernel
def _forward(x, labels, y, rows, classes):
    loss = 0.0
    for i in range(rows):
        start = i * classes
        softmax_row(x, start, classes, y, start)
        loss -= np.log(y[start + labels[i]] + y.dtype.type(EPSILON))
    return loss / rows


@kernel
def _backward_indices(y, labels, dx, rows, classes):
    count = y.dtype.type(rows)
    for i in range(rows):
        start = i * classes
        for j in range(classes):
            dx[start + j] = y[start + j] / count
        label = start + labels[i]
        dx[label] = (y[label] - y.dtype.type(1)) / count


@kernel
def _backward_one_hot(y, t, dx, rows):
    count = y.dtype.type(rows)
    for i in range(y.size):
        dx[i] = (y[i] - t[i]) / count
