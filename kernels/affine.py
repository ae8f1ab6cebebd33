"""Affine (fully connected): x @ W + b.

All three products, x @ W, dout @ W.T and x.T @ dout, are one kernel, with other steps. Of the right-hand side, the
panels that a thread needs are packed first; the left-hand side is read where it is, or copied block by block where its
dtype is another or where it is transposed and deep. Products of very few rows do not repay packing: `_few_rows`.

Threads have panels of columns of their own, or, where those do not divide well, rows.

What holds it back: OpenBLAS, whose threads wait in its own code, starts them sooner (5 us; here about 30, most of it
Python's), and 50 columns are computed as 64. At 1024 columns it reaches 0.87 to 0.98 of NumPy's speed.
"""

from __future__ import annotations

import numpy as np

from .arrays import flat, matrix, scratch
from .compiler import kernel
from .machine import VECTOR_BYTES
from .magnitude import is_finite
from .matmul import (
    FEW_ROWS,
    ROW_BLOCK,
    ROWS,
    SCRATCH,
    SHORT,
    copy_block,
    even_block,
    multiply_block,
    pack,
    panel_width,
    row_tile,
)
from .simd import add, add_up, at, fma, kept_apart, lanes, load, put, zeros
from .sparse_affine import is_sparse, listing, sparse_forward, weights_gradient
from .sums import LEVELS, add_to_sum, begin_sums, end_row, end_sums
from .threads import most_parts, next_part, run, share, take, threads_for

WORTH_A_THREAD = 3_000_000  # multiplications, 75 us on one core: below, a second one costs more than it brings


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    out = sparse_forward(x, W, b) if is_sparse(x, W) else None
    return _product(*matrix(x), *matrix(W), flat(b), *x.shape, W.shape[1]) if out is None else out


