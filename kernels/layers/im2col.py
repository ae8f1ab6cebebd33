"""Images to rows of patches, and back: for code that multiplies patches itself. `convolution` does without them."""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, flat, strided
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, noinline, store_scalar
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 200_000  # numbers


def im2col(x, filter_h, filter_w, stride, pad, dtype):
    """x (N, C, H, W) -> (N * OH * OW, C * filter_h * filter_w) in `dtype`: a row for each patch of x, zeros around it.

    OH = (H + 2 pad - filter_h) // stride + 1.
    """
    count, channels, height, width = x.shape
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    col = empty((count * rows[0] * rows[1], channels * filter_h * filter_w), dtype)
    memory, steps = strided(x)
    threads = threads_for(col.size, PARALLEL_THRESHOLD)
    window = filter_h, filter_w, stride, pad
    run(_im2col, threads, flat(col), memory, steps, x.shape, rows, window)
    return col


def col2im(col, x_shape, filter_h, filter_w, stride, pad):
    """col, as im2col gives it -> (x_shape): the numbers of all patches accumulate where they came from, in col's dtype."""
    x = np.zeros(x_shape, col.dtype)
    height, width = x_shape[2:]
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    threads = threads_for(col.size, PARALLEL_THRESHOLD)
    run(_col2im, threads, flat(x), flat(col), x.shape, rows, (filter_h, filter_w, stride, pad))
    return x


@parallel_kernel
def _im2col(work, col, x, steps, shape, rows, window):
    for first, end in chunks(work, 1, shape[0] * rows[0]):
        cut_patches(col, x, steps, shape, rows, window, first, end)


@device
def cut_patches(col, x, steps, shape, rows, window, first, end):
    """The patches of the lines of patches from `first` to `end`; window: its height and width, stride, pad."""
    noinline()
    high, wide, stride, pad = window
    target = first * rows[1] * shape[1] * high * wide
    for line in range(first, end):
        n, top = line // rows[0], line % rows[0] * stride - pad
        for left in range(-pad, rows[1] * stride - pad, stride):
            for c in range(shape[1]):
                for y in range(top, top + high):
                    source = n * steps[0] + c * steps[1] + y * steps[2]
                    for i in range(left, left + wide):
                        inside = 0 <= y < shape[2] and 0 <= i < shape[3]
                        store_scalar(col, target, load_scalar(x, source + i * steps[3]) if inside else 0)
                        target += 1


@parallel_kernel
def _col2im(work, x, col, shape, rows, window):
    """Patch position by patch position, in the order in which array code adds them: the same sums to the last bit."""
    for first, end in chunks(work, 1, shape[0]):
        add_patches(x, col, shape, rows, window, first, end)


@device
def add_patches(x, col, shape, rows, window, first, end):
    """The images from `first` to `end`; window: its height and width, stride, pad."""
    noinline()
    high, wide, stride, pad = window
    depth = shape[1] * high * wide
    for n in range(first, end):
        for c in range(shape[1]):
            image = (n * shape[1] + c) * shape[2] * shape[3]
            for fy in range(high):
                for fx in range(wide):
                    k = (c * high + fy) * wide + fx
                    for oy in range(rows[0]):
                        y = oy * stride + fy - pad
                        if y < 0 or y >= shape[2]:
                            continue
                        for ox in range(rows[1]):
                            i = ox * stride + fx - pad
                            if 0 <= i < shape[3]:
                                target = image + y * shape[3] + i
                                source = ((n * rows[0] + oy) * rows[1] + ox) * depth + k
                                store_scalar(x, target, load_scalar(x, target) + load_scalar(col, source))
