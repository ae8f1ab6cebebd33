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
from typing import Any, NamedTuple

import numpy as np

from ..gemm.nonzero_columns import Buffers, workspace_and_buffers
from ..gemm.nonzeros import BATCH, BLOCK, MOST_VECTORS, PLACE, PLACES, has_mostly_zeros, repays_looking
from ..gemm.packing import BLOCK_SIZE, MC, packed_size
from ..gemm.shared_product import chunk_address
from ..runtime.arrays import flat, workspace
from ..runtime.chunks import CHUNKS_PER_THREAD, claimed
from ..runtime.processors import VECTOR_BYTES, threads_for
from ..runtime.sums import LEVELS
from ..runtime.tables import addresses_of
from ..runtime.threads import parallel_kernel, run
from ..runtime.tuning import Tuning
from .stack_chunks import (
    CODES,
    LINE,
    MISSED,
    Layers,
    backward_address,
    backward_chunk,
    forward_address,
    forward_chunk,
    gradients_of_weights,
    is_missing,
    weights_address,
)

# Multiplications, zeros among them: from the second on, all threads take part; between them, where it is found to repay.
LEAST_SHARED, PARALLEL_THRESHOLD = 1_000_000, 20_000_000
MOST_KEPT = 16  # of as many numbers of rows
_tuning = Tuning()  # of one thread or of all
_BITS = {size: np.dtype(f"i{size}") for size in (1, 4, 8)}


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
        self._multiplications = sum(depth * columns for depth, columns in self._layers)
        self._zeros = np.zeros(max(widths), dtype)
        self._own = (BATCH + BLOCK) * MOST_VECTORS * VECTOR_BYTES // self._dtype.itemsize  # for `multiply_rows`
        self._kept, self._of_x = {}, {}
        self._no_drops = self._drops([None] * len(self._layers))

    def forward(self, x, weights, biases, drops=None):
        """x (N, D), C-contiguous, of at least one row -> zs, outs, masks, largest: one of each for each layer.

        weights, biases: C-contiguous. drops: of each layer None, or, after "relu", dropout: the mask of what is kept (N, M),
        None for all, and what that is multiplied with. outs[i] is zs[i] after "identity", and what is kept after dropout;
        masks[i], where z <= 0, is there after "relu", and where z < 0 after "strict relu", else None. largest[i] is the
        largest |z|, and inf where not all are finite, or may be.
        """
        rows, dtype = len(x), self._dtype
        zs, outs, masks = self._results(rows)
        threads = self.threads_for(rows, True)
        layers, chunk_count, each, rest, _, may_be_sparse = self._prepared(rows, threads)
        own, largest = self._own, np.zeros(threads * LINE, dtype)
        scratch = workspace(rest + threads * own, dtype), workspace(threads * PLACES, PLACE), own
        keeps, dropped = self._drops(drops)
        groups = weights, masks, keeps, zs, outs, biases
        run(
            _forward, threads, forward_address(dtype, x.dtype), addresses_of(*groups), numbers_of(x), layers,
            (chunk_count, each, rest, may_be_sparse, self.products(x.dtype, may_be_sparse), dropped), scratch, largest,
            kept=groups,
        )  # fmt: skip
        found = (np.maximum.reduce(largest.reshape(threads, LINE)) if threads > 1 else largest).tolist()
        if self.has_missed(found, x.dtype):
            return self.forward(x, weights, biases, drops)
        return zs, outs, masks, found[: len(zs)]

    def backward(self, dout, inputs, weights, masks, needs_dx, drops=None):
        """dout (N, M), C-contiguous, of the last layer's z -> dx of inputs[0], None unless it is needed, dWs, dbs, largest.

        inputs: x of each layer (N, D), C-contiguous, all but the first of the dtype of W; masks: what forward made; drops:
        what it was given. largest: of dout, of the gradients between layers, before masks too, and of dbs; inf where not all
        are finite.
        """
        (rows, _), first, dtype = dout.shape, inputs[0], self._dtype
        dxs, dWs, dbs = self._gradients(rows, needs_dx)
        threads = self.threads_for(rows, False)
        layers, chunk_count, each, rest, each_dW, may_be_sparse = self._prepared(rows, threads)
        numbers, largest, sizes = flat(first), np.zeros(threads * LINE, dtype), (rows, self._layers[0][1])
        size = rest + threads * each_dW
        scratch, of_x = workspace_and_buffers(size, numbers, sizes, threads, dtype, may_be_sparse)
        keeps, dropped = self._drops(drops)
        functions = backward_address(dtype), weights_address(dtype, first.dtype)
        groups = weights, masks, keeps, [None, *inputs[1:]], dxs, [*dxs[1:], dout], dWs, dbs
        run(
            _backward, threads, functions, addresses_of(*groups), numbers, layers,
            (chunk_count, each, each_dW, may_be_sparse, needs_dx, self.products(first.dtype, may_be_sparse), dropped),
            (scratch, scratch[rest:size], self._zeros, largest), of_x, kept=groups,
        )  # fmt: skip
        if self.has_missed(largest, first.dtype):
            return self.backward(dout, inputs, weights, masks, needs_dx, drops)
        return dxs[0], dWs, sums_in(dbs), float(largest.max())

    def _results(self, rows):
        """Arrays for the zs, outs and masks of so many rows."""
        zs, outs, masks = [], [], []
        for (_, columns), name in zip(self._layers, self._names, strict=True):
            z = np.empty((rows, columns), self._dtype)
            zs.append(z)
            outs.append(z if name == "identity" else np.empty((rows, columns), self._dtype))
            masks.append(np.empty((rows, columns), np.bool_) if name.endswith("relu") else None)
        return zs, outs, masks

    def _gradients(self, rows, needs_dx):
        """Arrays for the gradients of so many rows: dxs, dWs, and dbs, of as many numbers as sums need."""
        dxs, dWs, dbs, dtype = [], [], [], self._dtype
        for i, (depth, columns) in enumerate(self._layers):
            dxs.append(np.empty((rows, depth), dtype) if i or needs_dx else None)
            dWs.append(np.empty((depth, columns), dtype))
            dbs.append(np.empty(LEVELS * columns, dtype))
        return dxs, dWs, dbs

    def compile_products(self):
        """Compile the product of numbers of the layers' dtype, which all calls need."""
        chunk_address(self._dtype, self._dtype)

    def compile_chunks_back(self, x_dtype):
        """Compile, for x of this dtype, products and what a chunk's backward needs, but for what zeros in x need."""
        self.compile_products()
        backward_address(self._dtype)
        weights_address(self._dtype, x_dtype)

    def products(self, x_dtype, may_be_sparse):
        """The fields of Products; that for x of another dtype is compiled if x cannot be sparse, or was not once."""
        address = chunk_address(self._dtype, self._dtype)
        if x_dtype == self._dtype:
            return address, address
        if not may_be_sparse:
            self._of_x[x_dtype] = chunk_address(self._dtype, x_dtype)
        return address, self._of_x.get(x_dtype, 0)

    def has_missed(self, largest, x_dtype):
        """Whether a call, by its `largest`, missed the product with x. It is there now: the call is to be made again."""
        if not largest[MISSED]:
            return False
        self.products(x_dtype, may_be_sparse=False)
        return True

    def _drops(self, drops):
        """Masks of what is kept, one of each layer or None; and the fields of Drops."""
        if drops is None:
            return self._no_drops
        keeps = [None if one is None else one[0] for one in drops]
        scales = np.array([1 if one is None else one[1] for one in drops], self._dtype)
        return keeps, (scales, np.array([one is not None for one in keeps]))

    def threads_for(self, rows, is_first):
        """How many threads a call has; is_first: of a step, which is a forward and a backward, or a forward alone."""
        work = rows * self._multiplications
        if LEAST_SHARED <= work < PARALLEL_THRESHOLD and threads_for(work, 0) > 1:
            return threads_for(work, 0) if (_tuning.next_call() if is_first else _tuning.is_second) else 1
        return threads_for(work, PARALLEL_THRESHOLD)

    def _prepared(self, rows, threads):
        """Chunks have about 128 rows; there is at least one for each thread, and at most as many as can be counted."""
        prepared = self._kept.get((rows, threads))
        if prepared is None:
            if len(self._kept) >= MOST_KEPT:
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


