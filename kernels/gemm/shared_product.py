"""Chunks of a product a @ b + bias, which threads share: by its columns or, where those do not divide well, by its rows.

Of the right-hand side, the panels that a chunk needs are packed first; the left-hand side is read where it is, or copied
block by block where its dtype is another or where it is transposed and deep.

A chunk is multiplied by a kernel of its own, which others call by its address: it takes more than half of the time that
compiling an affine layer takes, and is compiled once for a layer's three products, whichever process is first (see
dropin/beginning/ahead.py).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from ..runtime.chunks import chunk_bounds
from ..runtime.compiler import InnerKernel, device
from ..runtime.pointers import address_of, call_at
from ..runtime.processors import VECTOR_BYTES
from ..runtime.simd import lanes, load_scalar, store_scalar
from .matrices import Matrix, Panels, Span
from .microkernel import AS_IT_IS, Epilogue
from .packing import (
    BLOCK_SIZE,
    MC,
    ROWS,
    SHORT,
    WHOLE,
    even_block,
    micro_panels,
    pack,
    packed_size,
    panel_width,
    panels_at,
    submatrix,
)
from .product import multiply_block, multiply_half_panel, panels_from


class Plan(NamedTuple):
    """How a product is made: the workspace that each thread needs, in numbers; whether the threads have rows of their own,
    or else columns; whether the left-hand side is copied (see `micro_panels`); where the kernel is."""

    size: int
    by_rows: bool
    copied: bool
    address: int


class Place(NamedTuple):
    """A chunk of a product, of how many, the thread, and whether its last chunk, by rows, has packed the same panels."""

    chunk: int
    chunk_count: int
    thread: int
    is_packed: bool


@lru_cache(maxsize=1024)
def plan_of(sizes, threads, dtype, dtype_of_a, are_rows_of_a, are_rows_of_b):
    """The fields of a Plan; are_rows_of_a, of_b: whether the numbers of a row are next to each other.

    sizes: rows, depth, columns.
    """
    rows, depth, columns = sizes
    panel = 2 * VECTOR_BYTES // dtype.itemsize
    panels, copied = -(-columns // panel), dtype_of_a != dtype or (not are_rows_of_a and depth > SHORT)
    by_rows = threads > 1 and _are_shared_by_rows(rows, columns, panel // 2, threads, are_rows_of_b)
    size = packed_size(panels if by_rows else -(-panels // threads), depth, dtype) + (MC + 1) * panel + BLOCK_SIZE
    return size, by_rows, copied, chunk_address(dtype, dtype_of_a)


def _are_shared_by_rows(rows, columns, width, threads, are_vectors):
    """Whether the thread with the most to do has less of it so: by rows all pack the whole of b, by columns each reads a.

    In cycles for each k: six rows by a vector of columns take 3, and a vector of b takes 2 to pack, or each of its numbers
    where b is transposed. That takes less since `copy_transposed`; but with 4 for a vector, float32 took 1.03 to 1.09 times
    as long, and with its lanes as long as now.
    """
    vectors, panels, packing = -(-columns // width), -(-columns // (2 * width)), 2 if are_vectors else 2 * width
    most = min(vectors, 2 * -(-panels // threads))
    by_columns = -(-rows // ROWS) * most * 3 + most * packing
    return -(-rows // (ROWS * threads)) * vectors * 3 + vectors * packing < by_columns


@cache
def chunk_address(dtype, dtype_of_a):
    """Where the kernel for `multiply_chunk` is, compiled unless it was."""
    numbers, of_a = np.empty(0, dtype), np.empty(0, dtype_of_a)
    sizes, plan, place = (0, 0, 0), (0, False, False), (0, 0, 0, False)
    return address_of(
        _multiply_chunk, numbers, (of_a, 0, 0, 0), (numbers, 0, 0, 0), numbers, sizes, plan, place, numbers
    )


@InnerKernel
def _multiply_chunk(out, a, b, bias, sizes, plan, place, workspace):
    """a, b: the fields of a Matrix; plan: those of a Plan but the last; place: those of a Place.

    Where b is large, a block of its rows is packed just before it is used, so that they are in the second-level cache for
    all rows of a. A last panel that is not full is computed in `edge`, and copied.
    """
    a, b, (each, by_rows, copied) = Matrix(*a), Matrix(*b), plan
    rows, depth, columns = sizes
    chunk, chunk_count, thread, is_packed = place
    width = panel_width(out)
    panels, deep = (columns + width - 1) // width, even_block(depth)
    first, end = (0, panels) if by_rows else chunk_bounds(panels, chunk, chunk_count)
    low, high = chunk_bounds(rows, chunk, chunk_count) if by_rows else (0, rows)
    left, right = first * width, min(columns, end * width)
    full, rest = (right - left) // width, (right - left) % width
    is_whole = (end - first) * width * depth * out.itemsize <= WHOLE
    at_once = max(1, depth) if is_whole else deep  # of no depth: the bias alone
    edge = (thread + 1) * each - BLOCK_SIZE - (MC + 1) * width
    biases = Span(bias, left), Span(workspace, edge + MC * width)
    buffer = Span(workspace, edge + (MC + 1) * width)
    for j in range(width):
        store_scalar(workspace, edge + MC * width + j, load_scalar(bias, right - rest + j) if j < rest else 0)
    for below in range(0, max(1, depth), at_once):
        above = min(depth, below + at_once)
        packed = panels_at(workspace, thread * each, above - below)
        if not is_whole or not is_packed:
            pack(packed, submatrix(b, below, left), above - below, right - left)
        for top in range(low, high, MC):
            count = min(MC, high - top)
            outside, inside = Span(out, top * columns + right - rest), Span(workspace, edge)
            if below > 0:
                copy_rectangle(inside, width, outside, columns, count, rest)
            c = Panels(out, top * columns + left, columns, width), Panels(workspace, edge, width, width)
            for k in range(below, max(1, above), deep):
                deep_here = min(deep, above - k)
                block = micro_panels(a, (top, k), (count, deep_here), buffer, copied)
                multiply_panels(
                    c, block, panels_from(packed, k - below, 0), biases, (count, deep_here, full, rest), k == 0
                )
            copy_rectangle(outside, columns, inside, width, count, rest)


@device
def multiply_chunk(out, a, b, bias, sizes, plan, place, workspace):
    """A chunk of out = a @ b + bias, in this thread's workspace; a, b: Matrix; sizes: rows, depth, columns."""
    of_a, of_b = (a.array, a.start, a.row_step, a.column_step), (b.array, b.start, b.row_step, b.column_step)
    how, where = (plan.size, plan.by_rows, plan.copied), (place.chunk, place.chunk_count, place.thread, place.is_packed)
    call_at(plan.address, None, (out, of_a, of_b, bias, sizes, how, where, workspace))


