"""One affine layer and its activation inside a training step: forward, backward and the update of W and b.

Each function does a Region of the layer, all that a chunk has of it, and knows the network by its arena and layout
(layout.py). Rows are taken in blocks, so that what follows a product finds it in the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..gemm.matrices import Matrix, Panels, Span
from ..gemm.microkernel import AS_IT_IS, GATED, POSITIVE_PART
from ..gemm.packing import BLOCK_SIZE, MC, SHORT, copy_row, pack, panel_width, panels_at
from ..gemm.product import FEW_ROWS, multiply_add, multiply_fused
from ..gemm.transposing import copy_transposed
from ..layers.activations import positive_part_range
from ..runtime.compiler import device
from ..runtime.pointers import call_at
from ..runtime.simd import add, fill, fma, lanes, load, noinline, reduce_add, store, store_scalar, zeros
from ..runtime.sums import BLOCK
from .layout import (
    BACK,
    BUFFER,
    BUFFER_SIZE,
    DELTA,
    FORWARD,
    FORWARD_FEW,
    IDENTITY,
    INPUT,
    PADDED,
    RELU,
    SIZE,
    SPAN,
    TRANSPOSED,
    TRANSPOSED_SIZE,
    UPDATE_FEW,
    B,
    W,
    Z,
)


class Region(NamedTuple):
    """The panels of columns from `first` to `end`, of the rows from `low` to `high`: of activations, or of W."""

    first: int
    end: int
    low: int
    high: int


@device
def weights(network, layer, offset):
    """W of a layer as Panels, `offset` after its place."""
    arena, layout = network
    panel = panel_width(arena)
    return Panels(arena, layout[layer, W] + offset, panel, layout[layer, SIZE] * panel)


@device
def activations(network, layer, column):
    """Layer's Z, INPUT or DELTA as Panels."""
    arena, layout = network
    return Panels(arena, layout[layer, column], layout[layer, PADDED], panel_width(arena))


@device
def forward_layer(network, layer, region):
    """z of layer + 1 = activation(z @ W + b)."""
    arena, layout = network
    first, end, low, high = region
    depth, width, panel = layout[layer, SIZE], layout[layer, PADDED], panel_width(arena)
    w, out = weights(network, layer, 0), activations(network, layer + 1, INPUT)
    w = Panels(arena, w.start + first * w.panel_step, w.row_step, w.panel_step)
    bias = layout[layer, B] + first * panel
    if high - low <= FEW_ROWS and layout[0, FORWARD_FEW] != 0:
        call_at(layout[0, FORWARD_FEW], None, (arena, layout, layer, (first, end, low, high)))
        activate(network, layer, region)
        return
    gate = np.intp(POSITIVE_PART if layout[layer, FORWARD] == RELU else AS_IT_IS)
    for top in range(low, high, MC):  # block by block, so that the activation finds its input in the cache
        rows = min(MC, high - top)
        c = Panels(arena, out.start + top * out.row_step + first * panel, out.row_step, panel)
        a = Matrix(arena, layout[layer, Z] + top * width, width, np.intp(1))
        multiply_fused(c, a, w, bias, (rows, depth, end - first), gate, np.intp(0))
        if gate == AS_IT_IS:
            activate(network, layer, Region(first, end, top, top + rows))


@device
def activate(network, layer, region):
    """The activation after `layer`, from INPUT to Z, which are the same unless its derivative needs its input."""
    noinline()
    arena, layout = network
    activation, panel, wide = layout[layer, FORWARD], panel_width(arena), layout[layer + 1, PADDED]
    left, columns = region.first * panel, (region.end - region.first) * panel
    if activation == IDENTITY:
        return
    for r in range(region.low, region.high):
        out = layout[layer + 1, Z] + r * wide + left
        if activation == RELU:
            positive_part_range(arena, out, columns)
        else:
            if layout[layer + 1, INPUT] != layout[layer + 1, Z]:
                copy_row(arena, out, arena, layout[layer + 1, INPUT] + r * wide + left, columns)
            call_at(activation, None, (arena, out, columns))


