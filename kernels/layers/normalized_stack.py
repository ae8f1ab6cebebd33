"""Affine layers with batch normalisation between them and their activations, one after the other, in one call.

    z = x @ W + b          y = gamma * (z - mean) / std + beta          out = activation(y)          the next layer's x = out

Everything that a layer by itself would give is there afterwards, as in affine_stack.py. A thread keeps its rows through all
layers. What must be known of all rows, moments forward and sums of gradients backward, each chunk finds for its own, and all
are put together after the phase, in the same order whoever has found them (Chan, Golub and LeVeque, 1979).

Measured and rejected: chunks of columns, as batch_normalization.py has them: every matrix moves from one core's cache to the
other's and back. Forward of 784-100-100-100-100-100-10, batch 100, took 480 us so with two threads (350 with one), and
230 to 270 by rows; backward 580, and 270 to 310.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..gemm.matrices import Span
from ..gemm.nonzero_columns import Buffers, pack_strips, workspace_and_buffers
from ..gemm.nonzeros import PLACE, PLACES, Numbers, has_mostly_zeros
from ..runtime.arrays import flat, workspace
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.magnitude import largest_in
from ..runtime.processors import threads_for
from ..runtime.simd import load_scalar, noinline, store_scalar
from ..runtime.tables import addresses_of, at
from ..runtime.threads import parallel_kernel, run
from .affine_stack import AffineStack, numbers_of, sums_in
from .stack_chunks import (
    BIASES,
    DBS,
    DOUTS,
    DWS,
    DXS,
    INPUTS,
    KEEPS,
    LINE,
    MASKS,
    MOST_LAYERS,
    OUTS,
    SIGMOID,
    WEIGHTS,
    ZS,
    Layers,
    activate,
    drop,
    group,
    is_missing,
    multiply_back,
    multiply_layer,
    multiply_weights,
)

# More groups of arrays, see affine_stack.py: forward's, and backward's.
YS, XCS, XNS, KEPT, GAMMAS, BETAS, MEANS, VARIANCES = range(6, 14)
GIVEN_GAMMAS, GIVEN_XCS, GIVEN_XNS, STDS, DGAMMAS, DBETAS = range(8, 14)
STATISTICS = 5  # vectors: std, mean, variance, and the new running mean and variance
SUMS = 4  # vectors of a chunk: forward its mean and squares; backward sums of dout, of dout times xn and xc, and of xc
# Chunks of a phase, whether one thread has them or several, so that sums are the same. As many as there are threads, if that
# leaves each some rows: of 100 rows on 64 processors three.
LEAST_CHUNKS, ROWS_OF_CHUNK = 2, 32
OF_BATCH, OF_RUNNING = 1, 2  # by which mean and variance a layer is normalised; 0: it is not


class NormalizedStack(AffineStack):
    """An AffineStack, some of whose layers are normalised; see normalized_stack."""

    def __init__(self, widths, activations, epsilons, dtype):
        super().__init__(widths, activations, dtype)
        self._normalized = np.array([OF_BATCH * (one is not None) for one in epsilons])
        self._epsilons = np.array([one or 0.0 for one in epsilons], dtype)

    def forward(self, x, weights, biases, drops=None, norms=()):
        """As AffineStack's -> zs, ys, outs, masks, kept, largest.

        norms: of each layer that is normalised gamma, beta, running mean and variance (M,), and momentum, None to normalise
        by the running ones; else None. ys[i]: zs[i] normalised, where it is. kept[i]: xc, xn (N, M), std, mean, variance,
        and the new running mean and variance (M,), of what is normalised by its own; else None. largest[i]: of z and all
        vectors, of y by running ones, and, before sigmoid, of y; inf where not all are finite.
        """
        zs, ys, outs, masks, kept, dtype, rows = [], [], [], [], [], self._dtype, len(x)
        modes = [0 if one is None else OF_RUNNING if one[4] is None else OF_BATCH for one in norms]
        for (_, columns), name, normalized in zip(self._layers, self._names, modes, strict=True):
            shape = rows, columns
            z = np.empty(shape, dtype)
            y = np.empty(shape, dtype) if normalized else z
            zs.append(z)
            ys.append(y)
            outs.append(y if name == "identity" else np.empty(shape, dtype))
            masks.append(np.empty(shape, np.bool_) if name.endswith("relu") else None)
            sizes = (shape, shape, STATISTICS * columns) if normalized == OF_BATCH else ()
            kept.append([np.empty(size, dtype) for size in sizes] or [None] * 3)
        threads = self.threads_for(rows, True)
        layers, _, each, rest, _, may_be_sparse = self._prepared(rows, threads)
        chunk_count, step = _chunks_of(rows), SUMS * int(self._widths.max())
        own, largest = self._own, np.zeros(threads * LINE, dtype)
        size = rest + threads * own
        space = workspace(size + (2 * chunk_count + threads) * step, dtype)
        *vectors, momenta = zip(*((None,) * 5 if one is None else one for one in norms), strict=True)
        momenta, (keeps, dropped) = np.array([one or 0.0 for one in momenta], dtype), self._drops(drops)
        groups = weights, masks, keeps, zs, outs, biases, ys, *zip(*kept, strict=True), *vectors
        run(
            _forward, threads, addresses_of(*groups), numbers_of(x),
            (momenta, self._epsilons, np.array(modes)), layers,
            (each, rest, may_be_sparse, self.products(x.dtype, may_be_sparse), dropped),
            ((space, workspace(threads * PLACES, PLACE), own), (space[size:], step, chunk_count), largest),
            kept=groups,
        )  # fmt: skip
        sizes = largest.reshape(threads, LINE).max(axis=0).tolist()
        if self.has_missed(sizes, x.dtype):
            return self.forward(x, weights, biases, drops, norms)
        return (
            zs,
            ys,
            outs,
            masks,
            [_separate(*three) for three in kept],
            (sizes[: len(zs)], sizes[MOST_LAYERS : MOST_LAYERS + len(zs)]),
        )

    def backward(self, dout, inputs, weights, masks, needs_dx, drops=None, norms=()):
        """As AffineStack's -> dx, dWs, dbs, dnorms, largest.

        norms: of each layer that is normalised gamma, xc, xn, std, else None; not of the last. dnorms: dgamma, dbeta (M,),
        or None.
        """
        (rows, _), first, dtype = dout.shape, inputs[0], self._dtype
        dxs, dWs, dbs = self._gradients(rows, needs_dx)
        widths = [None if one is None else columns for one, (_, columns) in zip(norms, self._layers, strict=True)]
        dgammas, dbetas = ([None if width is None else np.empty(width, dtype) for width in widths] for _ in range(2))
        threads = self.threads_for(rows, False)
        layers, _, each, rest, each_dW, may_be_sparse = self._prepared(rows, threads)
        chunk_count, step = _chunks_of(rows), SUMS * int(self._widths.max())
        numbers, largest, sizes = flat(first), np.zeros(threads * LINE, dtype), (rows, self._layers[0][1])
        size = rest + threads * each_dW
        whole = size + (2 * chunk_count + threads) * step
        space, of_x = workspace_and_buffers(whole, numbers, sizes, threads, dtype, may_be_sparse)
        vectors = zip(*((None,) * 4 if one is None else one for one in norms), strict=True)
        keeps, dropped = self._drops(drops)
        groups = weights, masks, keeps, [None, *inputs[1:]], dxs, [*dxs[1:], dout], dWs, dbs, *vectors, dgammas, dbetas
        run(
            _backward, threads, addresses_of(*groups), numbers, self._normalized, layers,
            (each, each_dW, may_be_sparse, needs_dx, self.products(first.dtype, may_be_sparse), dropped),
            (space, space[rest:size], (space[size:whole], step, chunk_count), self._zeros, largest), of_x, kept=groups,
        )  # fmt: skip
        if self.has_missed(largest, first.dtype):
            return self.backward(dout, inputs, weights, masks, needs_dx, drops, norms)
        dnorms = [None if one is None else (one, other) for one, other in zip(dgammas, dbetas, strict=True)]
        return dxs[0], dWs, sums_in(dbs), dnorms, float(largest.max())


def normalized_stack(widths, activations, epsilons, dtype):
    """A NormalizedStack, which keeps what does not change from call to call.

    epsilons: of each layer what is added to the variance, None where it is not normalised.
    """
    return NormalizedStack(widths, activations, epsilons, dtype)


def _chunks_of(rows):
    """How many chunks so many rows are, none of them empty."""
    return max(1, min(rows, max(LEAST_CHUNKS, min(threads_for(1, 0), rows // ROWS_OF_CHUNK))))


def _separate(xc, xn, statistics):
    """xc, xn, and each of the statistics as an array of its own."""
    if xc is None:
        return None
    return (xc, xn, *(one.copy() for one in statistics.reshape(STATISTICS, -1)))


class Sums(NamedTuple):
    """Memory for sums of columns: `step` numbers for each chunk, twice, for a layer and the one before it, then for each
    thread."""

    array: Any
    step: int
    chunk_count: int


@device
def sums_of(sums, i, chunk):
    """A chunk's, for the i-th layer."""
    return Span(sums.array, (i % 2 * sums.chunk_count + chunk) * sums.step)


