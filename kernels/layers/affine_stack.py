"""Affine layers with an activation after each, one after the other, in one call: what a script's network is mostly made of.

    z = x @ W + b          out = activation(z)          the next layer's x = out

Everything that a layer by itself would give is there afterwards. Forward, and backward down to the gradient of the first
layer's output, a thread takes its rows through all layers, so that what it has written is still in its core's cache; the
gradients of W, which are sums over all rows, are shared by rows of W. The products are those of affine.py, to the last bit
unless a hidden layer is mostly zeros, which are passed over in the first layer alone.

Of a script's gradient and loss of 784-50-10, batch 100, layer by layer, half of the time was between kernels: each call
looks at its arguments. A step takes 0.95 of that time, of batch 32 0.85 (784-100-10: 0.75).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from ..gemm.matrices import Either, Matrix, Span
from ..gemm.nonzero_columns import (
    FOUND_AT_ONCE,
    Buffers,
    Product,
    pack_strips,
    weights_gradient,
    workspace_and_buffers,
)
from ..gemm.nonzeros import BATCH, BLOCK, MOST_VECTORS, PLACES, Numbers, has_mostly_zeros, multiply_rows, repays_looking
from ..gemm.packing import BLOCK_SIZE, MC, SHORT, packed_size
from ..gemm.shared_product import Place, Plan, multiply_chunk_here, transposed
from ..runtime.arrays import flat, workspace
from ..runtime.chunks import CHUNKS_PER_THREAD, chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.magnitude import largest_in
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.simd import lanes, load, load_scalar, noinline, store, store_scalar, where_positive
from ..runtime.sums import LEVELS
from ..runtime.tables import Table, addresses_of, at
from ..runtime.threads import parallel_kernel, run
from ..runtime.tuning import Tuning
from .affine import sum_rows
from .sigmoid import sigmoid_range

MOST_LAYERS = 16  # affine ones
IDENTITY, RELU, STRICT_RELU, SIGMOID = range(4)  # the mask of a strict one is z < 0
CODES = {"identity": IDENTITY, "relu": RELU, "strict relu": STRICT_RELU, "sigmoid": SIGMOID}
# The groups of a call's arrays, one array for each layer: forward's, and backward's, of which the first three are the same.
WEIGHTS, MASKS, KEEPS, ZS, OUTS, BIASES = range(6)
INPUTS, DXS, DOUTS, DWS, DBS = range(3, 8)
# Multiplications, zeros among them: from the second on, all threads take part; between them, where it is found to repay.
LEAST_SHARED, PARALLEL_THRESHOLD = 1_000_000, 20_000_000
LINE = 2 * MOST_LAYERS  # numbers of a thread's own, whole cache lines of them
MOST_KEPT = 16  # of as many numbers of rows
_tuning = Tuning()  # of one thread or of all
_PLACE = np.dtype(np.int32)
_BITS = {size: np.dtype(f"i{size}") for size in (1, 4, 8)}


class Layers(NamedTuple):
    """How many affine layers; their widths, the input's first; codes of what comes after each; how many rows x has."""

    count: int
    widths: Any
    codes: Any
    rows: int


class Drops(NamedTuple):
    """Dropout after each layer's activation: what is kept is multiplied by scales[i]; whether a mask says what is."""

    scales: Any
    are_masked: Any


class Prepared(NamedTuple):
    """What stays as it is for as many rows and threads: the fields of Layers; the chunks of a phase; numbers of workspace
    for each layer of each thread, where the rest begins, and how many of these a thread needs for dW; whether it repays to
    look for zeros."""

    layers: tuple[Any, ...]
    chunk_count: int
    each: int
    rest: int
    each_dW: int
    may_be_sparse: bool


