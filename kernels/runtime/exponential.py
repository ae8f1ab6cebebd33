"""exp as a polynomial that LLVM turns into vector code; np.exp inside a kernel is a scalar call, 4 to 10 times slower.

exp(x) = 2^n * exp(r) with n = round(x / ln 2) and |r| <= ln(2) / 2: the reduction of Cody and Waite (Software Manual
for the Elementary Functions, 1980), with ln 2 in two parts. Adding 1.5 * 2^(mantissa bits) rounds to an integer and
leaves it in the lowest bits, from where it is shifted into the exponent. exp(r) is its Taylor series.
Relative error: float32 2e-7, float64 4e-16. At the ends: 0 below the smallest normal number, inf above the largest,
NaN for NaN.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiler import by_type


@intrinsic
def _times_power_of_two(typing_context, value, rounded):
    """value * 2^n, n being the lowest bits of `rounded`: added to value's exponent as integers."""
    bits, mantissa = (ir.IntType(32), 23) if value == types.float32 else (ir.IntType(64), 52)

    def codegen(context, builder, signature, arguments):
        value_bits, n = (builder.bitcast(argument, bits) for argument in arguments)
        return builder.bitcast(builder.add(value_bits, builder.shl(n, bits(mantissa))), arguments[0].type)

    return value(value, rounded), codegen


def exponential(x):
    """exp(x) of a float32 or float64 number, inside kernels."""
    raise NotImplementedError("exponential(x) exists inside kernels only")


@by_type(exponential)
def _exponential(x):
    return _exponential_float32 if x == types.float32 else _exponential_float64


_ROUND32, _ROUND64 = np.float32(12582912), 6755399441055744.0
_PER_LN2_32, _PER_LN2_64 = np.float32(1.4426950408889634), 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6
_HIGH32, _LOW32 = np.float32(_LN2_HIGH), np.float32(_LN2_LOW)
_LARGEST32, _SMALLEST32 = np.float32(88.72283), np.float32(-87.33654)
_LARGEST64, _SMALLEST64 = 709.782712893384, -708.3964185322641
_INF32, _ZERO32, _ONE32 = np.float32(np.inf), np.float32(0), np.float32(1)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / k) for k in (2, 6, 24, 120, 720, 5040))


def _exponential_float32(x):
    rounded = x * _PER_LN2_32 + _ROUND32
    n = rounded - _ROUND32
    r = x - n * _HIGH32 - n * _LOW32
    p = _C4 + r * (_C5 + r * (_C6 + r * _C7))
    p = _ONE32 + r * (_ONE32 + r * (_C2 + r * (_C3 + r * p)))
    result = _times_power_of_two(p, rounded)
    result = _INF32 if x > _LARGEST32 else result
    result = _ZERO32 if x < _SMALLEST32 else result
    return result if x == x else x


def _exponential_float64(x):
    rounded = x * _PER_LN2_64 + _ROUND64
    n = rounded - _ROUND64
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = 1 / 3628800 + r * (1 / 39916800 + r * (1 / 479001600 + r * (1 / 6227020800)))
    p = 1 / 720 + r * (1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * p)))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * p)))))
    result = _times_power_of_two(p, rounded)
    result = np.inf if x > _LARGEST64 else result
    result = 0.0 if x < _SMALLEST64 else result
    return result if x == x else x
