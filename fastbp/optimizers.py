"""How gradients change parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import checks
from .backends import get_backend
from .checks import Array


class SGD:
    """Plain gradient descent: parameter -= learning_rate * gradient.

    Raises TypeError and ValueError for a learning rate that is not a finite number of at least 0.
    """

    def __init__(self, learning_rate: float = 0.01, backend: str | None = None):
        self.learning_rate = checks.not_negative("learning_rate", learning_rate)
        self.backend, self._kernels = get_backend(backend)

    def update(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change every array of `params` in place by its gradient in `grads` (same key, same shape).

        Raises KeyError for a missing gradient, TypeError for other dtypes, ValueError for other shapes and read-only
        parameters. All are checked before the first one is changed.
        """
        checked = [self._checked(key, params[key], grads[key]) for key in params]
        for parameter, gradient in checked:
            work = np.ascontiguousarray(parameter, dtype=gradient.dtype)
            self._kernels.sgd_update(work, gradient, self.learning_rate)
            if work is not parameter:
                parameter[...] = work

    @staticmethod
    def _checked(key: str, parameter: Array, gradient: Array) -> tuple[Array, Array]:
        name = f"params[{key!r}]"
        if not isinstance(parameter, np.ndarray):
            raise TypeError(f"{name} must be an array, got {type(parameter).__name__}")
        checks.floating_array(name, parameter)
        if not parameter.flags.writeable:
            raise ValueError(f"{name} must be writable, got a read-only array")
        gradient = checks.real_array(f"grads[{key!r}]", gradient)
        checks.same_shape(f"grads[{key!r}]", gradient, parameter.shape, name)
        return parameter, gradient.astype(checks.compute_dtype(parameter.dtype), copy=False)
