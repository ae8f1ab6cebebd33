"""Layers that go through time by an LSTM's steps: one call of them all, with everything that anybody can see."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from dropin_cases import assert_same, define, outcome
from recurrent_cases import BOOKS, IN_TIME, STEPS, compiled, numbers

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor


@pytest.fixture(autouse=True)
def _all_calls(monkeypatch):
    monkeypatch.setattr("fastbp.dropin.objects.arguments.LEAST_CELL", 0)


def changed(*pairs):
    source = BOOKS + IN_TIME
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new, 1)
    return source


SEQUENCES = {
    "the book's": BOOKS + IN_TIME,
    "zeros for the first gradients": changed(
        (
            "dh, dc = 0, 0\n        grads = [0, 0, 0]",
            "dh, dc = np.zeros((N, H), dtype='f'), np.zeros((N, H), dtype='f')",
        ),
        ("                grads[i] += grad", "                self.grads[i][...] += grad"),
        (("        for i, grad in enumerate(grads):\n            self.grads[i][...] = grad\n"), ""),
        (
            "        for t in reversed",
            ("        for i in range(len(self.grads)):\n            self.grads[i][...] = 0\n        for t in reversed"),
        ),
    ),
    "other words": changed(
        (
            "        Wx, Wh, b = self.params\n        N, T, D = xs.shape",
            "        N, T, D = xs.shape\n        Wx, Wh, b = self.params",
        ),
        ("LSTM(*self.params)", "LSTM(Wx, Wh, b)"),
        ("grads = [0, 0, 0]", "grads = [0 for _ in range(len(self.grads))]"),
        ("[np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]", "[np.zeros_like(one) for one in self.params]"),
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
    "a base class whose objects draw random numbers": changed(
        (
            "class LSTM:",
            "class Base:\n    def __init__(self, *weights):\n"
            "        self.set(*weights)\n        np.random.rand()\n\n\n"
            "class LSTM(Base):",
        ),
        (
            "    def __init__(self, Wx, Wh, b):\n        self.params",
            "    def set(self, Wx, Wh, b):\n        self.params",
        ),
    ),
    "another method of the steps": changed(
        ("            self.layers.append(layer)", "            self.layers.append(layer)\n            layer.note()"),
        (
            "class TimeLSTM:",
            ("def note(self, seen=[]):\n    seen.append(self)\n\n\nLSTM.note = note\n\n\nclass TimeLSTM:"),
        ),
    ),
    "something at one step": changed(
        (
            "            self.layers.append(layer)",
            (
                "            self.layers.append(layer)\n            if t == self.at:\n"
                "                self.h = self.h * 0"
            ),
        ),
        ("        self.dh = None\n", "        self.dh = None\n        self.at = 5\n"),
    ),
    "nothing from a step on": changed(("hs[:, t, :] = self.h", "hs[:, t, :] = self.h * (t < 5)")),
    "a clip that no input reaches": changed(
        ("        N, T, D = xs.shape\n", "        xs = np.clip(xs, -1e4, 1e4)\n        N, T, D = xs.shape\n")
    ),
    "a copy of its input": changed(
        ("        N, T, D = xs.shape\n", "        xs = xs.astype('d')\n        N, T, D = xs.shape\n")
    ),
    "steps that are kept from call to call": changed(
        ("        self.layers = []\n        hs", "        hs"),
        ("self.layers = None", "self.layers = []"),
        (
            "        for t in range(T):\n            layer = LSTM(*self.params)",
            (
                "        if len(self.layers) != T:\n"
                "            self.layers = [LSTM(*self.params) for _ in range(T)]\n"
                "        for t in range(T):\n            layer = self.layers[t]"
            ),
        ),
        ("            self.layers.append(layer)\n", ""),
    ),
    "a state that goes when the other is not there": changed(
        (
            (
                "        if not self.stateful or self.h is None:\n"
                "            self.h = np.zeros((N, H), dtype='f')\n"
                "        if not self.stateful or self.c is None:\n"
            ),
            (
                "        if not self.stateful or self.h is None or self.c is None:\n"
                "            self.h = np.zeros((N, H), dtype='f')\n"
            ),
        ),
    ),
    "a property of the steps": changed(
        ("hs[:, t, :] = self.h", "hs[:, t, :] = self.h + layer.noted"),
        ("class TimeLSTM:", "LSTM.noted = property(lambda self: 0)\n\n\nclass TimeLSTM:"),
    ),
    "objects made in a way of their own": changed(
        ("class TimeLSTM:", ("LSTM.__new__ = lambda made, *given: object.__new__(made)\n\n\nclass TimeLSTM:"))
    ),
    "steps under a condition": changed(
        ("        h_next = o * np.tanh(c_next)", "        h_next = self.scale * (o * np.tanh(c_next))"),
        ("class LSTM:\n", "class LSTM:\n    scale = 1.0\n\n"),
    ),
    "steps that copy what they are given": changed(("self.cache = (x, h_prev,", "self.cache = (x.copy(), h_prev,")),
    "steps that print": changed(
        ("            self.layers.append(layer)", "            self.layers.append(layer)\n            print(end='')")
    ),
}
OTHER_WAYS_BACK = {
    "the last steps alone": changed(
        ("for t in reversed(range(T)):", "for t in reversed(range(max(0, T - 5), T)):"),
        ("dxs = np.empty(", "dxs = np.zeros("),
    ),
    "the last steps alone, by a slice": changed(
        ("for t in reversed(range(T)):", "for t in range(T)[::-1][:5]:"), ("dxs = np.empty(", "dxs = np.zeros(")
    ),
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


@pytest.mark.parametrize("stateful", [False, True])
def test_layers_that_have_a_state_already_are_tried_with_it(both, stateful):
    """As where kernels begin in the middle of a script."""
    plain, fast, counts = both(BOOKS + IN_TIME)
    outcomes = []
    for module in (plain, fast):
        layer = module.TimeLSTM(numbers("f", 6, 128), numbers("f", 32, 128), numbers("f", 128), stateful)
        layer.h, layer.c, layer.dh = numbers("f", 9, 32), numbers("f", 9, 32), numbers("f", 9, 32)
        layer.layers = [module.LSTM(*layer.params) for _ in range(STEPS)]
        outcomes.append([layer.forward(numbers("f", 9, STEPS, 6)), layer.backward(numbers("f", 9, STEPS, 32)), layer.h])
    for one, other in zip(*outcomes, strict=True):
        assert_same(other, one, "results", 1e-5)
    assert compiled(counts, "TimeLSTM.forward") == compiled(counts, "TimeLSTM.backward") == 1


def test_weights_that_are_replaced_in_between_are_the_own_codes(both):
    plain, fast, counts = both(BOOKS + IN_TIME)
    outcomes = []
    for module in (plain, fast):
        layer = module.TimeLSTM(numbers("f", 6, 128), numbers("f", 32, 128), numbers("f", 128))
        layer.forward(numbers("f", 9, STEPS, 6))
        layer.params = [2 * one for one in layer.params]
        outcomes.append([layer.backward(numbers("f", 9, STEPS, 32)), *layer.grads])
    for one, other in zip(*outcomes, strict=True):
        assert_same(other, one, "gradients", 1e-5)
    assert compiled(counts, "TimeLSTM.backward") == 0


def test_gradients_of_a_wider_dtype_are_the_own_codes(both):
    """float64 numbers made of float32 ones: NumPy's own, to the last bit."""
    plain, fast, counts = both(BOOKS + IN_TIME)
    given = np.float32, np.float32, True, np.float64
    (expected, _), (actual, _) = (trained(module.TimeLSTM, *given) for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, "gradients", 1e-5)
    assert (compiled(counts, "TimeLSTM.forward"), compiled(counts, "TimeLSTM.backward")) == (2, 0)


