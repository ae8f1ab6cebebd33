import asyncio
import gc
import importlib
import inspect
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp import kernels, reference
from fastbp._backend import Backend
from fastbp.backends import get_backend


def public_functions(module):
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: inspect.signature(f) for name, f in found if not name.startswith("_")}


def test_both_backends_have_the_same_functions_and_signatures():
    assert public_functions(kernels) == public_functions(reference)


def test_the_protocol_states_these_functions_and_their_arguments():
    stated = {}
    for name, signature in public_functions(Backend).items():
        of_module = [(one.name, one.default) for one in signature.parameters.values()][1:]
        stated[name] = of_module
    assert stated == {
        name: [(one.name, one.default) for one in signature.parameters.values()]
        for name, signature in public_functions(reference).items()
    }
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


def test_only_backends_imports_the_kernels():
    root = Path(fastbp.__file__).parent
    found = [
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if "kernels" not in file.relative_to(root).parts
        and re.search(
            r"from \S*\bkernels\b|import fastbp\.kernels|from (fastbp|\.+) import kernels\b", file.read_text("utf-8")
        )
    ]
    assert found == []


def layers_and_inputs():
    ones, images, t = np.ones((4, 3)), np.ones((2, 1, 4, 4)), np.full((4, 3), 0.5)
    vector = np.ones(3)
    for name in fastbp.layers.__all__:
        layer = getattr(fastbp.layers, name)
        if name == "Affine":
            yield layer, (np.ones((3, 2)), np.zeros(2)), (ones,)
        elif name == "BatchNormalization":
            yield layer, (vector, vector), (ones,)
        elif name == "Convolution":
            yield layer, (np.ones((2, 1, 2, 2)), np.zeros(2)), (images,)
        elif name.endswith("Pooling"):
            yield layer, (2, 2), (images,)
        elif name == "Flatten":
            continue  # another shape, and nothing to compute
        elif name == "SoftmaxWithLoss":
            yield layer, (), (ones, np.zeros(4, int))
        elif name.endswith("WithLoss"):
            yield layer, (), (ones, t)
        else:
            yield layer, (), (ones,)


@pytest.mark.parametrize("layer", layers_and_inputs(), ids=lambda case: case[0].__name__)
def test_every_layer_runs_on_the_backend_that_it_was_given(layer):
    make, arguments, inputs = layer
    for backend in ("numpy", "numba"):
        made, calls = make(*arguments, backend=backend), []
        module = made._kernels

        class Counting:
            def __getattr__(self, name, module=module, calls=calls):
                calls.append(name)
                return getattr(module, name)

        made._kernels = Counting()
        out = made.forward(*inputs)
        assert len(calls) >= 1
        made.backward(*([] if make.__name__.endswith("WithLoss") else [np.ones_like(out)]))
        assert len(calls) >= 2
        assert module is {"numpy": reference, "numba": kernels}[backend]


@pytest.mark.parametrize("value", [np.ones(3), np.float64(2.0), 3.0])
def test_optimizers_run_on_the_backend_that_they_were_given(value):
    optimizer, calls = fastbp.SGD(0.1, backend="numba"), []
    optimizer._kernels = SimpleNamespace(optimizer_update=lambda *arguments: calls.append(arguments))
    optimizer.update(value, value)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("old", "name"),
    [("callbacks", "EarlyStopping"), ("distributed", "share_of"), ("optimizers", "Adam")],
)
def test_old_import_paths_warn_and_work(old, name):
    module = importlib.import_module(f"fastbp.{old}")
    with pytest.warns(DeprecationWarning, match=f"fastbp.{old}.{name} is now in fastbp"):
        assert callable(getattr(module, name))
    with pytest.raises(AttributeError):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("switch", ["enable", "disable", "freeze"])
def test_the_collector_of_garbage_is_as_it_was_after_importing_numba(switch):
    code = f"""
import gc, sys
gc.{switch}()
frozen = gc.get_freeze_count()
from fastbp.backends import get_backend
assert "numba" not in sys.modules
get_backend("numba")
assert "numba" in sys.modules
print(gc.isenabled(), abs(gc.get_freeze_count() - frozen) <= frozen // 10, gc.get_threshold() == {gc.get_threshold()})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(switch != "disable"), "True", "True"]
