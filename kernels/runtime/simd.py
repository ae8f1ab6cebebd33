"""Vectors for kernels: a value that is one processor register of float32 or float64 numbers.

Numba turns array code into vectors by itself where a loop is simple, but it keeps sums in memory. A sum that is a
vector *variable* stays in a register from the first addition to the last, and matrix products are little else:

    total = zeros(W)                          # a vector of W's dtype
    for k in range(K):
        total = fma(broadcast(W, x, k), load(W, k * N), total)
    store(out, 0, total)

Everything here takes flat arrays and element offsets. Offsets are the caller's promise: they are checked only where
NUMBA_BOUNDSCHECK=1 asks for it and the array's length is known (not that of arrays.strided); an IndexError tells then.
The first argument of `lanes`, `zeros` and `broadcast` only says which dtype is meant.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

from .arrays import UNKNOWN_LENGTH
from .processors import VECTOR_BYTES


class Vector(types.Type):
    """The Numba type of a vector of `dtype` (float32 or float64), VECTOR_BYTES wide."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir_type_of(vector))


_VECTORS = {dtype: Vector(dtype) for dtype in (types.float32, types.float64)}


def vector_type(dtype):
    """The type of vectors of this dtype, float32 or float64."""
    return _VECTORS[dtype]


def ir_type_of(vector):
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), vector.lanes)


def element_pointer(context, builder, array_type, array, index, count=1):
    """Where array[index] lies, the first of `count` numbers."""
    array = context.make_array(array_type)(context, builder, array)
    if config.BOUNDSCHECK and count:
        _check_bounds(context, builder, array.nitems, index, count)
    return builder.gep(array.data, [index])


def _check_bounds(context, builder, size, index, count):
    intp = size.type
    with builder.if_then(builder.icmp_unsigned("!=", size, intp(UNKNOWN_LENGTH))):
        cgutils.do_boundscheck(context, builder, index, size)
        cgutils.do_boundscheck(context, builder, builder.add(index, intp(count - 1)), size)


def vector_pointer(context, builder, array_type, array, index, vector):
    pointer = element_pointer(context, builder, array_type, array, index, vector.lanes)
    return builder.bitcast(pointer, ir_type_of(vector).as_pointer())


def load_vector(context, builder, array_type, array, index, vector):
    """The vector array[index : index + lanes], of an array of any real dtype."""
    pointer = element_pointer(context, builder, array_type, array, index, vector.lanes)
    value = ir.Constant(ir_type_of(vector), ir.Undefined)
    for lane in range(vector.lanes):  # LLVM makes one load and one conversion of these
        number = context.unpack_value(builder, array_type.dtype, builder.gep(pointer, [ir.IntType(64)(lane)]))
        number = context.cast(builder, number, array_type.dtype, vector.dtype)
        value = builder.insert_element(value, number, ir.IntType(32)(lane))
    return value


def _splat(builder, scalar, vector):
    first = builder.insert_element(ir.Constant(ir_type_of(vector), ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None))


@intrinsic
def lanes(typing_context, like):
    """How many numbers of like's dtype one vector holds: a constant."""
    count = _VECTORS[like.dtype].lanes

    def codegen(context, builder, signature, arguments):
        return ir.IntType(64)(count)

    return types.intp(like), codegen


@intrinsic
def zeros(typing_context, like):
    """A vector of zeros."""
    vector = _VECTORS[like.dtype]

    def codegen(context, builder, signature, arguments):
        return ir.Constant(ir_type_of(vector), None)

    return vector(like), codegen


@intrinsic
def load_scalar(typing_context, array, index):
    """array[index], without the test for a negative index that array[index] has: in loops, that counts."""

    def codegen(context, builder, signature, arguments):
        array_type = signature.args[0]
        pointer = element_pointer(context, builder, array_type, *arguments)
        return context.unpack_value(builder, array_type.dtype, pointer)

    return array.dtype(array, types.intp), codegen


