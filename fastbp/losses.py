"""The losses of a network's scores, in NumPy: of each row (N,), and the derivative of their sum by the scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .checks import Array

EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array]:
    """scores (N, C), labels (N,) -> -log(y[label] + 1e-7) with y = softmax(scores), (N,); y - one-hot (N, C)."""
    losses, y = cross_entropies(scores, labels)
    y[np.arange(len(y)), labels] -= 1
    return losses, y


def cross_entropies(scores: Array, labels: Array) -> tuple[Array, Array]:
    """The same losses, and y."""
    with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN, as it must
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        y = exponentials / exponentials.sum(axis=1, keepdims=True)
    return -np.log(y[np.arange(len(scores)), labels] + y.dtype.type(EPSILON)), y


def squared_error(scores: Array, t: Array) -> tuple[Array, Array]:
    """scores, t (N, M) -> Σ (y - t)² / 2, (N,), float64; y - t (N, M). y = scores."""
    difference = scores - t
    return (difference * difference).sum(axis=1, dtype=np.float64) / 2, difference


def binary_cross_entropy(scores: Array, t: Array) -> tuple[Array, Array]:
    """scores, t (N, M) -> Σ -t log y - (1 - t) log(1 - y) with y = sigmoid(scores), (N,), float64; y - t (N, M)."""
    size = np.exp(-np.abs(scores))
    y = np.where(scores >= 0, 1, size) / (1 + size)
    return binary_cross_entropies(scores, t).sum(axis=1, dtype=np.float64), y - t


def binary_cross_entropies(scores: Array, t: Array) -> Array:
    """scores, t (any shape) -> the same loss of each number; scores of any size do not overflow."""
    with np.errstate(invalid="ignore"):
        return np.maximum(scores, 0) - scores * t + np.log1p(np.exp(-np.abs(scores)))


def absolute_error(scores: Array, t: Array) -> tuple[Array, Array]:
    """scores, t (N, M) -> Σ |y - t|, (N,), float64; the sign of y - t (N, M). y = scores."""
    difference = scores - t
    return np.abs(difference).sum(axis=1, dtype=np.float64), np.sign(difference)


def huber(scores: Array, t: Array) -> tuple[Array, Array]:
    """Half the squared error, but growing linearly beyond 1 (Huber 1964): Σ of it, (N,); y - t from -1 to 1. y = scores."""
    size, slope = np.abs(scores - t), np.clip(scores - t, -1, 1)
    return np.where(size <= 1, size * size / 2, size - 0.5).sum(axis=1, dtype=np.float64), slope


def poisson(scores: Array, t: Array) -> tuple[Array, Array]:
    """Half the Poisson deviance, Σ t log(t / y) - t + y, (N,); y - t. y = exp(scores), t is not negative."""
    y = np.exp(scores)
    with np.errstate(divide="ignore", invalid="ignore"):  # where t is 0, the first term is
        first = np.where(t > 0, t * (np.log(t) - scores), 0)
    return (first - t + y).sum(axis=1, dtype=np.float64), y - t


ROW_LOSSES: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    function.__name__: function
    for function in (cross_entropy, squared_error, binary_cross_entropy, absolute_error, huber, poisson)
}
