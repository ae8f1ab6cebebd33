"""Affine layers with batch normalisation between them in one call: held to the NumPy backend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from stack_cases import assert_alike

from fastbp import kernels, reference, set_num_threads
from fastbp.kernels.layers import affine_stack

STACKS = [
    ((784, 50, 33, 10), ("relu", "relu", "identity"), (True, True, False)),
    ((30, 100, 20, 3), ("sigmoid", "relu", "identity"), (True, False, False)),
    ((7, 5, 6, 3), ("identity", "sigmoid", "relu"), (False, True, False)),
    ((40, *[20] * 7, 10), ("relu",) * 8, (True,) * 7 + (False,)),
    ((30, 50, 33, 3), ("strict relu",) * 3, (True, False, False)),
]


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(affine_stack, "PARALLEL_THRESHOLD", 0)
    set_num_threads(request.param)
    yield request.param
    set_num_threads(None)


def drawn(widths, normalized, rows, density=1.0, input_dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, widths[0])) * (rng.random((rows, widths[0])) < density)
    weights = [rng.standard_normal(shape) * 0.2 for shape in itertools.pairwise(widths)]
    biases = [rng.standard_normal(width) for width in widths[1:]]
    norms = [
        (rng.random(width) + 0.5, rng.standard_normal(width), rng.standard_normal(width), rng.random(width), 0.9)
        if is_normalized
        else None
        for width, is_normalized in zip(widths[1:], normalized, strict=True)
    ]
    return x.astype(input_dtype), weights, biases, norms, rng.standard_normal((rows, widths[-1]))


def epsilons_of(norms):
    return [None if one is None else 1e-7 for one in norms]


def both_ways(module, widths, activations, given, needs_dx=True, drops=None):
    """What forward and backward of a backend's stack give, as a flat list."""
    stack = module.normalized_stack(widths, activations, epsilons_of(given[3]), np.dtype(np.float64))
    return of_stack(stack, given, needs_dx, drops)


def of_stack(stack, given, needs_dx=True, drops=None):
    x, weights, biases, norms, dout = given
    zs, ys, outs, masks, kept, sizes = stack.forward(x, weights, biases, drops, norms)
    of_norms = [None if one is None else (norm[0], *one[:3]) for one, norm in zip(kept, norms, strict=True)]
    before = dout.copy()
    dx, dWs, dbs, dnorms, largest = stack.backward(dout, [x, *outs[:-1]], weights, masks, needs_dx, drops, of_norms)
    np.testing.assert_array_equal(dout, before)
    several = [one for few in (*kept, *dnorms) for one in (few if few is not None else [None])]
    return [*zs, *ys, *outs, *masks, *itertools.chain(*sizes), dx if needs_dx else None, *dWs, *dbs, largest, *several]


@pytest.mark.parametrize("rows", [4, 5, 100, 300])
@pytest.mark.parametrize(("widths", "activations", "normalized"), STACKS)
def test_it_gives_what_the_numpy_backend_does(widths, activations, normalized, rows, threads):
    given = drawn(widths, normalized, rows, density=0.2 if widths[0] > 500 else 1.0)
    for needs_dx in (False, True):
        actual = both_ways(kernels, widths, activations, given, needs_dx)
        assert_alike(actual, both_ways(reference, widths, activations, given, needs_dx))


@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize("input_dtype", [np.float32, np.uint8])
def test_inputs_of_every_dtype(input_dtype, density, threads):
    widths, activations, normalized = STACKS[0]
    given = drawn(widths, normalized, 64, density, input_dtype)
    assert_alike(*(both_ways(module, widths, activations, given) for module in (kernels, reference)))


@pytest.mark.parametrize("input_dtype", [np.float32, np.uint8])
def test_rows_of_another_dtype_are_sparse_and_then_are_not(input_dtype, threads):
    """A product with such rows is compiled when it is needed."""
    widths, activations, normalized = STACKS[0]
    epsilons = [1e-7, 1e-7, None]
    stacks = [one.normalized_stack(widths, activations, epsilons, np.dtype(float)) for one in (kernels, reference)]
    for density in (0.15, 1.0, 0.15):
        given = drawn(widths, normalized, 64, density, input_dtype)
        assert_alike(*(of_stack(stack, given) for stack in stacks))


