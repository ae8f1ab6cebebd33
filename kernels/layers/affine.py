"""Affine (fully connected): x @ W + b.

All three products, x @ W, dout @ W.T and x.T @ dout, are made by one kernel (gemm/shared_product.py), with other steps.
Products of very few rows do not repay packing: `_few_rows`.

Measured, float32 and float64, against packing the whole of a large b at first, and threads that had rows of their own only
where panels did not divide: (64, 3072) @ (3072, 512) 0.73 of the time, x.T @ dout of (10000, 784) and (10000, 50) 0.65 to
0.85, 1024 columns 0.87 to 0.98, small products the same.

What holds it back: OpenBLAS, whose threads wait in its own code, starts them sooner (5 us; here about 30, most of it
Python's), and 50 columns are computed as 56 or 64. For some 100 ms after a product of OpenBLAS's (in `fastbp run` 1
ms) a second thread brings nothing: OpenBLAS's own spin on that processor. At 1024 columns kernels reach 0.96 to
1.15 of NumPy's speed.
"""

from __future__ import annotations

import numpy as np

from ..gemm.matrices import Matrix, Span
from ..gemm.microkernel import row_kernel
from ..gemm.nonzero_columns import (
    FOUND_AT_ONCE,
    Buffers,
    Product,
    pack_strips,
    weights_gradient,
    workspace_and_buffers,
)
from ..gemm.nonzeros import Numbers, is_sparse, sparse_forward
from ..gemm.packing import panel_width, submatrix
from ..gemm.product import FEW_ROWS, dot
from ..gemm.shared_product import Place, Plan, multiply_chunk, plan_of, transposed
from ..runtime.arrays import empty, flat, matrix, workspace
from ..runtime.chunks import chunk_bounds, claimed, most_chunks
from ..runtime.compiler import device, kernel
from ..runtime.magnitude import is_finite
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.sums import LEVELS, add_to_sum, begin_sums, end_row, end_sums
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 600_000  # multiplications, 15 us on one core: from here on two threads take 0.6 to 0.8 of its time


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    out = sparse_forward(x, W, b) if is_sparse(x, W) else None
    return _product(_strided(x), _strided(W), flat(b), (*x.shape, W.shape[1])) if out is None else out


