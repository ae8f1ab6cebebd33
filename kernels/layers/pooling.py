"""Pooling: the largest number of each window, and where it was; or the mean of each window."""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat, strided, workspace
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import (
    as_number,
    deinterleave,
    fill,
    lanes,
    load,
    load_scalar,
    noinline,
    select_later,
    store,
    store_scalar,
)
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 200_000  # numbers
SHORTEST_PAIRS = (
    8  # windows in a row, for `scatter_pairs`: 100x30x24x24 0.33 ms instead of 0.46, 100x64x8x8 0.14, not 0.11
)


def pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW), arg_max (N * OH * OW * C,): the place of the first maximum in its window.

    OH = (H + 2 pad - pool_h) // stride + 1; the padding is zeros. NaN is larger than any number. `arg_max` counts from 0
    to pool_h * pool_w - 1, in the order (N, OH, OW, C).
    """
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - pool_h) // stride + 1, (width + 2 * pad - pool_w) // stride + 1
    out = empty((count, channels, *rows), x.dtype)
    arg_max = empty(out.size, np.int64)
    memory, steps = strided(x)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    line = max(rows[1], 2 * VECTOR_BYTES // x.itemsize)  # scratch of a thread, for `pool_pairs`
    results, window = (flat(out), arg_max), (pool_h, pool_w, stride, pad)
    run(_forward, threads, results, memory, steps, x.shape, rows, window, (workspace(threads * line, x.dtype), line))
    return out, arg_max


def pooling_backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW), arg_max as forward gave it -> dx (x_shape): each number of dout where its maximum was."""
    dx = empty(x_shape, dout.dtype)
    memory, steps = strided(dout)
    threads = threads_for(dx.size, PARALLEL_THRESHOLD)
    window = pool_h, pool_w, stride, pad
    run(_backward, threads, flat(dx), dx.shape, memory, steps, dout.shape, flat(arg_max), window)
    return dx


def average_pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW): the mean of each window, with zeros around the images."""
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - pool_h) // stride + 1, (width + 2 * pad - pool_w) // stride + 1
    out = empty((count, channels, *rows), x.dtype)
    memory, steps = strided(x)
    threads = threads_for(x.size, PARALLEL_THRESHOLD)
    run(_average, threads, flat(out), memory, steps, x.shape, rows, (pool_h, pool_w, stride, pad))
    return out


def average_pooling_backward(dout, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW) -> dx (x_shape): each number of dout shared out to its window."""
    dx = empty(x_shape, dout.dtype)
    memory, steps = strided(dout)
    threads = threads_for(dx.size, PARALLEL_THRESHOLD)
    run(_share_out, threads, flat(dx), dx.shape, memory, steps, dout.shape, (pool_h, pool_w, stride, pad))
    return dx


@parallel_kernel
def _forward(work, results, x, steps, shape, rows, window, scratch):
    """results: out, arg_max; window: its height and width, stride, pad; scratch: an array, and a thread's length of it."""
    (out, arg_max), (high, wide, stride, pad), thread = results, window, work[0]
    own = scratch[0], thread * scratch[1]
    for first, end in chunks(work, 1, shape[0] * rows[0]):
        pairs = pad == 0 and stride == 2 and high == 2 and wide == 2 and steps[3] == 1
        for line in range(first, end):
            n, top = line // rows[0], line % rows[0] * stride - pad
            for c in range(shape[1]):
                start = n * steps[0] + c * steps[1] + top * steps[2]
                target = ((n * shape[1] + c) * rows[0] + line % rows[0]) * rows[1]
                place_at = line * rows[1] * shape[1] + c
                if pairs:
                    pool_pairs((out, target), (arg_max, place_at, shape[1]), own, x, start, steps[2], rows[1])
                    continue
                for i in range(rows[1]):
                    left = i * stride - pad
                    window_start = start + left * steps[3]
                    largest, place = pool_window(x, window_start, steps, (top, left), shape, (high, wide))
                    store_scalar(out, target + i, largest)
                    store_scalar(arg_max, place_at + i * shape[1], place)


