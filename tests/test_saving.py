import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

import fastbp
from fastbp import MLP, SavedFileError, load, load_book_params
from fastbp.layers._losses import LOSS_LAYERS as LOSSES
from fastbp.networks._tensor_files import write_tensors

ARCHITECTURE = {"sizes": [3, 2], "activations": [], "loss": "cross_entropy", "reduction": "mean", "dtype": "float32"}
WEIGHTS = {"W1": np.ones((3, 2), np.float32), "b1": np.ones(2, np.float32)}


def metadata(**changes):
    return {"format": "fastbp network 1", "architecture": json.dumps({**ARCHITECTURE, **changes})}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_comes_back_as_it_was(dtype, loss, tmp_path):
    network = MLP((6, 5, 4, 3), ("tanh", "leaky_relu"), "xavier", dtype, seed=0, loss=loss)
    network.save(tmp_path / "model.safetensors")
    for backend in ("numpy", "numba"):
        again = load(tmp_path / "model.safetensors", backend)
        assert again.backend == backend
        assert again.architecture == network.architecture
        assert again.parameters.dtype == network.parameters.dtype
        np.testing.assert_array_equal(again.parameters, network.parameters)
    x = np.random.default_rng(0).random((4, 6))
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(x), network.predict(x))


def test_other_programs_can_read_it(tmp_path):
    network = MLP((6, 5, 3), seed=0)
    network.save(tmp_path / "model.safetensors")
    weights = load_file(tmp_path / "model.safetensors")
    assert set(weights) == {"W1", "b1", "W2", "b2"}
    np.testing.assert_array_equal(weights["W2"], network.params["W2"])


def write(path, weights, described):
    if described is None:
        save_file(weights, path)
    else:
        write_tensors(path, weights, described)


@pytest.mark.parametrize(
    ("weights", "described", "message"),
    [
        (WEIGHTS, None, "it names no format of fastbp's"),
        (
            WEIGHTS,
            {**metadata(), "format": "fastbp network 3"},
            "it names fastbp network 3, expected 'fastbp network 1' or 'fastbp network 2'",
        ),
        (WEIGHTS, {"format": "fastbp network 1"}, "describes no network that exists: 'architecture'"),
        (WEIGHTS, metadata(activations=["swish"]), "activation must name one for each|must be one of"),
        (WEIGHTS, metadata(sizes=[3, -2]), r"sizes\[1\] must be at least 1"),
        ({"W1": WEIGHTS["W1"]}, metadata(), "b1 is missing"),
        (
            {**WEIGHTS, "b1": np.ones(3, np.float32)},
            metadata(),
            r"b1 must be float32 of shape \(2,\), found",
        ),
        ({**WEIGHTS, "b1": np.ones(2)}, metadata(), r"found float64 of shape \(2,\)"),
        ({**WEIGHTS, "b1": np.array([1, np.nan], np.float32)}, metadata(), "b1 holds NaN or infinity"),
    ],
)
def test_files_that_do_not_fit_are_refused(weights, described, message, tmp_path):
    path = tmp_path / "model.safetensors"
    write(path, weights, described)
    with pytest.raises(SavedFileError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_files_are_refused(keep, tmp_path):
    path = tmp_path / "model.safetensors"
    MLP((6, 5, 3), seed=0).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SavedFileError, match="is not a complete safetensors file"):
        load(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file, and the network that is in it."""
    path, network = tmp_path_factory.mktemp("saved") / "model.safetensors", MLP((6, 5, 3), "tanh", seed=0)
    network.save(path)
    return path.read_bytes(), network


@examples(400)
@given(st.data())
def test_damaged_files_are_refused_or_say_the_same(saved, data):
    """Bytes changed, taken out, put in, swapped; in the header, that is JSON, by words that mean something there."""
    (content, network), path = saved, Path(tempfile.gettempdir()) / f"damaged-{os.getpid()}.safetensors"
    damaged = bytearray(content)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4), "damages")):
        at = data.draw(st.integers(0, max(0, min(len(damaged), header if data.draw(st.booleans()) else 10**6) - 1)))
        kind = data.draw(st.sampled_from(["flip", "set", "cut", "insert", "word", "number", "end"]))
        if kind == "flip" and damaged:
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set" and damaged:
            damaged[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        elif kind == "word":
            words = [
                b"F32",
                b"F64",
                b"I64",
                b"BOOL",
                b"W1",
                b"b2",
                b"relu",
                b"tanh",
                b"cross_entropy",
                b"sizes",
                b"null",
            ]
            old, new = data.draw(st.sampled_from(words)), data.draw(st.sampled_from(words))
            damaged = bytearray(bytes(damaged).replace(old, new, data.draw(st.integers(1, 2))))
        elif kind == "number":
            number = data.draw(st.integers(0, 2**64 - 1))
            damaged[at : at + 8] = number.to_bytes(8, "little")
        else:
            damaged = damaged[:at]
    path.write_bytes(damaged)
    try:
        again = load(path, "numpy")
    except SavedFileError:
        pass
    else:
        assert again.architecture == network.architecture
        np.testing.assert_array_equal(again.parameters, network.parameters)
    finally:
        path.unlink()


def test_files_that_are_not_there_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("hello, this is a text of some length")
    with pytest.raises(SavedFileError, match="is not a complete safetensors file"):
        load(tmp_path / "text")


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path, network = tmp_path / "model.safetensors", MLP((6, 5, 3), seed=0)
    network.save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    network.parameters[:] = 0
    with pytest.raises(OSError, match="No space left"):
        network.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_saving_needs_nothing_until_it_is_used():
    code = "import sys, fastbp; sys.exit(any(name.startswith('safetensors') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_books_params_are_read(protocol, tmp_path):
    params = {"W1": np.random.default_rng(0).random((4, 3)), "b1": np.zeros(3, np.float32)}
    (tmp_path / "params.pkl").write_bytes(pickle.dumps(params, protocol))
    found = load_book_params(tmp_path / "params.pkl")
    for key, value in params.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil_was_here",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil()), "it asks for (posix|nt).system"),
        (pickle.dumps({"W1": Evil()}), "it asks for"),
        (pickle.dumps(np.array([Evil()], dtype=object)), "it asks for"),
        (pickle.dumps([1, 2]), "is not a dict of arrays, but list"),
        (pickle.dumps({"W1": "text"}), "is not a dict of arrays"),
        (b"nonsense", "is not a dict of arrays"),
        (b"", "is not a dict of arrays"),
        (save(WEIGHTS), "is not a dict of arrays"),
    ],
)
def test_pickles_of_anything_else_are_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.pkl").write_bytes(content)
    with pytest.raises(SavedFileError, match=message):
        load_book_params("params.pkl")
    assert not (tmp_path / "evil_was_here").exists()


def test_a_params_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        fastbp.load_book_params(tmp_path / "params.pkl")
