import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import in_layout

import fastbp
from fastbp import MLP, SGD, Momentum, Trainer, TwoLayerNet

BACKENDS = ("numpy", "numba")


def data(rows=200, features=12, classes=5, dtype="float32"):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, features)) * 2
    t = rng.integers(0, classes, rows)
    return (centres[t] + rng.standard_normal((rows, features))).astype(dtype), t


def fitted(backend, dtype="float64", x_dtype="float32", trainer=(), network=(), **options):
    x, t = data(dtype=x_dtype)
    net = MLP(
        **{"sizes": (12, 9, 5), "dtype": dtype, "backend": backend, "seed": 3, "weight_init_std": "he", **dict(network)}
    )
    history = Trainer(net, **{"batch_size": 10, **dict(trainer)}).fit(
        x, t, **{"iterations": 50, "progress": False, **options}
    )
    return net, history


@pytest.mark.parametrize("backend", BACKENDS)
def test_fit_is_the_books_loop(backend):
    """Seed and batches as a script draws them from NumPy's global state; losses and weights of a plain loop."""
    x, t = data()
    np.random.seed(1)
    plain, losses = TwoLayerNet(12, 9, 5, backend="numpy"), []
    for _ in range(60):
        rows = np.random.choice(200, 10)
        gradient = plain.gradient(x[rows], t[rows])
        losses.append(plain.last_layer.loss)
        for key in plain.params:
            plain.params[key] -= 0.2 * gradient[key]
    after = np.random.randint(1 << 30)
    np.random.seed(1)
    network = TwoLayerNet(12, 9, 5, backend=backend)
    history = Trainer(network, SGD(0.2), batch_size=10, seed=None).fit(x, t, iterations=60, progress=False)
    np.testing.assert_allclose(history.losses, losses, rtol=1e-11)
    np.testing.assert_allclose(network.parameters, plain.parameters, rtol=0, atol=1e-12)
    assert np.random.randint(1 << 30) == after


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("x_dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_backends_agree(dtype, x_dtype, activation, shuffle):
    runs = [
        fitted(backend, dtype, x_dtype, {"batch_size": 33, "optimizer": SGD(0.01)}, {"activation": activation},
               iterations=None, epochs=6, shuffle=shuffle, evaluate_every=7)
        for backend in BACKENDS
    ]  # fmt: skip
    tolerance = 1e-11 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(runs[0][1].losses, runs[1][1].losses, rtol=tolerance)
    np.testing.assert_allclose(runs[0][0].parameters, runs[1][0].parameters, rtol=0, atol=tolerance)
    if dtype == "float64":
        assert runs[0][1].evaluations == runs[1][1].evaluations


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_network_learns(backend):
    network, history = fitted(backend, iterations=500, evaluate_every=499)
    x, t = data()
    assert history.losses.shape == (500,)
    assert history.losses[-50:].mean() < history.losses[0] / 5
    assert history.evaluations[-1].train_accuracy == network.accuracy(x, t) > 0.9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", [3, 60, 111])
def test_the_first_loss_that_is_not_finite_is_named(backend, row):
    """Wherever in a portion it is: all are looked at."""
    x, t = data()
    x[row] = np.nan

    def run(**options):
        network = MLP((12, 9, 5), backend=backend, seed=0)
        return Trainer(network, batch_size=1).fit(x, t, epochs=1, shuffle=True, progress=False, **options)

    with np.errstate(invalid="ignore"):
        first = int(np.argmin(np.isfinite(run(on_nonfinite="ignore").losses)))
        with pytest.raises(FloatingPointError, match=f"the loss of iteration {first} is nan: x is not finite"):
            run()


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluations_come_after_the_update_of_their_iteration(backend):
    x, t = data()
    test = data(rows=50)
    _, history = fitted(backend, iterations=21, evaluate_every=10, validation=test)
    assert [evaluation.iteration for evaluation in history.evaluations] == [0, 10, 20]
    for evaluation in history.evaluations:
        network, _ = fitted(backend, iterations=evaluation.iteration + 1, evaluate_every=None)
        assert evaluation.train_accuracy == network.accuracy(x, t)
        assert evaluation.test_accuracy == network.accuracy(*test)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_evaluations_or_validation(backend):
    assert fitted(backend, evaluate_every=None)[1].evaluations == []
    assert {evaluation.test_accuracy for evaluation in fitted(backend)[1].evaluations} == {None}


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_hot_and_index_labels_train_alike(backend):
    x, t = data()
    parameters = []
    for labels in (t, np.eye(5)[t], t[:, np.newaxis].astype(np.uint8)):
        network = MLP((12, 5), backend=backend, seed=0)
        Trainer(network, batch_size=10).fit(x, labels, iterations=5, progress=False)
        parameters.append(network.parameters)
    np.testing.assert_array_equal(parameters[0], parameters[1])
    np.testing.assert_array_equal(parameters[0], parameters[2])


def test_epochs_with_replacement_and_shuffled():
    assert len(fitted("numba", trainer={"batch_size": 30}, iterations=None, epochs=2)[1].losses) == 2 * 6
    assert len(fitted("numba", trainer={"batch_size": 30}, iterations=None, epochs=2, shuffle=True)[1].losses) == 2 * 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shuffled_epoch_visits_every_sample_once(backend):
    """With a rate so small that the weights stay, the mean over the epoch is the loss of all the data."""
    x, t = data()
    network, history = fitted(
        backend, trainer={"batch_size": 30, "optimizer": SGD(1e-12)}, iterations=None, epochs=1, shuffle=True
    )
    sizes = np.array([30] * 6 + [20])
    assert np.sum(history.losses * sizes) / 200 == pytest.approx(network.loss(x, t), rel=1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    one, same, other = (fitted("numba", trainer={"seed": seed})[0].parameters for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_training_goes_on_where_it_stopped():
    x, t = data()
    whole, halves = (MLP((12, 5), backend="numba", seed=0) for _ in range(2))
    Trainer(whole, batch_size=10).fit(x, t, iterations=40, progress=False)
    trainer = Trainer(halves, batch_size=10)
    for _ in range(2):
        trainer.fit(x, t, iterations=20, progress=False)
    np.testing.assert_array_equal(whole.parameters, halves.parameters)


@pytest.mark.parametrize("layout", ["F", "strided", "read-only"])
def test_data_in_other_layouts(layout):
    x, t = data()
    parameters = []
    for images in (x, in_layout(x, layout)):
        network = MLP((12, 5), backend="numba", seed=0)
        Trainer(network, batch_size=10).fit(images, t, iterations=5, progress=False)
        parameters.append(network.parameters)
    np.testing.assert_array_equal(*parameters)


BAD = [
    ({}, {"iterations": None}, ValueError, "give iterations or epochs, one of them"),
    ({}, {"epochs": 3}, ValueError, "give iterations or epochs, one of them"),
    ({}, {"iterations": 0}, ValueError, "iterations must be at least 1, got 0"),
    ({}, {"iterations": 1.5}, TypeError, "iterations must be an integer, got 1.5"),
    ({}, {"evaluate_every": 0}, ValueError, "evaluate_every must be at least 1"),
    ({"batch_size": 0}, {}, ValueError, "batch_size must be at least 1, got 0"),
    ({"batch_size": 201}, {}, ValueError, "batch_size must be at most the number of samples, 200, got 201"),
    (
        {"optimizer": "sgd"},
        {},
        TypeError,
        r"optimizer must be a fastbp optimizer \(SGD, Momentum, Adam, ...\), got str",
    ),
    ({}, {"validation": np.ones(3)}, TypeError, r"validation must be a pair \(x, t\), got ndarray"),
    ({}, {"validation": (np.ones((3, 4)), [0, 1, 2])}, ValueError, "validation x must have 12 features"),
]


@pytest.mark.parametrize(("trainer", "fit", "error", "message"), BAD)
def test_bad_arguments_are_refused(trainer, fit, error, message):
    with pytest.raises(error, match=message):
        fitted("numba", trainer=trainer, **fit)


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (np.ones((4, 11)), [0] * 4, ValueError, "x must have 12 features in each row, got 11"),
        (np.ones((0, 12)), np.zeros(0, int), ValueError, "x must have at least one row, got none"),
        (np.ones((4, 12)), [0, 1, 2, 5], ValueError, "t must hold class indices from 0 to 4, got 5"),
        (np.ones((4, 12)), [0, 1, 2, -1], ValueError, "got -1"),
        (np.ones((4, 12)), [0.0, 1, 2, 3], TypeError, "t must hold integers"),
        (np.ones((4, 12)), np.eye(6)[:4], ValueError, r"one-hot rows, shape \(4, 5\); got shape \(4, 6\)"),
        (np.ones((4, 12)), np.full((4, 5), 0.2), ValueError, "t must be one-hot, a single 1 in each row; row 0 is not"),
        (np.full((4, 12), None), [0] * 4, TypeError, "x must be an array of real numbers"),
    ],
)
def test_bad_data_is_refused_before_anything_changes(x, t, error, message):
    network = MLP((12, 5), seed=0)
    before = network.parameters.copy()
    with pytest.raises(error, match=message):
        Trainer(network, batch_size=2).fit(x, t, iterations=1, progress=False)
    np.testing.assert_array_equal(network.parameters, before)


def test_a_network_whose_parameters_were_replaced_is_refused():
    network = MLP((12, 5))
    network.params["W1"] = np.ones((12, 5))
    with pytest.raises(ValueError, match=r"network.params\['W1'\] was replaced"):
        Trainer(network, batch_size=2).fit(*data(), iterations=1)


def test_only_networks_are_trained():
    with pytest.raises(TypeError, match="network must be a fastbp network"):
        Trainer(fastbp.Relu())


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_stops_promptly_and_keeps_the_history(backend):
    x, t = data()
    network = MLP((12, 9, 5), backend=backend, seed=0)
    trainer = Trainer(network, batch_size=10)
    trainer.fit(x, t, iterations=1, progress=False)
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.warns(RuntimeWarning, match="Training was interrupted after"):
        history = trainer.fit(x, t, iterations=100_000_000, evaluate_every=None, progress=False)
    assert time.perf_counter() - sent[0] < 10  # half a second on an idle machine, and hours if nothing listened
    assert history.interrupted
    assert trainer.history is history
    assert 0 < len(history.losses) < 100_000_000
    assert np.isfinite(history.losses).all()
    again = MLP((12, 9, 5), backend=backend, seed=0)
    trainer = Trainer(again, batch_size=10)
    trainer.fit(x, t, iterations=1, progress=False)
    trainer.fit(x, t, iterations=len(history.losses), evaluate_every=None, progress=False)
    if backend == "numba":  # whole calls: exactly as many updates as losses
        np.testing.assert_array_equal(again.parameters, network.parameters)


def test_training_shows_a_bar_only_when_asked(capsys):
    fitted("numba", progress=True)
    assert "50/50" in capsys.readouterr().err
    fitted("numba", progress=False)
    assert capsys.readouterr() == ("", "")


def test_training_works_without_the_cli_extra():
    code = (
        "import sys; sys.modules['rich'] = None; import importlib.util as u; f = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'rich' else f(name, *rest);"
        "import numpy as np, fastbp; net = fastbp.MLP((4, 3), backend='numpy');"
        "fastbp.Trainer(net, batch_size=2).fit(np.ones((5, 4)), [0, 1, 2, 0, 1], iterations=3)"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_may_stay_bytes(backend):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4), dtype=np.uint8)
    parameters = []
    for x, options in ((images, {"divide_by": 255}), (images.astype(np.float32) / np.float32(255), {})):
        network = MLP((12, 6, 5), seed=0, backend=backend)
        validation = x[:5], np.arange(5)
        Trainer(network, batch_size=7).fit(
            x, np.arange(50) % 5, iterations=20, validation=validation, progress=False, **options
        )
        parameters.append(network.parameters)
    np.testing.assert_array_equal(*parameters)


