"""`import fastbp` brings what is asked for, when it is asked for."""

import importlib
import os
import subprocess
import sys

import pytest

import fastbp


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_fastbp_imports_nothing_that_takes_time():
    code = "import sys, fastbp; print([name for name in ('numpy', 'numba', 'fastbp.networks') if name in sys.modules])"
    assert run(code) == "[]\n"


def test_a_script_that_is_run_sees_the_environment_as_it_was(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os; print(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))")
    for value in (None, "12"):
        environment = {name: one for name, one in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
        environment.update({} if value is None else {"OPENBLAS_THREAD_TIMEOUT": value})
        command = [sys.executable, "-m", "fastbp", "run", str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{value}\n"


NOTING = """
import os, sys


class Noting:
    def find_spec(self, name, *others):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))


sys.meta_path.insert(0, Noting())
sys.argv[1:] = ["run", sys.argv[1]]
from fastbp.__main__ import main
main()
"""


def test_the_timeout_of_openblas_is_set_before_anything_imports_numpy(tmp_path):
    """OpenBLAS reads its environment once, as NumPy is imported. fastbp's own modules imported it before."""
    script = tmp_path / "script.py"
    script.write_text("import numpy")
    environment = {name: one for name, one in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    command = [sys.executable, "-c", NOTING, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "20\n"


def test_layers_come_without_networks():
    code = "import sys, fastbp; fastbp.Affine; print('fastbp.layers' in sys.modules, 'fastbp.networks' in sys.modules)"
    assert run(code) == "True False\n"


@pytest.mark.parametrize("name", fastbp.__all__)
def test_every_name_is_there(name):
    assert getattr(fastbp, name) is getattr(fastbp, name)
    assert name in dir(fastbp)


def test_the_packages_are_there_without_an_import_of_their_own():
    found = run("import fastbp; print([getattr(fastbp, name).__name__ for name in fastbp.PACKAGES])")
    assert found == f"{[f'fastbp.{name}' for name in fastbp.PACKAGES]}\n"
    for name in fastbp.PACKAGES:
        assert getattr(fastbp, name) is importlib.import_module(f"fastbp.{name}")


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fastbp' has no attribute 'Afine'"):
        _ = fastbp.Afine
    with pytest.raises(ImportError, match="cannot import name 'Afine'"):
        exec("from fastbp import Afine")


def test_a_star_import_brings_all():
    names = {}
    exec("from fastbp import *", names)
    assert set(fastbp.__all__) <= set(names)
