import copy
import pickle

import numpy as np
import pytest
from conftest import LAYOUTS, assert_parity, in_layout

from fastbp import numerical_gradient
from fastbp.gradients import relative_error
from fastbp.layers import Affine, Relu, Sigmoid, SoftmaxWithLoss

BACKENDS = ("numpy", "numba")
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def affine(rng, backend, dtype=np.float64, inputs=6, outputs=4):
    return Affine(rng.standard_normal((inputs, outputs)).astype(dtype), np.zeros(outputs, dtype), backend)


def test_affine_by_hand(backend):
    layer = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]), backend)
    np.testing.assert_array_equal(layer.forward(np.array([[1.0, 1.0], [0.0, 2.0]])), [[14, 26], [16, 28]])
    np.testing.assert_array_equal(layer.backward(np.array([[1.0, 0.0], [0.0, 1.0]])), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(layer.dW, [[1, 0], [1, 2]])
    np.testing.assert_array_equal(layer.db, [1, 1])


def test_affine_gradients(backend, rng):
    layer, x, dout = affine(rng, backend), rng.standard_normal((5, 6)), rng.standard_normal((5, 4))
    loss = lambda _: np.sum(layer.forward(x) * dout)  # noqa: E731
    numerical = [numerical_gradient(loss, array) for array in (x, layer.W, layer.b)]
    layer.forward(x)
    for analytic, expected in zip([layer.backward(dout), layer.dW, layer.db], numerical, strict=True):
        assert relative_error(analytic, expected) < 1e-9


@pytest.mark.parametrize("layer_class", [Relu, Sigmoid])
def test_elementwise_gradients(backend, rng, layer_class):
    layer, x, dout = layer_class(backend), rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))
    expected = numerical_gradient(lambda _: np.sum(layer.forward(x) * dout), x, h=1e-5)
    layer.forward(x)
    assert relative_error(layer.backward(dout), expected) < 1e-8


@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_with_loss_gradient(backend, rng, one_hot):
    layer, x, t = SoftmaxWithLoss(backend), rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    t = np.eye(4)[t] if one_hot else t
    expected = numerical_gradient(lambda _: layer.forward(x, t), x, h=1e-5)
    layer.forward(x, t)
    assert relative_error(layer.backward(), expected) < 1e-5


def test_affine_takes_any_rank_and_gives_it_back(backend, rng):
    layer, x = affine(rng, backend, inputs=24), rng.standard_normal((5, 2, 3, 4))
    out = layer.forward(x)
    assert_parity(out, x.reshape(5, 24) @ layer.W)
    assert layer.original_x_shape == (5, 2, 3, 4)
    assert layer.x.shape == (5, 24)
    assert layer.backward(out).shape == x.shape


def test_affine_of_no_rows(backend, rng):
    layer = affine(rng, backend)
    assert layer.forward(np.zeros((0, 2, 3))).shape == (0, 4)
    assert layer.backward(np.zeros((0, 4))).shape == (0, 2, 3)
    np.testing.assert_array_equal(layer.dW, np.zeros((6, 4)))


def test_parameters_are_aliased_and_updates_in_place_are_seen(backend):
    W, b = np.eye(2), np.zeros(2)
    layer = Affine(W, b, backend)
    assert layer.W is W
    assert layer.b is b
    W -= 0.5 * np.ones((2, 2))
    b += 7
    np.testing.assert_array_equal(layer.forward(np.eye(2)), [[7.5, 6.5], [6.5, 7.5]])


def test_results_are_never_written_again(backend, rng):
    layer, relu, x = affine(rng, backend), Relu(backend), rng.standard_normal((3, 6))
    out = layer.forward(x)
    hidden = relu.forward(out)
    dx = layer.backward(hidden)
    kept = [array.copy() for array in (out, hidden, dx, layer.dW, layer.db)]
    given = (out, hidden, dx, layer.dW, layer.db)
    layer.backward(relu.backward(relu.forward(layer.forward(-x))))
    for array, copied in zip(given, kept, strict=True):
        np.testing.assert_array_equal(array, copied)


def test_relu_backward_leaves_dout_alone(backend):
    layer, dout = Relu(backend), np.ones(3)
    layer.forward(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(layer.backward(dout), [0, 0, 1])
    np.testing.assert_array_equal(dout, [1, 1, 1])


def test_relu_masks_zero_and_passes_nan(backend):
    layer = Relu(backend)
    np.testing.assert_array_equal(layer.forward(np.array([0.0, -0.0, np.nan, -1.0, 2.0])), [0, 0, np.nan, 0, 2])
    np.testing.assert_array_equal(layer.mask, [True, True, False, True, False])


def test_softmax_with_loss_by_hand(backend):
    layer = SoftmaxWithLoss(backend)
    x, t = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])), np.array([0, 2])
    assert layer.forward(x, t) == pytest.approx(-(np.log(0.7 + 1e-7) + np.log(0.3 + 1e-7)) / 2, rel=1e-12)
    expected = np.array([[-0.3, 0.2, 0.1], [0.1, 0.6, -0.7]]) / 2
    np.testing.assert_allclose(layer.backward(dout=1234), expected, rtol=1e-12)
    assert layer.t is t
    assert layer.loss == layer.forward(x, np.eye(3)[t])
    np.testing.assert_allclose(layer.backward(), expected, rtol=1e-12)


