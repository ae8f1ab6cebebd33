"""Convolution of images as matrix products, without writing down the matrix of patches (im2col): indirect convolution.

Row r = (oy, ox) and column k = (c, fy, fx) of that matrix hold image[row_offsets[r] + k_offsets[k]]: the place of a patch
plus a place in it. The micro-kernel reads its left-hand side through these two short tables (gemm.matrices.IndirectMatrix),
from a padded copy of the images, which backward reads again. Three products:

- out = patches @ W: (oh * ow, C * FH * FW) times (.., FN), image by image, the images shared among threads;
- dW = patches.T @ dout: the same tables, rows and depth swapped; each chunk sums up its images;
- dx, at stride 1, is the correlation of dout, padded, with the filters flipped: the first product again. Otherwise, and for
  fewer than FEW_CHANNELS channels (columns are computed by whole panels), W @ dout is made row by row of the output and its
  numbers are added where their patches lie: scatter-add.

float64, both cores, images (100, 16, 28, 28), 16 filters of 3 x 3, forward: 9 to 12 ms, where im2col and OpenBLAS take 70 to
80. Measured and rejected: leaving the result as the products give it, (N, OH, OW, FN): it saves 1 ms, and ReLU after it,
which then goes across memory, loses 1 to 4.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..gemm.matrices import IndirectMatrix, MicroPanels, Panels, Span
from ..gemm.microkernel import AS_IT_IS, HAS_32_REGISTERS, Epilogue, double_kernel, micro_kernel
from ..gemm.packing import MC, ROWS, even_block, panel_width, panels_at
from ..gemm.product import adding, multiply_block, panel_of, panels_from, sums_of_panel, tile_of, zero_bias
from ..gemm.transposing import copy_transposed
from ..runtime.arrays import empty, flat, strided, workspace
from ..runtime.chunks import chunk_bounds, chunks, claimed, most_chunks
from ..runtime.compiler import InnerKernel, device
from ..runtime.pointers import address_of, call_at
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import add, lanes, load, load_scalar, noinline, store, store_scalar, zeros
from ..runtime.threads import parallel_kernel, run

PARALLEL_THRESHOLD = 1_000_000  # multiplications
FEW_CHANNELS = 4
DEEP = 400  # pixels of a block of dW: a panel of dout stays in the first-level cache


class Images(NamedTuple):
    """Images of any layout: element (n, c, y, x) is array[n * steps[0] + c * steps[1] + y * steps[2] + x * steps[3]]."""

    array: Any
    steps: Any
    shape: Any


class Filters(NamedTuple):
    """Weights by columns of the patches: column k of filter f is array[offsets[k] + f * step]; one bias for each filter."""

    array: Any
    offsets: Any
    step: int
    bias: Any


class Patches(NamedTuple):
    """Where patches lie in an image, and the numbers in a patch; and where the kernel `_multiply_panels` is."""

    row_offsets: Any
    k_offsets: Any
    address: int


def convolution_forward(x, W, b, stride, pad):
    """x (N, C, H, W), W (FN, C, FH, FW), b (FN,) -> out (N, FN, OH, OW), padded (N, C, H + 2 pad, W + 2 pad).

    OH = (H + 2 pad - FH) // stride + 1. Both results have W's dtype; `padded` is what backward wants of x.
    """
    high, wide = W.shape[2:]
    padded = _padded(x, pad, pad, W.dtype)
    rows = (padded.shape[2] - high) // stride + 1, (padded.shape[3] - wide) // stride + 1
    depth = W[0].size
    out = _correlate(x, padded, (pad, pad), stride, rows, (high, wide), (flat(W), _in_order(depth), depth, flat(b)))
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
    size = height - 2 * pad, width - 2 * pad
    # that way multiplies weights by the zeros around dout, too, which would make NaN of an infinite one
    if stride == 1 and channels >= FEW_CHANNELS and pad < high and pad < wide and np.isfinite(W).all():
        pads = high - 1 - pad, wide - 1 - pad
        flipped = flat(W), _flipped(filters, channels, high, wide), high * wide, np.zeros(channels, W.dtype)
        return _correlate(dout, _padded(dout, *pads, W.dtype), pads, 1, size, (high, wide), flipped), dW, db
    dx = empty((count, channels, *size), W.dtype)
    dx.fill(0)
    threads = threads_for(dout.size * W[0].size, PARALLEL_THRESHOLD)
    panel = 2 * VECTOR_BYTES // W.itemsize
    line = -(-dout.shape[3] // panel) * panel
    scratch_size = line * (filters + W[0].size)
    scratch = workspace(threads * scratch_size, W.dtype)
    run(
        _scatter_add,
        threads,
        flat(dx),
        dx.shape,
        _images(dout),
        flat(W),
        (*W.shape[1:], stride, pad),
        scratch,
        scratch_size,
    )
    return dx, dW, db


def _images(x):
    """The fields of Images."""
    memory, steps = strided(x)
    return memory, steps, x.shape


def _padded(x, pad_y, pad_x, dtype):
    """Room for x with zeros around every image, in x's own order of axes as far as it is one of two."""
    count, channels, height, width = x.shape
    height, width = height + 2 * pad_y, width + 2 * pad_x
    if channels > 1 and x.strides[1] == x.itemsize:
        return empty((count, height, width, channels), dtype).transpose(0, 3, 1, 2)
    return empty((count, channels, height, width), dtype)


