"""Networks whose loop through the layers becomes one call: the same numbers, attributes, warnings and errors."""

from __future__ import annotations

import itertools
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from dropin_cases import assert_same, define, run, write

import fastbp
from fastbp.dropin import arguments, calls, stacks
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor, DifferenceFound

LAYERS = """
import numpy as np
from collections import OrderedDict

class Affine:
    def __init__(self, W, b):
        self.W = W
        self.b = b
        self.x = None
        self.original_x_shape = None
        self.dW = None
        self.db = None

    def forward(self, x):
        self.original_x_shape = x.shape
        x = x.reshape(x.shape[0], -1)
        self.x = x
        out = np.dot(self.x, self.W) + self.b
        return out

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        dx = dx.reshape(*self.original_x_shape)
        return dx

class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        self.mask = (x <= 0)
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        dx = dout
        return dx

class Sigmoid:
    def __init__(self):
        self.out = None

    def forward(self, x):
        out = 1 / (1 + np.exp(-x))
        self.out = out
        return out

    def backward(self, dout):
        dx = dout * (1.0 - self.out) * self.out
        return dx
"""
NETWORK = """
class Network:
    def __init__(self, layers):
        self.layers = OrderedDict((str(place), layer) for place, layer in enumerate(layers))

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def gradient(self, dout):
        layers = list(self.layers.values())
        layers.reverse()
        for layer in layers:
            dout = layer.backward(dout)
        return {key: layer.dW for key, layer in self.layers.items() if hasattr(layer, "dW")}
"""
OTHER_LAYERS = """
import numpy as np
from collections import OrderedDict

class Linear:
    def __init__(self, W, b):
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, inputs):
        W, b = self.params
        self.inputs = inputs
        return inputs @ W + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = self.inputs.T @ dout
        self.grads[1][...] = dout.sum(axis=0)
        return dout @ W.T
Affine = Linear

class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dout):
        return np.where(self.mask, dout, 0)

class Rectifier:
    def forward(self, x):
        self.mask = x <= 0
        y = x.copy()
        y[self.mask] = 0
        return y

    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx
Relu = Rectifier

class Logistic:
    def forward(self, x):
        self.y = 1.0 / (1.0 + np.exp(-x))
        return self.y

    def backward(self, dout):
        return dout * self.y * (1.0 - self.y)
Sigmoid = Logistic
"""
RNG = np.random.default_rng(7)


def made_of(module, kinds, widths, seed=0, dtype=np.float64):
    """A module's network of layers of these kinds, "A" an affine one, with parameters of its own."""
    rng, given, layers = np.random.default_rng(seed), iter(itertools.pairwise(widths)), []
    for kind in kinds:
        if kind == "A":
            shape = next(given)
            layers.append(module.Affine(rng.standard_normal(shape).astype(dtype), np.ones(shape[1], dtype)))
        else:
            layers.append(module.Relu() if kind == "R" else module.Sigmoid())
    return module.Network(layers)


def assert_same_state(fast, plain):
    for (key, one), other in zip(fast.layers.items(), plain.layers.values(), strict=True):
        assert vars(one).keys() == vars(other).keys()
        for name, value in vars(other).items():
            if isinstance(value, list):
                for place, part in enumerate(value):
                    assert_same(getattr(one, name)[place], part, f"{key}.{name}[{place}]")
            else:
                assert_same(getattr(one, name), value, f"{key}.{name}")


def steps(networks, inputs, count=4, rate=1e-3):
    """Some steps of each network on the same inputs, with what is left in them compared after each half of one."""
    fast, plain = networks
    for step in range(count):
        x = inputs[step % len(inputs)]
        one, other = fast.predict(x), plain.predict(x)
        assert_same(one, other, "scores")
        assert_same_state(fast, plain)
        dout = np.random.default_rng(step).standard_normal(other.shape).astype(other.dtype)
        fast.gradient(dout.copy())
        plain.gradient(dout.copy())
        assert_same_state(fast, plain)
        for network in networks:
            for layer in network.layers.values():
                if hasattr(layer, "W"):
                    layer.W -= rate * layer.dW
                    layer.b -= rate * layer.db