@device
def transposed(a):
    return Matrix(a.array, a.start, a.column_step, a.row_step)


@device
def copy_rectangle(target, target_step, source, source_step, rows, columns):
    """Rows from one Span to another, each so many numbers from one row to the next."""
    for r in range(rows):
        for j in range(columns):
            number = load_scalar(source.array, source.start + r * source_step + j)
            store_scalar(target.array, target.start + r * target_step + j, number)


@device
def multiply_panels(c, a, b, biases, sizes, is_first):
    """One block of bias + a @ b: the full panels into the first of c, and the one that is not full into the second.

    biases: Span, of both. sizes: rows, depth, full panels, columns of the last one. is_first: whether it is the first
    block of k; the others are added.
    """
    rows, depth, full, rest = sizes
    epilogue = Epilogue(b.array.dtype.type(1), is_first, np.intp(AS_IT_IS), np.intp(0))
    last_b, last_bias, last_sizes = panels_from(b, 0, full), biases[1], (rows, depth, np.intp(1))
    bias = Span(biases[0].array, biases[0].start if is_first else np.intp(-1))
    multiply_block(c[0], a, b, bias, (rows, depth, full), epilogue)
    if 0 < rest <= lanes(b.array):
        multiply_half_panel(c[1], a, last_b, last_bias, (rows, depth), is_first)
    elif rest > 0:
        start = Span(last_bias.array, last_bias.start if is_first else np.intp(-1))
        multiply_block(c[1], a, last_b, start, last_sizes, epilogue)
