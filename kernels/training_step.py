"""A whole multilayer perceptron in compiled code: its scores, and many training steps in one call.

The network is given as data, so that one compilation serves every depth and width: `sizes`, the widths from the input to
the scores, and `activations`, one name for each affine layer ("identity" for the last). `parameters` is one flat vector,
W1 (row-major), b1, W2, b2, ...; the output is softmax with cross-entropy.

Inside, each W is kept in panel layout and each activation in rows padded to whole panels (see matmul.py), from the first
step of a call to its last. What is in the padding is never read as a number of the network: columns of a product depend
on nothing but the same columns of its right-hand side.
"""

from __future__ import annotations

import itertools

import numpy as np

from .arrays import flat
from .compiler import kernel
from .machine import VECTOR_BYTES
from .matmul import multiply_add, panel_width
from .sigmoid import sigmoid
from .simd import fill, fma, lanes, load, store, where_positive, zeros
from .softmax_cross_entropy import EPSILON, softmax_row

IDENTITY, RELU, SIGMOID = 0, 1, 2
CODES = {"identity": IDENTITY, "relu": RELU, "sigmoid": SIGMOID}

ROWS_AT_A_TIME = 240  # of x in `forward_scores`: a block of 784 float32 columns stays in the cache


def forward_scores(parameters, sizes, activations, x):
    """parameters (P,), x (N, sizes[0]) -> scores (N, sizes[-1]), before the softmax, in the dtype of the parameters."""
    scores = np.empty((len(x), sizes[-1]), parameters.dtype)
    layout = _Layout(sizes, activations, ROWS_AT_A_TIME, parameters.dtype)
    weights, biases = layout.pack(parameters)
    _forward_scores(weights, biases, *layout.arrays, flat(x), flat(scores), len(x))
    return scores


def train_steps(parameters, sizes, activations, x, t, batches, learning_rate, losses, done):
    """Gradient descent, in place, over `batches` (steps, batch size): row numbers of x (n, sizes[0]) and t (n,).

    losses (steps,), float64, takes each batch's mean cross-entropy before its update; done (1,), int64, is increased
    by the steps that were made.
    """
    layout = _Layout(sizes, activations, batches.shape[1], parameters.dtype)
    weights, biases = layout.pack(parameters)
    _train_steps(
        parameters, weights, biases, *layout.arrays, flat(x), flat(t), flat(batches), batches.shape[1], learning_rate,
        losses, done,
    )  # fmt: skip


