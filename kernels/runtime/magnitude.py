"""How large the numbers of an array are: kernels do not warn of overflow or NaN, so callers look before and after."""

from __future__ import annotations

import math

from .arrays import flat
from .compiler import device, kernel
from .simd import add, fill, fma, lanes, load, load_scalar, maximum, multiply, noinline, reduce_add, reduce_max, zeros


def largest_magnitude(x, ignore_nan=False):
    """x (any shape) -> the largest |x|; 0 where there are no numbers, inf where one is infinite or, unless ignored, NaN."""
    return _largest_magnitude(flat(x), ignore_nan)


def is_finite(x):
    """Whether all numbers are: 0 times them is 0, and NaN for the others."""
    return largest_magnitude(x) < math.inf


@kernel
def _largest_magnitude(x, ignore_nan):
    largest, zero = largest_and_zero(x, 0, x.size)
    return float(largest) if ignore_nan or zero == 0 else math.inf


@device
def largest_in(x, first, end):
    """The largest magnitude in x[first : end]; inf where not all numbers are finite."""
    largest, zero = largest_and_zero(x, first, end)
    return largest if zero == 0 else x.dtype.type(math.inf)


@device
def largest_and_zero(x, first, end):
    """The largest |x| of x[first : end] but for NaN, in two vectors, and the sum of 0 * x: NaN where one is not finite."""
    noinline()
    width, minus = lanes(x), fill(x, -1)
    even = odd = even_zero = odd_zero = zeros(x)
    whole = first + (end - first) // (2 * width) * 2 * width
    for i in range(first, whole, 2 * width):
        left, right = load(x, i), load(x, i + width)
        even_zero, odd_zero = fma(left, zeros(x), even_zero), fma(right, zeros(x), odd_zero)
        even, odd = maximum(left, even), maximum(right, odd)
        even, odd = maximum(multiply(minus, left), even), maximum(multiply(minus, right), odd)
    largest, zero = reduce_max(maximum(even, odd)), reduce_add(add(even_zero, odd_zero))
    for i in range(whole, end):
        size = abs(load_scalar(x, i))
        largest = size if size > largest else largest
        zero += size * x.dtype.type(0)
    return largest, zero
