"""Callbacks: when they are called, stopping early, schedules, logs, plots, and going on from a checkpoint with them."""

import csv
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from test_training import data

from fastbp import MLP, SGD, Trainer
from fastbp.training._callbacks import (
    Callback,
    CSVLog,
    EarlyStopping,
    JSONLinesLog,
    LearningRate,
    LivePlot,
    cosine_decay,
    inverse_scaling,
    step_decay,
)

BACKENDS = ("numpy", "numba")


def trained(*callbacks, backend="numba", seed=3, optimizer=None, rows=50, **options):
    network = MLP((12, 9, 5), dtype="float64", backend=backend, seed=seed, weight_init_std="he")
    trainer = Trainer(network, optimizer or SGD(0.1), batch_size=10)
    options = {"iterations": 60, "progress": False, "validation": data(rows=rows), "evaluate_every": 7, **options}
    return network, trainer.fit(*data(), callbacks=callbacks, **options)


class Witness(Callback):
    every = 25

    def __init__(self, at=None):
        self.seen, self.at = [], at

    def on_start(self, run):
        self.seen.append(("start", run.iteration))

    def on_iterations(self, run):
        self.seen.append(("iterations", run.iteration))
        assert len(run.losses) == run.iteration
        assert np.isfinite(run.losses).all()
        if run.iteration == self.at:
            run.stop("seen enough")

    def on_evaluation(self, run, evaluation):
        assert run.history.evaluations[-1] is evaluation
        self.seen.append(("evaluation", evaluation.iteration))

    def on_end(self, run):
        self.seen.append(("end", run.iteration))


@pytest.mark.parametrize("backend", BACKENDS)
def test_when_they_are_called(backend):
    witness = Witness()
    trained(witness, backend=backend, evaluate_every=30)
    assert witness.seen == [
        ("start", 0),
        ("evaluation", 0),
        ("iterations", 25),
        ("evaluation", 30),
        ("iterations", 50),
        ("iterations", 60),
        ("end", 60),
    ]


def test_stopping_keeps_what_was_done():
    network, history = trained(Witness(at=25), evaluate_every=None)
    assert history.stopped == "seen enough"
    assert not history.interrupted
    expected, whole = trained(iterations=25, evaluate_every=None)
    np.testing.assert_array_equal(history.losses, whole.losses)
    np.testing.assert_array_equal(network.parameters, expected.parameters)
    assert whole.stopped is None


def test_they_do_not_change_the_run():
    plain, alone = trained()
    called, watched = trained(Witness(), EarlyStopping(patience=1000, restore_best=False))
    np.testing.assert_array_equal(plain.parameters, called.parameters)
    np.testing.assert_array_equal(alone.losses, watched.losses)


def test_the_end_comes_after_errors_too():
    class Broken(Callback):
        every = 10

        def on_iterations(self, run):
            raise RuntimeError("broken")

    witness = Witness()
    with pytest.raises(RuntimeError, match="broken"):
        trained(witness, Broken(), evaluate_every=None)
    assert witness.seen == [("start", 0), ("end", 10)]


def test_early_stopping_waits_and_puts_the_best_back():
    class Script(EarlyStopping):
        """Sees the accuracies of a list instead of the real ones."""

        def on_evaluation(self, run, evaluation):
            number = len(run.history.evaluations) - 1
            kept.append(run.network.parameters.copy())
            super().on_evaluation(run, SimpleNamespace(test_accuracy=accuracies[number]))

    accuracies, kept = [0.2, 0.5, 0.52, 0.515, 0.51, 0.9], []
    network, history = trained(Script(patience=2, min_delta=0.01))
    assert len(history.evaluations) == 5
    assert history.stopped == "test_accuracy has not improved on 0.5200 for 2 evaluations"
    np.testing.assert_array_equal(network.parameters, kept[2])
    kept.clear()
    kept.clear()
    accuracies[:] = [0.25, 0.5, 0.5, 0.5, 0.9]  # as good as the best is not better, whatever min_delta is
    assert len(trained(Script(patience=2))[1].evaluations) == 4
    kept.clear()
    accuracies[:] = [0.2, 0.5, 0.52, 0.515, 0.51, 0.9]
    network, history = trained(Script(patience=2, min_delta=0.03, restore_best=False))
    assert len(history.evaluations) == 4
    np.testing.assert_array_equal(network.parameters, kept[3])


