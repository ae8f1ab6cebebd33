"""Training steps of a multilayer perceptron, many in one call.

`parameters` is one flat vector, W1 (row-major), b1, W2, b2, ... `architecture` has `sizes`, the widths from the input to
the output; `activations`, one name for each affine layer ("identity" for the last); `loss`, the name of the loss of the
scores (loss.py); `mean`, whether it and the gradient are divided by the batch size. layout.py says how it all lies in
the arena, gemm/ how layers are multiplied and zeros in the input skipped, update.py the optimizers' rules.

A step is a row of phases, each shared by the threads: sharing.py says how.
"""

from __future__ import annotations

import numpy as np

from ..gemm.packing import panel_width
from ..gemm.product import FEW_ROWS
from ..gemm.sparse_rows import Rows, Selection, copy_dense_row
from ..runtime.arrays import flat
from ..runtime.cache import cached
from ..runtime.chunks import chunk_bounds, claim_chunk, claimed
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import noinline
from ..runtime.threads import parallel_kernel, run
from .data import first_layer_is_finite
from .dropout import Dropout, drop, drop_address
from .evaluation import ROWS_AT_A_TIME, count_hits
from .few_rows import few_rows_addresses
from .layer import (
    Region,
    activate,
    backward_layer,
    clear_gradients,
    decay_weights,
    forward_layer,
    optimize,
    update_bias,
    update_layer,
)
from .layout import DELTA, FORWARD_FEW, PADDED, SIZE, SPAN, UPDATE_FEW, Network, Z, lay_out, unpack_network
from .loss import HITS, LOSSES, Loss, Targets, address_of_loss, divisor_of, loss_and_delta
from .sharing import Call, Place, Sharing, Step, region_of, share
from .sparse_layer import extent_of, finish_sums, forward_sparse, region_of_extent, update_sparse_layer
from .update import CODES, NO_SETTINGS, NO_UPDATE, RATE, SGD, Rule, Update, update_address

NO_TERMS, NO_DROPOUT = (1.0, 0.0, 0.0, 0.0), (0, 1.0, 0.0, 0.0)  # the fields of Loss from `parts` on, those of Dropout
NO_SHARING = 0, np.empty(0, np.int64)
PARALLEL_THRESHOLD = 150_000  # multiplications a step; measured: from here on, a second thread repays the phases


def train_steps(parameters, architecture, data, batches, rule, state, record, terms=None):
    """Updates in place, one for each row of `batches` (steps, batch size): row numbers of x = prepare_data(...) and t.

    A batch may end in numbers of -1: it is so much shorter.

    data: (x, t), t being class indices (n,), int64, or targets (n, outputs), in the parameters' dtype. rule, state: see
    optimizer_update. record: losses (steps,), float64, which takes each batch's loss before its update, and done (1,),
    int64, which is increased by the steps that were made. terms: None, or what else belongs to the loss, see networks.Terms.
    """
    (x, t), (losses, done) = data, record
    before, state_before = parameters.copy(), state.copy()

    def steps(rows):
        start, results = (before, state_before), (losses, parameters, state, done)
        _run(start, architecture, (rows, t, batches), (CODES[rule.name], rule, rule.steps), results, terms)

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
    results = losses, gradient, none, np.zeros(1, np.int64)
    _run((parameters, none), architecture, (rows, t, batch.reshape(1, -1)), (NO_UPDATE, None, step), results, terms)
    return float(losses[0])


def count_correct(parameters, architecture, x, t):
    """parameters (P,), x = prepare_data(N, inputs), t (N,) -> for how many rows the first largest score is t's."""
    threads = threads_for(len(t), ROWS_AT_A_TIME + 1)
    network = lay_out(parameters, architecture, threads * ROWS_AT_A_TIME, threads)
    hits, none = np.zeros(8 * threads), parameters[:0]
    rows, everything = x.rows_for(parameters, architecture.sizes), np.arange(len(t))
    settings = (HITS, 0, 0.0, *NO_TERMS), NO_DROPOUT, (NO_UPDATE, NO_SETTINGS, 0, 0), NO_SHARING
    labels = flat(t.astype(np.int64, copy=False))
    results, targets, batches = (hits, none, none, np.zeros(1, np.int64)), (labels, none, none), (everything, len(t))
    run(_train_steps, threads, results, network, tuple(rows), targets, batches, settings, hits)
    return int(hits.sum())


def cached_dtypes():
    """For how many dtypes this version's kernel cache has training steps."""
    return cached(_train_steps)


