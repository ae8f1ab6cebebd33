"""Networks in other programs: ONNX models in onnxruntime, and the weights in PyTorch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fastbp import MLP, LeakyRelu, Sequential, nn
from fastbp.layers._activations import ACTIVATION_LAYERS as ACTIVATIONS
from fastbp.layers._losses import LOSS_LAYERS as LOSSES


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_onnxruntime_computes_the_same(loss, activation, dtype, tmp_path):
    network = MLP((20, 16, 12, 5), activation, "he", dtype, seed=0, loss=loss)
    network.parameters[-5:] = [0.5, -1, 0, 2, 0.1]
    network.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((33, 20)).astype(dtype)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"x": x}), strict=True))
    assert found["scores"].dtype == dtype
    exact = dtype == "float64" and activation != "gelu"  # onnxruntime has no Erf for float64
    np.testing.assert_allclose(found["scores"], network.predict(x), rtol=0, atol=1e-12 if exact else 1e-5)
    if loss in ("cross_entropy", "binary_cross_entropy"):
        assert names == ["scores", "probabilities"]
        np.testing.assert_allclose(found["probabilities"], network.predict_proba(x), rtol=0, atol=1e-6)
    elif loss == "poisson":
        np.testing.assert_allclose(found["means"], np.exp(network.predict(x)), rtol=1e-5)
    else:
        assert names == ["scores"]


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("slope", [0.2, 1.5])
def test_onnxruntime_computes_convolutional_networks(activation, slope, tmp_path):
    """Every kind of layer, after some training. onnxruntime has convolutions for float32 alone."""
    if slope != 0.2 and activation is not LeakyRelu:
        return
    layers = [
        nn.Conv(3, 3, pad=1, stride=2), nn.BatchNorm(), activation(**({"slope": slope} if activation is LeakyRelu else {})),
        nn.MaxPool(2, stride=1, pad=1), nn.Dropout(0.3, inverted=False), nn.AveragePool((2, 3), stride=2, pad=2),
        nn.BatchNorm(per_channel=False), nn.Flatten(), nn.Affine(6), nn.BatchNorm(), nn.Dropout(0.2), nn.Affine(4),
    ]  # fmt: skip
    network, rng = Sequential((2, 9, 8), layers, seed=0), np.random.default_rng(0)
    x = rng.standard_normal((12, 2, 9, 8)).astype(np.float32)
    for _ in range(3):
        network.gradient(x, rng.integers(0, 4, 12))
    network.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    scores, probabilities = session.run(None, {"x": x})
    np.testing.assert_allclose(scores, network.predict(x), rtol=0, atol=1e-5)
    np.testing.assert_allclose(probabilities, network.predict_proba(x), rtol=0, atol=1e-5)


def test_networks_that_end_or_begin_without_a_node_have_their_names(tmp_path):
    network = Sequential((3,), [nn.Affine(3), nn.Dropout(0.2)], dtype="float64", seed=0)
    network.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 3))
    np.testing.assert_allclose(session.run(["scores"], {"x": x})[0], network.predict(x), atol=1e-12)


def test_a_single_row_and_a_single_layer(tmp_path):
    network = MLP((4, 3), seed=0)
    network.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(session.run(["scores"], {"x": x})[0], network.predict(x), atol=1e-6)
    assert onnx.load(tmp_path / "model.onnx").producer_name == "fastbp"


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path, network = tmp_path / "model.onnx", MLP((6, 5, 3), seed=0)
    network.to_onnx(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    network.parameters[:] = 0
    with pytest.raises(OSError, match="No space left"):
        network.to_onnx(path)
    assert path.read_bytes() == before


def test_exporting_needs_nothing_until_it_is_used():
    code = "import sys, fastbp; sys.exit(any(name.startswith('onnx') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_way_to_pytorch(tmp_path, monkeypatch):
    """The lines of docs/keeping.md, where torch is installed."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    network, names = MLP((784, 50, 10), "relu", "he", seed=0), {}
    network.save("model.safetensors")
    page = (Path(__file__).parents[1] / "docs" / "keeping.md").read_text("utf-8")
    exec(re.search(r"```py\n(.*?)```", page, re.DOTALL)[1], names)
    x = np.random.default_rng(0).standard_normal((7, 784)).astype(np.float32)
    found = names["model"](torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, network.predict(x), rtol=0, atol=1e-5)
