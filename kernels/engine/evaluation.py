"""How many rows of a data set a network gets right: the way forward, each thread with rows of its own."""

from __future__ import annotations

from ..gemm.matrices import Panels
from ..gemm.packing import ROWS, panel_width
from ..gemm.sparse_rows import Extent, Selection, copy_dense_row, multiply_sparse
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.simd import noinline
from .layer import Region, activate, activations, forward_layer, weights
from .layout import INPUT, PADDED, SIZE, B, Z

ROWS_AT_A_TIME = 40 * ROWS  # 784 float32 columns of them stay in the second-level cache


@device
def count_hits(work, hits, network, data, labels, everything):
    """A thread's part of the call; everything: the numbers of all rows.

    It is in the kernel of training steps, with which it has all functions in common: in one of its own, these took 0.65 s
    more to compile.
    """
    noinline()
    thread, threads, _ = work
    arena, layout = network
    layers, base = len(layout) - 1, thread * ROWS_AT_A_TIME  # this thread's rows of z
    for chunk in claimed(work, 1, threads):
        start, stop = chunk_bounds(len(everything), chunk, threads)
        for first in range(start, stop, ROWS_AT_A_TIME):
            rows = Selection(everything, first, min(ROWS_AT_A_TIME, stop - first))
            forward(network, data, rows, base)
            for r in range(rows.count):
                scores = layout[layers, Z] + (base + r) * layout[layers, PADDED]
                hits[8 * chunk] += argmax(arena, scores, layout[layers, SIZE]) == labels[first + r]


@device
def forward(network, data, rows, base):
    """The selected rows through all layers, to the rows of z from `base` on."""
    arena, layout = network
    for layer in range(len(layout) - 1):
        region = Region(0, layout[layer + 1, PADDED] // panel_width(arena), base, base + rows.count)
        if layer == 0 and len(data.indptr) > 0:
            z = activations(network, 1, INPUT)
            z = Panels(arena, z.start + base * z.row_step, z.row_step, z.panel_step)
            multiply_sparse(
                z, weights(network, 0, 0), layout[0, B], data, rows, Extent(region.first, region.end, 0, data.blocks)
            )
            activate(network, layer, region)
        else:
            if layer == 0:
                for r in range(rows.count):
                    target = layout[0, Z] + (base + r) * layout[0, PADDED]
                    copy_dense_row(arena, target, data, rows.order[rows.first + r], layout[0, SIZE])
            forward_layer(network, layer, region)


@device
def argmax(array, start, count):
    """np.argmax: the place of the first maximum, or of the first NaN."""
    best, place = array[start], 0
    for j in range(1, count):
        value = array[start + j]
        if value > best or (value != value and best == best):
            best, place = value, j
    return place