@device
def backward_layer(network, layer, region, keep, thread):
    """delta of the layer before = (delta @ W.T) * activation'; keep: see layers/activations.py."""
    arena, layout = network
    first, end, low, high = region
    columns, panel = layout[layer + 1, SIZE], panel_width(arena)
    delta, out = activations(network, layer + 1, DELTA), activations(network, layer, DELTA)
    start = layout[layer, TRANSPOSED] + thread * layout[layer, TRANSPOSED_SIZE] + first * columns * panel
    transposed = panels_at(arena, start, columns)
    transpose_panels(transposed, network, layer, first, end)
    gate = np.intp(GATED if layout[layer - 1, BACK] == RELU else AS_IT_IS)
    for top in range(low, high, MC):
        rows = min(MC, high - top)
        c = Panels(arena, out.start + top * out.row_step + first * panel, out.row_step, panel)
        a = Matrix(arena, delta.start + top * delta.row_step, delta.row_step, np.intp(1))
        sizes, z_offset = (rows, columns, end - first), layout[layer, Z] - layout[layer, DELTA]
        multiply_fused(c, a, transposed, np.intp(-1), sizes, gate, z_offset)
        if gate == AS_IT_IS:
            derive(network, layer, Region(first, end, top, top + rows), keep)


@device
def derive(network, layer, region, keep):
    """delta *= the derivative of the activation before `layer`; keep: see layers/activations.py."""
    noinline()
    arena, layout = network
    derivative, panel, wide = layout[layer - 1, BACK], panel_width(arena), layout[layer, PADDED]
    left, columns = region.first * panel, (region.end - region.first) * panel
    if derivative == IDENTITY:
        return
    for r in range(region.low, region.high):
        place = r * wide + left
        deltas, inputs = layout[layer, DELTA] + place, layout[layer, INPUT] + place
        call_at(derivative, None, (arena, deltas, arena, inputs, columns, keep))


@device
def transpose_panels(out, network, layer, first, end):
    """The panels from `first` to `end` of W.T, to the packed panels `out`, from W in panel layout."""
    arena, layout = network
    depth, columns, panel, target = layout[layer, SIZE], layout[layer + 1, SIZE], panel_width(arena), out.start
    for top in range(first * panel, end * panel, panel):
        high = min(panel, depth - top)
        for left in range(0, columns, panel):
            source = Span(arena, layout[layer, W] + left * depth + top * panel)
            copy_transposed(Span(arena, target + left * panel), panel, source, panel, high, min(panel, columns - left))
        for j in range(columns):
            for i in range(high, panel):
                store_scalar(arena, target + j * panel + i, 0)
        target += columns * panel


@device
def update_layer(network, layer, region, rows, alpha, gradient_offset, thread):
    """A region of W += alpha * z.T @ delta.

    With alpha = -rate and gradient_offset = 0 that is gradient descent, and the gradient itself is never written to memory.
    With gradient_offset = SPAN it is added to the gradients instead, from which an optimizer goes on.

    delta is copied to panel layout: its rows may lie a multiple of 4096 bytes apart, where a first-level cache has space
    for few. z.T is copied where a block of it is too large for that cache. One core, GFLOP/s with neither, the first,
    both: 784-50, batch 100: 33, 63, 50; 784-512, batch 256: 42, 50, 67.
    """
    arena, layout = network
    first, end, low, high = region
    panels, panel, width = end - first, panel_width(arena), layout[layer, PADDED]
    delta, w = activations(network, layer + 1, DELTA), weights(network, layer, gradient_offset)
    c = Panels(arena, w.start + first * w.panel_step + low * panel, panel, w.panel_step)
    z = Matrix(arena, layout[layer, Z] + low, np.intp(1), width)
    if rows <= FEW_ROWS and layout[0, UPDATE_FEW] != 0:
        call_at(
            layout[0, UPDATE_FEW], None, (arena, layout, layer, (first, end, low, high), rows, (alpha, gradient_offset))
        )
        return
    buffer = Span(arena, layout[layer, BUFFER] + thread * layout[layer, BUFFER_SIZE])
    packed = panels_at(arena, buffer.start + BLOCK_SIZE, rows)
    pack(packed, Matrix(arena, delta.start + first * panel, delta.row_step, np.intp(1)), rows, panels * panel)
    multiply_add(c, z, packed, (high - low, rows, panels), alpha, buffer, rows > SHORT)


