"""Sums over long axes stay within a small multiple of the error bound of pairwise summation."""

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

from fastbp import Affine, BatchNormalization, Convolution, SigmoidWithLoss, SoftmaxWithLoss, kernels, reference
from fastbp.layers._regularization import EPSILON
from fastbp.networks._engines import Architecture, Terms

DTYPES = ("float32", "float64")


def column(length, dtype, seed):
    """Numbers above 0; for a third of the seeds all are equal, so that errors of rounding do not cancel."""
    numbers = np.random.default_rng(seed).random((length, 1))
    return np.full((length, 1), 0.1, dtype) if seed % 3 == 0 else numbers.astype(dtype)


def assert_close(found, exact, magnitudes, dtype):
    """4 times NumPy's bound for pairwise sums, eps * (16 + log2(n / 128)) * Σ|a|; exact and magnitudes in longdouble."""
    length = len(magnitudes)
    bound = 4 * np.finfo(dtype).eps * (16 + max(0, np.log2(max(length, 1) / 128))) * magnitudes.sum()
    assert abs(np.longdouble(found) - exact) <= bound


@examples(60)
@given(st.integers(1, 200_000), st.sampled_from(DTYPES), st.integers(0, 99))
def test_affine(length, dtype, seed):
    """db, and the product of one column with ones."""
    dout = column(length, dtype, seed)
    layer = Affine(np.ones((1, 1), dtype), np.zeros(1, dtype), backend="numba")
    layer.forward(np.ones_like(dout))
    layer.backward(dout)
    exact = dout.astype(np.longdouble)
    assert_close(layer.db[0], exact.sum(), exact, dtype)
    assert_close(layer.dW[0, 0], exact.sum(), exact, dtype)


@examples(30)
@given(st.integers(1, 200_000), st.sampled_from(DTYPES), st.integers(0, 99))
def test_batch_normalization(length, dtype, seed):
    """Mean and variance, and what backward sums up."""
    x, dout = column(length, dtype, seed + 1), column(length, dtype, seed)
    layer = BatchNormalization(np.ones(1, dtype), np.zeros(1, dtype), momentum=0, backend="numba")
    layer.forward(x, True)
    layer.backward(dout)
    exact, exact_dout = x.astype(np.longdouble), dout.astype(np.longdouble)
    assert_close(layer.running_mean[0] * length, exact.sum(), exact, dtype)
    centred = exact - np.longdouble(layer.running_mean[0])
    assert_close(layer.running_var[0] * length, (centred**2).sum(), centred**2, dtype)
    assert_close(layer.dbeta[0], exact_dout.sum(), exact_dout, dtype)
    normalized = centred / np.sqrt(np.longdouble(layer.running_var[0]) + EPSILON)
    terms = exact_dout * normalized
    assert_close(layer.dgamma[0], terms.sum(), np.abs(terms) + exact_dout, dtype)


@examples(30)
@given(st.integers(1, 200_000), st.sampled_from(DTYPES), st.integers(0, 99))
def test_convolution(pixels, dtype, seed):
    dout = column(pixels, dtype, seed).reshape(1, 1, -1, 1)
    layer = Convolution(np.ones((1, 1, 1, 1), dtype), np.zeros(1, dtype), backend="numba")
    layer.forward(np.ones_like(dout))
    layer.backward(dout)
    exact = dout.astype(np.longdouble).ravel()
    assert_close(layer.db[0], exact.sum(), exact, dtype)
    assert_close(layer.dW.ravel()[0], exact.sum(), exact, dtype)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 4096, 4097, 100_000])
def test_losses(rows):
    """Of equal rows, the mean is the loss of one: of layers, and of a network's step, with its gradient, weighted or not."""
    x, t = np.tile([0.3, 0.1, -0.2], (rows, 1)), np.zeros(rows, np.int64)
    one = SoftmaxWithLoss(backend="numpy").forward(x[:1], t[:1])
    bits = SigmoidWithLoss(backend="numpy").forward(x[:1], np.zeros((1, 3)))
    found = [(SoftmaxWithLoss(backend="numba").forward(x, t), one)]
    found.append((SigmoidWithLoss(backend="numba").forward(x, np.zeros((rows, 3))), bits))
    architecture = Architecture((3, 3), ("identity",), "cross_entropy", True)
    parameters = np.append(np.eye(3), np.zeros(3))
    for terms in (None, Terms(weights=np.full(rows, 0.1))):
        gradient, of_one = np.empty((2, 12))
        data = kernels.prepare_data(x)
        found.append((kernels.batch_gradient(parameters, architecture, data, t, np.arange(rows), gradient, terms), one))
        reference.batch_gradient(parameters, architecture, x, t, np.arange(1), of_one)
        found += zip(gradient, of_one, strict=True)
    for mean, each in found:
        assert_close(mean * rows, np.longdouble(each) * rows, np.full(rows, abs(each), np.longdouble), "float64")
