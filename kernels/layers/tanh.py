"""The hyperbolic tangent."""

from __future__ import annotations

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.exponential import exponential
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, noinline, store_scalar
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 300_000  # numbers; below, a second thread costs more than it brings


def tanh_forward(x):
    """x (any shape, float32 or float64) -> out, like x: tanh(x)."""
    out = empty(x.shape, x.dtype)
    run(_forward, threads_for(x.size, PARALLEL_THRESHOLD), flat(out), flat(x))
    return out


def tanh_backward(dout, out):
    """dout (any shape), out = tanh(x) (the same) -> dx = dout * (1 - out²)."""
    dx = empty(dout.shape, dout.dtype)
    run(_backward, threads_for(dx.size, PARALLEL_THRESHOLD), flat(dx), flat(dout), flat(out))
    return dx


@device
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


@parallel_kernel
def _forward(work, out, x):
    for first, end in chunks(work, 1, x.size):
        tanh_range(out, x, first, end)


@device
def tanh_range(out, x, first, end):
    """out[i] = tanh(x[i]) from `first` to `end`. Inside the loop over the chunks it took 1.3 times as long."""
    noinline()
    for i in range(first, end):
        store_scalar(out, i, tanh(load_scalar(x, i)))


@parallel_kernel
def _backward(work, dx, dout, out):
    one = out.dtype.type(1)
    for first, end in chunks(work, 1, out.size):
        for i in range(first, end):
            store_scalar(dx, i, load_scalar(dout, i) * (one - load_scalar(out, i) * load_scalar(out, i)))
