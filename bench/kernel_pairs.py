"""Single kernels of fastbp beside the NumPy that people would write instead: matmul and separate elementwise passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp import kernels

AFFINE = [
    (1, 784, 50),
    (100, 50, 10),
    (100, 784, 50),
    (64, 64, 64),
    (128, 784, 128),
    (256, 784, 512),
    (1024, 784, 1024),
    (1024, 1024, 1024),
]
ELEMENTWISE = [(100, 10), (100, 50), (1000, 100), (4096, 1024)]
CELLS = [
    *((name, shape) for name in ("affine_forward", "affine_backward") for shape in AFFINE),
    *(
        (f"{name}_{way}", shape)
        for name in ("sigmoid", "softmax_cross_entropy")
        for way in ("forward", "backward")
        for shape in ELEMENTWISE
    ),
]


def kernel_pair(name: str, shape: tuple[int, ...]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """fastbp's and NumPy's way to the same numbers, which are compared first. shape: (rows, depth, columns) or (N, C).

    Raises AssertionError where they differ by more than 1e-5 of the largest magnitude.
    """
    rng = np.random.default_rng(0)
    arguments = _arguments(rng, name, shape)
    ours, theirs = getattr(kernels, name), _NUMPY[name]
    for actual, expected in zip(_results(ours(*arguments)), _results(theirs(*arguments)), strict=True):
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max(), f"{name} {shape} differs"
    return lambda: ours(*arguments), lambda: theirs(*arguments)


def _results(result: Any) -> tuple[Any, ...]:
    return tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))


def _arguments(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> list[Any]:
    def normal(*size):
        return rng.standard_normal(size).astype(np.float32)

    if name == "affine_forward":
        rows, depth, columns = shape
        return [normal(rows, depth), normal(depth, columns), normal(columns)]
    if name == "affine_backward":
        rows, depth, columns = shape
        return [normal(rows, columns), normal(rows, depth), normal(depth, columns)]
    if name == "sigmoid_backward":
        return [normal(*shape), rng.random(shape, np.float32)]
    if name == "softmax_cross_entropy_backward":
        return [rng.dirichlet(np.ones(shape[1]), shape[0]).astype(np.float32), rng.integers(0, shape[1], shape[0])]
    labels = [rng.integers(0, shape[1], shape[0])] if name == "softmax_cross_entropy_forward" else []
    return [normal(*shape), *labels]


def _softmax_cross_entropy_forward(x, t):
    y = np.exp(x - x.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return -np.log(y[np.arange(len(x)), t] + 1e-7).mean(), y


def _softmax_cross_entropy_backward(y, t):
    dx = y.copy()
    dx[np.arange(len(y)), t] -= 1
    return dx / len(y)


_NUMPY: dict[str, Callable[..., Any]] = {
    "affine_forward": lambda x, W, b: x @ W + b,
    "affine_backward": lambda dout, x, W: (dout @ W.T, x.T @ dout, dout.sum(axis=0)),
    "sigmoid_forward": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_backward": lambda dout, out: dout * (1 - out) * out,
    "softmax_cross_entropy_forward": _softmax_cross_entropy_forward,
    "softmax_cross_entropy_backward": _softmax_cross_entropy_backward,
}
