"""Activations. What each computes is an entry of fastbp/_activations.py; how, kernels/layers/activations.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._activations import ACTIVATIONS
from .._checks import Array
from ._base import Layer, elementwise


class Relu(Layer):
    """max(x, 0). `mask` remembers where x <= 0."""

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self.mask: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape and dtype; 0 where x <= 0, NaN stays. Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        out, self.mask = self._kernels.relu_forward(x.astype(elementwise(x.dtype), copy=False))
        return out.astype(x.dtype, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx, a new array: 0 where the mask is set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._cached("mask")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, mask.shape, "forward's result")
        return self._kernels.relu_backward(dout.astype(elementwise(dout.dtype), copy=False), mask).astype(
            dout.dtype, copy=False
        )


class _Activation(Layer):
    """An activation of the table; `name` is its name there. Remembers its input or its result, what its derivative needs."""

    name = ""

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self.x: Array | None = None
        self.out: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape, in the dtype of np.exp(x). Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        result = np.exp(np.empty(0, x.dtype)).dtype
        out = self._forward(x.astype(checks.compute_dtype(result), copy=False)).astype(result, copy=False)
        if ACTIVATIONS[self.name].needs_input:
            self.x = x.astype(result, copy=False)
        else:
            self.out = out
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        name = "x" if ACTIVATIONS[self.name].needs_input else "out"
        saved = checks.floating_array(name, self._cached(name))
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, saved.shape, "forward's result")
        result = np.result_type(dout, saved)
        dtype = checks.compute_dtype(result)
        return self._backward(dout.astype(dtype, copy=False), saved.astype(dtype, copy=False)).astype(
            result, copy=False
        )

    def _forward(self, x: Array) -> Array:
        return self._kernels.activation_forward(x, self.name)

    def _backward(self, dout: Array, saved: Array) -> Array:
        return self._kernels.activation_backward(dout, saved, self.name)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)). `out` remembers the result; dx = dout * (1 - out) * out."""

    name = "sigmoid"

    def _forward(self, x: Array) -> Array:
        return self._kernels.sigmoid_forward(x)

    def _backward(self, dout: Array, saved: Array) -> Array:
        return self._kernels.sigmoid_backward(dout, saved)


class Tanh(_Activation):
    """The hyperbolic tangent. `out` remembers the result; dx = dout * (1 - out²)."""

    name = "tanh"

    def _forward(self, x: Array) -> Array:
        return self._kernels.tanh_forward(x)

    def _backward(self, dout: Array, saved: Array) -> Array:
        return self._kernels.tanh_backward(dout, saved)


class Elu(_Activation):
    """x where x > 0, exp(x) - 1 elsewhere (Clevert, Unterthiner, Hochreiter 2016). `out` remembers the result."""

    name = "elu"


class Silu(_Activation):
    """x * sigmoid(x), also called swish (Elfwing, Uchibe, Doya 2018). `x` remembers the input."""

    name = "silu"


class Gelu(_Activation):
    """x * Phi(x), Phi being the standard normal distribution function (Hendrycks, Gimpel 2016). `x` remembers the input."""

    name = "gelu"


class GeluTanh(_Activation):
    """GELU with Phi by tanh: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))). `x` remembers the input."""

    name = "gelu_tanh"


class Softplus(_Activation):
    """log(1 + exp(x)), without overflow (Dugas et al. 2001). `x` remembers the input."""

    name = "softplus"


class LeakyRelu(Layer):
    """x where x > 0, slope * x elsewhere. `mask` remembers where x <= 0.

    Raises TypeError and ValueError for a slope that is not a finite number above 0.
    """

    def __init__(self, slope: float = 0.01, backend: str | None = None):
        super().__init__(backend)
        self.slope = checks.positive("slope", slope)
        self.mask: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape; integers become float64. Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        result = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        out, self.mask = self._kernels.leaky_relu_forward(
            x.astype(checks.compute_dtype(result), copy=False), self.slope
        )
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx: dout, and slope * dout where the mask is set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._cached("mask")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, mask.shape, "forward's result")
        result = dout.dtype if dout.dtype.kind == "f" else np.dtype(np.float64)
        dx = self._kernels.leaky_relu_backward(dout.astype(checks.compute_dtype(result), copy=False), mask, self.slope)
        return dx.astype(result, copy=False)


class Identity(Layer):
    """x itself: the activation of an output layer for regression."""

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> a copy. Raises TypeError for dtypes that are not real numbers."""
        return self._copy(checks.real_array("x", x))

    def backward(self, dout: ArrayLike) -> Array:
        """dout -> a copy. Raises TypeError for dtypes that are not real numbers."""
        return self._copy(checks.real_array("dout", dout))

    def _copy(self, x: Array) -> Array:
        return self._kernels.activation_forward(x, "identity") if x.dtype in (np.float32, np.float64) else x.copy()


ACTIVATION_LAYERS: dict[str, type[Any]] = {
    "relu": Relu,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "leaky_relu": LeakyRelu,
    "identity": Identity,
    **{layer.name: layer for layer in (Elu, Silu, Gelu, GeluTanh, Softplus)},
}
