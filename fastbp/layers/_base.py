"""What all layers share."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..backends import get_backend


class Layer:
    """What all layers share: the backend that they were made with, by name and as a module of kernels.

    parameters: the names of the attributes that training changes; after backward, each has its gradient in the attribute
    "d" + name. decayed: those of them that weight decay shrinks. statistics: the names of the attributes that a forward
    measures while training, and that predicting needs.
    """

    parameters: tuple[str, ...] = ()
    decayed: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()

    def __init__(self, backend: str | None = None):
        self.backend, self._kernels = get_backend(backend)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """See the layer."""
        raise NotImplementedError

    def backward(self, *arguments: Any, **options: Any) -> Any:
        """See the layer."""
        raise NotImplementedError

    def parameter_gradients(self, dout: Any) -> None:
        """As backward, but the gradient of the input is left out: nobody needs that of the images."""
        self.backward(dout)

    def gradient_of(self, parameter: str) -> Any:
        """The gradient of one of `parameters`, after backward."""
        # interned: Python's cache of attributes would keep each new string
        return getattr(self, sys.intern(f"d{parameter}"))

    def _cached(self, name: str) -> Any:
        value = getattr(self, name)
        if value is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend, self._kernels = get_backend(self.backend)


def elementwise(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype that kernels know and that holds every value of `dtype`."""
    return _ELEMENTWISE.get(dtype, dtype)


_ELEMENTWISE: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.bool_): np.dtype(np.uint8),
}
