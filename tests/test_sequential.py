"""Networks of any layers: what they compute, how they are trained by two engines, and what is around them."""

from __future__ import annotations

import copy
import pickle
import re
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import Adam, Sequential, Trainer, nn
from fastbp.layers import Affine, BatchNormalization, Convolution, Pooling, SoftmaxWithLoss
from fastbp.networks._engines import CompiledSteps, LayerByLayer
from fastbp.training import EarlyStopping
from fastbp.training._optimizers import OPTIMIZERS

BACKENDS = ("numpy", "numba")
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((60, 2, 8, 8)), RNG.integers(0, 4, 60)
CONV = (nn.Conv(3, 3, pad=1), nn.BatchNorm(), nn.Tanh(), nn.AveragePool(2), nn.Dropout(0.3), nn.Affine(4))


class Scale:
    """A user's own layer: x * factor + shift, and how often it was called to train."""

    parameters = ("factor", "shift")
    decayed = ("factor",)
    statistics = ("calls",)

    def __init__(self):
        self.factor, self.shift, self.calls = np.full(3, 1.5), np.zeros(3), np.zeros(1)

    def forward(self, x, train_flg=False):
        self.x, self.calls = x, self.calls + train_flg
        return x * self.factor + self.shift

    def backward(self, dout):
        self.dfactor, self.dshift = (dout * self.x).sum(axis=0), dout.sum(axis=0)
        return dout * self.factor


def conv_net(layers=CONV, **options):
    return Sequential((2, 8, 8), layers, **{"dtype": "float64", "seed": 0, **options})


def trained(network, iterations=30, trainer=(), data=(IMAGES, LABELS), **options):
    trainer = Trainer(network, **{"optimizer": Adam(0.01), "batch_size": 10, "seed": 1, **dict(trainer)})
    return trainer.fit(*data, iterations=iterations, progress=False, **options)


def test_the_forward_pass_is_that_of_the_layers_by_hand():
    network = conv_net([nn.Conv(3, 3, stride=2), nn.Relu(), nn.MaxPool(2, stride=1), nn.Affine(4)], backend="numpy")
    p = network.params
    layers = [Convolution(p["W1"], p["b1"], 2), fastbp.Relu(), Pooling(2, 2, 1), Affine(p["W2"], p["b2"])]
    x = IMAGES
    for layer in layers:
        x = layer.forward(x)
    np.testing.assert_array_equal(network.predict(IMAGES), x)
    assert network.loss(IMAGES, LABELS) == SoftmaxWithLoss("numpy").forward(x, LABELS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv(3, (2, 3), stride=2, pad=1), nn.Softplus(), nn.MaxPool((2, 1), pad=1), nn.Affine(4)],
        [nn.Conv(4, 3), nn.BatchNorm(), nn.Silu(), nn.AveragePool(3, stride=2, pad=1), nn.Flatten(), nn.Affine(4)],
        [nn.BatchNorm(per_channel=False), nn.Affine(5), nn.BatchNorm(), nn.Tanh(), nn.Affine(4)],
        [nn.Conv(2, 1), nn.Gelu(), nn.Dropout(0.4), nn.Affine(4), nn.Dropout(0.2, inverted=False)],
        [nn.Affine(3), Scale(), nn.Elu(), nn.Affine(4)],
        [nn.Flatten(), nn.Affine(4)],
    ],
)
def test_gradients_are_those_of_central_differences(layers, backend):
    network = conv_net(layers, backend=backend, weight_init_std="xavier", l2=0.1)
    errors = fastbp.check_gradients(network, IMAGES[:6], LABELS[:6])
    assert set(errors) == set(network.params)
    assert max(errors.values()) < 1e-5
    before = network.statistics.copy()
    network.training_loss(IMAGES[:6], LABELS[:6])
    np.testing.assert_array_equal(network.statistics, before)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_engines_train_an_mlp_alike(optimizer, weighted, reduction):
    """Dropout, l2, weights of samples, a last batch that is shorter, and both backends."""
    x, t = RNG.random((95, 12)), RNG.random((95, 3))
    layers = [nn.Affine(9), nn.Relu(), nn.Dropout(0.2), nn.Affine(7), nn.Tanh(), nn.Dropout(0.2), nn.Affine(3)]
    runs = []
    for backend in BACKENDS:
        for engine in (CompiledSteps, LayerByLayer):
            network = Sequential(
                (12,), layers, dtype="float64", backend=backend, seed=2, loss="huber", reduction=reduction, l2=0.01
            )
            assert isinstance(network._engine, CompiledSteps)
            network._engine = engine(network)
            weights = np.linspace(0, 2, 95) if weighted else None
            trainer = {"optimizer": OPTIMIZERS[optimizer](0.005), "l2": 0.02}
            runs.append(trained(network, 60, trainer, (x, t), shuffle=True, sample_weight=weights, evaluate_every=20))
    for run in runs[1:]:
        np.testing.assert_allclose(run.losses, runs[0].losses, rtol=1e-9, atol=1e-12)
        for one, other in zip(run.evaluations, runs[0].evaluations, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=1e-9)


