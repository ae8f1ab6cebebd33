"""Plain gradient descent."""

from __future__ import annotations

from .arrays import flat
from .compiler import kernel


def sgd_update(parameters, gradients, learning_rate):
    """parameters (any shape, C-contiguous), gradients (the same): parameters -= learning_rate * gradients, in place."""
    _update(flat(parameters), flat(gradients), learning_rate)


@kernel
def _update(parameters, gradients, learning_rate):
    rate = parameters.dtype.type(learning_rate)
    for i in range(parameters.size):
        parameters[i] -= rate * gradients[i]
