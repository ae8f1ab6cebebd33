"""The losses of a network's scores, in NumPy: everything about each of them but its compiled form.

A new loss of targets is an entry here, its compiled form in kernels/layers/target_losses.py, and a class in
layers/_losses.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._checks import Array

EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array]:
    """scores (N, C), labels (N,) -> -log(y[label] + 1e-7) with y = softmax(scores), (N,); y - one-hot (N, C)."""
    losses, y = cross_entropies(scores, labels)
    y[np.arange(len(y)), labels] -= 1
    return losses, y


def cross_entropies(scores: Array, labels: Array) -> tuple[Array, Array]:
    """scores (N, C), labels (N,) -> the losses of `cross_entropy` (N,), and y (N, C)."""
    with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN, as it must
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        y = exponentials / exponentials.sum(axis=1, keepdims=True)
    return -np.log(y[np.arange(len(scores)), labels] + y.dtype.type(EPSILON)), y


class TargetLoss(NamedTuple):
    """A loss of outputs and targets that are numbers.

    output: the scores x -> y. value: x, t -> the loss of each number. derivative: y, t -> that of the loss by x.
    """

    output: Callable[[Array], Array]
    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]


def _sigmoid(x: Array) -> Array:
    size = np.exp(-np.abs(x))
    return np.where(x < 0, size, x.dtype.type(1)) / (1 + size)


def _binary_cross_entropies(scores: Array, t: Array) -> Array:
    """-t log y - (1 - t) log(1 - y) with y = sigmoid(scores); scores of any size do not overflow."""
    with np.errstate(invalid="ignore"):
        return np.maximum(scores, 0) - scores * t + np.log1p(np.exp(-np.abs(scores)))


def _huber(scores: Array, t: Array) -> Array:
    """Half the squared error, but growing linearly beyond 1 (Huber 1964)."""
    size = np.abs(scores - t)
    return np.where(size <= 1, size * size / 2, size - 0.5)


def _exp(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(x)


def _poisson(scores: Array, t: Array) -> Array:
    """Half the Poisson deviance, t log(t / y) - t + y, y = exp(scores); t is not negative."""
    with np.errstate(divide="ignore", invalid="ignore"):  # where t is 0, the first term is
        first = np.where(t > 0, t * (np.log(t) - scores), 0)
    return first - t + _exp(scores)


TARGET_LOSSES = {
    "squared_error": TargetLoss(lambda x: x, lambda x, t: (x - t) * (x - t) / 2, lambda y, t: y - t),
    "binary_cross_entropy": TargetLoss(_sigmoid, _binary_cross_entropies, lambda y, t: y - t),
    "absolute_error": TargetLoss(lambda x: x, lambda x, t: np.abs(x - t), lambda y, t: np.sign(y - t)),
    "huber": TargetLoss(lambda x: x, _huber, lambda y, t: np.clip(y - t, -1, 1)),
    "poisson": TargetLoss(_exp, _poisson, lambda y, t: y - t),
}


def row_losses(name: str, scores: Array, t: Array) -> tuple[Array, Array]:
    """scores (N, M), t: labels (N,) or targets (N, M) -> the loss of each row, (N,); the derivative of their sum (N, M)."""
    if name == "cross_entropy":
        return cross_entropy(scores, t)
    loss = TARGET_LOSSES[name]
    values = np.asarray(loss.value(scores, t), np.float64)
    return values.sum(axis=1), loss.derivative(loss.output(scores), t)