@device
def pool_pairs(results, places, own, x, start, row_step, count):
    """`count` windows of 2 x 2 side by side; results: out and where in it; places: arg_max, where in it, the
    step there; own: scratch of two vectors or `count` numbers, and where it begins.

    By vectors: the last one may overlap the one before it, and where there are too few windows for one, its second half
    overlaps the first. 100x30x24x24, float32, 16 lanes, two threads: 3.5 ms by scalar windows with branches, 0.7 so.
    """
    (out, target), (arg_max, place_at, step), (scratch, s0), width = results, places, own, lanes(x)
    if count >= width:
        for i in range(0, count, width):
            i = min(i, count - width)
            pool_vector((out, target + i), (scratch, s0 + i), x, start + 2 * i, row_step, width)
        for i in range(count):
            store_scalar(arg_max, place_at + i * step, np.int64(load_scalar(scratch, s0 + i)))
    elif 2 * count >= width:
        pool_vector((scratch, s0 + width), (scratch, s0), x, start, row_step, 2 * count - width)
        for i in range(count):
            lane = i if 2 * i < width else width - count + i
            store_scalar(out, target + i, load_scalar(scratch, s0 + width + lane))
            store_scalar(arg_max, place_at + i * step, np.int64(load_scalar(scratch, s0 + lane)))
    else:
        for i in range(count):
            largest, place = pool_pair(x, start + 2 * i, row_step)
            store_scalar(out, target + i, largest)
            store_scalar(arg_max, place_at + i * step, place)


@device
def pool_vector(results, places, x, upper, row_step, second):
    """As many windows as a vector has lanes, half of them from `upper` on, half from `second` numbers further."""
    lower = upper + row_step
    a, b = load(x, upper), load(x, upper + second)
    left, right = deinterleave(a, b, 0), deinterleave(a, b, 1)
    a, b = load(x, lower), load(x, lower + second)
    left_below, right_below = deinterleave(a, b, 0), deinterleave(a, b, 1)
    top = select_later(right, left, right, left)
    top_place = select_later(right, left, fill(x, 1), fill(x, 0))
    below = select_later(right_below, left_below, right_below, left_below)
    below_place = select_later(right_below, left_below, fill(x, 3), fill(x, 2))
    store(results[0], results[1], select_later(below, top, below, top))
    store(places[0], places[1], select_later(below, top, below_place, top_place))


@device
def pool_pair(x, upper, row_step):
    """The largest number of a window of 2 x 2, and its place, without branches, half of which would be mispredicted."""
    left, right = load_scalar(x, upper), load_scalar(x, upper + 1)
    left_below, right_below = load_scalar(x, upper + row_step), load_scalar(x, upper + row_step + 1)
    is_right, is_right_below = is_larger(right, left), is_larger(right_below, left_below)
    top, below = right if is_right else left, right_below if is_right_below else left_below
    is_below = is_larger(below, top)
    place, place_below = as_number(is_right), 2 + as_number(is_right_below)
    return below if is_below else top, place + as_number(is_below) * (place_below - place)


@device
def pool_window(x, start, steps, corner, shape, window):
    """The largest number of a window that begins at x[start], and its place; where the image has ended there are zeros."""
    (top, left), (high, wide) = corner, window
    largest, place = x.dtype.type(0), -1
    for y in range(high):
        for i in range(wide):
            inside = (0 <= top + y < shape[2]) and (0 <= left + i < shape[3])
            number = load_scalar(x, start + y * steps[2] + i * steps[3]) if inside else x.dtype.type(0)
            if place < 0 or is_larger(number, largest):
                largest, place = number, y * wide + i
    return largest, place


@device
def is_larger(number, other):
    """Whether number comes after other: it is larger, or NaN while the other is not."""
    return (number > other) | ((number != number) & (other == other))


@parallel_kernel
def _backward(work, dx, size, dout, steps, shape, arg_max, window):
    for first, end in chunks(work, 1, shape[0]):
        scatter_images(dx, size, dout, steps, shape, arg_max, window, (first, end))


