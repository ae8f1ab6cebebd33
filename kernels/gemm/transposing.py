"""Transposed copies: a square of numbers at a time, transposed in registers.

A square has as many rows as a vector has lanes. In step d = 1, 2, 4, ..., rows i and i + d exchange what is not theirs of
every 2 d numbers. Measured against a number at a time, two cores with AVX-512: steps of networks with hidden layers of 100
to 512 take 0.90 to 1.0 of the time, convolution 0.87 to 1.0, `affine_backward` 0.92 to 1.0; with vectors of 32 bytes 0.95
to 1.04, 0.90 to 1.0 and 0.93 to 1.0.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from ..runtime.compiler import device
from ..runtime.simd import lanes, load_scalar, load_vector, noinline, store_scalar, vector_pointer, vector_type


@device
def copy_transposed(out, out_step, a, a_step, rows, columns):
    """out[j, i] = a[i, j] for i < rows, j < columns.

    out: Span, of float32 or float64; a: Span, of any real dtype; out_step, a_step: from one of their rows to the next.
    """
    noinline()
    width = lanes(out.array)
    high, wide = rows // width * width, columns // width * width
    for i in range(0, high, width):
        for j in range(0, wide, width):
            transpose_square(
                out.array, out.start + j * out_step + i, out_step, a.array, a.start + i * a_step + j, a_step
            )
    for i in range(rows):
        for j in range(wide if i < high else 0, columns):
            store_scalar(out.array, out.start + j * out_step + i, load_scalar(a.array, a.start + i * a_step + j))


@intrinsic
def transpose_square(typing_context, out, o0, out_step, a, a0, a_step):
    """out[o0 + j * out_step + i] = a[a0 + i * a_step + j] for i and j < lanes of out's dtype."""
    vector = vector_type(out.dtype)

    def codegen(context, builder, signature, arguments):
        out, o0, out_step, a, a0, a_step = arguments
        out_type, a_type = signature.args[0], signature.args[3]
        rows = []
        for i in range(vector.lanes):
            index = builder.add(a0, builder.mul(a_step, a_step.type(i)))
            rows.append(load_vector(context, builder, a_type, a, index, vector))
        for j, column in enumerate(_transposed(builder, rows)):
            index = builder.add(o0, builder.mul(out_step, out_step.type(j)))
            pointer = vector_pointer(context, builder, out_type, out, index, vector)
            builder.store(column, pointer).align = vector.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, a, types.intp, types.intp), codegen


def _transposed(builder, rows):
    """The columns of as many vectors as these have lanes."""
    count, distance = len(rows), 1
    while distance < count:
        # of a pair of vectors, numbered one after the other: what the first and what the second becomes
        first = [k if k & distance == 0 else count + k - distance for k in range(count)]
        second = [k + distance if k & distance == 0 else count + k for k in range(count)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), count), places) for places in (first, second)]
        turned = list(rows)
        for i in range(count):
            if i & distance == 0:
                pair = rows[i], rows[i + distance]
                turned[i], turned[i + distance] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        rows, distance = turned, 2 * distance
    return rows
