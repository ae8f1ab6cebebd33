"""Affine layers, one after the other, and the softmax cross-entropy of what the last gives: a network's loss, or that and
all gradients, in one call.

    z = x @ W + b   out = activation(z)   ...   y = softmax(z)   loss = mean of -log(y[label] + 1e-7)

It is made of the kernels of affine_stack.py, which are called by their address: a thread takes its rows through all layers,
the loss, and back to the first layer, and then has its part of the gradients of the weights.

784-M-10, M 50 and 100, batches of 32 and 100 MNIST images: 0.88 to 0.97 of the time of a stack's two calls and those of the
loss. In a script, where what Python reads is not in the cache any more between two kernels, it saves more.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from ..gemm.nonzero_columns import Buffers, workspace_and_buffers, zeros_address
from ..gemm.nonzeros import PLACE, PLACES, has_mostly_zeros, repays_looking
from ..runtime.arrays import flat, workspace
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.tables import addresses_of
from ..runtime.threads import parallel_kernel, run
from .affine_stack import AffineStack, numbers_of, sums_in
from .softmax_cross_entropy import loss_rows, rows_address, sum_of_losses
from .stack_chunks import (
    LINE,
    backward_address,
    backward_chunk,
    forward_address,
    forward_chunk,
    gradients_of_weights,
    is_missing,
    weights_address,
)

FORWARD_GROUPS = 6  # of arrays, before those of backward


class _Kept(NamedTuple):
    """What stays as it is for calls of as many rows, threads, and x of one dtype, which have all of it to themselves.

    functions, of_x, how, scratch: see `_network`; of x's fields `bits` is the call's. losses: and their sum; dout: of the
    last z; dxs, dbs: of each layer.
    """

    rows: int
    threads: int
    dtype: Any
    functions: tuple[int, ...]
    layers: tuple[Any, ...]
    of_x: tuple[Any, ...]
    how: tuple[Any, ...]
    scratch: tuple[Any, ...]
    losses: Any
    dout: Any
    dxs: list[Any]
    dbs: list[Any]


class AffineNetwork(AffineStack):
    """Affine layers of these widths, the input's first, in one dtype, and softmax cross-entropy; see affine_network."""

    def __init__(self, widths, activations, dtype):
        super().__init__(widths, activations, dtype)
        self._of_thread = threading.local()

    def loss(self, x, t, weights, biases):
        """x (N, D), C-contiguous, of at least one row; t: labels (N,) of int64, or targets (N, M) of the layers' dtype ->
        loss, y (N, M), labels, zs, outs, masks, largest.

        y: softmax of the last z. The loss, a float, is NaN where a label is no class; of targets, labels are the first
        maxima. largest[i] is the largest |z| of layer i, and inf where not all are finite, or may be. The rest is as of
        AffineStack.forward.
        """
        return self._run(x, t, weights, biases, False)[0]

    def gradient(self, x, t, weights, biases):
        """As `loss` -> what that gives, dWs, dbs, largest: the largest gradient of a z or of a bias, inf where not all are
        finite."""
        return self._run(x, t, weights, biases, True)

    def _run(self, x, t, weights, biases, is_step):
        rows, dtype, (zs, outs, masks), (keeps, _) = len(x), self._dtype, self._results(len(x)), self._no_drops
        kept, numbers, y = self._kept_for(x, is_step), numbers_of(x), np.empty(zs[-1].shape, dtype)
        labels, targets = (t, self._zeros[:0]) if t.ndim == 1 else (np.empty(rows, np.int64), t)
        groups, dWs = [weights, masks, keeps, zs, outs, biases], []
        if is_step:
            dWs = [np.empty(shape, dtype) for shape in self._layers]
            douts = [*kept.dxs[1:], kept.dout]
            groups += [weights, masks, keeps, [None, *outs[:-1]], kept.dxs, douts, dWs, kept.dbs]
        addresses, largest = addresses_of(*groups), kept.scratch[-2]
        largest.fill(0)
        run(
            _network, kept.threads, kept.functions, (addresses, addresses[FORWARD_GROUPS * len(zs) :]),
            (numbers, (kept.of_x[0], numbers[1], *kept.of_x[2:])), kept.layers,
            (flat(y), kept.losses, flat(kept.dout), flat(zs[-1]), flat(labels), flat(targets)),
            kept.how, kept.scratch, kept=(groups, kept),
        )  # fmt: skip
        found, there = largest.tolist(), kept.threads * LINE  # np.max takes 15 us where it is not in the cache any more
        if self.has_missed(found, x.dtype) or self.has_missed(found[there:], x.dtype):
            vars(self._of_thread).clear()
            return self._run(x, t, weights, biases, is_step)
        of_layers = [max(found[i:there:LINE]) for i in range(len(zs))]
        of_loss = kept.losses.item(rows) / rows, y, labels, zs, outs, masks, of_layers
        return (of_loss, dWs, sums_in(kept.dbs), max(found[there:])) if is_step else (of_loss,)

    def _kept_for(self, x, is_step):
        """The last one of this thread, of a step or of a loss, or a new one."""
        name, threads = "step" if is_step else "loss", self.threads_for(len(x), True)
        kept = getattr(self._of_thread, name, None)
        if kept is None or (kept.rows, kept.threads, kept.dtype) != (len(x), threads, x.dtype):
            kept = self._new_kept(x, threads, is_step)
            setattr(self._of_thread, name, kept)
        return kept

    def _functions_for(self, x, is_step):
        """Last those that a second process may be compiling, see dropin/beginning/ahead.py."""
        functions = rows_address(self._dtype), forward_address(self._dtype, x.dtype)
        if not is_step:
            return *functions, 0, 0
        if repays_looking(len(x), *self._layers[0], self._dtype):
            zeros_address(self._dtype, x.dtype)
        return *functions, backward_address(self._dtype), weights_address(self._dtype, x.dtype)

    def _new_kept(self, x, threads, is_step):
        (rows, _), dtype, classes, functions = (
            x.shape,
            self._dtype,
            self._layers[-1][1],
            self._functions_for(x, is_step),
        )
        layers, chunk_count, each, rest, each_dW, may_be_sparse = self._prepared(rows, threads)
        needed, size, dxs, dbs, dout = rest, threads * self._own, [], [], np.empty((0, classes), dtype)
        if is_step:
            dout = np.empty((rows, classes), dtype)
            needed, size = 2 * rest, threads * max(self._own, each_dW)
            dxs, _, dbs = self._gradients(rows, False)
        sizes = rows, self._layers[0][1]
        space, of_x = workspace_and_buffers(needed + size, flat(x), sizes, threads, dtype, is_step and may_be_sparse)
        largest = np.zeros(2 * threads * LINE, dtype)
        places, of_back = workspace(threads * PLACES, PLACE), largest[threads * LINE :]
        products = self.products(x.dtype, may_be_sparse)
        how = chunk_count, each, each_dW, self._own, may_be_sparse, is_step, products, self._no_drops[1]
        scratch = space, space[rest:], space[needed:], places, self._zeros, largest, of_back
        return _Kept(rows, threads, x.dtype, functions, layers, of_x, how, scratch, np.empty(rows + 1), dout, dxs, dbs)


