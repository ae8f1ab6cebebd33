"""Batch normalisation of columns, as the book derives it (Ioffe and Szegedy, 2015): biased variance."""

from __future__ import annotations

import math

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, put
from .threads import begin, meet, run, share, threads_for

WORTH_A_THREAD = 150_000  # numbers


def batch_normalization_forward(x, gamma, beta, epsilon):
    """x (N, D), gamma, beta (D,) -> out = gamma * xn + beta (N, D), xc, xn (N, D), std, mean, variance (D,).

    xc = x - mean, std = sqrt(variance + epsilon), xn = xc / std; mean and (biased) variance are those of the columns.
    """
    rows, columns = x.shape
    out, xc, xn = (np.empty(x.shape, x.dtype) for _ in range(3))
    std, mean, variance = (np.empty(columns, x.dtype) for _ in range(3))
    run(
        _forward, threads_for(x.size, WORTH_A_THREAD), flat(x), flat(gamma), flat(beta), x.dtype.type(epsilon), rows,
        flat(out), flat(xc), flat(xn), std, mean, variance,
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
    dgamma, dbeta, room = (np.empty(dout.shape[1], dout.dtype) for _ in range(3))
    run(
        _backward, threads_for(dout.size, WORTH_A_THREAD), flat(dout), flat(gamma), flat(xc), flat(xn), flat(std),
        len(dout), flat(dx), dgamma, dbeta, room,
    )  # fmt: skip
    return dx, dgamma, dbeta


@kernel
def _forward(thread, threads, control, x, gamma, beta, epsilon, rows, out, xc, xn, std, mean, variance):
    begin(control, thread)
    columns = len(mean)
    first, end = share(columns, thread, threads)
    for j in range(first, end):
        put(mean, j, 0)
        put(variance, j, 0)
    for i in range(rows):
        for j in range(first, end):
            put(mean, j, at(mean, j) + at(x, i * columns + j))
    for j in range(first, end):
        put(mean, j, at(mean, j) / rows)
    for i in range(rows):
        for j in range(first, end):
            centred = at(x, i * columns + j) - at(mean, j)
            put(xc, i * columns + j, centred)
            put(variance, j, at(variance, j) + centred * centred)
    for j in range(first, end):
        put(variance, j, at(variance, j) / rows)
        put(std, j, math.sqrt(at(variance, j) + epsilon))
    for i in range(rows):
        for j in range(first, end):
            number = at(xc, i * columns + j) / at(std, j)
            put(xn, i * columns + j, number)
            put(out, i * columns + j, at(gamma, j) * number + at(beta, j))
    meet(control, 1, threads)


@kernel
def _apply(thread, threads, control, x, gamma, beta, mean, std, rows, out):
    begin(control, thread)
    columns = len(mean)
    first, end = share(rows, thread, threads)
    for i in range(first, end):
        for j in range(columns):
            number = (at(x, i * columns + j) - at(mean, j)) / at(std, j)
            put(out, i * columns + j, at(gamma, j) * number + at(beta, j))
    meet(control, 1, threads)


@kernel
def _backward(thread, threads, control, dout, gamma, xc, xn, std, rows, dx, dgamma, dbeta, room):
    """The book's steps, column by column: dstd is summed up in `room`, and then dmu."""
    begin(control, thread)
    columns, half, two = len(std), std.dtype.type(0.5), std.dtype.type(2)
    first, end = share(columns, thread, threads)
    for j in range(first, end):
        put(dgamma, j, 0)
        put(dbeta, j, 0)
        put(room, j, 0)
    for i in range(rows):
        for j in range(first, end):
            number = at(dout, i * columns + j)
            put(dbeta, j, at(dbeta, j) + number)
            put(dgamma, j, at(dgamma, j) + at(xn, i * columns + j) * number)
            put(room, j, at(room, j) - at(gamma, j) * number * at(xc, i * columns + j) / (at(std, j) * at(std, j)))
    for j in range(first, end):
        put(room, j, two / rows * (half * at(room, j) / at(std, j)))
    for i in range(rows):
        for j in range(first, end):
            put(dx, i * columns + j, at(gamma, j) * at(dout, i * columns + j) / at(std, j)
                + at(xc, i * columns + j) * at(room, j))  # fmt: skip
    for j in range(first, end):
        put(room, j, 0)
    for i in range(rows):
        for j in range(first, end):
            put(room, j, at(room, j) + at(dx, i * columns + j))
    for j in range(first, end):
        put(room, j, at(room, j) / rows)
    for i in range(rows):
        for j in range(first, end):
            put(dx, i * columns + j, at(dx, i * columns + j) - at(room, j))
    meet(control, 1, threads)
