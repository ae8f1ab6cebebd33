"""Optimizers in anybody's words: their elementwise statements run in one pass, and all that shows is Python's."""

from __future__ import annotations

import traceback
import warnings

import numpy as np
import pytest
from conftest import examples
from dropin_cases import define
from fusing_cases import HEAD, assert_equal, plain_and_accelerated, state_of
from hypothesis import given
from hypothesis import strategies as st

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning.calls import Counter
from fastbp.dropin.beginning.idling import Idling

INIT = """
        if self.m is None:
            self.m, self.v = {}, {}
            for key, value in params.items():
                self.m[key], self.v[key] = np.zeros_like(value), np.zeros_like(value)
"""
CLASS = """class Rule:
    def __init__(self, lr=0.01, beta1=0.9, beta2=0.99):
        self.lr, self.beta1, self.beta2, self.m, self.v, self.t = lr, beta1, beta2, None, None, 0

    def update(self, params, grads):
"""
RULES = {
    "bias corrected": INIT + """
        self.t += 1
        for key in params:
            self.m[key] = self.beta1 * self.m[key] + (1 - self.beta1) * grads[key]
            self.v[key] = self.beta2 * self.v[key] + (1 - self.beta2) * grads[key] ** 2
            m_hat = self.m[key] / (1 - self.beta1 ** self.t)
            v_hat = self.v[key] / (1 - self.beta2 ** self.t)
            params[key] -= self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)
""",
    "in place": INIT + """
        self.t += 1
        lr_t = self.lr * math.sqrt(1 - self.beta2 ** self.t) / (1 - self.beta1 ** self.t)
        for key in params.keys():
            self.m[key] *= self.beta1
            self.m[key] += (1 - self.beta1) * grads[key]
            self.v[key] *= self.beta2
            self.v[key] += (1 - self.beta2) * np.square(grads[key])
            params[key] -= lr_t * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)
""",
    "momentum": INIT + """
        for key in grads.keys():
            self.m[key] = self.beta1 * self.m[key] - self.lr * grads[key]
            params[key] += self.m[key]
""",
    "gradient descent": INIT + """
        for i, key in enumerate(params):
            params[key] -= self.lr * grads[key]
""",
    "nesterov": INIT + """
        for key, value in params.items():
            before = self.m[key].copy()
            self.m[key] *= self.beta1
            self.m[key] -= self.lr * grads[key]
            value += -self.beta1 * before + (1 + self.beta1) * self.m[key]
""",
    "root of the sum": INIT + """
        for key in params:
            gradient = grads[key]
            history = self.v[key]
            history += gradient * gradient
            params[key] -= self.lr * gradient / np.sqrt(history + 1e-7)
            self.last = gradient
""",
    "weight decay": INIT + """
        for key in params:
            if "b" in key:
                params[key] -= self.lr * grads[key]
                continue
            self.m[key] = self.beta1 * self.m[key] + grads[key] + 0.1 * params[key]
            params[key] = params[key] - self.lr * self.m[key]
""",
    "aliases": INIT + """
        for key in params:
            m = self.m[key]
            m += (1 - self.beta1) * (grads[key] - m)
            also = m
            also *= 0.5
            self.v[key] = m
            params[key] -= self.lr * +also
            self.kept = -(also + m)
""",
}  # fmt: skip


def arrays(seed, dtype=np.float64, count=3):
    rng = np.random.default_rng(seed)
    return {f"{'bW'[i % 2]}{i}": rng.standard_normal((7, 20 + i)).astype(dtype) for i in range(count)}


@pytest.fixture
def both(tmp_path):
    return lambda body, head=HEAD + CLASS: plain_and_accelerated(tmp_path, head + body)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_gives_the_same_bits(both, name, dtype):
    plain, fast, counts = both(RULES[name])
    optimizers, params = [module.Rule() for module in (plain, fast)], [arrays(1, dtype), arrays(1, dtype)]
    for step in range(4):
        given = [arrays(2 + step, dtype) for _ in params]
        for optimizer, own, grads in zip(optimizers, params, given, strict=True):
            grads["W1"] = grads["W1"].T.copy().T  # in another layout
            optimizer.update(own, grads)
        assert_equal(*reversed(params), "params")
        assert_equal(*reversed(given), "grads")
        assert_equal(*[state_of(one) for one in reversed(optimizers)], "state")
    (count,) = counts.values()
    assert count.calls > count.passed == 4 * (name == "in place")  # where lr_t is computed, there is no array


