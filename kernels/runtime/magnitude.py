"""How large the numbers of an array are: kernels do not warn of overflow or NaN, so callers look before and after."""

from __future__ import annotations

import math

from .arrays import flat
from .compiler import device, kernel
from .simd import add, fill, fma, lanes, load, load_scalar, maximum, multiply, noinline, reduce_add, reduce_max, zeros


def largest_magnitude(x):
    """x (any shape) -> the largest |x|; 0 where there are no numbers, inf where one is infinite or NaN."""
    return _largest_magnitude(flat(x))


def is_finite(x):
    """Whether all numbers are: 0 times them is 0, and NaN for the others."""
    return largest_magnitude(x) < math.inf


@kernel
def _largest_magnitude(x):
    return float(largest_in(x, 0, x.size))


@device
def largest_in(x, first, end):
    """The same of x[first : end], in two vectors; 0 * x adds up to NaN where an x is not finite."""
    noinline()
    width, minus, kind = lanes(x), fill(x, -1), x.dtype.type
    even = odd = even_zero = odd_zero = zeros(x)
    whole = first + (end - first) // (2 * width) * 2 * width
    for i in range(first, whole, 2 * width):
        left, right = load(x, i), load(x, i + width)
        even_zero, odd_zero = fma(left, zeros(x), even_zero), fma(right, zeros(x), odd_zero)
        even, odd = maximum(left, even), maximum(right, odd)
        even, odd = maximum(multiply(minus, left), even), maximum(multiply(minus, right), odd)
    largest, zero = reduce_max(maximum(even, odd)), reduce_add(add(even_zero, odd_zero))
    for i in range(whole, end):
        largest = max(largest, abs(load_scalar(x, i)))
        zero += load_scalar(x, i) * kind(0)
    return largest if zero == kind(0) else kind(math.inf)
