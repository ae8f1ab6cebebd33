"""Convolution of images as matrix products, without writing down the matrix of patches (im2col).

Row r = (oy, ox) and column k = (c, fy, fx) of that matrix hold image[row_at[r] + k_at[k]]: the place of a patch plus a
place in it. A tile of products reads its left-hand side through these two short tables, from a padded copy of the
images, which backward reads again. Three products:

- out = patches @ W: (oh * ow, C * FH * FW) times (.., FN), image by image, the images shared among threads;
- dW = patches.T @ dout: the same tables with rows and depth exchanged; each part sums up its images;
- dx, at stride 1, is the correlation of dout, padded, with the filters turned by 180 degrees: the first product again.
  Otherwise, and for fewer than FEW_CHANNELS channels (columns are computed by whole panels), W @ dout is made row by
  row of the output and its numbers are added where their patches lie: `_spread`.

float64, both cores, images (100, 16, 28, 28), 16 filters of 3 x 3, forward: 9 to 12 ms, where im2col and OpenBLAS take 70 to
80. Tried and lost: leaving the result as the products give it, (N, OH, OW, FN): it saves 1 ms, and ReLU after it, which then
goes across memory, loses 1 to 4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .arrays import flat, scratch, strided
from .compiler import kernel
from .machine import VECTOR_BYTES
from .matmul import ROW_BLOCK, ROWS, add_row, even_block, multiply_block, panel_width
from .simd import add, at, broadcast, fill, fma, kept_apart, lanes, load, put, store, zeros
from .threads import most_parts, run, share, take, threads_for

WORTH_A_THREAD = 1_000_000  # multiplications
FEW_CHANNELS = 4
DEEP = 400  # pixels of a block of dW: a panel of dout stays in the first-level cache


def convolution_forward(x, W, b, stride, pad):
    """x (N, C, H, W), W (FN, C, FH, FW), b (FN,) -> out (N, FN, OH, OW), padded (N, C, H + 2 pad, W + 2 pad).

    OH = (H + 2 pad - FH) // stride + 1. Both results have W's dtype; `padded` is what backward wants of x.
    """
    filters, _, high, wide = W.shape
    padded = _padded(x, pad, pad, W.dtype)
    rows = (padded.shape[2] - high) // stride + 1, (padded.shape[3] - wide) // stride + 1
    k_step = W[0].size
    out = _correlate(x, padded, pad, pad, stride, rows, (high, wide), flat(W), _plain(k_step), k_step, flat(b), filters)
    return out, padded


def convolution_backward(dout, padded, W, stride, pad, needs_dx=True):
    """dout (N, FN, OH, OW), padded and W as forward had them -> dx (N, C, H, W), dW (like W), db (FN,).

    dx is None if it is not needed.
    """
    dW, db = _weights_gradient(dout, padded, W, stride)
    if not needs_dx:
        return None, dW, db
    filters, channels, high, wide = W.shape
    count, _, height, width = padded.shape
    # that way multiplies weights by the zeros around dout, too, which would make NaN of an infinite one
    if stride == 1 and channels >= FEW_CHANNELS and pad < high and pad < wide and np.isfinite(W).all():
        dout_padded = _padded(dout, high - 1 - pad, wide - 1 - pad, W.dtype)
        size = height - 2 * pad, width - 2 * pad
        places = _turned(filters, channels, high, wide)
        dx = _correlate(
            dout, dout_padded, high - 1 - pad, wide - 1 - pad, 1, size, (high, wide), flat(W), places, high * wide,
            np.zeros(channels, W.dtype), channels,
        )  # fmt: skip
        return dx, dW, db
    dx = np.zeros((count, channels, height - 2 * pad, width - 2 * pad), W.dtype)
    memory, steps = strided(dout)
    threads = threads_for(dout.size * W[0].size, WORTH_A_THREAD)
    panel = 2 * VECTOR_BYTES // W.itemsize
    line = -(-dout.shape[3] // panel) * panel
    size = line * (filters + W[0].size)
    room = scratch(threads * size, W.dtype)
    run(_spread, threads, memory, steps, dout.shape, flat(W), W.shape, flat(dx), dx.shape, stride, pad, room, size)
    return dx, dW, db


def _padded(x, pad_y, pad_x, dtype):
    """Room for x with zeros around every image, in x's own order of axes as far as it is one of two."""
    count, channels, height, width = x.shape
    height, width = height + 2 * pad_y, width + 2 * pad_x
    if channels > 1 and x.strides[1] == x.itemsize:
        return np.empty((count, height, width, channels), dtype).transpose(0, 3, 1, 2)
    return np.empty((count, channels, height, width), dtype)