@device
def own_sums(sums, thread):
    return Span(sums.array, (2 * sums.chunk_count + thread) * sums.step)


@parallel_kernel
def _forward(work, addresses, x, norms, layers, how, scratch):
    """addresses: as in affine_stack, then of ys, xcs, xns, statistics, gammas, betas, running means and variances. norms:
    momenta, epsilons, and by what a layer is normalised. how: each and rest of Prepared, whether x may be sparse, the fields
    of Products and Drops. scratch: as in affine_stack, the fields of Sums, and largest."""
    thread, modes = work[0], norms[2]
    x, layers, (each, rest, may_be_sparse, products, drops) = Numbers(*x), Layers(*layers), how
    scratch, sums, largest = scratch
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    zs, outs = group(addresses, layers, ZS, largest), group(addresses, layers, OUTS, largest)
    biases, ys = group(addresses, layers, BIASES, largest), group(addresses, layers, YS, largest)
    keeps, sums = group(addresses, layers, KEEPS, np.bool_), Sums(*sums)
    sparse = may_be_sparse and has_mostly_zeros(x.array)
    if is_missing(products, sparse, largest):
        return
    for i in range(layers.count):
        depth, columns, is_packed = layers.widths[i], layers.widths[i + 1], False
        for chunk in claimed(work, 1 + i, sums.chunk_count):
            first, end = chunk_bounds(layers.rows, chunk, sums.chunk_count)
            if i > 0 and modes[i - 1]:
                here = normalize_rows(i - 1, addresses, layers, norms, (thread, chunk), sums)
                largest[thread * LINE + i - 1] = max(largest[thread * LINE + i - 1], here)
                span, code = (first * depth, (end - first) * depth), layers.codes[i - 1]
                activate(at(outs, i - 1), at(masks, i - 1), at(ys, i - 1), span, code)
                drop(at(outs, i - 1), keeps, i - 1, span, drops)
                if code == SIGMOID:  # NumPy may warn
                    place = thread * LINE + MOST_LAYERS + i - 1
                    largest[place] = max(largest[place], largest_in(at(ys, i - 1), first * depth, end * depth))
            place, how_here = (i, chunk, thread, is_packed), (sums.chunk_count, each, rest, sparse, products)
            here = multiply_layer((zs, outs), (x, weights, biases), place, layers, how_here, scratch)
            largest[thread * LINE + i] = max(largest[thread * LINE + i], here)
            if modes[i] == OF_BATCH:
                find_moments(sums_of(sums, i, chunk), at(zs, i), columns, (first, end))
            elif modes[i] == 0:
                span = first * columns, (end - first) * columns
                activate(at(outs, i), at(masks, i), at(zs, i), span, layers.codes[i])
                drop(at(outs, i), keeps, i, span, drops)
            is_packed = True


