"""The compiler and its cache, each case in processes of their own: what is compiled when, and for which processor."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest
from conftest import LONG

import fastbp.kernels
from fastbp.kernels.runtime import compiler
from fastbp.kernels.runtime.processors import VECTOR_BYTES

KERNELS = Path(fastbp.kernels.__file__).parent
RELU = "from fastbp import kernels; import numpy as np; print(kernels.relu_forward(np.array([-1.0, 2.0]))[0].tolist())"
COUNT = (
    "; from numba.core import event; from fastbp.kernels.layers import relu"
    "; print(sum(relu._forward._cache_hits.values()), sum(relu._forward._cache_misses.values()))"
)


def python(code, cache, **environment):
    variables = {**os.environ, "FASTBP_CACHE_DIR": str(cache), **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


def output(code, cache, **environment):
    process = python(code, cache, **environment)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout.split("\n")[:-1]


def files(cache):
    return sorted(cache.rglob("*.kernel"))


def test_the_second_process_does_not_compile(tmp_path):
    assert output(RELU + COUNT, tmp_path) == ["[0.0, 2.0]", "0 1"]
    assert len(files(tmp_path)) == 1
    assert output(RELU + COUNT, tmp_path) == ["[0.0, 2.0]", "1 0"]
    assert len(files(tmp_path)) == 1


def test_the_cache_is_private(tmp_path):
    output(RELU, tmp_path / "new")
    folders = [tmp_path / "new", *(path for path in (tmp_path / "new").iterdir() if path.is_dir())]
    assert len(folders) == 2
    assert {stat.S_IMODE(folder.stat().st_mode) & 0o022 for folder in folders} == {0}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files(tmp_path)} == {0o600}


@pytest.mark.skipif(os.name == "nt", reason="permissions differ there")
def test_a_cache_that_others_may_write_is_not_used(tmp_path):
    tmp_path.chmod(0o777)
    assert output(RELU, tmp_path) == ["[0.0, 2.0]"]
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    ],
)
@pytest.mark.slow
def test_a_damaged_file_is_compiled_anew(tmp_path, damage):
    output(RELU, tmp_path)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert output(RELU + COUNT, tmp_path) == ["[0.0, 2.0]", "0 1"]
    assert output(RELU + COUNT, tmp_path) == ["[0.0, 2.0]", "1 0"]


def test_where_nothing_can_be_written_kernels_are_compiled_in_memory(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert output(RELU, tmp_path / "file") == ["[0.0, 2.0]"]
    assert (tmp_path / "file").read_text() == "not a folder"
    assert output(RELU, "/proc/nowhere" if Path("/proc").exists() else tmp_path / "file" / "x") == ["[0.0, 2.0]"]


@pytest.mark.slow
def test_processes_that_start_together(tmp_path):
    count = 20 if LONG > 1 else 4
    variables = {**os.environ, "FASTBP_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", RELU], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(count)
    ]
    assert [process.communicate(timeout=300) for process in processes] == [(b"[0.0, 2.0]\n", b"")] * count
    assert len(files(tmp_path)) == 1
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.slow
def test_an_edit_to_a_function_in_another_file_is_seen(tmp_path):
    """Numba's own cache misses this one (numba #1833): layers/sigmoid.py calls runtime/exponential.py."""
    shutil.copytree(KERNELS, tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy as np; from copied import sigmoid_forward;"
        "print(round(float(sigmoid_forward(np.array([1.0]))[0]), 4))"
    )
    assert output(code, tmp_path / "cache") == ["0.7311"]
    callee = tmp_path / "copied" / "runtime" / "exponential.py"
    callee.write_text(
        callee.read_text().replace(
            "result = np.inf if x >", "result = 1.0 if x < 0 else result\n    result = np.inf if x >"
        )
    )
    assert output(code, tmp_path / "cache") == ["0.5"]


OTHER_WIDTHS = sorted({16, 32, 64} - {VECTOR_BYTES})


