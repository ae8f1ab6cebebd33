"""What the tests of the drop-in share: a script's own `common/`, imported anew, and how two outcomes are compared."""

from __future__ import annotations

import importlib
import sys
import warnings

import numpy as np
from conftest import TOLERANCE

MODULES = [
    "functions",
    "gradient",
    "layers",
    "multi_layer_net",
    "multi_layer_net_extend",
    "optimizer",
    "trainer",
    "util",
]


def load_common(folder):
    """The modules of the folder's `common`, imported anew."""
    sys.path.insert(0, str(folder))
    try:
        return {module: importlib.import_module(f"common.{module}") for module in MODULES}
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
            del sys.modules[name]


def outcome(function, *arguments):
    """What a call gives: the result, or the type of what it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except Exception as error:
            return type(error)


def assert_same(actual, expected, what, tolerance=TOLERANCE["float64"]):
    if isinstance(expected, type) or expected is None or isinstance(expected, tuple | int | str):
        assert actual == expected, f"{what}: {actual}, expected {expected}"
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=what)
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(actual[infinite], expected[infinite], err_msg=what)
    finite = np.isfinite(expected)
    scale = max(1.0, np.max(np.abs(expected[finite]), initial=0))
    error = np.max(np.abs(actual[finite] - expected[finite]), initial=0)
    assert error <= 30 * max(tolerance, TOLERANCE[expected.dtype.name]) * scale, what


RNG = np.random.default_rng(0)
MANY = [np.float64, np.float32, np.float16, np.uint8, np.int64, np.bool_]


def normal(*shape, dtype=np.float64):
    return (3 * RNG.standard_normal(shape)).astype(dtype)