def test_arrays_are_changed_in_place_where_python_changes_them(both):
    plain, fast, _ = both(RULES["aliases"])
    for module in (plain, fast):
        optimizer, params = module.Rule(), arrays(1, count=1)
        weights = params["b0"]
        optimizer.update(params, arrays(2, count=1))
        assert params["b0"] is weights
        assert optimizer.v["b0"] is optimizer.m["b0"]


def test_a_function_that_returns_what_it_computes(both):
    """An optimizer of one array, its state numbers at first: they become arrays."""
    head = (
        HEAD
        + "class One:\n    def __init__(self):\n        self.m = self.v = self.step = 0\n        self.lr = 0.01\n\n"
    )
    body = """
    def optimize(self, weight, grad):
        self.step += 1
        lr_t = self.lr * np.sqrt(1.0 - 0.999 ** self.step) / (1.0 - 0.9 ** self.step)
        self.m += 0.1 * (grad - self.m)
        self.v += 0.001 * (grad ** 2 - self.v)
        return weight - lr_t * self.m / (np.sqrt(self.v) + 1e-7)
"""
    plain, fast, counts = both(body, head)
    optimizers, weights = [module.One() for module in (plain, fast)], [arrays(1)["W1"]] * 2
    for step in range(3):
        gradient = arrays(2 + step)["W1"]
        weights = [one.optimize(weight, gradient) for one, weight in zip(optimizers, weights, strict=True)]
        assert_equal(weights[1], weights[0])
        assert_equal(state_of(optimizers[1]), state_of(optimizers[0]))
    assert counts["One.optimize"].passed == 0


@pytest.mark.parametrize(
    ("edit", "given"),
    [
        (("", ""), arrays(2, np.float32)),  # of another dtype than the parameters
        (("", ""), {key: np.ma.masked_array(value) for key, value in arrays(2).items()}),
        (("", ""), {key: value[:1] for key, value in arrays(2).items()}),  # which NumPy broadcasts
        (("self.lr * m_hat", "np.float32(self.lr) * m_hat"), arrays(2)),
        (("self.lr * m_hat", "np.tanh(m_hat)"), arrays(2)),
        (("grads[key] ** 2", "grads[key] ** 4"), arrays(2)),
        (("grads[key] ** 2", "abs(grads[key])"), arrays(2)),
        (("m_hat /", "m_hat //"), arrays(2)),
        (("self.m[key] /", "self.m[str(key)] /"), arrays(2)),
    ],
)  # fmt: skip
def test_what_no_program_does_is_pythons(both, edit, given):
    source = RULES["bias corrected"]
    assert edit[0] in source
    plain, fast, _ = both(source.replace(*edit))
    params = [arrays(1), arrays(1)]
    optimizers = [module.Rule() for module in (plain, fast)]
    for _ in range(2):
        for optimizer, own in zip(optimizers, params, strict=True):
            optimizer.update(own, given)
    assert_equal(*reversed(params))
    assert_equal(*[state_of(one) for one in reversed(optimizers)])


def test_arrays_that_share_memory_are_pythons(both):
    plain, fast, counts = both(RULES["momentum"])
    results = []
    for module in (plain, fast):
        whole = np.arange(300.0)
        params, grads = {"W": whole[:200]}, {"W": whole[100:]}
        optimizer = module.Rule()
        optimizer.update(params, grads)
        optimizer.update(params, {"W": params["W"]})
        results.append(whole)
    np.testing.assert_array_equal(results[1], results[0])
    assert counts["Rule.update"].passed == 2


def test_what_is_read_after_the_statements_is_there(both):
    """A variable that a later line reads, and one that the next round of the loop begins with."""
    body = (
        INIT
        + """
        total = None
        for key in params:
            scaled = self.lr * grads[key] * 2 + 1
            params[key] -= scaled * scaled / 3
            total = scaled.sum() if total is None else total + scaled.sum()
        self.total, self.scaled = total, scaled
"""
    )
    plain, fast, counts = both(body)
    optimizers = [module.Rule() for module in (plain, fast)]
    for optimizer in optimizers:
        optimizer.update(arrays(1), arrays(2))
    assert_equal(*[state_of(one) for one in reversed(optimizers)])
    assert counts["Rule.update"].passed == 0


