import os
import subprocess
import sys

import pytest
from conftest import QUICK_TO_COMPILE

from fastbp._warmup import STEPS, TRAINING_FUNCTIONS, warm_up
from fastbp.networks._network import DTYPES

CODE = """
from fastbp._warmup import compile_meanwhile
helpers = compile_meanwhile(["float64", "float32"])
print(sorted(helpers))
for helper in helpers.values():
    helper.kill()
    helper.wait()
"""
HELPED = """
from fastbp._warmup import compile_meanwhile
print([helper.wait() for helper in compile_meanwhile(["float64", "float32"]).values()])
"""
COUNT = """
from fastbp._warmup import warm_up
from fastbp.backends import compiled_functions
counts = []
with compiled_functions(counts.append):
    list(warm_up(["float32"], layers=False))
print(counts[-1])
"""


pytestmark = pytest.mark.xdist_group("warmup")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The environment of a cache that is empty before the first test that has it, and no more before the next."""
    return {**os.environ, **QUICK_TO_COMPILE, "FASTBP_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


def test_everything_is_compiled_for_both_dtypes():
    costs = list(warm_up())
    assert len(costs) == STEPS
    for dtype in DTYPES:
        names = "training", "training on floating data", "Affine", "Relu", "Sigmoid", "SoftmaxWithLoss"
        assert {f"{name}, {dtype}" for name in names} <= {name for name, _ in costs}
    assert all(seconds > 0 for _, seconds in costs)


@pytest.mark.slow
def test_helpers_compile_only_what_is_not_cached(cache):
    def helpers(code):
        return subprocess.run([sys.executable, "-c", code], env=cache, capture_output=True, text=True, check=True)

    assert helpers(CODE).stdout == "['float32']\n"
    count = helpers(COUNT)
    assert 0.95 * TRAINING_FUNCTIONS < int(count.stdout) <= 1.05 * TRAINING_FUNCTIONS  # where the bar ends
    assert helpers(CODE).stdout == "['float32']\n"
    helpers("from fastbp._warmup import warm_up; list(warm_up(['float64'], layers=False))")
    assert helpers(CODE).stdout == "[]\n"


@pytest.mark.slow
def test_what_helpers_compile_is_what_training_on_images_needs(tmp_path):
    environment = {**os.environ, **QUICK_TO_COMPILE, "FASTBP_CACHE_DIR": str(tmp_path)}
    results = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for code in (HELPED, COUNT)
    ]
    assert results[0] == "[0]\n"
    assert int(results[1]) < 0.3 * TRAINING_FUNCTIONS  # what looks for zeros


@pytest.mark.slow
def test_after_warming_up_training_compiles_nothing(cache):
    code = """
import numpy as np
from fastbp._warmup import warm_up
list(warm_up(["float32"], layers=False))
import fastbp
from fastbp.kernels.engine import step
from fastbp.kernels.gemm import sparse_rows
fastbp.Trainer(fastbp.MLP((784, 50, 10)), batch_size=100).fit(
    np.random.rand(300, 784).astype(np.float32), np.arange(300) % 10, iterations=3, progress=False)
images = np.arange(300 * 784, dtype=np.uint8).reshape(300, 784) // 250
fastbp.Trainer(fastbp.MLP((784, 50, 10)), batch_size=100).fit(
    images, np.arange(300) % 10, iterations=3, divide_by=255, progress=False)
kernels = step._train_steps, sparse_rows._pack_entries
print([len(kernel.signatures) for kernel in kernels])
"""
    result = subprocess.run([sys.executable, "-c", code], env=cache, capture_output=True, text=True, check=True)
    assert result.stdout == "[1, 1]\n"


@pytest.mark.slow
def test_after_warming_up_the_drop_in_compiles_nothing(cache):
    code = """
import pathlib, numpy as np
from fastbp._warmup import warm_up
list(warm_up(["float64"]))
from fastbp.compat.layers import *
from fastbp.compat.optimizer import Adam, SGD
def files():
    return {path.name for path in pathlib.Path(FOLDER).rglob("*.kernel")}
before = files()
randn = np.random.randn
params = [0.1 * randn(30, 1, 5, 5), 0.1 * randn(8, 30, 3, 3), 0.1 * randn(800, 60)]
layers = [Convolution(params[0], np.zeros(30)), Relu(), Pooling(2, 2), Convolution(params[1], np.zeros(8)), Relu(),
          Affine(params[2], np.zeros(60)), BatchNormalization(np.ones(60), np.zeros(60)), Sigmoid(), Dropout()]
last = SoftmaxWithLoss()
fully = [Affine(0.1 * randn(784, 50), np.zeros(50)), Relu(), Affine(0.1 * randn(50, 10), np.zeros(10))]
for network, x in ((layers, np.random.rand(100, 1, 28, 28)), (fully, np.eye(100, 784, dtype=np.float32)),
                   (fully, np.random.rand(100, 784).astype(np.float32)), (fully, np.random.rand(2, 784))):
    for layer in network:
        x = layer.forward(x)
    for t in (np.arange(len(x)) % 5, np.eye(x.shape[1])[np.arange(len(x)) % 5]):
        last.forward(x, t)
        dout = last.backward()
    for layer in reversed(network):
        dout = layer.backward(dout)
layers[0].col, layers[6].forward(np.ones((3, 60)), False)
from fastbp import kernels
weights, biases = [randn(784, 50), randn(50, 10)], [np.zeros(50), np.zeros(10)]
network = kernels.affine_network((784, 50, 10), ("relu", "identity"), np.dtype(np.float64))
for x in (np.eye(100, 784, dtype=np.float32), np.eye(100, 784)):
    for t in (np.zeros(100, np.int64), np.eye(100, 10)):
        network.loss(x, t, weights, biases)
        network.gradient(x, t, weights, biases)
for optimizer in (SGD(), Adam()):
    for _ in range(2):
        optimizer.update({"W": params[0]}, {"W": layers[0].dW})
print(sorted(files() - before))
"""
    code = code.replace("FOLDER", repr(cache["FASTBP_CACHE_DIR"]))
    result = subprocess.run([sys.executable, "-c", code], env=cache, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
