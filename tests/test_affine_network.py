"""Affine layers and a loss in one call: held to the NumPy backend, and to the bits of the calls that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from stack_cases import assert_alike
from test_affine_stack import drawn, threads  # noqa: F401

from fastbp import kernels, reference, set_num_threads
from fastbp.kernels.layers import affine_stack

NETWORKS = [
    ((784, 50, 10), ("relu", "identity")),
    ((30, 100, 100, 3), ("sigmoid", "strict relu", "identity")),
    ((7, 5, 2), ("identity", "identity")),
    ((9, 17), ("identity",)),
    ((40, *[20] * 7, 130), ("relu",) * 7 + ("identity",)),
]


def labels_of(rows, classes):
    return np.random.default_rng(1).integers(0, classes, rows)


def targets_of(rows, classes, dtype):
    targets = np.random.default_rng(1).random((rows, classes))
    return (targets / targets.sum(axis=1, keepdims=True)).astype(dtype)


def given(widths, rows, **settings):
    x, weights, biases, _ = drawn(widths, rows, **settings)
    return x, weights, biases


def both_ways(module, widths, activations, of_network, t):
    """What the loss and the gradient of a backend's network give, as a flat list."""
    return of_both(module.affine_network(widths, activations, of_network[1][0].dtype), of_network, t)


def of_both(network, of_network, t):
    (x, weights, biases), found = of_network, []
    for of_loss, *rest in ((network.loss(x, t, weights, biases),), network.gradient(x, t, weights, biases)):
        loss, y, labels, zs, outs, masks, largest = of_loss
        found += [loss, y, labels, *zs, *outs, *masks, *largest]
        if rest:
            dWs, dbs, largest_gradient = rest
            found += [*dWs, *dbs, largest_gradient]
    return found


@pytest.mark.parametrize("rows", [1, 5, 100, 300])
@pytest.mark.parametrize(("widths", "activations"), NETWORKS)
def test_it_gives_what_the_numpy_backend_does(widths, activations, rows, threads):  # noqa: F811
    network = given(widths, rows, density=0.2 if widths[0] > 500 else 1.0)
    for t in (labels_of(rows, widths[-1]), targets_of(rows, widths[-1], np.float64)):
        actual, expected = (both_ways(one, widths, activations, network, t) for one in (kernels, reference))
        assert_alike(actual, expected, np.float64)


@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize(
    ("dtype", "input_dtype"), [(np.float32, np.float32), (np.float64, np.float32), (np.float64, np.uint8)]
)
def test_inputs_of_every_dtype(dtype, input_dtype, density, threads):  # noqa: F811
    widths, activations = (784, 33, 10), ("sigmoid", "identity")
    network = given(widths, 64, density=density, dtype=dtype, input_dtype=input_dtype)
    for t in (labels_of(64, 10), targets_of(64, 10, dtype)):
        actual, expected = (both_ways(one, widths, activations, network, t) for one in (kernels, reference))
        assert_alike(actual, expected, dtype)


@pytest.mark.parametrize("begins", ["loss", "gradient"])
def test_rows_of_another_dtype_are_sparse_and_then_are_not(begins, threads):  # noqa: F811
    """A product with such rows is compiled when it is needed."""
    widths, activations, t = (784, 33, 10), ("relu", "identity"), labels_of(64, 10)
    networks = [module.affine_network(widths, activations, np.dtype(float)) for module in (kernels, reference)]
    for density in (0.15, 1.0, 0.15):
        of_network = given(widths, 64, density=density, input_dtype=np.float32)
        getattr(networks[0], begins)(of_network[0], t, *of_network[1:])
        assert_alike(*(of_both(network, of_network, t) for network in networks))


def test_sparse_rows_of_another_dtype_of_a_network_that_has_diverged(threads):  # noqa: F811
    (x, weights, biases), t = given((784, 33, 10), 64, density=0.15, input_dtype=np.float32), labels_of(64, 10)
    x[:, 5] = 0
    weights[1][3] = np.nan
    dWs = [
        module.affine_network((784, 33, 10), ("relu", "identity"), np.dtype(float)).gradient(x, t, weights, biases)[1]
        for module in (kernels, reference)
    ]
    np.testing.assert_array_equal(np.isnan(dWs[0][0]), np.isnan(dWs[1][0]))
    assert np.isnan(dWs[0][0][5]).all()


