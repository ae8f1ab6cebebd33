"""What scripts do around their layers: they inherit from them, wrap them, count their calls, redefine what they call."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, define, run, write
from network_texts import BOOK_NETWORK, LOSS
from stack_cases import LAYERS

import fastbp
from fastbp.bench.dropin import plain_source, write_common
from fastbp.dropin import acceleration
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.objects import unforeseen

X, T = np.random.default_rng(0).standard_normal((100, 30)), np.arange(100) % 10
NETWORK = LAYERS + LOSS + BOOK_NETWORK


def network_of(module, first=None):
    rng = np.random.default_rng(1)
    weights = [(rng.standard_normal(shape), np.ones(shape[1])) for shape in ((30, 20), (20, 10))]
    layers = [(first or module.Affine)(*weights[0]), module.Relu(), module.Affine(*weights[1])]
    return module.Network(layers, module.SoftmaxWithLoss())


def steps(module, count=3, **options):
    network = network_of(module, **options)
    return [network.gradient(X, T) for _ in range(count)][-1], network


def assert_alike(modules, seen):
    """seen: what of a module, after some steps, is compared."""
    plain, fast = ((steps(one)[0], seen(one)) for one in modules)
    for key, value in plain[0].items():
        assert_same(fast[0][key], value, key)
    assert fast[1] == plain[1]
    assert fast[1]


# What follows a network, and the number that it counts.
WRAPPED = {
    "a network's loss": ("Network.loss = counted(Network.loss)", ""),
    "a network's predict": ("Network.predict = counted(Network.predict)", ""),
    "a layer's forward": ("Relu.forward = counted(Relu.forward)", ""),
    "a function": ("softmax = counted(softmax)", ""),
    "a decorated method": ("", "    @counted\n"),
}
COUNTED = """
import functools
calls = []
def counted(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        calls.append(function.__name__)
        return function(*arguments, **named)
    return wrapper
"""


@pytest.mark.parametrize(("after", "decorator"), WRAPPED.values(), ids=WRAPPED)
def test_what_a_script_wraps_is_called_as_often(after, decorator, both):
    network = NETWORK.replace("    def gradient", f"{decorator}    def gradient")
    plain, fast, _ = both(f"{COUNTED}\n{network}\n{after}\n")
    assert_alike((plain, fast), lambda module: module.calls)


KEEPING = {
    "a subclass": """
class Keeping(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.norm = np.abs(dx).sum()
        return dx
""",
    "another method": """
own = Affine.backward
def backward(self, dout):
    dx = own(self, dout)
    self.norm = np.abs(dx).sum()
    return dx
Affine.backward = backward
Keeping = Affine
""",
}


@pytest.mark.parametrize("keeping", KEEPING.values(), ids=KEEPING)
def test_a_subclass_may_use_the_gradient_of_the_input(keeping, both):
    plain, fast, _ = both(NETWORK + keeping)
    norms = [steps(one, first=one.Keeping)[1] for one in (plain, fast)]
    norms = [next(iter(one.layers.values())).norm for one in norms]
    assert_same(norms[1], norms[0], "norm")


def test_a_global_variable_may_hold_it(both):
    network = NETWORK.replace("    def gradient(self, x, t):\n", "    def gradient(self, x, t):\n        global dout\n")
    assert network != NETWORK
    plain, fast, _ = both(network)
    for one in (plain, fast):
        steps(one)
    assert_same(fast.dout, plain.dout, "dout")


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_a_function_that_is_defined_anew_is_called(name, tmp_path):
    folder = write_common(tmp_path)
    source = "\n".join(plain_source(one) for one in ("functions", "layers")).replace("from common.functions", "pass #")
    with fastbp.accelerated():
        module = define(source.replace("from common.util", "pass #"), folder)
    layer = module.Sigmoid() if name == "sigmoid" else module.SoftmaxWithLoss()
    given = (X,) if name == "sigmoid" else (X, T % X.shape[1])
    first = layer.forward(*given)
    setattr(module, name, lambda x: np.full(x.shape, 0.25))
    second = layer.forward(*given)
    assert not np.allclose(first, second)
    if name == "sigmoid":
        assert_same(second, np.full(X.shape, 0.25), name)


OPTIMIZER = """
class {name}:
    def __init__(self):
        self.reads = 0
    @property
    def lr(self):
        self.reads += 1
        return 0.1 / self.reads
    def update(self, params, grads):
        for key in params.keys():
            params[key] {update}
"""


@pytest.mark.parametrize("update", ["-= self.lr * grads[key]", "= params[key] - self.lr * grads[key]"])
@pytest.mark.parametrize("size", [4, 300])
def test_a_property_is_read_as_often(update, size, both):
    plain, fast, _ = both(OPTIMIZER.format(name="SGD", update=update))
    results = []
    for module in (plain, fast):
        optimizer, params = module.SGD(), {key: np.ones((size, size)) for key in "ab"}
        for _ in range(3):
            optimizer.update(params, {key: np.ones((size, size)) for key in "ab"})
        results.append((optimizer.reads, params["a"][0, 0], params["b"][0, 0]))
    assert results[0] == results[1]


# Classes that are left, or not; what they are called with.
UNUSUAL = {
    "a parameter called type": "def forward(self, x, type=None): return x * (x > 0)",
    "a property that raises": """
    @property
    def weights(self): raise NotImplementedError
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask""",
    "a list of unequal arrays": "def forward(self, x): return [x[:, :3], x[:, 3:]]",
    "means over images": "def forward(self, x): return np.repeat(x, 2, axis=0)",
    "a decorator that hides parameters": """
    @timed
    def forward(self, x, train_flg=True): return x * 2""",
    "objects made by __new__": """
    def __new__(cls, k=2.0):
        made = object.__new__(cls)
        made.k = k
        return made
    def forward(self, x): return x * self.k""",
}
UNUSUAL_CLASS = """
import functools, numpy as np
def timed(function):
    @functools.wraps(function)
    def wrapper(*a, **k):
        return function(*a, **k)
    return wrapper

class Layer:
    {forward}
    def backward(self, dout): return dout
"""


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize("forward", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_classes_go_on_working(forward, has_begun, tmp_path, monkeypatch):
    from fastbp.dropin.beginning import calls

    monkeypatch.setattr(calls._beginning, "over", has_begun)
    monkeypatch.setattr(calls._beginning, "SECONDS", 1e9)
    source = UNUSUAL_CLASS.format(forward=forward)
    with fastbp.accelerated():
        fast = define(source, tmp_path)
    plain = define(source, tmp_path)
    large = np.ones((4000, 60))
    for x in (X, *[X] * 10, large, large):
        actual, expected = (module.Layer().forward(x) for module in (fast, plain))
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_class_whose_objects_new_makes_may_idle(tmp_path):
    with fastbp.accelerated():
        module = define(UNUSUAL_CLASS.format(forward=UNUSUAL["objects made by __new__"]), tmp_path)
    from fastbp.dropin.objects.patched_classes import accelerated_of

    accelerated_of(module.Layer).idling.MOST = 0
    for _ in range(3):
        layer = module.Layer(3.0)
        for _ in range(3100):
            layer.forward(np.ones(2))
    assert layer.k == 3.0


def test_objects_with_slots_are_left(both):
    slots = NETWORK.replace("class Network:\n", 'class Network:\n    __slots__ = ("layers", "last", "params")\n')
    assert slots != NETWORK
    plain, fast, _ = both(slots)
    expected, actual = (steps(one)[0] for one in (plain, fast))
    for key, value in expected.items():
        assert_same(actual[key], value, key)


def test_a_dataclass_with_slots_is_left(both):
    plain, fast, _ = both(
        """
import numpy as np
from dataclasses import dataclass

@dataclass(slots=True)
class Relu:
    mask: object = None
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask
    def backward(self, dout): return dout * self.mask
"""
    )
    layers = [one.Relu() for one in (fast, plain)]
    assert_same(*(one.forward(X) for one in layers), "forward")
    assert_same(*(one.backward(X) for one in layers), "backward")


def test_an_error_in_looking_at_a_class_leaves_it_and_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(unforeseen.settings, "raises", False)

    def fails(*arguments):
        raise RuntimeError("not foreseen")

    monkeypatch.setattr(acceleration, "class_version", fails)
    with fastbp.accelerated() as found:
        module = define(NETWORK, tmp_path)
    assert_same(module.Relu().forward(X), np.maximum(X, 0), "forward")
    noted = [one for one in found if one.file == module.__file__ and one.name == "Relu"]
    assert [(one.accelerated, one.reason) for one in noted] == [
        (False, "looking into it raised RuntimeError: not foreseen")
    ]


def test_an_error_in_patching_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(unforeseen.settings, "raises", False)
    monkeypatch.setattr(acceleration, "patch", lambda *arguments: 1 / 0)
    monkeypatch.setattr(acceleration, "patch_optimizer", lambda *arguments: 1 / 0)
    with fastbp.accelerated() as found:
        define(LAYERS + plain_source("optimizer"), tmp_path)
    noted = {one.name: one for one in found}
    for name in ("Relu", "SGD"):
        assert not noted[name].accelerated
        assert noted[name].reason == "looking into it raised ZeroDivisionError: division by zero"


def test_an_error_in_deciding_leaves_the_class_and_is_reported(tmp_path, monkeypatch):
    from fastbp.dropin.trials import classes

    monkeypatch.setattr(unforeseen.settings, "raises", False)
    monkeypatch.setattr(classes, "digest", lambda *arguments: 1 / 0)
    with fastbp.accelerated() as found:
        module = define(
            "class Half:\n def forward(self, x): return x / 2\n def backward(self, d): return d / 2", tmp_path
        )
    layer = module.Half()
    assert_same(layer.forward(X), X / 2, "forward")
    assert found[-1].reason.startswith("looking into it raised ZeroDivisionError")
    assert not found[-1].accelerated


@pytest.mark.skipif(not hasattr(np.random, "set_bit_generator"), reason="NumPy's global generator is always an MT19937")
def test_another_global_generator_goes_on_drawing_the_same(both):
    plain, fast, counts = both(NETWORK.replace("(x <= 0)", "np.less_equal(x, 0)"))
    before, drawn = np.random.get_bit_generator(), []
    try:
        for module in (plain, fast):
            np.random.set_bit_generator(np.random.PCG64(1))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                steps(module)
            drawn.append(np.random.rand(3).tolist())
            assert isinstance(np.random.get_bit_generator(), np.random.PCG64)
    finally:
        np.random.set_bit_generator(before)
    assert drawn[0] == drawn[1]
    assert any(count.calls > count.passed for count in counts.values())


def test_accelerate_within_only_known_tries_nothing(tmp_path):
    source = "class Double:\n def forward(self, x): return 2 * x\n def backward(self, d): return 2 * d"
    start_accelerating(acceleration.calls.plain, only_known=True)
    try:
        found = fastbp.accelerate()
        define(source, tmp_path)
        assert found[-1].reason == "not the book's text"
        stop_accelerating()
    finally:
        stop_accelerating()
    with fastbp.accelerated() as found:
        define(source, tmp_path)
    assert found[-1].reason != "not the book's text"


def test_a_hook_that_was_put_around_ours_stays(tmp_path):
    before, seen = builtins.__build_class__, []
    try:
        fastbp.accelerate()
        ours = builtins.__build_class__

        def hook(body, name, *bases, **named):
            seen.append(name)
            return ours(body, name, *bases, **named)

        builtins.__build_class__ = hook
        stop_accelerating()
        assert builtins.__build_class__ is hook
        count = len(acceleration._state.found)
        define("class Double:\n def forward(self, x): return 2 * x\n def backward(self, d): return 2 * d", tmp_path)
        assert seen == ["Double"]
        assert len(acceleration._state.found) == count
    finally:
        builtins.__build_class__ = before


def test_deeply_nested_products_are_read_as_fast(tmp_path):
    nested = "np.dot(" * 30 + "a" + ", self.W)" * 30
    source = f"import numpy as np\nclass Network:\n def forward(self, a): return {nested}"
    with fastbp.accelerated():
        module = define(source, tmp_path)  # each level took twice as long
    network = module.Network()
    network.W = np.eye(2)
    np.testing.assert_array_equal(network.forward(np.ones((1, 2))), np.ones((1, 2)))


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_script_behind_a_symbolic_link_imports_its_neighbours(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "neighbour.py").write_text("print('here')")
    write(tmp_path / "real", "script.py", "import neighbour, sys\nprint(sys.argv, __file__)")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "script.py")
    expected = subprocess.run([sys.executable, "link.py"], cwd=tmp_path, capture_output=True, text=True)
    result = run(tmp_path, "-m", "fastbp", "run", "link.py")
    assert result.stdout.splitlines()[0] == "here"
    assert result.stdout.splitlines()[1].split()[0] == expected.stdout.splitlines()[1].split()[0]
