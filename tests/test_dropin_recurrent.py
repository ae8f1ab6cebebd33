"""LSTM cells of people's own, in the style of the book's second volume: accelerated however they are written, or left."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, outcome
from recurrent_cases import BOOKS, STEPS, compiled, numbers

OWN = """
import numpy as np


class Cell:
    def __init__(self, Wx, Wh, b):
        self.Wx, self.Wh, self.bias = Wx, Wh, b
        self.dWx = self.dWh = self.dbias = None

    @staticmethod
    def _gate(z):
        return np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))

    def forward(self, x, h, c):
        zf, zg, zi, zo = np.split(x @ self.Wx + h @ self.Wh + self.bias, 4, axis=1)
        self.forget, self.new = self._gate(zf), np.tanh(zg)
        self.update, self.out = self._gate(zi), self._gate(zo)
        self.x, self.h, self.c = x, h, c
        self.state = c * self.forget + self.update * self.new
        return np.tanh(self.state) * self.out, self.state

    def backward(self, dh, dc):
        t = np.tanh(self.state)
        ds = dh * self.out * (1 - t * t) + dc
        dz = np.concatenate([
            ds * self.c * self.forget * (1 - self.forget), ds * self.update * (1 - self.new * self.new),
            ds * self.new * self.update * (1 - self.update), dh * t * self.out * (1 - self.out),
        ], axis=1)
        self.dWx, self.dWh, self.dbias = self.x.T @ dz, self.h.T @ dz, np.sum(dz, axis=0)
        return dz @ self.Wx.T, dz @ self.Wh.T, ds * self.forget
