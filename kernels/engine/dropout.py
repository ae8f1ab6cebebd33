"""Dropout inside training steps: which numbers are left out is a function of the step, the layer, the row and the column.

So it does not depend on the threads, nothing is kept for backward, and a run that goes on from a checkpoint leaves out
the same ones. What stays is divided by its probability, so that predicting needs no change (inverted dropout; Srivastava et
al. 2014). The function is that of layers/dropout.py.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from ..gemm.packing import panel_width
from ..layers.dropout import is_kept, layer_state, row_state
from ..runtime.compiler import InnerKernel, device
from ..runtime.pointers import address_of, call_at
from ..runtime.simd import load_scalar, noinline, store_scalar
from .layout import PADDED, SIZE

_HIGH = np.float64(2.0**53)


class Dropout(NamedTuple):
    """address: where `_drop` is, if it is needed. keep: the share of the numbers that stay. first_row: what is added to a
    row's number, for parts of a data set."""

    address: int
    keep: float
    seed: float
    first_row: float
    step: int


@device
def drop(network, place, layer, batch, dropout, region):
    """Leave out numbers of the activations, or of their derivatives, behind `layer`: those at layout[layer + 1, place]."""
    noinline()
    settings = dropout.keep, dropout.seed, dropout.first_row, dropout.step
    given = network.arena, network.layout, place, layer, (batch.order, batch.first), settings, tuple(region)
    call_at(dropout.address, None, given)


@cache
def drop_address(dtype):
    """Where `_drop` is, for numbers of this dtype; compiled, unless it was."""
    numbers, integers = np.empty(0, dtype), np.empty(0, np.int64)
    return address_of(_drop, numbers, integers.reshape(0, 0), 0, 0, (integers, 0), (1.0, 0.0, 0.0, 0), (0, 0, 0, 0))


@InnerKernel
def _drop(arena, layout, place, layer, batch, settings, region):
    """The arguments of `drop`: their fields, as far as they are needed."""
    (keep, seed, first_row, step), (order, first_of_batch), (first, end, low, high) = settings, batch, region
    panel, wide = panel_width(arena), layout[layer + 1, PADDED]
    left, right = first * panel, min(end * panel, layout[layer + 1, SIZE])
    scale, bound = arena.dtype.type(1 / keep), np.uint64(keep * _HIGH)
    start = layer_state(seed, step, layer)
    for r in range(low, high):
        state = row_state(start, first_row + order[first_of_batch + r])
        numbers = layout[layer + 1, place] + r * wide
        for j in range(left, right):
            kept = is_kept(state, j, bound)
            number = load_scalar(arena, numbers + j) * scale if kept else arena.dtype.type(0)
            store_scalar(arena, numbers + j, number)
