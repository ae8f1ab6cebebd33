"""From NumPy arrays to what compiled code takes: flat, writable-typed, C-contiguous arrays and element steps.

Every (dtype, layout, rank, read-only) combination would be one more compilation; brought to one form here, a kernel is
compiled once for each dtype. Nothing is copied that is contiguous in either order.
"""

from __future__ import annotations

import functools
import math
import sys
import threading

import numpy as np

SMALLEST_POOLED = 1 << 15  # bytes; smaller arrays come from the C library's free lists
TIMES_KEPT = 100  # entries of a MemoryPool that a block is kept without being used
LARGEST_KEPT = 1 << 25  # bytes of workspace that a thread keeps for each dtype: 32 MB
UNKNOWN_LENGTH = 1  # what `strided` says for it


class _Workspace(threading.local):
    """Memory that is used again, by dtype: a page that is new costs more than the numbers on it."""

    def __init__(self):
        self.kept = {}


_workspace = _Workspace()


def workspace(count, dtype):
    """At least `count` numbers of any value, for this thread and this call; its next call may get the same."""
    memory = _workspace.kept.get(dtype)
    if memory is None or len(memory) < count:
        memory = aligned_zeros(count, dtype)
        if memory.nbytes <= LARGEST_KEPT:
            _workspace.kept[dtype] = memory
    return memory


def aligned_zeros(count, dtype):
    """Zeros that begin on a cache line: a panel's row is then one line, not two."""
    memory = np.zeros(count * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count * dtype.itemsize].view(dtype)


class _Chosen(threading.local):
    """The pools that this thread is within, the innermost last."""

    def __init__(self):
        self.pools = []


_chosen = _Chosen()


def empty(shape, dtype):
    """np.empty, for results: within a MemoryPool, of memory that is used again."""
    pools = _chosen.pools
    return pools[-1].empty(shape, np.dtype(dtype)) if pools else np.empty(shape, dtype)


class MemoryPool:
    """Memory for results, used again where nobody refers to the array any more that had it.

        with pool: ...  # `empty` takes from it, in this thread

    A step of a convolutional network makes 50 arrays of megabytes; asked of the system each time, every page of them is a
    page fault. Whether an array is referred to is its reference count: views count, so what is handed out stays as it is.
    Batches of other sizes share blocks: sizes are rounded up, and a larger block will do, up to twice as large.
    """

    def __init__(self):
        self._blocks, self._lock, self._times = {}, threading.Lock(), 0

    def __enter__(self):
        self._times += 1
        _chosen.pools.append(self)
        return self

    def __exit__(self, *error):
        _chosen.pools.pop()

    def empty(self, shape, dtype):
        size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
        if size < SMALLEST_POOLED:
            return np.empty(shape, dtype)
        with self._lock:
            block = self._free_block(size) or self._new_block(size)
            block.used = self._times
            return block.array(size).view(dtype).reshape(shape)

    def release(self):
        """Give back all memory that nobody refers to."""
        with self._lock:
            self._drop(lambda block: True)

    def _free_block(self, size):
        for rounded in _sizes(size):
            for block in self._blocks.get(rounded, ()):
                if block.is_free():
                    return block
        return None

    def _new_block(self, size):
        """A new block; what has long not been used is given back, as the sizes of results have changed."""
        self._drop(lambda block: block.used < self._times - TIMES_KEPT)
        rounded = _sizes(size)[0]
        block = _Block(rounded)
        self._blocks.setdefault(rounded, []).append(block)
        return block

    def _drop(self, unwanted):
        for size, blocks in list(self._blocks.items()):
            blocks[:] = [block for block in blocks if not (unwanted(block) and block.is_free())]
            if not blocks:
                del self._blocks[size]


@functools.lru_cache(maxsize=4096)
def _sizes(size):
    """The sizes of blocks that will do for `size` bytes: eight steps from one power of two to the next."""
    step = 1 << max(0, (size - 1).bit_length() - 4)
    first = -(-size // step) * step
    sizes = [first]
    while sizes[-1] < 2 * first:
        step = 1 << max(0, sizes[-1].bit_length() - 4)
        sizes.append(sizes[-1] + step)
    return tuple(sizes)


class _Block:
    """Some memory that begins on a cache line."""

    def __init__(self, size):
        self.memory = np.empty(size + 64, np.uint8)
        self.start, self.used = -self.memory.ctypes.data % 64, 0
        self.alone = sys.getrefcount(self.memory)

    def is_free(self):
        return sys.getrefcount(self.memory) == self.alone

    def array(self, size):
        return self.memory[self.start : self.start + size]


class _Writable:
    """Another view of an array's memory, without the read-only flag. Kernels do not write to what they are given."""

    def __init__(self, array):
        self._array = array  # keeps the memory alive
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def flat(array):
    """All elements in C order as a one-dimensional array: a view where the memory allows it, else a copy."""
    flags = array.flags
    if flags.carray:  # contiguous, aligned, writable: nearly always
        return array.ravel()  # 0.04 us; reshape(-1) 0.1
    vector = np.require(array, requirements="CA").reshape(-1)
    return vector if vector.flags.writeable else np.asarray(_Writable(vector))


def matrix(array):
    """A two-dimensional array (rows, columns) -> its memory as a flat array, row_step, column_step, in elements."""
    flags = array.flags
    if flags.carray:
        return array.ravel(), array.shape[1], 1
    if flags.c_contiguous or not flags.f_contiguous:
        return flat(array), array.shape[1], 1
    return flat(array.T), 1, array.shape[0]


class _From:
    """An array's memory from its first element on, as a flat and writable array of unknown length."""

    def __init__(self, array, first):
        self._array = array  # keeps the memory alive
        self.__array_interface__ = {
            "data": (first, False),
            "shape": (UNKNOWN_LENGTH,),
            "typestr": array.dtype.str,
            "version": 3,
        }


def strided(array):
    """An array of any rank and layout -> its memory as a flat array, the steps along its axes in elements.

    Element (i, j, ...) lies at i * steps[0] + j * steps[1] + ..., which may be below 0. Nothing is copied, unless
    elements are not aligned.
    """
    size, flags = array.itemsize, array.flags
    if not flags.aligned or any(step % size for step in array.strides):
        array = np.ascontiguousarray(array)
    steps = tuple([step // size for step in array.strides])
    if flags.carray:
        return array.reshape(-1), steps
    return np.asarray(_From(array, array.__array_interface__["data"][0])), steps