def test_one_sample_without_a_batch_axis(backend):
    layer, row = SoftmaxWithLoss(backend), np.array([0.3, -1.0, 2.0])
    expected = layer.forward(row[np.newaxis], np.array([1])), layer.backward()[0]
    for t in (1, [1], [0, 1, 0]):
        assert layer.forward(row, t) == expected[0]
        np.testing.assert_array_equal(layer.backward(), expected[1])


def test_labels_as_a_column(backend, rng):
    layer, x, t = SoftmaxWithLoss(backend), rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    assert layer.forward(x, t[:, np.newaxis]) == layer.forward(x, t)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "uint64"])
def test_labels_of_every_integer_dtype(backend, rng, dtype):
    layer, x, t = SoftmaxWithLoss(backend), rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    assert layer.forward(x, t.astype(dtype)) == layer.forward(x, t)


@pytest.mark.parametrize("w_dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("x_dtype", ["float64", "float32", "float16", "uint8", "int64", "bool", ">f4", ">i2"])
def test_dtypes_follow_numpy(backend, rng, x_dtype, w_dtype):
    W, b = rng.standard_normal((6, 4)).astype(w_dtype), rng.standard_normal(4).astype(w_dtype)
    x, dout = rng.integers(0, 3, (5, 6)).astype(x_dtype), rng.standard_normal((5, 4)).astype(w_dtype)
    layer = Affine(W, b, backend)
    assert_parity(layer.forward(x), x @ W + b, "out")
    assert_parity(layer.backward(dout), dout @ W.T, "dx")
    assert_parity(layer.dW, x.T @ dout, "dW")
    assert_parity(layer.db, dout.sum(axis=0), "db")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int64", "bool", ">f8"])
def test_elementwise_dtypes_follow_numpy(backend, rng, dtype):
    x = (rng.standard_normal((5, 6)) * 3).astype(dtype)
    assert_parity(Relu(backend).forward(x), np.where(x > 0, x, np.zeros((), x.dtype)).astype(x.dtype.newbyteorder("=")))
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert_parity(Sigmoid(backend).forward(x), expected.astype(np.exp(x[:0]).dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend, rng, layout):
    W, x, dout = rng.standard_normal((6, 4)), rng.standard_normal((5, 6)), rng.standard_normal((5, 4))
    layer = Affine(in_layout(W, layout), in_layout(np.ones(4), layout), backend)
    assert_parity(layer.forward(in_layout(x, layout)), x @ W + 1)
    assert_parity(layer.backward(in_layout(dout, layout)), dout @ W.T)
    assert_parity(layer.dW, x.T @ dout)


@pytest.mark.parametrize("b", [0, 0.5, np.float64(2), np.array(3.0), np.ones(1), np.ones((1, 4))])
def test_bias_as_one_number(backend, rng, b):
    W, x = rng.standard_normal((6, 4)), rng.standard_normal((5, 6))
    layer = Affine(W, b, backend)
    assert_parity(layer.forward(x), x @ W + b)
    layer.backward(np.ones((5, 4)))
    np.testing.assert_array_equal(layer.db, [5, 5, 5, 5])


def test_copies_and_pickles_keep_the_backend(backend, rng):
    layer, x = affine(rng, backend), rng.standard_normal((3, 6))
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.backend == backend
        np.testing.assert_array_equal(other.forward(x), layer.forward(x))


BAD_PARAMETERS = [
    (np.ones((2, 3), int), np.zeros(3), TypeError, "W must be an array of floating point numbers, got dtype int64"),
    (np.ones((2, 3), complex), np.zeros(3), TypeError, "W must be an array of real numbers .* got dtype complex128"),
    (np.ones((2, 3), object), np.zeros(3), TypeError, "W must be .* got dtype object"),
    (np.ones(3), np.zeros(3), ValueError, r"W must have two dimensions .* got shape \(3,\)"),
    (np.ones((2, 3)), np.zeros(2), ValueError, r"b must have shape \(3,\) to fit W of shape \(2, 3\), got \(2,\)"),
    (np.ones((2, 3)), np.zeros(3, complex), TypeError, "b must be .* got dtype complex128"),
]


@pytest.mark.parametrize(("W", "b", "error", "message"), BAD_PARAMETERS)
def test_parameters_that_do_not_fit_are_refused(backend, W, b, error, message):
    with pytest.raises(error, match=message):
        Affine(W, b, backend)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((5, 7)), ValueError, r"x must have 6 features in each row, got 7 \(shape \(5, 7\)\)"),
        (np.ones(6), ValueError, "x must have 6 features in each row, got 1"),
        (np.float64(1), ValueError, "x must have one row for each sample, got a single number"),
        (np.ones((5, 6), complex), TypeError, "x must be .* got dtype complex128"),
        (np.full((5, 6), None), TypeError, "x must be .* got dtype object"),
        (np.ones((5, 6), np.longdouble), TypeError, "x must be .* got dtype"),
        ("text", TypeError, "x must be .* got str"),
    ],
)
def test_affine_refuses_input_that_does_not_fit(backend, rng, x, error, message):
    with pytest.raises(error, match=message):
        affine(rng, backend).forward(x)


