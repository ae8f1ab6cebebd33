"""Any number of arrays for one kernel: a table of where they are, instead of an argument for each.

A tuple of arrays is of another type for each number of them, takes 0.2 us for each array of a call, and is compiled to a
choice between all of them wherever one is asked for. A table is an array of the array objects' addresses, in CPython what
`id` gives; compiled code reads there where the numbers are, the member `data` of NumPy's PyArrayObject. Whoever makes a
table keeps the arrays for as long as a kernel may read it: see `kept` of threads.run.

Measured against tuples of the arrays of eight layers: normalized_stack.py compiles in 3.2 s instead of
6.0, affine_stack.py in 5.4 instead of 6.5; a call for three layers takes 3 to 5 us less, for six 5 to 10.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .arrays import UNKNOWN_LENGTH

MOST_AXES = 4  # of an array whose length is known
_WORD = ctypes.sizeof(ctypes.c_void_p)
_MISSING = np.zeros(0)  # in the place of an array that is not there, and that nobody reads


class Table(NamedTuple):
    """Arrays of like's dtype, of which the addresses are in `addresses` from `first` on; like: an array, or a dtype."""

    addresses: Any
    first: int
    like: Any


def addresses_of(*groups):
    """The addresses of all arrays of these lists, one list after the other; None is an array that is not there.

    Arrays are C-contiguous. Only the caller knows their dtype, and how many each list has: a kernel takes its word for it.
    """
    arrays = [_MISSING if array is None else array for group in groups for array in group]
    return np.fromiter(map(_address, arrays), np.int64, len(arrays))


def _place_of_data():
    """Where in an array object its numbers' address is, in bytes, if it is found where NumPy's headers have it."""
    arrays = [np.zeros(size) for size in (1, 2, 3)]
    for place in range(0, 8 * _WORD, _WORD):
        if all(ctypes.c_void_p.from_address(id(one) + place).value == _data_of(one) for one in arrays):
            return place
    return None


def _data_of(array):
    return array.__array_interface__["data"][0]


_PLACE = _place_of_data()
_address = _data_of if _PLACE is None else id


@intrinsic
def at(typing_context, table, i):
    """The i-th array of a Table, flat. Its length is known where offsets are checked only."""
    addresses_type, _, like = table.types
    array_type = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, arguments):
        addresses, first = (builder.extract_value(arguments[0], member) for member in (0, 1))
        addresses = context.make_array(addresses_type)(context, builder, addresses)
        word = builder.load(builder.gep(addresses.data, [builder.add(first, arguments[1])]))
        made = context.make_array(array_type)(context, builder)
        length = _length(builder, word) if config.BOUNDSCHECK and _PLACE is not None else word.type(UNKNOWN_LENGTH)
        itemsize = word.type(context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        data = builder.inttoptr(word if _PLACE is None else _member(builder, word, 0), made.data.type)
        populate_array(made, data, [length], [itemsize], itemsize, None)
        return made._getvalue()

    return array_type(table, types.intp), codegen


def _member(builder, address, words):
    """A member of the object at an address, so many words after `data`: as a whole number."""
    return builder.load(_pointer(builder, address, _PLACE + words * _WORD, address.type))


def _pointer(builder, address, offset, to):
    return builder.inttoptr(builder.add(address, address.type(offset)), to.as_pointer())


def _length(builder, address):
    """How many numbers the array object has: the product of its `nd` dimensions."""
    count = builder.zext(builder.load(_pointer(builder, address, _PLACE + _WORD, ir.IntType(32))), address.type)
    is_scalar, length = builder.icmp_signed("==", count, address.type(0)), address.type(1)
    # of a scalar there are no dimensions to be read
    dimensions = builder.select(is_scalar, address, _member(builder, address, 2))
    for axis in range(MOST_AXES):
        is_there = builder.icmp_signed("<", address.type(axis), count)
        place = builder.select(is_there, address.type(axis * _WORD), address.type(0))
        size = builder.load(builder.inttoptr(builder.add(dimensions, place), address.type.as_pointer()))
        length = builder.mul(length, builder.select(is_there, size, address.type(1)))
    is_known = builder.icmp_signed("<=", count, address.type(MOST_AXES))
    return builder.select(is_known, length, address.type(UNKNOWN_LENGTH))
