"""The hyperbolic tangent."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel
from .exponential import exponential
from .simd import at, kept_apart, put
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 300_000  # numbers; below, a second thread costs more than it brings


def tanh_forward(x):
    """x (any shape, float32 or float64) -> out, like x: tanh(x)."""
    out = np.empty(x.shape, x.dtype)
    run(_forward, threads_for(x.size, WORTH_A_THREAD), flat(x), flat(out))
    return out


def tanh_backward(dout, out):
    """dout (any shape), out = tanh(x) (the same) -> dx = dout * (1 - out²)."""
    dx = np.empty(dout.shape, dout.dtype)
    run(_backward, threads_for(dx.size, WORTH_A_THREAD), flat(dout), flat(out), flat(dx))
    return dx


@kernel(part=True)
def tanh(x):
    """(1 - e) / (1 + e) with e = exp(-2 |x|), and near 0, where that loses digits, the first terms of the series."""
    kind = type(x)
    size = abs(x)
    e = exponential(kind(-2) * size)
    far = (kind(1) - e) / (kind(1) + e)
    s = x * x
    series = kind(-17 / 315) + s * (kind(62 / 2835) + s * kind(-1382 / 155925))
    near = x + x * s * (kind(-1 / 3) + s * (kind(2 / 15) + s * series))
    near = x if x == kind(0) else near  # -0.0 is its own
    far = -far if x < kind(0) else far
    return near if size < kind(0.05) else far


@kernel
def _forward(thread, threads, control, x, out):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(x.size, part, threads)
        tangents(x, out, first, end)
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def tangents(x, out, first, end):
    """out[i] = tanh(x[i]) from `first` to `end`. Inside the loop over the parts it took 1.3 times as long."""
    kept_apart()
    for i in range(first, end):
        put(out, i, tanh(at(x, i)))


@kernel
def _backward(thread, threads, control, dout, out, dx):
    one = out.dtype.type(1)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(out.size, part, threads)
        for i in range(first, end):
            put(dx, i, at(dout, i) * (one - at(out, i) * at(out, i)))
        part = next_part(control, thread, threads, part)
