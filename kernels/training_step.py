"""A whole multilayer perceptron in compiled code: many training steps in one call, and how many rows it gets right.

`parameters` is one flat vector, W1 (row-major), b1, W2, b2, ... `architecture` has `sizes`, the widths from the input to
the output; `activations`, one name for each affine layer ("identity" for the last); `loss`, the name of the loss of the
scores (output.py); `mean`, whether it and the gradient are divided by the batch size. layout.py says how it all lies in
memory, matmul.py how dense layers are multiplied, sparse.py how zeros in the input are skipped, optimizers.py the rules.

Threads: for each layer, every thread has its own panels of W, the same ones forward and in the update, so that they stay
in the cache of its core; a layer of fewer panels than threads is shared by rows. A network so small that all of it stays in
every core's cache is shared by rows from its input to its loss and back: then a step has two stages.

Tried and lost: W1's rows kept together for sparse input, instead of its panels (float32 recipe, 3000 steps, 0.37 s instead
of 0.30, presumably because a thread then uses half of the cache's sets); layers too large for a core's cache shared by
rows (784-512-10, batch 256: 10 % slower).
"""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .layout import DELTA, SIZE, SPAN, WIDTH, Z, lay_out, unpack_network
from .matmul import ROWS, panel_width
from .optimizers import CODES, NO_UPDATE, RATE, SGD
from .output import LOSSES, divisor_of, output_delta
from .simd import kept_apart
from .sparse import copy_dense_row, dense_rows, forward_sparse, prefetch_rows, prepare_rows, update_sparse
from .step_dropout import drop
from .step_layer import (
    activate,
    backward_layer,
    clear_gradients,
    decay_weights,
    forward_layer,
    optimize,
    update_bias,
    update_layer,
)
from .threads import next_part, run, share, take, threads_for

ROWS_AT_A_TIME = 40 * ROWS  # in `count_correct`: 784 float32 columns of them stay in the second-level cache
WORTH_A_THREAD = 150_000  # multiplications a step; measured: from here on, a second thread repays the stages
SMALL = 192 * 1024  # bytes of W and b: so many stay in a second-level cache beside a thread's rows
L2, L2_DIVIDED, KEEP, LOSS_PARTS, LOG_FLOOR = range(5)  # places in `terms`


def prepare_data(x, divisor=None):
    """x (N, features), C-contiguous -> what train_steps and count_correct read fastest.

    x: floating or uint8; with a divisor, uint8, and the numbers are np.float32(x) / np.float32(divisor).
    """
    if x.dtype != np.uint8:
        return Data(x, None)
    return Data(x, np.arange(256, dtype=np.float32) / np.float32(1 if divisor is None else divisor))


class Data:
    """A data set, sparse where that is faster. Once W is not finite, 0 * w is not 0, and the dense rows are read."""

    def __init__(self, x, numbers):
        self.rows = prepare_rows(x, numbers)
        self.dense_rows = dense_rows(x, numbers)

    def rows_for(self, parameters, sizes):
        return self.rows if first_layer_is_finite(parameters, sizes) else self.dense_rows


def first_layer_is_finite(parameters, sizes):
    return bool(np.isfinite(parameters[: sizes[0] * sizes[1]]).all())


def count_correct(parameters, architecture, x, t):
    """parameters (P,), x = prepare_data(N, inputs), t (N,) -> for how many rows the first largest score is t's."""
    threads = threads_for(len(t), ROWS_AT_A_TIME + 1)
    network = lay_out(parameters, architecture, threads * ROWS_AT_A_TIME, threads)
    hits = np.zeros(8 * threads, np.int64)
    run(_count_correct, threads, *network, x.rows_for(parameters, architecture.sizes), np.arange(len(t)), flat(t), hits)
    return int(hits.sum())


def train_steps(parameters, architecture, x, t, batches, rule, state, losses, done, terms=None):
    """Updates in place, one for each row of `batches` (steps, batch size): row numbers of x = prepare_data(...) and t.

    A batch may end in numbers of -1: it is so much shorter.

    t: class indices (n,), int64, or targets (n, outputs), in the parameters' dtype. rule, state: see optimizer_update.
    losses (steps,), float64, takes each batch's loss before its update; done (1,), int64, is increased by the steps
    that were made. terms: None, or what else belongs to the loss, see networks.Terms.
    """
    before, state_before = parameters.copy(), state.copy()

    def steps(rows):
        _run(
            before, state_before, architecture, rows, t, batches, CODES[rule.name], rule, losses, parameters, state, done,
            terms, rule.steps,
        )  # fmt: skip

    rows = x.rows_for(parameters, architecture.sizes)
    steps(rows)
    if rows is not x.dense_rows and not first_layer_is_finite(parameters, architecture.sizes):
        done[0] -= len(batches)
        steps(x.dense_rows)


