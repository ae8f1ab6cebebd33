"""Networks as ONNX models, for onnxruntime and whatever else reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._activations import ACTIVATIONS
from .._checks import Array
from .._files import write_atomically
from .._version import __version__
from ..layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Flatten,
    LeakyRelu,
    Pooling,
)
from ..layers._activations import ACTIVATION_NAMES
from ..layers._regularization import EPSILON, SeededDropout

if TYPE_CHECKING:
    from ._network import Network

OPSET, IR_VERSION = 17, 8  # of ONNX 1.12, 2022: what reads newer ones reads these
OUTPUTS = {
    "cross_entropy": ("probabilities", "Softmax"),
    "binary_cross_entropy": ("probabilities", "Sigmoid"),
    "poisson": ("means", "Exp"),
}


def write_onnx(network: Network, path: Path) -> None:
    """The model: x (N, ...) -> scores (N, outputs), and what the last activation makes of them, in its dtype.

    Raises ValueError for layers that have no form there: the user's own.
    """
    import onnx
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(network.dtype)
    nodes = _Nodes(helper, dict(network.params), network.dtype)
    value, names = "x", {(id(layer), name): key for key, layer, name in network._declared}
    for name, layer in network.layers.items():
        form = next((form for kinds, form in FORMS if type(layer) in kinds), None)
        if form is None:
            raise ValueError(f"{name} has no form in ONNX: it is a layer of your own, or of another library")
        nodes.prefix = name
        value = form(nodes, value, layer, lambda parameter, layer=layer: names[id(layer), parameter])
    nodes.rename(value, "scores")
    results = ["scores"]
    if network.loss_name in OUTPUTS:
        name, operator = OUTPUTS[network.loss_name]
        nodes.made.append(helper.make_node(operator, ["scores"], [name]))
        results.append(name)
    graph = helper.make_graph(
        nodes.made,
        "fastbp network",
        [helper.make_tensor_value_info("x", kind, ["N", *network.input_shape])],
        [helper.make_tensor_value_info(name, kind, ["N", network.outputs]) for name in results],
        [numpy_helper.from_array(value, name) for name, value in nodes.constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastbp",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString())


class _Nodes:
    """Nodes in a row: each call adds one, of the names of its inputs and of numbers, and gives the name of its result."""

    def __init__(self, helper: Any, constants: dict[str, Array], dtype: Any):
        self.helper, self.prefix, self.constants, self.dtype = helper, "", constants, dtype
        self.made: list[Any] = []

    def __call__(self, operator: str, *inputs: str | float, **attributes: Any) -> str:
        names = [value if isinstance(value, str) else self.number(value) for value in inputs]
        result = f"{self.prefix} {len(self.made)}"
        self.made.append(self.helper.make_node(operator, names, [result], **attributes))
        return result

    def erf(self, x: str) -> str:
        """Erf in float32: for float64, onnxruntime has none."""
        if self.dtype == np.float32:
            return self("Erf", x)
        return self._cast(self("Erf", self._cast(x, np.float32)), self.dtype)

    def array(self, name: str, value: Any) -> str:
        """A constant, by a name of this layer's own."""
        self.constants[f"{self.prefix} {name}"] = np.ascontiguousarray(value)
        return f"{self.prefix} {name}"

    def number(self, value: float) -> str:
        """A constant, shared by all that use this number."""
        self.constants[f"constant {value!r}"] = np.array(value, self.dtype)
        return f"constant {value!r}"

    def rename(self, result: str, name: str) -> None:
        """Give the last result another name."""
        if not self.made or result not in self.made[-1].output:
            result = self("Identity", result)
        self.made[-1].output[0] = name

    def _cast(self, x: str, dtype: Any) -> str:
        return self("Cast", x, to=self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# How each kind of layer is written: nodes, the name of its input, the layer, the names of its parameters -> its result's.


def _affine(nodes: _Nodes, x: str, layer: Affine, name: Callable[[str], str]) -> str:
    return nodes("Gemm", nodes("Flatten", x, axis=1), name("W"), name("b"))


def _convolution(nodes: _Nodes, x: str, layer: Convolution, name: Callable[[str], str]) -> str:
    strides, pads = [layer.stride] * 2, [layer.pad] * 4
    return nodes("Conv", x, name("W"), name("b"), kernel_shape=layer.W.shape[2:], strides=strides, pads=pads)


def _pooling(nodes: _Nodes, x: str, layer: Pooling, name: Callable[[str], str]) -> str:
    return _windows(nodes, "MaxPool", x, layer)


def _average_pooling(nodes: _Nodes, x: str, layer: AveragePooling, name: Callable[[str], str]) -> str:
    return _windows(nodes, "AveragePool", x, layer)


def _windows(nodes: _Nodes, operator: str, x: str, layer: Pooling | AveragePooling) -> str:
    """Padded before: with zeros, where MaxPool's own are minus infinity; as wide as the window, which runtimes refuse."""
    if layer.pad:
        pads = nodes.array("pads", np.array([0, 0, layer.pad, layer.pad] * 2, np.int64))
        x = nodes("Pad", x, pads, 0.0)
    return nodes(operator, x, kernel_shape=[layer.pool_h, layer.pool_w], strides=[layer.stride] * 2)


def _flatten(nodes: _Nodes, x: str, layer: Flatten, name: Callable[[str], str]) -> str:
    return nodes("Flatten", x, axis=1)


def _dropout(nodes: _Nodes, x: str, layer: SeededDropout, name: Callable[[str], str]) -> str:
    return x if layer.inverted else nodes("Mul", x, 1 - layer.dropout_ratio)


def _batch_normalization(nodes: _Nodes, x: str, layer: BatchNormalization, name: Callable[[str], str]) -> str:
    """By channel or by feature, which are the second axis; the book's, by pixel, as rows of numbers in between."""
    mean, variance = nodes.array("mean", layer.running_mean), nodes.array("variance", layer.running_var)
    shape = nodes("Shape", x)
    rows = x if layer.per_channel else nodes("Flatten", x, axis=1)
    out = nodes("BatchNormalization", rows, name("gamma"), name("beta"), mean, variance, epsilon=EPSILON)
    return out if layer.per_channel else nodes("Reshape", out, shape)


def _activation(nodes: _Nodes, x: str, layer: Any, name: Callable[[str], str]) -> str:
    """One operator where all runtimes have it for both dtypes, else composed of others."""
    if isinstance(layer, LeakyRelu):
        return (
            nodes("Max", x, nodes("Mul", x, layer.slope))
            if layer.slope <= 1
            else nodes("Min", x, nodes("Mul", x, layer.slope))
        )
    form = ACTIVATIONS[ACTIVATION_NAMES[type(layer)]].onnx
    return nodes(form, x) if isinstance(form, str) else form(nodes, x)


FORMS: list[tuple[tuple[type[Any], ...], Callable[..., str]]] = [
    ((Affine,), _affine),
    ((Convolution,), _convolution),
    ((Pooling,), _pooling),
    ((AveragePooling,), _average_pooling),
    ((Flatten,), _flatten),
    ((SeededDropout,), _dropout),
    ((BatchNormalization,), _batch_normalization),
    (tuple(ACTIVATION_NAMES), _activation),
]