@device
def find_moments(found, z, columns, bounds):
    """The mean of each column of the rows within these bounds, and the sum of squared deviations: two vectors."""
    noinline()
    (array, start), (first, end) = found, bounds
    for j in range(start, start + 2 * columns):
        store_scalar(array, j, 0)
    for i in range(first, end):
        for j in range(columns):
            store_scalar(array, start + j, load_scalar(array, start + j) + load_scalar(z, i * columns + j))
    for j in range(start, start + columns):
        store_scalar(array, j, load_scalar(array, j) / (end - first))
    for i in range(first, end):
        for j in range(columns):
            centred = load_scalar(z, i * columns + j) - load_scalar(array, start + j)
            place = start + columns + j
            store_scalar(array, place, load_scalar(array, place) + centred * centred)


@device
def combine_moments(own, sums, i, sizes):
    """Mean and variance of the columns of all rows, from the moments that each chunk has found: two vectors of `own`."""
    (array, start), (rows, columns) = own, sizes
    for j in range(start, start + 2 * columns):
        store_scalar(array, j, 0)
    for chunk in range(sums.chunk_count):
        first, end = chunk_bounds(rows, chunk, sums.chunk_count)
        share, found = array.dtype.type(end - first) / rows, sums_of(sums, i, chunk).start
        for j in range(columns):
            store_scalar(array, start + j, load_scalar(array, start + j) + share * load_scalar(array, found + j))
    for chunk in range(sums.chunk_count):
        first, end = chunk_bounds(rows, chunk, sums.chunk_count)
        share, found = array.dtype.type(end - first) / rows, sums_of(sums, i, chunk).start
        for j in range(columns):
            off = load_scalar(array, found + j) - load_scalar(array, start + j)
            more, place = load_scalar(array, found + columns + j) / rows + share * off * off, start + columns + j
            store_scalar(array, place, load_scalar(array, place) + more)


