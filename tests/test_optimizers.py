"""Optimizers: the formulas on arrays, dicts and numbers; the trajectories of the sources; who remembers what."""

import copy
import gc
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop, Trainer
from fastbp.training._optimizers import OPTIMIZERS

BACKENDS = ("numpy", "numba")


class Book:
    """The update rules as the book writes them, one parameter."""

    def __init__(self):
        self.v = self.h = self.m = self.s = self.iter = 0

    def momentum(self, p, g, lr=0.01, momentum=0.9):
        self.v = momentum * self.v - lr * g
        return p + self.v

    def nesterov(self, p, g, lr=0.01, momentum=0.9):
        p = p + momentum * momentum * self.v - (1 + momentum) * lr * g
        self.v = momentum * self.v - lr * g
        return p

    def adagrad(self, p, g, lr=0.01):
        self.h = self.h + g * g
        return p - lr * g / (np.sqrt(self.h) + 1e-7)

    def rmsprop(self, p, g, lr=0.01, decay_rate=0.99):
        self.h = self.h * decay_rate + (1 - decay_rate) * g * g
        return p - lr * g / (np.sqrt(self.h) + 1e-7)

    def adam(self, p, g, lr=0.001, beta1=0.9, beta2=0.999):
        self.iter += 1
        rate = lr * np.sqrt(1.0 - beta2**self.iter) / (1.0 - beta1**self.iter)
        self.m = self.m + (1 - beta1) * (g - self.m)
        self.s = self.s + (1 - beta2) * (g**2 - self.s)
        return p - rate * self.m / (np.sqrt(self.s) + 1e-7)

    def adamw(self, p, g):
        return self.adam(p * (1 - 0.001 * 0.01), g)

    def sgd(self, p, g, lr=0.01):
        return p - lr * g


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_arrays_move_as_in_the_book(name, backend, dtype):
    optimizer, book = OPTIMIZERS[name](backend=backend), Book()
    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((3, 4)).astype(dtype)}
    before, expected = params["W"], params["W"].astype(np.float64)
    for _ in range(4):
        gradient = rng.standard_normal((3, 4)).astype(dtype)
        optimizer.update(params, {"W": gradient})
        expected = getattr(book, name)(expected, gradient.astype(np.float64))
    assert params["W"] is before
    tolerance = {"float64": 1e-14, "float32": 1e-6, "float16": 5e-3}[dtype]
    np.testing.assert_allclose(params["W"], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_move_as_in_the_book(name):
    alone, together, book = OPTIMIZERS[name](), OPTIMIZERS[name](), Book()
    value, params, expected = 3, {"x": 3}, 3.0
    for gradient in (1, -2.5, 0.25):
        value = alone.update(value, gradient)
        assert together.update(params, {"x": gradient}) is None
        expected = getattr(book, name)(expected, gradient)
        assert type(value) is float
        assert type(params["x"]) is float
        np.testing.assert_allclose([value, params["x"]], expected, rtol=1e-14)


def test_a_single_array_gives_a_new_one():
    optimizer, x = Momentum(0.5), np.array([1.0, 2.0])
    moved = optimizer.update(x, np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_array_equal(moved, [0.5, 1.5])
    np.testing.assert_allclose(optimizer.update(moved, np.zeros(2)), [0.05, 1.05], rtol=1e-14)


def path(x_optimizer, y_optimizer, steps=100):
    """z = x²/20 + y², from (8, 1), before each step; where it ends."""
    x, y, z = 8, 1, []
    for _ in range(steps):
        z.append(x**2 / 20 + y**2)
        x, y = x_optimizer.update(x, x / 10), y_optimizer.update(y, 2 * y)
    return z, x, y


def test_the_path_of_gradient_descent():
    z, x, y = path(SGD(0.9), SGD(0.9))
    np.testing.assert_allclose(z[:4], [4.2, 3.28992, 2.603998752, 2.0793256065312], rtol=1e-12)
    np.testing.assert_allclose([x, y], [6.41548094072586e-4, 2.03703597633e-10], rtol=1e-11)


def test_the_path_of_one_adagrad_for_both():
    one = AdaGrad(1, 1e-7)
    z, x, y = path(one, one)
    np.testing.assert_allclose(z[:3], [4.2, 2.4551156774125, 2.2385077516373], rtol=3e-14)
    np.testing.assert_allclose(x, 0.30981671360121, rtol=1e-12)
    np.testing.assert_allclose(y, 3.0996e-44, rtol=1e-4)


def test_the_path_of_an_adagrad_for_each():
    z, x, y = path(AdaGrad(1, 1e-7), AdaGrad(1, 1e-7))
    np.testing.assert_allclose(z[:3], [4.2, 2.4500000874999923, 2.01072830475], rtol=1e-12)
    np.testing.assert_allclose(x, 0.0451431949928, rtol=1e-11)
    assert y == pytest.approx(0, abs=1e-15)
    params = {"x": 8, "y": 1}
    keyed = AdaGrad(1, 1e-7)
    for _ in range(100):
        keyed.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
    assert params == {"x": x, "y": y}  # by key, each has its own


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trainer_does_what_the_loop_of_updates_does(name, backend):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((60, 6)), rng.integers(0, 3, 60)
    networks = [MLP((6, 5, 3), "tanh", dtype="float64", backend=backend, seed=0) for _ in range(2)]
    history = Trainer(networks[0], OPTIMIZERS[name](0.01), batch_size=10, seed=4).fit(
        x, t, iterations=30, progress=False
    )
    optimizer, random = OPTIMIZERS[name](0.01), np.random.RandomState(4)
    for iteration in range(30):
        rows = random.choice(60, 10)
        gradient = networks[1].gradient(x[rows], t[rows])
        assert history.losses[iteration] == pytest.approx(networks[1].last_layer.loss, rel=1e-12)
        optimizer.update(networks[1].params, gradient)
    np.testing.assert_allclose(networks[0].parameters, networks[1].parameters, rtol=0, atol=1e-12)


def test_a_second_fit_goes_on_where_the_first_ended():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((60, 6)), rng.integers(0, 3, 60)
    parameters = []
    for parts in ((40,), (7, 33)):
        network = MLP((6, 5, 3), dtype="float64", seed=0)
        trainer = Trainer(network, Adam(0.01), batch_size=10, seed=4)
        for iterations in parts:
            trainer.fit(x, t, iterations=iterations, progress=False)
        assert trainer.optimizer.steps == 40
        parameters.append(network.parameters)
    np.testing.assert_allclose(*parameters, rtol=0, atol=1e-15)


def test_networks_do_not_mix_their_memories_silently():
    optimizer, first = Adam(), MLP((4, 3, 2), seed=0)
    gradients = {key: np.ones_like(value) for key, value in first.params.items()}
    optimizer.update(first.params, gradients)
    second = MLP((4, 3, 2), seed=1)
    before = second.parameters.copy()
    with pytest.raises(ValueError, match="make one optimizer for each network"):
        optimizer.update(second.params, gradients)
    np.testing.assert_array_equal(second.parameters, before)
    data = np.ones((2, 4)), [0, 1]
    Trainer(first, optimizer, batch_size=1).fit(*data, iterations=1, progress=False)
    trainer = Trainer(second, optimizer, batch_size=1)
    with pytest.raises(ValueError, match="make one optimizer for each network"):
        trainer.fit(*data, iterations=1, progress=False)
    SGD().update(second.params, gradients)  # remembers nothing: one for all is fine


def test_an_array_that_takes_the_place_of_another_keeps_its_memory():
    optimizer, params = Momentum(1.0, 0.5), {"W": np.zeros(2)}
    optimizer.update(params, {"W": np.ones(2)})
    params["W"] = params["W"] * 1  # as `params[key] = params[key] - ...` does
    gc.collect()
    optimizer.update(params, {"W": np.zeros(2)})
    np.testing.assert_array_equal(params["W"], [-1.5, -1.5])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_remembers_for_itself(again):
    optimizer = Adam(0.1)
    optimizer.update({"W": np.zeros(2)}, {"W": np.ones(2)})
    twin, results = again(optimizer), []
    for one in (optimizer, twin):
        params = {"W": np.zeros(2)}
        one.update(params, {"W": np.full(2, 0.5)})
        results.append(params["W"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Momentum(0.1, 1.0), ValueError, "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: Nesterov(0.1, -0.1), ValueError, "momentum must be a finite number of at least 0"),
        (lambda: Adam(beta2="high"), TypeError, "beta2 must be a number, got 'high'"),
        (lambda: RMSprop(decay_rate=2), ValueError, "decay_rate must be at least 0 and below 1, got 2"),
        (lambda: AdaGrad(epsilon=np.nan), ValueError, "epsilon must be a finite number"),
        (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay must be a finite number of at least 0"),
        (lambda: SGD().update({"x": "8"}, {"x": 1}), TypeError, r"params\['x'\] must be an array of real numbers"),
        (lambda: SGD().update(np.ones(2), np.ones(3)), ValueError, r"grads must have the shape \(2,\)"),
        (lambda: SGD().update({"x": 1.0}, {"y": 1.0}), KeyError, "x"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_shape_that_changed_is_named():
    optimizer = Momentum()
    optimizer.update(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"has shape \(3,\), but this Momentum has updated one of shape \(2,\)"):
        optimizer.update(np.ones(3), np.ones(3))


def test_all_optimizers_are_exported():
    assert {cls.__name__ for cls in OPTIMIZERS.values()} <= set(fastbp.__all__)
