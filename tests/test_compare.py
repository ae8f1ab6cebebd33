"""`fastbp compare`, `train` and `check` as people run them, and the verdict on parity."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import fastbp
from fastbp import __version__, kernels
from fastbp.cli._app import app
from fastbp.comparison import Comparison, Recipe, Run, RunSpec, compare, compare_runs
from fastbp.datasets import load_mnist
from fastbp.training._trainer import Evaluation, History


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small(folder, *arguments):
    return invoke(*arguments, "--data-dir", folder, "--iterations", 40, "--batch-size", 20, "--evaluate-every", 15)


def test_compare_shows_accuracies_times_and_the_verdict(small_data):
    result = small(small_data, "compare")
    assert result.exit_code == 0, result.output
    for expected in ("numpy:float64", "numba:float64", "numba:float32", "compiling", "iterations / s", "parity ok"):
        assert expected in result.output
    assert re.findall(r"^│ +(\d+|end) │", result.output, re.MULTILINE) == ["0", "15", "30", "end"]


def test_compare_writes_json_and_a_picture(small_data, tmp_path):
    result = small(small_data, "compare", "--json", tmp_path / "c.json", "--plot", tmp_path / "c.png")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert set(content) == {"recipe", "runs", "parity", "speedups"}
    assert content["recipe"]["iterations"] == 40
    assert [(run["backend"], run["dtype"]) for run in content["runs"]] == [
        ("numpy", "float64"), ("numba", "float64"), ("numba", "float32"),
    ]  # fmt: skip
    for run in content["runs"]:
        assert len(run["losses"]) == 40
        assert [evaluation["iteration"] for evaluation in run["evaluations"]] == [0, 15, 30]
        assert {"train_accuracy", "test_accuracy"} < set(run["evaluations"][0])
        assert run["end"]["iteration"] == 39
        assert run["end"]["test_accuracy"] > 0
        assert run["train_seconds"] > 0
        assert run["evaluate_seconds"] > 0
    assert content["runs"][0]["compile_seconds"] == 0
    assert set(content["speedups"]) == {"numba:float64", "numba:float32"}
    assert content["parity"]["ok"] is True
    assert content["parity"]["tolerance"] == 1e-9
    assert content["parity"]["max_loss_difference"] <= 1e-9
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_json_on_standard_output_is_all_there_is(small_data):
    result = small(small_data, "train", "--json", "-")
    assert json.loads(result.stdout)["runs"][0]["dtype"] == "float32"


def test_a_broken_backend_is_found_and_ends_with_1(small_data, monkeypatch):
    def broken(parameters, *rest):
        intact(parameters, *rest)
        done = rest[-2][1]
        if done[0] > 20:
            parameters += 1e-6

    intact = kernels.train_steps
    monkeypatch.setattr(kernels, "train_steps", broken)
    result = small(small_data, "compare")
    assert result.exit_code == 1
    assert re.search(r"parity BROKEN at iteration (2[1-9]|3\d): numpy:float64 and numba:float64", result.output)


def run(spec="numpy:float64", losses=(1.0, 2.0), evaluations=()):
    return Run(RunSpec.parse(spec), 0.0, History(np.array(losses), list(evaluations), 1.0, 0.5))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2], [1, 2 + 1e-10], None),
        ([1, 2], [1, 2 + 1e-8], 1),
        ([1, np.nan, np.inf], [1, np.nan, np.inf], None),
        ([1, 2, 3], [1, np.nan, 3], 1),
        ([1, 2, np.inf], [1, 2, 3], 2),
    ],
)
def test_parity_of_losses(first, second, expected):
    parity = compare_runs(run(losses=first), run("numba:float64", losses=second))
    assert parity.first_break == expected
    assert parity.ok == (expected is None)


def test_parity_of_accuracies():
    one, other = ([Evaluation(i, 0.5, test) for i, test in ((0, 0.5), (600, last))] for last in (0.6, 0.7))
    assert compare_runs(run(evaluations=one), run("numba:float64", evaluations=other)).first_break == 600
    assert compare_runs(run(evaluations=one), run("numba:float64", evaluations=list(one))).ok


def test_only_runs_of_one_dtype_are_compared():
    runs = [run(spec) for spec in ("numpy:float64", "numba:float64", "numba:float32")]
    assert [(str(p.first), str(p.second)) for p in Comparison(Recipe(), runs).parities] == [
        ("numpy:float64", "numba:float64")
    ]
    alone = Comparison(Recipe(), runs[2:]).to_json()["parity"]
    assert alone == {"max_loss_difference": None, "tolerance": None, "ok": True, "first_break": None}


def test_losses_that_are_not_finite_are_null_in_json():
    content = Comparison(Recipe(), [run(losses=[1, np.nan]), run("numba:float64", [1, 2])]).to_json()
    assert content["runs"][0]["losses"] == [1, None]
    json.dumps(content, allow_nan=False)


def test_the_published_accuracies_are_reached():
    """The book's recipe for its first 1,801 iterations: its published accuracies, within a point, and parity."""
    specs = [RunSpec.parse(text) for text in ("numpy:float64", "numba:float64", "numba:float32")]
    comparison = compare(Recipe(iterations=1801), specs, *load_mnist(), progress=False)
    assert comparison.ok
    assert comparison.parities[0].max_loss_difference <= 1e-9
    published = {600: (0.9019, 0.9061), 1200: (0.9224, 0.9238), 1800: (0.9353, 0.9358)}
    for one in comparison.runs:
        for evaluation in one.history.evaluations[1:]:
            train, test = published[evaluation.iteration]
            assert evaluation.train_accuracy == pytest.approx(train, abs=0.01)
            assert evaluation.test_accuracy == pytest.approx(test, abs=0.01)


