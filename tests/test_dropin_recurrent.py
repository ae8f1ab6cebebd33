"""LSTM cells of people's own, in the style of the book's second volume: accelerated however they are written, or left."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, outcome

BOOKS = """
import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class LSTM:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]
        self.cache = None

    def forward(self, x, h_prev, c_prev):
        Wx, Wh, b = self.params
        N, H = h_prev.shape
        A = np.dot(x, Wx) + np.dot(h_prev, Wh) + b
        f, g, i, o = A[:, :H], A[:, H : 2 * H], A[:, 2 * H : 3 * H], A[:, 3 * H :]
        f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
        c_next = f * c_prev + g * i
        h_next = o * np.tanh(c_next)
        self.cache = (x, h_prev, c_prev, i, f, g, o, c_next)
        return h_next, c_next

    def backward(self, dh_next, dc_next):
        Wx, Wh, b = self.params
        x, h_prev, c_prev, i, f, g, o, c_next = self.cache
        tanh_c_next = np.tanh(c_next)
        ds = dc_next + (dh_next * o) * (1 - tanh_c_next ** 2)
        dc_prev = ds * f
        di, df, do, dg = ds * g, ds * c_prev, dh_next * tanh_c_next, ds * i
        di *= i * (1 - i)
        df *= f * (1 - f)
        do *= o * (1 - o)
        dg *= 1 - g ** 2
        dA = np.hstack((df, dg, di, do))
        self.grads[0][...] = np.dot(x.T, dA)
        self.grads[1][...] = np.dot(h_prev.T, dA)
        self.grads[2][...] = dA.sum(axis=0)
        return np.dot(dA, Wx.T), np.dot(dA, Wh.T), dc_prev
"""
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
IN_TIME = """

class TimeLSTM:
    def __init__(self, Wx, Wh, b, stateful=False):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]
        self.layers = None
        self.h, self.c = None, None
        self.dh = None
        self.stateful = stateful

    def forward(self, xs):
        Wx, Wh, b = self.params
        N, T, D = xs.shape
        H = Wh.shape[0]
        self.layers = []
        hs = np.empty((N, T, H), dtype='f')
        if not self.stateful or self.h is None:
            self.h = np.zeros((N, H), dtype='f')
        if not self.stateful or self.c is None:
            self.c = np.zeros((N, H), dtype='f')
        for t in range(T):
            layer = LSTM(*self.params)
            self.h, self.c = layer.forward(xs[:, t, :], self.h, self.c)
            hs[:, t, :] = self.h
            self.layers.append(layer)
        return hs

    def backward(self, dhs):
        Wx, Wh, b = self.params
        N, T, H = dhs.shape
        D = Wx.shape[0]
        dxs = np.empty((N, T, D), dtype='f')
        dh, dc = 0, 0
        grads = [0, 0, 0]
        for t in reversed(range(T)):
            layer = self.layers[t]
            dx, dh, dc = layer.backward(dhs[:, t, :] + dh, dc)
            dxs[:, t, :] = dx
            for i, grad in enumerate(layer.grads):
                grads[i] += grad
        for i, grad in enumerate(grads):
            self.grads[i][...] = grad
        self.dh = dh
        return dxs