@pytest.mark.parametrize(
    ("layers", "compiled"),
    [
        ([nn.Affine(4)], True),
        ([nn.Flatten(), nn.Affine(5), nn.LeakyRelu(), nn.Affine(4)], True),
        ([nn.Affine(5), nn.LeakyRelu(0.3), nn.Affine(4)], False),
        ([nn.Affine(5), nn.Relu(), nn.Dropout(0.1), nn.Affine(4)], True),
        ([nn.Affine(5), nn.Relu(), nn.Dropout(0.1, inverted=False), nn.Affine(4)], False),
        ([nn.Affine(5), nn.Relu(), nn.Dropout(0.1), nn.Affine(4), nn.Dropout(0.1)], False),
        ([nn.Affine(6), nn.Relu(), nn.Dropout(0.1), nn.Affine(5), nn.Relu(), nn.Affine(4)], False),
        ([nn.Affine(5), nn.Relu(), nn.Relu(), nn.Affine(4)], False),
        ([nn.Affine(4), nn.Relu()], False),
        ([nn.Dropout(0.1), nn.Affine(4)], False),
    ],
)
def test_which_networks_are_trained_in_compiled_steps(layers, compiled):
    network = conv_net(layers)
    assert isinstance(network._engine, CompiledSteps) == compiled
    history = trained(network, 20, evaluate_every=10)
    assert np.isfinite(history.losses).all()
    assert history.evaluations[-1].train_accuracy == network.accuracy(IMAGES, LABELS) or history.evaluations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_backends_train_a_conv_net_alike(dtype):
    losses = [trained(conv_net(backend=backend, dtype=dtype)).losses for backend in BACKENDS]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9 if dtype == "float64" else 1e-3)


def test_training_is_the_loop_written_by_hand():
    """Without dropout: gradient, l2 and Adam by the public pieces, with the batches that Trainer draws."""
    layers = [nn.Conv(3, 3), nn.BatchNorm(), nn.Relu(), nn.MaxPool(2), nn.Affine(4)]
    network, by_hand = conv_net(layers, l2=0.1), conv_net(layers, l2=0.1)
    history = trained(network, 25)
    random, optimizer, losses = np.random.RandomState(1), Adam(0.01), []
    for _ in range(25):
        rows = random.randint(0, 60, 10)
        losses.append(by_hand.training_loss(IMAGES[rows], LABELS[rows]))
        optimizer.update(by_hand.params, by_hand.gradient(IMAGES[rows], LABELS[rows]))
    np.testing.assert_allclose(history.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(network.parameters, by_hand.parameters, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(network.statistics, by_hand.statistics, rtol=1e-9)


def test_training_and_predicting_are_told_apart():
    network = conv_net()
    trained(network)
    assert network.statistics.any()
    scores = network.predict(IMAGES)
    np.testing.assert_array_equal(network.predict(IMAGES), scores)  # no dropout
    np.testing.assert_allclose(network.predict(IMAGES[:1]), scores[:1], rtol=1e-12)  # no statistics of the batch
    first, second = network.gradient(IMAGES, LABELS), network.gradient(IMAGES, LABELS)
    assert np.abs(first["W1"] - second["W1"]).max() > 0  # other numbers are left out


def test_predicting_in_pieces_is_predicting():
    network = conv_net()
    whole = network.predict(IMAGES)
    network.rows_at_a_time = 7
    np.testing.assert_allclose(network.predict(IMAGES), whole, rtol=1e-12)
    np.testing.assert_allclose(network.predict_proba(IMAGES).sum(axis=1), 1)
    assert network.accuracy(IMAGES, LABELS) == np.mean(whole.argmax(axis=1) == LABELS)
    assert network.predict(IMAGES[:0]).shape == (0, 4)


def test_images_of_uint8_are_divided():
    images = RNG.integers(0, 256, (60, 2, 8, 8)).astype(np.uint8)
    data = images, LABELS
    divided = images.astype(np.float32) / np.float32(255), LABELS
    one = trained(conv_net(dtype="float32"), data=data, divide_by=255, validation=data, evaluate_every=10)
    other = trained(conv_net(dtype="float32"), data=divided, validation=divided, evaluate_every=10)
    np.testing.assert_array_equal(one.losses, other.losses)
    assert one.evaluations == other.evaluations


@pytest.mark.parametrize("layers", [CONV, [nn.Affine(3), Scale(), nn.Affine(4)]], ids=["conv", "own layer"])
def test_copies_pickles_and_files_are_the_same_network(layers, tmp_path):
    network = conv_net(layers)
    trained(network, 5)
    network.save(tmp_path / "n.safetensors")
    loaded = fastbp.load(tmp_path / "n.safetensors", own_layers={"Scale": Scale})
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), loaded):
        np.testing.assert_array_equal(other.predict(IMAGES), network.predict(IMAGES))
        assert list(other.layers) == list(network.layers)
        assert repr(other) == repr(network)
        other.parameters[...] = 0  # the layers hold views of it
        assert not other.predict(IMAGES).any() or isinstance(other.layers.get("Scale1"), Scale)
        assert network.parameters.any()


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


