"""Networks with batch normalisation whose loop through the layers becomes one call: with a flag and without, and audits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, define
from stack_cases import (
    LAYERS,
    NETWORK,
    NORMALIZATION,
    OTHER_LAYERS,
    OTHER_NORMALIZATION,
    RNG,
    assert_same_state,
    compiled,
    made_of,
    steps,
)

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor, DifferenceFound
from fastbp.dropin.operations import normalized_stacks
from fastbp.dropin.operations.stacks import MOST_LAYERS

BOOK, OTHER = LAYERS + NORMALIZATION, OTHER_LAYERS + OTHER_NORMALIZATION
LOOP = "for layer in self.layers.values():\n            x = layer.forward(x)\n"
# Layers whose keys begin with "N" are called with a flag, as in the book's MultiLayerNetExtend.
FLAGGED = NETWORK.replace(
    "str(place), layer) for", "type(layer).__name__[:1].replace('B', 'N') + str(place), layer) for"
).replace("def predict(self, x):", "def predict(self, x, train_flg=True):")


def flagged(call="layer.forward(x, train_flg)", loop="self.layers.items()", test='"N" in key'):
    other = f"if {test}:\n                x = {call}\n            else:\n                x = layer.forward(x)\n"
    return FLAGGED.replace(LOOP, f"for key, layer in {loop}:\n            {other}")


@pytest.mark.parametrize("source", [BOOK + NETWORK, OTHER + NETWORK, BOOK + flagged(), OTHER + flagged()])
@pytest.mark.parametrize(
    ("kinds", "widths"), [("ANRA", (60, 30, 10)), ("ANSARANA", (20, 30, 15, 12, 4)), ("ANA", (9, 5, 7))]
)
def test_a_stack_leaves_what_its_layers_would(both, source, kinds, widths):
    plain, fast, counts = both(source)
    inputs = [RNG.standard_normal((rows, widths[0])) for rows in (50, 20, 50, 7)]
    steps([made_of(one, kinds, widths) for one in (fast, plain)], inputs, count=6)
    assert compiled(counts, "Network.predict: layers") >= 4
    assert compiled(counts, "Network.gradient: layers") >= 5


EXPRESSION = """for key, layer in self.layers.items():
            x = layer.forward(x, train_flg) if "N" in key else layer.forward(x)
