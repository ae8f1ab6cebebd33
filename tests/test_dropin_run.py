"""`fastbp run`, and accelerate() in code and notebooks: whole scripts, as a user starts them."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader

import numpy as np
import pytest
from dropin_cases import CONVNET, TRAIN, run, write

import fastbp
from fastbp.bench.dropin import plain_source, write_common
from fastbp.dropin import acceleration, running


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
    assert "tried on" in lines["Relu"]
    assert "a subclass of Affine" in lines["Half"]
    assert "not patched" in lines["Swish"]
    assert "gives other numbers" in lines["Swish"]
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


def test_a_script_in_which_nothing_is_accelerated_is_told_why(folder):
    own = "class Scale:\n    def forward(self, x):\n        return 2 * x\n"
    own += "    def backward(self, dout):\n        return dout * 2\n"
    result = run(folder, "-m", "fastbp", "run", write(folder, "script.py", own + "print(Scale().forward(3))\n"))
    assert result.stdout == "6\n"
    assert result.stderr == (
        "fastbp: nothing was accelerated: Scale (script.py:1) was not patched: "
        "not tried: it did too little, or nothing; see --verbose\n"
    )
    result = run(folder, "-m", "fastbp", "run", write(folder, "script.py", "from common.layers import *\n"))
    assert (result.stdout, result.stderr) == ("", "")
    result = run(folder, "-m", "fastbp", "run", "-v", "script.py")
    assert "copy of" not in result.stderr
    assert "compiled" not in result.stderr
    assert result.stderr.endswith("\n")
    assert not result.stderr.endswith("\n\n")


def test_compiling_is_announced_on_a_first_run(folder):
    script = write(
        folder,
        "script.py",
        "import numpy as np\nfrom common.layers import *\nprint(Relu().forward(np.ones((9, 9))).sum())\n",
    )
    cache = {"FASTBP_CACHE_DIR": str(folder / "cache")}
    first, second = (run(folder, "-m", "fastbp", "run", "-v", script, env=cache) for _ in range(2))
    assert first.stdout == second.stdout == "81.0\n"
    assert first.stderr.count("compiling kernels") == 1
    assert "compiling kernels" not in second.stderr


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


FAULTS = """
import resource, numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.empty(200_000).fill(1.0)  # 1.6 MB, 390 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="for glibc")
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise(folder):
    def counted(**limits):
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        environment = {**own, **limits}  # without what dask has put there
        command = [sys.executable, "-m", "fastbp", "run", write(folder, "script.py", FAULTS)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
        return int(done.stdout)

    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("for glibc")
    assert counted() < 1000
    assert counted(MALLOC_MMAP_THRESHOLD_="1000000", MALLOC_TRIM_THRESHOLD_="1000000") > 10_000