@pytest.mark.parametrize("first", [nn.BatchNorm(), nn.Relu(), nn.MaxPool(2), nn.Dropout(0.2), nn.Affine(3)])
@pytest.mark.parametrize("x_dtype", ["uint8", "float64", "float32", "int64", "bool"])
def test_results_have_the_networks_dtype(first, x_dtype):
    x = (IMAGES * 3).astype(x_dtype)
    for backend in BACKENDS:
        network = conv_net([first, nn.Affine(4)], dtype="float32", backend=backend)
        assert network.predict(x).dtype == np.float32
        assert {gradient.dtype.name for gradient in network.gradient(x, LABELS).values()} == {"float32"}
        losses = trained(network, 3, data=(x, LABELS)).losses
        assert np.isfinite(losses).all()


def test_networks_without_parameters_train_nothing():
    network = Sequential((4,), [nn.Flatten(), nn.Relu()], dtype="float64")
    history = trained(network, 3, data=(RNG.random((20, 4)), RNG.integers(0, 4, 20)))
    assert len(history.losses) == 3
    assert network.parameters.size == 0


def test_own_layers_are_copied_and_trained():
    own = Scale()
    network = conv_net([nn.Affine(3), own, nn.Affine(4)])
    assert set(network.params) == {"W1", "b1", "factor1", "shift1", "W2", "b2"}
    assert network.decayed == {"W1", "W2", "factor1"}
    trained(network, 7)
    assert network.statistics == [7]
    assert (network.params["factor1"] != 1.5).all()
    assert (own.factor == 1.5).all()


@pytest.mark.parametrize("engine", ["layer by layer", "compiled"])
def test_a_killed_run_goes_on_bit_for_bit(engine, tmp_path):
    """SIGKILL in the middle, and then on to the end: parameters, statistics, losses."""
    layers = "nn.Conv(3, 3), nn.BatchNorm(), nn.Relu(), nn.Dropout(0.3), nn.Affine(4)"
    if engine == "compiled":
        layers = "nn.Affine(9), nn.Relu(), nn.Dropout(0.3), nn.Affine(4)"
    program = f"""
import os, signal, sys, numpy as np, fastbp
from fastbp import nn
from fastbp.training import Callback
rng = np.random.default_rng(0)
x, t = rng.random((60, 2, 8, 8)), rng.integers(0, 4, 60)
class Kill(Callback):
    every = 17
    def on_iterations(self, run):
        if run.iteration == 17 and sys.argv[1] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
network = fastbp.Sequential((2, 8, 8), [{layers}], dtype="float64", seed=0)
history = fastbp.Trainer(network, fastbp.Adam(0.01), 10, seed=3).fit(
    x, t, iterations=40, checkpoint=sys.argv[2], checkpoint_every=5, resume=True, callbacks=[Kill()], progress=False,
    evaluate_every=10)
np.savez(sys.argv[3], losses=history.losses, parameters=network.parameters, statistics=network.statistics,
         accuracies=[one.train_accuracy for one in history.evaluations])
"""

    def run(*arguments):
        return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=False).returncode

    assert run("go", tmp_path / "whole.ckpt", tmp_path / "whole.npz") == 0
    assert run("kill", tmp_path / "killed.ckpt", tmp_path / "killed.npz") == -signal.SIGKILL
    assert run("go", tmp_path / "killed.ckpt", tmp_path / "killed.npz") == 0
    whole, killed = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "killed.npz")
    for name in whole.files:
        np.testing.assert_array_equal(killed[name], whole[name], err_msg=name)