def compiled(counts, name):
    count = counts.get(name)
    return 0 if count is None else count.calls - count.passed


@pytest.mark.parametrize("layers", [LAYERS, OTHER_LAYERS])
@pytest.mark.parametrize(("kinds", "widths"), [("ARA", (60, 30, 10)), ("ASARA", (20, 30, 15, 4)), ("AA", (9, 5, 7))])
def test_a_stack_leaves_what_its_layers_would(both, layers, kinds, widths):
    plain, fast, counts = both(layers + NETWORK)
    inputs = [RNG.standard_normal((rows, widths[0])) for rows in (50, 20, 50, 7)]
    steps([made_of(one, kinds, widths) for one in (fast, plain)], inputs, count=5)
    tried_first = layers is OTHER_LAYERS or "S" in kinds
    assert compiled(counts, "Network.predict: layers") == 5 - tried_first
    assert compiled(counts, "Network.gradient: layers") == 5


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_of_other_dtypes_and_ranks(both, dtype):
    plain, fast, counts = both(LAYERS + NETWORK)
    x = (RNG.random((40, 1, 28, 28)) * (RNG.random((40, 1, 28, 28)) < 0.2) * 255).astype(dtype)
    steps([made_of(one, "ARA", (784, 20, 10)) for one in (fast, plain)], [x])
    assert compiled(counts, "Network.predict: layers") == compiled(counts, "Network.gradient: layers") == 4


def test_networks_in_float32(both):
    plain, fast, counts = both(LAYERS + NETWORK)
    x = RNG.standard_normal((40, 30)).astype(np.float32)
    one, other = (made_of(module, "ARA", (30, 20, 10), dtype=np.float32) for module in (fast, plain))
    for _ in range(3):
        np.testing.assert_allclose(one.predict(x), other.predict(x), rtol=1e-4, atol=1e-4)
    assert compiled(counts, "Network.predict: layers") == 3
    one.predict(x.astype(np.float64))
    assert counts["Network.predict: layers"].passed == 1


OTHER_LOOPS = {
    "a list of layers": ("self.layers.values()", "list(self.layers.values())"),
    "the gradient by reversed()": (
        "layers = list(self.layers.values())\n        layers.reverse()\n        for layer in layers:",
        "for layer in reversed(list(self.layers.values())):",
    ),
    "by a slice": ("layers.reverse()\n        for layer in layers:", "for layer in layers[::-1]:"),
}


@pytest.mark.parametrize("name", OTHER_LOOPS)
def test_loops_are_recognised_however_they_are_written(both, name):
    old, new = OTHER_LOOPS[name]
    plain, fast, counts = both(LAYERS + NETWORK.replace(old, new))
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert compiled(counts, "Network.predict: layers") == compiled(counts, "Network.gradient: layers") == 4


def test_an_iterator_is_asked_once(both):
    source = NETWORK.replace(
        "layers = list(self.layers.values())\n        layers.reverse()", "layers = reversed(list(self.layers.values()))"
    )
    plain, fast, counts = both(LAYERS + source)
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert compiled(counts, "Network.gradient: layers") == 4
    source = source.replace("for layer in layers:", "for layer in filter(None, layers):")
    plain, fast, counts = both(LAYERS.replace("x <= 0", "x <= 1") + source)  # where each layer is called by itself
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert not counts["Network.gradient: layers"].calls


