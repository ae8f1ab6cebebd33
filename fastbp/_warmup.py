"""Compiling ahead of time: everything once, so that no later process has to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ._activations import ACTIVATIONS
from .backends import cached_training, compile_pool, get_backend
from .layers import Affine, Identity, LeakyRelu, Relu, Sigmoid, SigmoidWithLoss, SoftmaxWithLoss, Tanh
from .layers._images import AveragePooling, Convolution, Pooling
from .layers._regularization import BatchNormalization, Draw, Dropout, SeededDropout
from .networks._mlp import MLP
from .networks._network import DTYPES
from .training._optimizers import SGD, Adam
from .training._trainer import Trainer

_SPARSE, _DENSE = np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)  # images


def warm_up(dtypes: Sequence[str] = DTYPES, *, layers: bool = True) -> Iterator[tuple[str, float]]:
    """Compile for these dtypes, and yield what was compiled and the seconds it took, one after the other."""
    for dtype in dtypes:
        for name, compile_it in WORK.items() if layers else [("training", _network)]:
            start = time.perf_counter()
            compile_it(dtype)
            yield f"{name}, {dtype}", time.perf_counter() - start


def load_cached(dtypes: Sequence[str]) -> None:
    """Load the kernels of training for these dtypes, if the cache has them."""
    if dtypes and training_is_cached(dtypes):
        list(warm_up(dtypes, layers=False))


def compile_meanwhile(dtypes: Sequence[str]) -> dict[str, subprocess.Popen[bytes]]:
    """Where training is not in the kernel cache: processes that compile it for all but the first of `dtypes`, by dtype.

    Numba compiles one function at a time in a process. Where a process fails, or the cache cannot be written, the
    caller compiles for itself, as it would have done.
    """
    if len(dtypes) < 2 or training_is_cached(dtypes):
        return {}
    command = [sys.executable, "-c", "import sys, fastbp._warmup as w; w._train(sys.argv[1], w._DENSE)"]
    return {
        dtype: subprocess.Popen([*command, dtype], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for dtype in dtypes[1:]
    }


def training_is_cached(dtypes: Sequence[str]) -> bool:
    """Whether the kernel cache has the training steps of so many dtypes. Imports Numba."""
    return cached_training() >= len(dtypes)


def _network(dtype: str) -> None:
    _train(dtype, _SPARSE)
    compile_pool()


def _train(dtype: str, images: NDArray[np.uint8]) -> None:
    """Dense images need none of the kernels that look for zeros, and are the same for all dtypes of a network."""
    network = MLP((8, 4, 2), dtype=dtype, backend="numba", seed=0)
    trainer = Trainer(network, batch_size=len(images))
    trainer.fit(images, [0] * len(images), iterations=1, evaluate_every=1, divide_by=255, progress=False)


def _floating_data(dtype: str) -> None:
    network = MLP((8, 4, 2), dtype=dtype, backend="numba", seed=0)
    Trainer(network, batch_size=2).fit(np.eye(2, 8, dtype=dtype), [0, 1], iterations=1, progress=False)


def _choices_of_training(dtype: str) -> None:
    """What training steps call by its address, and is compiled when it is used: activations, losses, rules, dropout, few
    rows."""
    activations = tuple(ACTIVATIONS)
    network = MLP((2,) * (len(activations) + 2), activations, dtype=dtype, backend="numba", seed=0, loss="huber")
    trainer, x = Trainer(network, Adam(), batch_size=2, dropout=0.5), np.ones((2, 2), dtype)
    trainer.fit(x, x, iterations=1, progress=False)


def _affine(dtype: str) -> None:
    layer = Affine(np.ones((3, 2), dtype), np.ones(2, dtype), "numba")
    for rows in (1, 8):  # few rows and many are different kernels
        layer.backward(layer.forward(np.ones((rows, 3), dtype)))


def _affine_of_images(dtype: str) -> None:
    """Large enough for the kernels of several threads: mostly zeros and not, float32 images beside float64 weights."""
    layer = Affine(np.ones((784, 50), dtype), np.ones(50, dtype), "numba")
    for x_dtype in {"float32", dtype}:
        for x in (np.eye(100, 784, dtype=x_dtype), np.ones((100, 784), x_dtype), np.ones((1, 784), x_dtype)):
            layer.backward(layer.forward(x))


def _affine_stack(dtype: str) -> None:
    """What networks in scripts run: mostly zeros, and data of float32 beside float64 weights."""
    kernels, layers = get_backend("numba")[1], ((784, 2, 2), ("relu", "identity"), dtype)
    stack, network = kernels.affine_stack(*layers), kernels.affine_network(*layers)
    weights, biases = [np.ones((784, 2), dtype), np.ones((2, 2), dtype)], [np.ones(2, dtype)] * 2
    for x_dtype in {"float32", dtype}:
        x = np.ones((8, 784), x_dtype)
        _, outs, masks, _ = stack.forward(x, weights, biases)
        stack.backward(np.ones((8, 2), dtype), [x, outs[0]], weights, masks, False)
        network.gradient(x, np.zeros(8, np.int64), weights, biases)


def _normalized_stack(dtype: str) -> None:
    """What networks with batch normalisation run, which scripts have in float64."""
    if dtype != "float64":
        return
    stack = get_backend("numba")[1].normalized_stack((784, 2, 2), ("relu", "identity"), (1e-7, None), dtype)
    weights, biases = [np.ones((784, 2)), np.ones((2, 2))], [np.ones(2)] * 2
    gamma, beta, mean, variance = np.ones((4, 2))
    for x_dtype in ("float32", dtype):
        x = np.ones((8, 784), x_dtype)
        _, _, outs, masks, kept, _ = stack.forward(x, weights, biases, norms=((gamma, beta, mean, variance, 0.9), None))
        norms = (gamma, *kept[0][:3]), None
        stack.backward(np.ones((8, 2)), [x, outs[0]], weights, masks, False, norms=norms)


def _relu(dtype: str) -> None:
    layer = Relu("numba")
    images = np.ones((1, 1, 2, 2), dtype).transpose(0, 1, 3, 2)
    for x in (np.ones(2, dtype), images):
        layer.backward(layer.forward(x))
        layer._kernels.relu_backward(x, x <= 0, x)


def _convolution(dtype: str) -> None:
    for channels in (1, 4):  # the gradient of few channels is made in another way
        layer = Convolution(np.ones((2, channels, 2, 2), dtype), np.ones(2, dtype), backend="numba")
        layer.backward(layer.forward(np.ones((1, channels, 3, 3), dtype)))
    assert layer.col is not None
    layer._kernels.col2im(layer.col, (1, 4, 3, 3), 2, 2, 1, 0)


def _pooling(dtype: str) -> None:
    layer = Pooling(2, 2, backend="numba")
    layer.backward(layer.forward(np.ones((1, 1, 4, 4), dtype)))


def _average_pooling(dtype: str) -> None:
    layer = AveragePooling(2, 2, backend="numba")
    layer.backward(layer.forward(np.ones((1, 1, 4, 4), dtype)))


def _batch_normalization(dtype: str) -> None:
    layer = BatchNormalization(np.ones(2, dtype), np.ones(2, dtype), backend="numba")
    x = np.ones((2, 2), dtype)
    layer.backward(layer.forward(x))
    layer.forward(x, train_flg=False)


def _dropout(dtype: str) -> None:
    state = np.random.get_state()
    layer = Dropout(backend="numba")
    layer.backward(layer.forward(np.ones(2, dtype)))
    np.random.set_state(state)
    seeded = SeededDropout(backend="numba")
    seeded.draw = Draw(0, 0, 0, np.zeros(1, np.int64))
    seeded.forward(np.ones((1, 2), dtype))
    get_backend("numba")[1].random_doubles(np.zeros(625, np.uint32), 2)  # what dropout in scripts draws


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


def _lstm(dtype: str) -> None:
    kernels, of_gates, c = get_backend("numba")[1], np.ones((2, 8), dtype), np.ones((2, 2), dtype)
    _, *kept = kernels.lstm_forward(of_gates, of_gates, c)
    kernels.lstm_backward(c, c, c, tuple(kept))


def _leaky_relu(dtype: str) -> None:
    layer = LeakyRelu(backend="numba")
    layer.backward(layer.forward(np.ones(2, dtype)))


def _activations(dtype: str) -> None:
    layer = Identity("numba")
    layer.backward(layer.forward(np.ones(2, dtype)))  # one kernel for all of the table


def _sigmoid_with_loss(dtype: str) -> None:
    layer = SigmoidWithLoss(backend="numba")
    layer.forward(np.ones(2, dtype), np.ones(2, dtype))
    layer.backward()


def _optimizers(dtype: str) -> None:
    optimizer = SGD(backend="numba")
    optimizer.update({"W": np.ones(2, dtype)}, {"W": np.ones(2, dtype)})
    one, other, m, v = np.ones((4, 2), dtype)
    for name, state, settings in (
        ("sgd", [], [0.1]),
        ("adagrad", [[m]], [0.1, 0.0, 1e-7]),
        ("adam", [[m], [v]], [0.1, 0.9, 0.999, 1e-7]),
    ):
        optimizer._kernels.exact_update(name, [one], [other], state, settings, 1e18)
    optimizer._kernels.sum_of_squares(one)  # weight decay in scripts
    program = np.array([[0, 1, 0, 0]]), np.array([1]), 2
    optimizer._kernels.run_program(program, [one], (), [other])  # optimizers in scripts


WORK: dict[str, Callable[[str], None]] = {
    "training": _network,
    "training on floating data": _floating_data,
    "choices of training": _choices_of_training,
    "Affine": _affine,
    "Affine of images": _affine_of_images,
    "affine layers of a script": _affine_stack,
    "normalised layers of a script": _normalized_stack,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "SoftmaxWithLoss": _softmax,
    "Convolution": _convolution,
    "Pooling": _pooling,
    "AveragePooling": _average_pooling,
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "Tanh": _tanh,
    "LSTM": _lstm,
    "LeakyRelu": _leaky_relu,
    "other activations": _activations,
    "losses of targets": _sigmoid_with_loss,
    "optimizers": _optimizers,
}
STEPS = len(WORK) * len(DTYPES)
LAYER_FUNCTIONS = 110  # compiled for a convolutional network of one dtype
TRAINING_FUNCTIONS = 100  # compiled for the training steps of one dtype: how far a progress bar goes