def test_ctrl_c_ends_between_two_steps(tmp_path):
    """What is there then is what so many whole steps give."""
    network, again = conv_net(), conv_net()
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.warns(RuntimeWarning, match="interrupted after"):
        history = trained(network, 1_000_000)
    timer.join()
    assert history.interrupted
    assert 0 < len(history.losses) < 1_000_000
    trained(again, len(history.losses))
    np.testing.assert_array_equal(again.parameters, network.parameters)
    np.testing.assert_array_equal(again.statistics, network.statistics)


def test_a_loss_that_is_not_finite_brings_back_parameters_and_statistics():
    network = conv_net([nn.BatchNorm(), nn.Conv(3, 3), nn.Relu(), nn.Affine(4)])
    before = network.parameters.copy(), network.statistics.copy()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="learning_rate"):
        trained(network, 200, {"optimizer": fastbp.SGD(1e200)}, evaluate_every=None)
    np.testing.assert_array_equal(network.parameters, before[0])
    np.testing.assert_array_equal(network.statistics, before[1])


def test_early_stopping_brings_back_the_best_statistics():
    network = conv_net()
    trainer = Trainer(network, Adam(0.1), 10, seed=1)
    stopping = EarlyStopping(patience=2, monitor="train_accuracy")
    trainer.fit(IMAGES, LABELS, iterations=300, evaluate_every=3, callbacks=[stopping], progress=False)
    assert network.accuracy(IMAGES, LABELS) == stopping.best


