"""Networks as ONNX models, for onnxruntime and whatever else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._activations import ACTIVATIONS
from .._checks import Array
from .._files import write_atomically
from .._version import __version__

if TYPE_CHECKING:
    from ._mlp import MLP

OPSET, IR_VERSION = 17, 8  # of ONNX 1.12, 2022: what reads newer ones reads these
OUTPUTS = {
    "cross_entropy": ("probabilities", "Softmax"),
    "binary_cross_entropy": ("probabilities", "Sigmoid"),
    "poisson": ("means", "Exp"),
}


def write_onnx(network: MLP, path: Path) -> None:
    """The model: x (N, inputs) -> scores (N, outputs), and what the last activation makes of them, in its dtype."""
    import onnx
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(network.dtype)
    constants: dict[str, Array] = dict(network.params)
    nodes, value = [], "x"
    for number, activation in enumerate(network.activations, 1):
        out = "scores" if number == len(network.activations) else f"z{number}"
        nodes.append(helper.make_node("Gemm", [value, f"W{number}", f"b{number}"], [out]))
        value = out
        if activation != "identity":
            value = f"y{number}"
            nodes += _activation(helper, activation, out, value, constants, network.dtype)
    results = ["scores"]
    if network.loss_name in OUTPUTS:
        name, operator = OUTPUTS[network.loss_name]
        nodes.append(helper.make_node(operator, ["scores"], [name]))
        results.append(name)
    graph = helper.make_graph(
        nodes,
        "fastbp network",
        [helper.make_tensor_value_info("x", kind, ["N", network.sizes[0]])],
        [helper.make_tensor_value_info(name, kind, ["N", network.sizes[-1]]) for name in results],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
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


def _activation(helper: Any, name: str, source: str, target: str, constants: dict[str, Array], dtype: Any) -> list[Any]:
    """The nodes of one activation: one operator where all runtimes have it for both dtypes, else composed of others."""
    form = ACTIVATIONS[name].onnx
    if isinstance(form, str):
        return [helper.make_node(form, [source], [target])]
    nodes = _Nodes(helper, target, constants, dtype)
    form(nodes, source)
    nodes.made[-1].output[0] = target
    return nodes.made


class _Nodes:
    """Nodes in a row: each call adds one, of the names of its inputs and of numbers, and gives the name of its result."""

    def __init__(self, helper: Any, prefix: str, constants: dict[str, Array], dtype: Any):
        self.helper, self.prefix, self.constants, self.dtype = helper, prefix, constants, dtype
        self.made: list[Any] = []

    def __call__(self, operator: str, *inputs: str | float) -> str:
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        result = f"{self.prefix} {len(self.made)}"
        self.made.append(self.helper.make_node(operator, names, [result]))
        return result

    def erf(self, x: str) -> str:
        """Erf in float32: for float64, onnxruntime has none."""
        if self.dtype == np.float32:
            return self("Erf", x)
        result = self("Erf", self._cast(x, np.float32))
        return self._cast(result, self.dtype)

    def _cast(self, x: str, dtype: Any) -> str:
        result = f"{self.prefix} {len(self.made)}"
        kind = self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.made.append(self.helper.make_node("Cast", [x], [result], to=kind))
        return result

    def _constant(self, value: float) -> str:
        name = f"constant {value!r}"
        self.constants[name] = np.array(value, self.dtype)
        return name
