"""Training steps of both backends, for tests that compare them."""

import itertools

import numpy as np

from fastbp import kernels, reference

BACKENDS = {"numpy": reference, "numba": kernels}


def problem(sizes, loss, dtype="float64", rows=60, seed=0, density=1.0):
    rng = np.random.default_rng(seed)
    parameters = (rng.standard_normal(sum((i + 1) * o for i, o in itertools.pairwise(sizes))) * 0.2).astype(dtype)
    x = rng.standard_normal((rows, sizes[0])).astype(dtype)
    x[rng.random(x.shape) > density] = 0
    if loss == "cross_entropy":
        return parameters, x, rng.integers(0, sizes[-1], rows)
    t = rng.random((rows, sizes[-1])) * (1 if loss == "binary_cross_entropy" else 4)
    return parameters, x, np.where(rng.random(t.shape) < 0.3, 0, t).astype(dtype)


def steps(module, problem, architecture, batches, rule, terms):
    parameters, x, t = problem
    parameters, losses, done = parameters.copy(), np.zeros(len(batches)), np.zeros(1, np.int64)
    state = np.zeros((rule.slots, len(parameters)), parameters.dtype)
    data, record = (module.prepare_data(x), t), (losses, done)
    module.train_steps(parameters, architecture, data, batches, rule.rule, state, record, terms)
    assert done[0] == len(batches)
    return parameters, losses
