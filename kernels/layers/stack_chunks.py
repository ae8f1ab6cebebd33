"""A chunk of rows through affine layers and what comes after each, forward and backward: what affine_stack.py,
normalized_stack.py and affine_network.py have in common.

A chunk's forward, its backward, and the gradients of the weights are kernels of their own, which are called by their
address (runtime/pointers.py): a stack's two calls and a network's one are made of the same three, compiled once. A forward
and backward of 784-M-10, M 30 to 200, took 0.86 to 0.93 of the time of two kernels with all of it in them, and takes 0.87
to 1.01 of that since products are kernels, too (gemm/shared_product.py), which all three call.

Most rows of another dtype than the weights' are images, and mostly zeros: the product with such rows where they are not is
compiled when one is needed. A call that misses it says so in `largest`, and is made again (see `AffineStack.has_missed`).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..gemm.matrices import Matrix, Span
from ..gemm.nonzero_columns import FOUND_AT_ONCE, Buffers, Product, no_buffers, pack_strips, weights_gradient
from ..gemm.nonzeros import BATCH, PLACE, PLACES, Numbers, multiply_rows
from ..gemm.packing import SHORT
from ..gemm.shared_product import Place, Plan, multiply_chunk, transposed
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import InnerKernel, device
from ..runtime.magnitude import largest_in
from ..runtime.pointers import address_of, call_at
from ..runtime.simd import lanes, load, load_scalar, noinline, store, store_scalar, where_positive
from ..runtime.tables import Table, at
from .affine import sum_rows
from .sigmoid import sigmoid_range

MOST_LAYERS = 16  # affine ones
IDENTITY, RELU, STRICT_RELU, SIGMOID = range(4)  # the mask of a strict one is z < 0
CODES = {"identity": IDENTITY, "relu": RELU, "strict relu": STRICT_RELU, "sigmoid": SIGMOID}
# The groups of a call's arrays, one array for each layer: forward's, and backward's, of which the first three are the same.
WEIGHTS, MASKS, KEEPS, ZS, OUTS, BIASES = range(6)
INPUTS, DXS, DOUTS, DWS, DBS = range(3, 8)
LINE = 2 * MOST_LAYERS  # numbers of a thread's own, whole cache lines of them
MISSED = LINE - 1  # the place in `largest` that says whether a product was missing


class Layers(NamedTuple):
    """How many affine layers; their widths, the input's first; codes of what comes after each; how many rows x has."""

    count: int
    widths: Any
    codes: Any
    rows: int


class Products(NamedTuple):
    """Where `multiply_chunk` is for a left-hand side of the weights' dtype, and for x, 0 if that is not compiled yet."""

    address: int
    of_x: int


class Drops(NamedTuple):
    """Dropout after each layer's activation: what is kept is multiplied by scales[i]; whether a mask says what is."""

    scales: Any
    are_masked: Any


@cache
def forward_address(dtype, x_dtype):
    """Where `_forward_chunk` is, for parameters and x of these dtypes, compiled unless it was."""
    numbers, drops = np.empty(0, dtype), (np.empty(0, dtype), np.empty(0, np.bool_))
    x = np.empty(0, x_dtype)
    how, scratch = (0, 0, 0, False, _PRODUCTS, drops), (numbers, np.empty(0, PLACE), 0)
    of_x = x, x.view(f"i{x.itemsize}"), 0, 0
    return address_of(_forward_chunk, _WORDS, of_x, _LAYERS, how, scratch, numbers, (0, 0, False))


@cache
def backward_address(dtype):
    """Where `_backward_chunk` is, for parameters of this dtype; of which dtype x is does not matter to it."""
    numbers, drops = np.empty(0, dtype), (np.empty(0, dtype), np.empty(0, np.bool_))
    how, scratch = (0, 0, False, False, _PRODUCTS, drops), (numbers, numbers, numbers)
    return address_of(_backward_chunk, _WORDS, _LAYERS, how, scratch, numbers, (0, 0, False))


@cache
def weights_address(dtype, x_dtype):
    """Where `_weights` is, for parameters and x of these dtypes."""
    numbers, x = np.empty(0, dtype), np.empty(0, x_dtype)
    work, scratch = (0, 0, np.empty(0, np.int64)), (numbers, numbers, numbers)
    return address_of(_weights, work, _WORDS, x, _LAYERS, (0, 0, False, _PRODUCTS), scratch, no_buffers(numbers, x))