@pytest.mark.parametrize(
    ("x", "divide_by", "error", "message"),
    [
        (np.zeros((9, 12)), 255, TypeError, "divide_by is for x of dtype uint8; got dtype float64"),
        (np.zeros((9, 12), np.uint8), 0, ValueError, "divide_by must be above 0, got 0"),
        (np.zeros((9, 12), np.uint8), "255", TypeError, "divide_by must be a number, got '255'"),
        (np.zeros((9, 12), np.uint8), np.nan, ValueError, "divide_by must be a finite number"),
    ],
)
def test_bad_divisors_are_refused(x, divide_by, error, message):
    network = MLP((12, 6, 5), seed=0)
    with pytest.raises(error, match=message):
        Trainer(network, batch_size=7).fit(x, [0] * 9, iterations=1, divide_by=divide_by, progress=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_not_finite_stops_the_training(backend):
    x, t = data()
    network = MLP((12, 9, 5), dtype="float64", backend=backend, seed=0)
    trainer = Trainer(network, Momentum(0.01), batch_size=10)
    trainer.fit(x, t, iterations=20, progress=False)
    good, memory, trainer.optimizer.learning_rate = network.parameters.copy(), trainer.optimizer.rule, 1e200
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="the loss of iteration [1-4] is ") as caught,
    ):
        trainer.fit(x, t, iterations=50, progress=False, evaluate_every=None)
    assert "learning_rate=1e+200 is probably too large" in str(caught.value)
    np.testing.assert_array_equal(network.parameters, good)
    assert trainer.optimizer.steps == memory.steps == 20
    assert not np.isfinite(trainer.history.losses[-1])
    assert np.isfinite(trainer.history.losses[:-1]).all()
    with np.errstate(all="ignore"):
        history = trainer.fit(x, t, iterations=50, progress=False, on_nonfinite="ignore")
    assert len(history.losses) == 50
    assert not np.isfinite(network.parameters).all()


def test_x_that_is_not_finite_is_named():
    x, t = data()
    x[7, 3] = np.nan
    with pytest.raises(FloatingPointError, match="is nan: x is not finite"):
        Trainer(MLP((12, 9, 5), seed=0), batch_size=50).fit(x, t, iterations=50, progress=False)
