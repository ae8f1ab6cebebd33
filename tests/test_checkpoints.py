"""A run that was stopped, at any moment and in any way, goes on and ends bit for bit as one that never stopped."""

import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import LONG

from fastbp import MLP, Adam, Momentum, SavedFileError, Trainer
from fastbp.training._run import Run

BACKENDS = ("numpy", "numba")


class Stopped(Exception):
    pass


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((90, 6)).astype(np.float32), rng.integers(0, 3, 90)


def fit(backend="numba", seed=3, optimizer=Adam, **options):
    x, t = data()
    network = MLP((6, 5, 3), "tanh", "xavier", "float64", backend, seed=0)
    trainer = Trainer(network, optimizer(0.01), batch_size=20, seed=seed)
    options = {"iterations": 100, "evaluate_every": 30, "validation": (x[:9], t[:9]), "progress": False, **options}
    return trainer, trainer.fit(x, t, **options)


def assert_the_same(one, other):
    (first, history), (second, other_history) = one, other
    np.testing.assert_array_equal(first.network.parameters, second.network.parameters)
    np.testing.assert_array_equal(history.losses, other_history.losses)
    assert history.evaluations == other_history.evaluations
    assert first.optimizer.steps == second.optimizer.steps
    np.testing.assert_array_equal(
        *(trainer.optimizer.memory_of(trainer.network.parameters) for trainer in (first, second))
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("stop", [1, 7, 35, 70, 99])
def test_a_run_that_died_goes_on(backend, shuffle, stop, tmp_path, monkeypatch):
    whole = fit(backend, shuffle=shuffle)
    calls = []

    def dies(self, batches):
        calls.append(len(batches))
        if sum(calls) > stop:
            raise Stopped
        return steps(self, batches)

    steps = Run._steps
    options = {"backend": backend, "shuffle": shuffle, "checkpoint": tmp_path / "run.ckpt", "checkpoint_every": 7}
    with monkeypatch.context() as context:
        context.setattr("fastbp.training._run.Run._steps", dies)
        with pytest.raises(Stopped):
            fit(**options)
    resumed = fit(**options, resume=True)
    assert_the_same(whole, resumed)
    assert resumed[0]._random.randint(1 << 30) == whole[0]._random.randint(1 << 30)
    assert_the_same(whole, fit(**options, resume=True))  # once more: there is nothing left to do


def test_batches_from_numpys_global_state_go_on_too(tmp_path):
    np.random.seed(5)
    whole, after = fit(seed=None), np.random.randint(1 << 30)
    np.random.seed(5)
    fit(seed=None, checkpoint=tmp_path / "run.ckpt", checkpoint_every=40)
    np.random.seed(99)
    assert_the_same(whole, fit(seed=None, checkpoint=tmp_path / "run.ckpt", resume=True))
    assert np.random.randint(1 << 30) == after


CODE = """
import sys, numpy as np
from fastbp import MLP, Adam, Trainer
rng = np.random.default_rng(0)
x, t = rng.standard_normal((500, 64)), rng.integers(0, 10, 500)
network = MLP((64, 64, 10), "tanh", "xavier", "float64", seed=0)
print("started", flush=True)
history = Trainer(network, Adam(1e-4), batch_size=50, seed=1).fit(
    x, t, iterations=30000, evaluate_every=3000, checkpoint=sys.argv[1], checkpoint_every=200, resume=True, progress=False)
np.savez(sys.argv[2], network.parameters, history.losses, [e.train_accuracy for e in history.evaluations])
"""


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    """At random moments, also while it writes a checkpoint; a long run (conftest.py) kills it 100 times."""

    def run(name, seconds=None):
        """Whether the process came to its end, or was killed so many seconds after it had started."""
        command = [sys.executable, "-c", CODE, str(tmp_path / f"{name}.ckpt"), str(tmp_path / f"{name}.npz")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            if seconds is None:
                return process.wait(timeout=300) == 0
            time.sleep(seconds)
            process.kill()
        return process.returncode == 0

    def assert_the_same_end():
        with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "killed.npz") as killed:
            for name in whole.files:
                np.testing.assert_array_equal(whole[name], killed[name])

    assert run("whole")
    rng, kills = np.random.default_rng(), 0
    while kills < LONG * 4:
        if run("killed", rng.uniform(0.05, 1)):
            assert_the_same_end()
            (tmp_path / "killed.ckpt").unlink()
        else:
            kills += 1
    assert run("killed")
    assert_the_same_end()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 120}, "is of a run with iterations=100, this one has iterations=120"),
        ({"seed": 4}, "is of a run with seed=3, this one has seed=4"),
        ({"optimizer": Momentum}, "is of a run with optimizer='adam', this one has optimizer='momentum'"),
        ({"validation": None}, "is of a run with test_digest="),
    ],
)
def test_another_run_is_not_gone_on_with(changes, message, tmp_path):
    fit(checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(SavedFileError, match=message):
        fit(**changes, checkpoint=tmp_path / "run.ckpt", resume=True)


def test_damaged_checkpoints_and_missing_arguments(tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SavedFileError, match="is not a complete safetensors file"):
        fit(checkpoint=path, resume=True)
    MLP((6, 3), seed=0).save(path)
    with pytest.raises(SavedFileError, match="it names fastbp network 1, expected 'fastbp checkpoint 3'"):
        fit(checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="resume needs checkpoint"):
        fit(resume=True)
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1"):
        fit(checkpoint=path, checkpoint_every=0)


def test_ctrl_c_before_an_evaluation_does_not_lose_it(tmp_path, monkeypatch):
    whole = fit()

    def interrupted(self, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("fastbp.training._run.Run._accuracy", interrupted)
        with pytest.warns(RuntimeWarning, match="interrupted after 1 of 100"):
            fit(checkpoint=tmp_path / "run.ckpt")
    assert_the_same(whole, fit(checkpoint=tmp_path / "run.ckpt", resume=True))


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    whole = fit()
    steps, calls = Run._steps, []

    def interrupted(self, batches):
        calls.append(len(batches))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return steps(self, batches)

    with monkeypatch.context() as context:
        context.setattr("fastbp.training._run.Run._steps", interrupted)
        with pytest.warns(RuntimeWarning, match="interrupted"):
            _, history = fit(checkpoint=tmp_path / "run.ckpt")
    assert 0 < len(history.losses) < 100
    assert_the_same(whole, fit(checkpoint=tmp_path / "run.ckpt", resume=True))
