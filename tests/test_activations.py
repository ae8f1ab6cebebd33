"""Everything in the table of activations, and what holds for each of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, Adam, Trainer, kernels, reference
from fastbp._activations import ACTIVATIONS
from fastbp.layers._activations import ACTIVATION_LAYERS

NEW = ["elu", "silu", "gelu", "gelu_tanh", "softplus"]
SPECIAL = [0.0, -0.0, 1e-8, -1e-8, 0.04, -0.06, 20.0, -20.0, 90.0, -90.0, 800.0, -800.0, np.nan]


def numbers(dtype, count=300):
    x = 3 * np.random.default_rng(0).standard_normal(count)
    return np.concatenate([x, SPECIAL]).astype(dtype)


def assert_close(actual, expected, dtype):
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    finite = np.isfinite(expected)
    scale = 1 + np.abs(expected[finite])
    assert np.max(np.abs(actual[finite] - expected[finite]) / scale, initial=0) < (
        1e-13 if dtype == "float64" else 2e-6
    )


def test_the_table_is_the_same_everywhere():
    from fastbp.kernels.layers.activations import ACTIVATIONS as COMPILED
    from fastbp.kernels.layers.activations import NEEDS_INPUT

    assert COMPILED.keys() == ACTIVATIONS.keys() == ACTIVATION_LAYERS.keys()
    assert {name for name, activation in ACTIVATIONS.items() if activation.needs_input} == NEEDS_INPUT


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kernels_give_what_the_reference_gives(name, dtype):
    x, dout = numbers(dtype), np.random.default_rng(1).standard_normal(300 + len(SPECIAL)).astype(dtype)
    out = reference.activation_forward(x, name)
    assert_close(kernels.activation_forward(x, name), out, dtype)
    saved = x if ACTIVATIONS[name].needs_input else out
    expected = reference.activation_backward(dout, saved, name)
    assert_close(kernels.activation_backward(dout, saved, name), expected, dtype)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
@pytest.mark.parametrize(("of_dout", "of_saved"), [("float32", "float64"), ("float64", "float32")])
def test_derivatives_of_another_dtype_than_what_was_saved(name, of_dout, of_saved):
    saved, dout = numbers(of_saved), np.random.default_rng(1).standard_normal(300 + len(SPECIAL)).astype(of_dout)
    expected = reference.activation_backward(dout, saved.astype(of_dout), name)
    assert_close(kernels.activation_backward(dout, saved, name), expected, "float32")


FORMULAS = {
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: math.log1p(math.exp(x)),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NEW)
def test_layers_give_the_formula_and_its_derivative(name, backend):
    layer, x = ACTIVATION_LAYERS[name](backend=backend), np.linspace(-6, 6, 97)
    formula = FORMULAS[name]
    np.testing.assert_allclose(layer.forward(x), [formula(value) for value in x], atol=1e-15)
    h = 1e-5
    expected = [(formula(value + h) - formula(value - h)) / (2 * h) for value in x]
    at_a_kink = np.abs(x) < h
    np.testing.assert_allclose(layer.backward(np.ones(97))[~at_a_kink], np.array(expected)[~at_a_kink], atol=1e-9)


def test_as_pytorch_has_them():
    torch = pytest.importorskip("torch")
    functions = {
        "elu": torch.nn.functional.elu,
        "silu": torch.nn.functional.silu,
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "softplus": torch.nn.functional.softplus,
    }
    for name in NEW:
        x = torch.linspace(-5, 5, 51, dtype=torch.float64, requires_grad=True)
        out = functions[name](x)
        out.sum().backward()
        layer = ACTIVATION_LAYERS[name]()
        np.testing.assert_allclose(layer.forward(x.detach().numpy()), out.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(layer.backward(np.ones(51)), x.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_networks_are_trained_alike_on_both_backends(name, threads):
    rng = np.random.default_rng(2)
    x, t = rng.standard_normal((90, 20)), rng.integers(0, 5, 90)
    losses, parameters = [], []
    for backend in ("numpy", "numba"):
        fastbp.set_num_threads(threads)
        try:
            network = MLP((20, 33, 17, 5), name, "he", "float64", backend, seed=0)
            trainer = Trainer(network, Adam(0.01), batch_size=20, l2=0.01, dropout=0.2)
            losses.append(trainer.fit(x, t, iterations=30, evaluate_every=10, progress=False).losses)
            parameters.append(network.parameters)
        finally:
            fastbp.set_num_threads(None)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    np.testing.assert_allclose(parameters[1], parameters[0], atol=1e-9)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("names", [("gelu", "relu"), ("relu", "silu"), ("softplus", "identity"), ("tanh", "gelu_tanh")])
def test_steps_are_the_layers_own(names):
    """A step in compiled code changes the parameters as the layers' gradients do, whichever activations are mixed."""
    rng = np.random.default_rng(3)
    x, t = rng.standard_normal((40, 12)), rng.integers(0, 4, 40)
    network = MLP((12, 9, 8, 4), names, "xavier", "float64", "numba", seed=1)
    before, gradients = network.parameters.copy(), network.gradient(x, t)
    Trainer(network, SGD(1.0), batch_size=40).fit(x, t, iterations=1, shuffle=True, progress=False)
    after = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    np.testing.assert_allclose(before - network.parameters, after, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_onnxruntime_gives_the_same_scores(name, dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network = MLP((6, 7, 3), name, "he", dtype, seed=0)
    x = np.random.default_rng(4).standard_normal((20, 6)).astype(dtype)
    network.to_onnx(tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"x": x})[0]
    exact = dtype == "float64" and name != "gelu"  # onnxruntime has no Erf for float64
    np.testing.assert_allclose(scores, network.predict(x), atol=1e-13 if exact else 1e-6)
