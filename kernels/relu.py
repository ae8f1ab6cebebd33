"""ReLU: max(x, 0), and the mask that its gradient needs."""

from __future__ import annotations

import numpy as np

from .arrays import flat
from .compiler import kernel


def relu_forward(x):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there. NaN passes."""
    out, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    _forward(flat(x), flat(out), flat(mask))
    return out, mask


def relu_backward(dout, mask):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True."""
    dx = np.empty(dout.shape, dout.dtype)
    _backward(flat(dout), flat(mask), flat(dx))
    return dx


@kernel
def _forward(x, out, mask):
    zero = x.dtype.type(0)
    for i in range(x.size):
        masked = x[i] <= zero
        mask[i] = masked
        out[i] = zero if masked else x[i]


@kernel
def _backward(dout, mask, dx):
    zero = dout.dtype.type(0)
    for i in range(dout.size):
        dx[i] = zero if mask[i] else dout[i]
