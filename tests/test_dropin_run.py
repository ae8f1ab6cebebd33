"""`fastbp run` and `fastbp audit`, and accelerate() in code and notebooks: whole scripts, as a user starts them."""

from __future__ import annotations

import ast
import builtins
import functools
import json
import os
import subprocess
import sys
import textwrap
from importlib.machinery import SourceFileLoader

import numpy as np
import pytest

import fastbp
from fastbp.bench.dropin import plain_source, write_common
from fastbp.dropin import acceleration, command, fast_layers, running
from fastbp.dropin.auditing import Auditor, DifferenceFound
from fastbp.dropin.calls import PASS, estimated_seconds
from fastbp.dropin.known_versions import KNOWN_VERSIONS, KnownVersion
from fastbp.dropin.recognition import digest

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


@pytest.fixture
def folder(tmp_path):
    write_common(tmp_path)
    return tmp_path


def losses(lines):
    return [float(line.split()[-1].rpartition(":")[2]) for line in lines if "loss" in line]


@pytest.mark.parametrize("source", [TRAIN, CONVNET], ids=["train", "convnet"])
def test_a_script_prints_what_it_prints_without(folder, source):
    script = write(folder, "script.py", source.replace('print(layers["Conv1"].col.shape, ', "print("))
    plain = run(folder, script)
    fast = run(folder, "-m", "fastbp", "run", "--json", "report.json", script)
    assert plain.returncode == fast.returncode == 0, fast.stderr
    expected, actual = plain.stdout.splitlines(), fast.stdout.splitlines()
    accuracies = [line for line in expected if "acc" in line]
    assert accuracies == [line for line in actual if "acc" in line]
    losses = [
        [float(line.split()[-1].rpartition(":")[2]) for line in lines if "loss" in line] for lines in (expected, actual)
    ]
    assert len(losses[0]) >= 100
    np.testing.assert_allclose(*losses, rtol=1e-8)
    assert expected[-1] == actual[-1]  # the random state, and the places of maxima
    report = json.loads((folder / "report.json").read_text())
    assert all(one["accelerated"] for one in report["definitions"] if one["name"] in ("Affine", "Relu"))
    assert sum(count["calls"] - count["passed"] for count in report["calls"].values()) >= 1000


def test_verbose_says_what_was_accelerated_and_what_not_and_why(folder):
    own = plain_source("layers").replace("out[self.mask] = 0", "out[self.mask] = 0.0")
    (folder / "common" / "layers.py").write_text(own, "utf-8")
    script = write(
        folder,
        "script.py",
        """
        from common.layers import *

        class Half(Affine):
            def forward(self, x):
                return super().forward(x) / 2

        class Swish:
            def forward(self, x):
                self.x = x
                return x * sigmoid(x)
            def backward(self, dout):
                return dout

        W = np.ones((3, 2))
        print(Half(W, np.zeros(2)).forward(np.ones((1, 3))))
        print(Relu().forward(np.array([-1.0, 1.0])), Swish().forward(np.zeros(1)))
        """,
    )
    result = run(folder, "-m", "fastbp", "run", "--verbose", script)
    assert result.stdout == "[[1.5 1.5]]\n[0. 1.] [0.]\n"
    lines = {line.split()[1]: line for line in result.stderr.splitlines() if ":" in line.split(" ")[0]}
    assert "accelerated" in lines["Affine"]
    assert lines["Affine"].startswith(os.path.join("common", "layers.py:"))
    assert "not the book's code" in lines["Relu"]
    assert "a subclass of Affine" in lines["Half"]
    assert "a layer of your own" in lines["Swish"]
    counted = [line for line in result.stderr.splitlines() if line.startswith("Affine.forward")]
    assert counted[0].split()[:3] == ["Affine.forward", "1", "0"]


def test_classes_in_the_script_itself_and_relative_imports(folder):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    for module in ("functions", "util", "layers"):
        source = plain_source(module).replace("from common.", "from .")
        (package / f"{module}.py").write_text(source, "utf-8")
    (package / "__main__.py").write_text(
        "from .layers import Affine\nimport sys\nprint(__name__, __package__, sys.argv[1:])\n"
    )
    relu = plain_source("layers").partition("class Relu")[2].partition("class Sigmoid")[0]
    script = write(
        folder, "script.py", "import numpy as np\nimport package.layers\n\nclass ReLU" + relu + "\nprint(ReLU)\n"
    )
    result = run(folder, "-m", "fastbp", "run", "--json", "report.json", script)
    assert result.stdout == "<class '__main__.ReLU'>\n"
    found = json.loads((folder / "report.json").read_text())["definitions"]
    assert {one["name"] for one in found if one["accelerated"]} >= {"ReLU", "Affine", "Convolution", "im2col"}
    result = run(folder, "-m", "fastbp", "run", "--json", "report.json", "-m", "package", "--one", "-v")
    assert result.stdout == "__main__ package ['--one', '-v']\n", result.stderr
    found = json.loads((folder / "report.json").read_text())["definitions"]
    assert "Affine" in {one["name"] for one in found if one["accelerated"]}


