"""A network's methods whose np.sum(W ** 2) is computed in one pass: the same as before, in all that shows."""

from __future__ import annotations

import inspect
import traceback
import warnings

import numpy as np
import pytest
from dropin_cases import define, run, write

import fastbp
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning import calls
from fastbp.dropin.beginning.calls import Counter

NETWORK = '''
import numpy as np


class Affine:
    def __init__(self, W):
        self.W, self.dW = W, None


class Network:
    """A network."""

    decay: float = 0.25
    offset = 0

    def __init__(self, weights, hidden=3, *, scale=1):
        self.layers, self.__hidden, self.scale = [Affine(W) for W in weights], hidden, scale

    def forward(self, x):
        return x

    def loss(self, x, t=None, *, factor=0.5) -> float:
        """The loss."""
        total = 0
        for layer in self.layers:
            total += factor * self.decay * np.sum(layer.W ** 2)
        return self.forward(x) + total + self.__hidden + Network.offset

    def gradient(self, x, gradients):
        for layer, gradient in zip(self.layers, gradients):
            layer.dW = gradient
        dout = self.layers[-1].backward if x is None else 1
        grads = {}
        for number, layer in enumerate(self.layers):
            grads["W" + str(number)] = self.layers[number].dW + self.decay * layer.W
        return grads
'''
SQUARES = "np.sum(W ** 2)"


@pytest.fixture
def counted(tmp_path):
    """The module in plain Python, accelerated, and the counts of its calls."""
    counter, plain = Counter(), define(NETWORK, tmp_path)
    start_accelerating(counter)
    try:
        return plain.Network, define(NETWORK, tmp_path).Network, counter.counts
    finally:
        stop_accelerating()


def weights(rng, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in ((784, 100), (100, 100), (3, 2))]


def test_the_sum_is_computed_in_one_pass(counted):
    plain, fast, counts = counted
    rng = np.random.default_rng(0)
    of_weights, gradients = weights(rng), weights(rng)
    one, other = plain(of_weights), fast(of_weights)
    expected, actual = one.loss(1.0), other.loss(1.0)
    assert type(actual) is type(expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-14)
    expected, actual = one.gradient(0, gradients), other.gradient(0, gradients)
    assert list(actual) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value)
        assert actual[key].flags.owndata
    assert {name: (count.calls, count.passed) for name, count in counts.items()} == {SQUARES: (3, 0)}


@pytest.mark.parametrize("layout", ["F", "float32", "sliced", "int scale", "list", "nan", "huge", "infinite scale"])
def test_other_operands_give_what_the_expression_gives(counted, layout):
    plain, fast, _ = counted
    rng = np.random.default_rng(1)
    of_weights, gradients = weights(rng), weights(rng)
    networks = [one(of_weights) for one in (plain, fast)]
    first = of_weights[0]
    changed = {
        "F": np.asfortranarray(first), "float32": first.astype(np.float32), "sliced": first[::2], "list": list(first),
        "nan": np.where(first > 2, np.nan, first), "huge": 1e200 * first,
    }.get(layout, first)  # fmt: skip
    if layout == "sliced":
        gradients[0] = gradients[0][::2]
    outcomes = []
    for network in networks:
        network.layers[0].W = changed
        network.decay = {"int scale": 2, "infinite scale": np.inf}.get(layout, 0.25)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outcomes.append([network.loss(1.0), network.gradient(0, gradients)])
            except TypeError as error:
                outcomes.append([str(error)])
        outcomes[-1].append([str(one.message) for one in caught])
    assert outcomes[0][-1] == outcomes[1][-1]
    if len(outcomes[0]) == 2:
        assert outcomes[0] == outcomes[1]
        return
    np.testing.assert_allclose(outcomes[1][0], outcomes[0][0], rtol=1e-14 if layout != "float32" else 1e-6)
    for key, value in outcomes[0][1].items():
        np.testing.assert_array_equal(outcomes[1][1][key], value)
        assert outcomes[1][1][key].flags.f_contiguous == value.flags.f_contiguous


def test_the_method_is_otherwise_what_it_was(counted):
    plain, fast, _ = counted
    for name in ("loss", "gradient"):
        one, other = vars(plain)[name], inspect.unwrap(vars(fast)[name])
        assert inspect.signature(one) == inspect.signature(other)
        assert (one.__doc__, one.__qualname__, one.__name__) == (other.__doc__, other.__qualname__, other.__name__)
        assert one.__annotations__ == other.__annotations__
        assert inspect.getsource(one) == inspect.getsource(other)
    lines = []
    for network in (plain([None]), fast([None])):
        with pytest.raises(TypeError) as caught:
            network.loss(1.0)
        lines.append(
            {frame.lineno for frame in traceback.extract_tb(caught.value.__traceback__) if "variant" in frame.filename}
        )
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.sum(layer.W ** 2)", "np.sum(layer.W ** 2, axis=0).sum()"),
        ("np.sum(layer.W ** 2)", "np.sum(layer.W ** 3)"),
        ("np.sum(layer.W ** 2)", "np.prod(layer.W ** 2)"),
        ("np.sum(layer.W ** 2)", "sum(layer.W ** 2)"),
    ],
)
def test_another_expression_is_left(tmp_path, old, new):
    assert old in NETWORK
    source, counter = NETWORK.replace(old, new), Counter()
    start_accelerating(counter)
    try:
        define(source, tmp_path)
    finally:
        stop_accelerating()
    assert not counter.counts


def test_a_module_whose_np_is_another_runs_its_own(tmp_path):
    source = NETWORK.replace(
        "import numpy as np\n", "import types, numpy\nnp = types.SimpleNamespace(sum=lambda x: 7.0)\n"
    )
    with fastbp.accelerated():
        made = define(source, tmp_path).Network
    assert made(weights(np.random.default_rng(3))).loss(1.0) == 1.0 + 3 * 0.5 * 0.25 * 7.0 + 3


def test_until_kernels_begin_numpy_computes(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "_beginning", calls._Beginning())
    monkeypatch.setattr(calls._Beginning, "SECONDS", np.inf)
    monkeypatch.setattr(calls._Beginning, "LOADING", np.inf)
    with fastbp.accelerated():
        made = define(NETWORK, tmp_path).Network
    monkeypatch.delitem(__import__("sys").modules, "fastbp.kernels", raising=False)
    of_weights = weights(np.random.default_rng(4))
    assert made(of_weights).loss(0.0) == define(NETWORK, tmp_path).Network(of_weights).loss(0.0)


def test_an_audit_compares_it(tmp_path):
    write(tmp_path, "network.py", NETWORK)
    script = """
        import numpy as np
        from network import Network
        rng = np.random.default_rng(0)
        network = Network([rng.standard_normal((200, 100))])
        for _ in range(3):
            network.loss(1.0), network.gradient(0, [rng.standard_normal((200, 100))])
    """
    result = run(tmp_path, "-m", "fastbp", "audit", write(tmp_path, "script.py", script))
    assert result.returncode == 0, result.stderr
    assert SQUARES in result.stderr
