"""Several processes training together, started by mpiexec: the numbers of one, and what happens when one of them fails."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastbp import load
from fastbp.training._distributed import world

MPIEXEC = (
    shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])) or "mpiexec"
)
TRAIN = """
import json, os, sys, traceback
sys.excepthook = lambda *error: os.write(2, "".join(traceback.format_exception(*error)).encode())  # not line by line
import numpy as np
from mpi4py import MPI
import fastbp
from fastbp.training._callbacks import Callback, CSVLog, EarlyStopping

world = MPI.COMM_WORLD
rank, processes = world.Get_rank(), world.Get_size()
options = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
x, t = rng.random((90, 12)) * (rng.random((90, 12)) < 0.5), rng.integers(0, 3, 90)
loss = options.get("loss", "cross_entropy")
if loss != "cross_entropy":
    t = rng.random((90, 3))
weights = rng.random(90)

def share(rows):  # not the same number for all
    ends = [0, *(len(rows) * (2 * i + 1) // (2 * processes) for i in range(1, processes)), len(rows)]
    return rows[ends[rank]:ends[rank + 1]]

class Step(Callback):
    every = 1
    def on_iterations(self, run):
        if run.iteration == options.get("fail_at") and rank == processes - 1:
            if options["how"] == "raise":
                raise RuntimeError("out of luck")
            os.kill(os.getpid(), 9 if options["how"] == "kill" else 2)
        if options.get("slow"):
            import time; time.sleep(options["slow"])
            if rank == 0 and run.iteration == 5: print("running", flush=True)

network = fastbp.MLP((12, 8, 3), dtype="float64", seed=rank, weight_init_std="he", backend=options.get("backend"), loss=loss)
if "layers" in options:
    from fastbp import nn
    x = x.reshape(90, 3, 2, 2)
    network = fastbp.Sequential((3, 2, 2), eval(options["layers"]), dtype="float64", seed=rank, l2=0.02)
trainer = fastbp.Trainer(
    network, getattr(fastbp, options.get("optimizer", "SGD"))(0.1), batch_size=options.get("batch", 20), communicator=world,
    l2=options.get("l2", 0), dropout=options.get("dropout", 0),
)
xs, ts = share(x), share(t)
if rank == processes - 1 and options.get("wrong"):
    xs = xs[:, :5]
history = trainer.fit(
    xs, ts, iterations=options.get("iterations", 60), validation=(share(x[:40]), share(t[:40])), evaluate_every=7,
    shuffle=options.get("shuffle", False), sample_weight=share(weights) if options.get("weighted") else None,
    callbacks=[Step(), EarlyStopping(patience=options.get("patience", 1000)), CSVLog(sys.argv[2] + ".csv")],
    checkpoint=options.get("checkpoint"), checkpoint_every=10, resume=options.get("resume", False), progress=False,
)
everyone = world.gather((network.parameters, network.statistics, trainer.optimizer.steps))
if rank == 0:
    for one in everyone:
        assert (one[0] == everyone[0][0]).all() and (one[1] == everyone[0][1]).all() and one[2] == everyone[0][2]
    evaluations = [[e.iteration, e.train_accuracy, e.test_accuracy, e.train_loss, e.test_loss] for e in history.evaluations]
    found = {"losses": list(history.losses), "parameters": list(network.parameters),
             "statistics": list(network.statistics), "evaluations": evaluations,
             "stopped": history.stopped, "interrupted": history.interrupted}
    open(sys.argv[2], "w").write(json.dumps(found))
"""


def started(processes, folder, name, **options):
    command = [MPIEXEC, "-n", str(processes), sys.executable, "-W", "error", "-c", TRAIN, json.dumps(options), name]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PMI")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def trained(processes, folder, **options):
    name = f"{processes}.json"
    process = started(processes, folder, name, **options)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "Adam", "l2": 0.01, "dropout": 0.3, "weighted": True, "shuffle": True},
        {"loss": "huber", "optimizer": "Momentum", "batch": 1, "backend": "numpy"},
        {"patience": 2},
        {"layers": "[nn.Conv(4, 2, pad=1), nn.Relu(), nn.Dropout(0.2), nn.MaxPool(2), nn.Affine(3)]", "weighted": True},
        {"layers": "[nn.Conv(4, 2, pad=1), nn.Tanh(), nn.AveragePool(2), nn.Affine(3)]", "optimizer": "Adam"},
    ],
)
def test_several_give_what_one_gives(tmp_path, options):
    one = trained(1, tmp_path, **options)
    for processes in (2, 3):
        several = trained(processes, tmp_path, **options)
        np.testing.assert_allclose(several["losses"], one["losses"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(several["parameters"], one["parameters"], rtol=0, atol=1e-12)
        assert several["stopped"] == one["stopped"]
        for mine, expected in zip(several["evaluations"], one["evaluations"], strict=True):
            assert mine == pytest.approx(expected, abs=1e-12)
        rows = [(tmp_path / f"{n}.json.csv").read_text().splitlines() for n in (1, processes)]
        assert len(rows[0]) == len(rows[1]) == 1 + len(one["evaluations"])


def test_running_statistics_are_the_mean_of_all_processes(tmp_path):
    """Each normalises its own rows of a batch, here all rows that it has: 67 and 23."""
    options = {"layers": "[nn.BatchNorm(), nn.Affine(3)]", "batch": 90, "shuffle": True, "iterations": 1}
    found = np.array(trained(2, tmp_path, **options)["statistics"]).reshape(2, 3)
    rng = np.random.default_rng(0)
    x = (rng.random((90, 12)) * (rng.random((90, 12)) < 0.5)).reshape(90, 3, 4)
    shards = x[:67], x[67:]
    np.testing.assert_allclose(found[0], 0.1 * np.mean([shard.mean(axis=(0, 2)) for shard in shards], axis=0))
    expected = 0.1 * np.mean([shard.var(axis=(0, 2)) for shard in shards], axis=0) + 0.9
    np.testing.assert_allclose(found[1], expected)


@pytest.mark.parametrize("how", ["kill", "raise"])
@pytest.mark.slow
def test_a_process_that_dies_ends_all_and_leaves_a_checkpoint(tmp_path, how):
    whole = trained(2, tmp_path, optimizer="Adam")
    options = {"optimizer": "Adam", "checkpoint": "run.ckpt"}
    process = started(2, tmp_path, "dead.json", fail_at=33, how=how, **options)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == "raise":
        assert "RuntimeError: out of luck" in errors
        assert "process 1 failed; all end. The last checkpoint stays." in errors
    else:
        assert "BAD TERMINATION" in output + errors
    resumed = trained(2, tmp_path, resume=True, **options)
    assert resumed["losses"] == whole["losses"]
    assert resumed["parameters"] == whole["parameters"]


@pytest.mark.slow
def test_an_interrupt_of_one_stops_all_after_the_same_step(tmp_path):
    process = started(2, tmp_path, "2.json", fail_at=23, how="interrupt", checkpoint="run.ckpt")
    _, errors = process.communicate(timeout=60)
    found = json.loads((tmp_path / "2.json").read_text()) if (tmp_path / "2.json").exists() else None
    assert "RuntimeWarning: Training was interrupted after 24 of 60" in errors
    assert found is None  # -W error: the warning ended it
    whole = trained(2, tmp_path)
    resumed = trained(2, tmp_path, checkpoint="run.ckpt", resume=True)
    assert resumed["losses"] == whole["losses"]


def test_ctrl_c_at_mpiexec(tmp_path):
    process = started(2, tmp_path, "2.json", slow=0.05, iterations=2000)
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - start < 20
    assert process.returncode != 0


def test_wrong_data_in_one_is_an_error_in_all(tmp_path):
    process = started(2, tmp_path, "2.json", wrong=True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "ValueError: process 1 failed: x must" in errors
    assert "ValueError: x must" in errors


def test_the_command_line(tmp_path):
    options = ["--iterations", "120", "--hidden", "8", "--evaluate-every", "50", "--dtype", "float64"]
    for processes in (1, 2):
        command = [MPIEXEC, "-n", str(processes), sys.executable, "-m", "fastbp", "train", *options]
        command += ["--save", f"{processes}.safetensors", "--json", f"{processes}.json", "--checkpoint", "run.ckpt"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("iterations of 100 samples") == 1
    one, two = (json.loads((tmp_path / f"{n}.json").read_text())["runs"][0] for n in (1, 2))
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=0, atol=1e-11)
    assert one["evaluations"] == two["evaluations"]
    networks = [load(tmp_path / f"{n}.safetensors").parameters for n in (1, 2)]
    np.testing.assert_allclose(*networks, rtol=0, atol=1e-11)


@pytest.mark.slow
def test_the_program_of_the_page(tmp_path):
    """docs/scaling.md's, in two processes; test_dask.py has its other one."""
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text("utf-8")
    (tmp_path / "script.py").write_text(re.findall(r"```py\n(.*?)```", page, re.DOTALL)[0])
    command = [MPIEXEC, "-n", "2", sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Evaluation\(iteration=0, train_accuracy=0\.\d+, .*\)\n", done.stdout)


def test_what_starts_together_is_known_without_mpi4py(monkeypatch):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert world() is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert world() is None
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="4 processes were started together; that needs mpi4py"):
        world()
