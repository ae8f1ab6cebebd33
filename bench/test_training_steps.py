"""Whole training steps over the grid of networks, numba beside numpy: one call that makes several updates."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import MLP, SGD
from fastbp._activations import ACTIVATIONS

from .peers import GRID

STEPS = 5
DEEP = (128, 100, 100, 10), 100  # sizes, batch: so small that the time of the activations shows
NAMES = ["-".join(map(str, sizes)) + f", batch {batch}" for sizes, batch in GRID]


def training(backend, dtype, sizes, batch, activation="relu"):
    """A function that makes STEPS updates and returns their losses."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2 * batch, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], 2 * batch)
    network = MLP(sizes, activation, weight_init_std="he", dtype=dtype, backend=backend, seed=0)
    data, batches = network._kernels.prepare_data(x), rng.integers(0, len(x), (STEPS, batch))

    def steps():
        losses = np.empty(STEPS)
        network._kernels.train_steps(
            network.parameters, network.architecture, (data, t), batches, SGD(1e-3).rule,
            np.empty((0, network.parameters.size), dtype), (losses, np.zeros(1, np.int64)),
        )  # fmt: skip
        return losses

    return steps


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sizes", "batch"), GRID, ids=NAMES)
def test_training_steps(benchmark, sizes, batch, dtype, backend):
    _compare(benchmark, backend, dtype, sizes, batch)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_steps_with_other_activations(benchmark, activation, dtype, backend):
    _compare(benchmark, backend, dtype, *DEEP, activation)


def _compare(benchmark, backend, dtype, sizes, batch, activation="relu"):
    first = [training(name, dtype, sizes, batch, activation)() for name in ("numpy", "numba")]
    np.testing.assert_allclose(*first, rtol=1e-12 if dtype == "float64" else 1e-4)
    benchmark.group = f"{STEPS} steps of {'-'.join(map(str, sizes))}, {activation}, batch {batch}, {dtype}"
    benchmark(training(backend, dtype, sizes, batch, activation))
