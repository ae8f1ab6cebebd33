"""Affine layers one after the other, on the NumPy backend: what kernels/layers/affine_stack.py is held to."""

from __future__ import annotations

import itertools

import numpy as np

from . import reference


class AffineStack:
    """See kernels/layers/affine_stack.py."""

    def __init__(self, widths, activations, dtype):
        self._shapes, self._names, self._dtype = list(itertools.pairwise(widths)), tuple(activations), np.dtype(dtype)

    def forward(self, x, weights, biases):
        zs, outs, masks = [], [], []
        for W, b, name in zip(weights, biases, self._names, strict=True):
            z = reference.affine_forward(x, W, b)
            x, mask = (reference.sigmoid_forward(z) if name == "sigmoid" else z), None
            if name == "relu":
                x, mask = reference.relu_forward(z)
            zs.append(z)
            outs.append(x)
            masks.append(mask)
        return zs, outs, masks, [reference.largest_magnitude(z) for z in zs]

    def backward(self, dout, inputs, weights, masks, needs_dx):
        gradients = []
        for i in reversed(range(len(weights))):
            dx, dW, db = reference.affine_backward(dout, inputs[i], weights[i], needs_dx or i > 0)
            gradients.append((dW, db))
            if i > 0 and self._names[i - 1] == "relu":
                dout = reference.relu_backward(dx, masks[i - 1])
            elif i > 0:
                dout = reference.sigmoid_backward(dx, inputs[i]) if self._names[i - 1] == "sigmoid" else dx
        dWs, dbs = zip(*reversed(gradients), strict=True)
        return dx, list(dWs), list(dbs)
