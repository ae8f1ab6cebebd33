"""Calls of a stack: what is changed between them or does not fit, errors and warnings, threads, small networks, audits."""

from __future__ import annotations

import gc
import sys
import textwrap
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from dropin_cases import assert_same, define, run, write
from stack_cases import LAYERS, NETWORK, OTHER_LAYERS, RNG, assert_same_state, compiled, made_of, steps

import fastbp
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.auditing import Auditor, DifferenceFound
from fastbp.dropin.beginning import calls
from fastbp.dropin.objects import arguments
from fastbp.dropin.objects.kept import Kept
from fastbp.dropin.operations import stacks


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


def test_classes_that_are_defined_anew_are_given_up(tmp_path, monkeypatch):
    """As in a notebook, whose cells are run again and again."""
    monkeypatch.setattr(calls, "_beginning", beginning := calls._Beginning())
    beginning.over = True
    with fastbp.accelerated():
        module = define(LAYERS + NETWORK, tmp_path)
        network = made_of(module, "ARA", (30, 20, 10))
        for _ in range(3):
            network.predict(RNG.standard_normal((25, 30)))
    found = [weakref.ref(one) for one in (module.Affine, module.Relu, module.Network)]
    del module, network
    gc.collect()
    assert [one() for one in found] == [None] * 3


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


def test_what_is_kept_begins_anew_once_it_is_too_much():
    kept = Kept(2)
    kept["a"], kept["b"], kept["a"] = 1, 2, 3
    assert kept == {"a": 3, "b": 2}
    kept["c"] = 4
    assert kept == {"c": 4}
