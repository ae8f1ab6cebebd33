"""How the threads share a training step.

For each layer, every thread has its own panels of W, the same ones forward and in the update, so that they stay in the
cache of its core; a layer of fewer panels than threads is shared by rows. A network so small that all of it stays in every
core's cache is shared by rows from its input to its loss and back: then a step has two phases. So is what follows a sparse
first layer, if it is small; then there are three.

A sparse first layer may be shared by features instead, which sparse_layer.py does: panels are multiplied two at a time, and
a lone one costs nearly as much as two.

Measured and rejected: W1's rows kept together for sparse input, instead of its panels (float32 recipe, 3000 steps, 0.37 s
instead of 0.30, presumably because a thread then uses half of the cache's sets); dense layers too large for a core's cache
shared by rows (784-512-10, batch 256: 10 % slower); a sparse layer of whole pairs of panels for each thread shared by
features (784-100-10 float32, batch 1024: 6 % slower; 784-512-10 float64, 17 %); the sparse first layer of the next step
in one phase with an update, which saves a phase (784-50-10 float32: 31 us a step with and without it, 45 where the cores
share no cache: there a line that the other core wrote costs 15 ns instead of 3, and such a step reads 400 of them).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..gemm.packing import ROWS
from ..gemm.sparse_rows import Rows, Selection
from ..runtime.chunks import chunk_bounds
from ..runtime.compiler import device
from ..runtime.processors import VECTOR_BYTES
from .dropout import Dropout
from .layer import Region
from .layout import Network
from .loss import Loss, Targets

SMALL = 192 * 1024  # bytes of W and b: so many stay in a second-level cache beside a thread's rows
# Both are estimates. MOST_PANELS, for each thread: with more, a lone panel is too small a part of its work; features gained
# 19 % where two threads have 5 panels, 6 % with 10. UNEVEN: how many times its share of the entries a chunk may have.
MOST_PANELS, UNEVEN = 8, 1.25


class Call(NamedTuple):
    """What all steps of one call have in common. sharing: see `share`."""

    network: Network
    data: Rows
    targets: Targets
    loss: Loss
    sharing: Any


class Sharing(NamedTuple):
    """How the threads share the phases of a step.

    by_rows: the phase from which to the loss and back they share the batch by rows, in one go. by_features: chunk i has the
    blocks of a sparse first layer's features from by_features[i] to by_features[i + 1]; empty if it is shared by panels.
    """

    by_rows: int
    by_features: Any


class Step(NamedTuple):
    """One step: its batch, its dropout, what loss and gradient are divided by, and the strength of L2."""

    batch: Selection
    dropout: Dropout
    divisor: float
    l2: float


class Place(NamedTuple):
    """A chunk of a phase, of how many, and the thread that has claimed it."""

    chunk: int
    chunk_count: int
    thread: int


def share(sizes, data, threads, itemsize):
    """The Sharing of a network of these sizes, of numbers of so many bytes."""
    panel, update, by_panels = 2 * VECTOR_BYTES // itemsize, 2 * (len(sizes) - 1), np.empty(0, np.int64)
    panels = [-(-size // panel) for size in sizes[1:]]
    numbers = [
        (depth + 1) * count * panel for depth, count in zip(sizes, panels, strict=False)
    ]  # W and b of each layer
    if not len(data.indptr):
        return Sharing(-1 if sum(numbers) * itemsize <= SMALL else update, by_panels)
    if sum(numbers[1:]) * itemsize > SMALL:
        return Sharing(update, by_panels)
    if threads == 1 or threads > data.blocks or panels[0] % (2 * threads) == 0 or panels[0] >= MOST_PANELS * threads:
        return Sharing(1, by_panels)
    bounds = even_bounds(data.pairs_before, threads)
    largest = np.diff(data.pairs_before[bounds]).max()
    return Sharing(1, bounds if largest * threads <= UNEVEN * data.pairs_before[-1] else by_panels)


def even_bounds(pairs_before, threads):
    """Which blocks each chunk has, so that all have about as many entries (threads + 1,)."""
    wanted = pairs_before[-1] * np.arange(threads + 1) / threads
    bounds = np.abs(pairs_before - wanted[:, None]).argmin(axis=1)
    bounds[-1] = len(pairs_before) - 1  # blocks without entries are somebody's, too
    return bounds


@device
def region_of(place, panels, rows):
    """This chunk of a layer: its panels, or, where there are fewer than chunks, rows, by sixes."""
    if panels >= place.chunk_count:
        first, end = chunk_bounds(panels, place.chunk, place.chunk_count)
        return Region(first, end, 0, rows)
    low, high = chunk_bounds((rows + ROWS - 1) // ROWS, place.chunk, place.chunk_count)
    return Region(0, panels, min(rows, low * ROWS), min(rows, high * ROWS))
