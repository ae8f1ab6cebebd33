"""A network's loss and gradient as one call: which methods it takes, what it leaves behind, and what it must not take."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, define, run, write
from network_texts import BOOK_NETWORK, LOSS, OTHER_LOSS, OTHERS, TEXTS, network_of
from stack_cases import LAYERS, OTHER_LAYERS, assert_same_state, compiled

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor, DifferenceFound
from fastbp.dropin.operations import network_stacks


def made_of(module, kinds, widths, seed=0, dtype=np.float64):
    rng, layers, widths = np.random.default_rng(seed), [], list(widths)
    for kind in kinds:
        if kind == "A":
            shape = widths[0], widths[1]
            del widths[0]
            layers.append(module.Affine(rng.standard_normal(shape).astype(dtype), np.ones(shape[1], dtype)))
        else:
            layers.append(module.Relu() if kind == "R" else module.Sigmoid())
    return module.Network(layers, module.SoftmaxWithLoss())


def batch(widths, rows=25, dtype=np.float64, labels=np.int64, seed=3):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((rows, widths[0])), rng.integers(0, widths[-1], rows)
    return (np.abs(50 * x).astype(dtype) if dtype == np.uint8 else x.astype(dtype)), t.astype(labels)


def assert_same_steps(networks, x, t, count=3):
    """Steps of both, fast and plain, with all that is left behind compared; and again as after an update in place."""
    fast, plain = networks
    loss = "cost" if hasattr(plain, "cost") else "loss"
    for step in range(count):
        for method in (loss, "gradient"):
            one, other = (getattr(network, method)(x, t) for network in networks)
            if method == loss:
                assert_same(one, other, loss)
            else:
                assert one.keys() == other.keys()
                for key, value in other.items():
                    assert_same(one[key], value, f"gradient of {key}")
            assert_same_state(fast, plain)
            assert vars(fast.last).keys() == vars(plain.last).keys()
            for name, value in vars(plain.last).items():
                assert_same(getattr(fast.last, name), value, name)
        for network in networks:
            for layer in network.layers.values():
                if hasattr(layer, "W"):
                    layer.W += 0.01 * (step + 1)


@pytest.fixture
def ready(both):
    """Two networks, fast and plain, whose layers are known, a batch, and the counts."""
    plain, fast, counts = both(LAYERS + LOSS + BOOK_NETWORK)
    networks, (x, t) = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], batch((30, 20, 10))
    assert_same_steps(networks, x, t)
    return networks, x, t, counts


@pytest.mark.parametrize("text", TEXTS)
def test_networks_are_recognised_however_they_are_written(text, both):
    plain, fast, counts = both(LAYERS + LOSS + network_of(TEXTS[text]))
    networks = [made_of(one, "ARASA", (30, 20, 15, 10)) for one in (fast, plain)]
    assert_same_steps(networks, *batch((30, 20, 15, 10)))
    name = "cost" if hasattr(plain.Network, "cost") else "loss"
    assert compiled(counts, f"Network.{name}: network") >= 2  # what is not the book's text to the letter is tried once
    assert compiled(counts, "Network.gradient: network") == 3


@pytest.mark.parametrize(
    ("widths", "rows", "taken"),
    [((30, 20, 10), 64, 3), ((30, 20, 10), 63, 0), ((784, 50, 10), 2, 2), ((784, 50, 10), 1, 0)],
)
def test_which_batches_are_large_enough(widths, rows, taken, both, monkeypatch):
    """Many rows of any network, or many multiplications; and fewer for a gradient than for a loss."""
    plain, fast, counts = both(LAYERS + LOSS + BOOK_NETWORK)
    assert_same_steps([made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], *batch((30, 20, 10)))
    monkeypatch.setattr(network_stacks, "MANY_ROWS", 64)
    monkeypatch.setattr(network_stacks, "LEAST_OF_STEP", 75_000)
    monkeypatch.setattr(network_stacks, "LEAST_PRODUCT", 262_144)
    calls = [f"Network.{name}: network" for name in ("loss", "gradient")]
    before = [compiled(counts, name) for name in calls]
    assert_same_steps([made_of(one, "ARA", widths) for one in (fast, plain)], *batch(widths, rows), count=1)
    after = [compiled(counts, name) - one for name, one in zip(calls, before, strict=True)]
    assert after == [taken & 1, taken >> 1]


def test_a_batch_of_no_rows_is_left(ready):
    networks, x, t, counts = ready
    before = compiled(counts, "Network.loss: network")
    for network in networks:
        with pytest.raises(ValueError, match="cannot reshape array of size 0"):
            network.loss(x[:0], t[:0])
    assert compiled(counts, "Network.loss: network") == before


@pytest.mark.parametrize("text", OTHERS)
def test_other_networks_are_left(text, both):
    plain, fast, counts = both(LAYERS + LOSS + network_of(OTHERS[text]))
    networks, (x, t) = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)], batch((30, 20, 10))
    fast.EVERYBODY, plain.EVERYBODY = networks
    for _ in range(3):
        for network in networks:
            network.gradient(x, t)
        assert_same_state(*networks)
        assert vars(networks[0]).keys() == vars(networks[1]).keys()
        assert getattr(networks[0], "count", 0) == getattr(networks[1], "count", 0)
        if hasattr(networks[1], "dout"):
            assert_same(networks[0].dout, networks[1].dout, "dout")
    assert compiled(counts, "Network.gradient: network") == 0


@pytest.mark.parametrize("kinds", ["A", "AA", "ARA", "ASA", "ARASARA"])
@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        (LAYERS, LOSS),
        (OTHER_LAYERS, OTHER_LOSS),
        (LAYERS, OTHER_LOSS.replace("1e-7", "1e-10")),
        (LAYERS, OTHER_LOSS.replace(" + 1e-7", "")),
        (LAYERS, OTHER_LOSS.replace("        exps =", "        self.scores = scores\n        exps =")),
    ],
)
def test_layers_of_all_kinds(kinds, layers, loss, both):
    text = TEXTS["the book's"].replace(
        "dout = 1\n        dout = self.last.backward(dout)", "dout = self.last.backward()"
    )
    plain, fast, counts = both(layers + loss + network_of(text))
    widths = [*[30, 20, 15, 12][: kinds.count("A")], 10]
    networks = [made_of(one, kinds, widths) for one in (fast, plain)]
    assert_same_steps(networks, *batch(widths), count=4)  # what is tried is left once
    if len(kinds) > 1:
        assert compiled(counts, "Network.gradient: network") >= 3


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize(
    "labels", [np.int64, np.uint8, np.int32, "one-hot", "one-hot of whole numbers", "distributions"]
)
def test_images_and_labels_of_every_dtype(dtype, labels, both):
    plain, fast, counts = both(LAYERS + LOSS + BOOK_NETWORK)
    networks = [made_of(one, "ARA", (30, 20, 10)) for one in (fast, plain)]
    x, t = batch((30, 20, 10), dtype=dtype, labels=labels if isinstance(labels, type) else np.int64)
    if not isinstance(labels, type):
        t = np.eye(10, dtype=int if "whole" in labels else float)[t]
        t = t + 0.3 * np.roll(t, 1, axis=1) if labels == "distributions" else t
    for images in (x, x.reshape(25, 1, 5, 6)):
        assert_same_steps(networks, images, t)
    assert compiled(counts, "Network.gradient: network") == 6


def test_networks_in_float32(both):
    plain, fast, counts = both(LAYERS + LOSS + BOOK_NETWORK)
    fast, plain = (made_of(one, "ARA", (30, 20, 10), dtype=np.float32) for one in (fast, plain))
    x, t = batch((30, 20, 10), dtype=np.float32)
    for network in (fast, plain):
        network.gradient(x, t)
    assert fast.last.loss.dtype == plain.last.loss.dtype
    assert_same_state(fast, plain)
    assert compiled(counts, "Network.gradient: network") == 1


@pytest.mark.parametrize("label", [10, -11, 2**40])
def test_a_label_that_is_no_class_is_the_script_s_own_error(label, ready):
    networks, x, t, _ = ready
    t[7] = label
    for method in ("loss", "gradient"):
        for network in networks:
            with pytest.raises(IndexError, match="out of bounds"):
                getattr(network, method)(x, t)


def test_a_negative_label_counts_from_the_end(ready):
    networks, x, t, _ = ready
    assert_same_steps(networks, x, t - 10)


@pytest.mark.parametrize("shape", [(25, 1), (24,), (25, 9), (25, 10, 1), ()])
def test_labels_of_other_shapes_are_left(shape, ready):
    networks, x, _, counts = ready
    before, outcomes = compiled(counts, "Network.gradient: network"), []
    for network in networks:
        try:
            outcomes.append(network.gradient(x, np.zeros(shape, int)).keys())
        except (ValueError, IndexError) as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]
    assert compiled(counts, "Network.gradient: network") == before


def test_targets_with_nan_are_left(ready):
    networks, x, t, _ = ready
    targets = np.eye(10)[t]
    targets[3, 4] = np.nan
    assert_same_steps(networks, x, targets, count=1)


def test_warnings_are_those_of_the_layers(ready):
    networks, x, t, counts = ready
    before, said = compiled(counts, "Network.gradient: network"), []
    for network in networks:
        network.layers["0"].W[3, 3] = 1e300
        network.layers["2"].W[...] = 1e300
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network.gradient(np.abs(x), t)
        said.append([str(one.message) for one in caught])
    assert said[0] == said[1]
    assert said[0]
    assert compiled(counts, "Network.gradient: network") == before
    assert_same_state(*networks)


def noting(own, called):
    def method(*given):
        called.append(own)
        return own(*given)

    return method


def test_what_a_mask_would_hide_is_left(ready):
    """A gradient that overflows, of a unit that is never active."""
    networks, x, t, counts = ready
    before, said = compiled(counts, "Network.gradient: network"), []
    targets = np.eye(10)[t] * 1e300
    for network in networks:
        network.layers["0"].b[3] = -1e6
        network.layers["2"].W[3] = 1e100
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network.gradient(x, targets)
        said.append([str(one.message) for one in caught])
    assert said[0] == said[1]
    assert compiled(counts, "Network.gradient: network") == before
    assert_same_state(*networks)


@pytest.mark.parametrize("name", ["loss", "predict"])
@pytest.mark.parametrize("is_of_class", [True, False])
def test_a_method_that_is_another_now_is_called(name, is_of_class, ready):
    networks, x, t, counts = ready
    before = compiled(counts, "Network.gradient: network")
    for network in networks:
        owner, called = type(network) if is_of_class else network, []
        setattr(owner, name, noting(getattr(owner, name), called))
        network.gradient(x, t)
        assert called
    assert compiled(counts, "Network.gradient: network") == before
    assert_same_state(*networks)


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize("place", ["1", "last"])
@pytest.mark.parametrize("is_of_class", [True, False])
def test_a_method_of_a_layer_that_is_another_now_is_called(name, place, is_of_class, ready):
    networks, x, t, counts = ready
    before = compiled(counts, "Network.gradient: network")
    for network in networks:
        layer, called = network.last if place == "last" else network.layers[place], []
        owner = type(layer) if is_of_class else layer
        own = getattr(owner, name)
        setattr(owner, name, noting(own, called))
        network.gradient(x, t)
        assert called
        setattr(owner, name, own) if is_of_class else delattr(owner, name)
    assert compiled(counts, "Network.gradient: network") == before
    assert_same_state(*networks)
    assert_same_steps(networks, x, t, count=1)
    assert compiled(counts, "Network.gradient: network") == before + 1


def test_a_subclass_that_does_more(both):
    source = (
        LAYERS
        + LOSS
        + BOOK_NETWORK
        + "\n"
        + """
