"""The activations that networks have between their layers: all that is compiled of each stands here.

A new one is a kernel forward, a kernel back and an entry of the table; fastbp/layers/_activations.py has its name. Those
whose derivative needs their input, and not their result, are in NEEDS_INPUT.

    forward    x[start + i] = activation(x[start + i]) for i < count
    back       delta[d0 + i] *= the activation's derivative, for i < count; saved: its input for NEEDS_INPUT, else its
               result, of which dropout has made 1 / keep times it since

Forward is in place, or LLVM would have to look whether the arrays overlap, and make no vectors where they do: steps of
784-100-100-10 with tanh, float32, took 275 us in one thread, and take 150.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from ..gemm.packing import copy_row
from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import InnerKernel, device
from ..runtime.exponential import exponential
from ..runtime.pointers import address_of, call_at
from ..runtime.processors import threads_for
from ..runtime.simd import lanes, load, load_scalar, store, store_scalar, where_positive
from ..runtime.threads import parallel_kernel, run
from .leaky_relu import SLOPE
from .sigmoid import sigmoid
from .tanh import tanh

NEEDS_INPUT = frozenset({"silu", "gelu", "gelu_tanh", "softplus"})
PARALLEL_THRESHOLD = 100_000  # numbers; below, a second thread costs more than it brings
BLOCK = 2048  # numbers that stay in the first-level cache

_HALF_ROOT = math.sqrt(0.5)  # of erf's argument
_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution, at 0
_TANH_SCALE, _TANH_CUBIC = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel, 2016


def activation_forward(x, name):
    """x (any shape, float32 or float64), name: one of ACTIVATIONS -> out, like x."""
    out = empty(x.shape, x.dtype)
    run(_forward, threads_for(x.size, PARALLEL_THRESHOLD), flat(out), flat(x), forward_address(name, x.dtype))
    return out


def activation_backward(dout, saved, name):
    """dout (any shape), saved: x for the names in NEEDS_INPUT, else out (the same shape and dtype) -> dx."""
    dx, saved = np.array(dout, order="C"), saved.astype(dout.dtype, copy=False)
    run(_backward, threads_for(dx.size, PARALLEL_THRESHOLD), flat(dx), flat(saved), back_address(name, dx.dtype))
    return dx


@cache
def forward_address(name, dtype):
    """Where the activation is, for numbers of this dtype; compiled, unless it was."""
    numbers = np.empty(0, dtype)
    return address_of(ACTIVATIONS[name][0], numbers, 0, 0)


@cache
def back_address(name, dtype):
    """Where the activation's derivative is, for numbers of this dtype; compiled, unless it was."""
    numbers = np.empty(0, dtype)
    return address_of(ACTIVATIONS[name][1], numbers, 0, numbers, 0, 0, numbers.dtype.type(1))


@parallel_kernel
def _forward(work, out, x, activation):
    for first, end in chunks(work, 1, x.size):
        for start in range(first, end, BLOCK):
            count = min(BLOCK, end - start)
            copy_row(out, start, x, start, count)
            call_at(activation, None, (out, start, count))


@parallel_kernel
def _backward(work, dx, saved, derivative):
    for first, end in chunks(work, 1, dx.size):
        call_at(derivative, None, (dx, first, saved, first, end - first, dx.dtype.type(1)))


@InnerKernel
def identity_forward(x, start, count):
    pass


@InnerKernel
def identity_back(delta, d0, saved, s0, count, keep):
    pass


@InnerKernel
def relu_forward(x, start, count):
    zero = x.dtype.type(0)
    for i in range(count):
        number = load_scalar(x, start + i)
        store_scalar(x, start + i, zero if number <= zero else number)


@InnerKernel
def relu_back(delta, d0, saved, s0, count, keep):
    zero = delta.dtype.type(0)
    for i in range(count):
        number = load_scalar(delta, d0 + i)
        store_scalar(delta, d0 + i, zero if load_scalar(saved, s0 + i) <= zero else number)


@InnerKernel
def sigmoid_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, sigmoid(load_scalar(x, start + i)))


@InnerKernel
def sigmoid_back(delta, d0, saved, s0, count, keep):
    one = delta.dtype.type(1)
    for i in range(count):
        y = keep * load_scalar(saved, s0 + i)
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (one - y) * y)


@InnerKernel
def tanh_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, tanh(load_scalar(x, start + i)))


@InnerKernel
def tanh_back(delta, d0, saved, s0, count, keep):
    one = delta.dtype.type(1)
    for i in range(count):
        y = keep * load_scalar(saved, s0 + i)
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (one - y * y))


@InnerKernel
def leaky_relu_forward(x, start, count):
    slope = x.dtype.type(SLOPE)
    for i in range(count):
        number = load_scalar(x, start + i)
        store_scalar(x, start + i, slope * number if number <= 0 else number)


@InnerKernel
def leaky_relu_back(delta, d0, saved, s0, count, keep):
    slope = delta.dtype.type(SLOPE)
    for i in range(count):
        number = load_scalar(delta, d0 + i)
        store_scalar(delta, d0 + i, slope * number if load_scalar(saved, s0 + i) <= 0 else number)


@InnerKernel
def elu_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, elu(load_scalar(x, start + i)))


@InnerKernel
def elu_back(delta, d0, saved, s0, count, keep):
    one = delta.dtype.type(1)
    for i in range(count):
        y, number = keep * load_scalar(saved, s0 + i), load_scalar(delta, d0 + i)
        store_scalar(delta, d0 + i, number * (y + one) if y <= 0 else number)


@InnerKernel
def silu_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, load_scalar(x, start + i) * sigmoid(load_scalar(x, start + i)))


@InnerKernel
def silu_back(delta, d0, saved, s0, count, keep):
    one = delta.dtype.type(1)
    for i in range(count):
        x = load_scalar(saved, s0 + i)
        y = sigmoid(x)
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * (y * (one + x * (one - y))))


@InnerKernel
def gelu_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, load_scalar(x, start + i) * normal_cdf(load_scalar(x, start + i)))


@InnerKernel
def gelu_back(delta, d0, saved, s0, count, keep):
    for i in range(count):
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * gelu_derivative(load_scalar(saved, s0 + i)))


@InnerKernel
def gelu_tanh_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, gelu_tanh(load_scalar(x, start + i)))


@InnerKernel
def gelu_tanh_back(delta, d0, saved, s0, count, keep):
    for i in range(count):
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * gelu_tanh_derivative(load_scalar(saved, s0 + i)))


@InnerKernel
def softplus_forward(x, start, count):
    for i in range(count):
        store_scalar(x, start + i, softplus(load_scalar(x, start + i)))


@InnerKernel
def softplus_back(delta, d0, saved, s0, count, keep):
    for i in range(count):
        store_scalar(delta, d0 + i, load_scalar(delta, d0 + i) * sigmoid(load_scalar(saved, s0 + i)))


ACTIVATIONS = {
    "identity": (identity_forward, identity_back),
    "relu": (relu_forward, relu_back),
    "sigmoid": (sigmoid_forward, sigmoid_back),
    "tanh": (tanh_forward, tanh_back),
    "leaky_relu": (leaky_relu_forward, leaky_relu_back),
    "elu": (elu_forward, elu_back),
    "silu": (silu_forward, silu_back),
    "gelu": (gelu_forward, gelu_back),
    "gelu_tanh": (gelu_tanh_forward, gelu_tanh_back),
    "softplus": (softplus_forward, softplus_back),
}


@device
def positive_part_range(array, start, count):
    """ "relu" in place on whole vectors: what relu_forward does, without a test for each number."""
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
