"""Max pooling: the largest number of each window, and where it was."""

from __future__ import annotations

import numpy as np

from .arrays import flat, strided
from .compiler import kernel
from .simd import as_number, at, put
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
    dx = np.empty(x_shape, dout.dtype)
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
            start, target = n * steps[0] + c * steps[1] + top * steps[2], line * rows[1] * shape[1] + c
            if pad == 0 and window[0] == 2 and window[1] == 2:
                pool_pairs(x, start, steps[2], steps[3], stride, rows[1], out, arg_max, target, shape[1])
            else:
                for i in range(rows[1]):
                    left = i * stride - pad
                    largest, place = pool_window(
                        x, start + left * steps[3], steps[2], steps[3], top, left, shape[2], shape[3], window
                    )
                    put(out, target, largest)
                    put(arg_max, target, place)
                    target += shape[1]
    meet(control, 1, threads)


@kernel(part=True)
def pool_pairs(x, start, row_step, step, stride, count, out, arg_max, target, target_step):
    """A line of windows of 2 x 2, by far the most frequent: without branches, half of which would be mispredicted."""
    for _ in range(count):
        below = start + row_step
        upper = as_number(is_larger(at(x, start + step), at(x, start)))
        lower = as_number(is_larger(at(x, below + step), at(x, below)))
        down = as_number(is_larger(at(x, below + lower * step), at(x, start + upper * step)))
        right = upper + down * (lower - upper)
        put(out, target, at(x, start + down * row_step + right * step))
        put(arg_max, target, 2 * down + right)
        start, target = start + stride * step, target + target_step


@kernel(part=True)
def pool_window(x, start, row_step, step, top, left, height, width, window):
    """The largest number of a window that begins at x[start], and its place; where the image has ended there are zeros."""
    largest, place = x.dtype.type(0), -1
    for y in range(window[0]):
        for i in range(window[1]):
            inside = (0 <= top + y < height) and (0 <= left + i < width)
            number = at(x, start + y * row_step + i * step) if inside else x.dtype.type(0)
            if place < 0 or is_larger(number, largest):
                largest, place = number, y * window[1] + i
    return largest, place


@kernel(part=True)
def is_larger(number, other):
    """Whether number comes after other: it is larger, or NaN while the other is not."""
    return (number > other) | ((number != number) & (other == other))


@kernel
def _backward(thread, threads, control, dout, steps, shape, arg_max, dx, size, window, stride, pad):
    begin(control, thread)
    first, end = share(shape[0], thread, threads)
    for n in range(first, end):
        for c in range(shape[1]):
            image = (n * size[1] + c) * size[2] * size[3]
            for i in range(image, image + size[2] * size[3]):
                put(dx, i, 0)
            source, place_at = n * steps[0] + c * steps[1], n * shape[2] * shape[3] * shape[1] + c
            for y in range(shape[2]):
                for i in range(shape[3]):
                    place = at(arg_max, place_at)
                    down = place // window[1] if window[1] != 2 else place >> 1
                    top, left = y * stride - pad + down, i * stride - pad + place - down * window[1]
                    if 0 <= place < window[0] * window[1] and 0 <= top < size[2] and 0 <= left < size[3]:
                        target = image + top * size[3] + left
                        number = at(dout, source + y * steps[2] + i * steps[3])
                        put(dx, target, at(dx, target) + number)
                    place_at += shape[1]
    meet(control, 1, threads)