class _Layout:
    """Where a network's arrays lie while compiled code works on them.

    arrays: sizes; widths, the sizes rounded up to whole panels; codes of the activations; and where each layer's
    W, b and z begin (one more entry: where they end).
    """

    def __init__(self, sizes, activations, rows, dtype):
        self.panel = 2 * VECTOR_BYTES // dtype.itemsize
        self.sizes = np.array(sizes, np.int64)
        self.widths = -(-self.sizes // self.panel) * self.panel
        self.w_starts = _running_sum(self.sizes[:-1] * self.widths[1:])
        self.b_starts = _running_sum(self.widths[1:])
        codes = np.array([CODES[name] for name in activations], np.int64)
        self.arrays = (self.sizes, self.widths, codes, self.w_starts, self.b_starts, _running_sum(rows * self.widths))

    def pack(self, parameters):
        """The flat vector -> every W in panel layout, every b padded with zeros."""
        weights = np.zeros(self.w_starts[-1], parameters.dtype)
        biases = np.zeros(self.b_starts[-1], parameters.dtype)
        at = 0
        for layer, (depth, columns) in enumerate(itertools.pairwise(self.sizes)):
            W = parameters[at : at + depth * columns].reshape(depth, columns)
            at += (depth + 1) * columns
            panels = weights[self.w_starts[layer] : self.w_starts[layer + 1]].reshape(-1, depth, self.panel)
            for left, panel in zip(range(0, columns, self.panel), panels, strict=True):
                panel[:, : min(self.panel, columns - left)] = W[:, left : left + self.panel]
            biases[self.b_starts[layer] :][:columns] = parameters[at - columns : at]
        return weights, biases


def _running_sum(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


@kernel
def _forward_scores(weights, biases, sizes, widths, codes, w_starts, b_starts, z_starts, x, scores, rows):
    layers, inputs = len(codes), sizes[0]
    z = np.empty(z_starts[-1], weights.dtype)
    for first in range(0, rows, ROWS_AT_A_TIME):
        count = min(ROWS_AT_A_TIME, rows - first)
        for r in range(count):
            copy_row(x, (first + r) * inputs, z, r * widths[0], inputs)
        for layer in range(layers):
            forward_layer(layer, sizes, widths, codes, weights, w_starts, biases, b_starts, z, z_starts, count)
        for r in range(count):
            copy_row(z, z_starts[layers] + r * widths[layers], scores, (first + r) * sizes[layers], sizes[layers])


@kernel
def _train_steps(
    parameters, weights, biases, sizes, widths, codes, w_starts, b_starts, z_starts, x, t, batches, batch, learning_rate,
    losses, done
):  # fmt: skip
    layers, inputs = len(codes), sizes[0]
    rate = weights.dtype.type(learning_rate)
    z = np.empty(z_starts[-1], weights.dtype)
    widest_delta = batch * max(widths[1:])
    delta, delta_before = np.empty(widest_delta, weights.dtype), np.empty(widest_delta, weights.dtype)
    transposed = np.empty(max(widths) * max(widths), weights.dtype)
    for step in range(len(losses)):
        rows = batches[step * batch : (step + 1) * batch]
        for r in range(batch):
            copy_row(x, rows[r] * inputs, z, r * widths[0], inputs)
        for layer in range(layers):
            forward_layer(layer, sizes, widths, codes, weights, w_starts, biases, b_starts, z, z_starts, batch)
        losses[step] = output_delta(z, z_starts[layers], sizes[layers], widths[layers], t, rows, delta)
        for layer in range(layers - 1, -1, -1):
            if layer > 0:
                backward_layer(layer, sizes, widths, codes, weights, w_starts, transposed, z, z_starts, delta,
                               delta_before, batch)  # fmt: skip
            update_layer(layer, sizes, widths, weights, w_starts, biases, b_starts, z, z_starts, delta, batch, rate)
            delta, delta_before = delta_before, delta
    # Written back here, with the count of steps: Ctrl-C may come as soon as Python has control again.
    unpack_parameters(weights, biases, sizes, w_starts, b_starts, parameters)
    done[0] += len(losses)


@kernel(part=True)
def unpack_parameters(weights, biases, sizes, w_starts, b_starts, parameters):
    """Every W in panel layout and every padded b -> the flat vector."""
    at, panel = 0, panel_width(weights)
    for layer in range(len(sizes) - 1):
        columns = sizes[layer + 1]
        for k in range(sizes[layer]):
            row = w_starts[layer] + k * panel
            for j in range(columns):
                parameters[at + j] = weights[row + j // panel * panel * sizes[layer] + j % panel]
            at += columns
        copy_row(biases, b_starts[layer], parameters, at, columns)
        at += columns


@kernel(part=True)
def copy_row(source, start, target, target_start, count):
    for k in range(count):
        target[target_start + k] = source[start + k]


@kernel(part=True)
def forward_layer(layer, sizes, widths, codes, weights, w_starts, biases, b_starts, z, z_starts, rows):
    """z of layer + 1 = activation(z @ W + b)."""
    depth, columns, wide = sizes[layer], sizes[layer + 1], widths[layer + 1]
    out, bias, panel = z_starts[layer + 1], b_starts[layer], panel_width(z)
    for start in range(out, out + rows * wide, wide):
        for j in range(0, wide, lanes(z)):
            store(z, start + j, load(biases, bias + j))
    multiply_add(
        z, z_starts[layer], widths[layer], 1, rows, depth,
        weights, w_starts[layer], panel, depth * panel, columns, z, out, wide, panel, 1.0,
    )  # fmt: skip
    if codes[layer] == RELU:
        for i in range(out, out + rows * wide, lanes(z)):
            store(z, i, where_positive(load(z, i), load(z, i)))
    elif codes[layer] == SIGMOID:
        for i in range(out, out + rows * wide):
            z[i] = sigmoid(z[i])


@kernel(part=True)
def output_delta(z, scores, classes, wide, t, rows, delta):
    """delta = (softmax(scores) - one-hot t) / N; returns the mean cross-entropy."""
    one, count, loss = z.dtype.type(1), z.dtype.type(len(rows)), 0.0
    for r in range(len(rows)):
        start = r * wide
        softmax_row(z, scores + start, classes, delta, start)
        label = start + t[rows[r]]
        loss -= np.log(delta[label] + z.dtype.type(EPSILON))
        delta[label] -= one
        for j in range(classes):
            delta[start + j] /= count
        for j in range(classes, wide):
            delta[start + j] = 0
    return loss / len(rows)


@kernel(part=True)
def backward_layer(
    layer, sizes, widths, codes, weights, w_starts, transposed, z, z_starts, delta, delta_before, rows
):  # fmt: skip
    """delta_before = (delta @ W.T) * activation'(z): how the loss depends on the sums of the layer before."""
    depth, columns, wide, panel = sizes[layer], sizes[layer + 1], widths[layer], panel_width(z)
    transpose_panels(weights, w_starts[layer], depth, columns, panel, transposed)
    for i in range(0, rows * wide, lanes(z)):
        store(delta_before, i, zeros(z))
    multiply_add(
        delta, 0, widths[layer + 1], 1, rows, columns,
        transposed, 0, panel, columns * panel, depth, delta_before, 0, wide, panel, 1.0,
    )  # fmt: skip
    out, one = z_starts[layer], z.dtype.type(1)
    if codes[layer - 1] == RELU:
        for i in range(0, rows * wide, lanes(z)):
            store(delta_before, i, where_positive(load(z, out + i), load(delta_before, i)))
    elif codes[layer - 1] == SIGMOID:
        for i in range(rows * wide):
            delta_before[i] *= (one - z[out + i]) * z[out + i]


@kernel(part=True)
def transpose_panels(panels, p0, depth, columns, panel, transposed):
    """W (depth, columns) in panel layout -> W.T in panel layout."""
    at = 0
    for top in range(0, depth, panel):
        high = min(panel, depth - top)
        for j in range(columns):
            source = p0 + j // panel * panel * depth + top * panel + j % panel
            for i in range(high):
                transposed[at + i] = panels[source + i * panel]
            for i in range(high, panel):
                transposed[at + i] = 0
            at += panel


@kernel(part=True)
def update_layer(layer, sizes, widths, weights, w_starts, biases, b_starts, z, z_starts, delta, rows, rate):
    """W -= rate * z.T @ delta and b -= rate * sum of delta. The gradient of W is never written to memory."""
    depth, columns, wide, panel = sizes[layer], sizes[layer + 1], widths[layer + 1], panel_width(z)
    multiply_add(
        z, z_starts[layer], 1, widths[layer], depth, rows,
        delta, 0, wide, panel, columns, weights, w_starts[layer], panel, depth * panel, -rate,
    )  # fmt: skip
    for j in range(0, wide, lanes(z)):
        total = zeros(z)
        for r in range(rows):
            total = fma(fill(z, 1.0), load(delta, r * wide + j), total)
        bias = b_starts[layer] + j
        store(biases, bias, fma(fill(z, -rate), total, load(biases, bias)))