@device
def scatter_images(dx, size, dout, steps, shape, arg_max, window, images):
    """The images from images[0] to images[1]; window: its height and width, stride, pad."""
    noinline()
    high, wide, stride, pad = window
    whole = size[2] == 2 * shape[2] and size[3] == 2 * shape[3] and shape[3] >= SHORTEST_PAIRS
    pairs = pad == 0 and stride == 2 and high == 2 and wide == 2 and whole
    for n in range(images[0], images[1]):
        for c in range(shape[1]):
            image = (n * size[1] + c) * size[2] * size[3]
            if pairs:
                start = n * steps[0] + c * steps[1], n * shape[2] * shape[3] * shape[1] + c
                scatter_pairs(dx, image, dout, steps, shape, arg_max, start)
                continue
            for i in range(image, image + size[2] * size[3]):
                store_scalar(dx, i, 0)
            source, place_at = n * steps[0] + c * steps[1], n * shape[2] * shape[3] * shape[1] + c
            for y in range(shape[2]):
                for i in range(shape[3]):
                    place = load_scalar(arg_max, place_at)
                    down = place // wide if wide != 2 else place >> 1
                    top, left = y * stride - pad + down, i * stride - pad + place - down * wide
                    if 0 <= place < high * wide and 0 <= top < size[2] and 0 <= left < size[3]:
                        target = image + top * size[3] + left
                        number = load_scalar(dout, source + y * steps[2] + i * steps[3])
                        store_scalar(dx, target, load_scalar(dx, target) + number)
                    place_at += shape[1]


@device
def scatter_pairs(dx, image, dout, steps, shape, arg_max, start):
    """One image of windows of 2 x 2 side by side: every number of dx is written once, where it is not the largest as 0."""
    noinline()
    zero, line = dx.dtype.type(0), 2 * shape[3]
    for y in range(shape[2]):
        source, place_at, target = start[0] + y * steps[2], start[1] + y * shape[3] * shape[1], image + 2 * y * line
        for i in range(shape[3]):
            number = load_scalar(dout, source + i * steps[3])
            place = load_scalar(arg_max, place_at + i * shape[1])
            store_scalar(dx, target + 2 * i, number if place == 0 else zero)
            store_scalar(dx, target + 2 * i + 1, number if place == 1 else zero)
            store_scalar(dx, target + line + 2 * i, number if place == 2 else zero)
            store_scalar(dx, target + line + 2 * i + 1, number if place == 3 else zero)


@parallel_kernel
def _average(work, out, x, steps, shape, rows, window):
    """window: its height and width, stride, pad."""
    count = window[0] * window[1]
    for first, end in chunks(work, 1, shape[0] * shape[1]):
        for image in range(first, end):
            start = image // shape[1] * steps[0] + image % shape[1] * steps[1]
            for top in range(rows[0]):
                for left in range(rows[1]):
                    bounds = window_bounds(top, left, shape, window)
                    total = x.dtype.type(0)
                    for y in range(bounds[0], bounds[1]):
                        for i in range(bounds[2], bounds[3]):
                            total += load_scalar(x, start + y * steps[2] + i * steps[3])
                    place = (image * rows[0] + top) * rows[1] + left
                    store_scalar(out, place, total / x.dtype.type(count))


@parallel_kernel
def _share_out(work, dx, size, dout, steps, shape, window):
    """window: its height and width, stride, pad; size: dx's shape, shape: dout's."""
    count = window[0] * window[1]
    for first, end in chunks(work, 1, shape[0] * shape[1]):
        for image in range(first, end):
            target = image * size[2] * size[3]
            for i in range(target, target + size[2] * size[3]):
                store_scalar(dx, i, dx.dtype.type(0))
            source = image // shape[1] * steps[0] + image % shape[1] * steps[1]
            for top in range(shape[2]):
                for left in range(shape[3]):
                    bounds = window_bounds(top, left, size, window)
                    part = load_scalar(dout, source + top * steps[2] + left * steps[3]) / dx.dtype.type(count)
                    for y in range(bounds[0], bounds[1]):
                        for i in range(bounds[2], bounds[3]):
                            place = target + y * size[3] + i
                            store_scalar(dx, place, load_scalar(dx, place) + part)


@device
def window_bounds(top, left, shape, window):
    """The rows and columns of an image that a window covers: first and end of each."""
    high, wide, stride, pad = window
    y, x = top * stride - pad, left * stride - pad
    return max(0, y), min(shape[2], y + high), max(0, x), min(shape[3], x + wide)
