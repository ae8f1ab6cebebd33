"""Affine (fully connected): x @ W + b."""

from __future__ import annotations

import numpy as np

from .arrays import flat, matrix
from .compiler import kernel
from .matmul import SCRATCH, multiply_add_copied, pack, padded, panel_width


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
    width, wide = panel_width(b), padded(columns, b)
    panels, scratch = np.empty(wide * depth, b.dtype), np.empty(SCRATCH, b.dtype)
    pack(b, 0, b_k, b_column, depth, columns, panels, 0)
    product = c if wide == columns else np.empty(rows * wide, b.dtype)
    for i in range(rows * wide):
        product[i] = 0
    multiply_add_copied(
        a, 0, a_row, a_k, rows, depth, panels, 0, width, width * depth, wide // width,
        product, 0, wide, width, b.dtype.type(1), scratch, 0,
    )  # fmt: skip
    if wide != columns:
        for i in range(rows):
            for j in range(columns):
                c[i * columns + j] = product[i * wide + j]
