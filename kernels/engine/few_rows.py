"""A layer for batches of very few rows, forward and in the update, row by row; compiled where there are such batches."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..gemm.matrices import Matrix, Panels, Span
from ..gemm.microkernel import outer_kernel
from ..gemm.packing import panel_width
from ..gemm.product import multiply_few
from ..runtime.compiler import InnerKernel
from ..runtime.pointers import address_of
from .layer import Region, activations, weights
from .layout import DELTA, INPUT, PADDED, SIZE, B, Network, Z


@cache
def few_rows_addresses(dtype):
    """Where `_forward_few` and `_update_few` are, for numbers of this dtype; compiled, unless they were."""
    numbers, layout, region = np.empty(0, dtype), np.empty((0, 0), np.int64), (0, 0, 0, 0)
    forward = address_of(_forward_few, numbers, layout, 0, region)
    return forward, address_of(_update_few, numbers, layout, 0, region, 0, (numbers.dtype.type(1), 0))


@InnerKernel
def _forward_few(arena, layout, layer, region):
    """The fields of a Network, and of a Region of z of layer + 1 = z @ W + b."""
    network, (first, end, low, high) = Network(arena, layout), Region(*region)
    width, out, w = layout[layer, PADDED], activations(network, layer + 1, INPUT), weights(network, layer, 0)
    panel = panel_width(arena)
    w = Panels(arena, w.start + first * w.panel_step, w.row_step, w.panel_step)
    c = Panels(arena, out.start + low * out.row_step + first * panel, out.row_step, panel)
    a = Matrix(arena, layout[layer, Z] + low * width, width, np.intp(1))
    multiply_few(c, a, w, layout[layer, B] + first * panel, (high - low, layout[layer, SIZE], end - first))


@InnerKernel
def _update_few(arena, layout, layer, region, rows, how):
    """A region of W += alpha * z.T @ delta; how: alpha and gradient_offset, see update_layer."""
    network, (first, end, low, high), (alpha, gradient_offset) = Network(arena, layout), Region(*region), how
    delta, w, panel = (
        activations(network, layer + 1, DELTA),
        weights(network, layer, gradient_offset),
        panel_width(arena),
    )
    z, start = layout[layer, Z] + low, w.start + low * panel
    for r in range(rows):
        for p in range(first, end):
            outer_kernel(
                Matrix(arena, start + p * w.panel_step, panel, np.intp(1)),
                Matrix(arena, z + r * layout[layer, PADDED], np.intp(1), layout[layer, PADDED]),
                Span(arena, delta.start + r * delta.row_step + p * panel), high - low, alpha,
            )  # fmt: skip
