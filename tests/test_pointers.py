"""Kernels that are called by their address."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import QUICK_TO_COMPILE

from fastbp.kernels.runtime.compiler import InnerKernel, kernel
from fastbp.kernels.runtime.pointers import address_of, call_at


@InnerKernel
def _add(out, place, number):
    if place < 0:
        raise ValueError("place")
    out[place] += number
    return out[place]


@kernel
def _call(address, out, numbers):
    total = 0.0
    for place in range(len(numbers)):
        total += call_at(address, 0.0, (out, place, numbers[place]))
    return total


@kernel
def _call_wrongly(address, out):
    return call_at(address, 0.0, (out, -1, 1.0))


@pytest.fixture
def address():
    return address_of(_add, np.empty(0), 0, 0.0)


def test_a_call_changes_arrays_and_returns_a_number(address):
    out = np.arange(3.0)
    assert _call(address, out, np.array([1.0, 2.0, 3.0])) == 9.0
    np.testing.assert_array_equal(out, [1, 3, 5])


def test_an_inner_kernel_has_no_entry_from_python():
    with pytest.raises(TypeError, match="not callable"):
        _add(np.zeros(1), 0, 1.0)


def test_types_have_addresses_of_their_own(address):
    assert address_of(_add, np.ones(3), 2, 1.5) == address
    assert address_of(_add, np.empty(0, np.float32), 0, np.float32(0)) not in (0, address)


def test_an_exception_reaches_the_caller(address):
    with pytest.raises(ValueError, match="place"):
        _call_wrongly(address, np.zeros(1))


CODE = """
import numpy as np
from numba.core import event
class Count(event.Listener):
    names = set()
    def on_start(self, event):
        self.names.add(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass
event.register("numba:compile", Count())
from fastbp import MLP, Trainer, Adam
def train(activation="relu", loss="cross_entropy", optimizer=None, **options):
    network = MLP((4, 3, 2), activation, loss=loss, seed=0)
    t = np.zeros(6, int) if loss == "cross_entropy" else np.zeros((6, 2), np.float32)
    trainer = Trainer(network, optimizer, batch_size=6, **options)
    trainer.fit(np.ones((6, 4), np.float32), t, iterations=2, progress=False)
train()
print(sorted(Count.names & NAMES))
train("silu", "poisson", Adam(), dropout=0.5)
print(sorted(Count.names & NAMES))
"""


@pytest.mark.slow
def test_only_what_a_network_has_is_compiled(tmp_path, monkeypatch):
    for name, value in {**QUICK_TO_COMPILE, "FASTBP_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    names = {"relu_forward", "silu_forward", "silu_back", "gelu_forward", "_update", "_drop", "_loss_of_targets"}
    code = CODE.replace("NAMES", repr(names))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]", str(sorted(names - {"relu_forward", "gelu_forward"}))]
