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

import numpy as np

from .compiler import kernel
from .exponential import exponential
from .layout import DELTA, SIZE, WIDTH, Z
from .sigmoid import sigmoid
from .sigmoid_cross_entropy import binary_cross_entropy
from .simd import at, kept_apart, put
from .softmax_cross_entropy import EPSILON, softmax_row
from .sums import added

CROSS_ENTROPY, SQUARED_ERROR, BINARY_CROSS_ENTROPY, ABSOLUTE_ERROR, HUBER, POISSON = range(6)
LOSSES = {
    "cross_entropy": CROSS_ENTROPY,
    "squared_error": SQUARED_ERROR,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "absolute_error": ABSOLUTE_ERROR,
    "huber": HUBER,
    "poisson": POISSON,
}
LOSS, DIVISOR, SEED, FIRST_ROW = range(4)  # places in `output`; DIVISOR: 1 for a mean, 0 for a sum


@kernel(part=True)
def divisor_of(output, weights, batches, rows, batch):
    """n of a batch; 1 where its weights are all 0, for which there is nothing to learn."""
    if output[DIVISOR] == 0:
        return 1.0
    if len(weights) == 0:
        return float(batch)
    sums = 0.0, 0.0, 0.0
    for r in range(batch):
        sums = added(sums, weights[batches[rows + r]], r)
    total = sums[0] + sums[1] + sums[2]
    return total if total != 0 else 1.0


@kernel(part=True)
def output_delta(memory, table, output, labels, targets, weights, batches, rows, low, high, divisor, log_floor):
    """delta of the scores, for the rows of the batch from `low` to `high`; returns their summed loss.

    log_floor: if not 0, cross-entropy is -log(max(y[label], log_floor)).
    """
    layers, sums = len(table) - 1, (0.0, 0.0, 0.0)
    count, wide = table[layers, SIZE], table[layers, WIDTH]
    for r in range(low, high):
        z, y, row, total = table[layers, Z] + r * wide, table[layers, DELTA] + r * wide, batches[rows + r], 0.0
        weight = weights[row] if len(weights) > 0 else 1.0
        if output[LOSS] == CROSS_ENTROPY:
            softmax_row(memory, z, count, memory, y)
            label = y + labels[row]
            if log_floor > 0:
                total = -np.log(max(memory[label], memory.dtype.type(log_floor)))
            else:
                total = -np.log(memory[label] + memory.dtype.type(EPSILON))
            memory[label] -= memory.dtype.type(1)
        elif output[LOSS] == SQUARED_ERROR:
            for j in range(count):
                difference = at(memory, z + j) - at(targets, row * count + j)
                total += difference * difference / 2
                put(memory, y + j, difference)
        elif output[LOSS] == BINARY_CROSS_ENTROPY:
            for j in range(count):
                target = at(targets, row * count + j)
                total += binary_cross_entropy(at(memory, z + j), target)
                put(memory, y + j, sigmoid(at(memory, z + j)) - target)
        else:
            total = other_loss(memory, z, targets, row * count, count, memory, y, output[LOSS])
        scale = memory.dtype.type(weight / divisor)
        for j in range(count):
            put(memory, y + j, at(memory, y + j) * scale)
        sums = added(sums, weight * total, r - low)
    return sums[0] + sums[1] + sums[2]


@kernel(part=True)
def other_loss(scores, z, targets, t, count, delta, y, loss):
    """The losses of regression but the squared error, of one row: returned; their derivatives go to `delta`."""
    kept_apart()
    total, one = 0.0, scores.dtype.type(1)
    for j in range(count):
        score, target = at(scores, z + j), at(targets, t + j)
        difference = score - target
        if loss == POISSON:
            mean = exponential(score)
            total += mean - target
            if target > 0:
                total += target * (np.log(target) - score)
            difference = mean - target
        elif loss == HUBER and abs(difference) <= 1:
            total += difference * difference / 2
        else:
            total += abs(difference) - (0.5 if loss == HUBER else 0.0)
            difference = one if difference > 0 else -one if difference < 0 else difference
        put(delta, y + j, difference)
    return total