def test_what_the_steps_keep_is_of_the_call_whatever_changes_since(both):
    """Batches are put into the same memory again, states are reset in place, and weights are trained."""
    outcomes = []
    for module in both(BOOKS + IN_TIME)[:2]:
        layer = module.TimeLSTM(numbers("d", 6, 128), numbers("d", 32, 128), numbers("d", 128), stateful=True)
        h, x = numbers("d", 9, 32), numbers("d", 9, STEPS, 6)
        layer.h, layer.c = h, numbers("d", 9, 32)
        layer.forward(x)
        layer.backward(numbers("d", 9, STEPS, 32))
        for one in (x, h, layer.c, *layer.params):
            one[...] = 7
        outcomes.append([grad for one in layer.layers for grad in one.grads])
    for one, other in zip(*outcomes, strict=True):
        assert_same(one, other, "gradients of the steps", 1e-5)


@pytest.mark.parametrize("attribute", ["h", "c"])
def test_states_of_a_wider_dtype_are_the_own_codes(both, attribute):
    outcomes = []
    for module in both(BOOKS + IN_TIME)[:2]:
        layer = module.TimeLSTM(numbers("f", 6, 128), numbers("f", 32, 128), numbers("f", 128), stateful=True)
        layer.forward(numbers("f", 9, STEPS, 6))
        setattr(layer, attribute, getattr(layer, attribute).astype("d"))
        outcomes.append([layer.forward(numbers("f", 9, STEPS, 6)), layer.h, layer.c])
    for one, other in zip(*outcomes, strict=True):
        assert_same(one, other, "states", 1e-5)


