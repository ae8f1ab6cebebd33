"""Sigmoid followed by the binary cross-entropy with the targets, summed over the outputs."""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.compiler import device, kernel
from ..runtime.exponential import exponential
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.sums import accumulate
from .sigmoid import sigmoid


def sigmoid_cross_entropy_forward(x, t):
    """x (any shape), t (the same) -> loss, y: the sum of -t log y - (1 - t) log(1 - y), a float, and y = sigmoid(x)."""
    y, total = empty(x.shape, x.dtype), np.zeros(1)
    _forward(flat(y), total, flat(x), flat(t))
    return float(total[0]), y


@device
def binary_cross_entropy(x, t):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), written so that it neither overflows nor loses digits."""
    kind = type(x)
    return (x if x > 0 else kind(0)) - x * t + np.log1p(exponential(-abs(x)))


@kernel
def _forward(y, total, x, t):
    loss = 0.0, 0.0, 0.0
    for i in range(x.size):
        store_scalar(y, i, sigmoid(load_scalar(x, i)))
        loss = accumulate(loss, binary_cross_entropy(load_scalar(x, i), load_scalar(t, i)), i)
    total[0] = loss[0] + loss[1] + loss[2]