def test_what_gives_its_layers_one_by_one_is_asked_for_them_in_turn(both):
    """A generator may do something in between, and decide by what was computed whether there is another."""
    source = NETWORK.replace("self.layers.values():\n            x", "self.each():\n            x")
    source += """
    def each(self):
        self.asked = getattr(self, "asked", 0) + 1
        return self.one_by_one()

    def one_by_one(self):
        for layer in self.layers.values():
            self.seen = getattr(layer, "mask", None)
            yield layer
"""
    plain, fast, counts = both(LAYERS + source)
    one, other = (made_of(module, "ARA", (30, 20, 10)) for module in (fast, plain))
    for _ in range(3):
        x = RNG.standard_normal((20, 30))
        assert_same(one.predict(x), other.predict(x), "scores")
    assert not counts["Network.predict: layers"].calls
    assert one.asked == other.asked == 3


def test_a_name_of_the_script_may_be_one_of_python(both):
    plain, fast, counts = both(
        "list = None\n" + LAYERS + NETWORK.replace("list(self.layers.values())", "[*self.layers.values()]")
    )
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert compiled(counts, "Network.gradient: layers") == 4


OTHERS = """
class Part:
    def __init__(self, number):
        self.number = number

    def forward(self, x):
        return Part(self.number + 1)

    def backward(self, x):
        return x

class Holder:
    def __init__(self, layers):
        self.layers = layers

    def to_itself(self):
        for part in self.layers:
            part = part.forward(part)
        return part.number

    def of_none(self):
        for layer in self.layers:
            late = layer.forward(late)
        return 7

    def to_a_global(self, x):
        global layer
        for layer in self.layers:
            x = layer.forward(x)
        return layer
"""


def test_loops_of_other_kinds_are_as_they_were(both):
    plain, fast, _ = both(LAYERS + OTHERS)
    for module in (fast, plain):
        assert module.Holder([module.Part(3)]).to_itself() == 4
        assert module.Holder([]).of_none() == 7
        with pytest.raises(UnboundLocalError):
            module.Holder([module.Part(3)]).of_none()
        part = module.Part(5)
        assert module.Holder([part]).to_a_global(0) is module.layer is part


NOT_STACKS = {
    "a method that looks at its variables": (
        "        return x\n",
        "        self.seen = list(locals())\n        return x\n",
    ),
    "another statement in the loop": ("x = layer.forward(x)\n", "x = layer.forward(x)\n            x = x + 0.5\n"),
    "a method that reads the loop's variable": ("        return x\n", "        self.last = layer\n        return x\n"),
    "another variable": ("x = layer.forward(x)\n        return x", "y = layer.forward(x)\n        return y"),
}


@pytest.mark.parametrize("name", NOT_STACKS)
def test_other_loops_are_left(both, name):
    old, new = NOT_STACKS[name]
    assert old in NETWORK
    plain, fast, counts = both(LAYERS + NETWORK.replace(old, new))
    widths = (30, 30, 30)  # so that any variable fits
    one, other = (made_of(module, "ARA", widths) for module in (fast, plain))
    x = RNG.standard_normal((20, 30))
    for _ in range(3):
        assert_same(one.predict(x), other.predict(x), name)
    assert "Network.predict: layers" not in counts or not counts["Network.predict: layers"].calls


OTHER_CLASSES = {
    "an activation of another kind": ("x <= 0", "x <= 0.1"),
    "one that changes its input": ("out = x.copy()\n        out[self.mask] = 0", "x[self.mask] = 0\n        out = x"),
    "a layer that prints": (
        "out = np.dot(self.x, self.W) + self.b",
        "out = np.dot(self.x, self.W) + self.b; print(end='')",
    ),
    "a gradient that is kept": ("dx = np.dot(dout, self.W.T)", "dx = self.dx = np.dot(dout, self.W.T)"),
}


@pytest.mark.parametrize("name", OTHER_CLASSES)
def test_layers_that_do_something_else_are_called_one_by_one(both, name):
    old, new = OTHER_CLASSES[name]
    assert old in LAYERS
    plain, fast, counts = both(LAYERS.replace(old, new) + NETWORK)
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert not compiled(counts, "Network.gradient: layers") or "kept" not in name
    assert not compiled(counts, "Network.predict: layers") or "kept" in name


