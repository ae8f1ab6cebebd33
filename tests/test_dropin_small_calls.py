"""Calls before kernels begin, and calls too small for them: the user's own methods run, at hardly any cost."""

from __future__ import annotations

import importlib
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from dropin_cases import define
from variants import variant

import fastbp
from fastbp.dropin.beginning import calls, estimates, idling, loading
from fastbp.dropin.objects.marks import own_of


def test_a_short_script_does_not_wait_for_numba(monkeypatch):
    beginning, called = calls._Beginning(), []
    monkeypatch.setattr(calls, "_beginning", beginning)
    method = calls.plain("f", lambda x: called.append("fast"), lambda x: called.append("own"))
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    method(1)
    assert called == ["own"]
    monkeypatch.setattr(beginning, "SECONDS", 0)
    method(1), method(1)
    assert called == ["own", "own", "fast"]


def test_many_small_calls_put_the_kernels_off(monkeypatch, small_relu):
    """Looking at them would take longer than the large ones gain."""
    beginning = calls._beginning
    monkeypatch.setattr(beginning, "over", False)
    monkeypatch.setattr(beginning.loader, "_thread", threading.Thread())  # as if it had begun
    monkeypatch.setattr(beginning, "work", 10.0)
    monkeypatch.setattr(beginning, "small", 0)
    relu, small, large = small_relu[0](), np.ones(10), np.ones((10, 10))
    relu.forward(small)
    assert beginning.small == 1
    monkeypatch.setattr(beginning, "small", 5_000_000)
    relu.forward(large)
    assert not beginning.over
    monkeypatch.setattr(beginning, "small", 1_000_000)
    relu.forward(large)
    assert beginning.over