"""


@pytest.mark.parametrize(
    "network", [flagged(), flagged("layer.forward(x, train_flg=train_flg)"), FLAGGED.replace(LOOP, EXPRESSION)]
)
def test_a_flag_is_passed_on(both, network):
    """With False it predicts, from running means. What is no bool is for the layers themselves."""
    plain, fast, counts = both(BOOK + network)
    networks = [made_of(one, "ANRANRA", (30, 20, 10, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    before, x = compiled(counts, "Network.predict: layers"), RNG.standard_normal((40, 30))
    assert before == 4
    for flag in (False, 0, None, True, 1):
        one, other = (network.predict(x, flag) for network in networks)
        assert_same(one, other, f"scores of {flag}")
        assert_same_state(*networks)
    assert compiled(counts, "Network.predict: layers") == before + 2


def test_a_flag_for_all_layers(both):
    """Where every forward takes it, used or not."""
    layers = OTHER.replace("def forward(self, x):", "def forward(self, x, training=True):")
    layers = layers.replace("def forward(self, inputs):", "def forward(self, inputs, training=True):")
    network = NETWORK.replace("predict(self, x)", "predict(self, x, training=True)")
    plain, fast, counts = both(layers + network.replace("layer.forward(x)", "layer.forward(x, training)"))
    networks = [made_of(one, "ANRA", (30, 20, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))], count=5)
    before = compiled(counts, "Network.predict: layers")
    assert before >= 3
    for flag in (False, True):
        assert_same(*(one.predict(np.ones((20, 30)), flag) for one in networks), f"scores of {flag}")
        assert_same_state(*networks)
    assert compiled(counts, "Network.predict: layers") == before + 2


LEFT = {
    "a flag that is computed": "layer.forward(x, not train_flg)",
    "the value itself": "layer.forward(x, x)",
    "a variable that the loop sets": "layer.forward(x, key)",
    "two flags": "layer.forward(x, train_flg, True)",
    "another keyword": "layer.forward(x, **{'train_flg': train_flg})",
    "a variable that has no value": "layer.forward(x, unknown)",
}


@pytest.mark.parametrize("name", LEFT)
def test_other_calls_are_left(both, name):
    plain, fast, counts = both(BOOK + flagged(LEFT[name]))
    networks = [made_of(one, "ANRA", (30, 20, 5)) for one in (fast, plain)]
    said = []
    for network in networks:
        for _ in range(3):
            try:
                said.append(network.predict(np.ones((20, 30)) + np.eye(20, 30)))
            except Exception as error:
                said.append((type(error), str(error)))
    for one, other in zip(said[:3], said[3:], strict=True):
        assert_same(one, other, name) if isinstance(one, np.ndarray) else None
        assert isinstance(one, np.ndarray) or one == other
    assert not compiled(counts, "Network.predict: layers")


def test_a_layer_that_a_network_has_twice(both):
    """Its second call goes on from the running means of its first."""
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, "ANRANRA", (30, 20, 20, 5)) for one in (fast, plain)]
    for network in networks:
        network.layers["4"] = network.layers["1"]
    steps(networks, [RNG.standard_normal((40, 30))])
    assert not compiled(counts, "Network.predict: layers")


CHANGES = {
    "running means of another dtype": ("running_mean", lambda value: value.astype(np.float32)),
    "no running means": ("running_mean", lambda value: None),
    "gamma of another shape": ("gamma", lambda value: value[None, :].copy()),
    "one gamma for all": ("gamma", lambda value: np.array(1.5)),
    "a list": ("beta", list),
    "a momentum that is an array": ("momentum", lambda value: np.full(20, 0.9)),
    "gamma that is NaN": ("gamma", lambda value: value * np.nan),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_left(both, name):
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, "ANRA", (30, 20, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    before, x = compiled(counts, "Network.predict: layers"), RNG.standard_normal((40, 30))
    attribute, change = CHANGES[name]
    said = []
    for network in networks:
        layer = network.layers["1"]
        setattr(layer, attribute, change(getattr(layer, attribute)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                said.append((network.predict(x), [str(one.message) for one in caught]))
            except Exception as error:
                said.append((type(error), str(error)))
    if isinstance(said[0][0], np.ndarray):
        assert_same(said[0][0], said[1][0], name)
        assert_same_state(*networks)
    assert said[0][1] == said[1][1]
    assert compiled(counts, "Network.predict: layers") == before


def test_what_is_kept_may_be_changed_before_backward(both):
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, "ANRA", (30, 20, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    before = compiled(counts, "Network.gradient: layers")
    for network in networks:
        network.predict(np.linspace(0, 1, 1200).reshape(40, 30) ** 2)
        network.layers["1"].std[3] *= 2
        network.layers["1"].xn = network.layers["1"].xn[:, ::-1].copy()
        network.gradient(np.ones((40, 5)))
    assert_same_state(*networks)
    assert compiled(counts, "Network.gradient: layers") == before + 1
    for network in networks:
        network.layers["1"].batch_size = 20
        network.gradient(np.ones((40, 5)))
    assert_same_state(*networks)
    for network in networks:
        network.layers["1"].batch_size = 40
        network.layers["1"].xc = np.asfortranarray(network.layers["1"].xc)
        network.gradient(np.ones((40, 5)))
    assert_same_state(*networks)
    assert compiled(counts, "Network.gradient: layers") == before + 1


def test_orders_of_layers_that_are_no_stack(both):
    for kinds in ("ARNA", "NARA", "ANN", "ANRAN"):
        plain, fast, counts = both(BOOK + NETWORK)
        networks = [made_of(one, kinds, (20,) * 4) for one in (fast, plain) if "N" != kinds[0]]
        if networks:
            steps(networks, [RNG.standard_normal((40, 20))])
            assert not compiled(counts, "Network.predict: layers")


def test_an_audit_compares_every_layer(tmp_path, monkeypatch):
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        fast = define(BOOK + flagged(), tmp_path)
    finally:
        stop_accelerating()
    network, x = made_of(fast, "ANRA", (30, 20, 10)), RNG.standard_normal((25, 30))
    for _ in range(3):
        network.predict(x)
        network.gradient(np.ones((25, 10)))
    assert auditor.audits["Network.predict: layers"].calls == 3
    assert auditor.audits["Network.gradient: layers"].calls == 3
    right = normalized_stacks.NormalizedStack.forward

    def wrong(*arguments, **named):
        results = right(*arguments, **named)
        results[6][0][5][3] += 1e-3
        return results

    monkeypatch.setattr(normalized_stacks.NormalizedStack, "forward", wrong)
    with pytest.raises(DifferenceFound, match=r"Network.predict: layers, call 4: layers\[1\].running_mean\[3\] is"):
        network.predict(x)


@pytest.mark.parametrize(("affine", "are_taken"), [(MOST_LAYERS, True), (MOST_LAYERS + 1, False)])
@pytest.mark.parametrize("block", ["AR", "ANR"])
def test_the_deepest_network(both, block, affine, are_taken):
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, block * (affine - 1) + "A", (20,) * (affine + 1)) for one in (fast, plain)]
    for network in networks:
        for layer in network.layers.values():
            if hasattr(layer, "W"):
                layer.W /= 4
    steps(networks, [RNG.standard_normal((40, 20))], count=3)
    assert (compiled(counts, "Network.gradient: layers") > 0) == are_taken
