"""Max pooling: the largest number of each window, and where it was."""

from __future__ import annotations

import numpy as np

from .arrays import flat, scratch, strided
from .compiler import kernel
from .simd import at, choose_later, every_second, fill, kept_apart, lanes, load, put, store
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 200_000  # numbers


def pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW), arg_max (N * OH * OW * C,): the place of the first maximum in its window.

    OH = (H + 2 pad - pool_h) // stride + 1; the padding is zeros. NaN is larger than any number. `arg_max` counts from 0
    to pool_h * pool_w - 1, in the order (N, OH, OW, C).
    """
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - pool_h) // stride + 1, (width + 2 * pad - pool_w) // stride + 1
    out = np.empty((count, channels, *rows), x.dtype)
    arg_max = np.empty(out.size, np.int64)
    memory, steps = strided(x)
    threads = threads_for(x.size, WORTH_A_THREAD)
    places = scratch(threads * rows[1], x.dtype)
    run(_forward, threads, memory, steps, x.shape, flat(out), arg_max, places, rows, (pool_h, pool_w), stride, pad)
    return out, arg_max


def pooling_backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW), arg_max as forward gave it -> dx (x_shape): each number of dout where its maximum was."""
    dx = np.empty(x_shape, dout.dtype)
    memory, steps = strided(dout)
    threads = threads_for(dx.size, WORTH_A_THREAD)
    window = pool_h, pool_w
    run(_backward, threads, memory, steps, dout.shape, flat(arg_max), flat(dx), dx.shape, window, stride, pad)
    return dx


@kernel
def _forward(thread, threads, control, x, steps, shape, out, arg_max, places, rows, window, stride, pad):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0] * rows[0], part, threads)
        pairs = pad == 0 and stride == 2 and window[0] == 2 and window[1] == 2 and steps[3] == 1
        for line in range(first, end):
            n, top = line // rows[0], line % rows[0] * stride - pad
            for c in range(shape[1]):
                start = n * steps[0] + c * steps[1] + top * steps[2]
                target = ((n * shape[1] + c) * rows[0] + line % rows[0]) * rows[1]
                place_at, done = line * rows[1] * shape[1] + c, 0
                if pairs:
                    done = pool_pairs(x, start, steps[2], rows[1], out, target, places, thread * rows[1])
                    for i in range(done):
                        put(arg_max, place_at + i * shape[1], np.int64(at(places, thread * rows[1] + i)))
                for i in range(done, rows[1]):
                    left = i * stride - pad
                    largest, place = pool_window(
                        x, start + left * steps[3], steps[2], steps[3], top, left, shape[2], shape[3], window
                    )
                    put(out, target + i, largest)
                    put(arg_max, place_at + i * shape[1], place)
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def pool_pairs(x, start, row_step, count, out, target, places, p0):
    """`count` windows of 2 x 2 side by side, if they fill a vector; how many were done. The last vector may overlap.

    Scalar code mispredicts half of its branches: 30 ns a window, against 5.
    """
    width = lanes(x)
    if count < width:
        return 0
    for i in range(0, count, width):
        i = min(i, count - width)
        upper, lower = start + 2 * i, start + 2 * i + row_step
        a, b = load(x, upper), load(x, upper + width)
        left, right = every_second(a, b, 0), every_second(a, b, 1)
        a, b = load(x, lower), load(x, lower + width)
        left_below, right_below = every_second(a, b, 0), every_second(a, b, 1)
        top = choose_later(right, left, right, left)
        top_place = choose_later(right, left, fill(x, 1), fill(x, 0))
        below = choose_later(right_below, left_below, right_below, left_below)
        below_place = choose_later(right_below, left_below, fill(x, 3), fill(x, 2))
        store(out, target + i, choose_later(below, top, below, top))
        store(places, p0 + i, choose_later(below, top, below_place, top_place))
    return count


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
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0], part, threads)
        put_back(dout, steps, shape, arg_max, dx, size, window, stride, pad, first, end)
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def put_back(dout, steps, shape, arg_max, dx, size, window, stride, pad, first, end):
    """The images from `first` to `end`."""
    kept_apart()
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