def test_memory_is_used_again_and_results_stay_as_they_are():
    network = conv_net([nn.Conv(16, 3, pad=1), nn.Relu(), nn.MaxPool(2), nn.Affine(4)], backend="numba")
    kept, x = [], RNG.random((200, 2, 8, 8))
    with network._engine.memory:
        for _ in range(4):
            out = network.layers["Convolution1"].forward(x)
            kept.append((out, out.copy()))
            x = x + 1
    for out, copied in kept:
        np.testing.assert_array_equal(out, copied)
    del kept, out, copied
    fastbp.set_num_threads(1)  # what a worker that is late still reads is held, too, for as long as that lasts
    pool, counts = network._engine.memory, []
    try:
        with pool:
            for _ in range(30):
                network.layers["Convolution1"].forward(x)
                counts.append(sum(map(len, pool._blocks.values())))
    finally:
        fastbp.set_num_threads(None)
    assert counts[-1] == counts[9]  # by then there is enough for what is held at a time


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers must hold at least one layer"),
        ("relu", TypeError, "layers must be a list of layers"),
        ([nn.Affine(3), "relu"], TypeError, r"layers\[1\] must be a layer of fastbp.nn \(Affine, .*, Tanh\)"),
        ([nn.Relu], TypeError, r"layers\[0\] must be a layer, got the class Relu; write Relu\(...\)"),
        (
            [nn.Conv(3, 9), nn.Affine(4)],
            ValueError,
            r"layers\[0\], Conv\(3, 9\): its window \(9, 9\) is larger",
        ),
        (
            [nn.Affine(3), nn.MaxPool(2)],
            ValueError,
            r"layers\[1\], MaxPool\(2\): it needs images, .* has shape \(3,\)",
        ),
        (
            [nn.Conv(3, 3)],
            ValueError,
            r"layers\[-1\], Conv\(3, 3\), gives an array of shape \(3, 6, 6\) for each sample",
        ),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, error, message):
    with pytest.raises(error, match=message):
        conv_net(layers)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Affine(0), ValueError, "units must be at least 1, got 0"),
        (lambda: nn.Conv(3, 2.5), TypeError, "size must be an integer, got 2.5"),
        (lambda: nn.Conv(3, (1, 2, 3)), ValueError, "size must be one number or two"),
        (lambda: nn.Conv(3, 3, pad=-1), ValueError, "pad must be at least 0, got -1"),
        (lambda: nn.MaxPool(2, stride=0), ValueError, "stride must be at least 1, got 0"),
        (lambda: nn.Dropout(1), ValueError, "ratio must be at least 0 and below 1"),
        (lambda: nn.BatchNorm("high"), TypeError, "momentum must be a number"),
        (lambda: nn.Affine(3, weight_init_std="lecun"), ValueError, "weight_init_std must be one of 'he', 'xavier'"),
        (lambda: Sequential(28, [nn.Affine(3)]), TypeError, "input_shape must be a sequence"),
        (lambda: Sequential((), [nn.Affine(3)]), ValueError, "input_shape must hold at least one size"),
        (lambda: Sequential((0,), [nn.Affine(3)]), ValueError, r"input_shape\[0\] must be at least 1"),
        (lambda: fastbp.MultiLayerNet(20, 10, 4), TypeError, "hidden_size_list must be a list of widths"),
        (lambda: fastbp.MultiLayerNet(20, [10], 4, "swish"), ValueError, "activation must be one of 'relu'"),
        (lambda: fastbp.MultiLayerNet(20, [0], 4), ValueError, "units must be at least 1, got 0"),
        (lambda: fastbp.DeepConvNet((1, 2, 2)), ValueError, r"layers\[14\], MaxPool\(2\): its window"),
        (lambda: Trainer(conv_net(), dropout=0.5), ValueError, r"put nn.Dropout\(0.5\) among the layers"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 8, 8, 2), r"must have shape \(N, 2, 8, 8\), .* got \(5, 8, 8, 2\): the channels come last, x.transpose"),
        ((5, 128), r"got \(5, 128\): x.reshape\(-1, 2, 8, 8\) has it"),
        ((5, 8, 8), r"must have shape \(N, 2, 8, 8\), images as \(N, channels, height, width\), got \(5, 8, 8\)$"),
        ((2, 8, 8), r"got \(2, 8, 8\)"),
        ((), r"got \(\)"),
    ],
)
def test_images_in_another_layout_are_told_what_is_expected(shape, message):
    network = conv_net()
    for call in (network.predict, lambda x: trained(network, data=(x, LABELS[: len(x)] if np.ndim(x) else LABELS))):
        with pytest.raises(ValueError, match=message):
            call(np.zeros(shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statistics_follow_the_batches(dtype):
    """They are those of the layer used by itself."""
    network = conv_net([nn.BatchNorm(0.8), nn.Affine(4)], dtype=dtype)
    layer = BatchNormalization(np.ones(2), np.zeros(2), 0.8, np.zeros(2), np.ones(2), per_channel=True)
    for start in (0, 20, 40):
        network.gradient(IMAGES[start : start + 20], LABELS[start : start + 20])
        layer.forward(IMAGES[start : start + 20])
    expected = np.concatenate([layer.running_mean, layer.running_var])
    np.testing.assert_allclose(network.statistics, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
    assert network.statistics.dtype == dtype


@given(
    st.lists(
        st.sampled_from([nn.Conv(3, 3, pad=1), nn.Relu(), nn.MaxPool(2, stride=1), nn.BatchNorm(), nn.Dropout(0.2)])
    ),
    st.lists(st.sampled_from([nn.Affine(5), nn.Tanh(), nn.BatchNorm(), nn.Dropout(0.2), nn.Flatten()]), max_size=4),
    st.sampled_from(["float32", "float64"]),
)
@examples(25)
def test_any_row_of_layers_trains_alike_on_both_backends(images, rows, dtype):
    shape, layers = (2, 8, 8), [*images[:5], *rows, nn.Affine(4)]
    networks = [Sequential(shape, layers, dtype=dtype, backend=backend, seed=0) for backend in BACKENDS]
    losses = [trained(network, 2, {"optimizer": fastbp.SGD(0.01)}, evaluate_every=1).losses for network in networks]
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3 if dtype == "float32" else 1e-7)
    assert [layer.backend for layer in networks[0].layers.values()] == ["numpy"] * len(networks[0].layers)


def test_the_books_networks_draw_and_name_their_weights_as_it_does():
    """From NumPy's global state, in this order; checked against the book's own classes for chapters 6 to 8."""
    np.random.seed(0)
    simple, deep = fastbp.SimpleConvNet(), fastbp.DeepConvNet()
    multi = fastbp.MultiLayerNet(20, [10, 8], 4, "sigmoid", "sigmoid", 0.1, use_batchnorm=True)
    np.random.seed(0)
    shapes = [(30, 1, 5, 5), (4320, 100), (100, 10)]
    for number, shape in enumerate(shapes, 1):
        np.testing.assert_array_equal(simple.params[f"W{number}"], 0.01 * np.random.randn(*shape))
    inputs = [1 * 9, 16 * 9, 16 * 9, 32 * 9, 32 * 9, 64 * 9, 64 * 4 * 4, 50]
    for number, fan_in in enumerate(inputs, 1):
        W = deep.params[f"W{number}"]
        np.testing.assert_array_equal(W, np.sqrt(2 / fan_in) * np.random.randn(*W.shape))
    for number, (rows, columns) in enumerate([(20, 10), (10, 8), (8, 4)], 1):
        expected = np.sqrt(1 / rows) * np.random.randn(rows, columns)
        np.testing.assert_array_equal(multi.params[f"W{number}"], expected)
    assert list(multi.params)[:4] == ["W1", "b1", "gamma1", "beta1"]
    assert {network.dtype.name for network in (simple, deep, multi)} == {"float64"}
    assert multi.l2 == 0.1
    with pytest.raises(
        ValueError, match="conv_param_2 must have filter_num, filter_size, pad, stride, got none for pad"
    ):
        fastbp.DeepConvNet(conv_param_2={"filter_num": 16, "filter_size": 3, "stride": 1})


def test_the_multi_layer_net_is_that_of_the_compat_modules():
    """Weight decay and batch normalisation: the losses and gradients of fastbp.compat, which has the book's interface."""
    from fastbp.compat.multi_layer_net_extend import MultiLayerNetExtend

    settings = (12, [9, 8], 4, "relu", "relu", 0.1)
    np.random.seed(3)
    theirs = MultiLayerNetExtend(*settings, use_batchnorm=True)
    np.random.seed(3)
    ours = fastbp.MultiLayerNet(*settings, use_batchnorm=True)
    x, t = RNG.random((20, 12)), RNG.integers(0, 4, 20)
    for key, gradient in theirs.gradient(x, t).items():
        np.testing.assert_allclose(ours.gradient(x, t)[key], gradient, rtol=1e-9, atol=1e-12, err_msg=key)
    assert ours.training_loss(x, t) == pytest.approx(theirs.loss(x, t, train_flg=True), rel=1e-12)


def test_the_books_pickles_fit(tmp_path, monkeypatch):
    """The lines of docs/networks.md, with a file as the book's save_params writes it."""
    monkeypatch.chdir(tmp_path)
    saved = fastbp.DeepConvNet(seed=5)
    (tmp_path / "ch08").mkdir()
    (tmp_path / "ch08" / "deep_convnet_params.pkl").write_bytes(pickle.dumps(dict(saved.params)))
    x_test, t_test = RNG.random((30, 1, 28, 28)), RNG.integers(0, 10, 30)
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text("utf-8")
    names = {"fastbp": fastbp, "x_test": x_test, "t_test": t_test}
    exec(re.search(r"```py\n(.*?)```", page, re.DOTALL)[1], names)
    np.testing.assert_array_equal(names["network"].predict(x_test), saved.predict(x_test))


def test_own_classes_with_names_of_fastbps_are_layers_of_their_own():
    class Relu(Scale):
        pass

    layers = [nn.Affine(3), nn.Tanh(), nn.Affine(3), nn.Relu(), nn.Affine(3), Relu(), nn.Affine(3), Relu()]
    network = Sequential((4,), layers, dtype="float64", seed=0)
    assert len(network.layers) == len(layers)
    assert [type(layer).__name__ for layer in network.layers.values()][-1] == "Relu"


def test_a_network_that_nobody_refers_to_is_gone_at_once():
    networks = [conv_net(), fastbp.MLP((4, 3))]
    gone = [weakref.ref(network) for network in networks]
    del networks
    assert [reference() for reference in gone] == [None, None]


def test_subclasses_of_layers_are_not_exported_as_what_they_are_not(tmp_path):
    class Doubled(fastbp.Relu):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match="Doubled1 has no form in ONNX"):
        Sequential((4,), [nn.Affine(3), Doubled()]).to_onnx(tmp_path / "n.onnx")
