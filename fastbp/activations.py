"""The activations that networks have between their layers: everything about each of them but its compiled form.

A new one is an entry here, its compiled form in kernels/layers/activations.py, and a class in layers.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SLOPE = 0.01  # of leaky_relu in networks


class Activation(NamedTuple):
    """One activation f.

    forward: x -> f(x). backward: dout, saved -> dout * f', saved being x where `needs_input`, else f(x).
    gain: weights begin with a standard deviation of sqrt(gain / inputs).
    onnx: the operator, its attributes and the opset from which it is there; None: it is composed of others (onnx_files).
    sklearn: scikit-learn's name for it.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]
    gain: float
    needs_input: bool = False
    onnx: tuple[str, dict[str, Any], int] | None = None
    sklearn: str | None = None


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by exp(-|x|), which never overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def _normal_cdf(x: Array) -> Array:
    """The standard normal distribution function; NumPy has no erf."""
    return (0.5 * (1 + _erf(np.asarray(x, np.float64) * math.sqrt(0.5)))).astype(x.dtype)


_erf = np.vectorize(math.erf, otypes=[np.float64])
_TANH_SCALE, _TANH_CUBIC = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel, 2016


def _gelu_derivative(x: Array) -> Array:
    return _normal_cdf(x) + x * (np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)).astype(x.dtype)


def _tanh_of_cubic(x: Array) -> Array:
    return np.tanh(x.dtype.type(_TANH_SCALE) * (x + x.dtype.type(_TANH_CUBIC) * x * x * x))


def _gelu_tanh_derivative(x: Array) -> Array:
    t, half = _tanh_of_cubic(x), x.dtype.type(0.5)
    inner = x.dtype.type(_TANH_SCALE) * (1 + x.dtype.type(3 * _TANH_CUBIC) * x * x)
    return half * (1 + t) + half * x * (1 - t * t) * inner


def _silu_derivative(x: Array) -> Array:
    y = _sigmoid(x)
    return y * (1 + x * (1 - y))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda x: x, lambda dout, y: dout, 1, onnx=("Identity", {}, 1), sklearn="identity"),
    "relu": Activation(
        lambda x: np.where(x <= 0, x.dtype.type(0), x),
        lambda dout, y: np.where(y <= 0, dout.dtype.type(0), dout),
        2,
        onnx=("Relu", {}, 14),
        sklearn="relu",
    ),
    "sigmoid": Activation(
        _sigmoid, lambda dout, y: dout * (1 - y) * y, 1, onnx=("Sigmoid", {}, 13), sklearn="logistic"
    ),
    "tanh": Activation(np.tanh, lambda dout, y: dout * (1 - y * y), 1, onnx=("Tanh", {}, 13), sklearn="tanh"),
    "leaky_relu": Activation(
        lambda x: np.where(x <= 0, x.dtype.type(SLOPE) * x, x),
        lambda dout, y: np.where(y <= 0, dout.dtype.type(SLOPE) * dout, dout),
        2,
        onnx=("LeakyRelu", {"alpha": SLOPE}, 16),
    ),
    "elu": Activation(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda dout, y: np.where(y <= 0, dout * (y + 1), dout),
        2,
        onnx=("Elu", {"alpha": 1.0}, 6),
    ),
    "silu": Activation(lambda x: x * _sigmoid(x), lambda dout, x: dout * _silu_derivative(x), 2, needs_input=True),
    "gelu": Activation(
        lambda x: x * _normal_cdf(x),
        lambda dout, x: dout * _gelu_derivative(x),
        2,
        needs_input=True,
        onnx=("Gelu", {"approximate": "none"}, 20),
    ),
    "gelu_tanh": Activation(
        lambda x: x.dtype.type(0.5) * x * (1 + _tanh_of_cubic(x)),
        lambda dout, x: dout * _gelu_tanh_derivative(x),
        2,
        needs_input=True,
        onnx=("Gelu", {"approximate": "tanh"}, 20),
    ),
    "softplus": Activation(
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        lambda dout, x: dout * _sigmoid(x),
        2,
        needs_input=True,
        onnx=("Softplus", {}, 1),
    ),
}