def _run(start, architecture, data, update, results, terms):
    """Steps from the parameters and the state in `start` on.

    data: rows, t, batches; update: code, rule, steps made before; results: losses, what takes the parameters after the
    steps, or for NO_UPDATE the gradient, what takes the state, steps done.
    """
    (before, state_before), (rows, t, batches), (code, rule, steps_before) = start, data, update
    batch = batches.shape[1]
    threads = threads_for(batch * len(before), PARALLEL_THRESHOLD)
    if t.ndim == 1:
        labels, numbers = flat(t.astype(np.int64, copy=False)), before[:0]
    else:
        labels, numbers = np.empty(0, np.int64), flat(t.astype(before.dtype, copy=False))
    kind, mean = LOSSES[architecture.loss], float(architecture.mean)
    of_loss = kind, address_of_loss(kind, before.dtype), mean
    loss, dropout, row_weights = NO_TERMS, NO_DROPOUT, before[:0]
    if terms is not None:
        l2 = 0.0 if rule is None else float(terms.l2)
        loss = float(terms.loss_parts), float(terms.log_floor), l2, float(terms.l2_divided)
        address = drop_address(before.dtype) if terms.dropout else 0
        dropout = address, 1.0 - float(terms.dropout), float(terms.seed), float(terms.first_row)
        row_weights = row_weights if terms.weights is None else terms.weights
    settings = NO_SETTINGS if rule is None else np.array(rule.settings, np.float64)
    has_rule = code != NO_UPDATE and (code != SGD or loss[2] != 0)  # else it is in the products, or there is none
    updating = update_address(before.dtype) if has_rule else 0
    sharing = share(architecture.sizes, rows, threads, before.itemsize)
    network = lay_out(
        before, architecture, batch, threads, state_before,
        goes_back=True, gradients=code == NO_UPDATE or loss[2] != 0, partial_sums=max(0, len(sharing.by_features) - 2),
    )  # fmt: skip
    if batch <= FEW_ROWS * threads:
        network[1][:, [FORWARD_FEW, UPDATE_FEW]] = few_rows_addresses(before.dtype)
    losses, result, state, done = results
    run(
        _train_steps, threads, (losses, flat(result), flat(state), done), network, tuple(rows),
        (labels, numbers, flat(row_weights)), (flat(batches.astype(np.int64, copy=False)), batch),
        ((*of_loss, *loss), dropout, (code, settings, steps_before, updating), tuple(sharing)), np.zeros(8 * threads),
    )  # fmt: skip


@parallel_kernel
def _train_steps(work, results, network, data, targets, batches, settings, summed):
    """results: losses, parameters or gradient, state, steps done; settings: of loss, dropout and update, and a Sharing.

    Where the loss is HITS, only these are counted, of all rows in `batches`; losses: 8 numbers for each thread.
    """
    thread, threads, _ = work
    network, data, targets, loss = Network(*network), Rows(*data), Targets(*targets), Loss(*settings[0])
    if loss.kind == HITS:
        count_hits(work, results[0], network, data, targets.labels, batches[0])
        return
    (losses, result, state, done), (code, rule_settings, steps_before, address) = results, settings[2]
    phase, is_sparse, is_plain = 0, len(data.indptr) > 0, code == SGD and loss.l2 == 0
    update = 2 * (len(network.layout) - 1)
    sharing = Sharing(*settings[3])
    call = Call(network, data, targets, loss, sharing)
    for number in range(len(losses)):
        made = steps_before + number
        step = next_step(loss, targets, batches, number, settings[1], made)
        for part in range(0 if is_sparse else -1, update + (2 if step.l2 != 0 else 1)):
            if sharing.by_rows < part < update:
                continue
            phase += 1
            chunk = claim_chunk(work, phase, threads, -1)  # `claimed` took 0.25 of the 1.9 us of a step of one row
            while chunk >= 0:
                place = Place(chunk, threads, thread)
                for each in range(part, update if part == sharing.by_rows else min(part + 1, update)):
                    gradient_phase(summed, each, place, call, step)
                if part == update:
                    how = Update(address, Rule(code, rule_settings, made + 1))
                    summed[8 * chunk + 1] = update_phase(place, call, step, how, is_plain, batches[1])
                if part >= update and chunk == 0:
                    losses[number] = reported_loss(losses[number], summed, threads, part - update, loss.parts, step)
                chunk = claim_chunk(work, phase, threads, chunk)
    for chunk in claimed(work, phase + 1, threads):
        if chunk == 0:  # with the count of steps, in one go: Ctrl-C may come as soon as Python has control again
            unpack_results(result, state, network, code == NO_UPDATE)
            done[0] += len(losses)