def batch_gradient(parameters, architecture, x, t, batch, gradient, terms=None, step=0):
    """The loss of one batch (batch size,), row numbers of x = prepare_data(...) and t; `gradient` (P,) takes its derivative.

    t, terms: as for train_steps; but l2 is left out. step: how many updates were made before, for dropout.
    """
    losses, none = np.zeros(1), parameters[:0].reshape(0, len(parameters))
    rows = x.rows_for(parameters, architecture.sizes)
    _run(
        parameters, none, architecture, rows, t, batch.reshape(1, -1), NO_UPDATE, None, losses, gradient, none,
        np.zeros(1, np.int64), terms, step,
    )  # fmt: skip
    return float(losses[0])


def _run(before, state_before, architecture, rows, t, batches, code, rule, losses, result, state, done, terms, step):
    """Steps from the parameters `before` on: `result` takes the parameters after them, or for NO_UPDATE the gradient."""
    batch = batches.shape[1]
    threads = threads_for(batch * len(before), WORTH_A_THREAD)
    labels, targets = (flat(t), before[:0]) if t.ndim == 1 else (np.empty(0, np.int64), flat(t))
    output = np.array([LOSSES[architecture.loss], architecture.mean, 0, 0])
    weights, added = before[:0], np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    if terms is not None:
        output[2:] = terms.seed, terms.first_row
        l2 = 0.0 if rule is None else terms.l2
        added[:] = l2, terms.l2_divided, 1 - terms.dropout, terms.loss_parts, terms.log_floor
        weights = weights if terms.weights is None else terms.weights
    settings = np.array((0.0,) * 5 if rule is None else rule.settings, np.float64)
    network = lay_out(before, architecture, batch, threads, state_before, gradients=code == NO_UPDATE or added[L2] != 0)
    run(
        _train_steps, threads, *network, rows, labels, targets, flat(weights), flat(batches), batch, output, added, code,
        settings, step, np.zeros(8 * threads), losses,
        flat(result), flat(state), done,
    )  # fmt: skip


