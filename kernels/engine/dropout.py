"""Dropout inside training steps: which numbers are left out is a function of the step, the layer, the row and the column.

So it does not depend on the threads, nothing is kept for the way back, and a run that goes on from a checkpoint leaves out
the same ones. What stays is divided by its probability, so that predicting needs no change (inverted dropout; Srivastava et
al. 2014). The function is splitmix64 (Steele, Lea, Flood 2014), counting columns; reference.py has the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..gemm.packing import panel_width
from ..runtime.compiler import device
from ..runtime.simd import load_scalar, noinline, store_scalar
from .layout import PADDED, SIZE

_GOLDEN, _MIX1, _MIX2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
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
    start = splitmix64(splitmix64(np.uint64(dropout.seed)) + np.uint64(dropout.step)) + np.uint64(layer)
    for r in range(region.low, region.high):
        row = np.uint64(dropout.first_row + batch.order[batch.first + r])
        state = splitmix64(splitmix64(start) + row)
        numbers = layout[layer + 1, place] + r * wide
        for j in range(left, right):
            kept = splitmix64(state + np.uint64(j)) >> np.uint64(11) < bound
            number = load_scalar(arena, numbers + j) * scale if kept else arena.dtype.type(0)
            store_scalar(arena, numbers + j, number)


@device
def splitmix64(state):
    state = state * _GOLDEN + _GOLDEN
    state = (state ^ state >> np.uint64(30)) * _MIX1
    state = (state ^ state >> np.uint64(27)) * _MIX2
    return state ^ state >> np.uint64(31)