@intrinsic
def store_scalar(typing_context, array, index, value):
    """array[index] = value, without that test."""

    def codegen(context, builder, signature, arguments):
        array_type, value_type = signature.args[0], signature.args[2]
        pointer = element_pointer(context, builder, array_type, *arguments[:2])
        number = context.cast(builder, arguments[2], value_type, array_type.dtype)
        context.pack_value(builder, array_type.dtype, number, pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def load(typing_context, array, index):
    """The vector array[index : index + lanes]."""
    vector = _VECTORS[array.dtype]

    def codegen(context, builder, signature, arguments):
        value = builder.load(vector_pointer(context, builder, signature.args[0], *arguments, vector))
        value.align = array.dtype.bitwidth // 8
        return value

    return vector(array, types.intp), codegen


@intrinsic
def load_converted(typing_context, like, array, index):
    """The vector array[index : index + lanes], converted to like's dtype from any real one."""
    vector = _VECTORS[like.dtype]

    def codegen(context, builder, signature, arguments):
        return load_vector(context, builder, signature.args[1], *arguments[1:], vector)

    return vector(like, array, types.intp), codegen


@intrinsic
def store(typing_context, array, index, value):
    """array[index : index + lanes] = value."""

    def codegen(context, builder, signature, arguments):
        pointer = vector_pointer(context, builder, signature.args[0], *arguments[:2], value)
        builder.store(arguments[2], pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def broadcast(typing_context, like, array, index):
    """A vector of like's dtype whose lanes are all array[index], whatever array's dtype is."""
    vector = _VECTORS[like.dtype]

    def codegen(context, builder, signature, arguments):
        array_type = signature.args[1]
        pointer = element_pointer(context, builder, array_type, *arguments[1:])
        scalar = context.unpack_value(builder, array_type.dtype, pointer)
        return _splat(builder, context.cast(builder, scalar, array_type.dtype, vector.dtype), vector)

    return vector(like, array, types.intp), codegen


@intrinsic
def fill(typing_context, like, scalar):
    """A vector of like's dtype whose lanes are all `scalar`."""
    vector = _VECTORS[like.dtype]

    def codegen(context, builder, signature, arguments):
        return _splat(builder, context.cast(builder, arguments[1], scalar, vector.dtype), vector)

    return vector(like, scalar), codegen


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once where the processor can."""

    def codegen(context, builder, signature, arguments):
        ir_type = ir_type_of(a)
        name = f"llvm.fmuladd.v{a.lanes}f{a.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir_type, [ir_type] * 3), name)
        return builder.call(function, arguments)

    return a(a, b, c), codegen


@intrinsic
def multiply(typing_context, a, b):
    """a * b."""

    def codegen(context, builder, signature, arguments):
        return builder.fmul(*arguments)

    return a(a, b), codegen


@intrinsic
def subtract(typing_context, a, b):
    """a - b."""

    def codegen(context, builder, signature, arguments):
        return builder.fsub(*arguments)

    return a(a, b), codegen


@intrinsic
def divide(typing_context, a, b):
    """a / b."""

    def codegen(context, builder, signature, arguments):
        return builder.fdiv(*arguments)

    return a(a, b), codegen


@intrinsic
def square_root(typing_context, a):
    """The square root of each lane."""

    def codegen(context, builder, signature, arguments):
        ir_type, name = ir_type_of(a), f"llvm.sqrt.v{a.lanes}f{a.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir_type, [ir_type]), name)
        return builder.call(function, arguments)

    return a(a), codegen


@intrinsic
def noinline(typing_context):
    """Compile the function that says this once, as a function of its own, instead of copying it into each caller."""

    def codegen(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def where_positive(typing_context, condition, value):
    """The vector `value`, and 0 in the lanes where condition <= 0; NaN counts as positive."""

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(ir_type_of(value), None)
        return builder.select(builder.fcmp_ordered("<=", arguments[0], zero), zero, arguments[1])

    return value(condition, value), codegen


@intrinsic
def add(typing_context, a, b):
    """a + b."""

    def codegen(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return a(a, b), codegen


@intrinsic
def prefetch(typing_context, array, index):
    """Have array[index] brought to the cache."""

    def codegen(context, builder, signature, arguments):
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = element_pointer(context, builder, signature.args[0], *arguments, 0)  # it may be beyond the end
        pointer = builder.bitcast(address, byte)
        function_type = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])  # for reading, in all levels, data
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def reduce_add(typing_context, vector):
    """The sum of a vector's lanes, in any order."""
    dtype = vector.dtype

    def codegen(context, builder, signature, arguments):
        scalar, ir_type = context.get_value_type(dtype), ir_type_of(vector)
        name = f"llvm.vector.reduce.fadd.v{vector.lanes}f{dtype.bitwidth}"
        function_type = ir.FunctionType(scalar, [scalar, ir_type])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(function, [ir.Constant(scalar, -0.0), arguments[0]], fastmath=("reassoc",))

    return dtype(vector), codegen


@intrinsic
def maximum(typing_context, a, b):
    """The larger of a and b in each lane; b's where one of them is NaN."""

    def codegen(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), codegen


@intrinsic
def reduce_max(typing_context, vector):
    """The largest of a vector's lanes; NaN only where all are NaN."""
    dtype = vector.dtype

    def codegen(context, builder, signature, arguments):
        name = f"llvm.vector.reduce.fmax.v{vector.lanes}f{dtype.bitwidth}"
        function_type = ir.FunctionType(context.get_value_type(dtype), [ir_type_of(vector)])
        return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)

    return dtype(vector), codegen


@intrinsic
def as_number(typing_context, condition):
    """A condition as 0 or 1, to compute with. LLVM does not learn which values it has: it would make a branch of it."""

    def codegen(context, builder, signature, arguments):
        return _unknown(builder, builder.zext(arguments[0], ir.IntType(64)))

    return types.int64(condition), codegen


@intrinsic
def unknown(typing_context, number):
    """A whole number, of which LLVM does not learn how it was made."""

    def codegen(context, builder, signature, arguments):
        return _unknown(builder, *arguments)

    return number(number), codegen


def _unknown(builder, number):
    no_operation = ir.InlineAsm(ir.FunctionType(number.type, [number.type]), "", "=r,0")
    return builder.call(no_operation, [number])


@intrinsic
def deinterleave(typing_context, a, b, first):
    """The numbers 0, 2, 4, ... (first = 0) or 1, 3, 5, ... (first = 1, a literal) of a followed by b."""
    if not isinstance(first, types.IntegerLiteral):
        return None
    places = [first.literal_value + 2 * lane for lane in range(a.lanes)]

    def codegen(context, builder, signature, arguments):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), a.lanes), places)
        return builder.shuffle_vector(arguments[0], arguments[1], mask)

    return a(a, b, first), codegen


@intrinsic
def select_later(typing_context, a, b, if_later, if_not):
    """In each lane if_later, where a > b or only a is NaN, else if_not."""

    def codegen(context, builder, signature, arguments):
        first, second, yes, no = arguments
        later = builder.fcmp_unordered(">", first, second)  # true where one is NaN, too
        return builder.select(builder.and_(later, builder.fcmp_ordered("ord", second, second)), yes, no)

    return a(a, b, if_later, if_not), codegen
