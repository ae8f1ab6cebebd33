"""Layers that choose by a text, losses that forget or multiply, and running means by formulas of their own."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_layers_agree, taken


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


NAMED = """
import numpy as np


class Activation:
    def __init__(self, name):
        self.name = name

    def forward(self, x):
        self.input = x
        self.output = self.of(x, self.name)
        return self.output

    def of(self, x, name):
        if name in ("relu", "rectifier"):
            return np.maximum(0.0, x)
        return 1.0 / (1.0 + np.exp(-x))

    def backward(self, grad_output):
        if self.name == "relu" or self.name == "rectifier":
            return grad_output * (self.input > 0)
        s = self.output
        return grad_output * s * (1.0 - s)


class Loss:
    def __init__(self, reduction):
        self.reduction = reduction

    def forward(self, x, y):
        prob = np.exp(x - np.max(x, axis=1, keepdims=True))
        prob = prob / np.sum(prob, axis=1, keepdims=True)
        loss = -np.sum(y * np.log(prob + 1e-8))
        if self.reduction == "mean":
            loss /= len(x)
        self.cache = prob, y
        return loss

    def backward(self):
        prob, y = self.cache
        dx = prob - y
        if self.reduction == "mean":
            dx /= prob.shape[0]
        self.cache = None
        return dx
"""


@pytest.mark.parametrize(("name", "other"), [("relu", "sigmoid"), ("sigmoid", "relu")])
def test_what_a_text_chooses_is_accelerated_where_it_is_the_same_text(both, name, other):
    """The objects of a class may be of several kinds: the first that is called is tried."""
    plain, fast, counts = both(NAMED)
    pairs = [[module.Activation(one) for module in (plain, fast)] for one in (name, other)]
    for layers in (*pairs, *pairs):
        assert_layers_agree(layers, [("forward", normal(9, 4)), ("backward", normal(9, 4))])
    assert taken(counts, "Activation.forward") == taken(counts, "Activation.backward") == 2
    for layer in pairs[0]:
        layer.name = other
    assert_layers_agree(pairs[0], [("forward", normal(9, 4)), ("backward", normal(9, 4))])
    assert taken(counts, "Activation.forward") == 2


@pytest.mark.parametrize(("reduction", "calls"), [("mean", 2), ("sum", 0)])
def test_a_loss_with_a_choice_of_reduction_that_forgets_what_it_kept(both, reduction, calls):
    """The sum of losses is known, its gradient is not."""
    plain, fast, counts = both(NAMED)
    layers, y = [module.Loss(reduction) for module in (plain, fast)], np.eye(4)[np.arange(9) % 4]
    assert_layers_agree(layers, [("forward", normal(9, 4), y), ("backward",)] * 2)
    assert (taken(counts, "Loss.forward"), taken(counts, "Loss.backward")) == (2, calls)


KEEPS_BOTH = """
import numpy as np


class ReLU:
    def forward(self, x):
        self.input = x
        self.output = np.maximum(0.0, x)
        return self.output

    def backward(self, dout):
        out = self.output
        return dout * (self.input > 0)
"""


def test_what_keeps_its_input_and_its_output_may_read_either(both):
    plain, fast, counts = both(KEEPS_BOTH)
    assert_layers_agree([plain.ReLU(), fast.ReLU()], [("forward", normal(9, 4)), ("backward", normal(9, 4))])
    assert taken(counts, "ReLU.backward") == 1


MULTIPLIES = """
import numpy as np


class Loss:
    def forward(self, x, t):
        self.t, self.y = t, np.exp(x - x.max(axis=1, keepdims=True))
        self.y = self.y / self.y.sum(axis=1, keepdims=True)
        labels = t.argmax(axis=1) if t.size == self.y.size else t
        return -np.sum(np.log(self.y[np.arange(len(x)), labels] + 1e-7)) / len(x)

    def backward(self, dout=1):
        if self.t.size == self.y.size:
            dx = (self.y - self.t) / len(self.t)
        else:
            dx = self.y.copy()
            dx[np.arange(len(self.t)), self.t] -= 1
            dx /= len(self.t)
        return dx * dout
"""


def test_a_loss_that_multiplies_with_what_it_is_given(both):
    plain, fast, counts = both(MULTIPLIES)
    layers, labels = [module.Loss() for module in (plain, fast)], np.arange(9) % 4
    whole = np.eye(4)[labels]
    for t in (labels, labels.astype(np.uint8), whole, whole.astype(int), whole.astype(np.float32)):
        for dout in ((), (1,), (1.0,), (2.5,)):
            assert_layers_agree(layers, [("forward", normal(9, 4), t), ("backward", *dout)])
    assert taken(counts, "Loss.backward") == 15  # 2.5 is for its own method


MOVING = """
import numpy as np


class BatchNorm:
    def __init__(self, gamma, beta):
        self.gamma, self.beta, self.rate, self.mean, self.var = gamma, beta, 0.1, None, None

    def forward(this, x, training=True):
        if this.mean is None:
            this.mean, this.var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        if training:
            m, momentum = x.mean(axis=0), x.var(axis=0)
            this.xc, this.std = x - m, np.sqrt(momentum + 1e-5)
            this.xn = this.xc / this.std
            FORMULAS
            return this.gamma * this.xn + this.beta
        return this.gamma * (x - this.mean) / np.sqrt(this.var + 1e-5) + this.beta

    def backward(self, dout):
        count = len(dout)
        self.dbeta, self.dgamma = dout.sum(axis=0), (self.xn * dout).sum(axis=0)
        dxn = self.gamma * dout
        return (count * dxn - dxn.sum(axis=0) - self.xn * (dxn * self.xn).sum(axis=0)) / count / self.std
"""
FORMULAS = {
    "a difference": "this.mean += this.rate * (m - this.mean); this.var = this.var - this.rate * (this.var - momentum)",
    "a mistake": "this.mean = this.rate * this.mean * (1 - this.rate) * m; this.var = this.rate * this.var * momentum",
    "other numbers": "this.mean = 0.2 * this.mean + 0.8 * m; this.var = 0.5 * (momentum + this.var)",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_running_means_may_be_kept_by_any_formula(both, name):
    formulas = FORMULAS[name].replace("this.mean += ", "this.mean = this.mean + ")
    plain, fast, counts = both(MOVING.replace("FORMULAS", formulas))
    layers = [module.BatchNorm(normal(4), normal(4)) for module in (plain, fast)]
    calls = [("forward", normal(9, 4), True), ("backward", normal(9, 4)), ("forward", normal(7, 4), False)]
    assert_layers_agree(layers, calls * 2)
    assert taken(counts, "BatchNorm.forward") == 4
    assert taken(counts, "BatchNorm.backward") == 2
