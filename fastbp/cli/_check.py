"""`fastbp check`: every layer's gradients against central differences, and both backends against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from .._activations import ACTIVATIONS
from .._checks import Array
from ..backends import BACKENDS
from ..gradients import check_gradients, numerical_gradient, relative_error
from ..layers import Affine, AveragePooling, BatchNormalization, Convolution, Dropout, Pooling, SoftmaxWithLoss
from ..layers._activations import ACTIVATION_LAYERS
from ..layers._losses import LOSS_LAYERS
from ..networks._mlp import MLP
from ..networks._sequential import Sequential

GRADIENT_TOLERANCE = 1e-5  # central differences with h = 1e-5, and the epsilon in the book's loss
PARITY_TOLERANCES = {"float64": 1e-12, "float32": 1e-5}

Arrays = dict[str, Array]
Evaluated = tuple[Any, dict[str, Any]]  # a scalar loss, and the results by name; dx is the gradient of x


@dataclass(frozen=True)
class Check:
    """One figure of the table: what was compared, the largest relative error, and how large it may be."""

    subject: str
    comparison: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def run_checks(seed: int = 0) -> list[Check]:
    """All checks: gradients of each layer and of a network with each activation, then parity in both dtypes."""
    found = []
    for backend in BACKENDS:
        for layer, evaluate in LAYERS.items():
            error = _gradient_error(evaluate, backend, _arrays(seed, "float64"))
            found.append(Check(layer, f"gradients, {backend}", error, GRADIENT_TOLERANCE))
        for activation in ACTIVATIONS:
            error = _network_error(activation, seed, backend)
            found.append(Check(f"MLP, {activation}", f"gradients, {backend}", error, GRADIENT_TOLERANCE))
        error = _conv_net_error(seed, backend)
        found.append(Check("Sequential, convolutions", f"gradients, {backend}", error, GRADIENT_TOLERANCE))
    for dtype, tolerance in PARITY_TOLERANCES.items():
        for layer, evaluate in LAYERS.items():
            first, second = (evaluate(backend, _arrays(seed, dtype))[1] for backend in BACKENDS)
            error = max(relative_error(first[name], second[name]) for name in first)
            found.append(Check(layer, f"numba = numpy, {dtype}", error, tolerance))
    return found


def _arrays(seed: int, dtype: str) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = {"x": (7, 11), "W": (11, 11), "b": (11,), "dout": (7, 11)}
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    t = rng.integers(0, 11, 7)
    images = {"images": (3, 2, 6, 5), "filters": (4, 2, 3, 2), "bias": (4,), "gamma": (11,)}
    arrays |= {name: rng.standard_normal(shape).astype(dtype) for name, shape in images.items()}
    return {**arrays, "t": t}


def _affine(backend: str, arrays: Arrays) -> Evaluated:
    layer = Affine(arrays["W"], arrays["b"], backend)
    out, dx = layer.forward(arrays["x"]), layer.backward(arrays["dout"])
    return np.sum(out * arrays["dout"]), {"out": out, "dx": dx, "dW": layer.dW, "db": layer.db}


def _activation(make: Callable[..., Any]) -> Callable[[str, Arrays], Evaluated]:
    def evaluate(backend: str, arrays: Arrays) -> Evaluated:
        layer = make(backend=backend)
        out, dx = layer.forward(arrays["x"]), layer.backward(arrays["dout"])
        return np.sum(out * arrays["dout"]), {"out": out, "dx": dx}

    return evaluate


def _target_loss(make: Callable[..., Any]) -> Callable[[str, Arrays], Evaluated]:
    def evaluate(backend: str, arrays: Arrays) -> Evaluated:
        layer = make(backend=backend)
        loss = layer.forward(arrays["x"], 1 / (1 + np.exp(-arrays["dout"])))
        return loss, {"out": loss, "dx": layer.backward()}

    return evaluate


def _convolution(stride: int, pad: int) -> Callable[[str, Arrays], Evaluated]:
    def evaluate(backend: str, arrays: Arrays) -> Evaluated:
        layer = Convolution(arrays["filters"], arrays["bias"], stride, pad, backend)
        out = layer.forward(arrays["images"])
        dout = np.cos(np.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        dx = layer.backward(dout)
        return np.sum(out * dout), {"out": out, "dimages": dx, "dfilters": layer.dW, "dbias": layer.db}

    return evaluate


def _pooling(make: type[Pooling] | type[AveragePooling]) -> Callable[[str, Arrays], Evaluated]:
    def evaluate(backend: str, arrays: Arrays) -> Evaluated:
        layer = make(3, 2, 2, 1, backend)
        out = layer.forward(arrays["images"])
        dout = np.cos(np.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        return np.sum(out * dout), {"out": out, "dimages": layer.backward(dout)}

    return evaluate


def _batch_normalization(backend: str, arrays: Arrays) -> Evaluated:
    layer = BatchNormalization(arrays["gamma"], arrays["b"], backend=backend)
    out, dx = layer.forward(arrays["x"]), layer.backward(arrays["dout"])
    return np.sum(out * arrays["dout"]), {"out": out, "dx": dx, "dgamma": layer.dgamma, "db": layer.dbeta}


def _dropout(backend: str, arrays: Arrays) -> Evaluated:
    layer = Dropout(0.4, inverted=True, backend=backend)
    state = np.random.get_state()
    np.random.seed(0)  # the same mask each time
    out = layer.forward(arrays["x"])
    np.random.set_state(state)
    return np.sum(out * arrays["dout"]), {"out": out, "dx": layer.backward(arrays["dout"])}


def _softmax_with_loss(backend: str, arrays: Arrays) -> Evaluated:
    layer = SoftmaxWithLoss(backend)
    loss = layer.forward(arrays["x"], arrays["t"])
    return loss, {"out": loss, "dx": layer.backward()}


LAYERS: dict[str, Callable[[str, Arrays], Evaluated]] = {
    "Affine": _affine,
    **{layer.__name__: _activation(layer) for layer in ACTIVATION_LAYERS.values()},
    "SoftmaxWithLoss": _softmax_with_loss,
    "Convolution": _convolution(1, 1),
    "Convolution, stride 2": _convolution(2, 0),
    "Pooling": _pooling(Pooling),
    "AveragePooling": _pooling(AveragePooling),
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    **{loss.__name__: _target_loss(loss) for name, loss in LOSS_LAYERS.items() if name != "cross_entropy"},
}


def _gradient_error(evaluate: Callable[[str, Arrays], Evaluated], backend: str, arrays: Arrays) -> float:
    """The largest error of dx, dW and db, as far as the layer has them, against central differences of its loss."""
    results = evaluate(backend, arrays)[1]
    inputs = [name for name in arrays if f"d{name}" in results]
    return max(
        relative_error(
            results[f"d{name}"], numerical_gradient(lambda _: evaluate(backend, arrays)[0], arrays[name], 1e-5)
        )
        for name in inputs
    )


def _network_error(activation: str, seed: int, backend: str) -> float:
    rng = np.random.default_rng(seed)
    network = MLP((9, 8, 7, 6), activation, "xavier", "float64", backend, seed)
    return max(check_gradients(network, rng.standard_normal((5, 9)), rng.integers(0, 6, 5)).values())


def _conv_net_error(seed: int, backend: str) -> float:
    rng = np.random.default_rng(seed)
    layers = [nn.Conv(3, 3, pad=1), nn.BatchNorm(), nn.Tanh(), nn.MaxPool(2), nn.Dropout(0.3), nn.Affine(4)]
    network = Sequential((2, 6, 6), layers, dtype="float64", backend=backend, seed=seed)
    return max(check_gradients(network, rng.standard_normal((5, 2, 6, 6)), rng.integers(0, 4, 5)).values())
