"""How matrices lie in flat arrays: the tuples of arrays and steps that products are made of.

They are made inside compiled code, where they cost nothing; `row_place_up_to` and `column_place` let one micro-kernel
read all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..runtime.compiler import by_type
from ..runtime.simd import load_scalar


class Span(NamedTuple):
    """The numbers of an array from `start` on."""

    array: Any
    start: int


class Matrix(NamedTuple):
    """Element (i, j) is array[start + i * row_step + j * column_step]."""

    array: Any
    start: int
    row_step: int
    column_step: int


class MicroPanels(NamedTuple):
    """The left-hand side, six rows at a time.

    Element (6 p + i, k) is array[start + p * panel_step + i * row_step + k * k_step].
    """

    array: Any
    start: int
    panel_step: int
    row_step: int
    k_step: int


class Panels(NamedTuple):
    """A right-hand side or a result, a panel of columns at a time.

    Row k of panel p begins at array[start + p * panel_step + k * row_step].
    """

    array: Any
    start: int
    row_step: int
    panel_step: int


class IndirectMatrix(NamedTuple):
    """Element (i, k) is array[start + row_offsets[first_row + i] + k_offsets[first_k + k]]: patches of images."""

    array: Any
    start: int
    row_offsets: Any
    first_row: int
    k_offsets: Any
    first_k: int


def row_place_up_to(matrix, i, last):
    """Where row i of a left-hand side begins in its array, or for i > last that row; inside kernels."""
    raise NotImplementedError("row_place_up_to exists inside kernels only")


def column_place(matrix, k):
    """How far column k is from a row's beginning; inside kernels."""
    raise NotImplementedError("column_place exists inside kernels only")


@by_type(row_place_up_to)
def _row_place_up_to(matrix, i, last):
    return _CLAMPED_ROW_PLACES[matrix.instance_class]


@by_type(column_place)
def _column_place(matrix, k):
    return _COLUMN_PLACES[matrix.instance_class]


def _clamped_row_of_matrix(matrix, i, last):
    return matrix.start + min(i, last) * matrix.row_step


def _row_of_patches(matrix, i, last):
    return matrix.start + load_scalar(matrix.row_offsets, matrix.first_row + min(i, last))


def _column_of_matrix(matrix, k):
    return k * matrix.column_step


def _column_of_patches(matrix, k):
    return load_scalar(matrix.k_offsets, matrix.first_k + k)


_CLAMPED_ROW_PLACES = {Matrix: _clamped_row_of_matrix, IndirectMatrix: _row_of_patches}
_COLUMN_PLACES = {Matrix: _column_of_matrix, IndirectMatrix: _column_of_patches}