def test_early_stopping_on_losses_goes_down():
    x = np.linspace(-1, 1, 40).reshape(-1, 1)
    network = MLP((1, 4, 1), loss="squared_error", seed=0)
    history = Trainer(network, SGD(1e-9), batch_size=10).fit(
        x, x, iterations=1000, evaluate_every=1, callbacks=[EarlyStopping(3, "train_loss", 1e-3)], progress=False
    )
    assert len(history.evaluations) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": None}, "validation=\\(x, t\\)"),
        ({"evaluate_every": None}, "it needs evaluate_every"),
    ],
)
def test_early_stopping_without_its_measure(options, message):
    with pytest.raises(ValueError, match=message):
        trained(EarlyStopping(), **options)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="patience must be"):
        EarlyStopping(0)
    with pytest.raises(ValueError, match="monitor must be one of"):
        EarlyStopping(monitor="loss")
    with pytest.raises(TypeError, match="factor must be a function"):
        LearningRate(0.5)
    with pytest.raises(TypeError, match="callbacks must be instances of"):
        trained(print)
    with pytest.raises(ValueError, match="the learning rate of iteration 20"):
        trained(LearningRate(lambda iteration: 1 - iteration / 15, every=10))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_schedule_is_runs_with_other_rates_one_after_the_other(backend):
    optimizer = SGD(0.2)
    network, history = trained(
        LearningRate(step_decay(20, 0.5), every=5), optimizer=optimizer, backend=backend, evaluate_every=None
    )
    assert optimizer.learning_rate == 0.2
    expected = MLP((12, 9, 5), dtype="float64", backend=backend, seed=3, weight_init_std="he")
    trainer, losses = Trainer(expected, SGD(0.2), batch_size=10), []
    for rate in (0.2, 0.1, 0.05):
        trainer.optimizer.learning_rate = rate
        losses.append(trainer.fit(*data(), iterations=20, evaluate_every=None, progress=False).losses)
    np.testing.assert_array_equal(history.losses, np.concatenate(losses))
    np.testing.assert_array_equal(network.parameters, expected.parameters)


