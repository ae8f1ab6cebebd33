"""Batch normalisation of columns, as the book derives it (Ioffe and Szegedy, 2015): biased variance."""

from __future__ import annotations

import math

import numpy as np

from ..runtime.arrays import empty, flat
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, store_scalar
from ..runtime.sums import LEVELS, add_to_sum, begin_sums, end_row, end_sums
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 150_000  # numbers


def batch_normalization_forward(x, gamma, beta, epsilon):
    """x (N, D), gamma, beta (D,) -> out = gamma * xn + beta (N, D), xc, xn (N, D), std, mean, variance (D,).

    xc = x - mean, std = sqrt(variance + epsilon), xn = xc / std; mean and (biased) variance are those of the columns.
    """
    rows, columns = x.shape
    out, xc, xn = empty(x.shape, x.dtype), empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    std, mean, variance = empty(columns, x.dtype), empty(columns, x.dtype), empty(columns, x.dtype)
    threads, sums = threads_for(x.size, PARALLEL_THRESHOLD), empty(LEVELS * columns, x.dtype)
    results, parameters = (flat(out), flat(xc), flat(xn)), (flat(gamma), flat(beta))
    run(_forward, threads, results, (std, mean, variance), flat(x), parameters, float(epsilon), rows, sums)
    return out, xc, xn, std, mean, variance


def batch_normalization_apply(x, gamma, beta, mean, variance, epsilon):
    """x (N, D), the rest (D,) -> gamma * (x - mean) / sqrt(variance + epsilon) + beta, (N, D)."""
    out = empty(x.shape, x.dtype)
    std = np.sqrt(variance + variance.dtype.type(epsilon))
    parameters = flat(gamma), flat(beta), flat(mean), flat(std)
    run(_apply, threads_for(x.size, PARALLEL_THRESHOLD), flat(out), flat(x), parameters, len(x))
    return out


def batch_normalization_backward(dout, gamma, xc, xn, std):
    """dout (N, D), gamma (D,), the rest from forward -> dx (N, D), dgamma, dbeta (D,)."""
    dx = empty(dout.shape, dout.dtype)
    columns = dout.shape[1]
    dgamma, dbeta, scratch = (empty(LEVELS * columns, dout.dtype) for _ in range(3))
    threads, forward = threads_for(dout.size, PARALLEL_THRESHOLD), (flat(gamma), flat(xc), flat(xn), flat(std))
    run(_backward, threads, flat(dx), (dgamma, dbeta), flat(dout), forward, len(dout), scratch)
    return dx, dgamma[:columns].copy(), dbeta[:columns].copy()


@parallel_kernel
def _forward(work, results, statistics, x, parameters, epsilon, rows, sums):
    """results: out, xc, xn; statistics: std, mean, variance; parameters: gamma, beta."""
    (out, xc, xn), (std, mean, variance), (gamma, beta) = results, statistics, parameters
    columns = len(mean)
    for first, end in chunks(work, 1, columns):
        begin_sums(sums, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                add_to_sum(sums, j, columns, load_scalar(x, i * columns + j))
            end_row(sums, first, end, columns, i)
        end_sums(sums, first, end, columns)
        for j in range(first, end):
            store_scalar(mean, j, load_scalar(sums, j) / rows)
        begin_sums(sums, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                centred = load_scalar(x, i * columns + j) - load_scalar(mean, j)
                store_scalar(xc, i * columns + j, centred)
                add_to_sum(sums, j, columns, centred * centred)
            end_row(sums, first, end, columns, i)
        end_sums(sums, first, end, columns)
        for j in range(first, end):
            store_scalar(variance, j, load_scalar(sums, j) / rows)
            store_scalar(std, j, math.sqrt(load_scalar(variance, j) + std.dtype.type(epsilon)))
        for i in range(rows):
            for j in range(first, end):
                number = load_scalar(xc, i * columns + j) / load_scalar(std, j)
                store_scalar(xn, i * columns + j, number)
                store_scalar(out, i * columns + j, load_scalar(gamma, j) * number + load_scalar(beta, j))


@parallel_kernel
def _apply(work, out, x, parameters, rows):
    gamma, beta, mean, std = parameters
    columns = len(mean)
    for first, end in chunks(work, 1, rows):
        for i in range(first, end):
            for j in range(columns):
                number = (load_scalar(x, i * columns + j) - load_scalar(mean, j)) / load_scalar(std, j)
                store_scalar(out, i * columns + j, load_scalar(gamma, j) * number + load_scalar(beta, j))


@parallel_kernel
def _backward(work, dx, gradients, dout, forward, rows, scratch):
    """The book's steps, column by column: dstd is summed up in `scratch`, and then dmu.

    gradients: dgamma, dbeta; forward: gamma, xc, xn, std. Divisions are by columns, not by numbers: 100x100 takes 11 us so,
    and 13 otherwise.
    """
    gamma, xc, _, std = forward
    columns, half, two = len(std), std.dtype.type(0.5), std.dtype.type(2)
    for first, end in chunks(work, 1, columns):
        sum_gradients(gradients, scratch, dout, forward, rows, first, end)
        for j in range(first, end):
            spread = load_scalar(std, j)
            scale = load_scalar(gamma, j) / spread
            dstd = -scale / spread * load_scalar(scratch, j)
            store_scalar(scratch, j, two / rows * (half * dstd / spread))
            store_scalar(scratch, columns + j, scale)
        for i in range(rows):
            for j in range(first, end):
                place = i * columns + j
                direct = load_scalar(scratch, columns + j) * load_scalar(dout, place)
                store_scalar(dx, place, direct + load_scalar(xc, place) * load_scalar(scratch, j))
        take_off_mean(dx, scratch, rows, columns, first, end)


@device
def sum_gradients(gradients, scratch, dout, forward, rows, first, end):
    """dgamma, dbeta and, in `scratch`, the sum of dout * xc, of the columns from `first` to `end`."""
    (dgamma, dbeta), (_, xc, xn, std) = gradients, forward
    columns = len(std)
    for sums in (dgamma, dbeta, scratch):
        begin_sums(sums, first, end, columns)
    for i in range(rows):
        for j in range(first, end):
            place = i * columns + j
            number = load_scalar(dout, place)
            add_to_sum(dbeta, j, columns, number)
            add_to_sum(dgamma, j, columns, load_scalar(xn, place) * number)
            add_to_sum(scratch, j, columns, load_scalar(xc, place) * number)
        for sums in (dgamma, dbeta, scratch):
            end_row(sums, first, end, columns, i)
    for sums in (dgamma, dbeta, scratch):
        end_sums(sums, first, end, columns)


@device
def take_off_mean(dx, scratch, rows, columns, first, end):
    """dx -= the mean of each column, from `first` to `end`."""
    begin_sums(scratch, first, end, columns)
    for i in range(rows):
        for j in range(first, end):
            add_to_sum(scratch, j, columns, load_scalar(dx, i * columns + j))
        end_row(scratch, first, end, columns, i)
    end_sums(scratch, first, end, columns)
    for j in range(first, end):
        store_scalar(scratch, j, load_scalar(scratch, j) / rows)
    for i in range(rows):
        for j in range(first, end):
            store_scalar(dx, i * columns + j, load_scalar(dx, i * columns + j) - load_scalar(scratch, j))
