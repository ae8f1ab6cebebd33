"""Every kernel, numba beside numpy: grouped so that the table reads as pairs, checked for parity before it is timed."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import Adam, kernels, reference

BACKENDS = {"numpy": reference, "numba": kernels}
AFFINE_SHAPES = [(1, 784, 50), (100, 784, 50), (100, 50, 10), (256, 784, 512), (1024, 1024, 1024)]
ELEMENTWISE_SHAPES = [(100, 50), (4096, 1024)]
SOFTMAX_SHAPES = [(100, 10), (4096, 1024)]


def affine_forward(rng, shape, dtype):
    rows, depth, columns = shape
    return [rng.standard_normal(size).astype(dtype) for size in ((rows, depth), (depth, columns), columns)]


def affine_backward(rng, shape, dtype):
    rows, depth, columns = shape
    return [rng.standard_normal(size).astype(dtype) for size in ((rows, columns), (rows, depth), (depth, columns))]


def relu_forward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype)]


def relu_backward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), rng.random(shape) < 0.5]


def sigmoid_backward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), rng.random(shape).astype(dtype)]


def softmax_cross_entropy_forward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), rng.integers(0, shape[1], shape[0])]


def softmax_cross_entropy_backward(rng, shape, dtype):
    x, t = softmax_cross_entropy_forward(rng, shape, dtype)
    return [reference.softmax_cross_entropy_forward(x, t)[1], t]


def optimizer_update(rng, shape, dtype):
    parameters, gradients = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    return [Adam(1e-6).rule, parameters, gradients, rng.random((2, *shape)).astype(dtype)]


def exact_update(rng, shape, dtype):
    arrays = [rng.standard_normal(shape).astype(dtype) for _ in range(3)]
    state = [[arrays[2]], [rng.random(shape).astype(dtype)]]
    return ["adam", [arrays[0]], [arrays[1]], state, [1e-6, 0.9, 0.999, 1e-7], 1e18]


def convolution_forward(rng, shape, dtype):
    count, channels, size, filters, window = shape
    x = rng.standard_normal((count, channels, size, size)).astype(dtype)
    W = rng.standard_normal((filters, channels, window, window)).astype(dtype)
    return [x, W, rng.standard_normal(filters).astype(dtype), 1, window // 2]


def convolution_backward(rng, shape, dtype):
    x, W, b, stride, pad = convolution_forward(rng, shape, dtype)
    out, padded = reference.convolution_forward(x, W, b, stride, pad)
    return [np.ascontiguousarray(out), padded, W, stride, pad]


def pooling_forward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), 2, 2, 2, 0]


def pooling_backward(rng, shape, dtype):
    out, arg_max = reference.pooling_forward(*pooling_forward(rng, shape, dtype))
    return [np.ascontiguousarray(out), arg_max, shape, 2, 2, 2, 0]


def batch_normalization_forward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), *rng.standard_normal((2, shape[1])).astype(dtype), 10e-7]


def batch_normalization_apply(rng, shape, dtype):
    x, *vectors, epsilon = batch_normalization_forward(rng, shape, dtype)
    return [x, *vectors, *rng.random((2, shape[1])).astype(dtype), epsilon]


def batch_normalization_backward(rng, shape, dtype):
    x, gamma, beta, epsilon = batch_normalization_forward(rng, shape, dtype)
    _, xc, xn, std, *_ = reference.batch_normalization_forward(x, gamma, beta, epsilon)
    return [rng.standard_normal(shape).astype(dtype), gamma, xc, xn, std]


def dropout_forward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), rng.random(shape), 0.5, 1.0]


def dropout_backward(rng, shape, dtype):
    return [rng.standard_normal(shape).astype(dtype), rng.random(shape) < 0.5, 1.0]


def im2col(rng, shape, dtype):
    count, channels, size, _, window = shape
    return [rng.standard_normal((count, channels, size, size)).astype(dtype), window, window, 1, window // 2, dtype]


def col2im(rng, shape, dtype):
    x, *window, _ = im2col(rng, shape, dtype)
    return [reference.im2col(x, *window, dtype), x.shape, *window]


CONVOLUTION_SHAPES = [(100, 1, 28, 30, 5), (100, 16, 28, 16, 3), (100, 64, 8, 64, 3)]
POOLING_SHAPES = [(100, 30, 24, 24), (100, 64, 8, 8)]
COLUMN_SHAPES = [(100, 100), (4096, 1024)]

CASES = {
    "affine_forward": (affine_forward, AFFINE_SHAPES),
    "affine_backward": (affine_backward, AFFINE_SHAPES),
    "relu_forward": (relu_forward, ELEMENTWISE_SHAPES),
    "relu_backward": (relu_backward, ELEMENTWISE_SHAPES),
    "sigmoid_forward": (relu_forward, ELEMENTWISE_SHAPES),
    "sigmoid_backward": (sigmoid_backward, ELEMENTWISE_SHAPES),
    "softmax_cross_entropy_forward": (softmax_cross_entropy_forward, SOFTMAX_SHAPES),
    "softmax_cross_entropy_backward": (softmax_cross_entropy_backward, SOFTMAX_SHAPES),
    "optimizer_update": (optimizer_update, ELEMENTWISE_SHAPES),
    "exact_update": (exact_update, ELEMENTWISE_SHAPES),
    "tanh_forward": (relu_forward, ELEMENTWISE_SHAPES),
    "convolution_forward": (convolution_forward, CONVOLUTION_SHAPES),
    "convolution_backward": (convolution_backward, CONVOLUTION_SHAPES),
    "pooling_forward": (pooling_forward, POOLING_SHAPES),
    "pooling_backward": (pooling_backward, POOLING_SHAPES),
    "batch_normalization_forward": (batch_normalization_forward, COLUMN_SHAPES),
    "batch_normalization_apply": (batch_normalization_apply, COLUMN_SHAPES),
    "batch_normalization_backward": (batch_normalization_backward, COLUMN_SHAPES),
    "dropout_forward": (dropout_forward, ELEMENTWISE_SHAPES),
    "dropout_backward": (dropout_backward, ELEMENTWISE_SHAPES),
    "im2col": (im2col, CONVOLUTION_SHAPES[1:]),
    "col2im": (col2im, CONVOLUTION_SHAPES[1:]),
}


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        pairs = [(name, shape) for name, (_, shapes) in CASES.items() for shape in shapes]
        metafunc.parametrize(("name", "shape"), pairs, ids=[f"{name}-{'x'.join(map(str, s))}" for name, s in pairs])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel(benchmark, name, shape, dtype, backend):
    make, _ = CASES[name]
    assert_parity(name, make, shape, dtype)
    benchmark.group = f"{name} {'x'.join(map(str, shape))} {dtype}"
    arguments = make(np.random.default_rng(0), shape, dtype)
    benchmark(getattr(BACKENDS[backend], name), *arguments)


def assert_parity(name, make, shape, dtype):
    results = []
    for module in BACKENDS.values():
        arguments = make(np.random.default_rng(0), shape, dtype)
        result = getattr(module, name)(*arguments)
        updated = arguments[1 if name == "optimizer_update" else 0]  # in place
        results.append(updated if result is None else result)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for actual, expected in zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True):
        difference = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64)).max()
        assert difference <= tolerance * np.abs(np.asarray(expected, np.float64)).max()
