"""From NumPy arrays to what compiled code takes: flat, writable-typed, C-contiguous arrays and element steps.

Every (dtype, layout, rank, read-only) combination would be one more compilation; brought to one form here, a kernel is
compiled once for each dtype. Nothing is copied that is contiguous in either order.
"""

from __future__ import annotations

import numpy as np


class _Writable:
    """Another view of an array's memory, without the read-only flag. Kernels do not write to what they are given."""

    def __init__(self, array):
        self._array = array  # keeps the memory alive
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def flat(array):
    """All elements in C order as a one-dimensional array: a view where the memory allows it, else a copy."""
    flags = array.flags
    if flags.carray:  # contiguous, aligned, writable: nearly always
        return array.reshape(-1)
    vector = np.require(array, requirements="CA").reshape(-1)
    return vector if vector.flags.writeable else np.asarray(_Writable(vector))


def matrix(array):
    """A two-dimensional array (rows, columns) -> its memory as a flat array, row_step, column_step, in elements."""
    if array.flags.c_contiguous or not array.flags.f_contiguous:
        return flat(array), array.shape[1], 1
    return flat(array.T), 1, array.shape[0]
