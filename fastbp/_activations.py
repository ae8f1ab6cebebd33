"""The activations that networks have between their layers: everything about each of them but its compiled form.

A new one is an entry here, its compiled form in kernels/layers/activations.py, and a class in layers/_activations.py.
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
    init: the weight_init_std that suits it, "he" or "xavier".
    onnx: its operator, where all runtimes have that for both dtypes; else a function of `node`, which adds an operator and
    gives the name of its result, and of the name of x (networks/_onnx.py). Runtimes have LeakyRelu and Elu for float32
    alone, Gelu came with opset 20, and onnxruntime 1.23 makes of x * Sigmoid(x) an operator that it has for float32 alone.
    sklearn: scikit-learn's name for it.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]
    init: str
    needs_input: bool = False
    onnx: str | Callable[[Any, str], str] = "Identity"
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


def _onnx_half(node: Any, x: str, value: str) -> str:
    """x / 2 * (1 + value)."""
    return node("Mul", node("Mul", x, 0.5), node("Add", value, 1.0))


def _onnx_cubic(node: Any, x: str) -> str:
    """x + 0.044715 x³."""
    return node("Add", x, node("Mul", node("Mul", node("Mul", x, x), x), _TANH_CUBIC))


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        lambda x: np.where(x <= 0, x.dtype.type(0), x),
        lambda dout, y: np.where(y <= 0, dout.dtype.type(0), dout),
        "he",
        onnx="Relu",
        sklearn="relu",
    ),
    "sigmoid": Activation(_sigmoid, lambda dout, y: dout * (1 - y) * y, "xavier", onnx="Sigmoid", sklearn="logistic"),
    "tanh": Activation(np.tanh, lambda dout, y: dout * (1 - y * y), "xavier", onnx="Tanh", sklearn="tanh"),
    "leaky_relu": Activation(
        lambda x: np.where(x <= 0, x.dtype.type(SLOPE) * x, x),
        lambda dout, y: np.where(y <= 0, dout.dtype.type(SLOPE) * dout, dout),
        "he",
        onnx=lambda node, x: node("Max", x, node("Mul", x, SLOPE)),
    ),
    "identity": Activation(lambda x: x, lambda dout, y: dout, "xavier", onnx="Identity", sklearn="identity"),
    "elu": Activation(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda dout, y: np.where(y <= 0, dout * (y + 1), dout),
        "he",
        onnx=lambda node, x: node("Add", node("Max", x, 0.0), node("Sub", node("Exp", node("Min", x, 0.0)), 1.0)),
    ),
    "silu": Activation(
        lambda x: x * _sigmoid(x),
        lambda dout, x: dout * _silu_derivative(x),
        "he",
        needs_input=True,
        onnx=lambda node, x: _onnx_half(
            node, x, node("Tanh", node("Mul", x, 0.5))
        ),  # x * Sigmoid(x) is fused: see above
    ),
    "gelu": Activation(
        lambda x: x * _normal_cdf(x),
        lambda dout, x: dout * _gelu_derivative(x),
        "he",
        needs_input=True,
        onnx=lambda node, x: _onnx_half(node, x, node.erf(node("Mul", x, math.sqrt(0.5)))),
    ),
    "gelu_tanh": Activation(
        lambda x: x.dtype.type(0.5) * x * (1 + _tanh_of_cubic(x)),
        lambda dout, x: dout * _gelu_tanh_derivative(x),
        "he",
        needs_input=True,
        onnx=lambda node, x: _onnx_half(node, x, node("Tanh", node("Mul", _onnx_cubic(node, x), _TANH_SCALE))),
    ),
    "softplus": Activation(
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        lambda dout, x: dout * _sigmoid(x),
        "he",
        needs_input=True,
        onnx=lambda node, x: node(
            "Add", node("Max", x, 0.0), node("Log", node("Add", node("Exp", node("Neg", node("Abs", x))), 1.0))
        ),
    ),
}