"""
SOURCES = {"book's": (BOOKS, "LSTM"), "own": (OWN, "Cell")}
STEPS = 4


def numbers(dtype, *shape):
    return (0.3 * np.random.default_rng(sum(shape)).standard_normal(shape)).astype(dtype)


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


def compiled(counts, name):
    """How many calls kernels took."""
    return counts[name].calls - counts[name].passed


@pytest.fixture(autouse=True)
def _all_calls(monkeypatch):
    monkeypatch.setattr("fastbp.dropin.arguments.LEAST_CELL", 0)


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


def changed(*pairs):
    source = BOOKS + IN_TIME
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


SEQUENCES = {
    "the book's": BOOKS + IN_TIME,
    "zeros for the first gradients": changed(
        (
            "dh, dc = 0, 0\n        grads = [0, 0, 0]",
            "dh, dc = np.zeros((N, H), dtype='f'), np.zeros((N, H), dtype='f')",
        ),
        ("                grads[i] += grad", "                self.grads[i][...] += grad"),
        ("        for i, grad in enumerate(grads):\n            self.grads[i][...] = grad\n", ""),
        (
            "        for t in reversed",
            "        for i in range(len(self.grads)):\n            self.grads[i][...] = 0\n        for t in reversed",
        ),
    ),
    "other words": changed(
        (
            "        Wx, Wh, b = self.params\n        N, T, D = xs.shape",
            "        N, T, D = xs.shape\n        Wx, Wh, b = self.params",
        ),
        ("LSTM(*self.params)", "LSTM(Wx, Wh, b)"),
        ("        hs = np.empty((N, T, H), dtype='f')", "        hs = np.zeros((N, T, H), dtype=np.float32)"),
        ("layer.forward(xs[:, t, :], self.h, self.c)", "layer.forward(xs[:, t], self.h, self.c)"),
    ),
    "results of float64": changed(
        ("hs = np.empty((N, T, H), dtype='f')", "hs = np.empty((N, T, H))"),
        ("dxs = np.empty((N, T, D), dtype='f')", "dxs = np.empty((N, T, D))"),
        ("self.h = np.zeros((N, H), dtype='f')", "self.h = np.zeros((N, H))"),
        ("self.c = np.zeros((N, H), dtype='f')", "self.c = np.zeros((N, H))"),
    ),
}
OTHER_SEQUENCES = {
    "backwards in time": changed(("for t in range(T):", "for t in range(T - 1, -1, -1):")),
    "the cell begins anew at each step": changed(
        ("layer.forward(xs[:, t, :], self.h, self.c)", "layer.forward(xs[:, t, :], self.h, self.c * 0)")
    ),
    "a residual connection": changed(("hs[:, t, :] = self.h", "hs[:, t, :] = self.h + xs[:, t, :1]")),
    "steps that print": changed(
        ("            self.layers.append(layer)", "            self.layers.append(layer)\n            print(end='')")
    ),
}
OTHER_WAYS_BACK = {
    "cut off in time": changed(("layer.backward(dhs[:, t, :] + dh, dc)", "layer.backward(dhs[:, t, :] + 0 * dh, dc)")),
    "no gradient of the cell": changed(
        ("layer.backward(dhs[:, t, :] + dh, dc)", "layer.backward(dhs[:, t, :] + dh, 0)")
    ),
    "gradients that are added up": changed(
        ("            self.grads[i][...] = grad\n", "            self.grads[i][...] += grad\n")
    ),
    "the last step's gradient": changed(("                grads[i] += grad", "                grads[i] = grad")),
    "means over the steps": changed(
        ("            self.grads[i][...] = grad\n", "            self.grads[i][...] = grad / T\n")
    ),
}


def trained(made, dtype, of_inputs, stateful, of_gradients=None):
    """Two batches forwards and back, everything that a script may look at."""
    weights = numbers(dtype, 6, 128), numbers(dtype, 32, 128), numbers(dtype, 128)
    layer, seen = made(*weights, stateful=stateful), []
    for scale in (1, 0.5):
        out = layer.forward(numbers(of_inputs, 9, STEPS, 6) * of_inputs(scale))
        seen += [out, layer.h.copy(), layer.c.copy()]
        dx = layer.backward(numbers(of_gradients or out.dtype, 9, STEPS, 32))
        seen += [dx, layer.dh.copy(), *(one.copy() for one in layer.grads)]
        layer.params[0] -= dtype(0.1) * layer.grads[0]
    return seen, layer


def parts_of(layer):
    """What the objects of the steps hold."""
    return [part for one in layer.layers for value in vars(one).values() for part in value]


KINDS = [(np.float32, np.float32, None), (np.float64, np.float64, np.float64), (np.float64, np.float32, None)]
CASES = [
    (style, *kind)
    for style in SEQUENCES
    for kind in KINDS
    if style != "results of float64" or kind[0] == np.float64  # else its h is, and its products are NumPy's
]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("style", "dtype", "of_inputs", "of_gradients"), CASES)
def test_layers_through_time_are_one_call(both, style, dtype, of_inputs, of_gradients, stateful):
    plain, fast, counts = both(SEQUENCES[style])
    (expected, one), (actual, other) = (
        trained(module.TimeLSTM, dtype, of_inputs, stateful, of_gradients) for module in (plain, fast)
    )
    assert compiled(counts, "TimeLSTM.forward") == compiled(counts, "TimeLSTM.backward") == 2
    assert compiled(counts, "LSTM.forward") == 0
    for mine, its in zip(actual, expected, strict=True):
        assert_same(mine, its, style, 1e-5)
    assert vars(other).keys() - {"layers", "_fastbp_steps"} == vars(one).keys() - {"layers"}
    for mine, its in zip(parts_of(other), parts_of(one), strict=True):
        assert_same(mine, its, "layers", 1e-5)


def test_gradients_of_a_wider_dtype_are_the_own_codes(both):
    """float64 numbers made of float32 ones: NumPy's own, to the last bit."""
    plain, fast, counts = both(BOOKS + IN_TIME)
    given = np.float32, np.float32, True, np.float64
    (expected, _), (actual, _) = (trained(module.TimeLSTM, *given) for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, "gradients", 1e-5)
    assert (compiled(counts, "TimeLSTM.forward"), compiled(counts, "TimeLSTM.backward")) == (2, 0)


