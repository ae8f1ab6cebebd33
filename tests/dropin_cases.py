"""What the tests of the drop-in share: a script's own `common/`, imported anew, and how two outcomes are compared."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
from conftest import TOLERANCE

MODULES = [
    "functions",
    "gradient",
    "layers",
    "multi_layer_net",
    "multi_layer_net_extend",
    "optimizer",
    "trainer",
    "util",
]


def load_common(folder):
    """The modules of the folder's `common`, imported anew."""
    sys.path.insert(0, str(folder))
    try:
        return {module: importlib.import_module(f"common.{module}") for module in MODULES}
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
            del sys.modules[name]


NUMBERS = itertools.count()


def define(source, folder):
    """A module of the source, as a file: classes are found by their text."""
    file = folder / f"variant{next(NUMBERS)}.py"
    file.write_text(source, "utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module, before = importlib.util.module_from_spec(spec), sys.dont_write_bytecode
    sys.dont_write_bytecode = (
        True  # of a file that is written again at once, as long, Python would take what it has compiled
    )
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def outcome(function, *arguments):
    """What a call gives: the result, or the type of what it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except Exception as error:
            return type(error)


def assert_same(actual, expected, what, tolerance=TOLERANCE["float64"]):
    if isinstance(expected, tuple) and any(isinstance(one, np.ndarray) for one in expected):
        assert type(actual) is tuple, what
        assert len(actual) == len(expected), what
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other, what, tolerance)
        return
    if isinstance(expected, type) or expected is None or isinstance(expected, tuple | int | str):
        assert actual == expected, f"{what}: {actual}, expected {expected}"
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=what)
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(actual[infinite], expected[infinite], err_msg=what)
    finite = np.isfinite(expected)
    scale = max(1.0, np.max(np.abs(expected[finite]), initial=0))
    error = np.max(np.abs(actual[finite] - expected[finite]), initial=0)
    assert error <= 30 * max(tolerance, TOLERANCE[expected.dtype.name]) * scale, what


RNG = np.random.default_rng(0)
MANY = [np.float64, np.float32, np.float16, np.uint8, np.int64, np.bool_]


def normal(*shape, dtype=np.float64):
    return (3 * RNG.standard_normal(shape)).astype(dtype)


TRAIN = """
import os, sys
sys.path.append(os.pardir)
import numpy as np
from common.multi_layer_net_extend import MultiLayerNetExtend
from common.trainer import Trainer

np.random.seed(3)
x = np.where(np.random.rand(300, 36) < 0.7, 0, np.random.rand(300, 36)).astype(np.float32)
t = (x[:, :18].sum(axis=1) > x[:, 18:].sum(axis=1)).astype(int)
network = MultiLayerNetExtend(36, [20, 15], 2, use_dropout=True, dropout_ration=0.2, use_batchnorm=True)
trainer = Trainer(network, x, t, x, t, epochs=20, mini_batch_size=20, optimizer="adam", optimizer_param={"lr": 0.01})
trainer.train()
print(repr(float(np.random.rand())))
"""

CONVNET = """
import numpy as np
from common.layers import *
from collections import OrderedDict

np.random.seed(4)
params = {"W1": 0.3 * np.random.randn(6, 1, 3, 3), "b1": np.zeros(6)}
params.update({"W2": 0.1 * np.random.randn(96, 4), "b2": np.zeros(4)})
layers = OrderedDict()
layers["Conv1"] = Convolution(params["W1"], params["b1"], 1, 1)
layers["Relu1"] = Relu()
layers["Pool1"] = Pooling(pool_h=2, pool_w=2, stride=2)
layers["Affine1"] = Affine(params["W2"], params["b2"])
last = SoftmaxWithLoss()
x, t = np.random.rand(40, 1, 8, 8), np.random.randint(0, 4, 40)
for step in range(100):
    y = x
    for layer in layers.values():
        y = layer.forward(y)
    print("loss", repr(float(last.forward(y, t))))
    dout = last.backward()
    for layer in reversed(list(layers.values())):
        dout = layer.backward(dout)
    for number, layer in (("1", "Conv1"), ("2", "Affine1")):
        params["W" + number] -= 0.1 * layers[layer].dW
        params["b" + number] -= 0.1 * layers[layer].db
print(layers["Conv1"].col.shape, layers["Pool1"].arg_max.sum())
"""


def run(folder, *command, **options):
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        **options,
    )


def write(folder, name, source):
    (folder / name).write_text(textwrap.dedent(source), "utf-8")
    return name


def taken(counts, name):
    """How many calls kernels took; where none are for it, calls are not counted any more."""
    return counts[name].calls - counts[name].passed


def assert_layers_agree(layers, calls):
    """Two layers, called alike: results, and what they keep; lastly, as whoever reads a matrix of patches may change it."""
    for method, *arguments in calls:
        given = [[np.copy(one) if isinstance(one, np.ndarray) else one for one in arguments] for _ in layers]
        results = [outcome(getattr(layer, method), *mine) for layer, mine in zip(layers, given, strict=True)]
        assert_same(results[1], results[0], method)
    for name, value in vars(layers[0]).items():
        assert_same(getattr(layers[1], name), value, f"{name} after {calls}")
