"""`fastbp run`: the same bits run after run, where kernels begin, which calls they take, and the warnings of Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import QUICK_TO_COMPILE
from dropin_cases import run, write

from fastbp.bench.dropin import write_common
from fastbp.dropin.beginning import calls, estimates
from fastbp.dropin.beginning.estimates import estimated_seconds, expected_seconds
from fastbp.dropin.beginning.loading import Loader


@pytest.fixture
def folder(tmp_path):
    write_common(tmp_path)
    return tmp_path


BUSY = """
import numpy as np
from common.layers import *
from common.optimizer import Adam

np.random.seed(5)
params = {"W1": 0.1 * np.random.randn(120, 300), "b1": np.zeros(300), "W2": 0.1 * np.random.randn(300, 7), "b2": np.zeros(7)}
first, relu, second = Affine(params["W1"], params["b1"]), Relu(), Affine(params["W2"], params["b2"])
last, optimizer = SoftmaxWithLoss(), Adam(lr=0.01)
for step in range(600):
    x, t = np.random.randn(150, 120), np.random.randint(0, 7, 150)
    loss = last.forward(second.forward(relu.forward(first.forward(x))), t)
    first.backward(relu.backward(second.backward(last.backward())))
    grads = {"W1": first.dW, "b1": first.db, "W2": second.dW, "b2": second.db}
    optimizer.update(params, grads)
print(loss.hex(), hash(params["W1"].tobytes()))
"""


@pytest.mark.slow
def test_five_runs_with_a_seed_are_the_same_to_the_last_bit_beside_a_busy_process(folder):
    """The kernels begin in the middle of the script, at the same call every time, and how their threads take turns in the
    work does not show in the numbers."""
    script = write(folder, "script.py", BUSY)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            environment = {"PYTHONHASHSEED": "0"}
            texts = {run(folder, "-m", "fastbp", "run", script, env=environment).stdout for _ in range(5)}
        finally:
            busy.kill()
    assert len(texts) == 1
    assert texts != {""}


LOADING = """
import os, sys, threading
from fastbp.dropin.beginning import calls
from common.layers import *
calls._beginning.RATE = calls._beginning.LONG = 0  # however busy the machine is, and short the calls are
affine, switching = Affine(np.ones((784, 300)), np.zeros(300)), sys.getswitchinterval()
while not any(thread.name == "fastbp loads Numba" for thread in threading.enumerate()):
    affine.forward(np.ones((100, 784)))
child = os.fork()
if not child:
    import numba
    os._exit(len(numba.__version__) > 100)
assert os.waitpid(child, 0)[1] == 0
assert "fastbp.kernels" in sys.modules and threading.active_count() == 1
assert sys.getswitchinterval() == switching
for _ in range(300):
    out = affine.forward(np.ones((100, 784)))
