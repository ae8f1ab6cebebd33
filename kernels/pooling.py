"""Max pooling: the largest number of each window, and where it was."""

from __future__ import annotations

import numpy as np

from .arrays import flat, strided
from .compiler import kernel
from .simd import at, put
from .threads import begin, meet, run, share, threads_for

WORTH_A_THREAD = 200_000  # numbers


def pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW), arg_max (N * OH * OW * C,): the place of the first maximum in its window.

    OH = (H + 2 pad - pool_h) // stride + 1; the padding is zeros. NaN is larger than any number. `arg_max` counts from 0
    to pool_h * pool_w - 1, and lies in memory as `out` does: (N, OH, OW, C).
    """
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - pool_h) // stride + 1, (width + 2 * pad - pool_w) // stride + 1
    out = np.empty((count, *rows, channels), x.dtype)
    arg_max = np.empty(out.size, np.int64)
    memory, steps = strided(x)
    threads = threads_for(x.size, WORTH_A_THREAD)
    run(_forward, threads, memory, steps, x.shape, out.reshape(-1), arg_max, rows, (pool_h, pool_w), stride, pad)
    return out.transpose(0, 3, 1, 2), arg_max


def pooling_backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW), arg_max as forward gave it -> dx (x_shape): each number of dout where its maximum was."""
    dx = np.zeros(x_shape, dout.dtype)
    memory, steps = strided(dout)
    threads = threads_for(dx.size, WORTH_A_THREAD)
    window = pool_h, pool_w
    run(_backward, threads, memory, steps, dout.shape, flat(arg_max), flat(dx), dx.shape, window, stride, pad)
    return dx


@kernel
def _forward(thread, threads, control, x, steps, shape, out, arg_max, rows, window, stride, pad):
    begin(control, thread)
    first, end = share(shape[0] * rows[0], thread, threads)
    for line in range(first, end):
        n, top = line // rows[0], line % rows[0] * stride - pad
        for c in range(shape[1]):
            start = n * steps[0] + c * steps[1]
            for i in range(rows[1]):
                left, target = i * stride - pad, (line * rows[1] + i) * shape[1] + c
                largest, place = x.dtype.type(0), -1
                for y in range(top, top + window[0]):
                    for j in range(left, left + window[1]):
                        inside = 0 <= y < shape[2] and 0 <= j < shape[3]
                        number = at(x, start + y * steps[2] + j * steps[3]) if inside else x.dtype.type(0)
                        # the first number, a larger one, or the first NaN
                        if place < 0 or number > largest or (number != number and largest == largest):
                            largest, place = number, (y - top) * window[1] + j - left
                put(out, target, largest)
                put(arg_max, target, place)
    meet(control, 1, threads)


@kernel
def _backward(thread, threads, control, dout, steps, shape, arg_max, dx, size, window, stride, pad):
    begin(control, thread)
    first, end = share(shape[0], thread, threads)
    for n in range(first, end):
        for c in range(shape[1]):
            image = (n * size[1] + c) * size[2] * size[3]
            for y in range(shape[2]):
                for i in range(shape[3]):
                    place = at(arg_max, ((n * shape[2] + y) * shape[3] + i) * shape[1] + c)
                    top, left = y * stride - pad + place // window[1], i * stride - pad + place % window[1]
                    if 0 <= place < window[0] * window[1] and 0 <= top < size[2] and 0 <= left < size[3]:
                        target = image + top * size[3] + left
                        number = at(dout, n * steps[0] + c * steps[1] + y * steps[2] + i * steps[3])
                        put(dx, target, at(dx, target) + number)
    meet(control, 1, threads)
