"""Affine (fully connected): x @ W + b."""

from __future__ import annotations

import numpy as np

from .arrays import flat, matrix
from .compiler import kernel
from .matmul import ROWS, multiply_add, pack, padded, panel_width

BLOCK = 16 * ROWS  # rows of x that are brought to W's dtype at a time: with 784 columns 300 KB in float32


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    out = np.empty((x.shape[0], W.shape[1]), W.dtype)
    _forward(*matrix(x), *matrix(W), flat(b), flat(out), *x.shape, W.shape[1])
    return out


def affine_backward(dout, x, W):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,)."""
    dtype = W.dtype
    dx, dW, db = np.empty(x.shape, dtype), np.empty(W.shape, dtype), np.empty(W.shape[1], dtype)
    _backward(*matrix(dout), *matrix(x), *matrix(W), flat(dx), flat(dW), flat(db), *x.shape, W.shape[1])
    return dx, dW, db


@kernel
def _forward(x, x_row, x_column, W, w_row, w_column, b, out, rows, depth, columns):
    multiply(x, x_row, x_column, W, w_row, w_column, out, rows, depth, columns)
    for i in range(rows):
        for j in range(columns):
            out[i * columns + j] += b[j]


@kernel
def _backward(dout, d_row, d_column, x, x_row, x_column, W, w_row, w_column, dx, dW, db, rows, depth, columns):
    multiply(dout, d_row, d_column, W, w_column, w_row, dx, rows, columns, depth)
    multiply(x, x_column, x_row, dout, d_row, d_column, dW, depth, rows, columns)
    for j in range(columns):
        db[j] = 0
    for i in range(rows):
        for j in range(columns):
            db[j] += dout[i * d_row + j * d_column]


@kernel(part=True)
def multiply(a, a_row, a_k, b, b_k, b_column, c, rows, depth, columns):
    """c (rows, columns) = a (rows, depth) @ b (depth, columns); a of any real dtype, b and c of one."""
    wide = padded(columns, b)
    panels = np.empty(wide * depth, b.dtype)
    pack(b, 0, b_k, b_column, depth, columns, panels, 0)
    block, product = np.empty(BLOCK * depth, b.dtype), np.empty(BLOCK * wide, b.dtype)
    width = panel_width(b)
    for i in range(0, rows, BLOCK):
        count = min(BLOCK, rows - i)
        copy_block(a, i * a_row, a_row, a_k, count, depth, block)
        product[:] = 0
        multiply_add(
            block, 0, depth, 1, count, depth, panels, 0, width, width * depth, columns, product, 0, wide, width, 1.0
        )
        for r in range(count):
            for j in range(columns):
                c[(i + r) * columns + j] = product[r * wide + j]


@kernel(part=True)
def copy_block(a, a0, row_step, k_step, rows, depth, block):
    """block (rows, depth) = a, converted to block's dtype."""
    for r in range(rows):
        for k in range(depth):
            block[r * depth + k] = a[a0 + r * row_step + k * k_step]
