"""Affine layers one after the other, on the NumPy backend: what kernels/layers/affine_stack.py and normalized_stack.py are
held to."""

from __future__ import annotations

import itertools

import numpy as np

from . import _reference_layers as layers


def affine_stack(widths, activations, dtype):
    """An AffineStack, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: "identity", "relu", "strict relu" or "sigmoid" after each
    layer.
    """
    return AffineStack(widths, activations, dtype)


class AffineStack:
    """See kernels/layers/affine_stack.py."""

    def __init__(self, widths, activations, dtype):
        self._shapes, self._names, self._dtype = list(itertools.pairwise(widths)), tuple(activations), np.dtype(dtype)
        self._no_drops = [None] * len(self._names)

    def forward(self, x, weights, biases, drops=None):
        zs, outs, masks = [], [], []
        for W, b, name, drop in zip(weights, biases, self._names, drops or self._no_drops, strict=True):
            z = layers.affine_forward(x, W, b)
            x, mask = (layers.sigmoid_forward(z) if name == "sigmoid" else z), None
            if name.endswith("relu"):
                x, mask = layers.relu_forward(z, name != "relu")
            x = _dropped(x, drop)
            zs.append(z)
            outs.append(x)
            masks.append(mask)
        return zs, outs, masks, [layers.largest_magnitude(z) for z in zs]

    def backward(self, dout, inputs, weights, masks, needs_dx, drops=None):
        gradients, largest, drops = [], layers.largest_magnitude(dout), drops or self._no_drops
        for i in reversed(range(len(weights))):
            dx, dW, db = layers.affine_backward(dout, inputs[i], weights[i], needs_dx or i > 0)
            gradients.append((dW, db))
            largest = max(largest, layers.largest_magnitude(db), layers.largest_magnitude(dx) if i > 0 else 0.0)
            if i > 0 and self._names[i - 1].endswith("relu"):
                dout = layers.relu_backward(_dropped(dx, drops[i - 1]), masks[i - 1])
            elif i > 0:
                dout = layers.sigmoid_backward(dx, inputs[i]) if self._names[i - 1] == "sigmoid" else dx
                largest = max(largest, layers.largest_magnitude(dout))
        dWs, dbs = zip(*reversed(gradients), strict=True)
        return dx, list(dWs), list(dbs), largest


def _dropped(array, drop):
    """What is kept of an array, or of its gradient. drop: mask of that, None for all, and what it is multiplied with."""
    if drop is None:
        return array
    keep, scale = drop
    return array * array.dtype.type(scale) * (True if keep is None else keep)


def affine_network(widths, activations, dtype):
    """An AffineNetwork, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: as of affine_stack, the last one "identity".
    """
    return AffineNetwork(widths, activations, dtype)


class AffineNetwork(AffineStack):
    """See kernels/layers/affine_network.py."""

    def loss(self, x, t, weights, biases):
        zs, outs, masks, largest = self.forward(x, weights, biases)
        labels = t if t.ndim == 1 else t.argmax(axis=1)
        if labels.min() < 0 or labels.max() >= zs[-1].shape[1]:
            return np.nan, np.full_like(zs[-1], np.nan), labels, zs, outs, masks, largest
        loss, y = layers.softmax_cross_entropy_forward(zs[-1], labels)
        return float(loss), y, labels, zs, outs, masks, largest

    def gradient(self, x, t, weights, biases):
        of_loss = self.loss(x, t, weights, biases)
        loss, y, _, _, outs, masks, _ = of_loss
        dout = y if np.isnan(loss) else layers.softmax_cross_entropy_backward(y, t)
        _, dWs, dbs, largest = self.backward(dout, [x, *outs[:-1]], weights, masks, False)
        return of_loss, dWs, dbs, largest


def normalized_stack(widths, activations, epsilons, dtype):
    """A NormalizedStack, which keeps what does not change from call to call.

    epsilons: of each layer what is added to the variance, None where it is not normalised.
    """
    return NormalizedStack(widths, activations, epsilons, dtype)


class NormalizedStack(AffineStack):
    """See kernels/layers/normalized_stack.py."""

    def __init__(self, widths, activations, epsilons, dtype):
        super().__init__(widths, activations, dtype)
        self._epsilons = tuple(epsilons)

    def forward(self, x, weights, biases, drops=None, norms=()):
        found = []
        settings = zip(norms, drops or self._no_drops, self._epsilons, strict=True)
        for W, b, name, (norm, drop, epsilon) in zip(weights, biases, self._names, settings, strict=True):
            z = layers.affine_forward(x, W, b)
            y, of_norm, largest, of_y = z, None, layers.largest_magnitude(z), 0.0
            if norm is not None and norm[4] is None:
                gamma, beta, mean, variance, _ = norm
                y = layers.batch_normalization_apply(z, gamma, beta, mean, variance, epsilon)
                largest = max([largest, *map(layers.largest_magnitude, (*norm[:4], y))])
            elif norm is not None:
                gamma, beta, mean, variance, momentum = norm
                y, xc, xn, std, of_batch, spread = layers.batch_normalization_forward(z, gamma, beta, epsilon)
                rest = z.dtype.type(1 - momentum)
                new = momentum * mean + rest * of_batch, momentum * variance + rest * spread
                of_norm = xc, xn, std, of_batch, spread, *new
                largest = max([largest, *map(layers.largest_magnitude, (*norm[:4], std, of_batch))])
            of_y = layers.largest_magnitude(y) if name == "sigmoid" and norm is not None else 0.0
            x, mask = (layers.sigmoid_forward(y) if name == "sigmoid" else y), None
            if name.endswith("relu"):
                x, mask = layers.relu_forward(y, name != "relu")
            x = _dropped(x, drop)
            found.append((z, y, x, mask, of_norm, largest, of_y))
        zs, ys, outs, masks, kept, *sizes = map(list, zip(*found, strict=True))
        return zs, ys, outs, masks, kept, tuple(sizes)

    def backward(self, dout, inputs, weights, masks, needs_dx, drops=None, norms=()):
        gradients, drops = [], drops or self._no_drops
        sizes: list[float] = []
        for i in reversed(range(len(weights))):
            of_norm = None
            if norms[i] is not None:
                dout, *of_norm = layers.batch_normalization_backward(dout, *norms[i])
                sizes += map(layers.largest_magnitude, of_norm)
            dx, dW, db = layers.affine_backward(dout, inputs[i], weights[i], needs_dx or i > 0)
            gradients.append((dW, db, None if of_norm is None else tuple(of_norm)))
            sizes += map(layers.largest_magnitude, (dout, db, *([dx] if i > 0 else [])))
            if i > 0 and self._names[i - 1].endswith("relu"):
                dout = layers.relu_backward(_dropped(dx, drops[i - 1]), masks[i - 1])
            elif i > 0:
                dout = layers.sigmoid_backward(dx, inputs[i]) if self._names[i - 1] == "sigmoid" else dx
                sizes.append(layers.largest_magnitude(dout))
        dWs, dbs, dnorms = zip(*reversed(gradients), strict=True)
        return dx, list(dWs), list(dbs), list(dnorms), max(sizes)
