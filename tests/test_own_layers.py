"""Layers of the user's own in a network of any layers."""

from __future__ import annotations

import numpy as np
import pytest
from networks_cases import RNG, Scale, conv_net, trained

import fastbp
from fastbp import Sequential, nn
from fastbp.layers import Affine


def test_files_with_own_layers_need_their_classes(tmp_path):
    network = conv_net([nn.Affine(3), Scale(), nn.Affine(4)])
    network.save(tmp_path / "n.safetensors")
    with pytest.raises(fastbp.SavedFileError, match=r"layers\[1\] is of the user's own class Scale: give own_layers"):
        fastbp.load(tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match=r"Scale1 has no form in ONNX"):
        network.to_onnx(tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


def test_layers_of_fastbp_itself_are_taken_too():
    """By what they declare, as a user's own are; making the network draws no random numbers."""
    W, b = 0.1 * RNG.standard_normal((128, 5)), np.zeros(5)
    state = np.random.get_state()[1].copy()
    layers = [Affine(W, b), fastbp.Tanh(), fastbp.Dropout(0.5, inverted=True), nn.Affine(4)]
    network = conv_net(layers)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(network.params["W1"], W)
    trained(network, 3)
    assert np.abs(network.params["W1"] - W).max() > 0


def test_own_layers_that_are_wrong_are_named():
    class Wrong(Scale):
        def backward(self, dout):
            super().backward(dout)
            self.dfactor = self.dfactor[:2]
            return dout

    class Alone(Scale):
        def forward(self, x):
            return np.zeros(5)

    with pytest.raises(
        ValueError, match=r"the gradient dfactor of Wrong must have the shape \(3,\) of factor, got \(2,\)"
    ):
        trained(conv_net([nn.Affine(3), Wrong(), nn.Affine(4)]))
    with pytest.raises(ValueError, match=r"layers\[1\], Alone: its forward must give a row for each sample"):
        conv_net([nn.Affine(3), Alone(), nn.Affine(4)])


def test_own_layers_are_copied_and_trained():
    own = Scale()
    network = conv_net([nn.Affine(3), own, nn.Affine(4)])
    assert set(network.params) == {"W1", "b1", "factor1", "shift1", "W2", "b2"}
    assert network.decayed == {"W1", "W2", "factor1"}
    trained(network, 7)
    assert network.statistics == [7]
    assert (network.params["factor1"] != 1.5).all()
    assert (own.factor == 1.5).all()


def test_own_classes_with_names_of_fastbps_are_layers_of_their_own():
    class Relu(Scale):
        pass

    layers = [nn.Affine(3), nn.Tanh(), nn.Affine(3), nn.Relu(), nn.Affine(3), Relu(), nn.Affine(3), Relu()]
    network = Sequential((4,), layers, dtype="float64", seed=0)
    assert len(network.layers) == len(layers)
    assert [type(layer).__name__ for layer in network.layers.values()][-1] == "Relu"


def test_subclasses_of_layers_are_not_exported_as_what_they_are_not(tmp_path):
    class Doubled(fastbp.Relu):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="Doubled1 has no form in ONNX"):
        Sequential((4,), [nn.Affine(3), Doubled()]).to_onnx(tmp_path / "n.onnx")