@pytest.fixture
def ready(both):
    """Two networks, plain and fast, whose layers are known, an input, and the counts."""
    plain, fast, counts = both(LAYERS + NETWORK)
    networks = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)]
    x = RNG.standard_normal((25, 30))
    steps(networks, [x], count=3)
    return networks, x, counts


def test_a_method_that_somebody_has_put_into_a_class_or_an_object_is_called(ready):
    (fast, _), x, counts = ready
    before = counts["Network.predict: layers"].calls - counts["Network.predict: layers"].passed
    layer = list(fast.layers.values())[1]
    layer.forward = lambda x: 0 * x
    assert (fast.predict(x) == list(fast.layers.values())[2].b).all()
    del layer.forward
    own = type(layer).forward
    type(layer).forward = lambda self, x: own(self, x) + 1
    with_one = fast.predict(x)
    type(layer).forward = own
    assert counts["Network.predict: layers"].calls - counts["Network.predict: layers"].passed == before
    assert_same(
        with_one - fast.predict(x), np.broadcast_to(list(fast.layers.values())[2].W.sum(axis=0), (25, 10)), "+ 1"
    )


def test_parameters_of_other_layouts_are_left_or_right(ready):
    networks, x, counts = ready
    for change in (
        np.asfortranarray,
        lambda W: np.lib.stride_tricks.as_strided(W, writeable=False),
        lambda W: np.repeat(W, 2, axis=0)[::2],
        lambda W: W.astype(np.float32),
        lambda W: W * 3,
    ):
        for network in networks:
            layer = network.layers["0"]
            layer.W = change(layer.W)
        fast, plain = networks
        np.testing.assert_allclose(fast.predict(x), plain.predict(x), rtol=1e-5, atol=1e-5)
        for network in networks:
            network.layers["0"].W = np.ascontiguousarray(network.layers["0"].W, np.float64)
    steps(networks, [x])
    assert compiled(counts, "Network.predict: layers") > 3


def test_parameters_that_were_changed_in_place_are_others(ready):
    networks, x, _ = ready
    messages = []
    for network in networks:
        for key, shape, given in (("0", (15, 40), x[:, :15].copy()), ("2", (10, 20), x)):
            W = network.layers[key].W
            before, W.shape = W.shape, shape
            with pytest.raises(ValueError) as error:  # noqa: PT011 - NumPy's own, compared below
                network.predict(given)
            messages.append(str(error.value))
            W.shape = before
    assert messages[:2] == messages[2:]
    steps(networks, [x])
    for network in networks:
        W = network.layers["2"].W = np.arange(200.0)
        W.resize(20, 10)  # which NumPy refuses where anybody else refers to the memory
        network.predict(x)
        del W
        network.layers["2"].W.resize(20, 10)


def test_arrays_that_are_read_only(ready):
    networks, x, counts = ready
    before = compiled(counts, "Network.gradient: layers")
    for network in networks:
        network.predict(x)
        dout = np.ones((25, 10))
        dout.flags.writeable = network.layers["1"].mask.flags.writeable = False
        network.gradient(dout)
    assert_same_state(*networks)
    assert compiled(counts, "Network.gradient: layers") == before + 1