def affine_backward(dout, x, W, needs_dx=True):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,).

    dx is None if it is not needed.
    """
    (rows, depth), columns, dtype = x.shape, W.shape[1], W.dtype
    d, w, x_ = _strided(dout), _strided(W), _strided(x)
    zeros = np.zeros(max(depth, columns), dtype)
    if rows <= FEW_ROWS and rows * depth * columns < PARALLEL_THRESHOLD:
        dx = _product(d, _transposed(w), zeros, (rows, columns, depth)) if needs_dx else None
        dW = _product(_transposed(x_), d, zeros, (depth, rows, columns))
        db = empty(LEVELS * columns, dtype)
        _sum_rows(db, d, columns, rows)
        return dx, dW, db[:columns].copy()
    dx = empty((rows if needs_dx else 0, depth), dtype)
    dW, db = empty((depth, columns), dtype), empty(LEVELS * columns, dtype)
    sparse = dout.flags.c_contiguous and is_sparse(x, W) and is_finite(dout)
    threads = threads_for(rows * depth * columns, PARALLEL_THRESHOLD)
    plan_dx = _plan(d, _transposed(w), (rows, columns, depth), threads)
    plan_dW = _plan(_transposed(x_), d, (depth, rows, columns), threads)
    # one thread may be at dW while another is still at dx: their workspaces may not overlap
    each = max(plan_dx[0], plan_dW[0])
    plans = (each, *plan_dx[1:]), (each, *plan_dW[1:])
    scratch, of_x = workspace_and_buffers(threads * each, x_[0], (rows, columns), threads, dtype, sparse)
    run(
        _backward, threads, (dx.ravel(), dW.ravel(), db), (d, w, x_), zeros, (rows, depth, columns), plans, scratch,
        (sparse, *of_x),
    )  # fmt: skip
    return dx if needs_dx else None, dW, db[:columns].copy()


def _strided(array):
    """A two-dimensional array as the fields of a gemm.matrices.Matrix."""
    memory, row_step, column_step = matrix(array)
    return memory, 0, row_step, column_step


def _transposed(strided):
    array, start, row_step, column_step = strided
    return array, start, column_step, row_step


def _plan(a, b, sizes, threads):
    """The fields of a Plan."""
    return plan_of(sizes, threads, b[0].dtype, a[0].dtype, a[3] == 1, b[3] == 1)


def _product(a, b, bias, sizes):
    """a (rows, depth) @ b (depth, columns) + bias, (rows, columns); a of any real dtype, b and bias of one.

    a, b: the fields of a Matrix; sizes: rows, depth, columns.
    """
    rows, depth, columns = sizes
    dtype = b[0].dtype
    out = empty((rows, columns), dtype)
    if rows <= FEW_ROWS and columns >= 2 * VECTOR_BYTES // dtype.itemsize:
        _few_rows(out.ravel(), a, b, bias, sizes, workspace(depth, dtype))
        return out
    threads = threads_for(rows * depth * columns, PARALLEL_THRESHOLD)
    plan = _plan(a, b, sizes, threads)
    run(_multiply, threads, out.ravel(), a, b, bias, sizes, plan, workspace(threads * plan[0], dtype))
    return out


@parallel_kernel
def _multiply(work, out, a, b, bias, sizes, plan, workspace):
    thread, threads, _ = work
    plan, is_packed = Plan(*plan), False
    for chunk in claimed(work, 1, threads):
        place = Place(chunk, threads, thread, is_packed)
        multiply_chunk(out, Matrix(*a), Matrix(*b), bias, sizes, plan, place, workspace)
        is_packed = plan.by_rows


@parallel_kernel
def _backward(work, gradients, inputs, zeros, sizes, plans, workspace, sparse_x):
    """All three gradients at once: waking a thread costs as much as one of them may take.

    gradients: dx, dW, db, dx empty where it is not needed; inputs: dout, W, x; plans: for dx, dW; sparse_x: whether x is
    sparse, and the fields of its Buffers.
    """
    thread, threads, _ = work
    dx, dW, db = gradients
    d, w, x = Matrix(*inputs[0]), Matrix(*inputs[1]), Matrix(*inputs[2])
    rows, depth, columns = sizes
    sparse, of_x, phase = sparse_x[0], Buffers(*sparse_x[1:]), 1
    product = Product(Numbers(x.array, of_x.bits, 0, depth), rows, columns)
    dx_chunks = threads if len(dx) > 0 else 0
    dW_chunks = most_chunks(threads) - threads if sparse else threads
    plan_dx, plan_dW = Plan(*plans[0]), Plan(*plans[1])
    dx_is_packed = dW_is_packed = False
    if sparse:
        for chunk in claimed(work, phase, dx_chunks + dW_chunks):
            low, high = chunk_bounds(rows, chunk, dx_chunks + dW_chunks)
            pack_strips(of_x.strips, d.array, rows, columns, low, high)
        phase += 1
    for chunk in claimed(work, phase, dx_chunks + dW_chunks):
        if chunk < dx_chunks:
            place, sizes_of_dx = Place(chunk, threads, thread, dx_is_packed), (rows, columns, depth)
            multiply_chunk(dx, d, transposed(w), zeros, sizes_of_dx, plan_dx, place, workspace)
            dx_is_packed, dW_is_packed = plan_dx.by_rows, False
        elif sparse:
            bounds = chunk_bounds((depth + FOUND_AT_ONCE - 1) // FOUND_AT_ONCE, chunk - dx_chunks, dW_chunks)
            weights_gradient(dW, product, bounds, thread, of_x)
        else:
            place, sizes_of_dW = Place(chunk - dx_chunks, threads, thread, dW_is_packed), (depth, rows, columns)
            multiply_chunk(dW, transposed(x), d, zeros, sizes_of_dW, plan_dW, place, workspace)
            dx_is_packed, dW_is_packed = False, plan_dW.by_rows
        if chunk == 0:
            sum_rows(db, d, columns, rows)


@kernel
def _few_rows(out, a, b, bias, sizes, row):
    """out = a @ b + bias, straight from b: along its rows where they are contiguous, else as sums of products."""
    rows, depth, columns = sizes
    width = panel_width(out)
    a, b = Matrix(*a), Matrix(*b)
    for i in range(rows):
        for k in range(depth):
            store_scalar(row, k, load_scalar(a.array, a.start + i * a.row_step + k * a.column_step))
        if b.column_step == 1:
            for j in range(0, columns, width):
                left = min(j, columns - width)  # the last panel may overlap the one before it
                row_kernel(
                    Span(out, i * columns + left), Matrix(row, 0, np.intp(0), np.intp(1)), submatrix(b, 0, left),
                    Span(bias, left), depth,
                )  # fmt: skip
        else:
            for j in range(columns):
                total = load_scalar(bias, j) + dot(Span(row, 0), submatrix(b, 0, j), depth)
                store_scalar(out, i * columns + j, total)


@kernel
def _sum_rows(total, a, columns, rows):
    sum_rows(total, Matrix(*a), columns, rows)


@device
def sum_rows(total, a, columns, rows):
    """total[:columns] = the sum of the rows of a; the rest of total, LEVELS * columns, is workspace."""
    begin_sums(total, 0, columns, columns)
    for i in range(rows):
        for j in range(columns):
            add_to_sum(total, j, columns, load_scalar(a.array, a.start + i * a.row_step + j * a.column_step))
        end_row(total, 0, columns, columns, i)
    end_sums(total, 0, columns, columns)