def test_a_function_of_that_name_that_is_its_own_variable(both):
    body = (
        INIT
        + """
        sqrt = float = abs
        for key in params:
            self.m[key] = float(self.lr) * grads[key] ** 2 + self.m[key] * 2
            params[key] -= sqrt(self.m[key]) * self.lr
"""
    )
    plain, fast, _ = both(body, HEAD + "from numpy import sqrt\n\n" + CLASS)
    params = [arrays(1), arrays(1)]
    for module, own in zip((plain, fast), params, strict=True):
        module.Rule().update(own, arrays(2))
    assert_equal(*reversed(params))


def test_what_a_statement_sets_names_what_the_next_one_reads(both):
    """An index that moves, and a dict that is replaced: the places after it are others."""
    bodies = (
        INIT
        + """
        place, scales = 0, [2.0, 3.0, 5.0, 7.0]
        for key in params:
            place = place + 1
            params[key] -= self.lr * scales[place] * grads[key]
            self.m[key] = scales[place] * grads[key] + 1
""",
        INIT
        + """
        for key in params:
            self.m = self.v
            self.m[key] = self.m[key] * 2 + self.lr * grads[key]
            params[key] -= self.lr * self.m[key]
""",
    )
    for body in bodies:
        plain, fast, _ = both(body)
        optimizers, params = [module.Rule() for module in (plain, fast)], [arrays(1), arrays(1)]
        for _ in range(2):
            for optimizer, own in zip(optimizers, params, strict=True):
                optimizer.update(own, arrays(2))
        assert_equal(*reversed(params))
        assert_equal(*[state_of(one) for one in reversed(optimizers)])


def test_errors_are_pythons(both):
    plain, fast, _ = both(RULES["bias corrected"])
    for params, grads, error in (
        (arrays(1), {}, KeyError),
        (arrays(1), dict.fromkeys(arrays(1), "text"), TypeError),
        (arrays(1), {key: np.zeros((3, 3, 3)) for key in arrays(1)}, ValueError),
    ):
        texts, states = [], []
        for module in (plain, fast):
            optimizer, own = module.Rule(), {key: value.copy() for key, value in params.items()}
            with pytest.raises(error) as raised:
                optimizer.update(own, grads)
            last = traceback.extract_tb(raised.value.__traceback__)[-1]
            texts.append((str(raised.value), last.name, last.lineno))
            states.append({"params": own, **state_of(optimizer)})
        assert texts[0] == texts[1]
        assert_equal(states[1], states[0])


@pytest.mark.parametrize("value", [1e200, np.inf, np.nan])
def test_warnings_are_numpys_at_the_same_line(both, value):
    """Where a number overflows, NumPy computes the blocks with it, and warns."""
    plain, fast, counts = both(RULES["bias corrected"])
    seen, results = [], []
    for module in (plain, fast):
        params, grads = {"W": np.ones(1000)}, {"W": np.ones(1000)}
        grads["W"][[5, 400]] = value
        optimizer = module.Rule()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            optimizer.update(params, grads)
            optimizer.update(params, grads)
        seen.append({(str(one.message), one.category, one.lineno) for one in caught})
        results.append({"params": params, **state_of(optimizer)})
    assert seen[0] == seen[1]
    assert bool(seen[0]) == (not np.isnan(value))
    assert_equal(results[1], results[0])
    assert counts["Rule.update"].passed == 0


def test_methods_that_look_at_their_variables_are_left(both):
    for line in ("        names = sorted(locals())\n", "        yield 1\n"):
        plain, fast, counts = both(RULES["momentum"] + line)
        assert not counts
        assert fast.Rule.update.__code__.co_code == plain.Rule.update.__code__.co_code


def test_names_defaults_and_documentation_stay(both):
    body = RULES["momentum"].replace("        if self.m", '        """One step."""\n        if self.m', 1)
    plain, fast, counts = both(body)
    for name in ("__name__", "__qualname__", "__doc__", "__defaults__", "__annotations__"):
        assert getattr(fast.Rule.update, name) == getattr(plain.Rule.update, name)
    assert fast.Rule.update.__code__.co_varnames[:3] == ("self", "params", "grads")
    assert counts