@pytest.mark.parametrize("kinds", ["ARA", "ASA"])
def test_what_a_layer_does_not_have_is_for_it_to_miss(both, kinds):
    plain, fast, _ = both(LAYERS + NETWORK)
    networks = [made_of(one, kinds, (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((25, 30))])
    for key, name in (("1", "mask" if kinds == "ARA" else "out"), ("0", "x"), ("2", "x")):
        said = []
        for network in networks:
            kept = getattr(network.layers[key], name)
            setattr(network.layers[key], name, None)
            try:
                network.gradient(np.ones((25, 10)))  # dout[None] = 0, of a mask, is no error
                said.append(None)
            except (AttributeError, TypeError) as error:
                said.append((type(error), str(error)))
            setattr(network.layers[key], name, kept)
        assert said[0] == said[1]
        assert said[0] is not None or name == "mask"
        assert_same_state(*networks)


def test_what_a_mask_would_hide_is_seen(both):
    """inf times a mask's 0 is NaN, of which NumPy warns."""
    plain, fast, counts = both(
        OTHER_LAYERS.replace("np.where(self.mask, dout, 0)", "dout * self.mask") + NETWORK.replace("Relu", "ReLU")
    )
    networks = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)]
    x = np.abs(RNG.standard_normal((25, 30)))
    steps(networks, [x])
    before = compiled(counts, "Network.gradient: layers")
    for network in networks:
        first, last = network.layers["0"], network.layers["2"]
        first.params[0][:, 3] = -1.0
        last.params[0][3, 0] = 1e300
        network.predict(x)
        with np.errstate(all="ignore"):
            network.gradient(np.full((25, 10), 1e10))
    assert compiled(counts, "Network.gradient: layers") == before
    assert_same_state(*networks)


@pytest.mark.parametrize("place", ["0", "2"])
def test_errors_are_those_of_the_layers(ready, place):
    networks, x, _ = ready
    for network in networks:
        network.layers[place].W = network.layers[place].W[:-1].copy()
    messages = []
    for network in networks:
        with pytest.raises(ValueError, match="not aligned") as error:
            network.predict(x)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    for network in networks:
        with pytest.raises((AttributeError, TypeError)):
            network.gradient(None)


def test_warnings_are_those_of_the_layers(ready):
    networks, x, counts = ready
    said = []
    for network in networks:
        network.layers["0"].W[3, 3] = 1e300
        network.layers["2"].W[...] = 1e300
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network.predict(np.abs(x))
        said.append([str(one.message) for one in caught])
    assert said[0] == said[1]
    assert said[0]
    assert counts["Network.predict: layers"].passed == 1


def test_a_backward_whose_layers_saw_another_batch_is_left(ready):
    networks, x, _ = ready
    for network in networks:
        network.predict(x)
        network.layers["1"].forward(RNG.standard_normal((25, 21)))
    for network in networks:
        with pytest.raises((IndexError, ValueError)):
            network.gradient(np.ones((25, 10)))


def test_changed_masks_and_inputs_count(ready):
    """What a layer keeps may be changed between forward and backward: it is read when backward is called."""
    networks, x, _ = ready
    for network in networks:
        network.predict(x)
        network.layers["1"].mask[:, ::2] = True
        network.layers["2"].x[:, 0] = 5.0
        network.gradient(np.ones((25, 10)))
    assert_same_state(*networks)


def test_networks_of_other_sizes_may_be_called_in_turn_and_in_several_threads(both):
    plain, fast, counts = both(LAYERS + NETWORK)
    sizes = [(30, 20, 10), (50, 8, 4), (9, 70, 5)]
    pairs = [[made_of(one, "ARA", widths) for one in (fast, plain)] for widths in sizes]
    inputs = [RNG.standard_normal((25, widths[0])) for widths in sizes]
    expected = [plain_one.predict(x) for (_, plain_one), x in zip(pairs, inputs, strict=True)]

    def predict(place):
        network, x = pairs[place % 3][0], inputs[place % 3]
        return all(np.allclose(network.predict(x), expected[place % 3]) for _ in range(200))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(predict, range(6)))
    for network, x in zip(pairs, inputs, strict=True):
        steps(network, [x])
    assert compiled(counts, "Network.predict: layers") > 1000