class AffineStack:
    """Affine layers of these widths, the input's first, in one dtype, at most MOST_LAYERS; see affine_stack."""

    def __init__(self, widths, activations, dtype):
        self._widths, self._names, self._dtype = np.array(widths), tuple(activations), np.dtype(dtype)
        self._codes = np.array([CODES[name] for name in activations])
        self._layers = list(itertools.pairwise(widths))
        self._products = sum(depth * columns for depth, columns in self._layers)
        self._zeros = np.zeros(max(widths), dtype)
        self._kept = {}
        self._no_drops = self._drops([None] * len(self._layers))

    def forward(self, x, weights, biases, drops=None):
        """x (N, D), C-contiguous, of at least one row -> zs, outs, masks, largest: one of each for each layer.

        weights, biases: C-contiguous. drops: of each layer None, or, after "relu", dropout: the mask of what is kept (N, M),
        None for all, and what that is multiplied with. outs[i] is zs[i] after "identity", and what is kept after dropout;
        masks[i], where z <= 0, is there after "relu", and where z < 0 after "strict relu", else None. largest[i] is the
        largest |z|, and inf where not all are finite, or may be.
        """
        zs, outs, masks, rows, dtype = [], [], [], len(x), self._dtype
        for (_, columns), name in zip(self._layers, self._names, strict=True):
            z = np.empty((rows, columns), dtype)
            zs.append(z)
            outs.append(z if name == "identity" else np.empty((rows, columns), dtype))
            masks.append(np.empty((rows, columns), np.bool_) if name.endswith("relu") else None)
        threads = self.threads_for(rows, True)
        layers, chunk_count, each, rest, _, may_be_sparse = self._prepared(rows, threads)
        numbers, largest = flat(x), np.zeros(threads * LINE, dtype)
        own = (BATCH + BLOCK) * MOST_VECTORS * VECTOR_BYTES // dtype.itemsize
        scratch = workspace(rest + threads * own, dtype), workspace(threads * PLACES, _PLACE), own
        keeps, drops = self._drops(drops)
        groups = weights, masks, keeps, zs, outs, biases
        run(
            _forward, threads, addresses_of(*groups), (numbers, numbers.view(_BITS[numbers.itemsize]), 0, x.shape[1]),
            layers, (chunk_count, each, rest, may_be_sparse, drops), scratch, largest, kept=groups,
        )  # fmt: skip
        of_threads = np.maximum.reduce(largest.reshape(threads, LINE)) if threads > 1 else largest
        return zs, outs, masks, of_threads.tolist()[: len(zs)]

    def backward(self, dout, inputs, weights, masks, needs_dx, drops=None):
        """dout (N, M), C-contiguous, of the last layer's z -> dx of inputs[0], None unless it is needed, dWs, dbs, largest.

        inputs: x of each layer (N, D), C-contiguous, all but the first of the dtype of W; masks: what forward made; drops:
        what it was given. largest: of dout, of the gradients between layers, before masks too, and of dbs; inf where not all
        are finite.
        """
        dxs, dWs, dbs, dtype = [], [], [], self._dtype
        (rows, _), first = dout.shape, inputs[0]
        for i, (depth, columns) in enumerate(self._layers):
            dxs.append(np.empty((rows, depth), dtype) if i or needs_dx else None)
            dWs.append(np.empty((depth, columns), dtype))
            dbs.append(np.empty(LEVELS * columns, dtype))
        threads = self.threads_for(rows, False)
        layers, chunk_count, each, rest, each_dW, may_be_sparse = self._prepared(rows, threads)
        numbers, largest, sizes = flat(first), np.zeros(threads * LINE, dtype), (rows, self._layers[0][1])
        size = rest + threads * each_dW
        scratch, of_x = workspace_and_buffers(size, numbers, sizes, threads, dtype, may_be_sparse)
        keeps, drops = self._drops(drops)
        groups = weights, masks, keeps, [None, *inputs[1:]], dxs, [*dxs[1:], dout], dWs, dbs
        run(
            _backward, threads, addresses_of(*groups), numbers, layers,
            (chunk_count, each, each_dW, may_be_sparse, needs_dx, drops),
            (scratch, scratch[rest:size], self._zeros, largest), of_x, kept=groups,
        )  # fmt: skip
        return dxs[0], dWs, [db[: len(db) // LEVELS].copy() for db in dbs], float(largest.max())

    def _drops(self, drops):
        """Masks of what is kept, one of each layer or None; and the fields of Drops."""
        if drops is None:
            return self._no_drops
        keeps = [None if one is None else one[0] for one in drops]
        scales = np.array([1 if one is None else one[1] for one in drops], self._dtype)
        return keeps, (scales, np.array([one is not None for one in keeps]))

    def threads_for(self, rows, is_first):
        """How many threads a call has; is_first: of a step, which is a forward and a backward, or a forward alone."""
        work = rows * self._products
        if LEAST_SHARED <= work < PARALLEL_THRESHOLD and threads_for(work, 0) > 1:
            return threads_for(work, 0) if (_tuning.next_call() if is_first else _tuning.is_second) else 1
        return threads_for(work, PARALLEL_THRESHOLD)

    def _prepared(self, rows, threads):
        """Chunks have about 128 rows; there is at least one for each thread, and at most as many as can be counted."""
        prepared = self._kept.get((rows, threads))
        if prepared is None:
            if len(self._kept) > MOST_KEPT:
                self._kept.clear()
            products = [*self._layers, *((columns, depth) for depth, columns in self._layers)]
            each = max(_workspace_of(self._dtype, *shape) for shape in products)
            chunk_count = min(max(threads, -(-rows // BATCH)), CHUNKS_PER_THREAD * threads)
            layers = Layers(len(self._layers), self._widths, self._codes, rows)
            rest = threads * len(self._layers) * each
            each_dW = max(_workspace_of(self._dtype, rows, columns) for _, columns in self._layers)
            may_be_sparse = repays_looking(rows, *self._layers[0], self._dtype)
            prepared = Prepared(tuple(layers), chunk_count, each, rest, each_dW, may_be_sparse)
            self._kept[rows, threads] = prepared
        return prepared


def affine_stack(widths, activations, dtype):
    """An AffineStack, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: "identity", "relu", "strict relu" or "sigmoid" after each
    layer.
    """
    return AffineStack(widths, activations, dtype)


def _workspace_of(dtype, depth, columns):
    """Numbers that `multiply_chunk` needs for a product with (depth, columns), shared by rows."""
    panel = 2 * VECTOR_BYTES // dtype.itemsize
    return packed_size(-(-columns // panel), depth, dtype) + (MC + 1) * panel + BLOCK_SIZE


@parallel_kernel
def _forward(work, addresses, x, layers, how, scratch, largest):
    """addresses: of weights, masks, what is kept, zs, outs, biases; how: chunks, each and rest of Prepared, whether x may be
    sparse, the fields of Drops; scratch: workspace, places for `multiply_rows`, and the numbers of the workspace that it
    takes."""
    thread, is_packed = work[0], False
    x, layers, (chunk_count, each, rest, may_be_sparse, drops) = Numbers(*x), Layers(*layers), how
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    zs, outs = group(addresses, layers, ZS, largest), group(addresses, layers, OUTS, largest)
    biases, keeps = group(addresses, layers, BIASES, largest), group(addresses, layers, KEEPS, np.bool_)
    sparse = may_be_sparse and has_mostly_zeros(x.array)
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds(layers.rows, chunk, chunk_count)
        for i in range(layers.count):
            place, columns = (i, chunk, thread, is_packed), layers.widths[i + 1]
            how_here = chunk_count, each, rest, sparse
            here = multiply_layer((zs, outs), (x, weights, biases), place, layers, how_here, scratch)
            largest[thread * LINE + i] = max(largest[thread * LINE + i], here)
            span = first * columns, (end - first) * columns
            activate(at(outs, i), at(masks, i), at(zs, i), span, layers.codes[i])
            drop(at(outs, i), keeps, i, span, drops)
        is_packed = True


@device
def group(addresses, layers, which, like):
    """The Table of a group, by its number."""
    return Table(addresses, which * layers.count, like)


@device
def multiply_layer(results, parameters, place, layers, how, scratch):
    """z of layer i for a chunk's rows, from x or from what the layer before it gave.

    -> the largest |z|, inf where not all are finite, or may not be. results: Tables of zs, outs; parameters: x, Tables of
    weights, biases; place: i, the chunk, the thread, whether it has packed W; how: chunks, each and rest of Prepared,
    whether x is sparse; scratch: as the kernel's.
    """
    (zs, outs), (x, weights, biases), (i, chunk, thread, is_packed) = results, parameters, place
    (chunk_count, each, rest, sparse), (space, memory, own) = how, scratch
    z, b, depth, columns = at(zs, i), at(biases, i), layers.widths[i], layers.widths[i + 1]
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    where, plan = Place(chunk, chunk_count, thread * layers.count + i, is_packed), Plan(each, True, None, 0)
    W, sizes, zero = Matrix(at(weights, i), 0, columns, 1), (layers.rows, depth, columns), z.dtype.type(0)
    if i == 0 and sparse:
        strip, places = Span(space, rest + thread * own), Span(memory, thread * PLACES)
        for top in range(first, end, BATCH):
            batch, high = Numbers(x.array, x.bits, x.start + top * depth, depth), min(BATCH, end - top)
            zero += multiply_rows(Span(z, top * columns), batch, W.array, b, (high, columns), strip, places)
    else:
        before = Matrix(at(outs, max(0, i - 1)), 0, depth, 1)
        multiply_chunk_here(z, Either(before, Matrix(x.array, 0, depth, 1), i == 0), W, b, sizes, plan, where, space)
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
    (start, count), (scales, are_masked) = span, drops
    if are_masked[i]:
        drop_masked(numbers, at(keeps, i), start, count, scales[i])
    elif scales[i] != 1:
        for j in range(start, start + count):
            store_scalar(numbers, j, load_scalar(numbers, j) * scales[i])


@device
def drop_masked(numbers, keep, start, count, scale):
    noinline()
    for j in range(start, start + count):
        factor = scale if load_scalar(keep, j) else numbers.dtype.type(0)
        store_scalar(numbers, j, load_scalar(numbers, j) * factor)


@parallel_kernel
def _backward(work, addresses, x, layers, how, scratch, of_x):
    """addresses: of weights, masks, what is kept, inputs, dxs, douts, dWs, dbs; the gradient of layer i - 1's z is that of
    layer i's input, changed. how: chunks of a phase, workspace of each layer and thread, that of each thread for dW, whether
    x may be sparse, whether its gradient is needed, the fields of Drops. scratch: workspace, that for dW, zeros, largest.
    of_x: the Buffers of a sparse x."""
    thread = work[0]
    (space, space_dW, zeros, largest), of_x = scratch, Buffers(*of_x)
    layers, (chunk_count, each, each_dW, may_be_sparse, needs_dx, drops) = Layers(*layers), how
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    dxs, douts = group(addresses, layers, DXS, largest), group(addresses, layers, DOUTS, largest)
    dWs, dbs = group(addresses, layers, DWS, largest), group(addresses, layers, DBS, largest)
    ins, keeps = group(addresses, layers, INPUTS, largest), group(addresses, layers, KEEPS, np.bool_)
    rows, is_packed, sparse = layers.rows, False, may_be_sparse and has_mostly_zeros(x)
    for chunk in claimed(work, 1, chunk_count):
        first, end = chunk_bounds(rows, chunk, chunk_count)
        last, columns = at(douts, layers.count - 1), layers.widths[layers.count]
        largest[thread * LINE] = max(largest[thread * LINE], largest_in(last, first * columns, end * columns))
        for i in range(layers.count - 1, -1, -1):
            if i > 0 or needs_dx:
                place = i, chunk, thread, is_packed
                of_layers, how_here = (ins, weights, masks, keeps), (chunk_count, each, drops)
                here = multiply_back((dxs, douts), of_layers, place, layers, how_here, (space, zeros))
                largest[thread * LINE] = max(largest[thread * LINE], here)
        if sparse:
            pack_strips(of_x.strips, at(douts, 0), rows, layers.widths[1], first, end)
        is_packed = True
    phases, how_weights = (2, chunk_count), (each_dW, sparse)
    multiply_weights(work, phases, (douts, dWs, dbs), (x, ins), layers, how_weights, (space_dW, zeros, largest), of_x)


@device
def multiply_back(gradients, inputs, place, layers, how, scratch):
    """dx of layer i for a chunk's rows, and, but for the first layer's, the gradient of what was before the activation in
    between -> the largest |dx|, see `derive`; 0 for the first layer.

    gradients: Tables of dxs, douts; inputs: Tables of inputs, weights, masks, what is kept; place: as in `multiply_layer`;
    how: chunks, each of Prepared, Drops; scratch: workspace, zeros.
    """
    (dxs, douts), (ins, weights, masks, keeps), (i, chunk, thread, is_packed) = gradients, inputs, place
    (chunk_count, each, drops), (space, zeros) = how, scratch
    dx, depth, columns = at(dxs, i), layers.widths[i], layers.widths[i + 1]
    first, end = chunk_bounds(layers.rows, chunk, chunk_count)
    d, W = Matrix(at(douts, i), 0, columns, 1), transposed(Matrix(at(weights, i), 0, columns, 1))
    where, plan = Place(chunk, chunk_count, thread * layers.count + i, is_packed), Plan(each, True, False, 0)
    multiply_chunk_here(dx, d, W, zeros, (layers.rows, columns, depth), plan, where, space)
    if i == 0:
        return dx.dtype.type(0)
    span = first * depth, (end - first) * depth
    largest = derive(dx, at(masks, i - 1), at(ins, i), span, layers.codes[i - 1])
    drop(dx, keeps, i - 1, span, drops)
    return largest


@device
def multiply_weights(work, phases, gradients, inputs, layers, how, scratch, of_x):
    """dW and db of all layers, a phase for each: phases: the first of them, and the chunks of each.

    gradients: Tables of douts, dWs, dbs; inputs: x, Table of inputs; how: workspace of each thread, whether x is sparse;
    scratch: workspace, zeros, largest; of_x: Buffers.
    """
    thread, (phase, chunk_count) = work[0], phases
    (douts, dWs, dbs), (x, ins) = gradients, inputs
    (each, sparse), (space, zeros, largest), rows = how, scratch, layers.rows
    for other in range(work[1]):  # 0 times what is not finite may not be passed over
        sparse = sparse and largest[other * LINE] < math.inf
    for i in range(layers.count):
        depth, columns, is_packed = layers.widths[i], layers.widths[i + 1], False
        for chunk in claimed(work, phase + i, chunk_count):
            sizes, place = (depth, rows, columns), Place(chunk, chunk_count, thread, is_packed)
            d, dW, plan = Matrix(at(douts, i), 0, columns, 1), at(dWs, i), Plan(each, True, rows > SHORT, 0)
            if i == 0 and sparse:
                bounds = chunk_bounds((depth + FOUND_AT_ONCE - 1) // FOUND_AT_ONCE, chunk, chunk_count)
                product = Product(Numbers(x, of_x.bits, 0, depth), rows, columns)
                weights_gradient(dW, product, bounds, thread, of_x)
            elif i == 0:
                multiply_chunk_here(dW, transposed(Matrix(x, 0, depth, 1)), d, zeros, sizes, plan, place, space)
            else:
                multiply_chunk_here(
                    dW, transposed(Matrix(at(ins, i), 0, depth, 1)), d, zeros, sizes, plan, place, space
                )
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
