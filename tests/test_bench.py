import json
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from fastbp.bench import busy, contenders, conv_contenders, dropin, kernel_pairs, measure, peers, plain_c
from fastbp.cli._app import app


def test_contenders_take_turns_and_each_goes_first():
    order = []

    def timed(name, value):
        return lambda: order.append(name) or value

    results = measure.interleaved({"a": timed("a", 2.0), "b": timed("b", 3.0)}, 3)
    assert results == {"a": [2.0] * 3, "b": [3.0] * 3}
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_ratios_are_taken_within_a_round():
    """The machine is three times slower in the second of three rounds: the medians are off, the ratio is not."""
    figures = measure.summary({"ours": [1.0, 3.0, 2.0], "peer": [2.0, 6.0, 4.0]}, "ours")
    assert figures["peer"] == {"median_seconds": 4, "min_seconds": 2, "max_seconds": 6, "times_fastbp": 2}


def test_the_best_peer_counts_and_the_mean_is_geometric():
    def cell(**ratios):
        return {peers.BASE: {"times_fastbp": 1.0}, **{name: {"times_fastbp": ratio} for name, ratio in ratios.items()}}

    found = peers.with_best_peer({"small": cell(a=4.0, b=9.0), "large": cell(a=3.0, b=1.0)})
    assert found["best_peer"] == {"small": 4.0, "large": 1.0}
    assert found["geometric_mean"] == pytest.approx(2.0)


@pytest.mark.parametrize("part", ["grid", "conv", "kernels"])
@pytest.mark.slow
def test_the_command_measures_shows_and_saves(part, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CELLS", [("sigmoid_forward", (9, 5)), ("affine_backward", (3, 20, 17))])
    monkeypatch.setattr(peers, "GRID", [((6, 5, 4), 3), ((6, 5, 5, 4), 2)])
    monkeypatch.setattr(peers, "MNIST_CELLS", 0)
    monkeypatch.setattr(peers, "CONV_BATCH", 2)
    monkeypatch.setattr(conv_contenders, "find_spec", lambda name: None)
    monkeypatch.setattr(peers, "CELL_SECONDS", 0.001)
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    files = tmp_path / "figures.json", tmp_path / "picture.png"
    result = CliRunner().invoke(
        app, ["bench", "--only", part, "--rounds", "2", "--json", str(files[0]), "--plot", str(files[1])]
    )
    assert result.exit_code == 0, result.output
    assert "geometric mean" in result.output
    content = json.loads(files[0].read_text())
    assert len(content[part]["cells"]) == len(content[part]["best_peer"]) == 2
    for cell in content[part]["cells"].values():
        assert cell[peers.BASE]["times_fastbp"] == 1
        assert all(entry["min_seconds"] > 0 for entry in cell.values())
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_unknown_parts_are_refused():
    result = CliRunner().invoke(app, ["bench", "--only", "everything"])
    assert result.exit_code == 2
    assert "'recipe', 'grid', 'conv', 'kernels'" in result.output


def test_a_kernel_that_answers_wrongly_is_not_timed(monkeypatch):
    monkeypatch.setitem(kernel_pairs._NUMPY, "sigmoid_forward", lambda x: x)
    with pytest.raises(AssertionError, match=r"sigmoid_forward \(9, 5\) differs"):
        kernel_pairs.kernel_pair("sigmoid_forward", (9, 5))


def test_the_drop_in_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(dropin, "NETWORKS", {"small": "affine(784, 20), norm(20), relu(), affine(20, 10)"})
    monkeypatch.setattr("sys.argv", ["dropin", "--seconds", "0.1", "--rounds", "1"])
    dropin.main()
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split("|")[1:-1] == [" network ", " NumPy ", " fastbp run ", " gain "]
    # no more of the figures than their form: beside other tests either way may be ten times as slow
    assert re.fullmatch(r"\| small \| \d+\.\d\d ms \| \d+\.\d\d ms \| \d+\.\d \|", rows[2])


@pytest.mark.slow
def test_steps_on_a_busy_machine_are_measured(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["busy", "--busy", "1", "--seconds", "0.01", "--rounds", "1"])
    busy.main()
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| busy processes | NumPy | one thread | all processors |"
    assert re.fullmatch(r"\| 1 \|( \d+\.\d\d ms \|){3}", rows[2])


@pytest.mark.skipif(shutil.which(plain_c.COMPILER) is None, reason="there is no C compiler")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_network_in_plain_c_trains_as_numpy_does(threads):
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 256, (300, 784)) * (rng.random((300, 784)) < 0.2) / 255).astype(np.float32)
    t, batches = rng.integers(0, 10, 300), rng.integers(0, 300, (7, plain_c.BATCH))
    in_c = plain_c.PlainC(x, t, threads, plain_c.compiled())
    in_numpy = contenders.HandWrittenNumPy(plain_c.SIZES, x, t)
    first, *_ = in_c.steps(batches)
    assert np.float64(5e-324) * 1 > 0  # the library has left the processor as it was
    in_numpy.steps(batches)
    assert first == pytest.approx(np.log(10), rel=1e-2)
    for number, (W, b) in enumerate(in_numpy.layers, 1):
        for name, array in ((f"W{number}", W), (f"b{number}", b)):
            np.testing.assert_allclose(in_c.parameters[name], array, rtol=1e-4, atol=1e-6)


def test_data_that_plain_c_is_not_made_for_is_refused():
    x = np.linspace(0, 1, 784 * 300, dtype=np.float32).reshape(300, 784)
    with pytest.raises(ValueError, match="at most 256 different numbers"):
        plain_c.PlainC(x, np.zeros(300, np.int64), 1, None)
