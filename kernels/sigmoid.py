"""Sigmoid: 1 / (1 + exp(-x))."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .exponential import exponential


def sigmoid_forward(x):
    """x (any shape, float32 or float64) -> out, like x: 1 / (1 + exp(-x)), exactly 0 and 1 at the ends."""
    out = np.empty(x.shape, x.dtype)
    _forward(flat(x), flat(out))
    return out


def sigmoid_backward(dout, out):
    """dout (any shape), out = sigmoid(x) (the same) -> dx = dout * (1 - out) * out."""
    dx = np.empty(dout.shape, dout.dtype)
    _backward(flat(dout), flat(out), flat(dx))
    return dx


@kernel(part=True)
def sigmoid(x):
    one = type(x)(1)
    return one / (one + exponential(-x))


@kernel
def _forward(x, out):
    for i in range(x.size):
        out[i] = sigmoid(x[i])


@kernel
def _backward(dout, out, dx):
    one = out.dtype.type(1)
    for i in range(dout.size):
        dx[i] = dout[i] * (one - out[i]) * out[i]
