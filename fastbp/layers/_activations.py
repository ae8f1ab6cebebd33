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
    """max(x, 0).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        mask: where x <= 0, of x's shape; its gradient is 0 there.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Relu
        >>> relu = Relu()
        >>> relu.forward([-1.0, 2.0])
        array([0., 2.])
        >>> relu.backward([3.0, 3.0])
        array([0., 3.])
    """

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
    """1 / (1 + exp(-x)); dx = dout * (1 - out) * out.

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        out: the result of the last `forward`.

    Examples:
        >>> from fastbp import Sigmoid
        >>> sigmoid = Sigmoid()
        >>> sigmoid.forward([0.0])
        array([0.5])
        >>> sigmoid.backward([1.0])
        array([0.25])
    """

    name = "sigmoid"

    def _forward(self, x: Array) -> Array:
        return self._kernels.sigmoid_forward(x)

    def _backward(self, dout: Array, saved: Array) -> Array:
        return self._kernels.sigmoid_backward(dout, saved)


class Tanh(_Activation):
    """The hyperbolic tangent; dx = dout * (1 - out²).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        out: the result of the last `forward`.

    Examples:
        >>> from fastbp import Tanh
        >>> tanh = Tanh()
        >>> tanh.forward([0.0])
        array([0.])
        >>> tanh.backward([1.0])
        array([1.])
    """

    name = "tanh"

    def _forward(self, x: Array) -> Array:
        return self._kernels.tanh_forward(x)

    def _backward(self, dout: Array, saved: Array) -> Array:
        return self._kernels.tanh_backward(dout, saved)


class Elu(_Activation):
    """x where x > 0, exp(x) - 1 elsewhere (Clevert, Unterthiner, Hochreiter 2016).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        out: the result of the last `forward`.

    Examples:
        >>> from fastbp import Elu
        >>> elu = Elu()
        >>> elu.forward([-1.0, 2.0]).round(3)
        array([-0.632,  2.   ])
        >>> elu.backward([1.0, 1.0]).round(3)
        array([0.368, 1.   ])
    """

    name = "elu"


class Silu(_Activation):
    """x * sigmoid(x), also called swish (Elfwing, Uchibe, Doya 2018).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        x: the input of the last `forward`.

    Examples:
        >>> from fastbp import Silu
        >>> silu = Silu()
        >>> silu.forward([-1.0, 2.0]).round(3)
        array([-0.269,  1.762])
        >>> silu.backward([1.0, 1.0]).round(3)
        array([0.072, 1.091])
    """

    name = "silu"


class Gelu(_Activation):
    """x * Phi(x), Phi being the standard normal distribution function (Hendrycks, Gimpel 2016).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        x: the input of the last `forward`.

    Examples:
        >>> from fastbp import Gelu
        >>> gelu = Gelu()
        >>> gelu.forward([-1.0, 2.0]).round(3)
        array([-0.159,  1.954])
        >>> gelu.backward([1.0, 1.0]).round(3)
        array([-0.083,  1.085])
    """

    name = "gelu"


class GeluTanh(_Activation):
    """GELU with Phi by tanh: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        x: the input of the last `forward`.

    Examples:
        >>> from fastbp import GeluTanh
        >>> gelu = GeluTanh()
        >>> gelu.forward([-1.0, 2.0]).round(3)
        array([-0.159,  1.955])
        >>> gelu.backward([1.0, 1.0]).round(3)
        array([-0.083,  1.086])
    """

    name = "gelu_tanh"


class Softplus(_Activation):
    """log(1 + exp(x)), without overflow (Dugas et al. 2001).

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        x: the input of the last `forward`.

    Examples:
        >>> from fastbp import Softplus
        >>> softplus = Softplus()
        >>> softplus.forward([0.0, 100.0]).round(3)
        array([  0.693, 100.   ])
        >>> softplus.backward([1.0, 1.0])
        array([0.5, 1. ])
    """

    name = "softplus"


class LeakyRelu(Layer):
    """x where x > 0, slope * x elsewhere.

    Args:
        slope: a finite number above 0.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        mask: where x <= 0, of x's shape.

    Raises:
        TypeError: for a slope that is not a number.
        ValueError: for a slope that is not finite and above 0.

    Examples:
        >>> from fastbp import LeakyRelu
        >>> relu = LeakyRelu(slope=0.1)
        >>> relu.forward([-1.0, 2.0])
        array([-0.1,  2. ])
        >>> relu.backward([1.0, 1.0])
        array([0.1, 1. ])
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
    """x itself: the activation of an output layer for regression.

    Args:
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import Identity
        >>> Identity().forward([-1.0, 2.0])
        array([-1.,  2.])
    """

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
ACTIVATION_NAMES = {cls: name for name, cls in ACTIVATION_LAYERS.items()}
