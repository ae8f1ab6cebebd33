"""The gates of an LSTM cell (Hochreiter and Schmidhuber, 1997; with the forget gate of Gers et al., 2000).

    f, i, o = sigmoid of their columns of z      g = tanh of its columns      z (N, 4 H), columns in the order f, g, i, o
    c_next = f * c + g * i                       h_next = o * tanh(c_next)

The products that z is the sum of are affine layers', with x and with h.
"""

from __future__ import annotations

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, noinline, store_scalar
from ..runtime.threads import parallel_kernel, run
from .sigmoid import sigmoid
from .tanh import tanh

PARALLEL_THRESHOLD = 10_000  # numbers of c


def lstm_forward(of_x, of_h, c):
    """of_x, of_h (N, 4 H): their sum is z; c (N, H) -> h_next, c_next, f, g, i, o, each (N, H)."""
    results = tuple(empty(c.shape, of_x.dtype) for _ in range(6))
    threads = threads_for(c.size, PARALLEL_THRESHOLD)
    run(_forward, threads, tuple(map(flat, results)), flat(of_x), flat(of_h), flat(c), len(c))
    return results


def lstm_backward(dh, dc, c, kept):
    """dh, dc, c (N, H): gradients of h_next and c_next; kept: c_next, f, g, i, o -> dz (N, 4 H), dc (N, H), that of c."""
    rows, units = dh.shape
    dz, dc_prev = empty((rows, 4 * units), dh.dtype), empty(dh.shape, dh.dtype)
    threads, given = threads_for(dh.size, PARALLEL_THRESHOLD), (flat(dh), flat(dc), flat(c))
    run(_backward, threads, (flat(dz), flat(dc_prev)), given, tuple(map(flat, kept)), rows)
    return dz, dc_prev


@parallel_kernel
def _forward(work, results, of_x, of_h, c, rows):
    units = c.size // rows if rows > 0 else 0
    for first, end in chunks(work, 1, rows):
        for row in range(first, end):
            _forward_row(results, of_x, of_h, c, row, units)


@device
def _forward_row(results, of_x, of_h, c, row, units):
    noinline()
    h_next, c_next, f, g, i, o = results
    for unit in range(units):
        at, z = row * units + unit, 4 * row * units + unit
        forget = sigmoid(load_scalar(of_x, z) + load_scalar(of_h, z))
        candidate = tanh(load_scalar(of_x, z + units) + load_scalar(of_h, z + units))
        added = sigmoid(load_scalar(of_x, z + 2 * units) + load_scalar(of_h, z + 2 * units))
        shown = sigmoid(load_scalar(of_x, z + 3 * units) + load_scalar(of_h, z + 3 * units))
        cell = forget * load_scalar(c, at) + candidate * added
        store_scalar(f, at, forget)
        store_scalar(g, at, candidate)
        store_scalar(i, at, added)
        store_scalar(o, at, shown)
        store_scalar(c_next, at, cell)
        store_scalar(h_next, at, shown * tanh(cell))


@parallel_kernel
def _backward(work, results, given, kept, rows):
    units = given[0].size // rows if rows > 0 else 0
    for first, end in chunks(work, 1, rows):
        for row in range(first, end):
            _backward_row(results, given, kept, row, units)


@device
def _backward_row(results, given, kept, row, units):
    """ds is the gradient of c_next, what comes through h_next included."""
    noinline()
    (dz, dc_prev), (dh, dc, c), (c_next, f, g, i, o) = results, given, kept
    one = dh.dtype.type(1)
    for unit in range(units):
        at, z = row * units + unit, 4 * row * units + unit
        forget, candidate, added, shown = (
            load_scalar(f, at),
            load_scalar(g, at),
            load_scalar(i, at),
            load_scalar(o, at),
        )
        squashed, dout = tanh(load_scalar(c_next, at)), load_scalar(dh, at)
        ds = load_scalar(dc, at) + dout * shown * (one - squashed * squashed)
        store_scalar(dc_prev, at, ds * forget)
        store_scalar(dz, z, ds * load_scalar(c, at) * forget * (one - forget))
        store_scalar(dz, z + units, ds * added * (one - candidate * candidate))
        store_scalar(dz, z + 2 * units, ds * candidate * added * (one - added))
        store_scalar(dz, z + 3 * units, dout * squashed * shown * (one - shown))