_WORDS = np.empty(0, np.int64)
_LAYERS, _PRODUCTS = (0, _WORDS, _WORDS, 0), (0, 0)


@device
def is_missing(products, sparse, largest):
    """Whether the product with x is needed, and is not there: `largest` says it to the caller then."""
    if sparse or Products(*products).of_x != 0:
        return False
    largest[MISSED] = 1
    return True


@device
def forward_chunk(address, addresses, x, layers, how, scratch, largest, where):
    """A chunk through all layers. addresses: of weights, masks, what is kept, zs, outs, biases; x, layers: the fields of
    Numbers and Layers; how: chunks, each and rest of Prepared, whether x is sparse, the fields of Products and Drops;
    scratch: workspace, places for `multiply_rows`, and the numbers of the workspace that it takes; largest: of each thread
    and layer |z|; where: the thread, the chunk, whether the thread has packed the weights."""
    call_at(address, None, (addresses, x, layers, how, scratch, largest, where))


@InnerKernel
def _forward_chunk(addresses, x, layers, how, scratch, largest, where):
    x, layers, (chunk_count, each, rest, sparse, products, drops) = Numbers(*x), Layers(*layers), how
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    zs, outs = group(addresses, layers, ZS, largest), group(addresses, layers, OUTS, largest)
    biases, keeps = group(addresses, layers, BIASES, largest), group(addresses, layers, KEEPS, np.bool_)
    thread, chunk, is_packed = where
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    for i in range(layers.count):
        place, columns = (i, chunk, thread, is_packed), layers.widths[i + 1]
        how_here = chunk_count, each, rest, sparse, products
        here = multiply_layer((zs, outs), (x, weights, biases), place, layers, how_here, scratch)
        largest[thread * LINE + i] = max(largest[thread * LINE + i], here)
        span = first * columns, (end - first) * columns
        activate(at(outs, i), at(masks, i), at(zs, i), span, layers.codes[i])
        drop(at(outs, i), keeps, i, span, drops)


@device
def backward_chunk(address, addresses, layers, how, scratch, strips, where):
    """A chunk's gradients, from the last layer's to the first's.

    addresses: of weights, masks, what is kept, inputs, dxs, douts, dWs, dbs; the gradient of layer i - 1's z is that of
    layer i's input, changed. how: chunks, each of Prepared, whether x is sparse, whether its gradient is needed, the fields
    of Products and Drops; scratch: workspace, zeros, largest; strips: of Buffers; where: as in `forward_chunk`.
    """
    call_at(address, None, (addresses, layers, how, scratch, strips, where))


@InnerKernel
def _backward_chunk(addresses, layers, how, scratch, strips, where):
    space, zeros, largest = scratch
    layers, (chunk_count, each, sparse, needs_dx, products, drops) = Layers(*layers), how
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    dxs, douts = group(addresses, layers, DXS, largest), group(addresses, layers, DOUTS, largest)
    ins, keeps = group(addresses, layers, INPUTS, largest), group(addresses, layers, KEEPS, np.bool_)
    thread, chunk, is_packed = where
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    last, columns = at(douts, layers.count - 1), layers.widths[layers.count]
    largest[thread * LINE] = max(largest[thread * LINE], largest_in(last, first * columns, end * columns))
    for i in range(layers.count - 1, -1, -1):
        if i > 0 or needs_dx:
            place = i, chunk, thread, is_packed
            of_layers, how_here = (ins, weights, masks, keeps), (chunk_count, each, products, drops)
            here = multiply_back((dxs, douts), of_layers, place, layers, how_here, (space, zeros))
            largest[thread * LINE] = max(largest[thread * LINE], here)
    if sparse:
        pack_strips(strips, at(douts, 0), layers.rows, layers.widths[1], first, end)


@device
def gradients_of_weights(address, work, addresses, x, layers, how, scratch, of_x):
    """dW and db of all layers, a phase for each, once `backward_chunk` has been there in phase 1. how: workspace of each
    thread, chunks, whether x is sparse, the fields of Products; scratch: workspace, zeros, largest; x: flat; of_x: the
    fields of Buffers; the rest as in `backward_chunk`."""
    call_at(address, None, (work, addresses, x, layers, how, scratch, of_x))


