"""Affine layers one after the other, on the NumPy backend: what kernels/layers/affine_stack.py is held to."""

from __future__ import annotations

import itertools

import numpy as np

from . import _reference_layers as layers


def affine_stack(widths, activations, dtype):
    """An AffineStack, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: "identity", "relu" or "sigmoid" after each layer.
    """
    return AffineStack(widths, activations, dtype)


class AffineStack:
    """See kernels/layers/affine_stack.py."""

    def __init__(self, widths, activations, dtype):
        self._shapes, self._names, self._dtype = list(itertools.pairwise(widths)), tuple(activations), np.dtype(dtype)

    def forward(self, x, weights, biases):
        zs, outs, masks = [], [], []
        for W, b, name in zip(weights, biases, self._names, strict=True):
            z = layers.affine_forward(x, W, b)
            x, mask = (layers.sigmoid_forward(z) if name == "sigmoid" else z), None
            if name == "relu":
                x, mask = layers.relu_forward(z)
            zs.append(z)
            outs.append(x)
            masks.append(mask)
        return zs, outs, masks, [layers.largest_magnitude(z) for z in zs]

    def backward(self, dout, inputs, weights, masks, needs_dx):
        gradients, largest = [], layers.largest_magnitude(dout)
        for i in reversed(range(len(weights))):
            dx, dW, db = layers.affine_backward(dout, inputs[i], weights[i], needs_dx or i > 0)
            gradients.append((dW, db))
            largest = max(largest, layers.largest_magnitude(db), layers.largest_magnitude(dx) if i > 0 else 0.0)
            if i > 0 and self._names[i - 1] == "relu":
                dout = layers.relu_backward(dx, masks[i - 1])
            elif i > 0:
                dout = layers.sigmoid_backward(dx, inputs[i]) if self._names[i - 1] == "sigmoid" else dx
                largest = max(largest, layers.largest_magnitude(dout))
        dWs, dbs = zip(*reversed(gradients), strict=True)
        return dx, list(dWs), list(dbs), largest
