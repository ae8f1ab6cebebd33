"""The MNIST recipe, a quarter of it (2,400 iterations, four evaluations): the textbook's layer loop beside fastbp."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import MLP, SGD, Trainer
from fastbp.datasets import load_mnist

from . import textbook

ITERATIONS = 2400
CONTENDERS = ("textbook", "numpy:float64", "numba:float64", "numba:float32")


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


def contender(name, data, iterations):
    """A function that trains from the same start, and returns the accuracies after the first update."""
    if name == "textbook":
        parameters = MLP((784, 50, 10), dtype="float64", backend="numpy", seed=0).params
        one_hot = [(x, np.eye(10)[t]) for x, t in data]
        return lambda: textbook.train(parameters, *one_hot, iterations)[1][0]
    backend, dtype = name.split(":")
    train, test = data

    def run():
        trainer = Trainer(MLP((784, 50, 10), dtype=dtype, backend=backend, seed=0), SGD(0.1))
        history = trainer.fit(*train, iterations=iterations, validation=test, progress=False)
        return history.evaluations[0].train_accuracy, history.evaluations[0].test_accuracy

    return run


@pytest.mark.benchmark(group="recipe: 2,400 iterations and four evaluations of 70,000 images")
@pytest.mark.parametrize("name", CONTENDERS)
def test_recipe(benchmark, mnist, name):
    run = contender(name, mnist, 10 if benchmark.disabled else ITERATIONS)
    expected = textbook_accuracies(mnist)
    np.testing.assert_allclose(run(), expected, atol=0 if name.endswith("64") else 1e-3)  # and compiles
    benchmark.pedantic(run, rounds=3)


def textbook_accuracies(data):
    parameters = MLP((784, 50, 10), dtype="float64", backend="numpy", seed=0).params
    return textbook.train(parameters, *[(x, np.eye(10)[t]) for x, t in data], 1)[1][0]
