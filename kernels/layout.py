"""Where a network's numbers lie while compiled code works on them: all in one array, `memory`, and a table says where.

The network is given as data, so that one compilation serves every depth and width: table[layer, SIZE] and so on. Each W is
in panel layout and every row of activations is padded to whole panels (see matmul.py). What is in the padding is never
read as a number of the network: each column of a product depends on that column of its right-hand side alone. The padding
of W, b and the derivatives is 0 all the same, as long as they are finite. `memory` is used again by the next call: with
memory of its own, a call of one step of 64-100-10, batch 200, took 140 us longer, for new pages.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from .arrays import flat, scratch
from .compiler import kernel
from .machine import VECTOR_BYTES
from .matmul import SCRATCH, panel_width
from .simd import at, put

# The columns of the table. Row l is layer l: its input's size, and that size rounded up to whole panels; the activation
# behind it; where its W, its b, its input z and the derivative by that input begin in `memory`. The last row is the
# scores. TRANSPOSED is room for one W.T in each thread, TRANSPOSED_SIZE for each, ROOM for the copies that threads make,
# ROOM_SIZE for each. All W and b are SPAN numbers; where an optimizer needs more than them, their gradients follow SPAN
# after, then each slot of its state.
SIZE, WIDTH, ACTIVATION, W, B, Z, DELTA, TRANSPOSED, TRANSPOSED_SIZE, ROOM, ROOM_SIZE, SPAN = range(12)

IDENTITY, RELU, SIGMOID, TANH, LEAKY_RELU = range(5)
CODES = {"identity": IDENTITY, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH, "leaky_relu": LEAKY_RELU}


def lay_out(parameters, architecture, rows, threads, state=(), *, gradients=False):
    """memory, table of a network with these parameters (P,), with room for `rows` rows of activations.

    state (slots, P): an optimizer's. gradients: make room for them; with any slots, there is.
    """
    panel = 2 * VECTOR_BYTES // parameters.itemsize
    spans = 1 + len(state) if len(state) or gradients else 0
    table, size = _table(architecture.sizes, architecture.activations, rows, threads, spans, panel)
    memory, table = scratch(size, parameters.dtype), table.copy()
    scores = int(table[-1, DELTA])
    memory[scores : scores + rows * int(table[-1, WIDTH])] = 0
    pack_network(flat(parameters), 0, memory, table, 0)
    for slot in range(len(state)):
        pack_network(flat(state), slot * len(parameters), memory, table, (2 + slot) * table[0, SPAN])
    return memory, table


@lru_cache(maxsize=64)
def _table(sizes, activations, rows, threads, spans, panel):
    """The table, and how many numbers `memory` has; spans: how many times all W and b are kept besides themselves."""
    widths = [-(-size // panel) * panel for size in sizes]
    table = np.zeros((len(sizes), SPAN + 1), np.int64)
    table[:, SIZE], table[:, WIDTH] = sizes, widths
    table[:-1, ACTIVATION] = [CODES[name] for name in activations]
    end, span = 0, sum((depth + 1) * wide for depth, wide in zip(sizes, widths[1:], strict=False))
    for column, lengths in (
        (W, [depth * wide for depth, wide in zip(sizes, widths[1:], strict=False)]),
        (B, widths[1:]),
        (SPAN, [spans * span]),
        (Z, [rows * wide for wide in widths]),
        (DELTA, [0, *(rows * wide for wide in widths[1:])]),
    ):
        table[: len(lengths), column] = end + np.cumsum([0, *lengths[:-1]])
        end += sum(lengths)
    table[:, TRANSPOSED], table[:, SPAN] = end, span
    table[:, TRANSPOSED_SIZE] = max((a * b for a, b in itertools.pairwise(widths[1:])), default=0)
    end += threads * int(table[0, TRANSPOSED_SIZE])
    shares = [-(-wide // panel // threads) if wide >= threads * panel else wide // panel for wide in widths[1:]]
    table[:, ROOM], table[:, ROOM_SIZE] = end, SCRATCH + rows * panel * max(shares)
    return table, end + threads * int(table[0, ROOM_SIZE])


@kernel
def pack_network(vector, start, memory, table, offset):
    """The flat vector[start:], W1, b1, W2, ... -> every W in panel layout, every b, `offset` after their places."""
    panel = panel_width(memory)
    for layer in range(len(table) - 1):
        depth, columns = table[layer, SIZE], table[layer + 1, SIZE]
        for left in range(0, columns, panel):
            for k in range(depth + 1):  # the last row is b
                target = table[layer, W] + left * depth + k * panel if k < depth else table[layer, B] + left
                filled = min(panel, columns - left)
                for j in range(filled):
                    put(memory, target + offset + j, at(vector, start + k * columns + left + j))
                for j in range(filled, panel):
                    put(memory, target + offset + j, 0)
        start += (depth + 1) * columns


@kernel(part=True)
def unpack_network(memory, table, offset, vector, start):
    """The way back."""
    panel = panel_width(memory)
    for layer in range(len(table) - 1):
        depth, columns = table[layer, SIZE], table[layer + 1, SIZE]
        for left in range(0, columns, panel):
            for k in range(depth + 1):
                source = table[layer, W] + left * depth + k * panel if k < depth else table[layer, B] + left
                for j in range(min(panel, columns - left)):
                    put(vector, start + k * columns + left + j, at(memory, source + offset + j))
        start += (depth + 1) * columns