def test_a_class_that_has_its_list_of_steps_goes_on_having_it(both):
    source = changed(
        ("        self.layers = None\n", ""), ("class TimeLSTM:\n", "class TimeLSTM:\n    layers = None\n\n")
    )
    _, fast, counts = both(source)
    weights = numbers("d", 6, 128), numbers("d", 32, 128), numbers("d", 128)
    layer = fast.TimeLSTM(*weights)
    layer.forward(numbers("d", 9, STEPS, 6))
    assert compiled(counts, "TimeLSTM.forward") == 1
    assert fast.TimeLSTM(*weights).layers is fast.TimeLSTM.layers is None
    del layer.layers
    assert layer.layers is None


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


def trained_in_both_ways(both, source):
    """The calls of the accelerated module, whose numbers are those of the plain one."""
    plain, fast, counts = both(source)
    (expected, _), (actual, _) = (trained(module.TimeLSTM, np.float64, np.float64, True) for module in (plain, fast))
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, "what a script may look at", 1e-5)
    return counts


@pytest.mark.parametrize("what", OTHER_SEQUENCES)
def test_what_goes_through_time_otherwise_is_left(both, what):
    counts = trained_in_both_ways(both, OTHER_SEQUENCES[what])
    assert compiled(counts, "TimeLSTM.forward") == compiled(counts, "TimeLSTM.backward") == 0


@pytest.mark.parametrize("what", OTHER_WAYS_BACK)
def test_other_gradients_through_time_are_left(both, what):
    assert compiled(trained_in_both_ways(both, OTHER_WAYS_BACK[what]), "TimeLSTM.backward") == 0


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


OF_TWO_WEIGHTS = (
    ("    def __init__(self, Wx, Wh, b):\n", "    def __init__(self, Wx, Wh):\n        b = np.zeros(Wx.shape[1])\n"),
    ("LSTM(*self.params)", "LSTM(Wx, Wh)"),
)
OF_X_AT_LAST = (
    ("    def forward(self, x, h_prev, c_prev):\n", "    def forward(self, h_prev, c_prev, x):\n"),
    ("layer.forward(xs[:, t, :], self.h, self.c)", "layer.forward(self.h, self.c, xs[:, t, :])"),
)
FAILING = (("        N, H = h_prev.shape\n", "        N, H = Wx.missing\n"),)


@pytest.mark.parametrize("changes", [OF_TWO_WEIGHTS, OF_X_AT_LAST, FAILING])
def test_steps_that_are_made_or_called_otherwise_are_left(both, changes):
    """Finding out what they are may fail in any way: the script does not see it."""
    outcomes = []
    for module in both(changed(*changes))[:2]:
        state = np.random.get_state()[1].copy()
        layer = module.TimeLSTM(numbers("d", 6, 128), numbers("d", 32, 128), numbers("d", 128))
        outcomes.append(outcome(layer.forward, numbers("d", 3, STEPS, 6)))
        np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert_same(outcomes[1], outcomes[0], "what it gives", 1e-5)


def test_an_audit_takes_what_has_cancelled_for_rounding(tmp_path):
    """The gradient of the first h is 0, but for rounding: units are in pairs, whose weights in Wh are opposite."""
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        module = define(BOOKS + IN_TIME, tmp_path)
    finally:
        stop_accelerating()
    Wx, Wh, b = (numbers("f", *shape, 4, 2, 16) for shape in ((6,), (32,), ()))
    for one, sign in ((Wx, 1), (Wh, -1), (b, 1)):
        one[..., 1, :] = sign * one[..., 0, :]
    layer = module.TimeLSTM(Wx.reshape(6, 128), Wh.reshape(32, 128), b.reshape(128))
    dout = numbers("f", 9, 1, 2, 16)
    dout[:, :, 1] = dout[:, :, 0]
    for _ in range(3):
        layer.forward(numbers("f", 9, 1, 6))
        layer.backward(dout.reshape(9, 1, 32))
    audit = auditor.audits["TimeLSTM.backward"]
    assert (audit.calls - audit.passed, audit.relative < 1e-4) == (3, True)
    assert 0 < np.max(np.abs(layer.dh)) < 1e-5 * np.max(np.abs(layer.grads[0]))
