"""The loss of a training step's scores, and the derivative by them.

"cross_entropy"    y = softmax(scores), labels    -log(y[label] + 1e-7)    (y - one-hot) / n
the others         see layers/target_losses.py; their derivatives are divided by n, too

n is the batch size, or 1. Where samples have weights, a row's loss and derivative are times its own, and n is their sum
over the batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..layers.softmax_cross_entropy import EPSILON, softmax_rows
from ..layers.target_losses import CODES, derivative_of, loss_of, output_of
from ..runtime.compiler import InnerKernel, device
from ..runtime.pointers import address_of, call_at
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.sums import accumulate
from .layout import DELTA, PADDED, SIZE, Z

CROSS_ENTROPY, HITS = 0, -1  # HITS: no loss, but how many rows a network gets right
LOSSES = {"cross_entropy": CROSS_ENTROPY, **CODES}


class Loss(NamedTuple):
    """kind: one of LOSSES, or HITS; of_targets: the address of `_loss_of_targets`, if it is needed; mean: 1 to divide by the
    batch size, or the sum of its weights, 0 not to. parts: what the loss that is reported is divided by, besides. log_floor:
    if not 0, cross-entropy is -log(max(y[label], log_floor)). l2: the strength of the L2 norm of the weights; l2_divided: 1
    to divide it as the loss is."""

    kind: int
    of_targets: int
    mean: float
    parts: float
    log_floor: float
    l2: float
    l2_divided: float


class Targets(NamedTuple):
    """Class indices (n,), or numbers (n, outputs); the other is empty. weights (n,), or empty where all are 1."""

    labels: Any
    numbers: Any
    weights: Any


@device
def divisor_of(loss, weights, batch):
    """n of a batch; 1 where its weights are all 0, for which there is nothing to learn."""
    if loss.mean == 0:
        return 1.0
    if len(weights) == 0:
        return float(batch.count)
    sums = 0.0, 0.0, 0.0
    for r in range(batch.count):
        sums = accumulate(sums, weights[batch.order[batch.first + r]], r)
    total = sums[0] + sums[1] + sums[2]
    return total if total != 0 else 1.0


@device
def loss_and_delta(network, loss, targets, batch, bounds, divisor):
    """delta of the scores, for the rows of the batch from bounds[0] to bounds[1]; returns their summed loss."""
    arena, layout = network
    layers, sums, (low, high) = len(layout) - 1, (0.0, 0.0, 0.0), bounds
    count, wide = layout[layers, SIZE], layout[layers, PADDED]
    if loss.kind == CROSS_ENTROPY:
        first_z, first_y = layout[layers, Z] + low * wide, layout[layers, DELTA] + low * wide
        softmax_rows(arena, first_y, arena, first_z, (high - low, count, wide))
    for r in range(low, high):
        z, y = layout[layers, Z] + r * wide, layout[layers, DELTA] + r * wide
        row = batch.order[batch.first + r]
        weight = targets.weights[row] if len(targets.weights) > 0 else 1.0
        if loss.kind == CROSS_ENTROPY:
            total = cross_entropy(arena, y + targets.labels[row], loss.log_floor)
        else:
            numbers = targets.numbers, row * count, count
            total = call_at(loss.of_targets, 0.0, (arena, y, z, numbers, loss.kind))
        scale = arena.dtype.type(weight / divisor)
        for j in range(count):
            store_scalar(arena, y + j, load_scalar(arena, y + j) * scale)
        sums = accumulate(sums, weight * total, r - low)
    return sums[0] + sums[1] + sums[2]


@device
def cross_entropy(y, label, log_floor):
    """-log y[label]; y[label] -= 1."""
    kind, probability = y.dtype.type, y[label]
    y[label] = probability - kind(1)
    return -np.log(max(probability, kind(log_floor)) if log_floor > 0 else probability + kind(EPSILON))


@cache
def address_of_loss(kind, dtype):
    """Where the loss of targets of this dtype is, compiled, unless it was; 0 for cross-entropy."""
    numbers = np.empty(0, dtype)
    return 0 if kind == CROSS_ENTROPY else address_of(_loss_of_targets, numbers, 0, 0, (numbers, 0, 0), 0)


@InnerKernel
def _loss_of_targets(arena, delta, z, targets, code):
    """The other losses, of one row: returned; their derivatives by the scores go to `delta`. targets: those from a place on,
    and how many."""
    total, (targets, t, count) = 0.0, targets
    for j in range(count):
        score, target = load_scalar(arena, z + j), load_scalar(targets, t + j)
        total += loss_of(score, target, code)
        store_scalar(arena, delta + j, derivative_of(output_of(score, code), target, code))
    return total