def affine_backward(dout, x, W, needs_dx=True):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,).

    dx is None if it is not needed.
    """
    (rows, depth), columns, dtype = x.shape, W.shape[1], W.dtype
    d, d_row, d_column = matrix(dout)
    w, w_row, w_column = matrix(W)
    x_, x_row, x_column = matrix(x)
    zeros = np.zeros(max(depth, columns), dtype)
    if rows * depth * columns < WORTH_A_THREAD:
        dx = _product(d, d_row, d_column, w, w_column, w_row, zeros, rows, columns, depth) if needs_dx else None
        dW = _product(x_, x_column, x_row, d, d_row, d_column, zeros, depth, rows, columns)
        db = np.empty(LEVELS * columns, dtype)
        _sum_rows(d, d_row, d_column, db, columns, rows)
        return dx, dW, db[:columns].copy()
    dx = np.empty((rows if needs_dx else 0, depth), dtype)
    dW, db = np.empty((depth, columns), dtype), np.empty(LEVELS * columns, dtype)
    listed = dout.flags.c_contiguous and is_sparse(x, W) and is_finite(dout)
    threads = threads_for(rows * depth * columns, WORTH_A_THREAD)
    plan_dx = _plan(d, d_column, w, rows, columns, depth, threads)
    plan_dW = _plan(x_, x_row, d, depth, rows, columns, threads)
    each = max(
        plan_dx[0], plan_dW[0]
    )  # one thread may be at dW while another is still at dx: their rooms may not overlap
    plan_dx, plan_dW = (each, *plan_dx[1:]), (each, *plan_dW[1:])
    size, listed_size = threads * each, threads * rows * ROWS
    room = scratch(size + listed_size, dtype)
    run(
        _backward, threads, d, d_row, d_column, w, w_row, w_column, x_, x_row, x_column, zeros, dx.reshape(-1),
        dW.reshape(-1), db, room, plan_dx, plan_dW, rows, depth, columns, listed,
        *listing(x_, threads * rows), room[size : size + listed_size],
    )  # fmt: skip
    return dx if needs_dx else None, dW, db[:columns].copy()


def _plan(a, a_k, b, rows, depth, columns, threads):
    """How a product a (rows, depth) @ b (depth, columns) is made: the room that each thread needs, whether the threads
    have rows of their own, or else columns, and whether a is copied."""
    panel = 2 * VECTOR_BYTES // b.itemsize
    panels = -(-columns // panel)
    by_rows = panels % threads != 0 and panels < 4 * threads
    size = (panels if by_rows else -(-panels // threads)) * panel * depth + ROW_BLOCK * panel + SCRATCH
    return size, by_rows, a.dtype != b.dtype or (a_k != 1 and depth > SHORT)


def _product(a, a_row, a_k, b, b_k, b_column, bias, rows, depth, columns):
    """a (rows, depth) @ b (depth, columns) + bias, (rows, columns); a of any real dtype, b and bias of one."""
    out = np.empty((rows, columns), b.dtype)
    panel = 2 * VECTOR_BYTES // b.itemsize
    if rows <= FEW_ROWS and columns >= panel:
        row = scratch(depth, b.dtype)
        _few_rows(a, a_row, a_k, b, b_k, b_column, bias, out.reshape(-1), row, rows, depth, columns)
        return out
    threads = threads_for(rows * depth * columns, WORTH_A_THREAD)
    plan = _plan(a, a_k, b, rows, depth, columns, threads)
    room = scratch(threads * plan[0], b.dtype)
    run(_multiply, threads, a, a_row, a_k, b, b_k, b_column, bias, out.reshape(-1), room, rows, depth, columns, plan)
    return out


@kernel
def _multiply(thread, threads, control, a, a_row, a_k, b, b_k, b_column, bias, c, room, rows, depth, columns, plan):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        multiply_share(
            part, threads, thread, a, a_row, a_k, b, b_k, b_column, bias, c, room, rows, depth, columns, plan
        )  # fmt: skip
        part = next_part(control, thread, threads, part)


@kernel
def _backward(
    thread, threads, control, d, d_row, d_column, w, w_row, w_column, x, x_row, x_column, zeros, dx, dW, db, room,
    plan_dx, plan_dW, rows, depth, columns, listed, numbers, bits, marks, lists, strips,
):  # fmt: skip
    """All three gradients at once: waking a thread costs as much as one of them may take."""
    parts_of_dx = threads if len(dx) > 0 else 0
    parts_of_dW = most_parts(threads) - threads if listed else threads
    parts = parts_of_dx + parts_of_dW
    part = take(control, 1, parts, thread, threads, -1)
    while part >= 0:
        if part < parts_of_dx:
            multiply_share(
                part, threads, thread, d, d_row, d_column, w, w_column, w_row, zeros, dx, room, rows, columns, depth,
                plan_dx,
            )  # fmt: skip
        elif listed:
            weights_gradient(
                part - parts_of_dx, parts_of_dW, thread, numbers, bits, lists, strips, d, zeros, dW, rows, depth, columns
            )  # fmt: skip
        else:
            multiply_share(
                part - parts_of_dx, threads, thread, x, x_column, x_row, d, d_row, d_column, zeros, dW, room, depth, rows,
                columns, plan_dW,
            )  # fmt: skip
        if part == 0:
            sum_rows(d, d_row, d_column, db, columns, rows)
        part = take(control, 1, parts, thread, threads, part)


@kernel(part=True)
def multiply_share(part, parts, thread, a, a_row, a_k, b, b_k, b_column, bias, c, room, rows, depth, columns, plan):
    """A part of c = a @ b + bias, in this thread's room. A last panel that is not full is computed in `edge`, and copied."""
    kept_apart()
    size, by_rows, copied = plan
    width = panel_width(b)
    panels, block = (columns + width - 1) // width, even_block(depth)
    first, end = (0, panels) if by_rows else share(panels, part, parts)
    low, high = share(rows, part, parts) if by_rows else (0, rows)
    left, right = first * width, min(columns, end * width)
    full, rest = (right - left) // width, (right - left) % width
    packed, edge = thread * size, thread * size + (end - first) * width * depth
    scratch, beyond = edge + ROW_BLOCK * width, packed + full * width * depth
    pack(b, left * b_column, b_k, b_column, depth, right - left, room, packed)
    for top in range(low, high, ROW_BLOCK):
        count = min(ROW_BLOCK, high - top)
        for r in range(count):
            for j in range(left, right - rest):
                put(c, (top + r) * columns + j, at(bias, j))
            for j in range(rest):
                put(room, edge + r * width + j, at(bias, right - rest + j))
        for k in range(0, depth, block):
            deep = min(block, depth - k)
            if copied:
                in_row, in_k = copy_block(a, top * a_row + k * a_k, a_row, a_k, count, deep, room, scratch)
                multiply_panels(
                    room, scratch, ROWS * deep, in_row, in_k, count, deep, room, packed + k * width, width * depth, full,
                    c, top * columns + left, columns, beyond + k * width, rest, edge,
                )  # fmt: skip
            else:
                multiply_panels(
                    a, top * a_row + k * a_k, ROWS * a_row, a_row, a_k, count, deep, room, packed + k * width,
                    width * depth, full, c, top * columns + left, columns, beyond + k * width, rest, edge,
                )  # fmt: skip
        for r in range(count):
            for j in range(rest):
                put(c, (top + r) * columns + right - rest + j, at(room, edge + r * width + j))