def test_another_softmax_in_the_module_leaves_the_layer_that_calls_it_alone(folder):
    source = plain_source("functions").replace("np.exp(x - np.max", "np.exp(2 * x - 2 * np.max")
    (folder / "common" / "functions.py").write_text(source, "utf-8")
    script = write(
        folder,
        "script.py",
        "from common.layers import *\nprint(SoftmaxWithLoss().forward(np.array([[1.0, 2.0]]), np.array([1])))\n",
    )
    plain = run(folder, script)
    fast = run(folder, "-m", "fastbp", "run", "-v", script)
    assert fast.stdout == plain.stdout
    assert "its softmax is not the book's" in fast.stderr


def test_layers_on_something_else_than_numpy_are_left_alone(folder):
    source = plain_source("layers").replace("class Relu", "import other as np\n\nclass Relu", 1)
    (folder / "common" / "layers.py").write_text(source, "utf-8")
    (folder / "other.py").write_text("from numpy import *\ndef dot(a, b):\n    return 'not NumPy'\n", "utf-8")
    script = write(
        folder, "script.py", "import common.layers as c\nimport numpy as np\n"
        "class text(np.ndarray): pass\nW = np.ones((3, 2))\n"
        "try:\n    c.Affine(W, np.zeros(2)).forward(W.T)\nexcept TypeError as error:\n    print('as before')\n",
    )  # fmt: skip
    plain, fast = run(folder, script), run(folder, "-m", "fastbp", "run", "-v", script)
    assert plain.stdout == fast.stdout != ""
    assert "its np is not NumPy" in fast.stderr


SEEN = """
import sys, os, __main__
print(__name__, __file__, sys.argv, sys.path[0] == os.path.dirname(os.path.abspath(__file__)), os.getcwd())
print(__main__.__dict__ is globals(), __builtins__.__name__, __package__, __spec__, __doc__)
class Pickled: pass
import pickle
print(type(pickle.loads(pickle.dumps(Pickled()))) is Pickled)
"""


def test_a_script_sees_what_it_sees_under_python(tmp_path):
    (tmp_path / "inner").mkdir()
    script = write(tmp_path, os.path.join("inner", "script.py"), SEEN)
    plain = run(tmp_path, script, "a", "--verbose", "-m")
    fast = run(tmp_path, "-m", "fastbp", "run", script, "a", "--verbose", "-m")
    assert fast.stdout == plain.stdout
    assert plain.stderr == ""
    assert fast.stderr == (
        "fastbp: nothing was accelerated: no class with a forward and a backward was defined in Python code\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(7)\n",
        "import sys\nsys.exit('text')\n",
        "import sys\nsys.exit()\n",
        "def f():\n    raise ValueError('in f')\n\nf()\n",
        "1 +\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('later') from error\n",
        "import atexit\natexit.register(print, 'at exit')\nraise SystemExit(3)\n",
        "import sys\nsys.excepthook = lambda kind, error, trace: print('hook', kind.__name__)\nraise OSError\n",
        "import common.layers\ncommon.layers.Affine([[1.0]], 0).forward('text')\n",
    ],
)
def test_errors_and_exit_statuses_are_python_s(folder, source):
    script = write(folder, "script.py", source)
    plain, fast = run(folder, script), run(folder, "-m", "fastbp", "run", script)
    assert fast.returncode == plain.returncode
    assert fast.stdout == plain.stdout
    ours = [line for line in fast.stderr.splitlines() if "fastbp" not in line]
    if "common.layers" not in source:  # a call that goes through us has our frames in the middle
        assert ours == plain.stderr.splitlines()
    assert ours[-1:] == plain.stderr.splitlines()[-1:]


def test_scripts_and_modules_that_are_not_there(tmp_path):
    result = run(tmp_path, "-m", "fastbp", "run", "missing.py")
    assert (result.returncode, result.stdout) == (2, "")
    assert "can't open file" in result.stderr
    assert "missing.py" in result.stderr
    result = run(tmp_path, "-m", "fastbp", "run", "-m", "missing.module")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_a_script_without_such_classes_does_not_import_numba(tmp_path):
    script = write(tmp_path, "script.py", "import sys, numpy\nclass Layer:\n    pass\nprint('numba' in sys.modules)\n")
    assert run(tmp_path, "-m", "fastbp", "run", script).stdout == "False\n"
    assert "nothing was accelerated" in run(tmp_path, "-m", "fastbp", "run", "-v", script).stderr