def test_small_arrays_cost_nothing_after_many_calls(both, monkeypatch):
    from fastbp.dropin.networks import fusing

    monkeypatch.setattr(fusing, "LEAST_NUMBERS", 1000)
    plain, fast, _ = both(RULES["momentum"])
    fused = fast.Rule.update
    optimizer, params, grads = fast.Rule(), arrays(1), arrays(2)
    for _ in range(Idling.MOST // 3 + 2):
        optimizer.update(params, grads)
    assert fast.Rule.update is not fused
    expected, own = plain.Rule(), arrays(1)
    for _ in range(Idling.MOST // 3 + 2):
        expected.update(own, grads)
    assert_equal(params, own)
    fast.Rule()  # another object: its arrays may be large
    assert fast.Rule.update is fused


class EverySecond:
    """Sends every second call the second way."""

    def __init__(self):
        self.calls = 0

    def next_call(self):
        self.calls += 1
        return self.calls % 2 == 0


@pytest.mark.parametrize("name", ["bias corrected", "momentum", "gradient descent"])
def test_statements_and_programs_in_turn_give_the_same_bits(both, name, monkeypatch):
    from fastbp.dropin.networks import fusing

    monkeypatch.setattr(fusing, "SCALE", 1)
    monkeypatch.setattr(fusing, "new_tuning", EverySecond)
    plain, fast, counts = both(RULES[name])
    optimizers, params = [module.Rule() for module in (plain, fast)], [arrays(1), arrays(1)]
    for step in range(6):
        for optimizer, own in zip(optimizers, params, strict=True):
            optimizer.update(own, arrays(2 + step))
    assert_equal(*reversed(params), "params")
    (count,) = counts.values()
    assert count.passed == count.calls // 2


PLACES = ("p[k]", "g[k]", "self.a[k]", "x", "y")
NUMBERS = ("self.lr", "2", "0.5", "n", "(1 - self.lr)")


@st.composite
def bodies(draw):
    """Statements of a loop, in any order, with what they may read set before."""

    def expression(depth):
        if depth == 0 or draw(st.booleans()):
            return draw(st.sampled_from(PLACES + NUMBERS))
        kind = draw(st.integers(0, 6))
        one = expression(depth - 1)
        if kind == 0:
            return f"np.sqrt(np.square({one}))"
        if kind == 1:
            return f"({one}) ** 2"
        if kind == 2:
            return f"-({one})"
        return f"({one} {draw(st.sampled_from('+-*/'))} {expression(depth - 1)})"

    lines = []
    for _ in range(draw(st.integers(2, 5))):
        target = draw(st.sampled_from((*PLACES, "self.a[k]", "p[k]", "n")))
        operator = draw(st.sampled_from(("=", "+=", "-=", "*=")))
        lines.append(f"            {target} {operator} {expression(3)}\n")
    return "".join(lines)


@examples(150)
@given(bodies(), st.booleans())
def test_any_statements_do_what_python_does(tmp_path_factory, body, is_read):
    source = (
        HEAD + "class Rule:\n    def __init__(self):\n        self.lr = 0.3\n        self.a = {}\n\n"
        "    def update(self, p, g):\n        n, x = 1.5, None\n        for k in p:\n"
        "            x, y = p[k] * 2, g[k] + 1\n            self.a[k] = p[k] - g[k]\n"
        + body
        + ("            self.seen = x, y, n\n" if is_read else "")
    )
    folder = tmp_path_factory.mktemp("any")
    start_accelerating(Counter())
    try:
        fast = define(source, folder)
    finally:
        stop_accelerating()
    results = []
    for module in (define(source, folder), fast):
        rule, p, g = module.Rule(), arrays(1), arrays(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                rule.update(p, g)
                end = None
            except Exception as error:
                end = type(error)
        results.append((end, p, g, rule.a, getattr(rule, "seen", None)))
    (end, *expected), (actual_end, *actual) = results
    assert actual_end is end
    for one, other in zip(actual[:3], expected[:3], strict=True):
        assert_equal(one, other)
    for one, other in zip(actual[3] or (), expected[3] or (), strict=True):
        assert_equal(one, other)
