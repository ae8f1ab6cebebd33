"""The kernel cache under faults: every file damaged, no room, no rights, interrupts; `fastbp cache`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import LONG
from typer.testing import CliRunner

from fastbp._kernel_cache import cached_versions, clear_cache
from fastbp.cli._app import app
from fastbp.kernels.runtime import cache as compiler

pytestmark = pytest.mark.xdist_group("kernel cache")  # which has one that is filled
CODE = """
import numpy as np
from fastbp import Relu, Sigmoid
x, sigmoid, relu = np.arange(12.0).reshape(3, 4) - 5, Sigmoid(), Relu()
out = relu.forward(sigmoid.forward(x))
dx = sigmoid.backward(relu.backward(np.ones(x.shape)))
expected = 1 / (1 + np.exp(-x))
assert np.allclose(out, expected, atol=1e-12) and np.allclose(dx, expected * (1 - expected), atol=1e-12)
print("right")
"""


def start(folder, before="", **environment):
    variables = {**os.environ, "FASTBP_CACHE_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", before + CODE],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_right(process):
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (0, "right\n"), errors
    assert errors == ""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that has all that CODE needs."""
    folder = tmp_path_factory.mktemp("cache") / "kernels"
    assert_right(start(folder))
    return folder


def files_of(folder):
    return sorted(folder.glob("*/*.kernel"))


@pytest.mark.slow
def test_every_file_damaged_in_turn(filled, tmp_path):
    """Cut off, a bit flipped, empty, another's content: compiled anew, and the answer is right."""
    kernels = files_of(filled)
    assert len(kernels) >= 4
    damages = {
        "cut": lambda content: content[: len(content) // 2],
        "flipped": lambda content: bytes([*content[:500], content[500] ^ 4, *content[501:]]),
        "empty": lambda content: b"",
        "another's": lambda content: kernels[0].read_bytes() if content != kernels[0].read_bytes() else b"x",
    }
    every = [(file, kind) for file in kernels for kind in damages]
    some = [(kernels[-1 - place], kind) for place, kind in enumerate(damages)]
    some += [(file, "another's") for file in kernels[:1]]
    for file, kind in every if LONG > 1 else some:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(filled, tmp_path / "copy")
        copy = tmp_path / "copy" / file.relative_to(filled)
        copy.write_bytes(damages[kind](copy.read_bytes()))
        assert_right(start(tmp_path / "copy"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting and other users need root")
@pytest.mark.slow
def test_a_full_disk_and_another_users_directory(filled, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        assert_right(start(folder / "kernels"))
        assert not list(folder.glob("kernels/*/*.tmp"))
    finally:
        subprocess.run(["umount", folder], check=True)
    shutil.copytree(filled, tmp_path / "theirs")
    for path in [tmp_path / "theirs", *(tmp_path / "theirs").rglob("*")]:
        os.chown(path, 12345, 12345)
    before = {file: file.stat().st_mtime_ns for file in files_of(tmp_path / "theirs")}
    assert_right(start(tmp_path / "theirs"))
    assert before == {file: file.stat().st_mtime_ns for file in files_of(tmp_path / "theirs")}


@pytest.mark.slow
def test_an_interrupt_while_compiling_leaves_no_half_file(tmp_path):
    for delay in (0.8, 1.6, 2.4):
        process = start(tmp_path / "kernels")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert not list(tmp_path.glob("kernels/*/*.tmp"))
    assert_right(start(tmp_path / "kernels"))


INTERRUPTED = """
import io, os, signal
class Interrupted(io.FileIO):
    def write(self, content):
        super().write(content[:len(content) // 2])
        os.kill(os.getpid(), signal.SIGINT)
os.fdopen = Interrupted
"""


@pytest.mark.slow
def test_an_interrupt_while_a_file_is_written_leaves_no_half_file(tmp_path):
    process = start(tmp_path / "kernels", INTERRUPTED)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert output == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert_right(start(tmp_path / "kernels"))


@pytest.mark.slow
def test_other_versions_and_processors_have_other_kernels(filled, tmp_path, monkeypatch):
    others = [
        (compiler.numba, "__version__", "0.999"), (compiler.np, "__version__", "9.9"), (compiler.sys, "version", "3.99"),
        (compiler.llvmlite, "__version__", "9"), (compiler.platform, "machine", lambda: "riscv64"),
        (compiler.llvm, "get_host_cpu_name", lambda: "another"), (compiler.config, "CPU_FEATURES", "+sse2"),
        (compiler.config, "BOUNDSCHECK", "another"), (compiler, "VECTOR_BYTES", 8),
    ]  # fmt: skip
    found = {compiler.fingerprint()}
    for owner, name, value in others:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            found.add(compiler.fingerprint())
    assert len(found) == 1 + len(others)
    shutil.copytree(filled, tmp_path / "kernels")
    assert_right(start(tmp_path / "kernels", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""))
    assert len({file.parent for file in files_of(tmp_path / "kernels")}) == 2


@pytest.mark.slow
def test_fastbp_cache(filled, tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    shutil.copytree(filled, folder)
    old = folder / ("0" * 32)
    old.mkdir()
    (old / "relu.x.kernel").write_bytes(bytes(1000))
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(folder))
    count = len(files_of(filled))

    def run(*arguments):
        result = CliRunner().invoke(app, ["cache", *arguments, "--json", "-"])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    found = run()
    assert [(one["current"], one["kernels"]) for one in found["versions"]] == [(True, count), (False, 1)]
    assert found["versions"][1]["size"] == 1000
    assert "this one" in CliRunner().invoke(app, ["cache"]).output
    assert run("--clear-old")["deleted"] == 1
    assert [version.current for version in cached_versions()[1]] == [True]
    assert run("--clear")["deleted"] == count
    assert cached_versions()[1] == []
    assert (folder / "notes.txt").read_text() == "mine"
    assert clear_cache() == 0
