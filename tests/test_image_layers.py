"""Convolution, Pooling, BatchNormalization and Dropout: both backends, against each other and against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import LAYOUTS, assert_parity, examples, in_layout
from hypothesis import given
from hypothesis import strategies as st

from fastbp import BatchNormalization, Convolution, Dropout, Pooling, kernels, reference
from fastbp.cli._check import LAYERS, run_checks
from fastbp.layers._regularization import Draw

BACKENDS = ("numpy", "numba")
RNG = np.random.default_rng(1)
DTYPES = st.sampled_from(["float64", "float32"])
SIZES = st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 13), st.integers(1, 13))
WINDOWS = st.tuples(st.integers(1, 4), st.integers(1, 4))


def normal(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


def compare(name, *arguments):
    """The kernel's results are the reference's; they are given back."""
    actual, expected = (getattr(module, name)(*arguments) for module in (kernels, reference))
    pairs = zip(*((result if isinstance(result, tuple) else (result,)) for result in (actual, expected)), strict=True)
    for one, other in pairs:
        assert_parity(one, other, name)
    return expected


@given(
    SIZES,
    WINDOWS,
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 3),
    DTYPES,
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
@examples(80)
def test_kernels_over_images(size, window, filters, stride, pad, dtype, layout, with_nan):
    if any(length + 2 * pad < wide for length, wide in zip(size[2:], window, strict=True)):
        return
    x, W = in_layout(normal(*size, dtype=dtype), layout), normal(filters, size[1], *window, dtype=dtype)
    if with_nan and x.size and x.flags.writeable:
        x.flat[x.size // 2] = np.nan
    out, padded = compare("convolution_forward", x, W, normal(filters, dtype=dtype), stride, pad)
    dout = in_layout(normal(*out.shape, dtype=dtype), layout)
    compare("convolution_backward", dout, padded, W, stride, pad)
    out, arg_max = compare("pooling_forward", x, *window, stride, pad)
    dout = in_layout(normal(*out.shape, dtype=dtype), layout)
    compare("pooling_backward", dout, arg_max, x.shape, *window, stride, pad)
    out = compare("average_pooling_forward", x, *window, stride, pad)
    dout = in_layout(normal(*out.shape, dtype=dtype), layout)
    compare("average_pooling_backward", dout, x.shape, *window, stride, pad)
    col = compare("im2col", x, *window, stride, pad, np.dtype(dtype))
    np.testing.assert_array_equal(*(m.col2im(col, x.shape, *window, stride, pad) for m in (kernels, reference)))
    out, mask = compare("relu_forward", x)
    compare("relu_backward", x, mask)
    written = x.copy()
    assert kernels.relu_backward(written, mask, written) is written
    assert_parity(written, reference.relu_backward(x, mask), "in place")


@given(st.integers(2, 60), st.integers(1, 70), DTYPES, st.sampled_from(LAYOUTS))
@examples(50)
def test_kernels_over_columns(rows, columns, dtype, layout):
    x, dout = (in_layout(normal(rows, columns, dtype=dtype), layout) for _ in range(2))
    gamma, beta = normal(2, columns, dtype=dtype)
    _, xc, xn, std, mean, variance = compare("batch_normalization_forward", x, gamma, beta, 1e-3)
    compare("batch_normalization_apply", x, gamma, beta, mean, variance, 1e-3)
    if dtype == "float64" or rows > 20:  # of few rows, dx is a difference of nearly equal numbers
        compare("batch_normalization_backward", dout, gamma, xc, xn, std)
    _, mask = compare("dropout_forward", x, np.abs(x).astype("float64"), 0.5, 1.25)
    compare("dropout_backward", dout, mask, 1.25)
    draw = Draw(seed=rows, step=columns, layer=2, rows=np.arange(rows)[::-1] * 1000)
    compare("seeded_dropout_forward", x, draw, 0.3, 1 / 0.7)


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_threads_give_the_same(threads):
    import fastbp

    x, W, b = normal(7, 16, 14, 14), normal(32, 16, 3, 3), normal(32)
    fastbp.set_num_threads(int(threads))
    try:
        out, padded = compare("convolution_forward", x, W, b, 1, 1)
        compare("convolution_backward", normal(*out.shape), padded, W, 1, 1)
        compare("convolution_backward", normal(*out.shape)[:, :, ::2, ::2].copy(), padded, W, 2, 1)
        compare("convolution_backward", normal(7, 3, 14, 14), normal(7, 2, 16, 16), normal(3, 2, 3, 3), 1, 1)
        big = normal(20, 30, 24, 24)
        out, arg_max = compare("pooling_forward", big, 2, 2, 2, 0)
        compare("pooling_backward", out, arg_max, big.shape, 2, 2, 2, 0)
        compare("average_pooling_backward", compare("average_pooling_forward", big, 3, 2, 2, 1), big.shape, 3, 2, 2, 1)
        compare("seeded_dropout_forward", big.reshape(20, -1), Draw(1, 2, 3, np.arange(20)), 0.5, 2.0)
        compare("relu_forward", big.transpose(0, 2, 3, 1))
        compare("im2col", big, 3, 3, 1, 1, np.dtype("float64"))
        rows = normal(500, 400)
        compare("batch_normalization_forward", rows, normal(400), normal(400), 1e-6)
    finally:
        fastbp.set_num_threads(None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_convolution_is_the_sum_that_it_is_defined_as(backend):
    x, W, b = normal(2, 3, 6, 5), normal(4, 3, 3, 2), normal(4)
    out = Convolution(W, b, 2, 1, backend).forward(x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    assert out.shape == (2, 4, 3, 3)
    for n, f, y, i in itertools.product(*map(range, out.shape)):
        assert np.isclose(
            out[n, f, y, i], np.sum(padded[n, :, 2 * y : 2 * y + 3, 2 * i : 2 * i + 2] * W[f]) + b[f], 1e-12
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_pooling_takes_the_first_of_equal_numbers_and_nan_before_all(backend):
    layer = Pooling(2, 2, backend=backend)
    nan = np.nan
    x = np.array([[1, 1, 2, 3, nan, 5, 0, -0.0], [1, 1, 3, 3, 7, nan, -0.0, 0]]).reshape(1, 1, 2, 8)
    out = layer.forward(x)
    np.testing.assert_array_equal(out.ravel(), [1, 3, nan, 0])
    np.testing.assert_array_equal(layer.arg_max, [0, 1, 0, 0])
    dx = layer.backward(np.array([1.0, 2, 3, 4]).reshape(1, 1, 1, 4))
    np.testing.assert_array_equal(dx[0, 0], [[1, 0, 0, 2, 3, 0, 4, 0], [0] * 8])


def test_every_layer_is_checked_by_numerical_gradients_and_parity():
    assert {"Convolution", "Convolution, stride 2", "Pooling", "BatchNormalization", "Dropout"} <= LAYERS.keys()
    assert [check for check in run_checks() if not check.ok] == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int64", "bool"])
def test_dtypes(backend, dtype):
    x = (np.abs(normal(2, 3, 4, 4)) * 3).astype(dtype)
    layer = Convolution(normal(2, 3, 2, 2, dtype="float32"), normal(2, dtype="float32"), backend=backend)
    expected = np.result_type(np.empty(0, dtype), np.float32)
    assert layer.forward(x).dtype == expected
    assert layer.col.shape == (18, 12)
    assert layer.backward(normal(2, 2, 3, 3, dtype="float32")).dtype == np.float32
    assert Pooling(2, 2, backend=backend).forward(x).dtype == x.dtype
    floating = x.dtype if x.dtype.kind == "f" else np.dtype("float64")
    assert Dropout(backend=backend).forward(x).dtype == floating
    out = BatchNormalization(np.ones(48, "float32"), np.zeros(48, "float32"), backend=backend).forward(x)
    assert out.dtype == np.result_type(floating, np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_normalization_by_channel_is_that_of_the_columns(backend):
    x, dout = normal(4, 3, 5, 2), normal(4, 3, 5, 2)
    gamma, beta = normal(2, 3)
    layer, rows = (
        BatchNormalization(gamma, beta, per_channel=True, backend=backend),
        BatchNormalization(gamma, beta, backend=backend),
    )
    flat = [array.transpose(0, 2, 3, 1).reshape(-1, 3) for array in (x, dout)]
    for train in (True, False):
        out = layer.forward(x, train)
        np.testing.assert_allclose(out.transpose(0, 2, 3, 1).reshape(-1, 3), rows.forward(flat[0], train), rtol=1e-12)
    dx = layer.backward(dout)
    np.testing.assert_allclose(dx.transpose(0, 2, 3, 1).reshape(-1, 3), rows.backward(flat[1]), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(layer.dgamma, rows.dgamma, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_running_statistics_begin_at_zero_and_follow(backend):
    x = normal(50, 3)
    layer = BatchNormalization(np.ones(3), np.zeros(3), momentum=0.8, backend=backend)
    layer.forward(x)
    np.testing.assert_allclose(layer.running_mean, 0.2 * x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.2 * x.var(axis=0), rtol=1e-12)
    expected = (x - layer.running_mean) / np.sqrt(layer.running_var + 10e-7)
    np.testing.assert_allclose(layer.forward(x, train_flg=False), expected, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_draws_the_mask_from_numpy(backend):
    x = normal(30, 20)
    np.random.seed(8)
    mask = np.random.rand(30, 20) > 0.3
    after = np.random.rand()
    for inverted, scale in ((False, 1), (True, 1 / 0.7)):
        np.random.seed(8)
        layer = Dropout(0.3, inverted, backend)
        np.testing.assert_allclose(layer.forward(x), x * mask * scale, rtol=1e-15)
        assert np.random.rand() == after
        np.testing.assert_array_equal(layer.mask, mask)
        np.testing.assert_allclose(layer.forward(x, train_flg=False), x if inverted else x * 0.7, rtol=1e-15)


W, B, X = normal(2, 3, 2, 2), normal(2), normal(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Convolution(normal(2, 3, 2), B), ValueError, "W must have shape (filters, channels, height, width)"),
        (lambda: Convolution(normal(2, 3, 0, 2), B), ValueError, "W must have shape"),
        (lambda: Convolution(W, normal(3)), ValueError, "b must have shape (2,)"),
        (lambda: Convolution(W.astype(int), B), TypeError, "W must be an array of floating point numbers"),
        (lambda: Convolution(W, B, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: Convolution(W, B, 1.0), TypeError, "stride must be an integer, got 1.0"),
        (lambda: Convolution(W, B, 1, -1), ValueError, "pad must be at least 0, got -1"),
        (lambda: Convolution(W, B).forward(normal(3, 4)), ValueError, "x must have shape (N, C, H, W), got (3, 4)"),
        (lambda: Convolution(W, B).forward(normal(1, 2, 4, 4)), ValueError, "x must have 3 channels, got 2"),
        (
            lambda: Convolution(W, B).forward(normal(1, 3, 1, 4)),
            ValueError,
            "x must be at least as large as the window (2, 2)",
        ),
        (lambda: Convolution(W, B).forward(X.astype(complex)), TypeError, "x must be an array of real numbers"),
        (lambda: Convolution(W, B).backward(X), RuntimeError, "backward needs a forward"),
        (lambda: Pooling(0, 2), ValueError, "pool_h must be at least 1, got 0"),
        (lambda: Pooling(5, 2).forward(X), ValueError, "x must be at least as large as the window (5, 2)"),
        (lambda: Pooling(2, 2).backward(X), RuntimeError, "backward needs a forward"),
        (lambda: Dropout(1.5), ValueError, "dropout_ratio must be from 0 to 1, got 1.5"),
        (lambda: Dropout(1, inverted=True), ValueError, "dropout_ratio must be at least 0 and below 1, got 1"),
        (lambda: Dropout("half"), TypeError, "dropout_ratio must be a number, got 'half'"),
        (lambda: Dropout().backward(X), RuntimeError, "backward needs a forward"),
        (
            lambda: BatchNormalization(B, B).forward(normal(5, 3)),
            ValueError,
            "gamma must have the shape (3,) of",
        ),
        (
            lambda: BatchNormalization(B, B).forward(normal(5)),
            ValueError,
            "x must have shape (N, D) or (N, C, H, W), got (5,)",
        ),
        (lambda: BatchNormalization(B, B).forward(normal(0, 2)), ValueError, "x must have at least one row"),
        (lambda: BatchNormalization(B, B).backward(normal(5, 2)), RuntimeError, "backward needs a forward"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_shapes_after_forward(backend):
    convolution, pooling, dropout = (
        Convolution(W.copy(), B, backend=backend),
        Pooling(2, 2, backend=backend),
        Dropout(backend=backend),
    )
    normalization = BatchNormalization(B, B, backend=backend)
    convolution.forward(X), pooling.forward(X), dropout.forward(X), normalization.forward(normal(4, 2))
    for layer, dout in ((convolution, X), (pooling, X), (dropout, X[:, :2]), (normalization, normal(3, 2))):
        with pytest.raises(ValueError, match="dout must have the shape"):
            layer.backward(dout)
    for W_now in (normal(2, 3, 2, 3), normal(3, 3, 2, 2), normal(2, 4, 2, 2)):
        convolution.W = W_now
        with pytest.raises(ValueError, match="must have|b must"):
            convolution.backward(normal(1, 2, 3, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_are_left_as_they_are(layout):
    x, dout = in_layout(normal(2, 3, 5, 5), layout), in_layout(normal(2, 2, 4, 4), layout)
    before = x.copy(), dout.copy()
    layer = Convolution(W, B, backend="numba")
    layer.forward(x), layer.backward(dout), Pooling(2, 2, backend="numba").forward(x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(dout, before[1])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_weight_that_is_not_finite_meets_no_zeros_but_the_inputs_own(value):
    """Found by tests/test_inputs.py: the numba backend multiplied it by the zeros around dout."""
    W, x = np.ones((1, 4, 2, 2)), np.ones((1, 4, 3, 3))
    W[0, 1, 0, 0] = value
    found = []
    for backend in ("numpy", "numba"):
        layer = Convolution(W, np.zeros(1), backend=backend)
        with np.errstate(invalid="ignore"):  # NumPy's np.dot may warn of it, by processor
            found.append(layer.backward(np.ones_like(layer.forward(x))))
    np.testing.assert_array_equal(*found)


@examples(40)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_random_doubles_are_those_of_numpy(counts, seed, used):
    """To the last bit, from a state of which any number of words has been used; and so is what is drawn afterwards."""
    theirs, state = np.random.RandomState(seed), np.empty(625, np.uint32)
    theirs.randint(0, 2**32, used, np.uint32)
    _, state[:-1], state[-1] = theirs.get_state()[:3]
    other = state.copy()
    for count in counts:
        expected = theirs.random_sample(count)
        for module, its_state in ((kernels, state), (reference, other)):
            np.testing.assert_array_equal(module.random_doubles(its_state, count), expected)
    for its_state in (state, other):
        np.testing.assert_array_equal(its_state[:-1], theirs.get_state()[1])
        assert its_state[-1] == theirs.get_state()[2]
