"""`fastbp run` where nothing is compiled yet: two processes compile, and kernels begin with a loop through layers."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import QUICK_TO_COMPILE
from dropin_cases import define, run, write
from recurrent_cases import BOOKS, IN_TIME
from stack_cases import LAYERS, NETWORK, made_of

import fastbp
from fastbp.bench.dropin import write_common
from fastbp.dropin.beginning import ahead, calls
from fastbp.kernels.runtime import cache

# A network of each kind that a helper compiles for, trained with kernels from the first call on.
SCRIPT = """
import sys
import numpy as np
from common.layers import *
from common.multi_layer_net_extend import MultiLayerNetExtend

np.random.seed(0)
x, t = np.random.rand(100, 784).astype(np.float32), np.random.randint(0, 10, 100)
for use_batchnorm in (False, True):
    network = MultiLayerNetExtend(784, [50], 10, use_batchnorm=use_batchnorm)
    for _ in range(3):
        grads = network.gradient(x, t)
    print(*(float(np.abs(one).sum()) for one in grads.values()), sep="\\n")

class OfImages:  # its layers are known by their text when it begins to go through them
    layers = [
        Convolution(0.1 * np.random.randn(4, 1, 5, 5), np.zeros(4)), Relu(), Pooling(2, 2, 2),
        Affine(0.1 * np.random.randn(576, 50), np.zeros(50)), Relu(), Affine(0.1 * np.random.randn(50, 10), np.zeros(10)),
    ]

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def gradient(self, x):
        dout = self.predict(x)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)

network = OfImages()
network.gradient(x.reshape(100, 1, 28, 28))
print(float(np.abs(network.layers[0].dW).sum()), float(np.abs(network.layers[3].dW).sum()), sep="\\n")
"""
OF_NETWORK = """
import numpy as np
from common.layers import *

