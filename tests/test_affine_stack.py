"""Several affine layers in one call: held to the NumPy backend, and to the bits of the kernels for single layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from stack_cases import assert_alike

from fastbp import kernels, reference, set_num_threads
from fastbp.kernels.layers import affine_stack

STACKS = [
    ((784, 50, 10), ("relu", "identity")),
    ((30, 100, 100, 3), ("sigmoid", "relu", "identity")),
    ((7, 5, 3), ("identity", "relu")),
    ((9, 17), ("sigmoid",)),
    ((40, *[20] * 7, 10), ("relu",) * 8),
    ((30, 50, 33, 3), ("strict relu", "strict relu", "strict relu")),
]


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch):
    monkeypatch.setattr(affine_stack, "PARALLEL_THRESHOLD", 0)
    set_num_threads(request.param)
    yield request.param
    set_num_threads(None)


def drawn(widths, rows, density=1.0, dtype=np.float64, input_dtype=None, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, widths[0])) * (rng.random((rows, widths[0])) < density)
    x = np.abs(50 * x).astype(np.uint8) if input_dtype == np.uint8 else x.astype(input_dtype or dtype)
    weights = [(rng.standard_normal(shape) * 0.2).astype(dtype) for shape in itertools.pairwise(widths)]
    biases = [rng.standard_normal(width).astype(dtype) for width in widths[1:]]
    return x, weights, biases, rng.standard_normal((rows, widths[-1])).astype(dtype)


def both_ways(module, widths, activations, given, needs_dx=True, drops=None):
    """What forward and backward of a backend's stack give, as a flat list."""
    return of_stack(module.affine_stack(widths, activations, given[1][0].dtype), given, needs_dx, drops)


def of_stack(stack, given, needs_dx=True, drops=None):
    x, weights, biases, dout = given
    zs, outs, masks, largest = stack.forward(x, weights, biases, drops)
    dx, dWs, dbs, largest_dx = stack.backward(dout, [x, *outs[:-1]], weights, masks, needs_dx, drops)
    return [*zs, *outs, *masks, *largest, dx, *dWs, *dbs, largest_dx]


@pytest.mark.parametrize("rows", [1, 5, 100, 300])
@pytest.mark.parametrize(("widths", "activations"), STACKS)
def test_it_gives_what_the_numpy_backend_does(widths, activations, rows, threads):
    given = drawn(widths, rows, density=0.2 if widths[0] > 500 else 1.0)
    for needs_dx in (False, True):
        actual = both_ways(kernels, widths, activations, given, needs_dx)
        assert_alike(actual, both_ways(reference, widths, activations, given, needs_dx), np.float64)


@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize(
    ("dtype", "input_dtype"),
    [(np.float32, np.float32), (np.float64, np.float32), (np.float64, np.uint8)],
)
def test_inputs_of_every_dtype(dtype, input_dtype, density, threads):
    widths, activations = (784, 33, 10), ("relu", "identity")
    given = drawn(widths, 64, density, dtype, input_dtype)
    actual = both_ways(kernels, widths, activations, given)
    assert_alike(actual, both_ways(reference, widths, activations, given), dtype)


@pytest.mark.parametrize("input_dtype", [np.float32, np.uint8])
def test_rows_of_another_dtype_are_sparse_and_then_are_not(input_dtype, threads):
    """A product with such rows is compiled when it is needed, by whichever way comes first."""
    widths, activations = (784, 33, 10), ("relu", "identity")
    stacks = [module.affine_stack(widths, activations, np.dtype(float)) for module in (kernels, reference)]
    for density in (0.15, 1.0, 0.15):
        given = drawn(widths, 64, density, np.float64, input_dtype)
        assert_alike(*(of_stack(stack, given) for stack in stacks))
    x, weights, biases, dout = drawn(widths, 64, 1.0, np.float64, input_dtype)
    _, outs, masks, _ = stacks[0].forward(x, weights, biases)
    gradients = [
        module.affine_stack(widths, activations, np.dtype(float)).backward(dout, [x, outs[0]], weights, masks, False)
        for module in (kernels, reference)
    ]
    for actual, expected in zip(gradients[0][1:3], gradients[1][1:3], strict=True):
        assert_alike(actual, expected)


def test_zeros_before_a_relu_and_a_strict_one(threads):
    weights, biases = [np.eye(9), np.eye(9)], [np.zeros(9), np.array([0.0, -0.0, 1, -1, 2, -2, 0, 0, 0])]
    x = np.zeros((20, 9))
    for module in (kernels, reference):
        stack = module.affine_stack((9, 9, 9), ("strict relu", "relu"), np.float64)
        zs, outs, masks, _ = stack.forward(x, weights, biases)
        assert not masks[0].any()
        np.testing.assert_array_equal(masks[1], zs[1] <= 0)
        np.testing.assert_array_equal(outs[1], np.maximum(zs[1], 0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1, 1.25])
def test_dropout_after_relu(scale, dtype, threads):
    widths, activations = (30, 100, 50, 20, 3), ("relu", "sigmoid", "relu", "identity")
    keep = np.random.default_rng(0).random((64, 100)) > 0.3
    given = drawn(widths, 64, dtype=dtype)
    for drops in ([(keep, scale), None, (None, 0.7), None], [(None, scale), None, (keep[:, :20].copy(), scale), None]):
        actual, expected = (both_ways(one, widths, activations, given, drops=drops) for one in (kernels, reference))
        assert_alike(actual, expected, dtype)


