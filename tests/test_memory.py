"""Nothing grows: many training steps, many layers, many networks one after the other; and buffers are nobody else's."""

import gc
import resource
import tracemalloc

import numpy as np
import pytest
from conftest import LONG

import fastbp
from fastbp import MLP, SGD, Trainer

LAYERS = {
    "Affine": lambda: fastbp.Affine(np.ones((20, 10)), np.zeros(10)),
    "BatchNormalization": lambda: fastbp.BatchNormalization(np.ones(20), np.zeros(20)),
    "Convolution": lambda: fastbp.Convolution(np.ones((2, 1, 3, 3)), np.zeros(2)),
    "Pooling": lambda: fastbp.Pooling(2, 2, 2),
    **{name: getattr(fastbp, name) for name in ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Identity", "Dropout")},
}
WITH_LOSS = [name for name in dir(fastbp) if name.endswith("WithLoss")]
X = np.random.default_rng(0).random((50, 20))


def growth(work, times):
    """Bytes of Python's and NumPy's memory that are kept per call, after the first calls."""
    for _ in range(200):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times):
            work()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / times
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.slow
def test_layers_keep_nothing(name):
    """50,000 of each are made and used in a long run."""
    x = X.reshape(10, 1, 10, 10) if name in ("Convolution", "Pooling") else X

    def work():
        layer = LAYERS[name]()
        layer.backward(layer.forward(x))

    assert growth(work, 2000 * LONG) < 16


@pytest.mark.parametrize("name", WITH_LOSS)
@pytest.mark.slow
def test_layers_with_loss_keep_nothing(name):
    t = np.zeros(50, np.int64) if name == "SoftmaxWithLoss" else X

    def work():
        layer = getattr(fastbp, name)()
        layer.forward(X, t)
        layer.backward()

    assert growth(work, 2000 * LONG) < 16


@pytest.mark.slow
def test_networks_keep_nothing():
    assert growth(lambda: MLP((20, 10, 3), seed=0).gradient(X, np.zeros(50, np.int64)), 2000 * LONG) < 16


@pytest.mark.slow
def test_training_steps_keep_nothing():
    """Resident memory over 40,000 steps, a million in a long run, in calls of 2,000."""
    network, labels = MLP((20, 10, 3), seed=0), np.arange(50) % 3
    trainer = Trainer(network, SGD(1e-3), batch_size=10)

    def work():
        trainer.fit(X, labels, iterations=2000, evaluate_every=500, progress=False)

    for _ in range(3):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert growth(work, 20 * LONG) < 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


def test_results_are_not_written_again():
    """Networks of one shape share room inside of calls; what was handed out stays as it is."""
    networks = [MLP((20, 10, 3), seed=seed, dtype="float64") for seed in range(4)]
    kept = [(network.predict(X), *network.gradient(X, np.zeros(50, np.int64)).values()) for network in networks]
    copies = [[array.copy() for array in arrays] for arrays in kept]
    for network in networks:
        Trainer(network, SGD(0.1), batch_size=10).fit(X, np.zeros(50, np.int64), iterations=20, progress=False)
        network.gradient(X[:7], np.zeros(7, np.int64))
    for arrays, before in zip(kept, copies, strict=True):
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)
    together = [array for arrays in kept for array in arrays]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(together) for b in together[:i])
