"""Statements of a method for arrays of two shapes, W and b above all: two programs, and all that shows is Python's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fusing_cases import HEAD, assert_equal, plain_and_accelerated, state_of

OF_A_LAYER = (
    HEAD
    + """class Layer:
    def __init__(self, W, b):
        self.W, self.b, self.mW, self.mb, self.t = W, b, W * 0, b * 0, 0

    def update(self, dW, db, lr=0.01):
"""
)
BOTH = {
    "one after the other": """
        self.mb = 0.9 * self.mb + db
        self.b -= lr * self.mb
        self.mW = 0.9 * self.mW + dW
        self.W -= lr * self.mW
""",
    "of numbers that both need": """
        self.t += 1
        rate = lr * np.sqrt(1 - 0.999 ** self.t)
        self.mW *= 0.9
        self.mb *= 0.9
        self.mW += 0.1 * dW * dW
        self.mb += 0.1 * db * db
        self.W -= rate * dW / np.sqrt(self.mW + 1e-7)
        self.b -= rate * db / np.sqrt(self.mb + 1e-7)
        self.rate = rate
""",
}  # fmt: skip


@pytest.fixture
def both(tmp_path):
    return lambda body: plain_and_accelerated(tmp_path, OF_A_LAYER + body)


@pytest.mark.parametrize("b", [(30,), (1, 30), (30, 1)])
@pytest.mark.parametrize("name", BOTH)
def test_statements_for_arrays_of_two_shapes_are_two_programs(both, name, b):
    plain, fast, counts = both(BOTH[name])
    rng = np.random.default_rng(3)
    layers = [module.Layer(np.ones((40, 30)), np.ones(b)) for module in (plain, fast)]
    for _ in range(3):
        dW, db = rng.standard_normal((40, 30)), rng.standard_normal(b)
        kept = [(layer.W, layer.b) for layer in layers]
        for layer in layers:
            layer.update(dW.copy(), db.copy())
        assert all(layer.W is W and layer.b is b for layer, (W, b) in zip(layers, kept, strict=True))
        assert_equal(*[state_of(one) for one in reversed(layers)])
    assert counts["Layer.update"].calls > 0 == counts["Layer.update"].passed


def test_of_two_programs_what_is_too_small_or_of_another_dtype_is_pythons(both, monkeypatch):
    plain, fast, counts = both(BOTH["one after the other"])
    monkeypatch.setattr("fastbp.dropin.networks.fusing.LEAST_NUMBERS", 100)
    monkeypatch.setattr("fastbp.dropin.networks.fusing.LEAST_NUMBERS_OF_FEW", 100)
    for dtype in (np.float64, np.float32):
        layers = [module.Layer(np.ones((40, 30)), np.ones(30, dtype)) for module in (plain, fast)]
        for layer in layers:
            layer.update(np.full((40, 30), 0.5), np.full(30, 0.25))
        assert_equal(*[state_of(one) for one in reversed(layers)])
    assert counts["Layer.update"].passed == 1


@pytest.mark.parametrize("which", ["dW", "db"])
def test_of_two_programs_warnings_and_errors_are_pythons(both, which):
    plain, fast, _ = both(BOTH["of numbers that both need"])
    for value, error in ((np.inf, None), (1e200, None), ("text", TypeError), (np.ones((7, 7)), ValueError)):
        seen, states = [], []
        for module in (plain, fast):
            layer, given = module.Layer(np.ones((40, 30)), np.ones(30)), {"dW": np.ones((40, 30)), "db": np.ones(30)}
            if isinstance(value, float):
                given[which].flat[3] = value
            else:
                given[which] = value
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                try:
                    layer.update(**given)
                    raised = None
                except Exception as exception:
                    raised = type(exception), str(exception)
            assert raised is None if error is None else raised[0] is error
            seen.append(({(str(one.message), one.category, one.lineno) for one in caught}, raised))
            states.append(state_of(layer))
        assert seen[0] == seen[1]
        assert_equal(*reversed(states))


def test_arrays_of_two_shapes_that_share_memory_are_pythons(both):
    plain, fast, counts = both(BOTH["one after the other"])
    states = []
    for module in (plain, fast):
        whole = np.arange(1200.0)
        layer = module.Layer(whole.reshape(40, 30), whole[30:60])
        layer.update(np.ones((40, 30)), np.ones(30))
        states.append(state_of(layer))
    assert_equal(*reversed(states))
    assert counts["Layer.update"].passed == 1
