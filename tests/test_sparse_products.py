"""Products with images of mostly zeros, of which the zeros are passed over, against the reference."""

import numpy as np
import pytest
from conftest import assert_parity, examples
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import kernels, reference
from fastbp.kernels.gemm import nonzeros
from fastbp.kernels.layers import affine, affine_stack


@examples(60)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 150)),
    st.sampled_from([("float64", "float64"), ("float64", "float32"), ("float64", "uint8"), ("float32", "float32")]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_products_by_the_numbers_that_are_not_zero(shape, dtypes, density, seed):
    """Row by row, of any shape: blocks of rows and columns that are full or not, rows without a number, and -0.0."""
    (rows, depth, columns), rng = shape, np.random.default_rng(seed)
    x = np.where(rng.random((rows, depth)) < density, rng.integers(1, 200, (rows, depth)), 0).astype(dtypes[1])
    if x.dtype.kind == "f":
        x[rng.random(x.shape) < 0.1] *= -1
    W, b = rng.standard_normal((depth, columns)).astype(dtypes[0]), rng.standard_normal(columns).astype(dtypes[0])
    assert_parity(nonzeros.sparse_forward(x, W, b), reference.affine_forward(x, W, b), "out")
    W[-1, -1] = np.inf
    assert nonzeros.sparse_forward(x, W, b) is None


@examples(60)
@given(
    st.tuples(st.integers(9, 300), st.integers(8, 300), st.integers(1, 150)),
    st.sampled_from([("float64", "float64"), ("float64", "float32"), ("float64", "uint8"), ("float32", "float32")]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 2**32 - 1),
)
def test_gradients_by_the_numbers_that_are_not_zero(shape, dtypes, density, threads, seed):
    """Column by column, of any shape: eights of rows and columns, full or not, columns without a number, and -0.0."""
    (rows, depth, columns), rng = shape, np.random.default_rng(seed)
    x = np.where(rng.random((rows, depth)) < density, rng.integers(1, 200, (rows, depth)), 0).astype(dtypes[1])
    if x.dtype.kind == "f":
        x[rng.random(x.shape) < 0.1] *= -1
    W, dout = (rng.standard_normal(size).astype(dtypes[0]) for size in ((depth, columns), (rows, columns)))
    fastbp.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(affine, "is_sparse", lambda x, W: True)
            actual = kernels.affine_backward(dout, x, W)
    finally:
        fastbp.set_num_threads(None)
    for mine, expected in zip(actual, reference.affine_backward(dout, x, W), strict=True):
        assert_parity(mine, expected, "gradient")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("x_dtype", ["same", "uint8"])
@pytest.mark.parametrize("shape", [(6, 784, 130), (100, 200, 30), (103, 784, 50), (50, 301, 64)])
def test_affine_of_mostly_zeros(shape, x_dtype, dtype, threads):
    """What is zero is passed over; the first and last features are among the others."""
    rows, depth, columns = shape
    rng = np.random.default_rng(3)
    x = np.where(rng.random((rows, depth)) < 0.85, 0, rng.integers(1, 200, (rows, depth)))
    x[:, [0, 1, -1]] = rng.integers(1, 200, (rows, 3))
    x = x.astype(dtype if x_dtype == "same" else x_dtype)
    W, b, dout = (rng.standard_normal(size).astype(dtype) for size in ((depth, columns), columns, (rows, columns)))
    fastbp.set_num_threads(threads)
    try:
        assert_parity(kernels.affine_forward(x, W, b), reference.affine_forward(x, W, b), "out")
        expected = reference.affine_backward(dout, x, W)
        for one, other in zip(kernels.affine_backward(dout, x, W), expected, strict=True):
            assert_parity(one, other, "gradient")
        none, *rest = kernels.affine_backward(dout, x, W, False)
        assert none is None
        for one, other in zip(rest, expected[1:], strict=True):
            assert_parity(one, other, "gradient without dx")
        W[3, 4], dout[2, 1] = np.inf, np.nan
        x[:, 3] = 0  # 0 * inf
        x[2] = 0
        with np.errstate(invalid="ignore"):
            assert_parity(kernels.affine_forward(x, W, b), reference.affine_forward(x, W, b), "out")
            actual, expected = (module.affine_backward(dout, x, W)[1] for module in (kernels, reference))
        assert_parity(actual, expected, "dW")
    finally:
        fastbp.set_num_threads(None)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_an_input_that_is_read_only_compiles_nothing_anew(density):
    rng = np.random.default_rng(5)
    x = np.where(rng.random((40, 784)) < density, 1.0, 0.0)
    W, dout = rng.standard_normal((784, 50)), rng.standard_normal((40, 50))
    stack = kernels.affine_stack((784, 50, 3), ("relu", "identity"), "float64")
    weights, biases = [W, np.ones((50, 3))], [np.ones(50), np.ones(3)]

    def gradients():
        _, outs, masks, _ = stack.forward(x, weights, biases)
        back = stack.backward(np.ones((40, 3)), [x, outs[0]], weights, masks, False)
        return kernels.affine_backward(dout, x, W)[1], back[1][0]

    compiled = affine._backward, affine_stack._backward
    expected, before = gradients(), [len(one.signatures) for one in compiled]
    x.flags.writeable = False
    for actual, wanted in zip(gradients(), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    assert [len(one.signatures) for one in compiled] == before