def test_check_passes_and_says_what_it_checked():
    result = invoke("check")
    assert result.exit_code == 0, result.output
    for subject in ("Affine", "Relu", "Sigmoid", "SoftmaxWithLoss", "MLP, relu", "MLP, sigmoid"):
        assert subject in result.output
    assert "FAILED" not in result.output


def test_check_finds_a_wrong_kernel(monkeypatch):
    from fastbp import reference

    monkeypatch.setattr(reference, "relu_backward", lambda dout, mask: dout * 1.01)
    result = invoke("check")
    assert result.exit_code == 1
    assert "FAILED" in result.output


def test_version_and_help():
    assert invoke("--version").output == f"fastbp {__version__}\n"
    assert "compare" in invoke("--help").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", "torch:float64"), "a run must be one of 'numpy:float32'"),
        (("--runs", "numba"), "a run must be one of"),
        (("--runs", "numba:float64,numba:float64"), "--runs names numba:float64 more than once"),
        (("--hidden", "fifty"), "--hidden must be widths separated by commas"),
        (("--hidden", "-5"), "sizes[1] must be at least 1, got -5"),
        (
            ("--activation", "swish"),
            "activation must be one of 'relu', 'sigmoid'",
        ),
        (("--batch-size", "1000"), "batch_size must be at most the number of samples, 300, got 1000"),
        (("--learning-rate", "inf"), "learning_rate must be a finite number"),
        (("--plot", "picture.txt"), "--plot must end in .png, .svg, .pdf"),
        (("--plot", "no/such/folder/c.png"), "--plot: there is no folder"),
        (("--json", "no/such/folder/c.json"), "--json: there is no folder"),
    ],
)
def test_bad_options_end_with_2_and_one_line(small_data, arguments, message):
    result = invoke("compare", "--data-dir", small_data, "--iterations", "5", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_bad_data_folder_ends_with_2(tmp_path):
    result = invoke("train", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "train-images-idx3-ubyte.gz: there is no such file" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_ctrl_c_shows_what_was_done(small_data):
    arguments = ["train", "--backend", "numpy", "--iterations", "100000000", "--batch-size", "10"]
    command = [sys.executable, "-m", "fastbp", *arguments, "--data-dir", str(small_data)]
    for seconds in (4, 12, 36):  # until it trains: on a busy machine it may still be importing
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        if errors:
            break
    assert "Interrupted" in errors
    assert "iterations / s" in output
    assert "Traceback" not in errors


def test_train_saves_and_goes_on(small_data, tmp_path):
    options = ("train", "--dtype", "float64", "--checkpoint", tmp_path / "run.ckpt", "--json", "-")
    whole = small(small_data, *options, "--save", tmp_path / "model.safetensors")
    assert whole.exit_code == 0, whole.output
    again = small(small_data, *options, "--resume")
    first, second = (json.loads(result.stdout)["runs"][0] for result in (whole, again))
    assert first["losses"] == second["losses"]
    network = fastbp.load(tmp_path / "model.safetensors")
    assert network.sizes == (36, 50, 10)
    assert first["end"]["test_accuracy"] == network.accuracy(*load_mnist(data_dir=small_data)[1])
    assert first["evaluations"][0]["train_accuracy"] > 0
    result = small(small_data, "train", "--resume")
    assert result.exit_code == 2
    assert "--resume needs --checkpoint" in result.stderr
    other = small(small_data, *options, "--resume", "--seed", "9")
    assert other.exit_code == 2
    assert "is of a run with seed=0, this one has seed=9" in other.stderr


@pytest.mark.parametrize("network", ["simple-conv", "deep-conv"])
def test_convolutional_networks_are_compared_and_kept(network, small_data, tmp_path):
    options = ("--network", network, "--json", "-")
    result = small(small_data, "compare", *options, "--runs", "numpy:float64,numba:float64")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["recipe"]["network"], content["recipe"]["optimizer"]) == (network, "adam")
    assert content["parity"]["max_loss_difference"] < 1e-9
    model, picture = tmp_path / "m.safetensors", tmp_path / "m.png"
    saved = small(small_data, "train", "--network", network, "--save", model)
    assert saved.exit_code == 0, saved.output
    assert f"{network}, 40 iterations of 20" in saved.output
    shown = invoke("evaluate", model, "--data-dir", small_data, "--plot", picture, "--json", "-")
    assert shown.exit_code == 0, shown.output
    assert 0 <= json.loads(shown.stdout)["accuracy"] <= 1
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--network", "resnet"), "--network must be one of 'mlp', 'simple-conv', 'deep-conv', got 'resnet'"),
        (("--network", "simple-conv", "--hidden", "5,5"), "has one hidden layer behind its convolutions"),
        (("--network", "deep-conv", "--activation", "tanh"), "has the activation 'relu', got 'tanh'"),
        (("--network", "deep-conv", "--optimizer", "sgd"), "--optimizer sgd needs --learning-rate"),
    ],
)
def test_what_convolutional_networks_have_not_is_said(options, message, small_data):
    result = small(small_data, "train", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_data_to_train_with_need_data_to_test_with():
    with pytest.raises(ValueError, match="train and test must both be given, or neither"):
        compare(train=(np.zeros((20, 4)), np.zeros(20, int)))
