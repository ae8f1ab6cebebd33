"""Compiling ahead of time: everything once, so that no later process has to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .layers import Affine, LeakyRelu, Relu, Sigmoid, SigmoidWithLoss, SoftmaxWithLoss, Tanh
from .networks import DTYPES, MLP
from .optimizers import SGD
from .training import Trainer


def warm_up(dtypes: Sequence[str] = DTYPES, *, layers: bool = True) -> Iterator[tuple[str, float]]:
    """Compile for these dtypes, and yield what was compiled and the seconds it took, one after the other."""
    for dtype in dtypes:
        for name, compile_it in WORK.items() if layers else [("training", _network)]:
            start = time.perf_counter()
            compile_it(dtype)
            yield f"{name}, {dtype}", time.perf_counter() - start


def load_cached(dtypes: Sequence[str]) -> None:
    """Load the kernels of training for these dtypes, if the cache has them."""
    if dtypes and _training_is_cached(dtypes):
        list(warm_up(dtypes, layers=False))


def compile_meanwhile(dtypes: Sequence[str]) -> dict[str, subprocess.Popen[bytes]]:
    """Where training is not in the kernel cache: processes that compile it for all but the first of `dtypes`, by dtype.

    Numba compiles one function at a time in a process. Where a process fails, or the cache cannot be written, the
    caller compiles for itself, as it would have done.
    """
    if len(dtypes) < 2 or _training_is_cached(dtypes):
        return {}
    command = [sys.executable, "-c", "import sys, fastbp.warmup as w; list(w.warm_up(sys.argv[1:], layers=False))"]
    return {
        dtype: subprocess.Popen([*command, dtype], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for dtype in dtypes[1:]
    }


def _training_is_cached(dtypes: Sequence[str]) -> bool:
    from .kernels.compiler import cached
    from .kernels.training_step import _train_steps

    return cached(_train_steps) >= len(dtypes)


def _network(dtype: str) -> None:
    from .kernels.threads import BEGUN, look_out

    network = MLP((8, 4, 2), dtype=dtype, backend="numba", seed=0)
    images = np.zeros((2, 8), np.uint8)
    Trainer(network, batch_size=2).fit(images, [0, 1], iterations=1, evaluate_every=1, divide_by=255, progress=False)
    look_out(np.ones(BEGUN + 1, np.int64))


def _floating_data(dtype: str) -> None:
    network = MLP((8, 4, 2), dtype=dtype, backend="numba", seed=0)
    Trainer(network, batch_size=2).fit(np.eye(2, 8, dtype=dtype), [0, 1], iterations=1, progress=False)


def _affine(dtype: str) -> None:
    layer = Affine(np.ones((3, 2), dtype), np.ones(2, dtype), "numba")
    for rows in (1, 8):  # few rows and many are different kernels
        layer.backward(layer.forward(np.ones((rows, 3), dtype)))


def _relu(dtype: str) -> None:
    layer = Relu("numba")
    layer.backward(layer.forward(np.ones(2, dtype)))


def _sigmoid(dtype: str) -> None:
    layer = Sigmoid("numba")
    layer.backward(layer.forward(np.ones(2, dtype)))


def _softmax(dtype: str) -> None:
    layer = SoftmaxWithLoss("numba")
    for labels in (np.array([0]), np.eye(2, dtype=dtype)[:1]):
        layer.forward(np.ones((1, 2), dtype), labels)
        layer.backward()


def _tanh(dtype: str) -> None:
    layer = Tanh("numba")
    layer.backward(layer.forward(np.ones(2, dtype)))


def _leaky_relu(dtype: str) -> None:
    layer = LeakyRelu(backend="numba")
    layer.backward(layer.forward(np.ones(2, dtype)))


def _sigmoid_with_loss(dtype: str) -> None:
    SigmoidWithLoss(backend="numba").forward(np.ones(2, dtype), np.ones(2, dtype))


def _optimizers(dtype: str) -> None:
    SGD(backend="numba").update({"W": np.ones(2, dtype)}, {"W": np.ones(2, dtype)})


WORK: dict[str, Callable[[str], None]] = {
    "training": _network,
    "training on floating data": _floating_data,
    "Affine": _affine,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "SoftmaxWithLoss": _softmax,
    "Tanh": _tanh,
    "LeakyRelu": _leaky_relu,
    "SigmoidWithLoss": _sigmoid_with_loss,
    "optimizers": _optimizers,
}
STEPS = len(WORK) * len(DTYPES)
