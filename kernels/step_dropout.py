"""Dropout inside training steps: which numbers are left out is a function of the step, the layer, the row and the column.

So it does not depend on the threads, nothing is kept for the way back, and a run that goes on from a checkpoint leaves out
the same ones. What stays is divided by its probability, so that predicting needs no change (inverted dropout; Srivastava et
al. 2014). The function is splitmix64 (Steele, Lea, Flood 2014), counting columns; reference.py has the same.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .layout import SIZE, WIDTH
from .matmul import panel_width
from .output import FIRST_ROW, SEED
from .simd import at, kept_apart, put

_GOLDEN, _MIX1, _MIX2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_HIGH = np.float64(2.0**53)


@kernel(part=True)
def drop(memory, table, place, layer, batches, rows, output, step, keep, first, end, low, high):
    """Leaves out numbers of the activations, or of their derivatives, behind `layer`: those at table[layer + 1, place].

    Of the panels from `first` to `end` and the batch's rows from `low` to `high`; `rows` is where the batch begins.
    """
    kept_apart()
    panel, wide = panel_width(memory), table[layer + 1, WIDTH]
    left, right = first * panel, min(end * panel, table[layer + 1, SIZE])
    scale, bound = memory.dtype.type(1 / keep), np.uint64(keep * _HIGH)
    start = mixed(mixed(np.uint64(output[SEED])) + np.uint64(step)) + np.uint64(layer)
    for r in range(low, high):
        state = mixed(mixed(start) + np.uint64(output[FIRST_ROW] + batches[rows + r]))
        numbers = table[layer + 1, place] + r * wide
        for j in range(left, right):
            kept = mixed(state + np.uint64(j)) >> np.uint64(11) < bound
            put(memory, numbers + j, at(memory, numbers + j) * scale if kept else memory.dtype.type(0))


@kernel(part=True)
def mixed(state):
    state = state * _GOLDEN + _GOLDEN
    state = (state ^ state >> np.uint64(30)) * _MIX1
    state = (state ^ state >> np.uint64(27)) * _MIX2
    return state ^ state >> np.uint64(31)
