import asyncio
import inspect
import subprocess
import sys
import threading

import pytest

import fastbp
from fastbp import kernels, reference
from fastbp.backends import get_backend


def public_functions(module):
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: inspect.signature(f) for name, f in found if not name.startswith("_")}


def test_both_backends_have_the_same_functions_and_signatures():
    assert public_functions(kernels) == public_functions(reference)
    assert sorted(kernels.__all__) == sorted(public_functions(reference))


def test_importing_fastbp_does_not_import_numba():
    code = "import sys, fastbp; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_numpy_backend_never_imports_numba():
    code = (
        "import sys, numpy, fastbp; net = fastbp.MLP((3, 2), backend='numpy'); net.gradient(numpy.ones((1, 3)), [0]);"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_is_numba():
    assert get_backend() == ("numba", kernels)
    assert fastbp.Relu().backend == "numba"


def test_argument_before_context_before_process_before_environment(monkeypatch):
    monkeypatch.setenv("FASTBP_BACKEND", "numpy")
    assert fastbp.default_backend() == "numpy"
    fastbp.set_default_backend("numba")
    assert fastbp.default_backend() == "numba"
    with fastbp.use_backend("numpy"):
        assert fastbp.Relu().backend == "numpy"
        assert fastbp.Relu(backend="numba").backend == "numba"
        with fastbp.use_backend("numba"):
            assert fastbp.default_backend() == "numba"
        assert fastbp.default_backend() == "numpy"
    assert fastbp.default_backend() == "numba"


def test_layers_keep_the_backend_they_were_made_with():
    with fastbp.use_backend("numpy"):
        network = fastbp.MLP((4, 3, 2))
    assert network.backend == "numpy"
    assert {layer.backend for layer in network.layers.values()} == {"numpy"}


def test_the_context_manager_ends_with_an_exception():
    with pytest.raises(KeyError), fastbp.use_backend("numpy"):
        raise KeyError
    assert fastbp.default_backend() == "numba"


def test_use_backend_does_not_leak_into_other_threads():
    seen = []
    with fastbp.use_backend("numpy"):
        thread = threading.Thread(target=lambda: seen.append(fastbp.default_backend()))
        thread.start()
        thread.join()
    assert seen == ["numba"]


def test_use_backend_does_not_leak_into_other_tasks():
    async def chosen(name):
        with fastbp.use_backend(name):
            await asyncio.sleep(0.01)
            return fastbp.default_backend()

    async def both():
        return await asyncio.gather(chosen("numpy"), chosen("numba"))

    assert asyncio.run(both()) == ["numpy", "numba"]


@pytest.mark.parametrize(
    "choose", [fastbp.set_default_backend, lambda name: fastbp.use_backend(name).__enter__(), fastbp.Relu]
)
@pytest.mark.parametrize("name", ["torch", "", "NumPy", 3])
def test_unknown_backends_are_refused_with_a_list(choose, name):
    with pytest.raises(ValueError, match="'numpy', 'numba'"):
        choose(name)


def test_an_unknown_backend_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("FASTBP_BACKEND", "cuda")
    with pytest.raises(ValueError, match="FASTBP_BACKEND must be one of 'numpy', 'numba', got 'cuda'"):
        fastbp.default_backend()
