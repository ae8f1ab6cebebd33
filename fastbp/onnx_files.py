"""Networks as ONNX models, for onnxruntime and whatever else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._version import __version__
from .checks import Array
from .files import write_atomically

if TYPE_CHECKING:
    from .networks import MLP

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


def _activation(
    helper: Any, activation: str, source: str, target: str, constants: dict[str, Array], dtype: np.dtype[Any]
) -> list[Any]:
    if activation == "leaky_relu":  # as two operators: runtimes have LeakyRelu for float32 alone
        constants["slope"] = np.array(0.01, dtype)
        return [
            helper.make_node("Mul", [source, "slope"], [f"{target} small"]),
            helper.make_node("Max", [source, f"{target} small"], [target]),
        ]
    operator = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[activation]
    return [helper.make_node(operator, [source], [target])]
