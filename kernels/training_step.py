"""A whole multilayer perceptron in compiled code: many training steps in one call, and how many rows it gets right.

`parameters` is one flat vector, W1 (row-major), b1, W2, b2, ...; `sizes` are the widths from the input to the scores,
`activations` one name for each affine layer ("identity" for the last); the output is softmax with cross-entropy. layout.py
says how it all lies in memory, matmul.py how dense layers are multiplied, sparse.py how zeros in the input are skipped.

Threads: for each layer, every thread has its own panels of W, the same ones forward and in the update, so that they stay
in the cache of its core; a layer of fewer panels than threads is shared by rows.
"""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .layout import RELU, SIGMOID, lay_out
from .matmul import ROWS, SCRATCH, multiply_add, multiply_add_copied, panel_width
from .sigmoid import sigmoid
from .simd import add, fill, fma, kept_apart, lanes, load, store, where_positive, zeros
from .softmax_cross_entropy import EPSILON, softmax_row
from .sparse import dense_rows, forward_sparse_row, prefetch_row, prepare_rows, update_sparse_row
from .threads import available_threads, meet, run, share

ROWS_AT_A_TIME = 40 * ROWS  # in `count_correct`: 784 float32 columns of them stay in the second-level cache
WORTH_A_THREAD = 100_000  # multiplications a step, below which the barriers cost more than a second thread brings


def prepare_data(x):
    """x (N, features), C-contiguous, uint8 or floating -> what train_steps and count_correct read fastest."""
    return Data(x)


class Data:
    """A data set, sparse where that is faster. Once W is not finite, 0 * w is not 0, and the dense rows are read."""

    def __init__(self, x):
        self.rows = prepare_rows(x)
        self.dense_rows = dense_rows(x)

    def rows_for(self, parameters, sizes):
        return self.rows if first_layer_is_finite(parameters, sizes) else self.dense_rows


def first_layer_is_finite(parameters, sizes):
    return bool(np.isfinite(parameters[: sizes[0] * sizes[1]]).all())


def count_correct(parameters, sizes, activations, x, t):
    """parameters (P,), x = prepare_data(N, sizes[0]), t (N,) -> for how many rows the first largest score is t's."""
    threads = available_threads() if len(t) > ROWS_AT_A_TIME else 1
    network = lay_out(parameters, sizes, activations, threads * ROWS_AT_A_TIME, threads, training=False)
    hits = np.zeros(8 * threads, np.int64)
    run(_count_correct, threads, network, x.rows_for(parameters, sizes), flat(t), hits)
    return int(hits.sum())


def train_steps(parameters, sizes, activations, x, t, batches, learning_rate, losses, done):
    """Gradient descent, in place, over `batches` (steps, batch size): row numbers of x = prepare_data(...) and t (n,).

    losses (steps,), float64, takes each batch's mean cross-entropy before its update; done (1,), int64, is increased
    by the steps that were made.
    """
    batch = batches.shape[1]
    threads = available_threads() if batch * len(parameters) > WORTH_A_THREAD else 1
    start, rows = parameters.copy(), x.rows_for(parameters, sizes)
    arguments = (flat(t), flat(batches), batch, learning_rate, losses, flat(parameters), done)
    run(_train_steps, threads, lay_out(start, sizes, activations, batch, threads, training=True), rows, *arguments)
    if rows is not x.dense_rows and not first_layer_is_finite(parameters, sizes):
        done[0] -= len(batches)
        network = lay_out(start, sizes, activations, batch, threads, training=True)
        run(_train_steps, threads, network, x.dense_rows, *arguments)


