"""Where a network's numbers lie while compiled code works on them.

The network is given as data, so that one compilation serves every depth and width. Each W is in panel layout and every
row of activations is padded to whole panels (see matmul.py). What is in the padding is never read as a number of the
network: each column of a product depends on that column of its right-hand side alone.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from .machine import VECTOR_BYTES
from .matmul import SCRATCH

IDENTITY, RELU, SIGMOID = 0, 1, 2
CODES = {"identity": IDENTITY, "relu": RELU, "sigmoid": SIGMOID}


class Network(NamedTuple):
    """sizes (layers + 1,), widths: the sizes rounded up to whole panels, codes (layers,): the activations.

    weights and biases: W of layer l starts at w_starts[l], b at b_starts[l]. z and delta, for a batch: the input of
    layer l starts at z_starts[l], the scores at z_starts[layers]; delta, the derivatives, lies in the same way.
    transposed: W.T of the layer at hand. scratch and losses: room for each thread.
    """

    sizes: Any
    widths: Any
    codes: Any
    w_starts: Any
    b_starts: Any
    z_starts: Any
    weights: Any
    biases: Any
    z: Any
    delta: Any
    transposed: Any
    scratch: Any
    losses: Any


def lay_out(parameters, sizes, activations, rows, threads, *, training) -> Network:
    """A network of these parameters (P,), and room for `rows` rows of activations, or for training with that batch."""
    dtype = parameters.dtype
    panel = 2 * VECTOR_BYTES // dtype.itemsize
    sizes = np.array(sizes, np.int64)
    widths = -(-sizes // panel) * panel
    w_starts, b_starts = _running_sum(sizes[:-1] * widths[1:]), _running_sum(widths[1:])
    z_starts = _running_sum(rows * widths)
    weights, biases = aligned(w_starts[-1], dtype), aligned(b_starts[-1], dtype)
    _pack(parameters, sizes, panel, weights, w_starts, biases, b_starts)
    hidden = max(a * b for a, b in itertools.pairwise([*widths[1:], 0]))
    return Network(
        sizes, widths, np.array([CODES[name] for name in activations], np.int64), w_starts, b_starts, z_starts,
        weights, biases, aligned(z_starts[-1], dtype), aligned(z_starts[-1] if training else 0, dtype),
        aligned(hidden if training else 0, dtype), aligned(threads * SCRATCH, dtype), np.zeros(8 * threads),
    )  # fmt: skip


def _pack(parameters, sizes, panel, weights, w_starts, biases, b_starts):
    """The flat vector -> every W in panel layout, every b padded with zeros."""
    at = 0
    for layer, (depth, columns) in enumerate(itertools.pairwise(sizes)):
        W = parameters[at : at + depth * columns].reshape(depth, columns)
        at += (depth + 1) * columns
        panels = weights[w_starts[layer] : w_starts[layer + 1]].reshape(-1, depth, panel)
        for left, target in zip(range(0, columns, panel), panels, strict=True):
            target[:, : min(panel, columns - left)] = W[:, left : left + panel]
        biases[b_starts[layer] :][:columns] = parameters[at - columns : at]


def aligned(count, dtype):
    """Zeros that begin on a cache line: a panel's row is then one line, not two."""
    memory = np.zeros(count * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count * dtype.itemsize].view(dtype)


def _running_sum(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])
