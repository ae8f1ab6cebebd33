"""One affine layer and its activation inside a training step: forward, backward and the update of W and b.

Each function does the panels of columns from `first` to `end`, all that a thread has of the layer, and knows the network
by `memory` and `table` (layout.py). Rows are taken in blocks, so that what follows a product finds it in the cache.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .layout import (
    ACTIVATION,
    DELTA,
    LEAKY_RELU,
    RELU,
    ROOM,
    ROOM_SIZE,
    SIGMOID,
    SIZE,
    SPAN,
    TANH,
    TRANSPOSED,
    TRANSPOSED_SIZE,
    WIDTH,
    B,
    W,
    Z,
)
from .leaky_relu import SLOPE
from .matmul import (
    AS_IT_IS,
    FEW_ROWS,
    GATED,
    POSITIVE_PART,
    ROW_BLOCK,
    SCRATCH,
    SHORT,
    multiply_add,
    multiply_add_copied,
    multiply_through,
    outer_tile,
    pack,
    panel_width,
    row_tile,
)
from .optimizers import update_numbers
from .sigmoid import sigmoid
from .simd import add, add_up, at, fill, fma, kept_apart, lanes, load, put, store, where_positive, zeros
from .sums import BLOCK
from .tanh import tanh


@kernel(part=True)
def forward_layer(memory, table, layer, first, end, low, high):
    """z of layer + 1 = activation(z @ W + b), its panels from `first` to `end` and rows from `low` to `high`."""
    depth, width, wide, panel = table[layer, SIZE], table[layer, WIDTH], table[layer + 1, WIDTH], panel_width(memory)
    out, bias = table[layer + 1, Z] + first * panel, table[layer, B] + first * panel
    if high - low <= FEW_ROWS:
        multiply_few(
            memory, table[layer, Z] + low * width, width, high - low, depth, table[layer, W] + first * depth * panel,
            bias, out + low * wide, wide, end - first,
        )  # fmt: skip
        activate(memory, table, layer, first, end, low, high)
        return
    finish = np.intp(POSITIVE_PART if table[layer, ACTIVATION] == RELU else AS_IT_IS)
    for top in range(low, high, ROW_BLOCK):  # block by block, so that the activation finds its input in the cache
        rows = min(ROW_BLOCK, high - top)
        multiply_through(
            memory, table[layer, Z] + top * width, width, rows, depth, table[layer, W] + first * depth * panel,
            end - first, out + top * wide, wide, bias, finish, np.intp(0),
        )  # fmt: skip
        if finish == AS_IT_IS:
            activate(memory, table, layer, first, end, top, top + rows)


@kernel(part=True)
def multiply_few(memory, a, a_step, rows, depth, b, start, c, c_step, panels):
    """c (rows, panels) = start (panels) + a (rows, depth) @ b (depth, panels) for very few rows, all in memory."""
    kept_apart()
    panel = panel_width(memory)
    for r in range(rows):
        for p in range(panels):
            row_tile(
                memory, a + r * a_step, np.intp(1), depth, memory, b + p * depth * panel, panel,
                memory, start + p * panel, memory, c + r * c_step + p * panel,
            )  # fmt: skip


@kernel(part=True)
def activate(memory, table, layer, first, end, low, high):
    """The activation after `layer`, in place, on the panels from `first` to `end` of the rows from `low` to `high`."""
    kept_apart()
    panel, wide = panel_width(memory), table[layer + 1, WIDTH]
    out, columns = table[layer + 1, Z] + first * panel, (end - first) * panel
    if table[layer, ACTIVATION] == RELU:
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns, lanes(memory)):
                store(memory, i, where_positive(load(memory, i), load(memory, i)))
    elif table[layer, ACTIVATION] == SIGMOID:
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns):
                put(memory, i, sigmoid(at(memory, i)))
    elif table[layer, ACTIVATION] == TANH:
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns):
                put(memory, i, tanh(at(memory, i)))
    elif table[layer, ACTIVATION] == LEAKY_RELU:
        slope = memory.dtype.type(SLOPE)
        for start in range(out + low * wide, out + high * wide, wide):
            for i in range(start, start + columns):
                put(memory, i, slope * at(memory, i) if at(memory, i) <= 0 else at(memory, i))


@kernel(part=True)
def backward_layer(memory, table, layer, first, end, low, high, keep, thread):
    """delta of the layer before = (delta @ W.T) * activation'(z), its panels from `first` to `end` and rows from `low` to
    `high`; keep: see derive."""
    columns, wide, panel = table[layer + 1, SIZE], table[layer, WIDTH], panel_width(memory)
    out = table[layer, DELTA] + first * panel
    transposed = table[layer, TRANSPOSED] + thread * table[layer, TRANSPOSED_SIZE] + first * columns * panel
    transpose_panels(memory, table, layer, first, end, transposed)
    finish = np.intp(GATED if table[layer - 1, ACTIVATION] == RELU else AS_IT_IS)
    for top in range(low, high, ROW_BLOCK):
        count = min(ROW_BLOCK, high - top)
        multiply_through(
            memory, table[layer + 1, DELTA] + top * table[layer + 1, WIDTH], table[layer + 1, WIDTH], count, columns,
            transposed, end - first, out + top * wide, wide, np.intp(-1), finish, table[layer, Z] - table[layer, DELTA],
        )  # fmt: skip
        if finish == AS_IT_IS:
            derive(memory, table, layer, first, end, top, top + count, keep)


@kernel(part=True)
def derive(memory, table, layer, first, end, low, high, keep):
    """delta *= the derivative of the activation before `layer`, on the panels and rows that `activate` would take.

    The activation's own results were keep times what is in z: dropout (dropout_mask.py) has divided them by keep since.
    """
    kept_apart()
    panel, wide, activation = panel_width(memory), table[layer, WIDTH], table[layer - 1, ACTIVATION]
    out, columns, to_z = (
        table[layer, DELTA] + first * panel,
        (end - first) * panel,
        table[layer, Z] - table[layer, DELTA],
    )
    one, slope = memory.dtype.type(1), memory.dtype.type(SLOPE)
    for start in range(out + low * wide, out + high * wide, wide):
        if activation == RELU:
            for i in range(start, start + columns, lanes(memory)):
                store(memory, i, where_positive(load(memory, i + to_z), load(memory, i)))
        elif activation == SIGMOID:
            for i in range(start, start + columns):
                y = keep * at(memory, i + to_z)
                put(memory, i, at(memory, i) * (one - y) * y)
        elif activation == TANH:
            for i in range(start, start + columns):
                y = keep * at(memory, i + to_z)
                put(memory, i, at(memory, i) * (one - y * y))
        elif activation == LEAKY_RELU:
            for i in range(start, start + columns):
                put(memory, i, slope * at(memory, i) if at(memory, i + to_z) <= 0 else at(memory, i))


@kernel(part=True)
def transpose_panels(memory, table, layer, first, end, target):
    """The panels from `first` to `end` of W.T, in panel layout from `target` on, from W in panel layout."""
    depth, columns, panel = table[layer, SIZE], table[layer + 1, SIZE], panel_width(memory)
    for top in range(first * panel, end * panel, panel):
        high = min(panel, depth - top)
        for j in range(columns):
            source = table[layer, W] + j // panel * panel * depth + top * panel + j % panel
            for i in range(high):
                put(memory, target + i, at(memory, source + i * panel))
            for i in range(high, panel):
                put(memory, target + i, 0)
            target += panel


@kernel(part=True)
def update_layer(memory, table, layer, first, end, low, high, rows, alpha, to, thread):
    """W += alpha * z.T @ delta, its panels from `first` to `end` and rows from `low` to `high`.

    With alpha = -rate and to = 0 that is gradient descent, and the gradient itself is never written to memory. With
    to = SPAN it is added to the gradients instead, from which an optimizer goes on.

    delta is copied to panel layout: its rows may lie a multiple of 4096 bytes apart, where a first-level cache has room
    for few. z.T is copied where a block of it is too large for that cache. One core, GFLOP/s with neither, the first,
    both: 784-50, batch 100: 33, 63, 50; 784-512, batch 256: 42, 50, 67.
    """
    depth, width, wide, panel = table[layer, SIZE], table[layer, WIDTH], table[layer + 1, WIDTH], panel_width(memory)
    z, w = table[layer, Z] + low, table[layer, W] + to + (first * depth + low) * panel
    if rows <= FEW_ROWS:
        for r in range(rows):
            for p in range(end - first):
                outer_tile(
                    memory, z + r * width, np.intp(1), high - low,
                    memory, table[layer + 1, DELTA] + r * wide + (first + p) * panel,
                    memory, w + p * depth * panel, panel, alpha,
                )  # fmt: skip
        return
    room = table[layer, ROOM] + thread * table[layer, ROOM_SIZE]
    delta = room + SCRATCH
    pack(
        memory, table[layer + 1, DELTA] + first * panel, wide, np.intp(1), rows, (end - first) * panel, memory, delta
    )  # fmt: skip
    if rows <= SHORT:
        multiply_add(
            memory, z, np.intp(1), width, high - low, rows, memory, delta, panel, rows * panel, end - first,
            memory, w, panel, depth * panel, alpha,
        )  # fmt: skip
    else:
        multiply_add_copied(
            memory, z, np.intp(1), width, high - low, rows, memory, delta, panel, rows * panel, end - first,
            memory, w, panel, depth * panel, alpha, memory, room,
        )  # fmt: skip


@kernel(part=True)
def update_bias(memory, table, layer, first, end, rows, alpha, to):
    """b += alpha * the sum of delta's rows, its panels from `first` to `end`; `to` as for W."""
    kept_apart()
    wide, panel = table[layer + 1, WIDTH], panel_width(memory)
    for j in range(first * panel, end * panel, lanes(memory)):
        total = zeros(memory)
        for outer in range(0, rows, BLOCK * BLOCK):  # block by block, as in sums.py, but in registers
            middle_total = zeros(memory)
            for middle in range(outer, min(outer + BLOCK * BLOCK, rows), BLOCK):
                block = zeros(memory)
                for r in range(middle, min(middle + BLOCK, rows)):
                    block = add(block, load(memory, table[layer + 1, DELTA] + r * wide + j))
                middle_total = add(middle_total, block)
            total = add(total, middle_total)
        bias = table[layer, B] + to + j
        store(memory, bias, fma(fill(memory, alpha), total, load(memory, bias)))


