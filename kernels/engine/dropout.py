"""Dropout inside training steps: which numbers are left out is a function of the step, the layer, the row and the column.

So it does not depend on the threads, nothing is kept for the way back, and a run that goes on from a checkpoint leaves out
the same ones. What stays is divided by its probability, so that predicting needs no change (inverted dropout; Srivastava et
al. 2014). The function is that of layers/dropout.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..gemm.packing import panel_width
from ..layers.dropout import is_kept, layer_state, row_state
from ..runtime.compiler import device
from ..runtime.simd import load_scalar, noinline, store_scalar
from .layout import PADDED, SIZE

_HIGH = np.float64(2.0**53)


class Dropout(NamedTuple):
    """keep: the share of the numbers that stay. first_row: what is added to a row's number, for parts of a data set."""

    keep: float
    seed: float
    first_row: float
    step: int


@device
def drop(network, place, layer, batch, dropout, region):
    """Leave out numbers of the activations, or of their derivatives, behind `layer`: those at layout[layer + 1, place]."""
    noinline()
    arena, layout = network
    panel, wide = panel_width(arena), layout[layer + 1, PADDED]
    left, right = region.first * panel, min(region.end * panel, layout[layer + 1, SIZE])
    scale, bound = arena.dtype.type(1 / dropout.keep), np.uint64(dropout.keep * _HIGH)
    start = layer_state(dropout.seed, dropout.step, layer)
    for r in range(region.low, region.high):
        state = row_state(start, dropout.first_row + batch.order[batch.first + r])
        numbers = layout[layer + 1, place] + r * wide
        for j in range(left, right):
            kept = is_kept(state, j, bound)
            number = load_scalar(arena, numbers + j) * scale if kept else arena.dtype.type(0)
            store_scalar(arena, numbers + j, number)