@device
def unpack_results(result, state, network, is_gradient):
    """What the arena has after all steps: the parameters, or their gradient, and an optimizer's state."""
    span = network.layout[0, SPAN]
    unpack_network(result, 0, network, span if is_gradient else 0)
    for start in range(0, len(state), len(result)):
        unpack_network(state, start, network, (2 + start // len(result)) * span)


@device
def next_step(loss, targets, batches, number, dropout, made):
    """The step with this number; batches: row numbers and the size of a batch, which may end in -1."""
    order, size = batches
    first, count = number * size, size
    while order[first + count - 1] < 0:
        count -= 1
    batch = Selection(order, first, count)
    divisor = divisor_of(loss, targets.weights, batch)
    l2 = loss.l2 / divisor if loss.l2_divided != 0 else loss.l2
    return Step(batch, Dropout(dropout[0], dropout[1], dropout[2], dropout[3], made), divisor, l2)


@device
def reported_loss(before, summed, threads, which, parts, step):
    """The loss of a step: which = 0: of its rows; 1: with that of L2."""
    total = 0.0
    for other in range(threads):
        total += summed[8 * other + which]
    return total / step.divisor / parts if which == 0 else before + step.l2 / 2 * total


@device
def gradient_phase(summed, phase, place, call, step):
    """One chunk of a step's way to its gradient. Phase -1: copy the batch to the first layer's input; from 0 on: the layers
    forward; then the loss, which goes to `summed`, and its derivative by the scores; then the layers but the first back.
    """
    noinline()
    network, data, batch = call.network, call.data, step.batch
    arena, layout = network
    layers = len(layout) - 1
    low, high = chunk_bounds(batch.count, place.chunk, place.chunk_count)
    if phase == 1 and len(call.sharing.by_features) > 0:
        finish_sums(call, step, place.chunk_count, low, high)
    if phase < 0:
        for r in range(low, high):
            target = layout[0, Z] + r * layout[0, PADDED]
            copy_dense_row(arena, target, data, batch.order[batch.first + r], layout[0, SIZE])
    elif phase < layers:
        forward_phase(phase, place, call, step, low, high)
    elif phase == layers:
        summed[8 * place.chunk] = loss_and_delta(network, call.loss, call.targets, batch, (low, high), step.divisor)
    else:
        layer = 2 * layers - phase
        region = Region(np.intp(0), layout[layer, PADDED] // panel_width(arena), low, high)
        if phase < call.sharing.by_rows:
            first, end = chunk_bounds(region.end, place.chunk, place.chunk_count)
            region = Region(first, end, np.intp(0), batch.count)
        backward_layer(network, layer, region, arena.dtype.type(step.dropout.keep), place.thread)
        if step.dropout.keep < 1:
            drop(network, np.intp(DELTA), layer - 1, batch, step.dropout, region)


@device
def forward_phase(layer, place, call, step, low, high):
    """One chunk of a layer's way forward."""
    network, batch = call.network, step.batch
    arena, layout = network
    region = Region(np.intp(0), layout[layer + 1, PADDED] // panel_width(arena), low, high)
    if layer < call.sharing.by_rows:
        region = region_of(place, region.end, batch.count)
    if layer > 0 or len(call.data.indptr) == 0:
        forward_layer(network, layer, region)
    else:
        forward_sparse(call, place, batch, region)
        if len(call.sharing.by_features) > 0:
            return  # finish_sums will do the rest
        activate(network, layer, region)
    if step.dropout.keep < 1 and layer < len(layout) - 2:
        drop(network, np.intp(Z), layer, batch, step.dropout, region)


@device
def update_phase(place, call, step, update, is_plain, next_batch):
    """One chunk of the update of all layers; the sum of the squares of its weights, where there is l2.

    next_batch: how many row numbers later the next batch begins.
    """
    network, batch = call.network, step.batch
    arena, layout = network
    alpha = arena.dtype.type(-update.rule.settings[RATE] if is_plain else 1.0)
    gradient_offset = 0 if is_plain else layout[0, SPAN]  # gradients are added to W and b themselves, or beside them
    squares, panel = 0.0, panel_width(arena)
    for layer in range(len(layout) - 1):
        is_sparse = layer == 0 and len(call.data.indptr) > 0
        region = region_of(place, layout[layer + 1, PADDED] // panel, layout[layer, SIZE])
        if is_sparse:
            region = region_of_extent(call, extent_of(place, call))
        if not is_plain:
            clear_gradients(network, layer, region)
        if is_sparse:
            update_sparse_layer(call, place, batch, next_batch, alpha, gradient_offset)
        else:
            update_layer(network, layer, region, batch.count, alpha, gradient_offset, place.thread)
        if region.low == 0 and region.high > 0:
            update_bias(network, layer, region, batch.count, alpha, gradient_offset)
        if step.l2 != 0:
            squares += decay_weights(network, layer, region, arena.dtype.type(step.l2))
        if not is_plain and update.rule.code != NO_UPDATE:
            optimize(network, layer, region, update)
    return squares
