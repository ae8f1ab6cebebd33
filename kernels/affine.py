"""Affine (fully connected): x @ W + b.

All three products, x @ W, dout @ W.T and x.T @ dout, are one kernel, with other steps. Threads have panels of columns of
their own, so that they never meet. Products of few rows do not repay packing the right-hand side: see `_few_rows`.
"""

from __future__ import annotations

import numpy as np

from .arrays import flat, matrix
from .compiler import kernel
from .machine import VECTOR_BYTES
from .matmul import SCRATCH, multiply_add_copied, pack, panel_width
from .simd import add, add_up, fma, lanes, load, zeros
from .threads import available_threads, run, share

FEW_ROWS = 4
WORTH_A_THREAD = 16_000_000  # multiplications, 0.4 ms on one core: below, starting a thread costs more than it brings


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    return _product(*matrix(x), *matrix(W), flat(b), x.shape[0], x.shape[1], W.shape[1])


def affine_backward(dout, x, W):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,)."""
    (rows, depth), columns, dtype = x.shape, W.shape[1], W.dtype
    d, d_row, d_column = matrix(dout)
    w, w_row, w_column = matrix(W)
    x_, x_row, x_column = matrix(x)
    none = np.empty(0, dtype)
    dx = _product(d, d_row, d_column, w, w_column, w_row, none, rows, columns, depth)
    dW = _product(x_, x_column, x_row, d, d_row, d_column, none, depth, rows, columns)
    db = np.empty(columns, dtype)
    _sum_rows(d, d_row, d_column, db, rows)
    return dx, dW, db


def _product(a, a_row, a_k, b, b_k, b_column, bias, rows, depth, columns):
    """a (rows, depth) @ b (depth, columns) + bias, (rows, columns); a of any real dtype, b and bias of one."""
    out = np.empty((rows, columns), b.dtype)
    if rows <= FEW_ROWS:
        _few_rows(a, a_row, a_k, b, b_k, b_column, bias, out.reshape(-1), rows, depth, columns)
        return out
    threads = available_threads() if rows * depth * columns >= WORTH_A_THREAD else 1
    panel = 2 * VECTOR_BYTES // b.itemsize
    wide = -(-columns // panel) * panel
    product = out.reshape(-1) if wide == columns else np.empty(rows * wide, b.dtype)
    room = np.empty(wide * depth + threads * SCRATCH, b.dtype)
    run(_multiply, threads, a, a_row, a_k, b, b_k, b_column, bias, product, room, rows, depth, columns)
    if wide != columns:
        out[...] = product.reshape(rows, wide)[:, :columns]
    return out


@kernel
def _multiply(thread, threads, control, a, a_row, a_k, b, b_k, b_column, bias, c, room, rows, depth, columns):
    """This thread's panels of c = a @ b + bias; c's rows and `room`, where b is packed, are whole panels wide."""
    width = panel_width(b)
    panels = (columns + width - 1) // width
    wide = panels * width
    first, end = share(panels, thread, threads)
    left, right = first * width, min(columns, end * width)
    pack(b, left * b_column, b_k, b_column, depth, right - left, room, left * depth)
    for i in range(0, rows * wide, wide):
        for j in range(left, end * width):
            c[i + j] = bias[j] if j < len(bias) else 0
    multiply_add_copied(
        a, 0, a_row, a_k, rows, depth, room, left * depth, width, width * depth, end - first,
        c, left, wide, width, b.dtype.type(1), room, wide * depth + thread * SCRATCH,
    )  # fmt: skip


@kernel
def _few_rows(a, a_row, a_k, b, b_k, b_column, bias, c, rows, depth, columns):
    """c = a @ b + bias, straight from b: along its rows where they are contiguous, else as sums of products."""
    row = np.empty(depth, b.dtype)
    for i in range(rows):
        for k in range(depth):
            row[k] = a[i * a_row + k * a_k]
        out = i * columns
        for j in range(columns):
            c[out + j] = bias[j] if j < len(bias) else 0
        if b_column == 1:
            for k in range(depth):
                for j in range(columns):
                    c[out + j] += row[k] * b[k * b_k + j]
        else:
            for j in range(columns):
                c[out + j] += dot(row, b, j * b_column, b_k, depth)


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
        total += row[k] * b[b0 + k * b_step]
    return total


@kernel
def _sum_rows(a, row_step, column_step, total, rows):
    for j in range(len(total)):
        total[j] = 0
    for i in range(rows):
        for j in range(len(total)):
            total[j] += a[i * row_step + j * column_step]
