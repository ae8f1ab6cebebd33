"""Several vectors at once, as tuples: what stays in registers while a loop goes over rows of a few vectors.

How many there are is a matter of types: `widest(W)`, say, is as many vectors of W's dtype as COUNTS has last, all 0, and
what takes them is compiled for so many. See simd.py for offsets, and for vectors.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .processors import VECTOR_BYTES
from .simd import element_pointer, ir_type_of, vector_pointer, vector_type

FOUND_AT_ONCE = 8  # numbers that `nonzero_bits` looks at
# What there is code for. Thirteen, and one to multiply with, are in the sixteen registers that there are of 32 bytes: a row
# of 50 columns in float64, of 100 in float32. (Of 64 bytes thirteen were not measured.)
COUNTS = (4, 6, 7, 8) if VECTOR_BYTES == 64 else (4, 7, 8, 13)

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _zeros(count):
    @intrinsic
    def zeros(typing_context, like):
        """`count` vectors of like's dtype, all 0."""
        vectors = types.UniTuple(vector_type(like.dtype), count)

        def codegen(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(vectors), None)

        return vectors(like), codegen

    return zeros


narrowest, narrow, wide, widest = map(_zeros, COUNTS)


def _places(context, builder, array_type, array, index, vectors):
    """Pointers to the vectors from array[index] on, and what they are aligned to."""
    first = vector_pointer(context, builder, array_type, array, index, vectors.dtype)
    return [builder.gep(first, [_I64(i)]) for i in range(vectors.count)], array_type.dtype.bitwidth // 8


def _fma(builder, vector, a, b, c):
    ir_type = ir_type_of(vector)
    name = f"llvm.fmuladd.v{vector.lanes}f{vector.dtype.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir_type, [ir_type] * 3), name)
    return builder.call(function, [a, b, c])


@intrinsic
def load_vectors(typing_context, array, index, like):
    """As many vectors as `like` has, from array[index] on."""

    def codegen(context, builder, signature, arguments):
        places, alignment = _places(context, builder, signature.args[0], *arguments[:2], like)
        loaded = ir.Constant(context.get_value_type(like), ir.Undefined)
        for i, place in enumerate(places):
            loaded = builder.insert_value(loaded, builder.load(place, align=alignment), i)
        return loaded

    return like(array, types.intp, like), codegen


@intrinsic
def store_vectors(typing_context, array, index, vectors):
    """Store the vectors from array[index] on."""

    def codegen(context, builder, signature, arguments):
        places, alignment = _places(context, builder, signature.args[0], *arguments[:2], vectors)
        for i, place in enumerate(places):
            builder.store(builder.extract_value(arguments[2], i), place, align=alignment)
        return context.get_dummy_value()

    return types.void(array, types.intp, vectors), codegen


@intrinsic
def add_scaled(typing_context, vectors, factor, array, index):
    """vectors + factor * the vectors from array[index] on; `factor` is a vector."""

    def codegen(context, builder, signature, arguments):
        total, scale = arguments[:2]
        places, alignment = _places(context, builder, signature.args[2], *arguments[2:], vectors)
        for i, place in enumerate(places):
            number = builder.load(place, align=alignment)
            added = _fma(builder, vectors.dtype, scale, number, builder.extract_value(total, i))
            total = builder.insert_value(total, added, i)
        return total

    return vectors(vectors, factor, array, types.intp), codegen


@intrinsic
def nonzero_bits(typing_context, bits, index):
    """A byte, as uint64: bit j is set where bits[index + j] is not 0, j < 8."""

    def codegen(context, builder, signature, arguments):
        numbers = ir.VectorType(ir.IntType(bits.dtype.bitwidth), FOUND_AT_ONCE)
        pointer = element_pointer(context, builder, signature.args[0], *arguments, FOUND_AT_ONCE)
        loaded = builder.load(builder.bitcast(pointer, numbers.as_pointer()), align=bits.dtype.bitwidth // 8)
        return builder.zext(builder.bitcast(builder.icmp_unsigned("!=", loaded, ir.Constant(numbers, None)), _I8), _I64)

    return types.uint64(bits, types.intp), codegen


@intrinsic
def append_set_bits(typing_context, places, count, byte, base):
    """places[count:] = base + j for those j < 8 where bit j of `byte` is set; `count` and how many they are.

    places, of integers, must have space for 8 whatever comes: all are stored, from a table that has for each of the 256
    cases which j they are. So it needs no branch, and no instruction that only some processors have.
    """

    def codegen(context, builder, signature, arguments):
        row = builder.gep(_set_bits(builder.module), [_I64(0), arguments[2]])
        integer = ir.IntType(places.dtype.bitwidth)
        found = ir.VectorType(integer, FOUND_AT_ONCE)
        offset = arguments[3] if integer.width == 64 else builder.trunc(arguments[3], integer)
        first = builder.insert_element(ir.Constant(found, ir.Undefined), offset, _I32(0))
        splat = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, FOUND_AT_ONCE), None))
        target = element_pointer(context, builder, signature.args[0], *arguments[:2], FOUND_AT_ONCE)
        target = builder.bitcast(target, found.as_pointer())
        bits_set = builder.load(row)
        bits_set = bits_set if integer.width == 8 else builder.zext(bits_set, found)
        builder.store(builder.add(bits_set, splat), target, align=places.dtype.bitwidth // 8)
        population = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.ctpop.i64")
        return builder.add(arguments[1], builder.call(population, [arguments[2]]))

    return types.intp(places, types.intp, types.uint64, types.intp), codegen


def _set_bits(module):
    """A constant of the module: for each byte, which of its bits are set, and 0 for the rest of 8."""
    name = "fastbp_set_bits"
    if name not in module.globals:
        row = ir.VectorType(_I8, FOUND_AT_ONCE)
        table = ir.GlobalVariable(module, ir.ArrayType(row, 256), name)
        table.linkage, table.global_constant = "internal", True
        places = ([place for place in range(8) if byte >> place & 1] for byte in range(256))
        rows = [ir.Constant(row, (found + [0] * FOUND_AT_ONCE)[:FOUND_AT_ONCE]) for found in places]
        table.initializer = ir.Constant(table.type.pointee, rows)
    return module.globals[name]