def test_dropout_after_relu(threads):
    widths, activations, normalized = (
        (30, 100, 50, 20, 3),
        ("relu", "relu", "relu", "identity"),
        (True, False, True, False),
    )
    given, keep = drawn(widths, normalized, 64), np.random.default_rng(0).random((64, 100)) > 0.3
    drops = [(keep, 1.25), (keep[:, :50].copy(), 1), (None, 0.7), None]
    assert_alike(*(both_ways(module, widths, activations, given, True, drops) for module in (kernels, reference)))


@pytest.mark.parametrize(("widths", "activations", "normalized"), STACKS)
def test_running_means_and_variances(widths, activations, normalized, threads):
    """Of some layers, and of all."""
    x, weights, biases, norms, _ = drawn(widths, normalized, 64)
    for layers in (range(1, len(norms)), range(len(norms))):
        given = [(*one[:4], None) if one and i in layers else one for i, one in enumerate(norms)]
        results = []
        for module in (kernels, reference):
            stack = module.normalized_stack(widths, activations, epsilons_of(norms), np.dtype(np.float64))
            zs, ys, outs, masks, kept, sizes = stack.forward(x, weights, biases, None, given)
            assert [one is not None for one in kept] == [one is not None and one[4] is not None for one in given]
            results.append([*zs, *ys, *outs, *masks, *itertools.chain(*sizes)])
        assert_alike(*results)


def test_one_thread_and_two_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(affine_stack, "PARALLEL_THRESHOLD", 0)
    (widths, activations, normalized), made = STACKS[0], []
    for threads in (1, 2):
        set_num_threads(threads)
        made.append(both_ways(kernels, widths, activations, drawn(widths, normalized, 101, 0.2)))
    set_num_threads(None)
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_far_from_zero_keep_their_variance(threads):
    """The squares of what is left without each chunk's own mean are added up, not differences of large squares."""
    widths, activations, normalized = (3, 6, 2), ("relu", "identity"), (True, False)
    x, weights, biases, norms, _ = drawn(widths, normalized, 50)
    biases[0] += 1e7 * np.arange(6)
    made = []
    for module in (kernels, reference):
        stack = module.normalized_stack(widths, activations, epsilons_of(norms), np.dtype(np.float64))
        made.append(stack.forward(x, weights, biases, None, norms)[4][0])
    for one, other in zip(*made, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert made[0][3][5] > 4e7
    assert made[0][4].max() < 10


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(6))
def test_what_is_not_finite_is_said(place, number, threads):
    """Of W, b, gamma, beta, and running mean and variance, of a layer that is normalised."""
    (widths, activations, normalized) = STACKS[1]
    x, weights, biases, norms, _ = drawn(widths, normalized, 64)
    stack = kernels.normalized_stack(widths, activations, epsilons_of(norms), np.dtype(np.float64))
    assert max(stack.forward(x, weights, biases, None, norms)[5][0]) < 1e3
    (weights[0], biases[0], *norms[0][:4])[place].flat[3] = number
    for momentum in (0.9, None):
        given = [(*norms[0][:4], momentum), *norms[1:]]
        assert stack.forward(x, weights, biases, None, given)[5][0][0] == np.inf


@pytest.mark.parametrize("of", ["dout", "gamma", "std", "xn"])
def test_gradients_that_are_not_finite_are_said(of, threads):
    (widths, activations, normalized) = STACKS[0]
    x, weights, biases, norms, dout = drawn(widths, normalized, 64, 0.2)
    stack = kernels.normalized_stack(widths, activations, epsilons_of(norms), np.dtype(np.float64))
    _, _, outs, masks, kept, _ = stack.forward(x, weights, biases, None, norms)
    of_norms = [None if one is None else (norm[0], *one[:3]) for one, norm in zip(kept, norms, strict=True)]
    given = [x, *outs[:-1]], weights, masks, False, None, of_norms
    assert stack.backward(dout, *given)[4] < 1e6
    {"dout": dout[2], "gamma": of_norms[1][0], "std": of_norms[1][3], "xn": of_norms[1][2][7]}[of][3] = np.nan
    assert stack.backward(dout, *given)[4] == np.inf


def test_large_numbers_before_a_sigmoid_are_said(threads):
    (widths, activations, normalized) = STACKS[1]
    x, weights, biases, norms, _ = drawn(widths, normalized, 64)
    norms[0][0][5] = 1e4
    stack = kernels.normalized_stack(widths, activations, epsilons_of(norms), np.dtype(np.float64))
    ys, before = (stack.forward(x, weights, biases, None, norms)[i] for i in (1, 5))
    assert before[1] == [np.abs(ys[0]).max(), 0, 0]
    assert before[1][0] > 1e4
