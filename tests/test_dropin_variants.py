"""Layers in other words than the book's: accelerated where they compute the same, left where they do not."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from dropin_cases import assert_same, define, outcome
from variants import FAULTS, KEPT, OTHERS, REWRITINGS, SQUARE, variant

import fastbp
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning.calls import Counter
from fastbp.dropin.objects.lazy import LazyAttribute


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Some of the layers write files."""
    monkeypatch.chdir(tmp_path)


def normal(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape)


CASES = {
    "Relu": ((), [("forward", normal(6, 7)), ("backward", normal(6, 7))]),
    "Sigmoid": ((), [("forward", normal(6, 7)), ("backward", normal(6, 7))]),
    "Affine": ((normal(12, 5), normal(5)), [("forward", normal(6, 12)), ("backward", normal(6, 5))]),
    "SoftmaxWithLoss": (
        (),
        [
            ("forward", normal(6, 5), np.array([0, 1, 2, 3, 4, 0])),
            ("backward",),
            ("forward", normal(6, 5), np.eye(5)[[1, 2, 4, 4, 0, 3]]),
            ("backward",),
        ],
    ),
    "Dropout": ((0.3,), [("forward", normal(6, 7)), ("backward", normal(6, 7)), ("forward", normal(6, 7), False)]),
    "BatchNormalization": (
        (normal(12), normal(12)),
        [("forward", normal(6, 12)), ("backward", normal(6, 12)), ("forward", normal(6, 12), False)],
    ),
    "Convolution": (
        (normal(3, 2, 3, 3), normal(3), 1, 1),
        [("forward", normal(4, 2, 7, 7)), ("backward", normal(4, 3, 7, 7))],
    ),
    "Pooling": ((2, 2, 2), [("forward", normal(4, 2, 6, 6)), ("backward", normal(4, 2, 3, 3))]),
}


def used(source, layer, folder):
    """The calls of a case under plain NumPy and accelerated; compares everything, returns the shares that kernels took."""
    plain = define(source, folder)
    counter = Counter()
    found = start_accelerating(counter)
    del found[:]
    try:
        fast = define(source, folder)
    finally:
        stop_accelerating()
    arguments, calls = CASES[layer]
    layers = [
        outcome(getattr(module, layer), *(np.copy(one) if isinstance(one, np.ndarray) else one for one in arguments))
        for module in (plain, fast)
    ]
    for _ in range(2):
        for place, (method, *given) in enumerate(calls):
            results = []
            for one in layers:
                np.random.seed(1)
                mine = [np.copy(value) if isinstance(value, np.ndarray) else value for value in given]
                results.append((outcome(getattr(one, method), *mine), mine, np.random.rand()))
            (expected, *expected_rest), (actual, *rest) = results
            assert_same(actual, expected, f"{layer}.{method}")
            for value, other in zip(rest[0], expected_rest[0], strict=True):
                assert_same(value, other, "an argument")
            assert rest[1] == expected_rest[1], "the random state"
            if not isinstance(layers[0], type) and place == len(calls) - 1:  # who reads `col` may change it
                for name, value in vars(layers[0]).items():
                    other, is_dict = getattr(layers[1], name), isinstance(value, dict)
                    whole = (value.values(), other.values()) if is_dict else (value, other)
                    for one, same in zip(*whole, strict=True) if isinstance(value, dict | list) else [whole]:
                        assert_same(same, one, f"{name} after {method}")
    counts = counter.counts
    taken = {
        name: sum(one.calls - one.passed for key, one in counts.items() if key.endswith(name))
        / (2 * sum(call[0] == name for call in calls))
        for name in ("forward", "backward")
    }
    return taken, [one for one in found if one.name == layer]


def tried(entry, folder):
    """The shares that kernels took of an entry's layer, and what was found of it."""
    layer, *edits = entry
    source = variant(layer, *edits)
    assert source is not None, "the edit changes nothing"
    taken, (found,) = used(source, layer, folder)
    return taken, found


def least(layer):
    """The share of calls to backward that kernels must take: losses are written for one of two kinds of labels, too."""
    return 0.5 if layer == "SoftmaxWithLoss" else 1