def test_until_kernels_begin_the_loop_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "_beginning", beginning := calls._Beginning())
    monkeypatch.setattr(calls._Beginning, "SECONDS", np.inf)
    monkeypatch.setattr(calls._Beginning, "LOADING", np.inf)
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    with fastbp.accelerated():
        fast = define(LAYERS + NETWORK, tmp_path)
    used = []
    monkeypatch.setattr(stacks.Stack, "forward", lambda *arguments: (used.append(1), stacks.PASS)[1])
    network, x = made_of(fast, "ARA", (30, 20, 10)), RNG.standard_normal((25, 30))
    expected = made_of(define(LAYERS + NETWORK, tmp_path), "ARA", (30, 20, 10)).predict(x)
    np.testing.assert_array_equal(network.predict(x), expected)
    assert not used
    beginning.over = True
    for _ in range(3):
        assert_same(network.predict(x), expected, "scores")
    assert used


def test_small_networks_are_left_to_numpy(both, monkeypatch):
    monkeypatch.setattr(stacks, "LEAST_PRODUCT", 10_000)
    plain, fast, counts = both(LAYERS + NETWORK)
    networks = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((10, 30))])
    assert compiled(counts, "Network.predict: layers") == 0
    steps(networks, [RNG.standard_normal((100, 30))], count=80)  # after many that were left, few are looked at
    assert compiled(counts, "Network.predict: layers") > 0


def test_an_audit_compares_the_results_and_every_layer(tmp_path, monkeypatch):
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        fast = define(LAYERS + NETWORK, tmp_path)
    finally:
        stop_accelerating()
    network, x = made_of(fast, "ARA", (30, 20, 10)), RNG.standard_normal((25, 30))
    for _ in range(3):
        network.predict(x)
        network.gradient(np.ones((25, 10)))
    audits = auditor.audits
    assert audits["Network.predict: layers"].calls == 3
    assert audits["Network.gradient: layers"].left_out == audits["Network.gradient: layers"].calls == 3
    right = stacks.Stack.backward

    def wrong(*arguments):
        dx, dWs, dbs = right(*arguments)
        dWs[0][2, 3] *= 1.001
        return dx, dWs, dbs

    monkeypatch.setattr(stacks.Stack, "backward", wrong)
    with pytest.raises(DifferenceFound, match=r"Network.gradient: layers, call 4: layers\[2\].dW\[2, 3\] is"):
        network.gradient(np.ones((25, 10)))


def test_an_audit_of_a_layer_that_a_network_has_twice(tmp_path):
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        fast = define(LAYERS + NETWORK, tmp_path)
    finally:
        stop_accelerating()
    network = made_of(fast, "ARARA", (30, 20, 20, 10))
    network.layers["3"] = network.layers["1"]
    for _ in range(3):
        network.predict(RNG.standard_normal((25, 30)))
        network.gradient(np.ones((25, 10)))
    assert auditor.audits["Network.predict: layers"].calls == 3


def test_a_script_with_a_network_gives_the_same_numbers(tmp_path):
    write(tmp_path, "network.py", textwrap.dedent(LAYERS) + NETWORK)
    script = """
        import numpy as np
        from network import *
        rng = np.random.default_rng(0)
        W1, W2 = rng.standard_normal((60, 40)), rng.standard_normal((40, 5))
        network = Network([Affine(W1, np.zeros(40)), Relu(), Affine(W2, np.zeros(5))])
        for step in range(30):
            x = rng.standard_normal((50, 60))
            grads = network.gradient(network.predict(x) / 1e5)
            W1 -= grads["0"]
            W2 -= grads["2"]
        print(f"{np.abs(W1).sum():.9g} {np.abs(W2).sum():.9g}")
    """
    file = write(tmp_path, "script.py", script)
    plain, audited = run(tmp_path, file), run(tmp_path, "-m", "fastbp", "audit", file)
    assert audited.returncode == 0, audited.stderr
    assert audited.stdout == plain.stdout
    assert "Network.gradient: layers" in audited.stderr
    assert arguments.SCALE == 0