@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize("rows", [100, 300])
def test_it_is_the_calls_of_a_stack_and_a_loss_to_the_last_bit(rows, density, threads):  # noqa: F811
    widths, activations = (784, 50, 40, 10), ("relu", "sigmoid", "identity")
    (x, weights, biases), t = given(widths, rows, density=density), labels_of(rows, 10)
    stack = kernels.affine_stack(widths, activations, np.float64)
    zs, outs, masks, _ = stack.forward(x, weights, biases)
    loss, y = kernels.softmax_cross_entropy_forward(zs[-1], t)
    for targets in (t, np.eye(10)[t]):
        dout = kernels.softmax_cross_entropy_backward(y, targets)
        _, dWs, dbs, _ = stack.backward(dout, [x, *outs[:-1]], weights, masks, False)
        of_loss, *gradients = kernels.affine_network(widths, activations, "f8").gradient(x, targets, weights, biases)
        assert of_loss[0] == loss
        np.testing.assert_array_equal(of_loss[2], t)
        for actual, expected in zip((of_loss[1], *of_loss[3], *of_loss[4]), (y, *zs, *outs), strict=True):
            np.testing.assert_array_equal(actual, expected)
        for actual, expected in zip((*gradients[0], *gradients[1]), (*dWs, *dbs), strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_the_same_bits_for_every_number_of_threads(monkeypatch):
    monkeypatch.setattr(affine_stack, "PARALLEL_THRESHOLD", 0)
    network, t, made = given((784, 50, 10), 300, density=0.2), labels_of(300, 10), []
    for count in (1, 2, 3):
        set_num_threads(count)
        made.append(both_ways(kernels, (784, 50, 10), ("relu", "identity"), network, t))
    set_num_threads(None)
    for other in made[1:]:
        for one, two in zip(made[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("label", [-1, 10, 2**62])
def test_a_label_that_is_no_class_makes_the_loss_nan(label, threads):  # noqa: F811
    (x, weights, biases), t = given((20, 15, 10), 200), labels_of(200, 10)
    t[150] = label
    for module in (kernels, reference):
        network = module.affine_network((20, 15, 10), ("relu", "identity"), np.float64)
        assert np.isnan(network.loss(x, t, weights, biases)[0])
        assert np.isnan(network.gradient(x, t, weights, biases)[0][0])


def test_the_label_of_targets_is_their_first_maximum_or_nan():
    (x, weights, biases), targets = given((20, 15, 4), 5), np.zeros((5, 4))
    targets[1, 2:], targets[2, 3], targets[3, 1], targets[4] = 1, np.inf, np.nan, [3, np.nan, 4, np.nan]
    for module in (kernels, reference):
        network = module.affine_network((20, 15, 4), ("relu", "identity"), np.float64)
        np.testing.assert_array_equal(network.loss(x, targets, weights, biases)[2], [0, 2, 3, 1, 1])


def test_what_is_not_finite_is_reported(threads):  # noqa: F811
    (x, weights, biases), t = given((30, 20, 10), 100), labels_of(100, 10)
    network = kernels.affine_network((30, 20, 10), ("relu", "identity"), np.float64)
    assert max(network.loss(x, t, weights, biases)[-1]) < 1e3
    assert network.gradient(x, t, weights, biases)[-1] < 1
    weights[1][3, 3] = np.nan
    assert network.loss(x, t, weights, biases)[-1][1] == np.inf
    weights[1][3, 3] = 1.0
    x[70, 2] = np.inf
    assert network.gradient(x, t, weights, biases)[0][-1][0] == np.inf
    x[70, 2] = 0.0
    assert max(network.gradient(x, t, weights, biases)[0][-1]) < 1e3


def test_sizes_may_change_from_call_to_call_and_results_stay():
    widths, activations = (60, 20, 10), ("relu", "identity")
    network = kernels.affine_network(widths, activations, np.float64)
    expected = reference.affine_network(widths, activations, np.float64)
    kept = []
    for rows, dtype in ((50, "f8"), (7, "f4"), (50, "f8"), (50, "f4"), (300, "f8"), (50, "f8")):
        (x, weights, biases), t = given(widths, rows, input_dtype=dtype, seed=rows), labels_of(rows, 10)
        of_loss, dWs, dbs, _ = network.gradient(x, t, weights, biases)
        wanted, *gradients, _ = expected.gradient(x, t, weights, biases)
        kept += [(of_loss[1], wanted[1]), *zip(dWs, gradients[0], strict=True), *zip(dbs, gradients[1], strict=True)]
    for actual, one in kept:
        assert_alike([actual], [one], np.float64)
