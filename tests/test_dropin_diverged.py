"""Networks that have diverged: NaN in all weights, until the end of the script. Kernels take them where NumPy is silent."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, define, run, write
from stack_cases import LAYERS, NETWORK, NORMALIZATION, assert_same_state, made_of

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning import calls
from fastbp.dropin.networks import stacking
from fastbp.dropin.objects.arguments import WASTED
from fastbp.dropin.operations import layers

ROWS, DEPTH, COLUMNS = 40, 300, 50
PLACES = ("W", "b", "x", "dout")


def drawn(dtype, is_sparse):
    rng = np.random.default_rng(3)
    x = rng.integers(1, 9, (ROWS, DEPTH)) * (rng.random((ROWS, DEPTH)) < (0.2 if is_sparse else 1))
    arrays = {"x": x.astype(dtype), "W": rng.standard_normal((DEPTH, COLUMNS)), "b": rng.standard_normal(COLUMNS)}
    return {**arrays, "dout": rng.standard_normal((ROWS, COLUMNS))}


def products(given):
    """What NumPy makes of them; it raises where it would warn."""
    x, W, b, dout = (given[name] for name in ("x", "W", "b", "dout"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.dot(x, W) + b, np.dot(dout, W.T), np.dot(x.T, dout), np.sum(dout, axis=0)


def ours(given):
    x, W, b, dout = (given[name] for name in ("x", "W", "b", "dout"))
    forward = layers.affine_forward(x, W, b)
    backward = layers.affine_backward(dout, x, W, x.shape, True)
    return (forward if forward is WASTED else forward[:1]), backward


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("place", [*PLACES, "W whole", "all"])
def test_nan_is_passed_on_as_numpy_does(place, dtype, is_sparse):
    given = drawn(dtype, is_sparse)
    for name in PLACES:
        if given[name].dtype != np.uint8 and (name == place or place == "all"):
            given[name].reshape(-1)[7::11] = np.nan
    if place == "W whole":
        given["W"][:] = np.nan
    expected = products(given)
    forward, backward = ours(given)
    for one, other in zip((*forward, *backward), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [np.inf, -np.inf, 1e200])
def test_where_numpy_warns_it_is_left_to_numpy(place, number):
    given = drawn(np.float64, False)
    for name in PLACES:
        given[name][..., 3] = np.nan
    given[place].reshape(-1)[1] = number
    forward, backward = ours(given)
    assert backward is WASTED if place != "b" else backward is not WASTED
    assert forward is WASTED if place != "dout" else forward is not WASTED


SCRIPT = """
import numpy as np
from layers import Affine, Relu

rng = np.random.default_rng(0)
layers = [Affine(rng.standard_normal((784, 50)), np.zeros(50)), Relu()]
x = (rng.random((200, 784)) * (rng.random((200, 784)) < 0.2)).astype(np.float32)
for step in range(30):
    y = x
    for layer in layers:
        y = layer.forward(y)
    dout = np.ones_like(y)
    for layer in reversed(layers):
        dout = layer.backward(dout)
    layers[0].W -= (np.nan if step == 9 else 1e-3) * layers[0].dW
print(np.isnan(y).all(), np.isnan(layers[0].dW).all())
"""


def test_a_script_goes_on_with_kernels_and_warns_as_python_does(tmp_path):
    write(tmp_path, "layers.py", LAYERS)
    script, report = write(tmp_path, "script.py", SCRIPT), tmp_path / "report.json"
    plain = run(tmp_path, script)
    done = run(tmp_path, "-m", "fastbp", "run", "--json", str(report), script, env={"FASTBP_LEAST_WORK": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    counts = json.loads(report.read_text())["calls"]
    for name in ("Affine.forward", "Affine.backward"):
        assert counts[name]["calls"] == 30
        assert counts[name]["passed"] == 0
    audit = run(tmp_path, "-m", "fastbp", "audit", script, env={"FASTBP_LEAST_WORK": "1"})
    assert audit.returncode == 0, audit.stderr


BOOK = LAYERS + NORMALIZATION + NETWORK
X = np.random.default_rng(5).standard_normal((40, 30))


def diverged(both, kinds="ARA"):
    """Two networks, accelerated and plain, of one step and with infinite weights then; and the counts of calls."""
    plain, fast, counts = both(BOOK)
    networks = [made_of(module, kinds, (30, 20, 10)) for module in (fast, plain)]
    both_step(networks)
    for network in networks:
        network.layers["0"].W[0] = np.inf
    return networks, counts


def both_step(networks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [network.predict(X) for network in networks]
        for network in networks:
            network.gradient(np.ones((40, 10)))
    assert_same(*results, "scores")
    assert_same_state(*networks)


@pytest.mark.parametrize("kinds", ["ARA", "ANRA"])
def test_a_loop_that_has_diverged_is_the_layers_own(both, kinds, monkeypatch):
    """Until there are many: kernels for single layers are compiled then."""
    monkeypatch.setattr(stacking, "MOST_DIVERGED", 3)
    networks, counts = diverged(both, kinds)
    for step in range(1, 6):
        both_step(networks)
        assert counts["Network.predict: layers"].passed == step
        assert counts["Affine.forward"].calls == 2 * max(0, step - 3)


@pytest.mark.parametrize("wrap", [calls.Counter(), calls.plain])
def test_what_is_put_there_later_counts(wrap, tmp_path):
    """On one object, or in the class."""
    start_accelerating(wrap)
    fast = define(BOOK, tmp_path)
    stop_accelerating()
    networks, _ = diverged(lambda source: (define(source, tmp_path), fast, None))
    for _ in range(20):
        both_step(networks)

    def tripled(x):
        return 3 * x[:, :20]

    for network in networks:
        network.layers["0"].forward = tripled
    both_step(networks)
    for network in networks:
        del network.layers["0"].forward
        type(network.layers["1"]).forward = lambda self, x: np.full(x.shape, 5.0)
    both_step(networks)


def test_other_layers_of_the_same_method(both):
    networks, _ = diverged(both)
    both_step(networks)

    class Doubling:
        def forward(self, x):
            return 2 * x

        def backward(self, dout):
            return 2 * dout

    for network in networks:
        network.layers["1"] = Doubling()
    both_step(networks)
