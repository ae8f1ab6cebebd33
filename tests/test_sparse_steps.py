"""A sparse first layer inside training steps, shared by features: kernels beside the reference."""

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from step_cases import BACKENDS, problem, steps

from fastbp import kernels
from fastbp.kernels.engine.sharing import even_bounds, share
from fastbp.networks._engines import Architecture, Terms
from fastbp.training._optimizers import OPTIMIZERS

FEATURES = 1101  # with vectors of any size, two or three threads have nearly the same number of blocks each


def is_shared_by_features(parameters, architecture, x, threads):
    rows = kernels.prepare_data(x).rows
    return len(share(architecture.sizes, rows, threads, parameters.itemsize).by_features) > 0


def both(given_problem, architecture, batches, rule, terms, threads):
    """Parameters and losses of the reference, and of kernels with so many threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.engine.step, "PARALLEL_THRESHOLD", 0)
        patch.setattr(kernels.runtime.processors, "_chosen", threads)
        return [steps(module, given_problem, architecture, batches, rule, terms) for module in BACKENDS.values()]


@examples(40)
@given(
    st.sampled_from([(5,), (40,), (33, 20), (7, 3, 9)]),
    st.sampled_from(["relu", "tanh", "gelu"]),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from([Terms(), Terms(dropout=0.5, seed=3), Terms(l2=0.1, l2_divided=True)]),
    st.integers(1, 25),
    st.integers(2, 3),
    st.integers(0, FEATURES - 20),
)
def test_steps_shared_by_features_agree_with_the_reference(hidden, activation, optimizer, terms, batch, threads, empty):
    """Some features are 0 in all rows: what belongs to them is decayed and updated all the same."""
    sizes, activations = (FEATURES, *hidden, 6), (activation,) * len(hidden) + ("identity",)
    parameters, x, t = problem(sizes, "cross_entropy", density=0.15)
    x[:, empty : empty + 20] = 0
    architecture = Architecture(sizes, activations, "cross_entropy", True)
    assert is_shared_by_features(parameters, architecture, x, threads)
    batches, rule = np.random.default_rng(1).integers(0, len(x), (4, batch)), OPTIMIZERS[optimizer](1e-3)
    expected, mine = both((parameters / 5, x, t), architecture, batches, rule, terms, threads)
    for actual, wanted in zip(mine, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("sizes", [(FEATURES, 10), (FEATURES, 3, 10), (FEATURES, 20, 10)])
def test_threads_that_share_features_change_rounding_only(sizes, dtype, tolerance):
    given_problem = problem(sizes, "cross_entropy", dtype, density=0.1)
    architecture = Architecture(sizes, ("relu",) * (len(sizes) - 2) + ("identity",), "cross_entropy", True)
    assert is_shared_by_features(given_problem[0], architecture, given_problem[1], 2)
    batches = np.random.default_rng(2).integers(0, 60, (10, 17))
    found = [both(given_problem, architecture, batches, OPTIMIZERS["sgd"](0.1), Terms(), n) for n in (1, 2, 2, 3)]
    for expected, mine in found:
        for actual, wanted in zip(mine, expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)
    for first, second in zip(found[1][1], found[2][1], strict=True):
        np.testing.assert_array_equal(first, second)


def test_entries_that_are_all_in_one_place_are_shared_by_panels():
    sizes = (FEATURES, 20, 10)
    parameters, x, t = problem(sizes, "cross_entropy", density=0.3)
    x[:, 90:] = 0
    architecture = Architecture(sizes, ("relu", "identity"), "cross_entropy", True)
    assert not is_shared_by_features(parameters, architecture, x, 2)
    batches = np.arange(60).reshape(4, 15)
    expected, mine = both((parameters, x, t), architecture, batches, OPTIMIZERS["sgd"](0.1), Terms(), 2)
    for actual, wanted in zip(mine, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-12)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 12))
def test_chunks_of_blocks_are_all_blocks_in_their_order(pairs, threads):
    before = np.concatenate([[0], np.cumsum(pairs)])
    bounds = even_bounds(before, threads)
    assert (bounds[0], bounds[-1]) == (0, len(pairs))
    assert (np.diff(bounds) >= 0).all()
    assert np.diff(before[bounds]).max() <= before[-1] / threads + max(pairs)
