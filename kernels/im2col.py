"""Images to rows of patches, and back: for code that multiplies patches itself. `convolution` does without them."""

from __future__ import annotations

import numpy as np

from .arrays import flat, strided
from .compiler import kernel
from .simd import at, kept_apart, put
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 200_000  # numbers


def im2col(x, filter_h, filter_w, stride, pad, dtype):
    """x (N, C, H, W) -> (N * OH * OW, C * filter_h * filter_w) in `dtype`: a row for each patch of x, zeros around it.

    OH = (H + 2 pad - filter_h) // stride + 1.
    """
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    col = np.empty((count * rows[0] * rows[1], channels * filter_h * filter_w), dtype)
    memory, steps = strided(x)
    threads = threads_for(col.size, WORTH_A_THREAD)
    run(_im2col, threads, memory, steps, x.shape, flat(col), rows, (filter_h, filter_w), stride, pad)
    return col


def col2im(col, x_shape, filter_h, filter_w, stride, pad):
    """col, as im2col gives it -> (x_shape): the numbers of all patches added where they came from, in col's dtype."""
    x = np.zeros(x_shape, col.dtype)
    height, width = x_shape[2:]
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    threads = threads_for(col.size, WORTH_A_THREAD)
    run(_col2im, threads, flat(col), flat(x), x.shape, rows, (filter_h, filter_w), stride, pad)
    return x


@kernel
def _im2col(thread, threads, control, x, steps, shape, col, rows, window, stride, pad):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0] * rows[0], part, threads)
        cut_patches(x, steps, shape, col, rows, window, stride, pad, first, end)
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def cut_patches(x, steps, shape, col, rows, window, stride, pad, first, end):
    """The patches of the lines of patches from `first` to `end`."""
    kept_apart()
    target = first * rows[1] * shape[1] * window[0] * window[1]
    for line in range(first, end):
        n, top = line // rows[0], line % rows[0] * stride - pad
        for left in range(-pad, rows[1] * stride - pad, stride):
            for c in range(shape[1]):
                for y in range(top, top + window[0]):
                    source = n * steps[0] + c * steps[1] + y * steps[2]
                    for i in range(left, left + window[1]):
                        inside = 0 <= y < shape[2] and 0 <= i < shape[3]
                        put(col, target, at(x, source + i * steps[3]) if inside else 0)
                        target += 1


@kernel
def _col2im(thread, threads, control, col, x, shape, rows, window, stride, pad):
    """Patch position by patch position, in the order in which array code adds them: the same sums to the last bit."""
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0], part, threads)
        add_patches(col, x, shape, rows, window, stride, pad, first, end)
        part = next_part(control, thread, threads, part)


@kernel(part=True)
def add_patches(col, x, shape, rows, window, stride, pad, first, end):
    """The images from `first` to `end`."""
    kept_apart()
    depth = shape[1] * window[0] * window[1]
    for n in range(first, end):
        for c in range(shape[1]):
            image = (n * shape[1] + c) * shape[2] * shape[3]
            for fy in range(window[0]):
                for fx in range(window[1]):
                    k = (c * window[0] + fy) * window[1] + fx
                    for oy in range(rows[0]):
                        y = oy * stride + fy - pad
                        if y < 0 or y >= shape[2]:
                            continue
                        for ox in range(rows[1]):
                            i = ox * stride + fx - pad
                            if 0 <= i < shape[3]:
                                target = image + y * shape[3] + i
                                source = ((n * rows[0] + oy) * rows[1] + ox) * depth + k
                                put(x, target, at(x, target) + at(col, source))