class Network:
    def __init__(self):
        W1, W2 = 0.1 * np.random.randn(784, 50), 0.1 * np.random.randn(50, 10)
        self.layers, self.last = [Affine(W1, np.zeros(50)), Relu(), Affine(W2, np.zeros(10))], SoftmaxWithLoss()

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        y = self.predict(x)
        return self.last.forward(y, t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward(1)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return self.layers[0].dW, self.layers[2].dW

np.random.seed(0)
x, t, network = np.random.rand(100, 784).astype(np.float32), np.random.randint(0, 10, 100), Network()
for _ in range(3):
    grads = network.gradient(x, t)
print(network.loss(x, t), *(float(np.abs(one).sum()) for one in grads), sep="\\n")
"""
OF_STEPS = (
    BOOKS
    + IN_TIME
    + """

np.random.seed(0)
layer = TimeLSTM(0.1 * np.random.randn(16, 256), 0.1 * np.random.randn(64, 256), np.zeros(256))
for _ in range(60):
    layer.forward(np.random.randn(100, 20, 16))
    layer.backward(np.random.randn(100, 20, 64))
print(*(float(np.abs(one).sum()) for one in layer.grads), sep="\\n")
"""
)
START = """
import sys
from fastbp.dropin import command
from fastbp.dropin.beginning import calls
calls._beginning.SECONDS, calls._beginning.OVERDUE = 1e-6, 1e9
from numba.core import event

class Compiled(event.Listener):
    def on_start(self, event):
        name = getattr(getattr(event.data["dispatcher"], "_cache", None), "_name", None)
        if name is not None:
            print("compiled", name, file=sys.stderr)

    def on_end(self, event):
        pass

event.register("numba:compile", Compiled())
command.run(["script.py"])
"""


# Scripts, the kinds of work in them, and a kernel that the script's own process compiles. All have one cache, as those of a
# user have; what a script needs of what others have left there is not compiled again.
FIRST_RUNS = (
    (SCRIPT, {"affine_stack", "normalized_stack", "convolution"}, "affine_stack._forward"),
    (OF_NETWORK, {"affine_network"}, "affine_network._network"),
    (OF_STEPS, {"lstm"}, "lstm._forward"),
)


@pytest.mark.slow
def test_a_second_process_compiles_what_the_way_back_needs(tmp_path):
    write_common(tmp_path)
    start = write(tmp_path, "start.py", START)
    for source, kinds, way_there in FIRST_RUNS:
        _assert_compiled_by_two(tmp_path, start, source, kinds, way_there)


def _assert_compiled_by_two(tmp_path, start, source, kinds, way_there):
    plain = run(tmp_path, write(tmp_path, "script.py", source))
    for is_first in (True, False):
        environment = {"FASTBP_CACHE_DIR": "cache", "NUMBA_NUM_THREADS": "2", **QUICK_TO_COMPILE}
        done = run(tmp_path, start, env=environment)
        assert done.returncode == 0, done.stderr
        values = [np.array(one.stdout.split(), float) for one in (done, plain)]
        np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-12)
        compiled = done.stderr.split()  # by the script's own process
        assert (way_there in compiled) is is_first
        of_others = {name for kind in kinds for name in ahead.WORK[kind].kernels}
        # The way forward of an LSTM needs the product before, and for other dtypes; zeros are sought in several networks.
        for name in of_others - {ahead.PRODUCT, ahead.OF_ZEROS}:
            assert name not in compiled
            assert len([*(tmp_path / "cache").glob(f"*/{name}-*.kernel")]) == 1


def test_no_process_is_started_where_it_does_not_repay(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: begun.append(FakeProcess()) or begun[-1])
    monkeypatch.setattr(ahead, "kernel_cache", lambda: (tmp_path, "own"))
    monkeypatch.setattr(ahead.atexit, "register", lambda *given: None)
    monkeypatch.setattr(cache, "_expected", {})
    (tmp_path / "own").mkdir()
    threads = 2
    monkeypatch.setattr(ahead, "available_threads", lambda: threads)

    def begin(name="affine_stack", is_wanted=True):
        one = ahead.Ahead()
        one.is_wanted = is_wanted
        one.compile_meanwhile(name, np.dtype(float), np.dtype(np.float32))
        one.compile_meanwhile(name, np.dtype(float), np.dtype(np.float32))
        return len(begun)

    assert begin(is_wanted=False) == 0  # not `fastbp run`
    threads = 1
    assert begin() == 0
    threads = 2
    with fastbp.use_backend("numpy"):
        assert begin() == 0
    assert begin() == 1  # once
    assert begun[0].stdin.getvalue() == "affine_stack float64 float32\n"
    assert cache._expected.keys() == set(ahead.WORK["affine_stack"].kernels)
    (tmp_path / "own" / "stack_chunks._backward_chunk-0123.kernel").touch()
    assert begin() == 1  # compiled once already
    (tmp_path / "own" / "stack_chunks._backward_chunk-0123.kernel").unlink()
    (tmp_path / "own" / "shared_product._multiply_chunk-0123.kernel").touch()
    cache._expected.clear()
    assert begin() == 2  # what other work has left there stops nothing, and is not waited for
    assert cache._expected.keys() == set(ahead.WORK["affine_stack"].kernels) - {ahead.PRODUCT}
    (tmp_path / "own" / "shared_product._multiply_chunk-0123.kernel").unlink()
    (tmp_path / "own").rmdir()
    assert begin() == 2  # no cache

    def fail(*arguments, **named):
        raise PermissionError

    (tmp_path / "own").mkdir()
    monkeypatch.setattr(subprocess, "Popen", fail)
    assert begin() == 2


class FakeProcess:
    def __init__(self):
        self.stdin, self.has_ended = io.StringIO(), False

    def poll(self):
        return 0 if self.has_ended else None


def test_a_process_goes_on_with_the_next_piece_of_work(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: begun.append(FakeProcess()) or begun[-1])
    monkeypatch.setattr(ahead.atexit, "register", lambda *given: None)
    monkeypatch.setattr(ahead, "kernel_cache", lambda: (tmp_path, "own"))
    monkeypatch.setattr(ahead, "available_threads", lambda: 2)
    monkeypatch.setattr(cache, "_expected", {})
    (tmp_path / "own").mkdir()
    one = ahead.Ahead()
    one.is_wanted = True
    one.compile_meanwhile("affine_stack", np.dtype(float), np.dtype(float))
    one.compile_meanwhile("normalized_stack", np.dtype(float), np.dtype(float))
    assert [process.stdin.getvalue().split() for process in begun] == [
        ["affine_stack", "float64", "float64", "normalized_stack", "float64", "float64"]
    ]
    begun[0].has_ended = True
    assert not any(is_at_it() for is_at_it in cache._expected.values())
    one.compile_meanwhile("convolution", np.dtype(float))
    assert [process.stdin.getvalue() for process in begun[1:]] == ["convolution float64\n"]


@pytest.mark.slow
def test_a_process_ends_where_a_kernel_cannot_be_kept(tmp_path):
    """Nobody waits for it then, for as long as it would wait for more work."""
    code = "from fastbp.dropin.beginning import ahead; ahead._is_compiled = lambda name: False; ahead.serve()"
    environment = {"FASTBP_CACHE_DIR": "cache", **QUICK_TO_COMPILE}
    done = run(tmp_path, "-c", code, env=environment, input="affine_stack float32 float32\n")
    assert done.returncode == 0, done.stderr


def test_a_kernel_that_another_process_compiles_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_expected", {})
    asked = []

    def is_at_it():
        asked.append(1)
        if len(asked) == 3:
            (tmp_path / "module.kernel-0123.kernel").touch()
        return len(asked) < 6

    cache.expect_kernels(["module.kernel", "module.other"], is_at_it)
    cache.KernelCache(tmp_path, "module.kernel")._wait_for_others()
    assert len(asked) == 3
    cache.KernelCache(tmp_path, "module.kernel")._wait_for_others()  # waited for once
    cache.KernelCache(tmp_path, "module.unknown")._wait_for_others()
    assert len(asked) == 3
    cache.KernelCache(tmp_path, "module.other")._wait_for_others()  # the process ends without it
    assert len(asked) == 6


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_helper_ends_with_the_process_that_started_it_but_not_with_a_fork_of_that(is_ours):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    start = time.monotonic()
    try:
        ahead._end(process, ahead.os.getpid() - (not is_ours))
        assert (process.poll() is None) is not is_ours
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - start < 30


def test_kernels_begin_with_a_loop_through_the_layers_where_there_are_loops(tmp_path, monkeypatch):
    """The rest of a step would need kernels of single layers, which the loops have no use for."""
    monkeypatch.setattr(calls, "_beginning", beginning := calls._Beginning())
    for name, value in {"SECONDS": 1e-4, "OVERDUE": 1e6, "LOADING": np.inf}.items():
        monkeypatch.setattr(calls._Beginning, name, value)
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    with fastbp.accelerated():
        network = made_of(define(LAYERS + NETWORK, tmp_path), "ARA", (400, 300, 200))
    x, has_begun = np.ones((200, 400)), []
    for _ in range(3):
        out = network.predict(x)
        has_begun.append(beginning.over)
        network.gradient(out)
        has_begun.append(beginning.over)
    assert has_begun == [False, False, True, True, True, True]


@pytest.mark.parametrize(("has_loops", "overdue"), [(False, 1e6), (True, 1.0)])
def test_without_loops_or_after_much_more_work_kernels_begin_anywhere(tmp_path, monkeypatch, has_loops, overdue):
    monkeypatch.setattr(calls, "_beginning", beginning := calls._Beginning())
    for name, value in {"SECONDS": 1e-4, "OVERDUE": overdue, "LOADING": np.inf}.items():
        monkeypatch.setattr(calls._Beginning, name, value)
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    with fastbp.accelerated():
        module = define(LAYERS + NETWORK, tmp_path)
    if has_loops:
        made_of(module, "ARA", (4, 3, 2)).predict(np.ones((2, 4)))
    assert not beginning.over
    affine = module.Affine(np.ones((400, 300)), np.ones(300))
    for _ in range(2):
        affine.forward(np.ones((200, 400)))
    assert beginning.over