class Scaled(Network):
    def predict(self, x):
        return 0.5 * super().predict(x)
class Same(Network):
    pass
"""
    )
    plain, fast, counts = both(source)
    for name, taken in (("Scaled", 0), ("Same", 3)):
        networks = []
        for module in (fast, plain):
            network = made_of(module, "ARA", (30, 20, 10))
            network.__class__ = getattr(module, name)
            networks.append(network)
        assert_same_steps(networks, *batch((30, 20, 10)))
        assert compiled(counts, "Network.gradient: network") == taken


def test_a_layer_that_a_network_has_twice(both):
    plain, fast, _ = both(LAYERS + LOSS + BOOK_NETWORK)
    networks = [made_of(one, "ARARA", (30, 20, 20, 10)) for one in (fast, plain)]
    for network in networks:
        network.layers["3"] = network.layers["1"]
        network.layers["2"].W = network.layers["2"].W[:20, :20].copy()
    assert_same_steps(networks, *batch((30, 20, 20, 10)))
    networks = [made_of(one, "ARARA", (30, 30, 30, 10)) for one in (fast, plain)]
    for network in networks:
        network.layers["2"] = network.layers["0"]
    assert_same_steps(networks, *batch((30, 30, 30, 10)))


def test_what_a_weight_decay_says_is_said(both):
    """Its square overflows, and nothing else."""
    plain, fast, counts = both(LAYERS + LOSS + network_of(TEXTS["a weight decay"]))
    said, (x, t) = [], batch((30, 20, 10))
    x[:, 5] = 0.0
    for module in (fast, plain):
        network = made_of(module, "ARA", (30, 20, 10))
        network.gradient(x, t)
        network.layers["0"].W[5] = 1e200
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network.gradient(x, t)
        said.append([str(one.message) for one in caught])
    assert said[0] == said[1] == ["overflow encountered in square"]
    assert compiled(counts, "Network.gradient: network") == 2


def test_results_stay_when_the_next_call_is_made(ready):
    (fast, _), x, t, _ = ready
    fast.gradient(x, t)
    kept = {name: value for layer in fast.layers.values() for name, value in vars(layer).items() if value is not None}
    kept.update(vars(fast.last))
    copies = {name: np.copy(value) for name, value in kept.items()}
    fast.gradient(x[::-1].copy(), t[::-1].copy())
    fast.loss(x + 1, t)
    for name, value in copies.items():
        np.testing.assert_array_equal(kept[name], value)


def audited(tmp_path, source):
    auditor = Auditor()
    start_accelerating(auditor)
    try:
        return define(source, tmp_path), auditor.audits
    finally:
        stop_accelerating()


def test_an_audit_compares_the_loss_and_every_layer(tmp_path, monkeypatch):
    fast, audits = audited(tmp_path, LAYERS + LOSS + BOOK_NETWORK)
    network, (x, t) = made_of(fast, "ARA", (30, 20, 10)), batch((30, 20, 10))
    for _ in range(3):
        network.loss(x, t)
        network.gradient(x, t)
    for name in ("loss", "gradient"):
        audit = audits[f"Network.{name}: network"]
        assert (audit.calls, audit.passed) == (3, 0)
        assert 0 <= audit.relative < 1e-12
    right = network_stacks.NetworkStack.gradient

    def wrong(*arguments):
        results = right(*arguments)
        results[-2][1][2, 3] *= 1.001
        return results

    monkeypatch.setattr(network_stacks.NetworkStack, "gradient", wrong)
    with pytest.raises(DifferenceFound, match=r"Network.gradient: network, call 4: layers\[2\].dW\[2, 3\] is"):
        network.gradient(x, t)


def test_an_audit_knows_what_cancels(tmp_path):
    """The gradient of a bias is a sum of numbers that cancel: what is left of it is rounding."""
    fast, audits = audited(tmp_path, LAYERS + LOSS + BOOK_NETWORK)
    network, x = made_of(fast, "ARA", (30, 20, 10)), batch((30, 20, 10), rows=100)[0]
    last = network.layers["2"]
    last.W[...], last.b[...] = 0.0, 0.0  # so all classes are as likely
    off = 0.01 * np.random.default_rng(0).random((50, 10))
    targets = 0.1 + np.random.default_rng(1).permutation(np.concatenate([off, -off]))
    for _ in range(3):
        network.gradient(x, targets)
    assert np.abs(last.db).max() < 1e-15 < np.abs(last.dW).max()
    audit = audits["Network.gradient: network"]
    assert (audit.calls, audit.passed) == (3, 0)


def test_a_script_with_a_network_gives_the_same_numbers(tmp_path):
    write(tmp_path, "network.py", LAYERS + LOSS + BOOK_NETWORK)
    script = """
        import numpy as np
        from network import *
        rng = np.random.default_rng(0)
        W1, W2 = 0.1 * rng.standard_normal((400, 40)), rng.standard_normal((40, 5))
        network = Network([Affine(W1, np.zeros(40)), Relu(), Affine(W2, np.zeros(5))], SoftmaxWithLoss())
        for step in range(60):
            x, t = rng.standard_normal((500, 400)), rng.integers(0, 5, 500)
            grads = network.gradient(x, t)
            W1 -= 0.1 * grads["0"]
            W2 -= 0.1 * grads["2"]
            print(f"{network.loss(x, t):.9g}")
        print(f"{np.abs(W1).sum():.9g} {np.abs(W2).sum():.9g}")
    """
    file = write(tmp_path, "script.py", script)
    plain, fast, checked = (
        run(tmp_path, *way, file) for way in ((), ("-m", "fastbp", "run"), ("-m", "fastbp", "audit"))
    )
    assert fast.returncode == 0, fast.stderr
    assert checked.returncode == 0, checked.stderr
    assert plain.stdout == fast.stdout == checked.stdout
    assert "Network.gradient: network" in checked.stderr
