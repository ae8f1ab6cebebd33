"""Networks with dropout whose loop through the layers becomes one call: what is drawn, kept and predicted."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_same, define
from stack_cases import (
    DROPOUT,
    LAYERS,
    NETWORK,
    NORMALIZATION,
    OTHER_DROPOUT,
    OTHER_LAYERS,
    OTHER_NORMALIZATION,
    RNG,
    assert_same_state,
    compiled,
    made_of,
    predicted,
    steps,
)

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor
from fastbp.dropin.operations.stacks import Dropped

BOOK = LAYERS + NORMALIZATION + DROPOUT
OTHER = OTHER_LAYERS + OTHER_NORMALIZATION + OTHER_DROPOUT
THIRD = OTHER_LAYERS + NORMALIZATION + DROPOUT.replace("x * (1.0 - self.dropout_ratio)", "x")
FLOAT = np.dtype(float)
LOOP = "for layer in self.layers.values():\n            x = layer.forward(x)\n"
# Layers that are called with a flag are known by their keys, as in the book's MultiLayerNetExtend.
FLAGGED = (
    NETWORK.replace("def predict(self, x):", "def predict(self, x, train_flg=True):")
    .replace(LOOP, "for key, layer in self.layers.items():\n            x = CALL\n")
    .replace("CALL", 'layer.forward(x, train_flg) if "D" in key or "B" in key else layer.forward(x)')
    .replace("str(place), layer) for", "type(layer).__name__[:1] + str(place), layer) for")
)


@pytest.mark.parametrize("source", [BOOK + NETWORK, OTHER + NETWORK, BOOK + FLAGGED, OTHER + FLAGGED])
@pytest.mark.parametrize(
    ("kinds", "widths"),
    [("ARDA", (60, 30, 10)), ("ARDASARDA", (20, 30, 15, 12, 4)), ("ANRDARDANRA", (30, 20, 10, 9, 5))],
)
def test_a_stack_leaves_what_its_layers_would(both, source, kinds, widths):
    plain, fast, counts = both(source)
    inputs = [RNG.standard_normal((rows, widths[0])) for rows in (50, 20, 50, 7)]
    steps([made_of(one, kinds, widths) for one in (fast, plain)], inputs, count=6)
    assert compiled(counts, "Network.predict: layers") >= 5
    assert compiled(counts, "Network.gradient: layers") >= 5


BY_KEY = """for key, layer in self.layers.items():
            x = layer.forward(x, train_flg) if "D" in key or "B" in key else layer.forward(x)
"""
BY_CLASS = {
    "in a list": """for layer in list(self.layers.values()):
            if isinstance(layer, (Dropout, BatchNormalization)):
                x = layer.forward(x, train_flg)
            else:
                x = layer.forward(x)
""",
    "in a dict": """for name, layer in self.layers.items():
            x = layer.forward(x, train_flg) if isinstance(layer, Dropout) or isinstance(layer, N) else layer.forward(x)
""".replace("N)", "BatchNormalization)"),
}
TEST = '"D" in key or "B" in key'
BY_TEXT = (
    'key.startswith(("D", "B"))',
    're.search("^[DB]", key) is not None',
    'key[:1] in ["D", "B"] and len(key) > 1',
    'not key[:-1] in ("A", "R")',
    'key.lower().rstrip("0123456789") not in ("a", "r")',
)
OTHERWISE = """for layer in self.layers.values():
            if isinstance(layer, Relu):
                x = abs(layer.forward(-x))
            else:
                x = layer.forward(x)