def test_affine_refuses_gradients_that_do_not_fit(backend, rng):
    layer = affine(rng, backend)
    with pytest.raises(RuntimeError, match=r"Affine.backward needs a forward before it"):
        layer.backward(np.ones((5, 4)))
    layer.forward(np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"dout must have the shape \(5, 4\) of forward's result, got \(4, 4\)"):
        layer.backward(np.ones((4, 4)))
    layer.W = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"W must have the shape \(6, 4\) of the W that forward was called with"):
        layer.backward(np.ones((5, 4)))


def test_a_bias_swapped_for_one_that_does_not_fit_is_refused(backend, rng):
    layer = affine(rng, backend)
    layer.b = np.zeros(3)
    with pytest.raises(ValueError, match="b must have shape"):
        layer.forward(np.ones((5, 6)))


@pytest.mark.parametrize("layer_class", [Relu, Sigmoid])
def test_elementwise_layers_refuse_what_does_not_fit(backend, layer_class):
    layer = layer_class(backend)
    with pytest.raises(RuntimeError, match="needs a forward before it"):
        layer.backward(np.ones(3))
    with pytest.raises(TypeError, match=r"x must be .* got dtype complex128"):
        layer.forward(np.ones(3, complex))
    layer.forward(np.ones(3))
    with pytest.raises(ValueError, match=r"dout must have the shape \(3,\) of forward's result, got \(4,\)"):
        layer.backward(np.ones(4))
    with pytest.raises(TypeError, match="dout must be"):
        layer.backward(np.array(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        ([0, 1, 4], ValueError, "t must hold class indices from 0 to 3, got 4"),
        ([0, -1, 3], ValueError, "t must hold class indices from 0 to 3, got -1"),
        (np.array([0, 2**63 + 5, 1], np.uint64), ValueError, "got 9223372036854775813"),
        ([0.0, 1.0, 2.0], TypeError, "t must hold integers when it holds class indices, got dtype float64"),
        (np.eye(5)[[0, 1, 2]], ValueError, r"or one-hot rows, shape \(3, 4\); got shape \(3, 5\)"),
        (np.eye(4)[[0, 1, 2]].T, ValueError, r"got shape \(4, 3\)"),
        ([0, 1], ValueError, r"t must hold one class index for each row, shape \(3,\)"),
        (["a", "b", "c"], TypeError, "t must be an array of real numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(backend, t, error, message):
    with pytest.raises(error, match=message):
        SoftmaxWithLoss(backend).forward(np.zeros((3, 4)), t)


def test_labels_changed_after_forward_are_checked_again(backend):
    layer, t = SoftmaxWithLoss(backend), np.array([0, 1, 2])
    layer.forward(np.zeros((3, 4)), t)
    t[1] = 1000
    with pytest.raises(ValueError, match="from 0 to 3, got 1000"):
        layer.backward()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (), (2, 3, 4)])
def test_softmax_refuses_scores_of_other_shapes_and_empty_batches(backend, shape):
    with pytest.raises(ValueError, match=r"x must have shape \(N, C\) with at least one row and one class"):
        SoftmaxWithLoss(backend).forward(np.zeros(shape), np.zeros(shape[:1], int))


def test_gradients_of_whole_numbers_are_exact_and_have_numpys_dtypes(backend):
    """Found by tests/test_inputs.py: they were summed up in float32, and db was cast to the dtype of dout."""
    x, dout = np.ones((2000, 1), np.int32), np.full((2000, 1), 101, np.int8)
    layer = Affine(np.ones((1, 1), np.float32), np.zeros(1, np.float32), backend=backend)
    layer.forward(x)
    layer.backward(dout)
    assert layer.db.dtype == dout.sum(axis=0).dtype
    np.testing.assert_array_equal(layer.db, dout.sum(axis=0))
    x[:] = 9001
    layer.forward(x)
    layer.backward(dout)
    np.testing.assert_array_equal(layer.dW, x.T @ dout)


def test_long_sums_are_made_in_blocks(backend):
    """Found by tests/test_inputs.py: the numba backend's db was off by 0.2 %."""
    layer = Affine(np.ones((1, 1), np.float32), np.zeros(1, np.float32), backend=backend)
    dout = np.full((200_000, 1), 0.1, np.float32)
    layer.forward(dout)
    layer.backward(dout)
    np.testing.assert_allclose(layer.db, 200_000 * np.float64(np.float32(0.1)), rtol=1e-5)
