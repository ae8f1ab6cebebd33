"""The loss of a training step's scores, and the derivative by them.

"cross_entropy"         y = softmax(scores), labels    -log(y[label] + 1e-7)                   (y - one-hot) / n
"squared_error"         y = scores, targets            sum of (y - t)^2 / 2                    (y - t) / n
"binary_cross_entropy"  y = sigmoid(scores), targets   sum of -t log y - (1 - t) log(1 - y)    (y - t) / n
"absolute_error"        y = scores, targets            sum of |y - t|                          sign(y - t) / n
"huber"                 y = scores, targets            (y - t)^2 / 2, |y - t| - 1/2 beyond 1   (y - t, from -1 to 1) / n
"poisson"               y = exp(scores), targets       sum of t log(t / y) - t + y             (y - t) / n

n is the batch size, or 1. Where samples have weights, a row's loss and derivative are times its own, and n is their sum
over the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..layers.sigmoid import sigmoid
from ..layers.sigmoid_cross_entropy import binary_cross_entropy
from ..layers.softmax_cross_entropy import EPSILON, softmax_row
from ..runtime.compiler import device
from ..runtime.exponential import exponential
from ..runtime.simd import load_scalar, noinline, store_scalar
from ..runtime.sums import accumulate
from .layout import DELTA, PADDED, SIZE, Z

CROSS_ENTROPY, SQUARED_ERROR, BINARY_CROSS_ENTROPY, ABSOLUTE_ERROR, HUBER, POISSON = range(6)
LOSSES = {
    "cross_entropy": CROSS_ENTROPY,
    "squared_error": SQUARED_ERROR,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "absolute_error": ABSOLUTE_ERROR,
    "huber": HUBER,
    "poisson": POISSON,
}


class Loss(NamedTuple):
    """kind: one of LOSSES; mean: 1 to divide by the batch size, or the sum of its weights, 0 not to. parts: what the loss
    that is reported is divided by, besides. log_floor: if not 0, cross-entropy is -log(max(y[label], log_floor)).
    l2: the strength of the L2 norm of the weights; l2_divided: 1 to divide it as the loss is."""

    kind: float
    mean: float
    parts: float
    log_floor: float
    l2: float
    l2_divided: float


class Targets(NamedTuple):
    """Class indices (n,), or numbers (n, outputs); the other is empty. weights (n,), or empty where all are 1."""

    labels: Any
    numbers: Any
    weights: Any


@device
def divisor_of(loss, weights, batch):
    """n of a batch; 1 where its weights are all 0, for which there is nothing to learn."""
    if loss.mean == 0:
        return 1.0
    if len(weights) == 0:
        return float(batch.count)
    sums = 0.0, 0.0, 0.0
    for r in range(batch.count):
        sums = accumulate(sums, weights[batch.order[batch.first + r]], r)
    total = sums[0] + sums[1] + sums[2]
    return total if total != 0 else 1.0


@device
def loss_and_delta(network, loss, targets, batch, bounds, divisor):
    """delta of the scores, for the rows of the batch from bounds[0] to bounds[1]; returns their summed loss."""
    arena, layout = network
    layers, sums, (low, high) = len(layout) - 1, (0.0, 0.0, 0.0), bounds
    count, wide = layout[layers, SIZE], layout[layers, PADDED]
    for r in range(low, high):
        z, y = layout[layers, Z] + r * wide, layout[layers, DELTA] + r * wide
        row = batch.order[batch.first + r]
        weight = targets.weights[row] if len(targets.weights) > 0 else 1.0
        if loss.kind == CROSS_ENTROPY:
            softmax_row(arena, y, arena, z, count)
            total = cross_entropy(arena, y + targets.labels[row], loss.log_floor)
        else:
            total = loss_of_targets(arena, y, z, targets.numbers, row * count, count, loss.kind)
        scale = arena.dtype.type(weight / divisor)
        for j in range(count):
            store_scalar(arena, y + j, load_scalar(arena, y + j) * scale)
        sums = accumulate(sums, weight * total, r - low)
    return sums[0] + sums[1] + sums[2]


@device
def cross_entropy(y, label, log_floor):
    """-log y[label]; y[label] -= 1."""
    kind, probability = y.dtype.type, y[label]
    y[label] = probability - kind(1)
    return -np.log(max(probability, kind(log_floor)) if log_floor > 0 else probability + kind(EPSILON))


@device
def loss_of_targets(arena, delta, z, targets, t, count, kind):
    """The other losses, of one row: returned; their derivatives by the scores go to `delta`."""
    total = 0.0
    if kind == SQUARED_ERROR:
        for j in range(count):
            difference = load_scalar(arena, z + j) - load_scalar(targets, t + j)
            total += difference * difference / 2
            store_scalar(arena, delta + j, difference)
    elif kind == BINARY_CROSS_ENTROPY:
        for j in range(count):
            score, target = load_scalar(arena, z + j), load_scalar(targets, t + j)
            total += binary_cross_entropy(score, target)
            store_scalar(arena, delta + j, sigmoid(score) - target)
    else:
        total = loss_of_outliers(arena, delta, z, targets, t, count, kind)
    return total


@device
def loss_of_outliers(arena, delta, z, targets, t, count, kind):
    noinline()
    total, one = 0.0, arena.dtype.type(1)
    for j in range(count):
        score, target = load_scalar(arena, z + j), load_scalar(targets, t + j)
        difference = score - target
        if kind == POISSON:
            mean = exponential(score)
            total += mean - target
            if target > 0:
                total += target * (np.log(target) - score)
            difference = mean - target
        elif kind == HUBER and abs(difference) <= 1:
            total += difference * difference / 2
        else:
            total += abs(difference) - (0.5 if kind == HUBER else 0.0)
            difference = one if difference > 0 else -one if difference < 0 else difference
        store_scalar(arena, delta + j, difference)
    return total