def test_a_script_with_little_to_do_does_not_import_numba_and_one_with_more_does(folder):
    source = "import sys\nfrom common.layers import *\nlayer = Affine(np.ones((300, 300)), np.zeros(300))\n"
    source += "for _ in range({}):\n    layer.forward(np.ones((500, 300)))\nprint('numba' in sys.modules)\n"
    few, many = write(folder, "few.py", source.format(1)), write(folder, "many.py", source.format(2000))
    assert run(folder, "-m", "fastbp", "run", few).stdout == "False\n"
    assert run(folder, "-m", "fastbp", "run", many).stdout == "True\n"


def test_accelerate_in_a_script(folder):
    relu = plain_source("layers").partition("class Relu")[2].partition("class Sigmoid")[0]
    script = write(
        folder,
        "script.py",
        "import numpy as np\nimport fastbp\nimport common.functions\nfound = fastbp.accelerate()\n"
        f"class Relu{relu}\nfrom common.layers import Affine\n"
        "print(sorted(one.name for one in found if one.accelerated)[:2], hasattr(Relu.forward, '__wrapped__'))\n",
    )
    assert run(folder, script).stdout == "['Affine', 'BatchNormalization'] True\n"


def test_accelerate_under_verbose_goes_on_counting(folder):
    source = "import fastbp\nfastbp.accelerate()\nfrom common.layers import *\nRelu().forward(np.ones(3))\n"
    result = run(folder, "-m", "fastbp", "run", "-v", write(folder, "script.py", source))
    assert [line.split()[1] for line in result.stderr.splitlines() if line.startswith("Relu.forward")] == ["1"]