"""


@pytest.mark.parametrize("loop", [*BY_CLASS.values(), *(BY_KEY.replace(TEST, one) for one in BY_TEXT)])
def test_flags_by_the_class_or_the_key_of_a_layer(both, loop):
    assert BY_KEY in FLAGGED
    plain, fast, counts = both("import re\n" + BOOK + FLAGGED.replace(BY_KEY, loop))
    networks = [made_of(one, "ARDANRDA", (30, 20, 10, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    for flag in (False, True):
        (one, *drawn), (other, *expected) = (predicted(network, np.ones((40, 30)), 3, flag) for network in networks)
        assert_same(one, other, f"scores of {flag}")
        assert drawn == expected
    assert compiled(counts, "Network.predict: layers") == 6
    assert compiled(counts, "Network.gradient: layers") == 4


def test_what_a_test_of_the_key_does_beside_is_done_once(both):
    loop = BY_KEY.replace(TEST, f"seen.append(key) or {TEST}")
    plain, fast, counts = both("seen = []\n" + BOOK + FLAGGED.replace(BY_KEY, loop))
    for module in (plain, fast):
        made_of(module, "ARDA", (30, 20, 10)).predict(np.ones((40, 30)))
        assert module.seen == ["A0", "R1", "D2", "A3"]
    assert not compiled(counts, "Network.predict: layers")


def test_layers_of_a_class_that_are_called_otherwise(both):
    plain, fast, counts = both(BOOK + FLAGGED.replace(BY_KEY, OTHERWISE))
    for kinds, taken in (("ARA", 0), ("ASA", 3)):
        networks = [made_of(one, kinds, (30, 20, 10)) for one in (fast, plain)]
        for _ in range(3):
            one, other = (network.predict(np.ones((40, 30))) for network in networks)
            assert_same(one, other, kinds)
        assert compiled(counts, "Network.predict: layers") == taken


def test_a_class_that_is_not_there_is_the_script_s_own_error(both):
    plain, fast, _ = both(BOOK + FLAGGED.replace(BY_KEY, OTHERWISE.replace("Relu", "Missing")))
    for module in (plain, fast):
        network = made_of(module, "ARA", (30, 20, 10))
        for _ in range(2):
            with pytest.raises(NameError, match="Missing"):
                network.predict(np.ones((40, 30)))


@pytest.mark.parametrize("source", [BOOK, OTHER, THIRD])
@pytest.mark.parametrize("kinds", ["ARDARDA", "ANRDANRDA", "ARANRDA"])
def test_predictions(both, source, kinds):
    plain, fast, counts = both(source + FLAGGED)
    networks = [made_of(one, kinds, (30, 20, 10, 5)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    before, x = compiled(counts, "Network.predict: layers"), RNG.standard_normal((70, 30))
    for flag in (False, True, False):
        (one, *drawn), (other, *expected) = (predicted(network, x, 3, flag) for network in networks)
        assert_same(one, other, f"scores of {flag}")
        assert drawn == expected
        assert_same_state(*networks)
    assert compiled(counts, "Network.predict: layers") == before + 3


@pytest.mark.parametrize("ratio", [1e7, np.nan, np.inf, np.float32(0.2), "0.2", True])
def test_ratios_that_are_not_ordinary_ones(both, ratio):
    plain, fast, _ = both(BOOK + FLAGGED)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    x = RNG.standard_normal((40, 30))
    steps(networks, [x])
    found = []
    for network in networks:
        network.layers["D2"].dropout_ratio = ratio
        for flag in (True, False):
            try:
                with np.errstate(all="ignore"):
                    found.append(predicted(network, x, 3, flag))
            except Exception as error:
                found.append((type(error), str(error)))
    for one, other in zip(found[:2], found[2:], strict=True):
        if isinstance(other[0], type):
            assert one == other
            continue
        assert_same(one[0], other[0], ratio)
        assert one[1:] == other[1:]


@pytest.mark.parametrize("ratio", [0.3, np.float64(0.3)])
@pytest.mark.parametrize("source", [BOOK, OTHER, THIRD])
def test_networks_in_float32(both, source, ratio):
    """np.float64 makes float64 of them, where they are multiplied or divided."""
    plain, fast, counts = both(source + FLAGGED)
    networks = [made_of(one, "ARDA", (30, 20, 10), dtype=np.float32) for one in (fast, plain)]
    x = RNG.standard_normal((40, 30)).astype(np.float32)
    for network in networks:
        dropout = network.layers["D2"]
        setattr(dropout, "rate" if hasattr(dropout, "rate") else "dropout_ratio", ratio)
    for flag in (True, False, True):
        (one, *drawn), (other, *expected) = (predicted(network, x, 3, flag) for network in networks)
        assert (one.dtype, drawn) == (other.dtype, expected)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        for network in networks:
            network.gradient(np.ones_like(other))
        dWs = [network.layers[next(iter(network.layers))] for network in networks]
        dWs = [getattr(layer, "dW", None) if hasattr(layer, "dW") else layer.grads[0] for layer in dWs]
        assert dWs[0].dtype == dWs[1].dtype
        np.testing.assert_allclose(*dWs, rtol=1e-4, atol=1e-4)
    assert compiled(counts, "Network.predict: layers") == (3 if type(ratio) is float else 0)


def test_where_the_loop_runs_after_all_the_same_numbers_are_drawn(both):
    """Numbers so large that NumPy may warn are seen when masks have been drawn."""
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    passed = counts["Network.predict: layers"].passed
    results = [predicted(network, np.full((40, 30), 1e155), 5) for network in networks]
    assert_same(results[0][0], results[1][0], "scores")
    assert results[0][1:] == results[1][1:]
    assert_same_state(*networks)
    assert counts["Network.predict: layers"].passed == passed + 1


@pytest.mark.parametrize("kinds", ["ASDA", "ADA", "DARA", "ARDDA", "ANDRA"])
def test_orders_of_layers_that_are_no_stack(both, kinds):
    plain, fast, counts = both(BOOK + NETWORK)
    steps([made_of(one, kinds, (30, 20, 10)) for one in (fast, plain)], [RNG.standard_normal((40, 30))])
    assert not compiled(counts, "Network.predict: layers")


KEEPS = {
    "what it is given": ("self.mask = np", "self.x = x\n            self.mask = np"),
    "what it gives": ("return x * self.mask", "self.out = x * self.mask\n            return self.out"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_dropout_that_keeps_more(both, name):
    plain, fast, _ = both(BOOK.replace(*KEEPS[name]) + NETWORK)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))], count=6)


def test_relu_that_keeps_what_it_gives(both):
    """In a stack, that is what dropout leaves of it."""
    source = BOOK.replace(
        "        return out\n\n    def backward(self, dout):\n        dout[",
        "        self.out = out\n        return out\n\n    def backward(self, dout):\n        dout[",
    )
    plain, fast, counts = both(source + NETWORK)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))], count=6)
    assert not compiled(counts, "Network.predict: layers")


@pytest.mark.parametrize(
    "change", [lambda mask: ~mask, lambda mask: mask.astype(float), lambda mask: mask[:, :1].copy()]
)
def test_a_mask_may_be_changed_before_backward(both, change):
    plain, fast, _ = both(BOOK + NETWORK)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    steps(networks, [RNG.standard_normal((40, 30))])
    for network in networks:
        predicted(network, np.ones((40, 30)), 1)
        network.layers["2"].mask = change(network.layers["2"].mask)
        network.gradient(np.ones((40, 10)))
    assert_same_state(*networks)


def test_where_another_generator_draws_the_loop_runs(both, monkeypatch):
    """What it has drawn could not be undone."""
    plain, fast, counts = both(BOOK + NETWORK)
    networks = [made_of(one, "ARDA", (30, 20, 10)) for one in (fast, plain)]
    monkeypatch.setattr(np.random, "rand", lambda *shape: np.random.random_sample(shape) ** 2)
    steps(networks, [RNG.standard_normal((40, 30))])
    assert compiled(counts, "Network.predict: layers") == 0


def test_an_audit_compares_dropout(tmp_path):
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        network = made_of(define(BOOK + FLAGGED, tmp_path), "ANRDARDA", (30, 20, 10, 5))
    finally:
        stop_accelerating()
    for flag in (True, True, False, True):
        network.predict(RNG.standard_normal((40, 30)), flag)
        network.gradient(RNG.standard_normal((40, 5)))
    assert auditor.audits["Network.predict: layers"].calls == 4
    assert auditor.audits["Network.predict: layers"].passed == 0


def test_what_is_kept_is_multiplied_with():
    assert Dropped("dropout_forward").scale(0.4, FLOAT) == Dropped("dropout_off").scale(0.4, FLOAT) == 1
    assert Dropped("dropout_apply").scale(0.4, FLOAT) == 0.6
    assert Dropped("dropout_forward_inverted").scale(0.5, FLOAT) == 2
    for ratio in (1, 1.5, 1 - 1e-9, np.nan, "0.5", None):
        assert Dropped("dropout_backward_inverted").scale(ratio, FLOAT) is None