@device
def apply_rows(i, addresses, layers, epsilon, place, sums):
    """y of the i-th layer for a chunk's rows, by its running mean and variance -> the largest number of y and of the
    parameters, inf where not all are finite."""
    noinline()
    (thread, chunk), like, rows, columns = place, sums.array, layers.rows, layers.widths[i + 1]
    z, y = at(group(addresses, layers, ZS, like), i), at(group(addresses, layers, YS, like), i)
    gamma, beta = at(group(addresses, layers, GAMMAS, like), i), at(group(addresses, layers, BETAS, like), i)
    mean, variance = at(group(addresses, layers, MEANS, like), i), at(group(addresses, layers, VARIANCES, like), i)
    array, std = own_sums(sums, thread)
    for j in range(columns):
        store_scalar(array, std + j, math.sqrt(load_scalar(variance, j) + epsilon))
    first, end = chunk_bounds(rows, chunk, sums.chunk_count)
    for row in range(first * columns, end * columns, columns):
        for j in range(columns):
            number = (load_scalar(z, row + j) - load_scalar(mean, j)) / load_scalar(array, std + j)
            store_scalar(y, row + j, load_scalar(gamma, j) * number + load_scalar(beta, j))
    return max(largest_given(i, addresses, layers, like), largest_in(y, first * columns, end * columns))


@device
def largest_given(i, addresses, layers, like):
    """The largest number in the i-th layer's gamma, beta, running mean and variance."""
    largest, columns = like.dtype.type(0), layers.widths[i + 1]
    for which in (GAMMAS, BETAS, MEANS, VARIANCES):
        largest = max(largest, largest_in(at(group(addresses, layers, which, like), i), 0, columns))
    return largest