def test_accelerated_ends_with_its_block(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    before = builtins.__build_class__, SourceFileLoader.exec_module
    with fastbp.accelerated() as found:
        with fastbp.accelerated():
            pass
        assert builtins.__build_class__ is not before[0]
        import common.layers as inside
    assert (builtins.__build_class__, SourceFileLoader.exec_module) == before
    assert "Affine" in {one.name for one in found if one.accelerated}
    assert hasattr(inside.Affine.forward, "__wrapped__")
    for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
        del sys.modules[name]
    import common.layers as outside

    assert not hasattr(outside.Affine.forward, "__wrapped__")
    for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
        del sys.modules[name]


def test_a_notebook_extension(monkeypatch):
    """A cell is compiled under a name of its own, and its source is in linecache."""
    import linecache

    cell = "class Relu" + plain_source("layers").partition("class Relu")[2].partition("class Sigmoid")[0]
    linecache.cache["<cell 1>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell 1>")
    fastbp.load_ipython_extension(None)
    try:
        namespace = {"np": np, "__name__": "__main__"}
        exec(compile(cell, "<cell 1>", "exec"), namespace)
    finally:
        fastbp.unload_ipython_extension(None)
        del linecache.cache["<cell 1>"]
    assert hasattr(namespace["Relu"].forward, "__wrapped__")


def test_a_class_whose_source_cannot_be_seen_is_left_alone():
    cell = "class Relu" + plain_source("layers").partition("class Relu")[2].partition("class Sigmoid")[0]
    namespace = {"np": np, "__name__": "__main__"}
    with fastbp.accelerated():
        exec(compile(cell, "<nowhere>", "exec"), namespace)
    assert not hasattr(namespace["Relu"].forward, "__wrapped__")


def test_audit_passes_and_reports(folder):
    script = write(folder, "script.py", CONVNET.replace("range(100)", "range(3)"))
    result = run(folder, "-m", "fastbp", "audit", "--json", "audit.json", script)
    assert result.returncode == 0, result.stderr
    report = json.loads((folder / "audit.json").read_text())
    assert report["difference"] is None
    calls = report["calls"]["Convolution.backward"]
    assert (calls["calls"], calls["passed"]) == (3, 0)
    assert 0 < calls["relative"] < 1e-12
    assert calls["own_seconds"] > 0 < calls["seconds"]
    row = next(line for line in result.stderr.splitlines() if line.startswith("Convolution.backward"))
    assert row.split()[1:3] == ["3", "0"]


DROPPING = """
import numpy as np
from common.layers import *

class Network:
    def __init__(self):
        self.params = {"W": 0.1 * np.random.randn(20, 8), "b": np.zeros(8)}
        self.layers = [Affine(self.params["W"], self.params["b"]), BatchNormalization(np.ones(8), np.zeros(8)), Relu()]

    def gradient(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        dout = x - 1
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return {"W": self.layers[0].dW, "b": self.layers[0].db}

np.random.seed(0)
network = Network()
for _ in range(20):
    network.gradient(np.random.randn(50, 20))
"""


def test_audit_leaves_out_what_the_network_drops_and_says_so(folder, monkeypatch, capsys):
    """The gradient of the images is not computed; the bias before batch normalisation has a gradient of 0 and rounding."""
    write(folder, "script.py", DROPPING)
    (gradient,) = (
        node for node in ast.walk(ast.parse(DROPPING)) if isinstance(node, ast.FunctionDef) and node.name == "gradient"
    )
    monkeypatch.setitem(KNOWN_VERSIONS, digest(gradient), KnownVersion("gradient"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(folder)
    with fastbp.accelerated():
        command.audit([str(folder / "script.py")])
    acceleration.stop_accelerating()
    for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
        del sys.modules[name]
    report = capsys.readouterr().err
    assert (
        "Affine.backward: in 20 calls the gradient of the network's input was neither computed nor compared" in report
    )
    assert "Different" not in report


def test_audit_keeps_the_random_state_and_the_results(folder):
    script = write(folder, "script.py", TRAIN.replace("epochs=20", "epochs=2"))
    plain, audited = run(folder, script), run(folder, "-m", "fastbp", "audit", script)
    assert audited.returncode == 0, audited.stderr
    assert audited.stdout.splitlines()[-3:] == plain.stdout.splitlines()[-3:]


class Layer:
    def __init__(self):
        self.kept = np.zeros(3)

    def forward(self, x):
        self.kept = 2 * x
        return x + 1


def wrong(change):
    def forward(self, x):
        self.kept, result = 2 * x, x + 1
        return change(self, result)

    return forward


def change_result(self, result):
    result[1] += 1e-6
    return result


def change_attribute(self, result):
    self.kept[2] = np.nan
    return result


def draw(self, result):
    np.random.rand()
    return result


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_result, r"call 2: result\[1\] is .*3.0.* by your code, .*3.000001.* by fastbp"),
        (change_attribute, r"call 2: kept\[2\] is .*6.0.* by your code, .*nan.* by fastbp"),
        (draw, r"call 2: random state"),
        (lambda self, result: result.astype(np.float32), r"call 2: result is float64 .* float32"),
    ],
)
def test_audit_finds_the_first_difference(change, message):
    auditor, layer = Auditor(), Layer()
    exact = auditor("Layer.forward", wrong(lambda self, result: result), Layer.forward)
    exact(layer, np.array([1.0, 2.0, 3.0]))
    faulty = auditor("Layer.forward", wrong(change), Layer.forward)
    with pytest.raises(DifferenceFound, match=message):
        faulty(layer, np.array([1.0, 2.0, 3.0]))


def test_audit_ends_with_status_1(folder):
    script = write(folder, "script.py", CONVNET)
    start = write(
        folder,
        "start.py",
        """
        import sys
        from fastbp.dropin import command, fast_layers
        right = fast_layers.relu_forward
        def wrong(self, x):
            out = right(self, x)
            out[0, 0, 0, 1] = 9
            return out
        fast_layers.LAYERS["Relu"].methods["forward"] = wrong
        command.audit(["script.py"])
        """,
    )
    result = run(folder, start)
    assert script
    assert result.returncode == 1
    assert "Different: Relu.forward, call 1: result[0, 0, 0, 1] is " in result.stderr
    assert "9.0" in result.stderr


@pytest.mark.parametrize(("faulty", "found"), [(1e-16, False), (1e-9, True)])
def test_a_sum_that_cancelled_is_compared_with_its_terms(faulty, found):
    """dout's columns add up to 0 but for rounding: as much again is no difference, and 1e-9 of the terms is one."""

    class Affine:
        def __init__(self):
            self.W, self.b, self.x = np.ones((2, 2)), np.zeros(2), np.ones((4, 2))
            self.original_x_shape = self.x.shape

        def backward(self, dout):
            self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
            return dout @ self.W.T

    @functools.wraps(fast_layers.affine_backward)
    def fast(layer, dout):
        result = Affine.backward(layer, dout)
        layer.db = layer.db + faulty
        return result

    audited = Auditor()("Affine.backward", fast, Affine.backward)
    dout = np.array([[0.1, 2.0], [0.2, -2.0], [-0.3, 0.5], [0.0, -0.5]])
    assert 0 < abs(dout.sum(axis=0)[0]) < 1e-15
    if found:
        with pytest.raises(DifferenceFound, match=r"db\[0\]"):
            audited(Affine(), dout)
    else:
        audited(Affine(), dout)


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


