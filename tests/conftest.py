"""What the tests share: the tolerances of parity, arrays in every layout, and a small data set in MNIST's form."""

from __future__ import annotations

import gzip
import os
import struct

import numpy as np
import pytest
from hypothesis import settings

os.environ["FASTBP_LEAST_WORK"] = "0"  # the drop-in's kernels take the small calls of tests, too
# OpenBLAS's threads spin: two processes with two each, on two processors, took 190 s for tests that take 115 with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastbp
from fastbp.dropin.beginning import calls
from fastbp.dropin.objects import unforeseen

LONG = int(os.environ.get("FASTBP_LONG", "1"))  # times as many examples, kills, ...: FASTBP_LONG=25 pytest, a long run


# What is compiled from nothing in a cache of a test's own, to see which kernels are, need not be fast.
QUICK_TO_COMPILE = {"NUMBA_OPT": "1"}


def pytest_collection_modifyitems(items):
    """The slow ones first: at the end, one process would wait for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def examples(count):
    """So many examples of a property, times LONG; on machines of any speed. A long run tries others each time."""
    return settings(max_examples=count * LONG, deadline=None, derandomize=LONG == 1)


TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3}  # of the largest finite magnitude


@pytest.fixture(autouse=True)
def _default_backend(monkeypatch):
    """Every test starts, and leaves the process, with the built-in default backend."""
    monkeypatch.delenv("FASTBP_BACKEND", raising=False)
    fastbp.set_default_backend(None)
    yield
    fastbp.set_default_backend(None)


@pytest.fixture(scope="session", autouse=True)
def _kernels_can_be_kept():
    """Numba compiles a kernel anew in every process, and says nothing, where a function is handed to another in it."""
    from fastbp.kernels.runtime.cache import KernelCache

    save = KernelCache.save_overload

    def save_checked(cache, signature, data):
        assert not data.library.has_dynamic_globals, f"{cache._name} cannot be kept in the cache"
        save(cache, signature, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelCache, "save_overload", save_checked)
        yield


@pytest.fixture(autouse=True)
def _nothing_unforeseen(monkeypatch):
    """Where looking at somebody's code goes wrong, a test fails."""
    monkeypatch.setattr(unforeseen.settings, "raises", True)


@pytest.fixture(autouse=True)
def _kernels_at_once(monkeypatch):
    """The drop-in does not wait until Numba's import repays."""
    monkeypatch.setattr(calls._beginning, "over", True)


def assert_parity(actual, expected, name="result", floor=0.0, tolerance=None):
    """dtype and shape are equal, NaN and inf are in the same places, the rest is within the dtype's tolerance.

    floor: the least magnitude that errors are compared with, for sums that may cancel. tolerance: another one.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"{name}: {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=name)
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=f"{name}: NaN")
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(actual[infinite], expected[infinite], err_msg=f"{name}: inf")
    finite = np.isfinite(expected)
    scale = np.max(np.abs(expected[finite].astype(np.float64)), initial=floor)
    error = np.max(np.abs(actual[finite].astype(np.float64) - expected[finite]), initial=0.0)
    tolerance = TOLERANCE[actual.dtype.name] if tolerance is None else tolerance
    assert error <= tolerance * scale, f"{name}: error {error}, scale {scale}"


def in_layout(array, layout):
    """The same numbers, laid out in another way."""
    if layout == "C" or not array.ndim:
        return array.copy()
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "read-only":
        copy = array.copy()
        copy.flags.writeable = False
        return copy
    if layout == "unaligned":
        memory = np.zeros(array.nbytes + 1, np.uint8)
        view = np.frombuffer(memory.data, array.dtype, array.size, 1).reshape(array.shape)
        view[...] = array
        return view
    wide = np.zeros(tuple(2 * size for size in array.shape), array.dtype)
    backwards = (slice(None, None, -2),) * array.ndim
    steps = backwards if layout == "reversed" else (slice(None, None, 2),) * array.ndim
    wide[steps] = array
    return wide[steps]


LAYOUTS = ("C", "F", "strided", "reversed", "read-only", "unaligned")


def write_idx(path, array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


@pytest.fixture
def small_data(tmp_path):
    """A folder of four IDX files: ten classes of noisy 6 x 6 images, 300 to train and 100 to test."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 6, 6))
    folder = tmp_path / "data"
    folder.mkdir()
    for part, count in (("train", 300), ("t10k", 100)):
        labels = rng.integers(0, 10, count)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", patterns[labels] + rng.integers(0, 56, (count, 6, 6)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def numerical(function, point, h=1e-5):
    """Central differences of function(point) -> float, at a vector."""
    slopes = np.empty_like(point)
    for i in range(len(point)):
        below, above = point.copy(), point.copy()
        below[i], above[i] = point[i] - h, point[i] + h
        slopes[i] = (function(above) - function(below)) / (2 * h)
    return slopes


@pytest.fixture
def both(tmp_path):
    """Makes modules of a source: plain and accelerated, and the counts of calls."""
    from dropin_cases import define

    from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
    from fastbp.dropin.beginning.calls import Counter

    def made(source):
        counter = Counter()
        start_accelerating(counter)
        try:
            fast = define(source, tmp_path)
        finally:
            stop_accelerating()
        return define(source, tmp_path), fast, counter.counts

    return made
