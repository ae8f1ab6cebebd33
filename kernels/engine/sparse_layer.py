"""A sparse first layer inside a training step, shared by panels, or by features.

By features, a thread has some blocks of W's rows, all panels of them, and reads no other entries. Forward, each chunk sums
over its own features, and whoever takes the next phase's rows adds the sums up. 784-50-10, float32, batch 100 of MNIST, two
threads, AVX-512: 69 us a step by panels, one for each thread, and 55 by features.
"""

from __future__ import annotations

import numpy as np

from ..gemm.matrices import Panels
from ..gemm.packing import panel_width
from ..gemm.sparse_rows import Extent, Selection, multiply_sparse, prefetch_rows, update_sparse
from ..runtime.chunks import chunk_bounds
from ..runtime.compiler import device
from ..runtime.simd import add, lanes, load, noinline, store
from .dropout import drop
from .layer import Region, activate, activations, weights
from .layout import DELTA, INPUT, PADDED, PARTIAL, SIZE, B, Z


@device
def extent_of(place, call):
    """What a chunk has of the first layer's W."""
    arena, layout = call.network
    panels, blocks = layout[1, PADDED] // panel_width(arena), call.data.blocks
    bounds = call.sharing.by_features
    if len(bounds) > 0:
        return Extent(np.intp(0), panels, bounds[place.chunk], bounds[place.chunk + 1])
    first, end = chunk_bounds(panels, place.chunk, place.chunk_count)
    return Extent(first, end, np.intp(0), blocks)


@device
def forward_sparse(call, place, batch, region):
    """One chunk of b + x @ W, for a region of it. By features, it is this chunk's sum for all rows, which the first chunk
    has, with b, at INPUT, the others at PARTIAL.
    """
    arena, layout = call.network
    z, bias = activations(call.network, 1, INPUT), layout[0, B]
    start, rows = (
        z.start + region.low * z.row_step,
        Selection(batch.order, batch.first + region.low, region.high - region.low),
    )
    extent = Extent(region.first, region.end, np.intp(0), call.data.blocks)
    if len(call.sharing.by_features) > 0:
        start, rows, extent = z.start, batch, extent_of(place, call)
        if place.chunk > 0:
            start, bias = partial_sums(call.network, place.chunk, batch.count), np.intp(-1)
    z = Panels(arena, start, z.row_step, z.panel_step)
    multiply_sparse(z, weights(call.network, 0, 0), bias, call.data, rows, extent)


@device
def finish_sums(call, step, chunk_count, low, high):
    """The rows from `low` to `high` of the first layer from the chunks' sums: added up, with activation and dropout."""
    noinline()
    arena, layout = call.network
    wide, out = layout[1, PADDED], layout[1, INPUT]
    for chunk in range(1, chunk_count):
        partial = partial_sums(call.network, chunk, step.batch.count)
        for i in range(low * wide, high * wide, lanes(arena)):
            store(arena, out + i, add(load(arena, out + i), load(arena, partial + i)))
    region = Region(np.intp(0), wide // panel_width(arena), low, high)
    activate(call.network, 0, region)
    if step.dropout.keep < 1 and len(layout) > 2:
        drop(call.network, np.intp(Z), 0, step.batch, step.dropout, region)


@device
def region_of_extent(call, extent):
    """An Extent of W in rows."""
    low, high = extent.low * call.data.block, extent.high * call.data.block
    return Region(extent.first, extent.end, low, min(high, call.network.layout[0, SIZE]))


@device
def update_sparse_layer(call, place, batch, next_batch, alpha, gradient_offset):
    """A chunk's part of W += alpha * x.T @ delta. next_batch: how many row numbers later the next batch begins."""
    extent, next_rows = extent_of(place, call), Selection(batch.order, batch.first + next_batch, next_batch)
    prefetch_rows(call.data, next_rows, extent.low, extent.high)
    w, delta = weights(call.network, 0, gradient_offset), activations(call.network, 1, DELTA)
    update_sparse(w, delta, call.data, batch, alpha, extent)


@device
def partial_sums(network, chunk, rows):
    """Where the sums of a chunk, not the first, begin."""
    return network.layout[0, PARTIAL] + (chunk - 1) * rows * network.layout[1, PADDED]
