"""Where a network's numbers lie while compiled code works on them: all in one array, the arena, and a layout says where.

The network is given as data, so that one compilation serves every depth and size: layout[layer, SIZE] and so on. Each W is
in panel layout and every row of activations is padded to whole panels (see gemm/packing.py). What is in the padding is never
read as a number of the network: each column of a product depends on that column of its right-hand side alone. The padding
of W, b and the derivatives is 0 all the same, as long as they are finite. The arena is used again by the next call: with
memory of its own, a call of one step of 64-100-10, batch 200, took 140 us longer, for new pages.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..gemm.packing import BLOCK_SIZE, panel_width
from ..layers.activations import NEEDS_INPUT, back_address, forward_address
from ..runtime.arrays import flat, workspace
from ..runtime.compiler import device, kernel
from ..runtime.processors import VECTOR_BYTES
from ..runtime.simd import load_scalar, store_scalar

# The columns of the layout. Row l is layer l: its input's size, and that size rounded up to whole panels; the addresses of
# the activation behind it, and of its derivative, or IDENTITY or RELU; where its W, its b, its input z, what the activation
# before that was given, and the derivative by z begin in the arena. INPUT is Z, and the activation works in place, unless
# its derivative needs its input. The last row is the scores. TRANSPOSED is where each thread has a W.T, of TRANSPOSED_SIZE,
# BUFFER where it has its copies, of BUFFER_SIZE. All W and b are SPAN numbers; where an optimizer needs more than them,
# their gradients follow SPAN after, then each slot of its state. PARTIAL, the end, is where all chunks but the first have
# their sums, if the first layer is shared by features.
SIZE, PADDED, FORWARD, BACK, W, B, Z, INPUT, DELTA, TRANSPOSED, TRANSPOSED_SIZE, BUFFER, BUFFER_SIZE, SPAN, PARTIAL = (
    range(15)
)
FORWARD_FEW, UPDATE_FEW = 15, 16  # addresses, see few_rows.py; 0 where all batches are larger
_COLUMNS = 17
IDENTITY, RELU = 0, 1  # no addresses: these are done in the same loops as the products
_IN_LOOPS = {"identity": IDENTITY, "relu": RELU}


class Network(NamedTuple):
    """A network in its arena."""

    arena: Any
    layout: Any


def lay_out(parameters, architecture, rows, threads, state=(), *, goes_back=False, gradients=False, partial_sums=0):
    """The fields of a Network with these parameters (P,), with space for `rows` rows of activations.

    state (slots, P): an optimizer's. goes_back: there will be derivatives, too. gradients: make space for those of the
    parameters; with any slots, there is. partial_sums: space for so many of the first layer.
    """
    panel = 2 * VECTOR_BYTES // parameters.itemsize
    spans = 1 + len(state) if len(state) or gradients else 0
    layout, size = _layout(architecture.sizes, architecture.activations, rows, threads, spans, panel)
    layout = layout.copy()
    for column, address in ((FORWARD, forward_address), (BACK, back_address))[: 1 + goes_back]:
        layout[:-1, column] = [_activation(name, address, parameters.dtype) for name in architecture.activations]
    size += partial_sums * rows * int(layout[1, PADDED])
    arena = workspace(size, parameters.dtype)
    scores = int(layout[-1, DELTA])
    arena[scores : scores + rows * int(layout[-1, PADDED])] = 0
    _pack_network(arena, layout, 0, flat(parameters), 0)
    for slot in range(len(state)):
        _pack_network(arena, layout, (2 + slot) * layout[0, SPAN], flat(state), slot * len(parameters))
    return arena, layout


def _activation(name, address, dtype):
    return _IN_LOOPS[name] if name in _IN_LOOPS else address(name, dtype)


@lru_cache(maxsize=64)
def _layout(sizes, activations, rows, threads, spans, panel):
    """The layout, and how many numbers the arena has; spans: how many times all W and b are kept besides themselves."""
    padded = [-(-size // panel) * panel for size in sizes]
    layout = np.zeros((len(sizes), _COLUMNS), np.int64)
    layout[:, SIZE], layout[:, PADDED] = sizes, padded
    inputs = [
        0,
        *(rows * wide if name in NEEDS_INPUT else 0 for name, wide in zip(activations, padded[1:], strict=True)),
    ]
    end, span = 0, sum((depth + 1) * wide for depth, wide in zip(sizes, padded[1:], strict=False))
    for column, lengths in (
        (W, [depth * wide for depth, wide in zip(sizes, padded[1:], strict=False)]),
        (B, padded[1:]),
        (SPAN, [spans * span]),
        (Z, [rows * wide for wide in padded]),
        (DELTA, [0, *(rows * wide for wide in padded[1:])]),
        (INPUT, inputs),
    ):
        layout[: len(lengths), column] = end + np.cumsum([0, *lengths[:-1]])
        end += sum(lengths)
    layout[:, INPUT] = np.where(np.array(inputs) > 0, layout[:, INPUT], layout[:, Z])
    layout[:, TRANSPOSED], layout[:, SPAN] = end, span
    layout[:, TRANSPOSED_SIZE] = max((a * b for a, b in itertools.pairwise(padded[1:])), default=0)
    end += threads * int(layout[0, TRANSPOSED_SIZE])
    most = [-(-wide // panel // threads) if wide >= threads * panel else wide // panel for wide in padded[1:]]
    layout[:, BUFFER], layout[:, BUFFER_SIZE] = end, BLOCK_SIZE + rows * panel * max(most)
    end += threads * int(layout[0, BUFFER_SIZE])
    layout[:, PARTIAL] = end
    return layout, end


@kernel
def _pack_network(arena, layout, offset, vector, start):
    """The flat vector[start:], W1, b1, W2, ... -> every W in panel layout, every b, `offset` after their places."""
    panel = panel_width(arena)
    for layer in range(len(layout) - 1):
        depth, columns = layout[layer, SIZE], layout[layer + 1, SIZE]
        for left in range(0, columns, panel):
            for k in range(depth + 1):  # the last row is b
                target = layout[layer, W] + left * depth + k * panel if k < depth else layout[layer, B] + left
                filled = min(panel, columns - left)
                for j in range(filled):
                    store_scalar(arena, target + offset + j, load_scalar(vector, start + k * columns + left + j))
                for j in range(filled, panel):
                    store_scalar(arena, target + offset + j, 0)
        start += (depth + 1) * columns


@device
def unpack_network(vector, start, network, offset):
    """The inverse of `pack_network`: from the arena to a vector."""
    arena, layout = network
    panel = panel_width(arena)
    for layer in range(len(layout) - 1):
        depth, columns = layout[layer, SIZE], layout[layer + 1, SIZE]
        for left in range(0, columns, panel):
            for k in range(depth + 1):
                source = layout[layer, W] + left * depth + k * panel if k < depth else layout[layer, B] + left
                for j in range(min(panel, columns - left)):
                    store_scalar(vector, start + k * columns + left + j, load_scalar(arena, source + offset + j))
        start += (depth + 1) * columns
