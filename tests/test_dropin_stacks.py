"""Networks whose loop through the layers becomes one call: which loops and layers do, and what is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_same
from stack_cases import LAYERS, NETWORK, OTHER_LAYERS, RNG, compiled, made_of, steps

STRICT = LAYERS.replace("x <= 0", "x < 0")
MEANS = LAYERS.replace("np.dot(self.x.T, dout)", "np.dot(self.x.T, dout) / dout.shape[0]").replace(
    "np.sum(dout", "np.mean(dout"
)
COPYING = "out = x.copy()\n        out[self.mask] = 0\n        return out"
IN_PLACE = LAYERS.replace(COPYING, "x[self.mask] = 0\n        return x")


@pytest.mark.parametrize("layers", [LAYERS, OTHER_LAYERS, STRICT, IN_PLACE, MEANS])
@pytest.mark.parametrize(("kinds", "widths"), [("ARA", (60, 30, 10)), ("ASARA", (20, 30, 15, 4)), ("AA", (9, 5, 7))])
def test_a_stack_leaves_what_its_layers_would(both, layers, kinds, widths):
    plain, fast, counts = both(layers + NETWORK)
    inputs = [RNG.standard_normal((rows, widths[0])) for rows in (50, 20, 50, 7)]
    steps([made_of(one, kinds, widths) for one in (fast, plain)], inputs, count=5)
    assert compiled(counts, "Network.predict: layers") == 5  # tried or not: all are known before the first call
    assert compiled(counts, "Network.gradient: layers") == 5
    assert not any(compiled(counts, name) for name in counts if name.endswith((".forward", ".backward")))


@pytest.mark.parametrize(
    ("old", "new"),
    [("+ self.b\n", "+ self.b\n        self.out = out\n"), ("(x <= 0)\n", "(x <= 0)\n        self.x = x\n")],
)
def test_a_relu_that_changes_what_somebody_has_kept_runs_by_itself(both, old, new):
    plain, fast, counts = both(IN_PLACE.replace(old, new) + NETWORK)
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert not compiled(counts, "Network.predict: layers")
    assert compiled(counts, "Relu.forward") == 4


NOISY = """
class Noisy:
    def forward(self, x):
        print("forward of", len(x))
        return x + np.random.rand()

    def backward(self, dout):
        return dout
"""


def test_a_network_is_not_looked_at_beyond_a_layer_that_does_more(both, capsys):
    plain, fast, counts = both(OTHER_LAYERS + NOISY + NETWORK)
    results = []
    for module in (plain, fast):
        np.random.seed(0)
        layers = [*made_of(module, "A", (30, 20)).layers.values(), module.Noisy(), module.Relu()]
        results.append(module.Network(layers).predict(np.ones((25, 30))))
        assert capsys.readouterr().out == "forward of 25\n"
    assert_same(results[1], results[0], "predict")
    assert not compiled(counts, "Network.predict: layers")


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


LOOP = "for layer in self.layers.values():\n            x = layer.forward(x)\n"
ITEMS = "for key, layer in self.layers.items():\n            "


def items_but(test, call="layer.forward(x, True)"):
    """The loop through a dict's items, with another call where the test holds."""
    return f"{ITEMS}if {test}:\n                x = {call}\n            else:\n                x = layer.forward(x)\n"


OTHER_LOOPS = {
    "a dict's items": (LOOP, f"{ITEMS}x = layer.forward(x)\n"),
    "a test of the key": (LOOP, items_but("'Dropout' in key or not key != 'BatchNorm'")),
    "a list of layers": ("self.layers.values()", "list(self.layers.values())"),
    "the gradient by reversed()": (
        "layers = list(self.layers.values())\n        layers.reverse()\n        for layer in layers:",
        "for layer in reversed(list(self.layers.values())):",
    ),
    "a variable that is set again": (
        "        return {key: layer.dW",
        "        for key in list(self.layers):\n            layer = self.layers[key]\n            self.last = layer\n"
        "        return {key: layer.dW",
    ),
    "by a slice": ("layers.reverse()\n        for layer in layers:", "for layer in layers[::-1]:"),
}


@pytest.mark.parametrize("name", OTHER_LOOPS)
def test_loops_are_recognised_however_they_are_written(both, name):
    old, new = OTHER_LOOPS[name]
    plain, fast, counts = both(LAYERS + NETWORK.replace(old, new))
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((30, 30))])
    assert compiled(counts, "Network.predict: layers") == compiled(counts, "Network.gradient: layers") == 4


def test_a_test_of_the_key_that_fails_is_the_script_s_own_error(both):
    source = LAYERS + NETWORK.replace(LOOP, items_but("'Dropout' in key"))
    plain, fast, counts = both(source)
    x = RNG.standard_normal((30, 30))
    for module in (fast, plain):
        network = made_of(module, "ARA", (30, 20, 10))
        network.layers = dict(enumerate(network.layers.values()))
        with pytest.raises(TypeError, match="not iterable"):
            network.predict(x)
        network.layers = [("0", network.layers[0])]  # no dict
        with pytest.raises(AttributeError, match="items"):
            network.predict(x)
    assert not compiled(counts, "Network.predict: layers")


def test_an_iterator_is_asked_once(both):
    source = NETWORK.replace(
        "layers = list(self.layers.values())\n        layers.reverse()", "layers = reversed(list(self.layers.values()))"
    )
    plain, fast, counts = both(LAYERS + source)
    inputs = [RNG.standard_normal((rows, 30)) for rows in (30, 2)]  # of two rows, the loop runs
    steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], inputs)
    assert compiled(counts, "Network.gradient: layers") == 2
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
    "a method that reads it before it is set again": (
        "        return x\n",
        "        for _ in range(2):\n            self.last = layer\n            layer = None\n        return x\n",
    ),
    "a method that may not set it again": (
        "        return x\n",
        "        if len(x) > 5:\n            layer = None\n        self.last = layer\n        return x\n",
    ),
    "a method that reads the key": (
        LOOP + "        return x\n",
        f"{ITEMS}x = layer.forward(x)\n        self.last = key\n        return x\n",
    ),
    "a layer that is called otherwise": (LOOP, items_but("'1' in key", "abs(layer.forward(-x))")),
    "a test of the layer": (LOOP, items_but("hasattr(layer, 'mask')", "abs(layer.forward(-x))")),
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