@InnerKernel
def _weights(work, addresses, x, layers, how, scratch, of_x):
    layers, (each, chunk_count, sparse, products), largest = Layers(*layers), how, scratch[2]
    douts, ins = group(addresses, layers, DOUTS, largest), group(addresses, layers, INPUTS, largest)
    dWs, dbs = group(addresses, layers, DWS, largest), group(addresses, layers, DBS, largest)
    gradients, phases = (douts, dWs, dbs), (2, chunk_count)
    multiply_weights(work, phases, gradients, (x, ins), layers, (each, sparse, products), scratch, Buffers(*of_x))


@device
def group(addresses, layers, which, like):
    """The Table of a group, by its number."""
    return Table(addresses, which * layers.count, like)


@device
def multiply_layer(results, parameters, place, layers, how, scratch):
    """z of layer i for a chunk's rows, from x or from what the layer before it gave.

    -> the largest |z|, inf where not all are finite, or may not be. results: Tables of zs, outs; parameters: x, Tables of
    weights, biases; place: i, the chunk, the thread, whether it has packed W; how: chunks, each and rest of Prepared,
    whether x is sparse, the fields of Products; scratch: as the kernel's.
    """
    (zs, outs), (x, weights, biases), (i, chunk, thread, is_packed) = results, parameters, place
    (chunk_count, each, rest, sparse, products), (space, memory, own) = how, scratch
    z, b, depth, columns = at(zs, i), at(biases, i), layers.widths[i], layers.widths[i + 1]
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    where = Place(chunk, chunk_count, thread * layers.count + i, is_packed)
    W, sizes, zero = Matrix(at(weights, i), 0, columns, 1), (layers.rows, depth, columns), z.dtype.type(0)
    if i == 0 and sparse:
        strip, places = Span(space, rest + thread * own), Span(memory, thread * PLACES)
        for top in range(first, end, BATCH):
            batch, high = Numbers(x.array, x.bits, x.start + top * depth, depth), min(BATCH, end - top)
            zero += multiply_rows(Span(z, top * columns), batch, W.array, b, (high, columns), strip, places)
    elif i == 0:
        plan = Plan(each, True, False, Products(*products).of_x)
        multiply_chunk(z, Matrix(x.array, 0, depth, 1), W, b, sizes, plan, where, space)
    else:
        plan = Plan(each, True, False, Products(*products).address)
        multiply_chunk(z, Matrix(at(outs, i - 1), 0, depth, 1), W, b, sizes, plan, where, space)
    largest = largest_in(z, first * columns, end * columns)
    return largest if zero == 0 else z.dtype.type(math.inf)


@device
def activate(out, mask, z, span, code):
    """out = activation(z), and the mask, from the start of `span` on, as many as it says."""
    noinline()
    start, count = span
    if code == RELU:
        whole = count // lanes(z) * lanes(z)
        for i in range(start, start + whole, lanes(z)):
            store(out, i, where_positive(load(z, i), load(z, i)))
        for i in range(start + whole, start + count):
            number = load_scalar(z, i)
            store_scalar(out, i, z.dtype.type(0) if number <= z.dtype.type(0) else number)
        for i in range(start, start + count):
            store_scalar(mask, i, load_scalar(z, i) <= z.dtype.type(0))
    elif code == STRICT_RELU:
        for i in range(start, start + count):
            number = load_scalar(z, i)
            store_scalar(mask, i, number < z.dtype.type(0))
            store_scalar(out, i, z.dtype.type(0) if number < z.dtype.type(0) else number)
    elif code != IDENTITY:
        sigmoid_range(out, z, start, start + count)


@device
def drop(numbers, keeps, i, span, drops):
    """What is kept after layer i, or its gradient, and zeros for what is not: from the start of `span` on, as many as it
    says. keeps: Table of masks."""
    (start, count), drops = span, Drops(*drops)
    scale = drops.scales[i]
    if drops.are_masked[i]:
        drop_masked(numbers, at(keeps, i), start, count, scale)
    elif scale != 1:
        for j in range(start, start + count):
            store_scalar(numbers, j, load_scalar(numbers, j) * scale)


@device
def drop_masked(numbers, keep, start, count, scale):
    noinline()
    for j in range(start, start + count):
        factor = scale if load_scalar(keep, j) else numbers.dtype.type(0)
        store_scalar(numbers, j, load_scalar(numbers, j) * factor)