@kernel(part=True)
def multiply_panels(
    a, a0, strip, row_step, k_step, rows, depth, room, packed, b_panel, full, c, c0, columns, beyond, rest, edge
):  # fmt: skip
    """One block of _multiply: the full panels into c, and the one that is not full, if there is one, into edge."""
    width, one = panel_width(c), c.dtype.type(1)
    multiply_block(
        a, a0, strip, row_step, k_step, rows, depth, room, packed, width, b_panel, full, c, c0, columns, width, one
    )  # fmt: skip
    if rest > 0:
        multiply_block(
            a, a0, strip, row_step, k_step, rows, depth, room, beyond, width, b_panel, np.intp(1),
            room, edge, width, width, one,
        )  # fmt: skip


@kernel
def _few_rows(a, a_row, a_k, b, b_k, b_column, bias, c, row, rows, depth, columns):
    """c = a @ b + bias, straight from b: along its rows where they are contiguous, else as sums of products."""
    width = panel_width(b)
    for i in range(rows):
        for k in range(depth):
            put(row, k, at(a, i * a_row + k * a_k))
        if b_column == 1:
            for j in range(0, columns, width):
                left = min(j, columns - width)  # the last panel may overlap the one before it
                row_tile(row, 0, np.intp(1), depth, b, left, b_k, bias, left, c, i * columns + left)
        else:
            for j in range(columns):
                put(c, i * columns + j, at(bias, j) + dot(row, b, j * b_column, b_k, depth))


@kernel(part=True)
def dot(row, b, b0, b_step, count):
    """The sum of row[k] * b[b0 + k * b_step]; in two vectors where b is contiguous."""
    total, start, width = b.dtype.type(0), 0, lanes(b)
    if b_step == 1:
        even = odd = zeros(b)
        while start + 2 * width <= count:
            even = fma(load(row, start), load(b, b0 + start), even)
            odd = fma(load(row, start + width), load(b, b0 + start + width), odd)
            start += 2 * width
        total = add_up(add(even, odd))
    for k in range(start, count):
        total += at(row, k) * at(b, b0 + k * b_step)
    return total


@kernel
def _sum_rows(a, row_step, column_step, total, columns, rows):
    sum_rows(a, row_step, column_step, total, columns, rows)


@kernel(part=True)
def sum_rows(a, row_step, column_step, total, columns, rows):
    """total[:columns] = the sum of the rows; the rest of total, LEVELS * columns, is room."""
    begin_sums(total, 0, columns, columns)
    for i in range(rows):
        for j in range(columns):
            add_to_sum(total, j, columns, at(a, i * row_step + j * column_step))
        end_row(total, 0, columns, columns, i)
    end_sums(total, 0, columns, columns)
