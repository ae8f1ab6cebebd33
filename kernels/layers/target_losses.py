"""The losses of outputs and targets that are numbers, by code: all that is compiled of each stands here.

"squared_error"         y = x               (y - t)^2 / 2                          y - t
"binary_cross_entropy"  y = sigmoid(x)      -t log y - (1 - t) log(1 - y)          y - t
"absolute_error"        y = x               |y - t|                                sign(y - t)
"huber"                 y = x               (y - t)^2 / 2, |y - t| - 1/2 beyond 1  y - t, from -1 to 1
"poisson"               y = exp(x)          t log(t / y) - t + y                   y - t

The last column is the derivative by x. A new one is a code and a branch of each of the three device functions.
"""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.compiler import device, kernel
from ..runtime.exponential import exponential
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.sums import accumulate
from .sigmoid import sigmoid
from .sigmoid_cross_entropy import binary_cross_entropy

SQUARED_ERROR, BINARY_CROSS_ENTROPY, ABSOLUTE_ERROR, HUBER, POISSON = range(1, 6)
CODES = {
    "squared_error": SQUARED_ERROR,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "absolute_error": ABSOLUTE_ERROR,
    "huber": HUBER,
    "poisson": POISSON,
}


def target_loss_forward(x, t, name):
    """x, t (any shape, the same), name: one of CODES -> the summed loss, a float, and y, like x."""
    y, total = empty(x.shape, x.dtype), np.zeros(1)
    _forward(flat(y), total, flat(x), flat(t), CODES[name])
    return float(total[0]), y


def target_loss_backward(y, t, name):
    """y as forward gave it, t (the same shape) -> the derivative of the summed loss by x, like y."""
    dx = empty(y.shape, y.dtype)
    _backward(flat(dx), flat(y), flat(t), CODES[name])
    return dx


@kernel
def _forward(y, total, x, t, code):
    loss = 0.0, 0.0, 0.0
    for i in range(x.size):
        score, target = load_scalar(x, i), load_scalar(t, i)
        store_scalar(y, i, output_of(score, code))
        loss = accumulate(loss, loss_of(score, target, code), i)
    total[0] = loss[0] + loss[1] + loss[2]


@kernel
def _backward(dx, y, t, code):
    for i in range(y.size):
        store_scalar(dx, i, derivative_of(load_scalar(y, i), load_scalar(t, i), code))


@device
def output_of(score, code):
    """y."""
    if code == BINARY_CROSS_ENTROPY:
        return sigmoid(score)
    return exponential(score) if code == POISSON else score


@device
def loss_of(score, target, code):
    """The loss of one number."""
    difference = float(score - target)
    if code == SQUARED_ERROR:
        return difference * difference / 2
    if code == BINARY_CROSS_ENTROPY:
        return float(binary_cross_entropy(score, target))
    if code == POISSON:
        total = float(exponential(score) - target)
        return total + float(target * (np.log(target) - score)) if target > 0 else total
    if code == HUBER:
        return difference * difference / 2 if abs(difference) <= 1 else abs(difference) - 0.5
    return abs(difference)


@device
def derivative_of(y, target, code):
    """The derivative by the score."""
    difference, one = y - target, type(y)(1)
    if code == ABSOLUTE_ERROR or (code == HUBER and abs(difference) > one):
        return one if difference > 0 else -one if difference < 0 else difference
    return difference