def test_schedules():
    decay = cosine_decay(100, warmup=10)
    assert [decay(i) for i in (0, 9, 10, 55, 100, 1000)] == pytest.approx([0.1, 1, 1, 0.5, 0, 0])
    assert [step_decay(10, 0.5)(i) for i in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    assert [inverse_scaling(0.5)(i) for i in (0, 3, 99)] == [1, 0.5, 0.1]


def test_logs(tmp_path):
    table, lines = tmp_path / "run.csv", tmp_path / "run.jsonl"
    _, history = trained(CSVLog(table), JSONLinesLog(lines), LearningRate(step_decay(30), every=1), evaluate_every=20)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    objects = [json.loads(line) for line in lines.read_text().splitlines()]
    for row, entry, evaluation, done in zip(rows, objects, history.evaluations, (1, 21, 41), strict=True):
        assert int(row["iteration"]) == entry["iteration"] == evaluation.iteration == done - 1
        assert float(row["test_accuracy"]) == entry["test_accuracy"] == evaluation.test_accuracy
        assert row["test_loss"] == ""
        assert entry["test_loss"] is None
        assert entry["loss"] == pytest.approx(history.losses[max(0, done - 20) : done].mean())
        assert entry["learning_rate"] == pytest.approx(0.1 if done < 30 else 0.01)


class Stopped(Exception):
    pass


class Killed(Callback):
    """Ends a run as a kill would, as far as what is on the disk goes."""

    def __init__(self, at):
        self.every = at

    def on_iterations(self, run):
        raise Stopped


@pytest.mark.parametrize("at", [12, 23, 31, 55])
def test_a_run_goes_on_with_its_callbacks(tmp_path, at):
    """Early stopping with its best parameters, a schedule and logs: as if the run had never ended in between."""

    def callbacks(folder):
        folder.mkdir(exist_ok=True)
        return (
            EarlyStopping(patience=3, min_delta=0.02),
            LearningRate(cosine_decay(60), every=3),
            CSVLog(folder / "run.csv"),
            JSONLinesLog(folder / "run.jsonl"),
        )

    expected, whole = trained(*callbacks(tmp_path / "whole"))
    options = {"checkpoint": tmp_path / "run.ckpt", "checkpoint_every": 10}
    with pytest.raises(Stopped):
        trained(*callbacks(tmp_path / "parts"), Killed(at), **options)
    with open(tmp_path / "parts" / "run.csv", "a") as file:
        file.write("35,0.1")  # half a line
    network, history = trained(*callbacks(tmp_path / "parts"), resume=True, **options)
    np.testing.assert_array_equal(network.parameters, expected.parameters)
    np.testing.assert_array_equal(history.losses, whole.losses)
    assert history.evaluations == whole.evaluations
    assert history.stopped == whole.stopped
    logs = [
        [row[:-1] for row in csv.reader((tmp_path / name / "run.csv").read_text().splitlines())]
        for name in ("whole", "parts")
    ]
    assert [row[0] for row in logs[0]] == [row[0] for row in logs[1]]
    entries = [
        [json.loads(line)["iteration"] for line in (tmp_path / name / "run.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert entries[0] == entries[1]
    again, _ = trained(*callbacks(tmp_path / "parts"), resume=True, **options)
    np.testing.assert_array_equal(again.parameters, expected.parameters)


def test_live_plot_draws_at_each_evaluation(monkeypatch):
    shown = []

    def display(figure, display_id):
        shown.append(figure)
        return SimpleNamespace(update=shown.append)

    module = ModuleType("IPython.display")
    module.display = display
    ipython = ModuleType("IPython")
    ipython.version_info = (9, 0)  # matplotlib looks at it
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    _, history = trained(LivePlot())
    assert len(shown) == 1 + len(history.evaluations)
    left, right = shown[-1].axes
    assert len(left.lines[0].get_xdata()) == 57  # the evaluation at iteration 56 is the last
    assert [line.get_label() for line in right.lines] == ["test_accuracy", "train_accuracy"]
    assert list(right.lines[0].get_ydata()) == [one.test_accuracy for one in history.evaluations]


@pytest.mark.parametrize("backend", BACKENDS)
def test_l2_dropout_and_weights_of_the_trainer(backend):
    """Against gradient descent by hand on the network's own layers, dropout left out; and it repeats itself."""
    x, t = data(dtype="float64")
    weights = np.where(t == 2, 3.0, 1.0)
    network = MLP((12, 9, 5), dtype="float64", backend=backend, seed=3, weight_init_std="he")
    plain = MLP((12, 9, 5), dtype="float64", backend="numpy", seed=3, weight_init_std="he")
    history = Trainer(network, SGD(0.1), batch_size=10, l2=0.01).fit(
        x, t, iterations=20, sample_weight=weights, progress=False
    )
    random = np.random.RandomState(0)
    for step in range(20):
        rows = random.choice(len(x), 10)
        singles = [(plain.loss(x[i : i + 1], t[i : i + 1]), plain.gradient(x[i : i + 1], t[i : i + 1])) for i in rows]
        share = weights[rows] / weights[rows].sum()
        squares = sum(np.sum(plain.params[key] ** 2) for key in ("W1", "W2"))
        expected = sum(w * loss for w, (loss, _) in zip(share, singles, strict=True)) + 0.005 * squares
        assert history.losses[step] == pytest.approx(expected, rel=1e-10)
        for key, value in plain.params.items():
            slope = sum(w * gradient[key] for w, (_, gradient) in zip(share, singles, strict=True))
            value -= 0.1 * (slope + 0.01 * value * (key[0] == "W"))
    np.testing.assert_allclose(network.parameters, plain.parameters, rtol=0, atol=1e-12)


def test_dropout_is_the_same_on_both_backends_and_repeats():
    runs = []
    for backend, seed in (("numpy", 0), ("numba", 0), ("numba", 0), ("numba", 1)):
        network = MLP((12, 9, 5), dtype="float64", backend=backend, seed=3, weight_init_std="he")
        trainer = Trainer(network, SGD(0.1), batch_size=10, dropout=0.3, seed=seed)
        runs.append(trainer.fit(*data(), iterations=30, progress=False).losses)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-10)
    np.testing.assert_array_equal(runs[1], runs[2])
    assert (runs[2] != runs[3]).any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"shape \(200,\), got shape \(3,\)"),
        (np.full(200, -1.0), "finite and not negative"),
        (np.full(200, np.nan), "finite and not negative"),
        (np.zeros(200), "some of it above 0"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        trained(sample_weight=weights)