@pytest.mark.parametrize("copier", [lambda layer: layer, copy.deepcopy])
@pytest.mark.parametrize("place", range(len(KEPT)))
def test_what_is_kept_to_be_looked_at_is_of_the_time_of_the_call(place, copier, tmp_path):
    """It is made when somebody looks; until then the optimizer changes the weights, and others the gradient, in place."""
    layer, *edits = KEPT[place]
    source, ((_, x), (_, dout)) = variant(layer, *edits), CASES[layer][1]
    plain = getattr(define(source, tmp_path), layer)(*copy.deepcopy(CASES[layer][0]))
    with fastbp.accelerated():
        made = getattr(define(source, tmp_path), layer)
    fast = made(*copy.deepcopy(CASES[layer][0]))
    for one in (plain, fast):
        mine = dout.copy()
        one.forward(x.copy())
        one.backward(mine)
        mine += 1
        if layer == "Convolution":
            one.W *= 2
    double = copier(fast)
    for name in ({"col", "dcol"} & vars(plain).keys()) - ({"col"} if layer == "Convolution" else set()):
        assert isinstance(vars(made)[name], LazyAttribute)
        assert_same(getattr(double, name), getattr(plain, name), name)


@pytest.mark.parametrize("place", range(len(SQUARE)))
def test_what_takes_one_side_for_the_other_is_accelerated_for_square_images_alone(place, tmp_path):
    layer, *edits = SQUARE[place]
    source, calls = variant(layer, *edits), CASES[layer][1]
    plain = getattr(define(source, tmp_path), layer)
    counter = Counter()
    start_accelerating(counter)
    try:
        fast = getattr(define(source, tmp_path), layer)
    finally:
        stop_accelerating()
    layers = plain(*CASES[layer][0]), fast(*CASES[layer][0])
    for _, given in [calls[0], (None, calls[0][1][:, :, :, :-1])] * 2:
        expected, actual = (outcome(one.forward, given.copy()) for one in layers)
        assert_same(actual, expected, "out")
        if not isinstance(expected, type):
            results = [outcome(one.backward, np.ones_like(expected)) for one in layers]
            assert_same(*results, "dx")
    assert counter.counts[f"{layer}.forward"].passed == 2


@pytest.mark.parametrize("place", range(len(REWRITINGS)))
def test_the_same_in_other_words_is_accelerated(place, tmp_path):
    taken, found = tried(REWRITINGS[place], tmp_path)
    assert found.accelerated, found.reason
    assert taken["forward"] >= 0.5  # Dropout is left to NumPy where it predicts
    assert taken["backward"] >= least(REWRITINGS[place][0]), found.reason


ALONE = [
    place for place, (_, *edits) in enumerate(REWRITINGS) if len(edits) > 1
]  # edits that count on the others' text
PAIRS = [
    (one, other)
    for one, other in itertools.combinations(range(len(REWRITINGS)), 2)
    if REWRITINGS[one][0] == REWRITINGS[other][0] and not {one, other} & set(ALONE)
]


@pytest.mark.parametrize("part", range(8))
def test_two_rewritings_at_once_are_accelerated(part, tmp_path):
    tried = 0
    for one, other in PAIRS[part::8]:
        layer = REWRITINGS[one][0]
        source = variant(layer, *REWRITINGS[one][1:], *REWRITINGS[other][1:])
        if source is None or np.random.default_rng(one * other).random() > 0.4:
            continue
        tried += 1
        taken, (found,) = used(source, layer, tmp_path)
        assert found.accelerated, (REWRITINGS[one], REWRITINGS[other], found.reason)
        assert taken["backward"] >= least(layer), (REWRITINGS[one], REWRITINGS[other], found.reason)
    assert tried > 2


@pytest.mark.parametrize("place", range(len(FAULTS)))
def test_what_computes_something_else_is_left(place, tmp_path):
    taken, found = tried(FAULTS[place], tmp_path)
    assert min(taken.values()) < 1
    assert found.reason or found.accelerated


@pytest.mark.parametrize("place", range(len(OTHERS)))
def test_what_does_more_than_compute_is_left(place, tmp_path):
    taken, found = tried(OTHERS[place], tmp_path)
    assert min(taken.values()) == 0
    assert found.reason