@device
def multiply_back(gradients, inputs, place, layers, how, scratch):
    """dx of layer i for a chunk's rows, and, but for the first layer's, the gradient of what was before the activation in
    between -> the largest |dx|, see `derive`; 0 for the first layer.

    gradients: Tables of dxs, douts; inputs: Tables of inputs, weights, masks, what is kept; place: as in `multiply_layer`;
    how: chunks, each of Prepared, the fields of Products and Drops; scratch: workspace, zeros.
    """
    (dxs, douts), (ins, weights, masks, keeps), (i, chunk, thread, is_packed) = gradients, inputs, place
    (chunk_count, each, products, drops), (space, zeros) = how, scratch
    dx, depth, columns = at(dxs, i), layers.widths[i], layers.widths[i + 1]
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    d, W = Matrix(at(douts, i), 0, columns, 1), transposed(Matrix(at(weights, i), 0, columns, 1))
    where = Place(chunk, chunk_count, thread * layers.count + i, is_packed)
    plan = Plan(each, True, False, Products(*products).address)
    multiply_chunk(dx, d, W, zeros, (layers.rows, columns, depth), plan, where, space)
    if i == 0:
        return dx.dtype.type(0)
    span = first * depth, (end - first) * depth
    largest = derive(dx, at(masks, i - 1), at(ins, i), span, layers.codes[i - 1])
    drop(dx, keeps, i - 1, span, drops)
    return largest


@device
def multiply_weights(work, phases, gradients, inputs, layers, how, scratch, of_x):
    """dW and db of all layers, a phase for each: phases: the first of them, and the chunks of each.

    gradients: Tables of douts, dWs, dbs; inputs: x, Table of inputs; how: workspace of each thread, whether x is sparse,
    the fields of Products; scratch: workspace, zeros, largest; of_x: Buffers.
    """
    thread, (phase, chunk_count) = work[0], phases
    (douts, dWs, dbs), (x, ins) = gradients, inputs
    (each, sparse, products), (space, zeros, largest), rows = how, scratch, layers.rows
    for other in range(work[1]):  # 0 times what is not finite may not be passed over
        sparse = sparse and largest[other * LINE] < math.inf
    for i in range(layers.count):
        depth, columns, is_packed = layers.widths[i], layers.widths[i + 1], False
        for chunk in claimed(work, phase + i, chunk_count):
            sizes, place = (depth, rows, columns), Place(chunk, chunk_count, thread, is_packed)
            address = Products(*products).of_x if i == 0 else Products(*products).address
            d, dW, plan = Matrix(at(douts, i), 0, columns, 1), at(dWs, i), Plan(each, True, rows > SHORT, address)
            if i == 0 and sparse:
                bounds = chunk_bounds((depth + FOUND_AT_ONCE - 1) // FOUND_AT_ONCE, chunk, chunk_count)
                product = Product(Numbers(x, of_x.bits, 0, depth), rows, columns)
                weights_gradient(dW, product, bounds, thread, of_x)
            elif i > 0:
                multiply_chunk(dW, transposed(Matrix(at(ins, i), 0, depth, 1)), d, zeros, sizes, plan, place, space)
            elif not is_missing(products, sparse, largest):
                multiply_chunk(dW, transposed(Matrix(x, 0, depth, 1)), d, zeros, sizes, plan, place, space)
            is_packed = True
            if chunk == 0:
                db = at(dbs, i)
                sum_rows(db, d, columns, rows)
                here = largest_in(db, 0, columns)
                largest[thread * LINE + 1] = max(largest[thread * LINE + 1], here)


@device
def derive(dout, mask, out, span, code):
    """dout *= the activation's derivative, from the start of `span` on; by the mask, or by what the activation gave.

    Returns the largest |dout|: before, as a mask may hide what is not finite, and after, as what sigmoid gave may be NaN.
    """
    noinline()
    start, count = span
    one, largest = dout.dtype.type(1), largest_in(dout, start, start + count)
    if code in (RELU, STRICT_RELU):
        for i in range(start, start + count):
            store_scalar(dout, i, dout.dtype.type(0) if load_scalar(mask, i) else load_scalar(dout, i))
    elif code != IDENTITY:
        for i in range(start, start + count):
            y = load_scalar(out, i)
            store_scalar(dout, i, load_scalar(dout, i) * (one - y) * y)
        largest = max(largest, largest_in(dout, start, start + count))
    return largest