@kernel(part=True)
def clear_gradients(memory, table, layer, first, end, low, high):
    """The gradients of the same part of W as in update_layer, and of b where that part has W's first row."""
    kept_apart()
    depth, panel, span = table[layer, SIZE], panel_width(memory), table[layer, SPAN]
    for p in range(first, end):
        w = table[layer, W] + span + (p * depth + low) * panel
        for i in range(w, w + (high - low) * panel, lanes(memory)):
            store(memory, i, zeros(memory))
    if low == 0 and high > 0:
        for j in range(first * panel, end * panel, lanes(memory)):
            store(memory, table[layer, B] + span + j, zeros(memory))


@kernel(part=True)
def decay_weights(memory, table, layer, first, end, low, high, l2):
    """The gradients of the same part of W += l2 * W; returns the sum of its squares."""
    kept_apart()
    depth, panel, span, total = table[layer, SIZE], panel_width(memory), table[layer, SPAN], 0.0
    factor = fill(memory, l2)
    for p in range(first, end):
        w, squares = table[layer, W] + (p * depth + low) * panel, zeros(memory)
        for i in range(w, w + (high - low) * panel, lanes(memory)):
            values = load(memory, i)
            squares = fma(values, values, squares)
            store(memory, i + span, fma(factor, values, load(memory, i + span)))
        total += add_up(squares)
    return total


@kernel(part=True)
def optimize(memory, table, layer, first, end, low, high, code, settings, step):
    """The optimizer's update of the same part of W, and of b."""
    depth, panel, span = table[layer, SIZE], panel_width(memory), table[layer, SPAN]
    for p in range(first, end):
        w = table[layer, W] + (p * depth + low) * panel
        update_numbers(
            code, settings, step, memory, w, memory, w + span, memory, w + 2 * span, span, (high - low) * panel
        )
    if low == 0 and high > 0:
        b, count = table[layer, B] + first * panel, (end - first) * panel
        update_numbers(code, settings, step, memory, b, memory, b + span, memory, b + 2 * span, span, count)