@pytest.mark.parametrize(("seconds", "is_begun"), [(0.5, True), (10.0, False)])
def test_numba_is_imported_early_only_where_kernels_have_much_to_do(monkeypatch, seconds, is_begun):
    """When they begin does not depend on the time: that is counted."""
    beginning, begun, now = calls._Beginning(), [], [100.0]
    monkeypatch.setattr(beginning.loader, "begin", lambda: begun.append(True))
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    monkeypatch.setattr(calls, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    relu = object(), np.ones((100, 100))
    beginning.count("forward", relu, relu[1], calls.all_of_it)
    now[0] += seconds
    beginning.work = beginning._in_long_calls = 0.2
    beginning.count("forward", relu, relu[1], calls.all_of_it)
    assert (bool(begun), beginning.over) == (is_begun, False)
    beginning.work = 0.5
    beginning.count("forward", relu, relu[1], calls.all_of_it)
    assert beginning.over


def test_nothing_is_imported_any_more_once_the_script_is_over(monkeypatch, tmp_path):
    """What was being imported is not half there afterwards."""
    for number in range(20):
        (tmp_path / f"slow{number}.py").write_text("import time\ntime.sleep(0.05)\n", "utf-8")
    (tmp_path / "all_slow.py").write_text("".join(f"import slow{number}\n" for number in range(20)), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    began = threading.Event()

    def get_backend():
        began.set()
        importlib.import_module("all_slow")

    monkeypatch.setattr(loading, "get_backend", get_backend)
    loader = loading.Loader()
    loader.give_up()  # there is nothing to give up
    loader.begin()
    began.wait()
    loader.give_up()
    loader.wait()
    assert "all_slow" not in sys.modules
    assert "slow19" not in sys.modules
    importlib.import_module("slow19")  # in another thread


def _of_flag(self, x, train_flg=True, *, scale=2):
    return x, train_flg, scale


@pytest.mark.parametrize(
    "own",
    [
        lambda self, x: x,
        lambda self, x, train_flg=True, ratio=0.5: (x, train_flg, ratio),
        lambda x, name=3: (x, name),  # names that the written wrapper has for something else
        lambda self, own, least=1: (own, least),
        lambda self, *given, **named: (given, named),
        _of_flag,
        lambda x, /, y=2: (x, y),
    ],
)
def test_a_method_that_is_waited_for_takes_what_it_takes(monkeypatch, own):
    beginning = calls._Beginning()
    monkeypatch.setattr(calls, "_beginning", beginning)
    monkeypatch.setattr(beginning, "SECONDS", np.inf)
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    method = calls.plain("f", lambda *arguments: calls.PASS, own)
    x = np.ones((2, 3))
    given = [
        ((0, x), {}),
        ((x,), {}),
        ((0, x, False), {}),
        ((0,), {"x": x}),
        ((0, x), {"scale": 3}),
        ((), {}),
        ((1,) * 5, {}),
    ]
    for is_over in (False, True):
        beginning.over = is_over
        for arguments, named in given:
            expected, actual = ([], [])
            for function, into in ((own, expected), (method, actual)):
                try:
                    into.append(function(*arguments, **named))
                except TypeError as error:
                    into.append(str(error))
            assert actual == expected or actual[0] is expected[0], (arguments, named)


@pytest.fixture
def small_relu(monkeypatch, tmp_path):
    """The book's Relu, accelerated; arrays of fewer than 50 numbers are left to its own methods."""
    names = (
        (estimates, "LEAST_ELEMENTWISE"),
        (calls, "LEAST_COUNTED"),
        (fastbp.dropin.objects.arguments, "LEAST_ELEMENTWISE"),
        (idling.Idling, "MOST"),
    )
    for module, name in names:
        monkeypatch.setattr(module, name, 50)
    with fastbp.accelerated():
        made = define(variant("Relu"), tmp_path).Relu
    return made, {name: own_of(vars(made)[name]) for name in ("forward", "backward")}


@pytest.mark.parametrize("is_over", [False, True])
def test_a_class_of_small_calls_gets_its_own_methods_back_until_sizes_may_change(monkeypatch, small_relu, is_over):
    monkeypatch.setattr(calls._beginning, "over", is_over)
    monkeypatch.setattr(calls._Beginning, "SECONDS", np.inf)
    monkeypatch.setattr(calls._beginning.loader, "_thread", threading.Thread())  # as if it had begun
    made, own = small_relu
    relu, small, large = made(), np.ones(10), np.ones((10, 10))
    relu.forward(large)
    accelerated = dict(vars(made))
    for _ in range(49):
        relu.forward(small)
    assert vars(made)["forward"] is accelerated["forward"]
    relu.forward(small)
    assert vars(made)["forward"] is own["forward"]
    assert vars(made)["backward"] is accelerated["backward"]
    for _ in range(50):
        relu.backward(small)
    assert vars(made)["backward"] is own["backward"]
    made()  # of other sizes, perhaps
    assert {name: vars(made).get(name) for name in accelerated} == accelerated
    for _ in range(50):
        relu.forward(small)
    assert vars(made)["forward"] is own["forward"]
    relu.mask = large <= 0
    relu.backward(large.copy())
    assert vars(made)["forward"] is accelerated["forward"]
    assert vars(made).get("__init__") is accelerated.get("__init__")


NO_KERNEL_S = """
import numpy as np


class Twice:
    def forward(self, x):
        return 2 * x + 1

    def backward(self, dout):
        return 2 * dout
"""


def test_a_class_that_no_kernel_takes_has_its_own_methods_until_kernels_begin(monkeypatch, tmp_path):
    monkeypatch.setattr(calls._beginning, "over", False)
    monkeypatch.setattr(calls._Beginning, "SECONDS", np.inf)
    monkeypatch.setattr(calls._beginning.loader, "_thread", threading.Thread())  # as if it had begun
    with fastbp.accelerated():
        made = define(NO_KERNEL_S, tmp_path).Twice  # it has no __init__
    accelerated, layer, large = dict(vars(made)), made(), np.ones((4000, 6000))
    own = own_of(accelerated["forward"])
    with np.errstate(all="ignore"):
        for _ in range(2):
            layer.forward(large)
    assert vars(made)["forward"] is own
    assert vars(made)["backward"] is not accelerated["backward"]
    made()
    assert vars(made)["forward"] is own
    idling.wake_all()
    assert {name: vars(made).get(name) for name in accelerated} == accelerated


def test_a_script_that_makes_objects_in_each_step_is_looked_at_ever_more_seldom(monkeypatch, small_relu):
    monkeypatch.setattr(calls._beginning, "over", True)
    made, own = small_relu
    small, wakes = np.ones(10), []
    for number in range(40):
        relu = made()
        if vars(made)["forward"] is not own["forward"]:
            wakes.append(number)
        for _ in range(51):
            relu.forward(small)
        assert vars(made)["forward"] is own["forward"]
    assert wakes == [0, 1, 2, 4, 8, 16, 32]
    relu.mask = np.ones((10, 10), np.bool_)
    relu.backward(np.ones((10, 10)))  # sizes have changed
    relu.forward(small)
    assert vars(made)["forward"] is not own["forward"]


def test_a_method_of_the_user_that_calls_ours_stays(small_relu):
    made, _ = small_relu
    ours = made.forward
    made.forward = mine = lambda self, x: ours(self, x)
    for _ in range(120):
        made().forward(np.ones(10))
    relu = made()
    for _ in range(120):
        relu.forward(np.ones(10))
    assert vars(made)["forward"] is mine


def test_a_method_that_the_user_has_replaced_meanwhile_stays(monkeypatch, small_relu):
    made, _ = small_relu
    for _ in range(60):
        made.forward(made.__new__(made), np.ones(10))
    made.forward = mine = lambda self, x: x
    made()
    assert vars(made)["forward"] is mine
