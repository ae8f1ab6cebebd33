"""Losses of regression other than the squared error, in NumPy: row by row, with the derivative by the scores."""

from __future__ import annotations

import numpy as np

from .checks import Array


def absolute_error(scores: Array, t: Array) -> tuple[Array, Array]:
    """scores, t (N, outputs) -> Σ |y - t| of each row (N,), float64; the sign of y - t (N, outputs). y = scores."""
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
