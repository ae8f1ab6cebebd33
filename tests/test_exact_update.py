"""Updates of all parameters in one call: to the last bit those of array code, or none at all."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import kernels, reference
from fastbp.kernels.engine import exact_update

SETTINGS = {
    "sgd": (0, [0.01]),
    "momentum": (1, [0.01, 0.9, 1e-7]),
    "nesterov": (1, [0.01, 0.9, 1e-7]),
    "nesterov until 2020": (1, [0.01, 0.9, 1e-7]),
    "adagrad": (1, [0.01, 0.0, 1e-7]),
    "rmsprop": (1, [0.01, 0.99, 1e-7]),
    "adam": (2, [0.01, 0.9, 0.999, 1e-7]),
}
TAME = {"float64": 1e150, "float32": 1e18}


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(exact_update, "PARALLEL_THRESHOLD", 0)
    fastbp.set_num_threads(request.param)
    yield request.param
    fastbp.set_num_threads(None)


def drawn(name, shapes, dtype, seed=0):
    """Lists of parameters, gradients, and of what each slot has."""
    rng = np.random.default_rng(seed)
    return [
        [np.asarray(np.abs(rng.standard_normal(shape)), dtype) for shape in shapes]
        for _ in range(2 + SETTINGS[name][0])
    ]


def update(module, name, lists):
    parameters, gradients, *state = lists
    return module.exact_update(name, parameters, gradients, state, SETTINGS[name][1], TAME[parameters[0].dtype.name])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "shapes",
    [[()], [(5,)], [(400, 500), (500,)], [(3, 2)] * 9, [(2049,), (2048,), (0,), *[(7,)] * 30], [(60, 40)] * 48],
)
def test_it_is_that_of_array_code_to_the_last_bit(name, dtype, shapes, threads):
    results = []
    for module in (kernels, reference):
        lists = drawn(name, shapes, dtype)
        before = [one.copy() for one in lists[1]]
        assert update(module, name, lists)
        np.testing.assert_equal(lists[1], before)
        results.append(lists)
    for actual, expected in zip(*results, strict=True):
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize(("place", "count"), [(0, 3), (2, 3), (0, 41), (40, 41)])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_nothing_is_changed_where_a_gradient_is_not_tame(name, place, count, number, threads):
    for module in (kernels, reference):
        lists = drawn(name, [(50, 60)] * count, "float64")
        lists[1][place][-1, -1] = number
        before = [[one.copy() for one in arrays] for arrays in lists]
        assert not update(module, name, lists)
        np.testing.assert_equal(lists, before)