# All other tests are of the processor's own width. Of the other ones the wider takes part in every run, as most people have
# a processor of that width, or of this.
@pytest.mark.parametrize("width", OTHER_WIDTHS if LONG > 1 else OTHER_WIDTHS[-1:])
@pytest.mark.slow
def test_every_vector_width_gives_the_same_numbers(tmp_path, width):
    """The kernels that use vectors, against the reference; widths that the processor lacks are made of those it has."""
    code = """
import numpy as np
from fastbp import kernels, reference
from fastbp.networks._engines import Architecture
from fastbp.training._optimizers import SGD
rng = np.random.default_rng(0)
x, W, b = (rng.standard_normal(shape) for shape in ((17, 40), (40, 37), (37,)))
t = rng.integers(0, 37, 17)
np.testing.assert_allclose(kernels.affine_forward(x, W, b), reference.affine_forward(x, W, b), atol=1e-11)
from fastbp.kernels.gemm.nonzeros import sparse_forward
digits = np.where(rng.random((17, 40)) < 0.2, x, 0)
np.testing.assert_allclose(sparse_forward(digits, W, b), reference.affine_forward(digits, W, b), atol=1e-11)
scores = x[:, :37].copy()
for ours, theirs in zip(*(m.softmax_cross_entropy_forward(scores, t) for m in (kernels, reference))):
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
start = rng.standard_normal(40 * 9 + 9 + 9 * 5 + 5).astype(np.float32)
for least in (0, 1.5):  # dense and sparse
    x[np.abs(x) < least] = 0
    parameters = start.copy(), start.copy()
    for module, array in zip((kernels, reference), parameters):
        architecture = Architecture((40, 9, 5), ("tanh", "identity"), "cross_entropy", True)
        data, t = module.prepare_data(x.astype(np.float32)), np.arange(17) % 5
        batches, state, done = np.arange(12).reshape(2, 6), np.zeros((0, len(array)), np.float32), np.zeros(1, np.int64)
        module.train_steps(array, architecture, (data, t), batches, SGD(0.1).rule, state, (np.zeros(2), done))
    np.testing.assert_allclose(*parameters, atol=1e-4)
print("same")
"""
    assert output(code, tmp_path, FASTBP_VECTOR_BYTES=str(width)) == ["same"]


def test_a_vector_width_that_does_not_exist_is_named(tmp_path):
    process = python(RELU, tmp_path, FASTBP_VECTOR_BYTES="48")
    assert process.returncode == 1
    assert "FASTBP_VECTOR_BYTES must be one of (16, 32, 64), got '48'" in process.stderr


def test_a_kernel_may_not_close_over_variables():
    factor = 3.0
    with pytest.raises(TypeError, match="may not close over variables"):
        compiler.kernel(lambda x: x * factor)


def test_the_caller_of_a_read_only_array_keeps_it_alive():
    x = np.frombuffer(np.arange(10.0).tobytes())
    out, _ = fastbp.kernels.relu_forward(x[2:])
    np.testing.assert_array_equal(out, np.arange(2.0, 10))


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        ("numba.core.codegen.JITCodeLibrary._finalize_dynamic_globals", "kernels take longer to compile"),
        ("numba.core.compiler.CompileResult._rebuild", "kernels are not cached"),
        ("numba.core.caching._Cache", "kernels are not cached"),
    ],
)
def test_without_a_private_piece_of_numba_the_answers_are_the_same(tmp_path, piece, says):
    """Hidden from fastbp, not from Numba itself, which needs it: another version would have it elsewhere."""
    code = (
        "import warnings\n"
        "import numba, numba.core.compiler, numba.core.codegen, numba.core.caching, numba.core.serialize\n"
        "caught = warnings.catch_warnings(record=True); seen = caught.__enter__(); warnings.simplefilter('always')\n"
        "real = getattr\n"
        f"import builtins; hidden = {piece.rpartition('.')[2]!r}\n"
        "def shy(thing, name, *default):\n"
        "    if name == hidden and default:\n"
        "        return default[0]\n"
        "    return real(thing, name, *default)\n"
        "builtins.getattr = shy\n"
        "from fastbp import kernels\n"
        "builtins.getattr = real\n"
        "import numpy as np\n"
        "print(kernels.relu_forward(np.array([-1.0, 2.0]))[0].tolist())\n"
        "print([str(one.message) for one in seen if 'Numba' in str(one.message)])\n"
    )
    found = output(code, tmp_path)
    assert found[0] == "[0.0, 2.0]"
    assert found[1].count("this version of Numba has no") == 1
    assert piece in found[1]
    assert says in found[1]
    assert (len(files(tmp_path)) == 0) == ("cached" in says)


def test_ctrl_c_is_kept_where_python_would_only_print_it():
    done = []

    def _raw_object_cache_notify():  # as llvmlite has it
        signal.raise_signal(signal.SIGINT)
        done.append("called back")

    @compiler.interrupts_kept()
    def compile_with(call_back):
        call_back()
        done.append("compiled")

    with pytest.raises(KeyboardInterrupt):
        compile_with(_raw_object_cache_notify)
    assert done == ["called back", "compiled"]
    with pytest.raises(KeyboardInterrupt):
        compile_with(lambda: signal.raise_signal(signal.SIGINT))
    assert done == ["called back", "compiled"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_llvmlite_calls_back_has_the_name_that_is_looked_for():
    assert hasattr(llvmlite.binding.ExecutionEngine, "_raw_object_cache_notify")
    assert hasattr(llvmlite.binding.ExecutionEngine, "_raw_object_cache_getbuffer")


def test_another_handler_of_ctrl_c_stays():
    def handler(*_):
        pass

    before = signal.signal(signal.SIGINT, handler)
    try:
        with compiler.interrupts_kept():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