@kernel
def _count_correct(thread, threads, control, memory, table, data, everything, t, hits):
    layers, panel, wide = len(table) - 1, panel_width(memory), table[0, WIDTH]
    base = thread * ROWS_AT_A_TIME  # this thread's rows of z
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        start, stop = share(len(t), part, threads)
        for first in range(start, stop, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, stop - first)
            for layer in range(layers):
                p, panels = share(table[layer + 1, WIDTH] // panel, 0, 1)
                if layer == 0 and len(data.starts) > 0:
                    forward_sparse(memory, table, data, everything, first, base, count, p, panels)
                    activate(memory, table, layer, p, panels, base, base + count)
                else:
                    if layer == 0:
                        for r in range(count):
                            copy_dense_row(
                                data, first + r, table[0, SIZE], memory, table[0, Z] + (base + r) * wide
                            )  # fmt: skip
                    forward_layer(memory, table, layer, p, panels, base, base + count)
            for r in range(count):
                scores = table[layers, Z] + (base + r) * table[layers, WIDTH]
                hits[8 * part] += first_largest(memory, scores, table[layers, SIZE]) == t[first + r]
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def first_largest(memory, start, count):
    """np.argmax: the place of the first maximum, or of the first NaN."""
    best, place = memory[start], 0
    for j in range(1, count):
        value = memory[start + j]
        if value > best or (value != value and best == best):
            best, place = value, j
    return place


@kernel
def _train_steps(
    thread, threads, control, memory, table, data, labels, targets, weights, batches, batch, output, terms, code, settings,
    steps_before, summed, losses, result, state, done,
):  # fmt: skip
    """Each step is a row of turns, and each turn a stage of the threads' work: see `gradient_turn`; then the update."""
    stage, sparse, plain = 0, len(data.starts) > 0, code == SGD and terms[L2] == 0
    update = 2 * (len(table) - 1)
    by_rows = not sparse and table[0, SPAN] * memory.itemsize <= SMALL
    begin = update - 1 if by_rows else 0 if sparse else -1
    for step in range(len(losses)):
        rows, made = step * batch, steps_before + step  # where this step's row numbers begin in `batches`; steps before
        count = batch
        while batches[rows + count - 1] < 0:
            count -= 1
        divisor = divisor_of(output, weights, batches, rows, count)
        l2 = terms[L2] / divisor if terms[L2_DIVIDED] != 0 else terms[L2]
        for turn in range(begin, update + (2 if l2 != 0 else 1)):
            stage += 1
            part = take(control, stage, threads, thread, threads, -1)
            while part >= 0:
                for each in range(-1 if by_rows and turn < update else turn, min(turn + 1, update)):
                    gradient_turn(
                        each, part, threads, thread, by_rows, memory, table, data, labels, targets, weights, batches, rows,
                        count, output, terms, made, divisor, summed,
                    )  # fmt: skip
                if turn == update:
                    summed[8 * part + 1] = update_part(
                        part, threads, thread, memory, table, data, batches, rows, batch, count, plain, code, settings, made,
                        l2,
                    )  # fmt: skip
                if turn >= update and part == 0:
                    total = 0.0
                    for other in range(threads):
                        total += summed[8 * other + turn - update]
                    losses[step] = (
                        total / divisor / terms[LOSS_PARTS] if turn == update else losses[step] + l2 / 2 * total
                    )
                part = take(control, stage, threads, thread, threads, part)
    part = take(control, stage + 1, threads, thread, threads, -1)
    while part >= 0:
        if part == 0:  # with the count of steps, in one go: Ctrl-C may come as soon as Python has control again
            unpack_network(memory, table, table[0, SPAN] if code == NO_UPDATE else 0, result, 0)
            if not plain:
                for start in range(0, len(state), len(result)):
                    unpack_network(memory, table, (2 + start // len(result)) * table[0, SPAN], state, start)
            done[0] += len(losses)
        part = take(control, stage + 1, threads, thread, threads, part)


@kernel(part=True)
def gradient_turn(
    turn, part, parts, thread, by_rows, memory, table, data, labels, targets, weights, batches, rows, count, output, terms,
    step, divisor, summed,
):  # fmt: skip
    """One part of a step's way to its gradient. Turn -1: copy the batch to the first layer's input; from 0 on: the layers
    forward; then the loss, which goes to `summed`, and its derivative by the scores; then the layers but the first back.
    """
    kept_apart()
    layers, panel = len(table) - 1, panel_width(memory)
    low, high = share(count, part, parts)
    if turn < 0:
        for r in range(low, high):
            copy_dense_row(data, batches[rows + r], table[0, SIZE], memory, table[0, Z] + r * table[0, WIDTH])
    elif turn < layers:
        layer, first, end = turn, np.intp(0), table[turn + 1, WIDTH] // panel
        if not by_rows:
            first, end, low, high = shares(part, parts, end, count)
        if layer == 0 and len(data.starts) > 0:
            forward_sparse(memory, table, data, batches, rows + low, low, high - low, first, end)
            activate(memory, table, layer, first, end, low, high)
        else:
            forward_layer(memory, table, layer, first, end, low, high)
        if terms[KEEP] < 1 and layer < layers - 1:
            drop(
                memory, table, np.intp(Z), layer, batches, rows, output, step, terms[KEEP], first, end, low, high
            )  # fmt: skip
    elif turn == layers:
        summed[8 * part] = output_delta(
            memory, table, output, labels, targets, weights, batches, rows, low, high, divisor, terms[LOG_FLOOR]
        )
    else:
        layer = 2 * layers - turn
        first, end = np.intp(0), table[layer, WIDTH] // panel
        if not by_rows:
            first, end = share(end, part, parts)
            low, high = np.intp(0), count
        backward_layer(memory, table, layer, first, end, low, high, memory.dtype.type(terms[KEEP]), thread)
        if terms[KEEP] < 1:
            drop(
                memory, table, np.intp(DELTA), layer - 1, batches, rows, output, step, terms[KEEP], first, end, low, high
            )  # fmt: skip


@kernel(part=True)
def update_part(
    part, parts, thread, memory, table, data, batches, rows, batch, count, plain, code, settings, step, l2
):  # fmt: skip
    """One part of the update of all layers; the sum of the squares of its weights, where there is l2."""
    alpha = memory.dtype.type(-settings[RATE] if plain else 1.0)
    to = 0 if plain else table[0, SPAN]  # where the gradients are added: to W and b themselves, or beside them
    squares, panel = 0.0, panel_width(memory)
    for layer in range(len(table) - 1):
        first, end, top, bottom = shares(part, parts, table[layer + 1, WIDTH] // panel, table[layer, SIZE])
        sparse = layer == 0 and len(data.starts) > 0
        if sparse:
            first, end = share(table[1, WIDTH] // panel, part, parts)
            top, bottom = 0, table[0, SIZE]
            prefetch_rows(data, batches, rows + batch, batch)
        if not plain:
            clear_gradients(memory, table, layer, first, end, top, bottom)
        if sparse:
            update_sparse(memory, table, data, batches, rows, count, alpha, to, first, end)
        else:
            update_layer(memory, table, layer, first, end, top, bottom, count, alpha, to, thread)
        if top == 0 and bottom > 0:
            update_bias(memory, table, layer, first, end, count, alpha, to)
        if l2 != 0:
            squares += decay_weights(memory, table, layer, first, end, top, bottom, memory.dtype.type(l2))
        if not plain and code != NO_UPDATE:
            optimize(memory, table, layer, first, end, top, bottom, code, settings, step + 1)
    return squares


@kernel(part=True)
def shares(part, parts, panels, rows):
    """This part of a layer: first and end panel, first and end row. Whole strips of rows, as tiles are."""
    if panels >= parts:
        first, end = share(panels, part, parts)
        return first, end, 0, rows
    low, high = share((rows + ROWS - 1) // ROWS, part, parts)
    return 0, panels, min(rows, low * ROWS), min(rows, high * ROWS)
