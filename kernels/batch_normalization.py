"""Batch normalisation of columns, as the book derives it (Ioffe and Szegedy, 2015): biased variance."""

from __future__ import annotations

import math

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, put
from .sums import LEVELS, add_to_sum, begin_sums, end_row, end_sums
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 150_000  # numbers


def batch_normalization_forward(x, gamma, beta, epsilon):
    """x (N, D), gamma, beta (D,) -> out = gamma * xn + beta (N, D), xc, xn (N, D), std, mean, variance (D,).

    xc = x - mean, std = sqrt(variance + epsilon), xn = xc / std; mean and (biased) variance are those of the columns.
    """
    rows, columns = x.shape
    out, xc, xn = (np.empty(x.shape, x.dtype) for _ in range(3))
    std, mean, variance = (np.empty(columns, x.dtype) for _ in range(3))
    sums = np.empty(LEVELS * columns, x.dtype)
    run(
        _forward, threads_for(x.size, WORTH_A_THREAD), flat(x), flat(gamma), flat(beta), x.dtype.type(epsilon), rows,
        flat(out), flat(xc), flat(xn), std, mean, variance, sums,
    )  # fmt: skip
    return out, xc, xn, std, mean, variance


def batch_normalization_apply(x, gamma, beta, mean, variance, epsilon):
    """x (N, D), the rest (D,) -> gamma * (x - mean) / sqrt(variance + epsilon) + beta, (N, D)."""
    out = np.empty(x.shape, x.dtype)
    std = np.sqrt(variance + variance.dtype.type(epsilon))
    run(
        _apply, threads_for(x.size, WORTH_A_THREAD), flat(x), flat(gamma), flat(beta), flat(mean), flat(std), len(x),
        flat(out),
    )  # fmt: skip
    return out


def batch_normalization_backward(dout, gamma, xc, xn, std):
    """dout (N, D), gamma (D,), the rest from forward -> dx (N, D), dgamma, dbeta (D,)."""
    dx = np.empty(dout.shape, dout.dtype)
    columns = dout.shape[1]
    dgamma, dbeta, room = (np.empty(LEVELS * columns, dout.dtype) for _ in range(3))
    run(
        _backward, threads_for(dout.size, WORTH_A_THREAD), flat(dout), flat(gamma), flat(xc), flat(xn), flat(std),
        len(dout), flat(dx), dgamma, dbeta, room,
    )  # fmt: skip
    return dx, dgamma[:columns].copy(), dbeta[:columns].copy()


@kernel
def _forward(thread, threads, control, x, gamma, beta, epsilon, rows, out, xc, xn, std, mean, variance, sums):
    columns = len(mean)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(columns, part, threads)
        begin_sums(sums, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                add_to_sum(sums, j, columns, at(x, i * columns + j))
            end_row(sums, first, end, columns, i)
        end_sums(sums, first, end, columns)
        for j in range(first, end):
            put(mean, j, at(sums, j) / rows)
        begin_sums(sums, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                centred = at(x, i * columns + j) - at(mean, j)
                put(xc, i * columns + j, centred)
                add_to_sum(sums, j, columns, centred * centred)
            end_row(sums, first, end, columns, i)
        end_sums(sums, first, end, columns)
        for j in range(first, end):
            put(variance, j, at(sums, j) / rows)
            put(std, j, math.sqrt(at(variance, j) + epsilon))
        for i in range(rows):
            for j in range(first, end):
                number = at(xc, i * columns + j) / at(std, j)
                put(xn, i * columns + j, number)
                put(out, i * columns + j, at(gamma, j) * number + at(beta, j))
        part = next_part(control, thread, threads, part)


@kernel
def _apply(thread, threads, control, x, gamma, beta, mean, std, rows, out):
    columns = len(mean)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(rows, part, threads)
        for i in range(first, end):
            for j in range(columns):
                number = (at(x, i * columns + j) - at(mean, j)) / at(std, j)
                put(out, i * columns + j, at(gamma, j) * number + at(beta, j))
        part = next_part(control, thread, threads, part)


@kernel
def _backward(thread, threads, control, dout, gamma, xc, xn, std, rows, dx, dgamma, dbeta, room):
    """The book's steps, column by column: dstd is summed up in `room`, and then dmu."""
    columns, half, two = len(std), std.dtype.type(0.5), std.dtype.type(2)
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(columns, part, threads)
        for sums in (dgamma, dbeta, room):
            begin_sums(sums, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                number = at(dout, i * columns + j)
                add_to_sum(dbeta, j, columns, number)
                add_to_sum(dgamma, j, columns, at(xn, i * columns + j) * number)
                add_to_sum(
                    room, j, columns, -at(gamma, j) * number * at(xc, i * columns + j) / (at(std, j) * at(std, j))
                )
            for sums in (dgamma, dbeta, room):
                end_row(sums, first, end, columns, i)
        for sums in (dgamma, dbeta, room):
            end_sums(sums, first, end, columns)
        for j in range(first, end):
            put(room, j, two / rows * (half * at(room, j) / at(std, j)))
        for i in range(rows):
            for j in range(first, end):
                put(dx, i * columns + j, at(gamma, j) * at(dout, i * columns + j) / at(std, j)
                    + at(xc, i * columns + j) * at(room, j))  # fmt: skip
        begin_sums(room, first, end, columns)
        for i in range(rows):
            for j in range(first, end):
                add_to_sum(room, j, columns, at(dx, i * columns + j))
            end_row(room, first, end, columns, i)
        end_sums(room, first, end, columns)
        for j in range(first, end):
            put(room, j, at(room, j) / rows)
        for i in range(rows):
            for j in range(first, end):
                put(dx, i * columns + j, at(dx, i * columns + j) - at(room, j))
        part = next_part(control, thread, threads, part)
