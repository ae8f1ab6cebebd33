"""What a run adds to the loss: weights of samples, L2, dropout, and the losses of regression. Kernels beside reference."""

import itertools

import numpy as np
import pytest
from conftest import examples, numerical
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import mean_poisson_deviance
from step_cases import BACKENDS, problem, steps

import fastbp
from fastbp import AbsoluteErrorWithLoss, HuberWithLoss, PoissonWithLoss, kernels
from fastbp.layers._activations import ACTIVATION_LAYERS as ACTIVATIONS
from fastbp.layers._losses import LOSS_LAYERS as LOSSES
from fastbp.networks._engines import Architecture, Terms
from fastbp.training._optimizers import OPTIMIZERS, SGD

ALL_TERMS = st.builds(
    Terms,
    weights=st.none() | st.just("some") | st.just("with zeros"),
    l2=st.sampled_from([0.0, 1e-3, 0.5]),
    l2_divided=st.booleans(),
    dropout=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
    first_row=st.sampled_from([0, 1000]),
    loss_parts=st.integers(1, 3),
    log_floor=st.sampled_from([0.0, 1e-16, 0.3]),
)


@examples(120)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.sampled_from(sorted(LOSSES)),
    st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=3, max_size=3),
    st.sampled_from(sorted(OPTIMIZERS)),
    ALL_TERMS,
    st.integers(1, 25),
    st.sampled_from([0.1, 1.0]),
    st.integers(1, 3),
    st.booleans(),
)
def test_steps_agree_with_the_reference(sizes, loss, activations, optimizer, terms, batch, density, threads, mean):
    sizes, activations = tuple(sizes), (*activations[: len(sizes) - 2], "identity")
    given_problem = problem(sizes, loss, density=density)
    rng = np.random.default_rng(1)
    if terms.weights is not None:
        weights = rng.random(60) * (rng.random(60) < 0.5 if terms.weights == "with zeros" else 1)
        terms = terms._replace(weights=weights)
    batches = rng.integers(0, 60, (6, batch))
    architecture = Architecture(sizes, activations, loss, mean)
    rule, found = OPTIMIZERS[optimizer](1e-4), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.engine.step, "PARALLEL_THRESHOLD", 0)
        patch.setattr(kernels.runtime.processors, "_chosen", threads)
        for module in BACKENDS.values():
            with np.errstate(over="ignore", invalid="ignore"):
                found.append(steps(module, given_problem, architecture, batches, rule, terms))
    assume(np.abs(found[0][1]).max() < 1e6)  # counts that exp predicts may run away, and errors with them
    for mine, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-8, atol=1e-9)


def test_what_dropout_leaves_out_is_0_even_where_it_was_nan():
    parameters, x, t = problem((5, 20, 3), "squared_error")
    x[:, 2] = np.nan
    architecture = Architecture((5, 20, 3), ("tanh", "identity"), "squared_error", True)
    found = []
    for module in BACKENDS.values():
        gradient = np.empty_like(parameters)
        module.batch_gradient(
            parameters, architecture, module.prepare_data(x), t, np.arange(4), gradient, Terms(dropout=0.9)
        )
        found.append(np.isnan(gradient))
    np.testing.assert_array_equal(*found)
    assert found[0].any()
    assert not found[0].all()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu"])
