"""The loss of a training step's scores, and the derivative by them.

"cross_entropy"         y = softmax(scores), labels    -log(y[label] + 1e-7)                   (y - one-hot) / n
"squared_error"         y = scores, targets            sum of (y - t)^2 / 2                    (y - t) / n
"binary_cross_entropy"  y = sigmoid(scores), targets   sum of -t log y - (1 - t) log(1 - y)    (y - t) / n

n is the batch size, or 1.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .layout import DELTA, SIZE, WIDTH, Z
from .sigmoid import sigmoid
from .sigmoid_cross_entropy import binary_cross_entropy
from .simd import at, put
from .softmax_cross_entropy import EPSILON, softmax_row

CROSS_ENTROPY, SQUARED_ERROR, BINARY_CROSS_ENTROPY = range(3)
LOSSES = {
    "cross_entropy": CROSS_ENTROPY,
    "squared_error": SQUARED_ERROR,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
}
LOSS, DIVISOR = range(2)  # places in `output`


@kernel(part=True)
def output_delta(memory, table, output, labels, targets, batches, rows, low, high):
    """delta of the scores, for the rows of the batch from `low` to `high`; returns their summed loss."""
    layers, scale, total = len(table) - 1, memory.dtype.type(1 / output[DIVISOR]), 0.0
    count, wide = table[layers, SIZE], table[layers, WIDTH]
    for r in range(low, high):
        z, y, row = table[layers, Z] + r * wide, table[layers, DELTA] + r * wide, batches[rows + r]
        if output[LOSS] == CROSS_ENTROPY:
            softmax_row(memory, z, count, memory, y)
            label = y + labels[row]
            total -= np.log(memory[label] + memory.dtype.type(EPSILON))
            memory[label] -= memory.dtype.type(1)
        elif output[LOSS] == SQUARED_ERROR:
            for j in range(count):
                difference = at(memory, z + j) - at(targets, row * count + j)
                total += difference * difference / 2
                put(memory, y + j, difference)
        else:
            for j in range(count):
                target = at(targets, row * count + j)
                total += binary_cross_entropy(at(memory, z + j), target)
                put(memory, y + j, sigmoid(at(memory, z + j)) - target)
        for j in range(count):
            put(memory, y + j, at(memory, y + j) * scale)
    return total
