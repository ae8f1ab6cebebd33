"""What the tests of optimizers' statements share: a source's classes, plain and accelerated, and how states are compared."""

from __future__ import annotations

import numpy as np
from dropin_cases import define

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning.calls import Counter

HEAD = "import math\n\nimport numpy as np\n\n\n"


def plain_and_accelerated(folder, source):
    """Modules of a source: plain and accelerated, and the counts of calls."""
    counter = Counter()
    start_accelerating(counter)
    try:
        fast = define(source, folder)
    finally:
        stop_accelerating()
    return define(source, folder), fast, counter.counts


def state_of(optimizer):
    return {name: value for name, value in vars(optimizer).items() if not callable(value)}


def assert_equal(actual, expected, what=""):
    """To the last bit, dicts and their arrays in the same order."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected), what
        for key, value in expected.items():
            assert_equal(actual[key], value, f"{what}[{key!r}]")
        return
    assert type(actual) is type(expected), what
    if isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    np.testing.assert_array_equal(actual, expected, err_msg=what)
