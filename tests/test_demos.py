import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from fastbp import sweep
from fastbp.cli._app import app
from fastbp.cli._demo_runs import STEPS, height, optimizer_paths
from fastbp.sweep import Choices, Outcome, Trial, append_outcome, hidden_widths, plan, read_outcomes, run_trials
from fastbp.training._optimizers import OPTIMIZERS


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_every_optimizer_finds_the_valley():
    paths = optimizer_paths()
    assert set(paths) == set(OPTIMIZERS)
    for points in paths.values():
        assert points.shape == (STEPS + 1, 2)
        assert height(*points[-1]) < 1e-3


def test_the_optimizers_are_shown(tmp_path):
    result = run("demo", "optimizers", "--plot", tmp_path / "o.png")
    assert result.exit_code == 0, result.output
    assert "nesterov" in result.output
    assert (tmp_path / "o.png").read_bytes()[:4] == b"\x89PNG"


def test_the_plane_is_learned(tmp_path):
    pytest.importorskip("plygdata")
    result = run("demo", "plane", "--epochs", 20, "--plot", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    losses = [float(line.split("loss ")[1]) for line in result.stdout.splitlines()]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 0.02
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_without_its_data_the_plane_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plygdata", None)
    result = run("demo", "plane")
    assert result.exit_code == 2
    assert "pip install 'fastbp[demo]'" in result.output


def choices(**changes):
    texts = {
        "learning_rate": "0.01:1:log",
        "hidden": "4,8-5",
        "batch_size": "20",
        "activation": "relu",
        "optimizer": "sgd",
    }
    kinds = {"learning_rate": float, "hidden": hidden_widths, "batch_size": int}
    return {k: Choices.parse(k, v, kinds.get(k, str)) for k, v in {**texts, **changes}.items()}


def test_random_trials_are_the_same_for_a_seed_and_within_the_ranges():
    one, again, other = (plan(**choices(), trials=50, grid=False, epochs=2, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert all(0.01 <= trial.learning_rate <= 1 and trial.hidden in ("4", "8-5") for trial in one)
    assert 15 < sum(trial.learning_rate < 0.1 for trial in one) < 35  # even in the logarithm
    linear = plan(**choices(learning_rate="0:1"), trials=50, grid=False, epochs=2, seed=1)
    assert sum(trial.learning_rate < 0.1 for trial in linear) < 15


def test_a_grid_is_every_combination():
    trials = plan(**choices(learning_rate="0.1,1", optimizer="sgd,adam"), trials=99, grid=True, epochs=1, seed=0)
    assert len(set(trials)) == len(trials) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate must be values such as 1,2,5 or a range"),
        ({"learning_rate": "0:1:log"}, "learning_rate must be values"),
        ({"learning_rate": "1:0.1"}, "learning_rate must be values"),
        ({"learning_rate": ""}, "learning_rate must be values"),
        ({"hidden": "4-x"}, "hidden must be values"),
        ({"activation": "swish"}, "activation must be one of 'relu'"),
        ({"optimizer": "sgd,lion"}, "optimizer must be one of 'sgd'"),
        ({}, "a grid needs values"),
    ],
)
def test_bad_choices_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**choices(**changes), trials=3, grid=True, epochs=1, seed=0)


def test_outcomes_survive_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "sweep.jsonl"
    outcomes = [Outcome(Trial(0.1 * n, "5", 10, "relu", "sgd", 1, 0), [0.5], [1.0]) for n in range(3)]
    for outcome in outcomes[:2]:
        append_outcome(path, outcome)
    with path.open("a") as file:
        file.write('{"trial": {"learning_ra')
    assert read_outcomes(path) == outcomes[:2]
    append_outcome(path, outcomes[2])
    assert read_outcomes(path) == outcomes
    path.write_text('{"other": 1}\n')
    with pytest.raises(ValueError, match="line 1, is not the outcome of a trial"):
        read_outcomes(path)


def test_a_sweep_goes_on_where_it_ended(small_data, tmp_path):
    options = (
        "sweep",
        "--data-dir",
        small_data,
        "--batch-size",
        20,
        "--hidden",
        "8",
        "--results",
        tmp_path / "s.jsonl",
    )
    first = run(*options, "--trials", 3, "--jobs", 1)
    assert first.exit_code == 0, first.output
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    assert len(lines) == 3
    second = run(*options, "--trials", 5, "--jobs", 2, "--plot", tmp_path / "s.png")
    assert second.exit_code == 0, second.output
    after = (tmp_path / "s.jsonl").read_text().splitlines()
    assert after[:3] == lines
    assert len(after) == 5
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    accuracies = [json.loads(line)["accuracies"][-1] for line in after]
    shown = [float(line.split("│")[1]) for line in second.stdout.splitlines() if line.startswith("│ 0.")]
    np.testing.assert_allclose(shown, sorted(accuracies, reverse=True), atol=6e-5)


def test_a_sweep_of_convolutional_networks(small_data, tmp_path):
    options = ("sweep", "--network", "simple-conv", "--data-dir", small_data, "--batch-size", 20, "--trials", 2)
    options += ("--results", tmp_path / "s.jsonl", "--jobs", 1, "--optimizer", "adam", "--learning-rate", "0.001,0.01")
    result = run(*options, "--hidden", "8,9")
    assert result.exit_code == 0, result.output
    assert [outcome.trial.network for outcome in read_outcomes(tmp_path / "s.jsonl")] == ["simple-conv"] * 2
    result = run(*options, "--hidden", "8-9")
    assert result.exit_code == 2
    assert "has one hidden layer behind its convolutions" in result.stderr


def test_a_sweep_whose_results_cannot_be_kept_ends_the_trials_that_have_begun(small_data, tmp_path):
    def advance(outcome):
        raise KeyboardInterrupt

    trials = [Trial(0.1, "5", 20, "relu", "sgd", epochs, 0) for epochs in (1, 10**8)]  # the second never ends
    with pytest.raises(KeyboardInterrupt):
        run_trials(trials, tmp_path / "s.jsonl", 2, str(small_data), advance)
    assert not multiprocessing.active_children()
    assert [outcome.trial for outcome in read_outcomes(tmp_path / "s.jsonl")] == trials[:1]


def test_ctrl_c_while_the_processes_of_a_sweep_begin_is_not_lost():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), sweep._interrupts_blocked():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_processes_of_a_sweep_never_see_ctrl_c():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
    with sweep._interrupts_blocked():
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    assert done.stdout.split() == [b"goes", b"on"]


def test_a_sweep_that_is_interrupted_keeps_what_was_done(small_data, tmp_path):
    results = tmp_path / "s.jsonl"
    command = [
        "sweep",
        "--data-dir",
        small_data,
        "--batch-size",
        "20",
        "--epochs",
        "200",
        "--trials",
        "300",
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastbp", *map(str, command), "--results", str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (results.exists() and results.read_bytes().count(b"\n") > 2):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"the same command goes on from there" in errors
    assert b"Traceback" not in errors
    assert 2 < len(read_outcomes(results)) < 300
    assert b"validation" in output