def test_a_diverged_network_is_not_computed_twice_each_time(tmp_path, monkeypatch):
    """Where NumPy may warn results are NumPy's; after a few in a row, kernels are tried now and then only."""
    from fastbp.dropin.operations import layers

    calls = []
    kernel = layers.kernels.affine_forward
    start_accelerating(Counter())
    try:
        Affine = define(variant("Affine"), tmp_path).Affine
    finally:
        stop_accelerating()
    layer = Affine(np.ones((12, 5)), np.zeros(5))
    layer.forward(np.ones((6, 12)))
    monkeypatch.setattr(
        layers.kernels, "affine_forward", lambda *given: calls.append(1) or kernel(*given), raising=False
    )
    for _ in range(200):
        assert (layer.forward(np.full((6, 12), 1e200)) > 1e201).all()
    assert 8 <= len(calls) <= 12
    calls.clear()
    for _ in range(70):  # it has recovered
        assert_same(layer.forward(np.ones((6, 12))), np.full((6, 5), 12.0), "out")
    assert len(calls) > 3


def accelerated(source, folder):
    """The module, accelerated; and the plain one."""
    start_accelerating(Counter())
    try:
        fast = define(source, folder)
    finally:
        stop_accelerating()
    return fast, define(source, folder)


TEMPLATE = """
import numpy as np

class Base:
    def func(self, x):
        return 1 / (1 + np.exp(-x))

    def forward(self, x):
        self.out = self.func(x)
        return self.out

    def backward(self, dout):
        return dout * (1 - self.out) * self.out

class Other(Base):
    def func(self, x):
        return np.tanh(x)
"""


def test_a_subclass_that_changes_a_helper_computes_its_own(tmp_path):
    fast, plain = accelerated(TEMPLATE, tmp_path)
    x = normal(4, 5)
    for name in ("Base", "Other", "Base"):
        assert_same(getattr(fast, name)().forward(x), getattr(plain, name)().forward(x), name)


def test_helpers_that_change_later_are_seen(tmp_path):
    """A function of the module, a method of the class, and a method put on one object."""
    fast, _ = accelerated(variant("Sigmoid", (r"self\.out", "self.y")), tmp_path)
    x = normal(4, 5)
    layer = fast.Sigmoid()
    assert_same(layer.forward(x), 1 / (1 + np.exp(-x)), "before")
    fast.sigmoid = np.tanh
    assert_same(layer.forward(x), np.tanh(x), "after")
    fast, _ = accelerated(TEMPLATE, tmp_path)
    one, other = fast.Base(), fast.Base()
    one.forward(x)
    one.func = np.tanh
    assert_same(one.forward(x), np.tanh(x), "on the object")
    fast.Base.func = lambda self, x: 2 * x
    assert_same(other.forward(x), 2 * x, "of the class")


@pytest.mark.parametrize(
    ("layer", "edit", "first", "then"),
    [
        (
            "Relu",
            (r"def forward\(self, x\)(.*?)return out", r"def forward(self, x, slope=0.0)\1return out + slope * x"),
            (),
            (0.5,),
        ),
        (
            "Relu",
            (
                r"def forward\(self, x\)(.*?)return out",
                r"def forward(self, x, keep=None)\1return out if keep is None else x",
            ),
            (),
            (1,),
        ),
        (
            "Relu",
            (r"def forward\(self, x\)(.*?)return out", r"def forward(self, x, keep=True)\1return out"),
            (),
            ("yes",),
        ),
    ],
)
def test_parameters_beside_the_arrays_are_what_was_tried_or_its_own_method_runs(layer, edit, first, then, tmp_path):
    fast, plain = accelerated(variant(layer, edit), tmp_path)
    x = normal(4, 5)
    mine, other = getattr(fast, layer)(), getattr(plain, layer)()
    for rest in (first, then, first):
        assert_same(mine.forward(x, *rest), other.forward(x, *rest), f"{rest}")


def test_soft_labels_are_what_the_class_makes_of_them(tmp_path):
    t = np.abs(normal(6, 5))
    t /= t.sum(axis=1, keepdims=True)
    picked = (r"np.log\(y\[np.arange\(rows\), labels\] \+ 1e-7\)", "t * np.log(y + 1e-7)")
    fast, plain = accelerated(variant("SoftmaxWithLoss", picked), tmp_path)
    mine, other = fast.SoftmaxWithLoss(), plain.SoftmaxWithLoss()
    for labels in (np.eye(5)[[0, 1, 2, 3, 4, 0]], t):
        assert_same(mine.forward(normal(6, 5), labels), other.forward(normal(6, 5), labels), "loss")
        assert_same(mine.backward(), other.backward(), "dx")