def _correlate(x, padded, pads, stride, rows, window, filters):
    """Copy x into `padded`; out (N, filters, *rows) = patches of it @ weights + bias. filters: the fields of Filters."""
    weights, offsets, _, bias = filters
    around = _images(padded)
    patches = _patches((1, *rows), (padded.shape[1], *window), around[1], stride, weights.dtype)
    count, columns = len(padded), len(bias)
    out = empty((count, columns, *rows), weights.dtype)
    line = -(-columns * weights.itemsize // (2 * VECTOR_BYTES)) * 2 * VECTOR_BYTES // weights.itemsize
    threads = min(threads_for(out.size * len(offsets), PARALLEL_THRESHOLD), max(count, 1))
    scratch = workspace(line * (len(offsets) + 1 + threads * MC), weights.dtype)
    run(_multiply_patches, threads, out.reshape(-1), _images(x), around, pads, patches, filters, scratch)
    return out


@lru_cache(maxsize=256)
def _patches(rows, window, steps, stride, dtype):
    """The fields of Patches, of so many rows and numbers, in an image with these steps."""
    return _offsets(rows, steps[1:], stride), _offsets(window, steps[1:], 1), _panels_address(dtype)


@cache
def _panels_address(dtype):
    """Where `_multiply_panels` is, compiled unless it was."""
    numbers, offsets = np.empty(0, dtype), np.empty(0, np.intp)
    panels, of_patches = (numbers, 0, 0, 0), (numbers, 0, offsets, 0, offsets, 0)
    epilogue = numbers.dtype.type(1), False, 0, 0
    return address_of(_multiply_panels, panels, of_patches, panels, (numbers, 0), (0, 0, 0), epilogue)


def _offsets(shape, steps, stride):
    """Where the elements of a block (c, y, x) lie, in C order; neighbours in y and x are `stride` apart."""
    c, y, x = (np.arange(size, dtype=np.intp) for size in shape)
    return ((c * steps[0])[:, None, None] + (y * stride * steps[1])[:, None] + x * stride * steps[2]).reshape(-1)


@lru_cache(maxsize=256)
def _in_order(count):
    return np.arange(count, dtype=np.intp)


@lru_cache(maxsize=256)
def _flipped(filters, channels, high, wide):
    """Where column k = (filter, y, x) of dout's patches finds its weight: the window flipped on both axes."""
    window = np.arange(high * wide, dtype=np.intp)[::-1]
    return (np.arange(filters, dtype=np.intp)[:, None] * (channels * high * wide) + window).reshape(-1)


@parallel_kernel
def _multiply_patches(work, out, x, padded, pads, patches, filters, scratch):
    """Image by image: padded, and MC rows at a time multiplied in this thread's `block` and transposed into `out`."""
    thread, threads, _ = work
    x, padded, filters, patches = Images(*x), Images(*padded), Filters(*filters), Patches(*patches)
    width, depth, columns, rows = panel_width(out), len(filters.offsets), len(filters.bias), len(patches.row_offsets)
    panels = (columns + width - 1) // width
    line = panels * width
    weights, bias, chunk_count = panels_at(scratch, 0, depth), Span(scratch, line * depth), most_chunks(threads)
    block = Panels(scratch, bias.start + line + thread * MC * line, line, width)
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds(panels, chunk, chunk_count)
        pack_filters(weights, bias, filters, first, end)
    for chunk in claimed(work, 2, chunk_count):
        first, end = chunk_bounds(x.shape[0], chunk, chunk_count)
        for n in range(first, end):
            copy_padded(padded, x, n, pads)
            for top in range(0, rows, MC):
                count = min(MC, rows - top)
                image = padded.array, n * padded.steps[0]
                multiply_indirect(block, image, patches, top, weights, bias, (count, depth, panels))
                whole = Span(out, n * columns * rows + top)
                copy_transposed(whole, rows, Span(scratch, block.start), line, count, columns)


@device
def multiply_indirect(c, image, patches, top, b, bias, sizes):
    """The Panels c (rows, panels) = bias + patches (rows, depth), from the row `top` on, @ the Panels b (depth, panels).

    image: an array, and where the image begins in it; bias: Span of a row of panels; sizes: rows, depth, panels.
    """
    rows, depth, panels = sizes
    deep = even_block(depth)
    for k in range(0, depth, deep):
        a = IndirectMatrix(image[0], image[1], patches.row_offsets, top, patches.k_offsets, k)
        epilogue = Epilogue(b.array.dtype.type(1), k == 0, np.intp(AS_IT_IS), np.intp(0))
        start = Span(bias.array, bias.start if k == 0 else np.intp(-1))
        multiply_panels(
            patches.address, c, a, panels_from(b, k, 0), start, (rows, min(deep, depth - k), panels), epilogue
        )


@device
def multiply_panels(address, c, a, b, bias, sizes, epilogue):
    """The Panels c (rows, panels) = epilogue(bias + the IndirectMatrix a (rows, depth) @ the Panels b (depth, panels)).

    bias: as for `multiply_block`; sizes: rows, depth, panels. The kernel at the address is compiled for all products of
    convolutions, in one process for those of another (see dropin/beginning/ahead.py).
    """
    of_a = a.array, a.start, a.row_offsets, a.first_row, a.k_offsets, a.first_k
    of_b, of_c = (b.array, b.start, b.row_step, b.panel_step), (c.array, c.start, c.row_step, c.panel_step)
    of_epilogue = epilogue.alpha, epilogue.beta_is_zero, epilogue.gate, epilogue.z_offset
    call_at(address, None, (of_c, of_a, of_b, (bias.array, bias.start), sizes, of_epilogue))


@InnerKernel
def _multiply_panels(c, a, b, bias, sizes, epilogue):
    """The fields of what `multiply_panels` takes."""
    c, a, b, bias, epilogue = Panels(*c), IndirectMatrix(*a), Panels(*b), Span(*bias), Epilogue(*epilogue)
    rows, depth, panels = sizes
    doubled = panels // 2 * 2 if HAS_32_REGISTERS else 0
    for p in range(0, doubled, 2):
        multiply_two_panels(c, a, b, bias, p, (rows, depth), epilogue)
    for p in range(doubled, panels):
        multiply_one_panel(c, a, b, bias, p, (rows, depth), epilogue)


@device
def multiply_one_panel(c, a, b, bias, p, sizes, epilogue):
    """Panel p of c = epilogue(bias + a @ that of b). bias: as for `multiply_block`; sizes: rows, depth."""
    noinline()
    (rows, depth), initial = sizes, sums_of_panel(bias, p)
    for i in range(0, rows, ROWS):
        six = IndirectMatrix(a.array, a.start, a.row_offsets, a.first_row + i, a.k_offsets, a.first_k)
        micro_kernel(tile_of(c, i, p), six, panel_of(b, p), initial, min(ROWS, rows - i), depth, epilogue)


@device
def multiply_two_panels(c, a, b, bias, p, sizes, epilogue):
    """`multiply_one_panel` for panels p and p + 1."""
    noinline()
    (rows, depth), initial = sizes, (*sums_of_panel(bias, p), *sums_of_panel(bias, p + 1))
    for i in range(0, rows, ROWS):
        six = IndirectMatrix(a.array, a.start, a.row_offsets, a.first_row + i, a.k_offsets, a.first_k)
        double_kernel(
            (tile_of(c, i, p), tile_of(c, i, p + 1)), six, (panel_of(b, p), panel_of(b, p + 1)), initial,
            min(ROWS, rows - i), depth, epilogue,
        )  # fmt: skip


@device
def pack_filters(packed, bias, filters, first, end):
    """The panels of the weights from `first` to `end`, [k][filter], and of the Span `bias`, padded with zeros."""
    noinline()
    width, count = panel_width(packed.array), len(filters.bias)
    for panel in range(first, end):
        left, columns = panel * width, min(width, count - panel * width)
        target = packed.start + panel * packed.panel_step
        for j in range(width):
            store_scalar(bias.array, bias.start + left + j, load_scalar(filters.bias, left + j) if j < columns else 0)
        for k in range(len(filters.offsets)):
            source = left * filters.step + load_scalar(filters.offsets, k)
            for j in range(columns):
                number = load_scalar(filters.array, source + j * filters.step)
                store_scalar(packed.array, target + k * width + j, number)
            for j in range(columns, width):
                store_scalar(packed.array, target + k * width + j, 0)


@device
def copy_padded(padded, x, n, pads):
    """Image n of x, with zeros around it, in the order in which it lies in `padded`."""
    noinline()
    p0, inside, sizes = n * padded.steps[0], padded.steps, padded.shape
    x0, steps, shape = n * x.steps[0], x.steps, x.shape
    if inside[1] == 1:
        for y in range(sizes[2]):
            for i in range(sizes[3]):
                source = x0 + (y - pads[0]) * steps[2] + (i - pads[1]) * steps[3]
                target = p0 + y * inside[2] + i * inside[3]
                there = pads[0] <= y < pads[0] + shape[2] and pads[1] <= i < pads[1] + shape[3]
                for c in range(sizes[1]):
                    store_scalar(padded.array, target + c, load_scalar(x.array, source + c * steps[1]) if there else 0)
        return
    for c in range(sizes[1]):
        for y in range(sizes[2]):
            source, target = x0 + c * steps[1] + (y - pads[0]) * steps[2], p0 + c * inside[1] + y * inside[2]
            there = pads[0] <= y < pads[0] + shape[2]
            left = pads[1] if there else sizes[3]
            right = pads[1] + shape[3] if there else sizes[3]
            for i in range(left):
                store_scalar(padded.array, target + i, 0)
            for i in range(left, right):
                store_scalar(padded.array, target + i, load_scalar(x.array, source + (i - pads[1]) * steps[3]))
            for i in range(right, sizes[3]):
                store_scalar(padded.array, target + i, 0)


def _weights_gradient(dout, padded, W, stride):
    filters, depth = W.shape[0], W[0].size
    around, steps, _ = _images(padded)
    patches = _patches((1, *dout.shape[2:]), W.shape[1:], steps, stride, W.dtype)
    panel = 2 * VECTOR_BYTES // W.itemsize
    threads = min(threads_for(dout.size * depth, PARALLEL_THRESHOLD), max(len(dout), 1))
    scratch_size = -(-filters // panel) * panel * (depth + 1) + 2 * panel * DEEP
    scratch = workspace(threads * scratch_size, W.dtype)
    dW, db = empty(W.shape, W.dtype), empty(filters, W.dtype)
    run(
        _multiply_patches_transposed, threads, (dW.reshape(-1), db), _images(dout), (around, steps[0]), patches, scratch,
        scratch_size,
    )  # fmt: skip
    return dW, db


@parallel_kernel
def _multiply_patches_transposed(work, gradients, dout, padded, patches, scratch, scratch_size):
    """dW[f, k] = the sum over images and pixels of patch number k times dout[f, pixel]; db[f] that of dout[f, pixel].

    gradients: dW, db; padded: an array, and from image to image. Each chunk has a panel of dout, [pixel][filter], and its
    sums, [panel of filters][k][filter] and one row for db.
    """
    threads = work[1]
    dout, patches = Images(*dout), Patches(*patches)
    (dW, db), depth, filters = gradients, len(patches.k_offsets), dout.shape[1]
    width = panel_width(dW)
    panels, at_once = (filters + width - 1) // width, 2 if HAS_32_REGISTERS else 1
    for chunk in claimed(work, 1, threads):
        own = chunk * scratch_size
        block = own + panels * width * (depth + 1)
        for i in range(own, block):
            store_scalar(scratch, i, 0)
        first, end = chunk_bounds(dout.shape[0], chunk, threads)
        for n in range(first, end):
            for panel in range(0, panels, at_once):
                sums = Panels(scratch, own + panel * width * (depth + 1), width, width * (depth + 1))
                count = min(at_once, panels - panel)
                add_image(sums, dout, n, (panel, count), (padded[0], n * padded[1]), patches, block)
    for low, high in chunks(work, 2, filters):
        for f in range(low, high):
            place = f // width * width * (depth + 1) + f % width
            for k in range(depth + 1):
                total = load_scalar(scratch, place + k * width)
                for other in range(1, threads):
                    total += load_scalar(scratch, other * scratch_size + place + k * width)
                if k < depth:
                    store_scalar(dW, f * depth + k, total)
                else:
                    store_scalar(db, f, total)


@device
def add_image(sums, dout, n, panels, image, patches, block):
    """One image's products with one panel of filters or two, added to the Panels `sums`.

    panels: the first, and how many; image: an array, and where the image begins in it.
    """
    noinline()
    (panel, count), width = panels, panel_width(sums.array)
    depth, pixels = len(patches.k_offsets), len(patches.row_offsets)
    for top in range(0, pixels, DEEP):
        deep = min(DEEP, pixels - top)
        packed = panels_at(sums.array, block, deep)
        for p in range(count):
            pack_pixels(panels_from(packed, 0, p), dout, n, (panel + p) * width, top, deep)
            add_rows(sums.array, sums.start + p * sums.panel_step + depth * width, block + p * packed.panel_step, deep)
        a = IndirectMatrix(image[0], image[1], patches.k_offsets, np.intp(0), patches.row_offsets, top)
        one = sums.array.dtype.type(1)
        multiply_panels(patches.address, sums, a, packed, zero_bias(sums), (depth, deep, count), adding(one))


@device
def pack_pixels(packed, dout, n, first_filter, top, count):
    """One panel [pixel][filter] of `count` pixels of an image of dout from `top` on, padded with zeros."""
    noinline()
    array, p0, steps, columns = packed.array, packed.start, dout.steps, dout.shape[3]
    width = panel_width(array)
    filters = min(width, dout.shape[1] - first_filter)
    source = n * steps[0] + first_filter * steps[1]
    if steps[3] == 1 and steps[2] == columns:
        copy_transposed(Span(array, p0), width, Span(dout.array, source + top), steps[1], filters, count)
    else:
        for f in range(filters):
            for r in range(count):
                y, x = (top + r) // columns, (top + r) % columns
                number = load_scalar(dout.array, source + f * steps[1] + y * steps[2] + x * steps[3])
                store_scalar(array, p0 + r * width + f, number)
    for f in range(filters, width):
        for r in range(count):
            store_scalar(array, p0 + r * width + f, 0)


@device
def add_rows(array, total, panel, count):
    """The panel at `total` += the sum of the rows of the one at `panel`, DEEP at the most: a long sum, made in blocks."""
    half = lanes(array)
    left = right = zeros(array)
    for r in range(count):
        left, right = add(left, load(array, panel + 2 * r * half)), add(right, load(array, panel + (2 * r + 1) * half))
    store(array, total, add(load(array, total), left))
    store(array, total + half, add(load(array, total + half), right))


@parallel_kernel
def _scatter_add(work, dx, size, dout, weights, window, scratch, scratch_size):
    """dx[c, oy * stride + fy - pad, ox * stride + fx - pad] += the sum over filters of W[f, c, fy, fx] * dout[f, oy, ox].

    Row by row of dout: its filters and pixels are packed, the products [k][ox] made, and added where they belong. window:
    channels, height, width, stride, pad.
    """
    thread, threads, _ = work
    dout = Images(*dout)
    filters, depth, columns = dout.shape[1], window[0] * window[1] * window[2], dout.shape[3]
    width, chunk_count = panel_width(dx), most_chunks(threads)
    panels = (columns + width - 1) // width
    line = panels * width
    packed = panels_at(scratch, thread * scratch_size, filters)
    products = Panels(scratch, packed.start + filters * line, line, width)
    a = MicroPanels(weights, 0, np.intp(ROWS), np.intp(1), depth)
    epilogue = Epilogue(dx.dtype.type(1), np.bool_(True), np.intp(AS_IT_IS), np.intp(0))
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds(dout.shape[0], chunk, chunk_count)
        for n in range(first, end):
            for y in range(dout.shape[2]):
                pack_line(packed, dout, n, y)
                multiply_block(products, a, packed, zero_bias(products), (depth, filters, panels), epilogue)
                add_patches(dx, n * size[1] * size[2] * size[3], size, products, columns, y, window)


@device
def pack_line(packed, dout, n, y):
    """Row y of an image of dout, [filter][x], in panel layout, padded with zeros."""
    noinline()
    array, target, columns = packed.array, packed.start, dout.shape[3]
    width = panel_width(array)
    for left in range(0, columns, width):
        for f in range(dout.shape[1]):
            source = n * dout.steps[0] + f * dout.steps[1] + y * dout.steps[2]
            for x in range(left, left + width):
                number = load_scalar(dout.array, source + x * dout.steps[3]) if x < columns else 0
                store_scalar(array, target, number)
                target += 1


@device
def add_patches(dx, x0, size, products, columns, oy, window):
    """Add products[k][ox] to one image of dx; what lies in the padding is dropped."""
    noinline()
    channels, high, wide, stride, pad = window
    for c in range(channels):
        for fy in range(high):
            y = oy * stride - pad + fy
            if y < 0 or y >= size[2]:
                continue
            for fx in range(wide):
                source = products.start + ((c * high + fy) * wide + fx) * products.row_step
                target = x0 + (c * size[2] + y) * size[3] + fx - pad
                first = max(0, (pad - fx + stride - 1) // stride)
                end = min(columns, (size[3] - 1 + pad - fx) // stride + 1)
                add_line(dx, target, products.array, source, (first, end, stride))


@device
def add_line(dx, target, products, source, ends):
    first, end, stride = ends
    if stride == 1:
        for x in range(first, end):
            number = load_scalar(dx, target + x) + load_scalar(products, source + x)
            store_scalar(dx, target + x, number)
    else:
        for x in range(first, end):
            number = load_scalar(dx, target + x * stride) + load_scalar(products, source + x)
            store_scalar(dx, target + x * stride, number)