@pytest.mark.parametrize("loss", ["cross_entropy", "huber", "poisson", "binary_cross_entropy"])
def test_batch_gradient_is_that_of_central_differences(loss, activation, weighted, dropout, name):
    module, sizes = BACKENDS[name], (5, 7, 4, 3)
    parameters, x, t = problem(sizes, loss)
    data, batch = module.prepare_data(x), np.arange(3, 20)
    terms = Terms(weights=np.linspace(0, 2, 60) if weighted else None, dropout=dropout, seed=5)
    architecture, gradient = Architecture(sizes, (activation, activation, "identity"), loss, True), parameters.copy()

    def loss_at(point):
        return module.batch_gradient(point, architecture, data, t, batch, np.empty_like(point), terms)

    loss_at(parameters)
    module.batch_gradient(parameters, architecture, data, t, batch, gradient, terms)
    tolerance = 2e-6 if loss == "cross_entropy" else 1e-8  # that loss has + 1e-7 in the log, its gradient does not
    np.testing.assert_allclose(gradient, numerical(loss_at, parameters), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("divided", [False, True])
def test_l2_is_in_the_loss_and_in_the_update(name, divided):
    """One step of gradient descent on the loss with l2 / 2 * ΣW², worked out by hand from the step without it."""
    given_problem, sizes, rate = problem((4, 3, 2), "squared_error"), (4, 3, 2), 0.1
    architecture, batches = Architecture(sizes, ("tanh", "identity"), "squared_error", True), np.arange(10)[None]
    plain = steps(BACKENDS[name], given_problem, architecture, batches, SGD(rate), None)
    found = steps(BACKENDS[name], given_problem, architecture, batches, SGD(rate), Terms(l2=0.6, l2_divided=divided))
    l2, W = 0.6 / (10 if divided else 1), given_problem[0].copy()
    W[12:15] = W[21:23] = 0  # b1, b2
    np.testing.assert_allclose(found[0], plain[0] - rate * l2 * W, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found[1], plain[1] + l2 / 2 * (W @ W))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_weight_of_two_is_the_sample_twice(name):
    parameters, x, t = problem((4, 6, 3), "cross_entropy", rows=6)
    architecture = Architecture((4, 6, 3), ("relu", "identity"), "cross_entropy", True)
    twice = steps(BACKENDS[name], (parameters, x, t), architecture, np.array([[0, 1, 1, 2]]), SGD(0.1), None)
    weights = np.array([1.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    once = steps(BACKENDS[name], (parameters, x, t), architecture, np.array([[0, 1, 2, 5]]), SGD(0.1), Terms(weights))
    for mine, expected in zip(once, twice, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)


@pytest.mark.parametrize("name", BACKENDS)
def test_dropout_leaves_out_its_share_and_keeps_the_mean(name):
    """One hidden layer of ones, seen through a second one that adds it up."""
    width, keep = 10_000, 0.7
    parameters = np.concatenate([np.zeros(width), np.ones(width), np.full(width, 1 / width), [0.0]])
    architecture = Architecture((1, width, 1), ("identity", "identity"), "squared_error", False)
    x, t, gradient = np.ones((3, 1)), np.zeros((3, 1)), np.empty_like(parameters)
    means, data = [], BACKENDS[name].prepare_data(x)
    for seed, row in itertools.product(range(4), range(3)):
        terms = Terms(dropout=1 - keep, seed=seed)
        loss = BACKENDS[name].batch_gradient(parameters, architecture, data, t, np.array([row]), gradient, terms)
        means.append(np.sqrt(2 * loss))
        left_out = gradient[2 * width : 3 * width] == 0
        assert left_out.mean() == pytest.approx(1 - keep, abs=0.02)
        np.testing.assert_array_equal(gradient[:width] == 0, left_out)  # dW1: nothing comes back through them
    assert len(set(means)) == len(means)
    assert np.mean(means) == pytest.approx(1, abs=0.01)


X, T = np.array([[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]]), np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("make", [AbsoluteErrorWithLoss, HuberWithLoss, PoissonWithLoss])
def test_layers_of_regression(make, reduction, backend):
    layer, n = make(reduction, backend), 2 if reduction == "mean" else 1
    expected = {
        AbsoluteErrorWithLoss: np.abs(X - T).sum(),
        HuberWithLoss: sum(e * e / 2 if abs(e) <= 1 else abs(e) - 0.5 for e in (X - T).flat),
        PoissonWithLoss: mean_poisson_deviance(T.ravel(), np.exp(X).ravel()) * T.size / 2,
    }[make]
    assert layer.forward(X, T) == pytest.approx(expected / n)
    smooth = X + 1e-3
    layer.forward(smooth, T)
    slope = numerical(lambda x: make(reduction, backend).forward(x.reshape(2, 3), T), smooth.ravel())
    np.testing.assert_allclose(layer.backward().ravel(), slope, atol=1e-7)
    np.testing.assert_allclose(layer.backward(2.0).ravel(), 2 * slope, atol=1e-6)


def test_counts_are_not_negative():
    with pytest.raises(ValueError, match=r"t must be 0 or more, got -1.0"):
        PoissonWithLoss().forward(X, -T)
    network = fastbp.MLP((3, 3), loss="poisson", seed=0)
    with pytest.raises(ValueError, match=r"t must be 0 or more"):
        fastbp.Trainer(network, batch_size=2).fit(X, -T, iterations=1)