def test_five_runs_with_a_seed_are_the_same_to_the_last_bit_beside_a_busy_process(folder):
    """The kernels begin in the middle of the script, at the same call every time, and how their threads take turns in the
    work does not show in the numbers."""
    script = write(folder, "script.py", BUSY)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        environment = {"PYTHONHASHSEED": "0"}
        texts = {run(folder, "-m", "fastbp", "run", script, env=environment).stdout for _ in range(5)}
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert len(texts) == 1
    assert texts != {""}


def test_work_is_counted_from_shapes():
    affine = type("Affine", (), {"W": np.ones((784, 50)), "b": np.zeros(50)})()
    forward = estimated_seconds("forward", (affine, np.ones((100, 784))), np.ones((100, 50)))
    backward = estimated_seconds("backward", (affine, np.ones((100, 50))), np.ones((100, 784)))
    assert 1e-4 < forward < backward < 1e-3
    convolution = type("Convolution", (), {"W": np.ones((30, 1, 5, 5)), "b": np.zeros(30)})()
    images, out = np.ones((100, 1, 28, 28)), np.ones((100, 30, 24, 24))
    assert 1e-3 < estimated_seconds("forward", (convolution, images), out) < 1e-1
    params = {"W": np.ones((784, 50))}
    assert estimated_seconds("update", (object(), params, params), None) > 1e-4
    assert estimated_seconds("im2col", (), None) < 1e-4


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


def test_a_script_in_which_nothing_is_accelerated_is_told_why(folder):
    own = "class Scale:\n    def forward(self, x):\n        return 2 * x\n"
    own += "    def backward(self, dout):\n        return dout * 2\n"
    result = run(folder, "-m", "fastbp", "run", write(folder, "script.py", own + "print(Scale().forward(3))\n"))
    assert result.stdout == "6\n"
    assert result.stderr == (
        "fastbp: nothing was accelerated: Scale (script.py:1) is a layer of your own; see --verbose\n"
    )
    result = run(folder, "-m", "fastbp", "run", write(folder, "script.py", "from common.layers import *\n"))
    assert (result.stdout, result.stderr) == ("", "")
    result = run(folder, "-m", "fastbp", "run", "-v", "script.py")
    assert "copy of" not in result.stderr
    assert "compiled" not in result.stderr
    assert result.stderr.endswith("\n")
    assert not result.stderr.endswith("\n\n")


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


def test_warnings_are_those_of_python(folder, tmp_path):
    """The same ones, as often, at the same lines: none lost in kernels, none shown again because Numba compiled."""
    script = write(folder, "script.py", WARNING)
    start = write(folder, "start.py", """
        from fastbp.dropin import calls, command
        calls._beginning.SECONDS = -1
        command.run(["script.py"])
        """)  # fmt: skip
    plain, fast = run(folder, script), run(folder, start, env={"FASTBP_CACHE_DIR": str(tmp_path / "cache")})
    assert plain.stdout == fast.stdout == "done\n", fast.stderr
    assert plain.stderr.count("RuntimeWarning") > 10
    assert fast.stderr == plain.stderr


def test_tolerance_of_an_audit():
    def slightly(self, x):
        self.kept = 2 * x
        return (x + 1) * (1 + 1e-6)

    with pytest.raises(DifferenceFound):
        Auditor()("f", slightly, Layer.forward)(Layer(), np.ones(3))
    Auditor(1e-5)("f", slightly, Layer.forward)(Layer(), np.ones(3))
    assert Auditor()("f", lambda self, x: PASS, Layer.forward)(Layer(), np.ones(3)).tolist() == [2, 2, 2]


def test_help_lists_both_commands(tmp_path):
    text = run(tmp_path, "-m", "fastbp", "--help").stdout
    assert "run" in text
    assert "audit" in text
    assert "SCRIPT" in run(tmp_path, "-m", "fastbp", "run", "--help").stdout


def test_an_unwritable_report_is_said_and_the_script_is_not_lost(tmp_path):
    script = write(tmp_path, "script.py", "print('done')\n")
    result = run(tmp_path, "-m", "fastbp", "run", "--json", tmp_path / "no" / "report.json", script)
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert "could not be written" in result.stderr


def test_nothing_is_left_behind():
    assert acceleration._state.depth == 0
    assert builtins.__build_class__ is acceleration._build_class
    assert running