def affine_network(widths, activations, dtype):
    """An AffineNetwork, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: as of affine_stack, the last one "identity".
    """
    return AffineNetwork(widths, activations, dtype)


@parallel_kernel
def _network(work, functions, addresses, x, layers, of_loss, how, scratch):
    """functions: where `loss_rows`, `forward_chunk`, and, of a step, `backward_chunk` and `gradients_of_weights` are.

    addresses: of the arrays of forward, and of backward; x: the fields of Numbers, and of Buffers; of_loss: y, the
    losses of the rows and their sum, the gradient of the last z, that, labels, targets; how: chunks of a phase, each and
    each_dW of Prepared, what `multiply_rows` needs, whether x may be sparse, whether it is a step, the fields of Products
    and Drops; scratch: workspace of packed weights of forward, of backward, and of threads, in one memory; places, zeros;
    the largest numbers of forward, and of backward.
    """
    (chunk_count, each, each_dW, own, may_be_sparse, is_step, products, drops), (x, of_x), thread = how, x, work[0]
    space, space_back, space_dW, places, zeros, largest, of_back = scratch
    y, losses, dout, scores, labels, targets = of_loss
    sparse, is_packed = may_be_sparse and has_mostly_zeros(x[0]), False
    if is_missing(products, sparse, largest):
        return
    rows, sizes = layers[3], (layers[3], layers[1][layers[0]], len(targets), is_step)
    rest = len(space) - len(space_dW)
    how_there = chunk_count, each, rest, sparse, products, drops
    how_back, strips = (chunk_count, each, sparse, False, products, drops), Buffers(*of_x).strips
    for chunk in claimed(work, 1, chunk_count):
        where = thread, chunk, is_packed
        forward_chunk(functions[1], addresses[0], x, layers, how_there, (space, places, own), largest, where)
        bounds, is_packed = chunk_bounds(rows, chunk, chunk_count), True
        loss_rows(functions[0], (y, losses, dout), scores, (labels, targets), bounds, sizes)
        if is_step:
            here = space_back, zeros, of_back
            backward_chunk(functions[2], addresses[1], layers, how_back, here, strips, where)
    if thread == 0:
        losses[rows] = sum_of_losses(losses, rows)
    if is_step:
        how_weights, here = (each_dW, chunk_count, sparse, products), (space_dW, zeros, of_back)
        gradients_of_weights(functions[3], work, addresses[1], x[0], layers, how_weights, here, of_x)