@pytest.mark.parametrize("density", [0.15, 1.0])
def test_the_products_are_those_of_single_layers_to_the_last_bit(density, threads):
    widths, activations = (784, 50, 40, 10), ("relu", "relu", "identity")
    x, weights, biases, dout = given = drawn(widths, 200, density)
    zs, outs, masks = [], [x], []
    for W, b in zip(weights, biases, strict=True):
        zs.append(kernels.affine_forward(outs[-1], W, b))
        out, mask = kernels.relu_forward(zs[-1])
        outs.append(out)
        masks.append(mask)
    stack = kernels.affine_stack(widths, activations, np.float64)
    made = stack.forward(x, weights, biases)
    for one, other in zip(made[0], zs, strict=True):
        np.testing.assert_array_equal(one, other)
    _, dWs, dbs, _ = stack.backward(dout, [x, *made[1][:-1]], weights, made[2], False)
    for i in (2, 1, 0):
        dx, dW, db = kernels.affine_backward(dout, outs[i], weights[i], i > 0)
        np.testing.assert_array_equal(dWs[i], dW)
        np.testing.assert_array_equal(dbs[i], db)
        dout = kernels.relu_backward(dx, masks[i - 1]) if i else None
    assert given[3] is not dout


def test_the_same_bits_for_every_number_of_threads(monkeypatch):
    monkeypatch.setattr(affine_stack, "PARALLEL_THRESHOLD", 0)
    given, made = drawn((784, 50, 10), 100, 0.2), []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        made.append(both_ways(kernels, (784, 50, 10), ("relu", "identity"), given))
    set_num_threads(None)
    for other in made[1:]:
        for one, two in zip(made[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_parameters_that_were_updated_in_place_are_read_again():
    x, weights, biases, _ = drawn((20, 10, 4), 8)
    stack = kernels.affine_stack((20, 10, 4), ("relu", "identity"), np.float64)
    before = stack.forward(x, weights, biases)[0][-1]
    weights[0] *= -2.0
    biases[1] += 1.0
    after = stack.forward(x, weights, biases)[0][-1]
    assert np.abs(after - before).min() > 0
    np.testing.assert_allclose(
        after, reference.affine_stack((20, 10, 4), ("relu", "identity"), "f8").forward(x, weights, biases)[0][-1]
    )
    others = [W.copy() for W in weights]
    others[1][...] = 0
    assert (stack.forward(x, others, biases)[0][-1] == biases[1]).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("density", [0.15, 1.0])
def test_what_is_not_finite_is_said(number, density, threads):
    """Also where a row of W that is not finite meets zeros only, which are passed over."""
    widths, activations = (784, 50, 10), ("relu", "identity")
    x, weights, biases, _ = drawn(widths, 64, density)
    x[:, 5] = 0
    stack = kernels.affine_stack(widths, activations, np.float64)
    assert max(stack.forward(x, weights, biases)[3]) < 1e3
    weights[0][5, 3] = number
    assert stack.forward(x, weights, biases)[3][0] == np.inf
    weights[0][5, 3] = 0
    biases[1][2] = number
    assert stack.forward(x, weights, biases)[3][1] == np.inf


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize(("widths", "input_dtype"), [((784, 50, 10), "f8"), ((784, 50), "f8"), ((784, 50), "f4")])
def test_gradients_that_are_not_finite_are_said(widths, input_dtype, number, density, threads):
    """And 0 times them is NaN in dW, also where a sparse product would pass over the zero."""
    given = drawn(widths, 64, density, input_dtype=input_dtype)
    given[0][:, 5] = 0
    activations = ("identity",) * (len(widths) - 1)
    assert both_ways(kernels, widths, activations, given)[-1] < 1e6
    given[3][2, 3] = number
    with np.errstate(invalid="ignore"):
        expected = both_ways(reference, widths, activations, given)
    actual = both_ways(kernels, widths, activations, given)
    assert actual[-1] == expected[-1] == np.inf
    first_dW, other_dW = (one[1 - 2 * len(widths)] for one in (actual, expected))
    np.testing.assert_array_equal(np.isnan(first_dW), np.isnan(other_dW))
    assert np.isnan(first_dW[5]).any()


def test_a_sigmoid_that_is_not_a_number_is_said(threads):
    """Of a network that has diverged; its gradient times a zero of x is NaN."""
    widths, activations = (784, 50, 10), ("sigmoid", "identity")
    x, weights, biases, dout = drawn(widths, 64, 0.15)
    x[:, 5] = 0
    results = []
    for module in (kernels, reference):
        stack = module.affine_stack(widths, activations, np.float64)
        outs = stack.forward(x, weights, biases)[1]
        outs[0][3, 7] = np.nan
        results.append(stack.backward(dout, [x, outs[0]], weights, [None, None], False))
    assert results[0][3] == results[1][3] == np.inf
    np.testing.assert_array_equal(np.isnan(results[0][1][0]), np.isnan(results[1][1][0]))
    assert np.isnan(results[0][1][0][5, 7])


def test_a_sum_of_gradients_that_overflows_is_said():
    x, weights, biases, dout = drawn((20, 10, 4), 8)
    dout[:, 1] = 1e308
    stack = kernels.affine_stack((20, 10, 4), ("identity", "identity"), np.float64)
    outs = stack.forward(x, weights, biases)[1]
    weights[1][...] = 0
    assert stack.backward(dout, [x, outs[0]], weights, [None, None], False)[3] == np.inf
