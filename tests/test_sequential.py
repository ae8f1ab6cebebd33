"""Networks of any layers: what they compute, and how they are trained by two engines."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from networks_cases import BACKENDS, CONV, IMAGES, LABELS, RNG, Scale, conv_net, trained

import fastbp
from fastbp import Adam, Sequential, Trainer, nn
from fastbp.layers import Affine, BatchNormalization, Convolution, Pooling, SoftmaxWithLoss
from fastbp.networks._engines import CompiledSteps, LayerByLayer
from fastbp.training import EarlyStopping
from fastbp.training._optimizers import OPTIMIZERS


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
        [nn.Conv(3, (2, 3), stride=2, pad=1), nn.Softplus(), nn.MaxPool((2, 1), stride=2, pad=1), nn.Affine(4)],
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
    history = trained(network, 11, evaluate_every=10)
    assert np.isfinite(history.losses).all()
    assert history.evaluations[-1].train_accuracy == network.accuracy(IMAGES, LABELS)


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
    network.gradient(IMAGES, LABELS)  # which leaves large arrays in the layers
    assert len(pickle.dumps(network)) < network.parameters.nbytes + 5000
    network.save(tmp_path / "n.safetensors")
    loaded = fastbp.load(tmp_path / "n.safetensors", own_layers={"Scale": Scale})
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network), loaded):
        np.testing.assert_array_equal(other.predict(IMAGES), network.predict(IMAGES))
        assert list(other.layers) == list(network.layers)
        assert repr(other) == repr(network)
        other.parameters[...] = 0  # the layers hold views of it
        assert not other.predict(IMAGES).any()
        assert network.parameters.any()


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


@pytest.mark.parametrize("moment", ["forward", "backward", "update"])
def test_ctrl_c_at_any_moment_leaves_whole_steps(moment):
    """In the middle of a step it is taken back; within the update, Ctrl-C waits for its end, the second one too."""

    class Interrupting(Scale):
        def forward(self, x, train_flg=False):
            self.interrupt("forward")
            return super().forward(x, train_flg)

        def backward(self, dout):
            self.interrupt("backward")
            return super().backward(dout)

        def interrupt(self, now):
            calls.append(now)
            if now == moment and calls.count(now) == 9:
                signal.raise_signal(signal.SIGINT)

    def update(*arguments):
        calls.append("update")
        if moment == "update" and calls.count("update") == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        kernels.optimizer_update(*arguments)

    calls: list[str] = []
    layers = [nn.Conv(3, 3), nn.BatchNorm(), nn.Relu(), nn.Affine(3)]
    network, again = conv_net([*layers, Interrupting(), nn.Affine(4)]), conv_net([*layers, Scale(), nn.Affine(4)])
    kernels, network._kernels = network._kernels, SimpleNamespace(optimizer_update=update)
    with pytest.warns(RuntimeWarning, match="interrupted after"):
        history = trained(network, 100, evaluate_every=None)
    assert len(history.losses) == calls.count("update")
    assert 0 < len(history.losses) < 100
    trained(again, len(history.losses), evaluate_every=None)
    np.testing.assert_array_equal(again.parameters, network.parameters)
    np.testing.assert_array_equal(again.statistics, network.statistics)
    network.gradient(IMAGES, LABELS)
    again.gradient(IMAGES, LABELS)
    np.testing.assert_array_equal(again.statistics, network.statistics)  # the layers hold the vector's views again


def test_an_error_in_a_forward_takes_back_the_statistics():
    class Failing(Scale):
        fails = False

        def forward(self, x, train_flg=False):
            if self.fails:
                raise RuntimeError("failing")
            return super().forward(x, train_flg)

    network = conv_net([nn.BatchNorm(), nn.Affine(3), Failing(), nn.Affine(4)])
    before = network.statistics.copy()
    network.layers["Failing1"].fails = True
    for call in (lambda: network.gradient(IMAGES, LABELS), lambda: trained(network)):
        with pytest.raises(RuntimeError, match="failing"):
            call()
        np.testing.assert_array_equal(network.statistics, before)
    network.layers["Failing1"].fails = False
    network.gradient(IMAGES, LABELS)
    assert np.abs(network.statistics - before).max() > 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_evaluations_count_l2_once(reduction):
    x, t = RNG.random((2500, 4)), RNG.random((2500, 3))
    network = Sequential(
        (4,), [nn.Affine(3)], dtype="float64", seed=0, loss="squared_error", reduction=reduction, l2=0.5
    )
    evaluation = trained(network, 1, data=(x, t)).evaluations[0]
    assert evaluation.train_loss == pytest.approx(network.loss(x, t), rel=1e-12)


def test_threads_may_predict_with_one_network():
    network = conv_net([nn.Conv(3, 3), nn.BatchNorm(), nn.Relu(), nn.Affine(4)])
    batches = [IMAGES[: 1 + place % 50] for place in range(200)]
    expected = [network.predict(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(expected, pool.map(network.predict, batches), strict=True):
            np.testing.assert_array_equal(one, other)


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


def test_a_network_that_nobody_refers_to_is_gone_at_once():
    networks = [conv_net(), fastbp.MLP((4, 3))]
    gone = [weakref.ref(network) for network in networks]
    del networks
    assert [reference() for reference in gone] == [None, None]