@device
def normalize_rows(i, addresses, layers, norms, place, sums):
    """y, xc and xn of the i-th layer for a chunk's rows, and, of the first chunk, its statistics -> the largest number of
    these and of what the layer has been given, inf where not all are finite; 0 for the other chunks.

    addresses, norms: the kernel's; place: thread, chunk. See `apply_rows` for a layer with statistics of its own.
    """
    noinline()
    if norms[2][i] == OF_RUNNING:
        return apply_rows(i, addresses, layers, norms[1][i], place, sums)
    (thread, chunk), like, rows, columns = place, sums.array, layers.rows, layers.widths[i + 1]
    z, y = at(group(addresses, layers, ZS, like), i), at(group(addresses, layers, YS, like), i)
    xc, xn = at(group(addresses, layers, XCS, like), i), at(group(addresses, layers, XNS, like), i)
    gamma, beta = at(group(addresses, layers, GAMMAS, like), i), at(group(addresses, layers, BETAS, like), i)
    (momenta, epsilons, _), own = norms, own_sums(sums, thread)
    combine_moments(own, sums, i, (rows, columns))
    array, mean = own
    variance, std, inverse = mean + columns, mean + 2 * columns, mean + 3 * columns
    for j in range(columns):
        spread = math.sqrt(load_scalar(array, variance + j) + epsilons[i])
        store_scalar(array, std + j, spread)
        store_scalar(array, inverse + j, z.dtype.type(1) / spread)
    first, end = chunk_bounds(rows, chunk, sums.chunk_count)
    for row in range(first * columns, end * columns, columns):
        for j in range(columns):
            centred = load_scalar(z, row + j) - load_scalar(array, mean + j)
            number = centred * load_scalar(array, inverse + j)
            store_scalar(xc, row + j, centred)
            store_scalar(xn, row + j, number)
            store_scalar(y, row + j, load_scalar(gamma, j) * number + load_scalar(beta, j))
    if chunk > 0:
        return z.dtype.type(0)
    statistics = at(group(addresses, layers, KEPT, like), i)
    for j in range(columns):
        store_scalar(statistics, j, load_scalar(array, std + j))
        store_scalar(statistics, columns + j, load_scalar(array, mean + j))
        store_scalar(statistics, 2 * columns + j, load_scalar(array, variance + j))
    momentum, rest = momenta[i], z.dtype.type(1) - momenta[i]
    old_mean = at(group(addresses, layers, MEANS, like), i)
    old_variance = at(group(addresses, layers, VARIANCES, like), i)
    for old, here in ((old_mean, columns), (old_variance, 2 * columns)):
        for j in range(columns):
            new = momentum * load_scalar(old, j) + rest * load_scalar(statistics, here + j)
            store_scalar(statistics, here + 2 * columns + j, new)
    return max(largest_given(i, addresses, layers, like), largest_in(statistics, 0, 2 * columns))


@parallel_kernel
def _backward(work, addresses, x, is_normalized, layers, how, scratch, of_x):
    """addresses: as in affine_stack, then of gammas, xcs, xns, stds, dgammas, dbetas. how: workspace of each layer and
    thread, that of each thread for dW, whether x may be sparse, whether its gradient is needed, the fields of Products and
    Drops. scratch: workspace, that for dW, the fields of Sums, zeros, largest. The rest as in affine_stack."""
    thread = work[0]
    (space, space_dW, sums, zeros, largest), of_x, layers = scratch, Buffers(*of_x), Layers(*layers)
    (each, each_dW, may_be_sparse, needs_dx, products, drops), sums = how, Sums(*sums)
    weights, masks = group(addresses, layers, WEIGHTS, largest), group(addresses, layers, MASKS, np.bool_)
    dxs, douts = group(addresses, layers, DXS, largest), group(addresses, layers, DOUTS, largest)
    dWs, dbs = group(addresses, layers, DWS, largest), group(addresses, layers, DBS, largest)
    ins, keeps = group(addresses, layers, INPUTS, largest), group(addresses, layers, KEEPS, np.bool_)
    chunk_count, sparse = sums.chunk_count, may_be_sparse and has_mostly_zeros(x)
    if is_missing(products, sparse, largest):
        return
    for i in range(layers.count - 1, -1, -1):
        phase, columns, is_packed = layers.count - i, layers.widths[i + 1], False
        for chunk in claimed(work, phase, chunk_count):
            first, end = chunk_bounds(layers.rows, chunk, chunk_count)
            here = largest.dtype.type(0)
            if is_normalized[i]:
                here = differentiate_rows(i, addresses, layers, (thread, chunk), sums)
            here = max(here, largest_in(at(douts, i), first * columns, end * columns))
            if i > 0 or needs_dx:
                place, how_here = (i, chunk, thread, is_packed), (chunk_count, each, products, drops)
                of_layers = ins, weights, masks, keeps
                of_dx = multiply_back((dxs, douts), of_layers, place, layers, how_here, (space, zeros))
                here = max(here, of_dx)
            if i > 0 and is_normalized[i - 1]:
                xcs, xns = group(addresses, layers, GIVEN_XCS, largest), group(addresses, layers, GIVEN_XNS, largest)
                found, forward = sums_of(sums, i - 1, chunk), (at(xcs, i - 1), at(xns, i - 1))
                sum_products(found, at(dxs, i), forward, layers.widths[i], (first, end))
            largest[thread * LINE] = max(largest[thread * LINE], here)
            if i == 0 and sparse:
                pack_strips(of_x.strips, at(douts, 0), layers.rows, columns, first, end)
            is_packed = True
    phases, of_weights = (layers.count + 1, chunk_count), (each_dW, sparse, products)
    multiply_weights(work, phases, (douts, dWs, dbs), (x, ins), layers, of_weights, (space_dW, zeros, largest), of_x)