print(out[0, 0], type(affine).forward.__name__)
"""


def test_numba_is_imported_beside_long_calls_alone(monkeypatch):
    begun = []
    monkeypatch.delitem(sys.modules, "fastbp.kernels", raising=False)
    monkeypatch.setattr(Loader, "begin", lambda self: begun.append(True))
    affine = SimpleNamespace(W=np.ones((784, 50)), b=np.zeros(50))
    for rows, is_begun in ((100, False), (3000, True)):  # for many short calls a script waits for the import only once
        beginning, x = calls._Beginning(), np.ones((rows, 784)) * (np.arange(784) % 5 == 0)
        monkeypatch.setattr(beginning, "RATE", 0)
        while beginning.work < 0.2:
            beginning.count("forward", (affine, x), np.ones((rows, 50)), calls.all_of_it)
        assert bool(begun) == is_begun
    begun.clear()
    beginning.work, beginning._in_long_calls = 0.05, 0.0
    beginning.ends_with((affine, np.ones((20_000, 784)) * (np.arange(784) % 5 == 0)))  # 0.1 s, before it is made
    assert begun
    assert not beginning.over


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_script_may_fork_while_numba_is_being_imported(folder):
    done = run(folder, "-m", "fastbp", "run", write(folder, "script.py", LOADING))
    assert (done.returncode, done.stdout) == (0, "784.0 forward\n"), done.stderr


def test_a_script_ends_while_numba_is_being_imported(folder):
    ending = LOADING.partition("child =")[0] + "raise SystemExit(3)"
    done = run(folder, "-m", "fastbp", "run", write(folder, "script.py", ending))
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_work_is_counted_from_shapes():
    affine = SimpleNamespace(W=np.ones((784, 50)), b=np.zeros(50))
    x = np.ones((100, 784)) * (np.arange(784) % 5 == 0)
    forward = estimated_seconds("forward", (affine, x), np.ones((100, 50)))
    backward = estimated_seconds("backward", (affine, np.ones((100, 50))), np.ones((100, 784)))
    assert 1e-4 < forward < backward < 1e-3
    convolution = SimpleNamespace(W=np.ones((30, 1, 5, 5)), b=np.zeros(30))
    images, out = np.ones((100, 1, 28, 28)), np.ones((100, 30, 24, 24))
    assert 1e-3 < estimated_seconds("forward", (convolution, images), out) < 1e-1
    params = {"W": np.ones((784, 50))}
    assert estimated_seconds("update", (object(), params, params), None) > 1e-4


@pytest.mark.parametrize("params", [np.ones((3, 3)), {"Wx": np.ones((2, 2))}, "text", None, []])
def test_a_layer_given_several_arrays_is_a_recurrent_one_by_its_two_matrices_alone(params):
    layer, x = SimpleNamespace(params=params), np.ones((200, 100))
    elementwise = estimated_seconds("forward", (layer, x), x)
    assert estimated_seconds("forward", (layer, x, x, x), x) == elementwise > 0
    layer.params = [np.ones((100, 40)), np.ones((10, 40)), np.ones(40)]
    assert estimated_seconds("backward", (layer, x, x), x) != estimated_seconds("backward", (layer, x), x)
    assert estimated_seconds("im2col", (), None) < 1e-4


def test_dense_products_of_one_dtype_count_little():
    """OpenBLAS makes them as fast as kernels. Backward is taken to be of the same x as forward before it."""
    affine = SimpleNamespace(W=np.ones((3072, 512)), b=np.zeros(512))
    sparse, out = np.ones((64, 3072)) * (np.arange(3072) % 5 == 0), np.ones((64, 512))

    def both(x):
        forward = estimated_seconds("forward", (affine, x), out)
        return forward, estimated_seconds("backward", (affine, out), x)

    counted = both(sparse)
    for x in (np.ones((64, 3072)), np.ones((64, 3072)).T.copy().T):
        is_looked_at = x.flags.c_contiguous
        assert [one < 0.25 * other for one, other in zip(both(x), counted, strict=True)] == [is_looked_at] * 2
    assert both(np.ones((64, 3072), np.float32)) > counted


def test_work_that_is_left_to_numpy_does_not_count(monkeypatch):
    monkeypatch.setattr(estimates, "LEAST_PRODUCT", 262_144)
    monkeypatch.setattr(estimates, "LEAST_ELEMENTWISE", 1_500)
    affine = SimpleNamespace(W=np.ones((784, 50)), b=np.zeros(50))
    assert estimated_seconds("forward", (affine, np.ones((3, 784))), np.ones((3, 50))) == 0
    lower = SimpleNamespace(w=np.ones((784, 50)), b=np.zeros(50))
    assert estimated_seconds("forward", (lower, np.ones((3, 784))), np.ones((3, 50))) == 0
    assert estimated_seconds("forward", (object(), np.ones((3, 50))), np.ones((3, 50))) == 0
    assert estimated_seconds("forward", (affine, np.ones((100, 784))), np.ones((100, 50))) > 0


def test_what_a_call_will_take_is_what_it_is_found_to_have_taken():
    affine = SimpleNamespace(W=np.ones((784, 50)), b=np.zeros(50))
    convolution = SimpleNamespace(W=np.ones((4, 2, 1, 1)), b=np.zeros(4))
    for layer, x, out in (
        (affine, np.ones((2000, 784), np.float32), np.ones((2000, 50))),
        (convolution, np.ones((100, 2, 28, 28)), np.ones((100, 4, 28, 28))),
        (object(), np.ones((1000, 50)), np.ones((1000, 50))),
    ):
        assert expected_seconds(layer, x) == pytest.approx(estimated_seconds("forward", (layer, x), out))


def test_kernels_begin_before_a_call_that_repays_it(folder):
    script = write(
        folder,
        "script.py",
        """
        from common.layers import *
        from fastbp.dropin.beginning import calls
        calls._beginning.SECONDS = 0.02
        def dot(x, W, own=np.dot):
            print(len(x))
            return own(x, W)
        np.dot = dot
        affine = Affine(np.ones((784, 50)), np.zeros(50))
        for rows in (100, 3_000, 200):
            affine.forward(np.ones((rows, 784), np.float32))
        """,
    )
    done = run(folder, "-m", "fastbp", "run", script)
    assert (done.stdout, done.stderr) == ("100\n", "")


def test_small_calls_are_left_to_numpy_by_their_shapes(folder):
    script = write(
        folder,
        "script.py",
        """
        from common.layers import *
        for rows in (1, 2000):
            affine, relu, dropout = Affine(np.ones((90, 50)), np.zeros(50)), Relu(), Dropout()
            dropout.backward(dropout.forward(relu.backward(relu.forward(affine.forward(np.ones((rows, 90)))))))
            affine.backward(np.ones((rows, 50)))
        """,
    )
    for least, left in (("1", 1), ("0", 0)):
        command = ("-m", "fastbp", "run", "--json", "report.json", script)
        assert run(folder, *command, env={"FASTBP_LEAST_WORK": least}).returncode == 0
        calls = json.loads((folder / "report.json").read_text())["calls"]
        assert {(count["calls"], count["passed"]) for count in calls.values() if count["calls"]} == {(2, left)}


WARNING = """
import numpy as np
from common.layers import *

