"""Layers of the user's own in a network of any layers."""

from __future__ import annotations

import numpy as np
import pytest
from networks_cases import IMAGES, LABELS, RNG, Scale, conv_net, trained

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
    """By what they declare, as a user's own are; NumPy's global random state is not used."""
    W, b = 0.1 * RNG.standard_normal((128, 5)), np.zeros(5)
    state = np.random.get_state()[1].copy()
    layers = [Affine(W, b), fastbp.Tanh(), fastbp.Dropout(0.3), nn.Affine(4)]
    network = conv_net(layers)
    np.testing.assert_array_equal(network.params["W1"], W)
    assert "Dropout(ratio=0.3, inverted=False)" in repr(network)  # drawn from the network's seed
    trained(network, 3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
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


def test_own_layers_that_declare_what_is_not_there_are_named():
    class Text(Scale):
        parameters = "factor"

    class Missing(Scale):
        parameters = ("factor", "offset")

    class Decayed(Scale):
        decayed = ("W",)

    class Failing(Scale):
        def forward(self, x):
            raise KeyError("x")

    class Clash(Scale):
        statistics = ("factor",)

    for layer, error, message in (
        (
            Text,
            TypeError,
            r"layers\[1\], Text: parameters must be a tuple of names such as \('factor',\), got 'factor'",
        ),
        (Missing, ValueError, r"layers\[1\], Missing: parameters names 'offset', which it does not have"),
        (Decayed, ValueError, r"layers\[1\], Decayed: decayed must name parameters of it, got W"),
        (Failing, ValueError, r"layers\[1\], Failing: its forward of zeros \(2, 3\) raised KeyError: 'x'"),
        (Clash, ValueError, "two arrays of the layers would be called factor1"),
    ):
        with pytest.raises(error, match=message):
            conv_net([nn.Affine(3), layer(), nn.Affine(4)])


def test_keys_that_would_be_the_same_are_refused():
    class Numbered(Scale):
        parameters, decayed = ("W1",), ()

        def __init__(self):
            super().__init__()
            self.W1 = np.ones(3)

    layers = [nn.Affine(3)] * 11
    with pytest.raises(ValueError, match="two arrays of the layers would be called W11: give the one named 'W1'"):
        Sequential((4,), [*layers, Numbered()])
    with pytest.raises(ValueError, match="two arrays of the layers would be called W11: give the one named 'W'"):
        Sequential((4,), [nn.Affine(3), Numbered(), *layers])


def test_networks_keep_their_dtype_whatever_own_layers_give():
    network = conv_net([nn.Affine(3), Double(), nn.Affine(4)], dtype="float32")
    assert network.predict(IMAGES).dtype == np.float32
    assert {gradient.dtype.name for gradient in network.gradient(IMAGES, LABELS).values()} == {"float32"}
    assert np.isfinite(trained(network, 3).losses).all()


class Double:
    """Its constants are float64, and it writes into what it is given."""

    def forward(self, x):
        x *= np.float64(2)
        return x + np.zeros(1)

    def backward(self, dout):
        return dout * np.full(1, 2.0)


def test_what_the_caller_gave_stays_as_it_is_and_his():
    x = np.ascontiguousarray(IMAGES)
    before = x.copy()
    network = conv_net([Double(), nn.Flatten(), nn.Affine(4)])
    network.predict(x), network.gradient(x, LABELS), network.accuracy(x, LABELS)
    trained(network, 3, data=(x, LABELS), evaluate_every=1)
    np.testing.assert_array_equal(x, before)
    rows = RNG.random((5, 4))
    scores = Sequential((4,), [nn.Flatten()], dtype="float64").predict(rows)
    scores[...] = 0
    assert rows.all()


def test_several_own_layers_of_a_class_can_be_told_apart(tmp_path):
    class Power:
        def __init__(self, exponent):
            self.exponent = exponent

        def forward(self, x):
            self.x = x
            return x**self.exponent

        def backward(self, dout):
            return dout * self.exponent * self.x ** (self.exponent - 1)

    network = conv_net([Power(2), nn.Affine(3), Power(3), nn.Affine(4)])
    network.save(tmp_path / "n.safetensors")
    makers = {"Power1": lambda: Power(2), "Power2": lambda: Power(3)}
    loaded = fastbp.load(tmp_path / "n.safetensors", own_layers=makers)
    np.testing.assert_array_equal(loaded.predict(IMAGES), network.predict(IMAGES))
    for wrong in (Power, {"Power": 3}, ["Power"]):
        with pytest.raises(TypeError, match="own_layers must be a dict of names and what makes a layer"):
            fastbp.load(tmp_path / "n.safetensors", own_layers=wrong)