@device
def update_bias(network, layer, region, rows, alpha, gradient_offset):
    """A region's b += alpha * the sum of delta's rows; gradient_offset as for W."""
    noinline()
    arena, layout = network
    panel, delta = panel_width(arena), activations(network, layer + 1, DELTA)
    for j in range(region.first * panel, region.end * panel, lanes(arena)):
        total = zeros(arena)
        for outer in range(0, rows, BLOCK * BLOCK):  # block by block, as in sums.py, but in registers
            middle_total = zeros(arena)
            for middle in range(outer, min(outer + BLOCK * BLOCK, rows), BLOCK):
                block = zeros(arena)
                for r in range(middle, min(middle + BLOCK, rows)):
                    block = add(block, load(arena, delta.start + r * delta.row_step + j))
                middle_total = add(middle_total, block)
            total = add(total, middle_total)
        bias = layout[layer, B] + gradient_offset + j
        store(arena, bias, fma(fill(arena, alpha), total, load(arena, bias)))


@device
def clear_gradients(network, layer, region):
    """The gradients of a region of W, and of b where that has W's first row."""
    noinline()
    arena, layout = network
    first, end, low, high = region
    panel, span, w = panel_width(arena), layout[layer, SPAN], weights(network, layer, layout[layer, SPAN])
    for p in range(first, end):
        start = w.start + p * w.panel_step + low * panel
        for i in range(start, start + (high - low) * panel, lanes(arena)):
            store(arena, i, zeros(arena))
    if low == 0 and high > 0:
        for j in range(first * panel, end * panel, lanes(arena)):
            store(arena, layout[layer, B] + span + j, zeros(arena))


@device
def decay_weights(network, layer, region, l2):
    """The gradients of a region of W += l2 * W; returns the sum of its squares."""
    noinline()
    arena, layout = network
    panel, span, w, total = panel_width(arena), layout[layer, SPAN], weights(network, layer, 0), 0.0
    factor = fill(arena, l2)
    for p in range(region.first, region.end):
        start, squares = w.start + p * w.panel_step + region.low * panel, zeros(arena)
        for i in range(start, start + (region.high - region.low) * panel, lanes(arena)):
            values = load(arena, i)
            squares = fma(values, values, squares)
            store(arena, i + span, fma(factor, values, load(arena, i + span)))
        total += reduce_add(squares)
    return total


@device
def optimize(network, layer, region, update):
    """The optimizer's update of a region of W, and of b."""
    arena, layout = network
    first, end, low, high = region
    panel, w = panel_width(arena), weights(network, layer, 0)
    for p in range(first, end):
        update_range(network, w.start + p * w.panel_step + low * panel, (high - low) * panel, update)
    if low == 0 and high > 0:
        update_range(network, layout[layer, B] + first * panel, (end - first) * panel, update)


@device
def update_range(network, start, count, update):
    """The optimizer's update of `count` parameters from `start` on."""
    noinline()
    (arena, layout), (address, rule) = network, update
    span = layout[0, SPAN]
    parameters, state, gradients = (arena, start), (arena, start + 2 * span, span), (arena, start + span)
    call_at(address, None, (parameters, state, gradients, count, (rule.code, rule.settings, rule.step)))