@device
def sum_products(found, dout, forward, columns, bounds):
    """The sums of dout, dout * xn, dout * xc and xc over the rows within these bounds: four vectors, one number a column."""
    noinline()
    (array, start), (xc, xn), (first, end) = found, forward, bounds
    for j in range(start, start + 4 * columns):
        store_scalar(array, j, 0)
    for row in range(first * columns, end * columns, columns):
        for j in range(columns):
            number, centred, place = load_scalar(dout, row + j), load_scalar(xc, row + j), start + j
            store_scalar(array, place, load_scalar(array, place) + number)
            of_gamma = load_scalar(array, place + columns) + number * load_scalar(xn, row + j)
            store_scalar(array, place + columns, of_gamma)
            place += 2 * columns
            store_scalar(array, place, load_scalar(array, place) + number * centred)
            store_scalar(array, place + columns, load_scalar(array, place + columns) + centred)


@device
def differentiate_rows(i, addresses, layers, place, sums):
    """dout, the gradient of the i-th layer's y, becomes that of its z, for a chunk's rows, as batch_normalization.py has it.

    -> of the first chunk the largest number of gamma's and beta's gradients; 0 for the others. The mean that is taken off is
    not summed up from what it is taken off from: its terms' sums are known. addresses: the kernel's; place: thread, chunk.
    """
    noinline()
    (thread, chunk), like, rows, columns = place, sums.array, layers.rows, layers.widths[i + 1]
    dout, xc = at(group(addresses, layers, DOUTS, like), i), at(group(addresses, layers, GIVEN_XCS, like), i)
    gamma, std = at(group(addresses, layers, GIVEN_GAMMAS, like), i), at(group(addresses, layers, STDS, like), i)
    dgamma, dbeta = at(group(addresses, layers, DGAMMAS, like), i), at(group(addresses, layers, DBETAS, like), i)
    (array, start), half, two = own_sums(sums, thread), like.dtype.type(0.5), like.dtype.type(2)
    for j in range(start, start + 4 * columns):
        store_scalar(array, j, 0)
    for other in range(sums.chunk_count):
        found = sums_of(sums, i, other).start
        for j in range(4 * columns):
            store_scalar(array, start + j, load_scalar(array, start + j) + load_scalar(array, found + j))
    if chunk == 0:
        for j in range(columns):
            store_scalar(dbeta, j, load_scalar(array, start + j))
            store_scalar(dgamma, j, load_scalar(array, start + columns + j))
    for j in range(start, start + columns):
        spread = load_scalar(std, j - start)
        direct = load_scalar(gamma, j - start) / spread
        dstd = -direct / spread * load_scalar(array, j + 2 * columns)
        centred = two / rows * (half * dstd / spread)
        mean = (direct * load_scalar(array, j) + centred * load_scalar(array, j + 3 * columns)) / rows
        store_scalar(array, j, direct)
        store_scalar(array, j + columns, centred)
        store_scalar(array, j + 2 * columns, mean)
    first, end = chunk_bounds(rows, chunk, sums.chunk_count)
    for row in range(first * columns, end * columns, columns):
        for j in range(columns):
            direct = load_scalar(array, start + j) * load_scalar(dout, row + j)
            centred = load_scalar(array, start + columns + j) * load_scalar(xc, row + j)
            store_scalar(dout, row + j, direct + centred - load_scalar(array, start + 2 * columns + j))
    if chunk > 0:
        return dout.dtype.type(0)
    return max(largest_in(dgamma, 0, columns), largest_in(dbeta, 0, columns))