@kernel
def _count_correct(thread, threads, control, net, data, t, hits):
    layers, panel = len(net.codes), panel_width(net.z)
    base = thread * ROWS_AT_A_TIME  # this thread's rows of z
    start, stop = share(len(t), thread, threads)
    for first in range(start, stop, ROWS_AT_A_TIME):
        count = min(ROWS_AT_A_TIME, stop - first)
        for layer in range(layers):
            p, panels = share(net.widths[layer + 1] // panel, 0, 1)
            if layer == 0 and len(data.starts) > 0:
                for r in range(count):
                    forward_sparse_row(net, data, first + r, base + r, p, panels)
                activate(net, layer, p, panels, base, base + count)
            else:
                if layer == 0:
                    for r in range(count):
                        read_row(net, data, first + r, base + r)
                forward_layer(net, layer, p, panels, base, base + count)
        for r in range(count):
            scores = net.z_starts[layers] + (base + r) * net.widths[layers]
            hits[8 * thread] += first_largest(net.z, scores, net.sizes[layers]) == t[first + r]


@kernel(part=True)
def first_largest(z, start, count):
    """np.argmax: the place of the first maximum, or of the first NaN."""
    best, place = z[start], 0
    for j in range(1, count):
        value = z[start + j]
        if value > best or (value != value and best == best):
            best, place = value, j
    return place


@kernel
def _train_steps(thread, threads, control, net, data, t, batches, batch, learning_rate, losses, parameters, done):
    layers, rate, arrival = len(net.codes), net.weights.dtype.type(learning_rate), 0
    sparse, panel = len(data.starts) > 0, panel_width(net.z)
    for step in range(len(losses)):
        rows = step * batch  # where this step's row numbers begin in `batches`
        low, high = share(batch, thread, threads)
        if not sparse:
            for r in range(low, high):
                read_row(net, data, batches[rows + r], r)
            arrival += 1
            if not meet(control, arrival, threads):
                return
        for layer in range(layers):
            first, end, top, bottom = shares(thread, threads, net.widths[layer + 1] // panel, batch)
            if layer == 0 and sparse:
                for r in range(top, bottom):
                    forward_sparse_row(net, data, batches[rows + r], r, first, end)
                activate(net, layer, first, end, top, bottom)
            else:
                forward_layer(net, layer, first, end, top, bottom)
            arrival += 1
            if not meet(control, arrival, threads):
                return
        net.losses[8 * thread] = output_delta(net, t, batches, rows, batch, low, high)
        arrival += 1
        if not meet(control, arrival, threads):
            return
        if thread == 0:
            loss = 0.0
            for other in range(threads):
                loss += net.losses[8 * other]
            losses[step] = loss / batch
        for layer in range(layers - 1, 0, -1):
            first, end = share(net.widths[layer] // panel, thread, threads)
            backward_layer(net, layer, first, end, batch)
            arrival += 1
            if not meet(control, arrival, threads):
                return
        for layer in range(layers):
            first, end, top, bottom = shares(thread, threads, net.widths[layer + 1] // panel, net.sizes[layer])
            if layer == 0 and sparse:
                first, end = share(net.widths[1] // panel, thread, threads)
                for r in range(batch):
                    update_sparse_row(net, data, batches[rows + r], r, rate, first, end)
                    if step + 1 < len(losses):
                        prefetch_row(data, batches[rows + batch + r])
                update_bias(net, layer, first, end, batch, rate)
            else:
                update_layer(net, layer, first, end, top, bottom, batch, rate, thread * SCRATCH)
                if top == 0 and bottom > 0:
                    update_bias(net, layer, first, end, batch, rate)
        arrival += 1
        if not meet(control, arrival, threads):
            return
    if thread == 0:  # with the count of steps, in one go: Ctrl-C may come as soon as Python has control again
        unpack_parameters(net, parameters)
        done[0] += len(losses)


@kernel(part=True)
def read_row(net, data, row, r):
    """Row r of the input = one row of a dense data set, in the network's dtype."""
    start, target = row * net.sizes[0], r * net.widths[0]
    for k in range(net.sizes[0]):
        net.z[target + k] = data.values[start + k]


@kernel(part=True)
def copy_row(source, start, target, target_start, count):
    for k in range(count):
        target[target_start + k] = source[start + k]


@kernel(part=True)
def shares(thread, threads, panels, rows):
    """This thread's part of a layer: first and end panel, first and end row. Whole strips of rows, as tiles are."""
    if panels >= threads:
        first, end = share(panels, thread, threads)
        return first, end, 0, rows
    low, high = share((rows + ROWS - 1) // ROWS, thread, threads)
    return 0, panels, min(rows, low * ROWS), min(rows, high * ROWS)


@kernel(part=True)
def forward_layer(net, layer, first, end, low, high):
    """z of layer + 1 = activation(z @ W + b), its panels from `first` to `end` and rows from `low` to `high`."""
    depth, wide, panel = net.sizes[layer], net.widths[layer + 1], panel_width(net.z)
    out = net.z_starts[layer + 1] + first * panel
    for start in range(out + low * wide, out + high * wide, wide):
        for j in range(0, (end - first) * panel, lanes(net.z)):
            store(net.z, start + j, load(net.biases, net.b_starts[layer] + first * panel + j))
    multiply_add(
        net.z, net.z_starts[layer] + low * net.widths[layer], net.widths[layer], high - low, depth,
        net.weights, net.w_starts[layer] + first * depth * panel, panel, depth * panel, end - first,
        net.z, out + low * wide, wide, panel, 1.0,
    )  # fmt: skip
    activate(net, layer, first, end, low, high)


@kernel(part=True)
def activate(net, layer, first, end, low, high):
    """The activation after `layer`, in place, on the panels from `first` to `end` of the rows from `low` to `high`."""
    kept_apart()
    z, panel, wide = net.z, panel_width(net.z), net.widths[layer + 1]
    out, columns = net.z_starts[layer + 1] + first * panel, (end - first) * panel
    if net.codes[layer] == RELU:
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns, lanes(z)):
                store(z, i, where_positive(load(z, i), load(z, i)))
    elif net.codes[layer] == SIGMOID:
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns):
                z[i] = sigmoid(z[i])


@kernel(part=True)
def output_delta(net, t, batches, first, batch, low, high):
    """delta = (softmax(scores) - one-hot t) / N, for the rows from `low` to `high`; returns their summed loss."""
    z, delta, layers = net.z, net.delta, len(net.codes)
    classes, wide, start = net.sizes[layers], net.widths[layers], net.z_starts[layers]
    one, count, loss = z.dtype.type(1), z.dtype.type(batch), 0.0
    for r in range(low, high):
        row = start + r * wide
        softmax_row(z, row, classes, delta, row)
        label = row + t[batches[first + r]]
        loss -= np.log(delta[label] + z.dtype.type(EPSILON))
        delta[label] -= one
        for j in range(classes):
            delta[row + j] /= count
    return loss


@kernel(part=True)
def backward_layer(net, layer, first, end, rows):
    """delta of the layer before = (delta @ W.T) * activation'(z), its panels from `first` to `end`."""
    kept_apart()
    columns, wide, panel = net.sizes[layer + 1], net.widths[layer], panel_width(net.z)
    out = net.z_starts[layer] + first * panel
    transpose_panels(net, layer, first, end)
    for start in range(out, out + rows * wide, wide):
        for j in range(0, (end - first) * panel, lanes(net.z)):
            store(net.delta, start + j, zeros(net.z))
    multiply_add(
        net.delta, net.z_starts[layer + 1], net.widths[layer + 1], rows, columns,
        net.transposed, first * columns * panel, panel, columns * panel, end - first,
        net.delta, out, wide, panel, 1.0,
    )  # fmt: skip
    z, delta, one = net.z, net.delta, net.z.dtype.type(1)
    for start in range(out, out + rows * wide, wide):
        if net.codes[layer - 1] == RELU:
            for i in range(start, start + (end - first) * panel, lanes(z)):
                store(delta, i, where_positive(load(z, i), load(delta, i)))
        elif net.codes[layer - 1] == SIGMOID:
            for i in range(start, start + (end - first) * panel):
                delta[i] *= (one - z[i]) * z[i]


@kernel(part=True)
def transpose_panels(net, layer, first, end):
    """The panels from `first` to `end` of W.T, in panel layout, from W in panel layout."""
    depth, columns, panel = net.sizes[layer], net.sizes[layer + 1], panel_width(net.weights)
    at = first * columns * panel
    for top in range(first * panel, end * panel, panel):
        high = min(panel, depth - top)
        for j in range(columns):
            source = net.w_starts[layer] + j // panel * panel * depth + top * panel + j % panel
            for i in range(high):
                net.transposed[at + i] = net.weights[source + i * panel]
            for i in range(high, panel):
                net.transposed[at + i] = 0
            at += panel


@kernel(part=True)
def update_layer(net, layer, first, end, low, high, rows, rate, scratch):
    """W -= rate * z.T @ delta, its panels from `first` to `end` and rows from `low` to `high`.

    The gradient itself is never written to memory.
    """
    depth, wide, panel = net.sizes[layer], net.widths[layer + 1], panel_width(net.z)
    multiply_add_copied(
        net.z, net.z_starts[layer] + low, 1, net.widths[layer], high - low, rows,
        net.delta, net.z_starts[layer + 1] + first * panel, wide, panel, end - first,
        net.weights, net.w_starts[layer] + first * depth * panel + low * panel, panel, depth * panel, -rate,
        net.scratch, scratch,
    )  # fmt: skip


@kernel(part=True)
def update_bias(net, layer, first, end, rows, rate):
    """b -= rate * the sum of delta's rows, its panels from `first` to `end`."""
    kept_apart()
    wide, panel = net.widths[layer + 1], panel_width(net.z)
    for j in range(first * panel, end * panel, lanes(net.z)):
        total = zeros(net.z)
        for r in range(rows):
            total = add(total, load(net.delta, net.z_starts[layer + 1] + r * wide + j))
        bias = net.b_starts[layer] + j
        store(net.biases, bias, fma(fill(net.z, -rate), total, load(net.biases, bias)))


@kernel(part=True)
def unpack_parameters(net, parameters):
    """Every W in panel layout and every padded b -> the flat vector."""
    at, panel = 0, panel_width(net.weights)
    for layer in range(len(net.codes)):
        depth, columns = net.sizes[layer], net.sizes[layer + 1]
        for k in range(depth):
            row = net.w_starts[layer] + k * panel
            for left in range(0, columns, panel):
                copy_row(net.weights, row + left * depth, parameters, at + left, min(panel, columns - left))
            at += columns
        copy_row(net.biases, net.b_starts[layer], parameters, at, columns)
        at += columns
