"""The activations that networks have between their layers, by code: all that is compiled of each stands here.

A new one is a code, a branch of `activate_range` and one of `derive_range`; fastbp/layers/_activations.py has its name.
Those whose derivative needs their input, and not their result, are in NEEDS_INPUT.
"""

from __future__ import annotations

import math

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.exponential import exponential
from ..runtime.processors import threads_for
from ..runtime.simd import lanes, load, load_scalar, noinline, store, store_scalar, where_positive
from ..runtime.threads import parallel_kernel, run
from .leaky_relu import SLOPE
from .sigmoid import sigmoid
from .tanh import tanh

IDENTITY, RELU, SIGMOID, TANH, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH, SOFTPLUS = range(10)
CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "silu": SILU,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "softplus": SOFTPLUS,
}
NEEDS_INPUT = frozenset({"silu", "gelu", "gelu_tanh", "softplus"})
PARALLEL_THRESHOLD = 100_000  # numbers; below, a second thread costs more than it brings

_HALF_ROOT = math.sqrt(0.5)  # of erf's argument
_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution, at 0
_TANH_SCALE, _TANH_CUBIC = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel, 2016


def activation_forward(x, name):
    """x (any shape, float32 or float64), name: one of CODES -> out, like x."""
    out = empty(x.shape, x.dtype)
    run(_forward, threads_for(x.size, PARALLEL_THRESHOLD), flat(out), flat(x), CODES[name])
    return out


def activation_backward(dout, saved, name):
    """dout (any shape), saved: x for the names in NEEDS_INPUT, else out (the same) -> dx."""
    dx = np.array(dout, order="C")
    run(_backward, threads_for(dx.size, PARALLEL_THRESHOLD), flat(dx), flat(saved), CODES[name])
    return dx


@parallel_kernel
def _forward(work, out, x, code):
    for first, end in chunks(work, 1, x.size):
        activate_range(out, first, x, first, end - first, code)


@parallel_kernel
def _backward(work, dx, saved, code):
    for first, end in chunks(work, 1, dx.size):
        derive_range(dx, first, saved, first, end - first, code, dx.dtype.type(1))


@device
def activate_range(out, o0, x, x0, count, code):  # noqa: C901 - one branch for each activation
    """out[o0 + i] = activation(x[x0 + i]) for i < count; out may be x."""
    noinline()
    kind = x.dtype.type
    if code == IDENTITY:
        for i in range(count):
            store_scalar(out, o0 + i, load_scalar(x, x0 + i))
    elif code == RELU:
        for i in range(count):
            number = load_scalar(x, x0 + i)
            store_scalar(out, o0 + i, kind(0) if number <= kind(0) else number)
    elif code == SIGMOID:
        for i in range(count):
            store_scalar(out, o0 + i, sigmoid(load_scalar(x, x0 + i)))
    elif code == TANH:
        for i in range(count):
            store_scalar(out, o0 + i, tanh(load_scalar(x, x0 + i)))
    elif code == LEAKY_RELU:
        for i in range(count):
            number = load_scalar(x, x0 + i)
            store_scalar(out, o0 + i, kind(SLOPE) * number if number <= 0 else number)
    elif code == ELU:
        for i in range(count):
            store_scalar(out, o0 + i, elu(load_scalar(x, x0 + i)))
    elif code == SILU:
        for i in range(count):
            store_scalar(out, o0 + i, load_scalar(x, x0 + i) * sigmoid(load_scalar(x, x0 + i)))
    elif code == GELU:
        for i in range(count):
            store_scalar(out, o0 + i, load_scalar(x, x0 + i) * normal_cdf(load_scalar(x, x0 + i)))
    elif code == GELU_TANH:
        for i in range(count):
            store_scalar(out, o0 + i, gelu_tanh(load_scalar(x, x0 + i)))
    elif code == SOFTPLUS:
        for i in range(count):
            store_scalar(out, o0 + i, softplus(load_scalar(x, x0 + i)))