def test_whoever_has_looked_at_the_steps_may_change_them(both):
    outcomes = []
    for module in both(BOOKS + IN_TIME)[:2]:
        _, layer = trained(module.TimeLSTM, np.float64, np.float64, True)
        layer.forward(numbers("d", 9, STEPS, 6))
        layer.layers[1].cache = tuple(2 * part for part in layer.layers[1].cache)
        outcomes.append([layer.backward(numbers("d", 9, STEPS, 32)), *layer.grads, layer.layers[0].grads[1]])
        copied = pickle.loads(pickle.dumps(vars(layer)["layers"][0].cache))
        outcomes[-1] += copied
    for one, other in zip(*outcomes, strict=True):
        assert_same(one, other, "what was changed", 1e-5)


@pytest.mark.parametrize("what", OTHER_SEQUENCES)
def test_what_goes_through_time_otherwise_is_left(both, what):
    plain, fast, counts = both(OTHER_SEQUENCES[what])
    (expected, _), (actual, _) = (trained(module.TimeLSTM, np.float64, np.float64, True) for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, what, 1e-5)
    assert compiled(counts, "TimeLSTM.forward") == compiled(counts, "TimeLSTM.backward") == 0


@pytest.mark.parametrize("what", OTHER_WAYS_BACK)
def test_other_gradients_through_time_are_left(both, what):
    plain, fast, counts = both(OTHER_WAYS_BACK[what])
    (expected, _), (actual, _) = (trained(module.TimeLSTM, np.float64, np.float64, True) for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, what, 1e-5)
    assert compiled(counts, "TimeLSTM.backward") == 0


def test_a_class_of_steps_that_is_replaced_is_called(both):
    """The layer's own code makes its steps as soon as their class, or a method of it, is another one."""
    plain, fast, counts = both(BOOKS + IN_TIME)
    layers = [
        module.TimeLSTM(*(numbers("d", 6, 128), numbers("d", 32, 128), numbers("d", 128))) for module in (plain, fast)
    ]
    for module, layer in zip((plain, fast), layers, strict=True):
        layer.forward(numbers("d", 3, STEPS, 6))

        def forward(self, x, h, c, own=module.LSTM.forward):
            h, c = own(self, x, h, c)
            return 2 * h, c

        module.LSTM.forward = forward
    results = [layer.forward(numbers("d", 3, STEPS, 6)) for layer in layers]
    assert_same(results[1], results[0], "out", 1e-5)
    assert compiled(counts, "TimeLSTM.forward") == 1