def overflow():
    return np.float64(1e308) * np.float64(10)

def forward(layer, *arguments):
    return layer.forward(*arguments)

np.random.seed(0)
W, inf = np.ones((3, 4)), np.inf
large = np.array([[1e308, 1.0, 0.0, 2.0]] * 2)
for _ in range(3):
    overflow()
    forward(Affine(W, np.array([inf, 0, -inf, 0])), np.array([[-inf, 1, 1]] * 2))
    forward(Affine(np.where(W > 0, inf, 0), np.zeros(4)), np.array([[0.0, 1, 1]] * 2))
    forward(Affine(W, np.zeros(4)), np.array([[inf, -inf, 1]] * 2))
    forward(Convolution(np.ones((4, 1, 1, 1)), np.zeros(4)), np.array([[[[inf, np.nan], [-inf, 1.0]]]]))
    forward(Convolution(np.full((4, 1, 1, 1), inf), np.zeros(4)), np.zeros((1, 1, 2, 2)))
    forward(Sigmoid(), np.array([[-800.0, 1.0]]))
    forward(Sigmoid(), np.array([[800.0, 1.0]]))
    forward(SoftmaxWithLoss(), np.array([[inf, 0.0, 1.0]]), np.array([1]))
    forward(SoftmaxWithLoss(), np.array([[-1e308, 1e308, 1.0]]), np.array([1]))
    forward(SoftmaxWithLoss(), np.array([[1.0, 1e3, 1.0]]), np.array([0]))
    forward(BatchNormalization(np.ones(4), np.zeros(4)), large)
    forward(BatchNormalization(np.ones(4), np.zeros(4)), np.array([[inf, 1.0, 2.0, np.nan]] * 2))
    forward(Dropout(), np.array([[inf, 1.0, np.nan]]))
    affine = Affine(W, np.zeros(4))
    affine.forward(np.ones((2, 3)))
    affine.backward(np.array([[inf, 1.0, 2.0, 3.0], [-inf, 1e308, 2.0, 3.0]]))
    affine.backward(np.array([[1.0, 1.0, 2.0, 3.0], [1.0, 1e308, 2.0, 3.0]]) * 1.1)
    sigmoid = Sigmoid()
    sigmoid.forward(np.array([40.0, 0.0]))
    sigmoid.backward(np.array([inf, 1.0]))
    forward(Pooling(2, 2), np.array([[[[inf, np.nan], [-inf, 1.0]]]]))
    convolution = Convolution(np.ones((1, 1, 2, 2)), np.zeros(1))
    convolution.forward(np.ones((1, 1, 3, 3)))
    convolution.backward(np.array([[[[inf, 1.0], [-inf, 1.0]]]]))
print("done")
"""


@pytest.mark.slow
def test_warnings_are_those_of_python(folder, tmp_path):
    """The same ones, as often, at the same lines: none lost in kernels, none shown again because Numba compiled."""
    script = write(folder, "script.py", WARNING)
    start = write(folder, "start.py", """
        from fastbp.dropin import command
        from fastbp.dropin.beginning import calls
        calls._beginning.SECONDS = -1
        command.run(["script.py"])
        """)  # fmt: skip
    environment = {"FASTBP_CACHE_DIR": str(tmp_path / "cache"), **QUICK_TO_COMPILE}
    plain, fast = run(folder, script), run(folder, start, env=environment)
    assert plain.stdout == fast.stdout == "done\n", fast.stderr
    assert plain.stderr.count("RuntimeWarning") > 10
    said = "fastbp: compiling kernels for this processor, once; it takes some seconds\n"
    assert fast.stderr.count(said) == 1
    assert fast.stderr.replace(said, "") == plain.stderr
