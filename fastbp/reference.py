"""The backend "numpy": every kernel stated in plain NumPy. It is the oracle that the compiled kernels are held to.

Names, arguments and results are those of fastbp.kernels, function for function. As there, arguments are already
checked: shapes fit, W and b share one floating dtype, labels are in range.
"""

from __future__ import annotations

import itertools

import numpy as np

EPSILON = 1e-7  # the book's: -log(y + 1e-7) is finite where y is 0


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    return x.astype(W.dtype, copy=False) @ W + b


def affine_backward(dout, x, W):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,)."""
    return dout @ W.T, x.astype(W.dtype, copy=False).T @ dout, dout.sum(axis=0)


def relu_forward(x):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there. NaN passes."""
    mask = x <= 0
    out = x.copy()
    out[mask] = 0
    return out, mask


def relu_backward(dout, mask):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True."""
    dx = dout.copy()
    dx[mask] = 0
    return dx


def sigmoid_forward(x):
    """x (any shape, float32 or float64) -> out, like x: 1 / (1 + exp(-x)), exactly 0 and 1 at the ends."""
    e = np.exp(-np.abs(x))  # never overflows; for x < 0, 1 / (1 + exp(-x)) = exp(x) / (1 + exp(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def sigmoid_backward(dout, out):
    """dout (any shape), out = sigmoid(x) (the same) -> dx = dout * (1 - out) * out."""
    return dout * (1 - out) * out


def softmax_cross_entropy_forward(x, t):
    """x (N, C), t: indices (N,) or one-hot (N, C) -> loss, y: the mean of -log(y[label] + 1e-7), softmax(x) (N, C).

    The label of a one-hot row is its first maximum. The loss of no rows is NaN.
    """
    labels = t if t.ndim == 1 else t.argmax(axis=1)
    rows = len(x)
    with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN, as it must
        exponentials = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
        y = exponentials / exponentials.sum(axis=1, keepdims=True)
    losses = -np.log(y[np.arange(rows), labels] + y.dtype.type(EPSILON))
    return float(losses.sum(dtype=np.float64) / rows) if rows else float("nan"), y


def softmax_cross_entropy_backward(y, t):
    """y = softmax(x) (N, C), t: indices (N,) or one-hot (N, C) -> dx = (y - one-hot t) / N, (N, C)."""
    if t.ndim == 2:
        return (y - t) / y.dtype.type(len(y) or 1)
    dx = y.copy()
    dx[np.arange(len(y)), t] -= 1
    return dx / y.dtype.type(len(y) or 1)


def sgd_update(parameters, gradients, learning_rate):
    """parameters (any shape, C-contiguous), gradients (the same): parameters -= learning_rate * gradients, in place."""
    parameters -= parameters.dtype.type(learning_rate) * gradients


_ACTIVATIONS = {
    "identity": (lambda x: x, lambda dout, out: dout),
    "relu": (lambda x: relu_forward(x)[0], lambda dout, out: relu_backward(dout, out <= 0)),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
}


def prepare_data(x, divisor=None):
    """x (N, features), C-contiguous -> what train_steps and count_correct read fastest.

    x: floating or uint8; with a divisor, uint8, and the numbers are np.float32(x) / np.float32(divisor).
    """
    return x if divisor is None else x.astype(np.float32) / np.float32(divisor)


def count_correct(parameters, sizes, activations, x, t):
    """parameters (P,), x = prepare_data(N, sizes[0]), t (N,) -> for how many rows the first largest score is t's."""
    layers, hits = _matrices(parameters, sizes), 0
    for first in range(0, len(x), 1000):  # in pieces that stay in the cache
        rows = slice(first, first + 1000)
        hits += int(np.sum(_forward(layers, activations, x[rows])[-1].argmax(axis=1) == t[rows]))
    return hits


def train_steps(parameters, sizes, activations, x, t, batches, learning_rate, losses, done):
    """Gradient descent, in place, over `batches` (steps, batch size): row numbers of x = prepare_data(...) and t (n,).

    losses (steps,), float64, takes each batch's mean cross-entropy before its update; done (1,), int64, is increased
    by the steps that were made.
    """
    layers = _matrices(parameters, sizes)
    gradients = np.empty_like(parameters)
    slots = _matrices(gradients, sizes)
    for step, rows in enumerate(batches):
        outs = _forward(layers, activations, x[rows])
        losses[step], y = softmax_cross_entropy_forward(outs[-1], t[rows])
        delta = softmax_cross_entropy_backward(y, t[rows])
        for layer in reversed(range(len(layers))):
            delta_before, slots[layer][0][...], slots[layer][1][...] = affine_backward(
                delta, outs[layer], layers[layer][0]
            )
            if layer > 0:
                delta = _ACTIVATIONS[activations[layer - 1]][1](delta_before, outs[layer])
        sgd_update(parameters, gradients, learning_rate)
        done[0] += 1


def _matrices(parameters, sizes):
    """The flat vector -> [(W1, b1), (W2, b2), ...], views of it."""
    views, at = [], 0
    for rows, columns in itertools.pairwise(sizes):
        W = parameters[at : at + rows * columns].reshape(rows, columns)
        at += W.size + columns
        views.append((W, parameters[at - columns : at]))
    return views


def _forward(layers, activations, x):
    """The input of every layer and the scores."""
    outs = [x]
    for (W, b), activation in zip(layers, activations, strict=True):
        outs.append(_ACTIVATIONS[activation][0](affine_forward(outs[-1], W, b)))
    return outs