def numbers_of(x):
    """The fields of Numbers, of a matrix."""
    numbers = flat(x)
    return numbers, numbers.view(_BITS[numbers.itemsize]), 0, x.shape[1]


def sums_in(dbs):
    """What `sum_rows` has left in these."""
    return [db[: len(db) // LEVELS].copy() for db in dbs]


def _workspace_of(dtype, depth, columns):
    """Numbers that `multiply_chunk` needs for a product with (depth, columns), shared by rows."""
    panel = 2 * VECTOR_BYTES // dtype.itemsize
    return packed_size(-(-columns // panel), depth, dtype) + (MC + 1) * panel + BLOCK_SIZE


@parallel_kernel
def _forward(work, address, addresses, x, layers, how, scratch, largest):
    """As `forward_chunk`, which is at `address`, but for whether x is sparse: here whether it may be."""
    is_packed, (chunk_count, each, rest, may_be_sparse, products, drops) = False, how
    sparse = may_be_sparse and has_mostly_zeros(x[0])
    if is_missing(products, sparse, largest):
        return
    how_here = chunk_count, each, rest, sparse, products, drops
    for chunk in claimed(work, 1, chunk_count):
        forward_chunk(address, addresses, x, layers, how_here, scratch, largest, (work[0], chunk, is_packed))
        is_packed = True


@parallel_kernel
def _backward(work, functions, addresses, x, layers, how, scratch, of_x):
    """functions: where `backward_chunk` and `gradients_of_weights` are. how: chunks of a phase, workspace of each layer and
    thread, that of each thread for dW, whether x may be sparse, whether its gradient is needed, the fields of Products and
    Drops. scratch: workspace, that for dW, zeros, largest. The rest as in `backward_chunk`."""
    (chunk_count, each, each_dW, may_be_sparse, needs_dx, products, drops), is_packed = how, False
    (space, space_dW, zeros, largest), sparse = scratch, may_be_sparse and has_mostly_zeros(x)
    if is_missing(products, sparse, largest):
        return
    how_here, here = (chunk_count, each, sparse, needs_dx, products, drops), (space, zeros, largest)
    strips = Buffers(*of_x).strips
    for chunk in claimed(work, 1, chunk_count):
        backward_chunk(functions[0], addresses, layers, how_here, here, strips, (work[0], chunk, is_packed))
        is_packed = True
    how_weights, here = (each_dW, chunk_count, sparse, products), (space_dW, zeros, largest)
    gradients_of_weights(functions[1], work, addresses, x, layers, how_weights, here, of_x)