def _correlate(x, padded, pad_y, pad_x, stride, rows, window, weights, w_at, w_step, bias, columns):
    """Copy x into `padded`; out (N, columns, *rows) = patches of it @ weights + bias.

    weights[w_at[k] + column * w_step] belongs to column k of the patches.
    """
    memory, steps = strided(x)
    around, inside = strided(padded)
    k_at = _places((padded.shape[1], *window), inside[1:], 1)
    row_at = _places((1, *rows), inside[1:], stride)
    count, depth = len(padded), len(k_at)
    out = np.empty((count, columns, *rows), weights.dtype)
    line = -(-columns * weights.itemsize // (2 * VECTOR_BYTES)) * 2 * VECTOR_BYTES // weights.itemsize
    threads = min(threads_for(out.size * depth, WORTH_A_THREAD), max(count, 1))
    room = scratch(line * (depth + threads * ROW_BLOCK), weights.dtype)
    run(
        _patches_times, threads, memory, steps, x.shape, around, inside, padded.shape, (pad_y, pad_x), row_at, k_at,
        weights, w_at, w_step, bias, out.reshape(-1), columns, room,
    )  # fmt: skip
    return out


@lru_cache(maxsize=256)
def _places(shape, steps, stride):
    """Where the elements of a block (c, y, x) lie, in C order; neighbours in y and x are `stride` apart."""
    c, y, x = (np.arange(size, dtype=np.intp) for size in shape)
    return ((c * steps[0])[:, None, None] + (y * stride * steps[1])[:, None] + x * stride * steps[2]).reshape(-1)


@lru_cache(maxsize=256)
def _plain(count):
    return np.arange(count, dtype=np.intp)


@lru_cache(maxsize=256)
def _turned(filters, channels, high, wide):
    """Where column k = (filter, y, x) of dout's patches finds its weight: the window turned by 180 degrees."""
    window = np.arange(high * wide, dtype=np.intp)[::-1]
    return (np.arange(filters, dtype=np.intp)[:, None] * (channels * high * wide) + window).reshape(-1)


@kernel
def _patches_times(
    thread, threads, control, x, steps, shape, padded, inside, sizes, pads, row_at, k_at, weights, w_at, w_step, bias,
    out, columns, room,
):  # fmt: skip
    """Image by image: padded, and ROW_BLOCK rows at a time multiplied in this thread's `block` and turned into `out`."""
    width, depth, rows = panel_width(out), len(k_at), len(row_at)
    panels = (columns + width - 1) // width
    line = panels * width
    block = line * depth + thread * ROW_BLOCK * line
    deep, parts = even_block(depth), most_parts(threads)
    part = take(control, 1, parts, thread, threads, -1)
    while part >= 0:
        first, end = share(panels, part, parts)
        for panel in range(first, end):
            pack_through(weights, panel * width * w_step, w_at, w_step, min(width, columns - panel * width), room,
                         panel * width * depth)  # fmt: skip
        part = take(control, 1, parts, thread, threads, part)
    part = take(control, 2, parts, thread, threads, -1)
    while part >= 0:
        first, end = share(sizes[0], part, parts)
        for n in range(first, end):
            copy_padded(x, n * steps[0], steps, shape, padded, n * inside[0], inside, sizes, pads)
            for top in range(0, rows, ROW_BLOCK):
                count = min(ROW_BLOCK, rows - top)
                for r in range(count):
                    for j in range(columns):
                        put(room, block + r * line + j, at(bias, j))
                for k in range(0, depth, deep):
                    for panel in range(panels):
                        strips_through(padded, n * inside[0], row_at, top, count, k_at, k, min(deep, depth - k), room,
                                       (panel * depth + k) * width, room, block + panel * width, line)  # fmt: skip
                turn(room, block, line, count, columns, out, n * columns * rows + top, rows)
        part = take(control, 2, parts, thread, threads, part)


@kernel(part=True)
def turn(block, b0, line, rows, columns, out, o0, out_step):
    """out[o0 + column * out_step + row] = block[b0 + row * line + column]."""
    kept_apart()
    for j in range(columns):
        for r in range(rows):
            put(out, o0 + j * out_step + r, at(block, b0 + r * line + j))


@kernel(part=True)
def pack_through(b, b0, b_at, column_step, columns, panel, p0):
    """One panel [k][column] of b[b0 + b_at[k] + column * column_step], padded with zeros."""
    kept_apart()
    width = panel_width(panel)
    for k in range(len(b_at)):
        for j in range(columns):
            put(panel, p0 + k * width + j, at(b, b0 + at(b_at, k) + j * column_step))
        for j in range(columns, width):
            put(panel, p0 + k * width + j, 0)


@kernel(part=True)
def copy_padded(x, x0, steps, shape, padded, p0, inside, sizes, pads):
    """One image, with zeros around it, in the order in which it lies in `padded`."""
    kept_apart()
    if inside[1] == 1:
        for y in range(sizes[2]):
            for i in range(sizes[3]):
                source, target = (
                    x0 + (y - pads[0]) * steps[2] + (i - pads[1]) * steps[3],
                    p0 + y * inside[2] + i * inside[3],
                )
                there = pads[0] <= y < pads[0] + shape[2] and pads[1] <= i < pads[1] + shape[3]
                for c in range(sizes[1]):
                    put(padded, target + c, at(x, source + c * steps[1]) if there else 0)
        return
    for c in range(sizes[1]):
        for y in range(sizes[2]):
            source, target = x0 + c * steps[1] + (y - pads[0]) * steps[2], p0 + c * inside[1] + y * inside[2]
            there = pads[0] <= y < pads[0] + shape[2]
            left = pads[1] if there else sizes[3]
            right = pads[1] + shape[3] if there else sizes[3]
            for i in range(left):
                put(padded, target + i, 0)
            for i in range(left, right):
                put(padded, target + i, at(x, source + (i - pads[1]) * steps[3]))
            for i in range(right, sizes[3]):
                put(padded, target + i, 0)


@kernel(part=True)
def strips_through(a, a0, row_at, r0, rows, k_at, k0, depth, b, b0, c, c0, c_step):
    """c (rows, one panel) += a[a0 + row_at[r] + k_at[k]] (rows, depth) @ b (depth, one panel), packed."""
    for i in range(0, rows, ROWS):
        tile_through(
            a, a0, row_at, r0 + i, min(ROWS, rows - i), k_at, k0, depth, b, b0, c, c0 + i * c_step, c_step
        )  # fmt: skip


@kernel(part=True)
def tile_through(a, a0, row_at, r0, rows, k_at, k0, depth, b, b0, c, c0, c_step):
    """The same for a tile, of 6 rows at the most."""
    kept_apart()
    width = lanes(b)
    last = rows - 1  # rows that are not there are computed as copies of the last one, and not stored
    i0, i1 = a0 + at(row_at, r0), a0 + at(row_at, r0 + min(1, last))
    i2, i3 = a0 + at(row_at, r0 + min(2, last)), a0 + at(row_at, r0 + min(3, last))
    i4, i5 = a0 + at(row_at, r0 + min(4, last)), a0 + at(row_at, r0 + min(5, last))
    l0 = r0_ = l1 = r1 = l2 = r2 = l3 = r3 = l4 = r4 = l5 = r5 = zeros(b)
    for k in range(k0, k0 + depth):
        left, right, place = load(b, b0), load(b, b0 + width), at(k_at, k)
        v = broadcast(b, a, i0 + place)
        l0, r0_ = fma(v, left, l0), fma(v, right, r0_)
        v = broadcast(b, a, i1 + place)
        l1, r1 = fma(v, left, l1), fma(v, right, r1)
        v = broadcast(b, a, i2 + place)
        l2, r2 = fma(v, left, l2), fma(v, right, r2)
        v = broadcast(b, a, i3 + place)
        l3, r3 = fma(v, left, l3), fma(v, right, r3)
        v = broadcast(b, a, i4 + place)
        l4, r4 = fma(v, left, l4), fma(v, right, r4)
        v = broadcast(b, a, i5 + place)
        l5, r5 = fma(v, left, l5), fma(v, right, r5)
        b0 += 2 * width
    one = fill(b, 1)
    add_row(c, c0, one, l0, r0_)
    if rows > 1:
        add_row(c, c0 + c_step, one, l1, r1)
    if rows > 2:
        add_row(c, c0 + 2 * c_step, one, l2, r2)
    if rows > 3:
        add_row(c, c0 + 3 * c_step, one, l3, r3)
    if rows > 4:
        add_row(c, c0 + 4 * c_step, one, l4, r4)
    if rows > 5:
        add_row(c, c0 + 5 * c_step, one, l5, r5)


def _weights_gradient(dout, padded, W, stride):
    filters, depth = W.shape[0], W[0].size
    around, inside = strided(padded)
    memory, steps = strided(dout)
    k_at = _places(W.shape[1:], inside[1:], 1)
    row_at = _places((1, *dout.shape[2:]), inside[1:], stride)
    panel = 2 * VECTOR_BYTES // W.itemsize
    threads = min(threads_for(dout.size * depth, WORTH_A_THREAD), max(len(dout), 1))
    sums = -(-filters // panel) * panel * (depth + 1)
    size = sums + panel * DEEP
    room = scratch(threads * size, W.dtype)
    dW, db = np.empty(W.shape, W.dtype), np.empty(filters, W.dtype)
    run(
        _patches_transposed_times, threads, memory, steps, dout.shape, around, inside[0], row_at, k_at,
        dW.reshape(-1), db, room, size,
    )  # fmt: skip
    return dW, db


@kernel
def _patches_transposed_times(
    thread, threads, control, dout, steps, shape, padded, image, row_at, k_at, dW, db, room, size
):  # fmt: skip
    """dW[f, k] = the sum over images and pixels of padded[row_at[r] + k_at[k]] * dout[f, r]; db[f] that of dout[f, r].

    Each part has a panel of dout, [pixel][filter], and its sums, [panel of filters][k][filter] and one row for db.
    """
    width, depth, filters = panel_width(dW), len(k_at), shape[1]
    panels = (filters + width - 1) // width
    part = take(control, 1, threads, thread, threads, -1)
    while part >= 0:
        own, block = part * size, part * size + panels * width * (depth + 1)
        for i in range(own, block):
            put(room, i, 0)
        first, end = share(shape[0], part, threads)
        for n in range(first, end):
            for top in range(0, len(row_at), DEEP):
                deep = min(DEEP, len(row_at) - top)
                for panel in range(panels):
                    sums = own + panel * width * (depth + 1)
                    pack_pixels(dout, n * steps[0] + panel * width * steps[1], steps, shape[3], top, deep,
                                min(width, filters - panel * width), room, block)  # fmt: skip
                    add_rows(room, block, deep, room, sums + depth * width)
                    strips_through(padded, n * image, k_at, 0, depth, row_at, top, deep, room, block, room, sums, width)
        part = take(control, 1, threads, thread, threads, part)
    part = take(control, 2, threads, thread, threads, -1)
    while part >= 0:
        low, high = share(filters, part, threads)
        for f in range(low, high):
            place = f // width * width * (depth + 1) + f % width
            for k in range(depth + 1):
                total = at(room, place + k * width)
                for other in range(1, threads):
                    total += at(room, other * size + place + k * width)
                if k < depth:
                    put(dW, f * depth + k, total)
                else:
                    put(db, f, total)
        part = take(control, 2, threads, thread, threads, part)


@kernel(part=True)
def pack_pixels(dout, d0, steps, wide, top, count, filters, panel, p0):
    """One panel [pixel][filter] of `count` pixels of dout from `top` on, padded with zeros."""
    kept_apart()
    width = panel_width(panel)
    for f in range(filters):
        source = d0 + f * steps[1]
        if steps[2] == wide * steps[3]:
            for r in range(count):
                put(panel, p0 + r * width + f, at(dout, source + (top + r) * steps[3]))
        else:
            for r in range(count):
                y, x = (top + r) // wide, (top + r) % wide
                put(panel, p0 + r * width + f, at(dout, source + y * steps[2] + x * steps[3]))
    for f in range(filters, width):
        for r in range(count):
            put(panel, p0 + r * width + f, 0)


@kernel(part=True)
def add_rows(panel, p0, count, total, t0):
    """total (one panel) += the sum of the rows of a panel, which are DEEP at the most: a long sum, made in blocks."""
    half = lanes(panel)
    left = right = zeros(panel)
    for r in range(count):
        left, right = add(left, load(panel, p0 + 2 * r * half)), add(right, load(panel, p0 + (2 * r + 1) * half))
    store(total, t0, add(load(total, t0), left))
    store(total, t0 + half, add(load(total, t0 + half), right))


@kernel
def _spread(thread, threads, control, dout, steps, shape, weights, window, dx, size, stride, pad, room, room_size):
    """dx[c, oy * stride + fy - pad, ox * stride + fx - pad] += the sum over filters of W[f, c, fy, fx] * dout[f, oy, ox].

    Row by row of dout: its filters and pixels are packed, the products [k][ox] made, and added where they belong.
    """
    filters, depth, wide = shape[1], window[1] * window[2] * window[3], shape[3]
    width = panel_width(dx)
    panels = (wide + width - 1) // width
    line, packed = panels * width, thread * room_size
    products = packed + filters * line
    parts = most_parts(threads)
    part = take(control, 1, parts, thread, threads, -1)
    while part >= 0:
        first, end = share(shape[0], part, parts)
        for n in range(first, end):
            for y in range(shape[2]):
                pack_line(dout, n * steps[0] + y * steps[2], steps[1], steps[3], filters, wide, room, packed)
                for i in range(products, products + depth * line):
                    put(room, i, 0)
                multiply_block(
                    weights, 0, np.intp(ROWS), np.intp(1), depth, depth, filters, room, packed, width, filters * width,
                    panels, room, products, line, width, dx.dtype.type(1),
                )  # fmt: skip
                add_patches(room, products, line, wide, y * stride - pad, dx, n * size[1] * size[2] * size[3], size,
                            window, stride, pad)  # fmt: skip
        part = take(control, 1, parts, thread, threads, part)


@kernel(part=True)
def pack_line(d, d0, row_step, step, rows, count, panels, p0):
    """Rows [row][x] of `count` numbers in panel layout: [panel][row][x], padded with zeros."""
    kept_apart()
    width = panel_width(panels)
    for left in range(0, count, width):
        for r in range(rows):
            for x in range(width):
                place = d0 + r * row_step + (left + x) * step
                put(panels, p0 + (left * rows) + r * width + x, at(d, place) if left + x < count else 0)


@kernel(part=True)
def add_patches(products, p0, line, wide, top, dx, x0, size, window, stride, pad):
    """Add products[k][ox] to one image of dx; what lies in the padding is dropped."""
    kept_apart()
    for c in range(window[1]):
        for fy in range(window[2]):
            y = top + fy
            if y < 0 or y >= size[2]:
                continue
            for fx in range(window[3]):
                source = p0 + ((c * window[2] + fy) * window[3] + fx) * line
                target = x0 + (c * size[2] + y) * size[3] + fx - pad
                first = max(0, (pad - fx + stride - 1) // stride)
                end = min(wide, (size[3] - 1 + pad - fx) // stride + 1)
                if stride == 1:
                    for x in range(first, end):
                        put(dx, target + x, at(dx, target + x) + at(products, source + x))
                else:
                    for x in range(first, end):
                        put(dx, target + x * stride, at(dx, target + x * stride) + at(products, source + x))