@device
def derive_range(delta, d0, saved, s0, count, code, keep):  # noqa: C901 - one branch for each activation
    """delta[d0 + i] *= the activation's derivative, for i < count.

    saved: the activation's input for NEEDS_INPUT, else its result, of which dropout has made 1 / keep times it since.
    """
    noinline()
    kind = delta.dtype.type
    one = kind(1)
    if code == RELU:
        for i in range(count):
            number = load_scalar(delta, d0 + i)
            store_scalar(delta, d0 + i, kind(0) if load_scalar(saved, s0 + i) <= kind(0) else number)
    elif code == SIGMOID:
        for i in range(count):
            y = keep * load_scalar(saved, s0 + i)
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (one - y) * y)
    elif code == TANH:
        for i in range(count):
            y = keep * load_scalar(saved, s0 + i)
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (one - y * y))
    elif code == LEAKY_RELU:
        for i in range(count):
            number = load_scalar(delta, d0 + i)
            store_scalar(delta, d0 + i, kind(SLOPE) * number if load_scalar(saved, s0 + i) <= 0 else number)
    elif code == ELU:
        for i in range(count):
            y, number = keep * load_scalar(saved, s0 + i), load_scalar(delta, d0 + i)
            store_scalar(delta, d0 + i, number * (y + one) if y <= 0 else number)
    elif code == SILU:
        for i in range(count):
            x = load_scalar(saved, s0 + i)
            y = sigmoid(x)
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (y * (one + x * (one - y))))
    elif code == GELU:
        for i in range(count):
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * gelu_derivative(load_scalar(saved, s0 + i)))
    elif code == GELU_TANH:
        for i in range(count):
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * gelu_tanh_derivative(load_scalar(saved, s0 + i)))
    elif code == SOFTPLUS:
        for i in range(count):
            store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * sigmoid(load_scalar(saved, s0 + i)))


@device
def positive_part_range(array, start, count):
    """RELU in place on whole vectors: what `activate_range` does, without a test for each number."""
    for i in range(start, start + count, lanes(array)):
        store(array, i, where_positive(load(array, i), load(array, i)))


@device
def elu(x):
    """x where x > 0, exp(x) - 1 elsewhere (Clevert, Unterthiner, Hochreiter 2016), by tanh, which is exact near 0."""
    kind = type(x)
    half = tanh(kind(0.5) * (x if x < kind(0) else kind(0)))
    below = kind(2) * half / (kind(1) - half)
    below = x if x == kind(0) else below
    return x if x > kind(0) or x != x else below


@device
def softplus(x):
    """log(1 + exp(x)), which neither overflows nor loses digits."""
    kind = type(x)
    return (x if x > kind(0) or x != x else kind(0)) + math.log1p(exponential(-abs(x)))


@device
def normal_cdf(x):
    """The standard normal distribution function."""
    kind = type(x)
    return kind(0.5) * (kind(1) + math.erf(x * kind(_HALF_ROOT)))


@device
def gelu_derivative(x):
    """Phi(x) + x * phi(x)."""
    kind = type(x)
    return normal_cdf(x) + x * kind(_DENSITY) * exponential(kind(-0.5) * x * x)


@device
def gelu_tanh(x):
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    kind = type(x)
    return kind(0.5) * x * (kind(1) + tanh(kind(_TANH_SCALE) * (x + kind(_TANH_CUBIC) * x * x * x)))


@device
def gelu_tanh_derivative(x):
    kind = type(x)
    t = tanh(kind(_TANH_SCALE) * (x + kind(_TANH_CUBIC) * x * x * x))
    inner = kind(_TANH_SCALE) * (kind(1) + kind(3 * _TANH_CUBIC) * x * x)
    return kind(0.5) * (kind(1) + t) + kind(0.5) * x * (kind(1) - t * t) * inner