"""
SOURCES = {"book's": (BOOKS, "LSTM"), "own": (OWN, "Cell")}


def sequence(made, dtype, of_inputs, rows=9, inputs=6, units=32):
    """Some steps forwards and back, as a TimeLSTM makes them: everything that a script may look at."""
    weights = numbers(dtype, inputs, 4 * units), numbers(dtype, units, 4 * units), numbers(dtype, 4 * units)
    xs, h, c = numbers(of_inputs, rows, STEPS, inputs), np.zeros((rows, units), "f"), np.zeros((rows, units), "f")
    layers, seen = [], []
    for time in range(STEPS):
        layer = made(*weights)
        h, c = layer.forward(xs[:, time, :], h, c)
        layers.append(layer)
        seen += [h.copy(), c.copy()]
    dhs, dh, dc = numbers(dtype, rows, STEPS, units), 0, 0
    for time in reversed(range(STEPS)):
        dx, dh, dc = layers[time].backward(dhs[:, time, :] + dh, dc)
        seen += [dx, dh.copy(), dc.copy()]
    for layer in layers:
        for value in vars(layer).values():
            seen += value if isinstance(value, list | tuple) else [value]
    return seen, weights


@pytest.fixture(autouse=True)
def _all_calls(monkeypatch):
    monkeypatch.setattr("fastbp.dropin.objects.arguments.LEAST_CELL", 0)


@pytest.mark.parametrize("style", SOURCES)
@pytest.mark.parametrize(
    ("dtype", "of_inputs"), [("float32", "float32"), ("float64", "float64"), ("float64", "float32")]
)
def test_cells_of_any_style_are_accelerated_with_the_same_numbers(both, style, dtype, of_inputs):
    source, name = SOURCES[style]
    plain, fast, counts = both(source)
    (expected, _), (actual, _) = (sequence(getattr(module, name), dtype, of_inputs) for module in (plain, fast))
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, name, 1e-5 if dtype == "float32" else 1e-11)
    assert compiled(counts, f"{name}.forward") == compiled(counts, f"{name}.backward") == STEPS


@pytest.mark.parametrize("style", SOURCES)
def test_weights_that_are_changed_in_place_are_the_layers(both, style):
    source, name = SOURCES[style]
    outcomes = []
    for module in both(source)[:2]:
        seen, weights = sequence(getattr(module, name), "float64", "float64")
        for one in weights:
            one *= 0.5
        outcomes.append((seen, getattr(module, name)(*weights).forward(*(numbers("d", 3, 6), *numbers("d", 2, 3, 32)))))
    assert_same(outcomes[1][1], outcomes[0][1], "h, c")


def replaced(*pairs):
    source = BOOKS
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


OTHERS = {
    "gates in another order": replaced(("f, g, i, o = A[:, :H], A[:, H :", "i, g, f, o = A[:, :H], A[:, H :")),
    "no tanh of the cell": replaced(("h_next = o * np.tanh(c_next)", "h_next = o * c_next")),
    "gates that are coupled": replaced(("f * c_prev + g * i", "f * c_prev + g * (1 - f)")),
    "a forget gate with a bias of 1": replaced(("sigmoid(f)", "sigmoid(f + 1)")),
    "no bias": replaced((" + b\n", "\n")),
    "a hard sigmoid": replaced(("1 / (1 + np.exp(-x))", "np.clip(0.2 * x + 0.5, 0, 1)")),
    "calls that are counted": replaced(
        ("        N, H =", "        self.calls = getattr(self, 'calls', 0) + 1\n        N, H =")
    ),
    "a cell that is clipped": replaced(
        ("        h_next =", "        c_next = np.clip(c_next, -1, 1)\n        h_next =")
    ),
}
OTHER_GRADIENTS = {
    "the gradient of c left out": replaced(("ds = dc_next + (", "ds = (")),
    "without the derivative of tanh": replaced((" * (1 - tanh_c_next ** 2)", "")),
    "means over the rows": replaced(("dA.sum(axis=0)", "dA.mean(axis=0)")),
    "gradients that are added up": replaced(("self.grads[1][...] =", "self.grads[1][...] +=")),
    "a truncated gradient": replaced(("np.dot(dA, Wh.T), dc_prev", "np.dot(dA, Wh.T) * 0, dc_prev")),
    "a clipped gradient": replaced(("        self.grads[0]", "        dA = np.clip(dA, -1, 1)\n        self.grads[0]")),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_another_cell_is_left(both, what):
    plain, fast, counts = both(OTHERS[what])
    (expected, _), (actual, _) = (sequence(module.LSTM, "float64", "float64") for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, what, 0.0)
    assert compiled(counts, "LSTM.forward") == compiled(counts, "LSTM.backward") == 0


@pytest.mark.parametrize("what", OTHER_GRADIENTS)
def test_a_backward_with_another_gradient_is_left(both, what):
    plain, fast, counts = both(OTHER_GRADIENTS[what])
    (expected, _), (actual, _) = (sequence(module.LSTM, "float64", "float64") for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, what, 1e-11)
    assert compiled(counts, "LSTM.backward") == 0


@pytest.mark.parametrize("where", ["x", "h", "c", "Wx"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_what_is_not_finite_or_overflows_warns_as_python_does(both, where, value):
    outcomes = []
    for module in both(BOOKS)[:2]:
        layer = module.LSTM(numbers("f", 6, 32), numbers("f", 8, 32), numbers("f", 32))
        given = {"x": numbers("f", 5, 6), "h": numbers("f", 5, 8), "c": numbers("f", 5, 8)}
        layer.forward(*given.values())
        given["Wx"] = layer.params[0]
        given[where][1, 2] = value
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            results = layer.forward(given["x"], given["h"], given["c"])
            gradients = layer.backward(numbers("f", 5, 8), numbers("f", 5, 8))
        outcomes.append((sorted(str(one.message) for one in shown), *results, *gradients, *layer.grads))
    assert outcomes[1][0] == outcomes[0][0]
    for one, other in zip(outcomes[1][1:], outcomes[0][1:], strict=True):
        assert_same(one, other, where, 1e-4)


@pytest.mark.parametrize(
    "given",
    [
        (np.zeros((4, 6), "i"), np.zeros((4, 8), "f"), np.zeros((4, 8), "f")),
        (np.zeros((4, 6), "f"), np.zeros((3, 8), "f"), np.zeros((4, 8), "f")),
        (np.zeros((4, 7), "f"), np.zeros((4, 8), "f"), np.zeros((4, 8), "f")),
        (np.zeros((4, 6), "d"), np.zeros((4, 8), "f"), np.zeros((4, 8), "f")),
        (np.zeros((4, 6), "f"), np.zeros((4, 8), "f"), np.zeros((1, 8), "f")),
        (np.zeros((4, 6), "f"), np.zeros((4, 8), "f"), 0),
        (np.zeros((0, 6), "f"), np.zeros((0, 8), "f"), np.zeros((0, 8), "f")),
    ],
)
def test_odd_arguments_give_what_the_own_code_gives(both, given):
    outcomes = []
    for module in both(BOOKS)[:2]:
        layer = module.LSTM(numbers("f", 6, 32), numbers("f", 8, 32), numbers("f", 32))
        layer.forward(numbers("f", 5, 6), numbers("f", 5, 8), numbers("f", 5, 8))
        outcomes.append(
            outcome(layer.forward, *(np.copy(one) if isinstance(one, np.ndarray) else one for one in given))
        )
    assert_same(outcomes[1], outcomes[0], "h, c", 1e-5)
