"""Sigmoid followed by the binary cross-entropy with the targets, summed over the outputs."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .exponential import exponential
from .sigmoid import sigmoid
from .simd import at, put
from .sums import added


def sigmoid_cross_entropy_forward(x, t):
    """x (any shape), t (the same) -> loss, y: the sum of -t log y - (1 - t) log(1 - y), a float, and y = sigmoid(x)."""
    y, total = np.empty(x.shape, x.dtype), np.zeros(1)
    _forward(flat(x), flat(t), flat(y), total)
    return float(total[0]), y


@kernel(part=True)
def binary_cross_entropy(x, t):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), written so that it neither overflows nor loses digits."""
    kind = type(x)
    return (x if x > 0 else kind(0)) - x * t + np.log1p(exponential(-abs(x)))


@kernel
def _forward(x, t, y, total):
    loss = 0.0, 0.0, 0.0
    for i in range(x.size):
        put(y, i, sigmoid(at(x, i)))
        loss = added(loss, binary_cross_entropy(at(x, i), at(t, i)), i)
    total[0] = loss[0] + loss[1] + loss[2]
