"""Every kernel against the reference: dtypes, layouts, shapes, NaN and inf. The dtype is compared before the values."""

import itertools
import warnings

import numpy as np
import pytest
from conftest import LAYOUTS, assert_parity, examples, in_layout
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import kernels, reference
from fastbp.networks._engines import Architecture
from fastbp.training._optimizers import Rule

DTYPES = ("float64", "float32")
SHAPES = [(7, 13, 5), (100, 784, 50), (1, 784, 50), (0, 6, 4), (6, 1, 1), (97, 33, 65), (1, 1, 1)]


def numbers(rng, shape, dtype):
    return rng.integers(0, 256, shape).astype(dtype) if dtype == "uint8" else rng.standard_normal(shape).astype(dtype)


def both(name, *arrays, tolerate_invalid=False):
    """The kernel's and the reference's results; no argument may be changed by either."""
    before = [array.copy() for array in arrays]
    results = []
    for module in (kernels, reference):
        with warnings.catch_warnings():
            if tolerate_invalid and module is reference:
                warnings.simplefilter("ignore", RuntimeWarning)
            result = getattr(module, name)(*arrays)
        results.append(result if isinstance(result, tuple) else (result,))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    return zip(*results, strict=True)


def assert_agree(name, *arrays, **options):
    for index, (actual, expected) in enumerate(both(name, *arrays, **options)):
        assert_parity(actual, expected, f"{name}, result {index}")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("x_dtype", "dtype"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float32", "float64"),
        ("uint8", "float64"),
        ("uint8", "float32"),
    ],
)
def test_affine(shape, x_dtype, dtype):
    rng = np.random.default_rng(0)
    rows, depth, columns = shape
    x, W, b = numbers(rng, (rows, depth), x_dtype), numbers(rng, (depth, columns), dtype), numbers(rng, columns, dtype)
    assert_agree("affine_forward", x, W, b)
    assert_agree("affine_backward", numbers(rng, (rows, columns), dtype), x, W)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_affine_in_every_layout(layout, dtype):
    rng = np.random.default_rng(1)
    x, W, b, dout = (in_layout(numbers(rng, shape, dtype), layout) for shape in ((9, 20), (20, 17), (17,), (9, 17)))
    assert_agree("affine_forward", x, W, b)
    assert_agree("affine_backward", dout, x, W)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["x", "W", "dout"])
def test_affine_with_values_that_are_not_finite(value, dtype, which):
    rng = np.random.default_rng(2)
    arrays = {
        "x": numbers(rng, (8, 20), dtype),
        "W": numbers(rng, (20, 18), dtype),
        "dout": numbers(rng, (8, 18), dtype),
    }
    arrays["x"][:, 3] = 0  # zeros meet the infinite number: 0 * inf is NaN
    arrays[which][3, 5] = value
    assert_agree("affine_forward", arrays["x"], arrays["W"], numbers(rng, 18, dtype), tolerate_invalid=True)
    assert_agree("affine_backward", arrays["dout"], arrays["x"], arrays["W"], tolerate_invalid=True)


@examples(60)
@given(st.integers(0, 70), st.integers(1, 70), st.integers(1, 70), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_affine_of_any_shape(rows, depth, columns, dtype, seed):
    rng = np.random.default_rng(seed)
    x, W, b = numbers(rng, (rows, depth), dtype), numbers(rng, (depth, columns), dtype), numbers(rng, columns, dtype)
    assert_agree("affine_forward", x, W, b)
    assert_agree("affine_backward", numbers(rng, (rows, columns), dtype), x, W)


@pytest.fixture
def threads_of_choice():
    yield fastbp.set_num_threads
    fastbp.set_num_threads(None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(70, 1000, 300), (1000, 70, 101), (300, 901, 100), (50, 3000, 75)])
def test_affine_of_more_than_one_block(shape, x_dtype, dtype, threads_of_choice):
    """Blocks of k that are packed when it is their turn, and a last panel that is not full; whoever has which chunk."""
    rng = np.random.default_rng(9)
    rows, depth, columns = shape
    x, W, b = numbers(rng, (rows, depth), x_dtype), numbers(rng, (depth, columns), dtype), numbers(rng, columns, dtype)
    dout, results = numbers(rng, (rows, columns), dtype), []
    for threads in (1, 2, 3):
        threads_of_choice(threads)
        assert_agree("affine_forward", x, W, b)
        assert_agree("affine_backward", dout, x, W)
        results.append([kernels.affine_forward(x, W, b), *kernels.affine_backward(dout, x, W)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


SPECIAL = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 88.7, -88.7, 710.0, -710.0, 1000.0, -1000.0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (0, 3), (4097,), (2, 3, 4, 5), ()])
@pytest.mark.parametrize("layer", ["relu", "sigmoid"])
def test_elementwise(layer, shape, dtype, layout):
    rng = np.random.default_rng(3)
    x, dout = (numbers(rng, shape, dtype) * 5 for _ in range(2))
    x, dout = (in_layout(np.asarray(array, dtype), layout) for array in (x, dout))
    assert_agree(f"{layer}_forward", x)
    forward = getattr(reference, f"{layer}_forward")(x)
    assert_agree(f"{layer}_backward", dout, forward[1] if layer == "relu" else forward)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    x = np.array(SPECIAL, dtype)
    assert_agree("relu_forward", x)
    assert_agree("relu_backward", x, x <= 0)
    assert_agree("sigmoid_forward", x)
    assert_agree("sigmoid_backward", x, reference.sigmoid_forward(x), tolerate_invalid=True)


def test_relu_keeps_integers():
    x = np.array([[-3, 0, 2**53 + 1]])
    assert_agree("relu_forward", x)


@pytest.mark.parametrize("module", [kernels, reference])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_is_exact_at_the_ends_and_silent(module, dtype):
    x = np.array([-np.inf, -1000, 0, 1000, np.inf], dtype)
    np.testing.assert_array_equal(module.sigmoid_forward(x), np.array([0, 0, 0.5, 1, 1], dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 10), (1, 1), (100, 10), (3, 1000), (50, 127), (20, 128), (700, 6)])
def test_softmax_cross_entropy(shape, dtype, layout):
    rng = np.random.default_rng(4)
    x = in_layout(numbers(rng, shape, dtype) * 3, layout)
    indices = rng.integers(0, shape[1], shape[0])
    for t in (in_layout(indices, layout), in_layout(np.eye(shape[1], dtype=dtype)[indices], layout)):
        check_softmax(x, t)


def check_softmax(x, t, **options):
    (loss, expected_loss), (y, expected_y) = both("softmax_cross_entropy_forward", x, t, **options)
    assert_parity(y, expected_y, "y")
    assert_parity(x.dtype.type(loss), x.dtype.type(expected_loss), "loss")
    assert_agree("softmax_cross_entropy_backward", expected_y, t)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_no_rows(dtype):
    for t in (np.zeros(0, np.int64), np.zeros((0, 4), dtype)):
        check_softmax(np.zeros((0, 4), dtype), t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [
    [1e4, -1e4, 0], [-1e4, -1e4, -1e4], [np.nan, 0, 1], [np.inf, 0, 1], [-np.inf, 0, 1], [-np.inf] * 3, [np.inf] * 3,
])  # fmt: skip
def test_softmax_of_extreme_rows(row, dtype):
    x = np.array([row, [0.1, 0.2, 0.3]], dtype)
    check_softmax(x, np.array([1, 2]), tolerate_invalid=True)


def test_softmax_with_soft_labels_takes_the_first_maximum_for_the_loss():
    x, t = np.zeros((2, 3)), np.array([[0.2, 0.4, 0.4], [0.1, 0.1, 0.8]])
    loss, _ = kernels.softmax_cross_entropy_forward(x, t)
    assert loss == pytest.approx(-np.log(1 / 3 + 1e-7), rel=1e-12)
    check_softmax(x, t)


SETTINGS = (0.1, 0.9, 0.99, 1e-7, 0.01)  # learning rate, momentum or beta1, beta2, epsilon, weight decay
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 1, "adam": 2}


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 5), (1001,)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SLOTS)
def test_optimizer_update(name, shape, dtype):
    """Five updates in a row, so that the state counts."""
    results = []
    for module in (kernels, reference):
        rng = np.random.default_rng(0)
        parameters, state = rng.standard_normal(shape).astype(dtype), np.zeros((SLOTS[name], *shape), dtype)
        for steps in range(5):
            gradients = rng.standard_normal(shape).astype(dtype)
            module.optimizer_update(Rule(name, SETTINGS, steps), parameters, gradients, state)
        results.append((parameters, state))
    for actual, expected in zip(*results, strict=True):
        assert_parity(actual, expected, name)


@pytest.mark.parametrize("shape", [(7,), (0, 3), (3, 4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_and_leaky_relu(shape, dtype):
    rng = np.random.default_rng(0)
    x, dout = (rng.standard_normal(shape).astype(dtype) * 3 for _ in range(2))
    assert_agree("tanh_forward", x)
    assert_agree("tanh_backward", dout, np.tanh(x))
    assert_agree("leaky_relu_forward", x, np.float64(0.2))
    assert_agree("leaky_relu_backward", dout, x <= 0, np.float64(0.2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu_forward", "sigmoid_forward", "tanh_forward"])
def test_zeros_have_the_signs_of_the_reference(name, dtype):
    x = np.array([0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf], dtype)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(*(np.signbit(getattr(module, name)(x)) for module in (kernels, reference)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 0.05, 1, 30, 1e30])
def test_tanh_has_all_digits_at_every_size(scale, dtype):
    x = np.concatenate([np.linspace(-1, 1, 1001), [np.nan, np.inf, -np.inf]]).astype(dtype) * np.dtype(dtype).type(
        scale
    )
    actual, expected = kernels.tanh_forward(x), np.tanh(x)
    np.testing.assert_allclose(actual, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_cross_entropy(dtype):
    x = np.array([[0.5, -2, 900, -900], [0, 3, -0.0, 1e-30]], dtype)
    t = np.array([[1, 0, 1, 1], [0.5, 0.25, 0, 1]], dtype)
    assert_agree("sigmoid_cross_entropy_forward", x, t)


NETWORKS = [
    ((6, 3), ("identity",)),
    ((20, 33, 7), ("relu", "identity")),
    ((9, 5, 17, 4, 3), ("sigmoid", "relu", "sigmoid", "identity")),
    ((70, 130, 65, 10), ("relu", "sigmoid", "identity")),
]


def network(sizes, x_dtype, dtype, density, rows=300):
    """Parameters, data of that share of numbers that are not 0, and labels."""
    rng = np.random.default_rng(6)
    count = sum((i + 1) * o for i, o in itertools.pairwise(sizes))
    parameters = (rng.standard_normal(count) * 0.3).astype(dtype)
    x = numbers(rng, (rows, sizes[0]), x_dtype)
    x[rng.random(x.shape) > density] = 0
    return parameters, x, rng.integers(0, sizes[-1], rows)


def trained(module, parameters, sizes, activations, x, t, batches, learning_rate):
    parameters, losses, done = parameters.copy(), np.full(len(batches), np.nan), np.zeros(1, np.int64)
    data, architecture = module.prepare_data(x), Architecture(sizes, activations, "cross_entropy", True)
    rule, state = Rule("sgd", (learning_rate, 0.0, 0.0, 0.0, 0.0), 0), np.zeros((0, parameters.size), parameters.dtype)
    module.train_steps(parameters, architecture, (data, t), batches, rule, state, (losses, done))
    assert done[0] == len(batches)
    return parameters, losses, module.count_correct(parameters, architecture, data, t)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize(("x_dtype", "dtype"), [("float64", "float64"), ("float32", "float32"), ("uint8", "float64")])
@pytest.mark.parametrize(("sizes", "activations"), NETWORKS)
def test_network(sizes, activations, x_dtype, dtype, density, threads, monkeypatch):
    monkeypatch.setattr(kernels.engine.step, "PARALLEL_THRESHOLD", 0)
    monkeypatch.setattr(kernels.runtime.processors, "_chosen", threads)
    parameters, x, t = network(sizes, x_dtype, dtype, density)
    assert (len(kernels.prepare_data(x).rows.indptr) > 0) == (density < 0.5)
    learning_rate = 0.02 / (x.max() if x_dtype == "uint8" else 1)
    for batch_size in (1, 7, 32):
        batches = np.random.default_rng(7).integers(0, len(x), (30, batch_size))
        arguments = (parameters, sizes, activations, x, t, batches, learning_rate)
        mine, losses, hits = trained(kernels, *arguments)
        expected, expected_losses, expected_hits = trained(reference, *arguments)
        assert (mine != parameters).any()
        np.testing.assert_allclose(mine, expected, rtol=0, atol={"float64": 1e-12, "float32": 2e-5}[dtype])
        np.testing.assert_allclose(losses, expected_losses, rtol={"float64": 1e-12, "float32": 2e-5}[dtype])
        assert hits == expected_hits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_wide_layers(activation, threads, monkeypatch):
    """Of more than one block of k, forward and back."""
    monkeypatch.setattr(kernels.runtime.processors, "_chosen", threads)
    sizes = (10, 450, 410, 3)
    parameters, x, t = network(sizes, "float64", "float64", 1.0)
    architecture, found = Architecture(sizes, (activation, activation, "identity"), "cross_entropy", True), []
    for module in (kernels, reference):
        gradient = np.empty_like(parameters)
        batch = module.prepare_data(x), t, np.arange(60), gradient
        loss = module.batch_gradient(parameters / 5, architecture, *batch)
        found.append((np.float64(loss), gradient))
    for mine, expected in zip(*found, strict=True):
        assert_parity(mine, expected)


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 37, -1])
def test_network_whose_weights_are_not_finite(value, where, density):
    """0 * inf is NaN: zeros in the input may not be skipped then. W1's first row, another weight, the last bias."""
    sizes, activations = (70, 20, 5), ("relu", "identity")
    parameters, x, t = network(sizes, "float64", "float64", density)
    parameters[where] = value
    batches = np.arange(300).reshape(30, 10)
    with np.errstate(all="ignore"):
        expected = trained(reference, parameters, sizes, activations, x, t, batches, 0.1)
    for actual, wanted in zip(
        trained(kernels, parameters, sizes, activations, x, t, batches, 0.1), expected, strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_network_that_diverges_on_the_way(density):
    sizes, activations = (70, 20, 5), ("relu", "identity")
    parameters, x, t = network(sizes, "float64", "float64", density)
    batches = np.random.default_rng(0).integers(0, 300, (40, 10))
    with np.errstate(all="ignore"):
        expected = trained(reference, parameters, sizes, activations, x, t, batches, 1e200)
    assert not np.isfinite(expected[0]).all()
    actual = trained(kernels, parameters, sizes, activations, x, t, batches, 1e200)
    for mine, wanted in zip(actual[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(wanted))
    assert actual[2] == expected[2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_row_that_is_not_finite_spoils_no_other(value):
    sizes, activations = (70, 20, 5), ("sigmoid", "identity")
    parameters, x, t = network(sizes, "float64", "float64", 0.1)
    x[4, 2] = value
    mine, losses, _ = trained(kernels, parameters, sizes, activations, x, t, np.array([[0, 1], [2, 3]]), 0.1)
    assert np.isfinite(mine).all()
    assert np.isfinite(losses).all()
    with np.errstate(all="ignore"):
        architecture = Architecture(sizes, activations, "cross_entropy", True)
        expected = reference.count_correct(parameters, architecture, x, t)
    assert kernels.count_correct(parameters, architecture, kernels.prepare_data(x), t) == expected


@pytest.mark.parametrize("kinds", [3, 256, 257])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_sparse_data_of_few_or_many_different_numbers(kinds, dtype, threads, monkeypatch):
    """Up to 256 with 0, numbers are kept as codes; over several blocks of columns, some rows and blocks being empty."""
    monkeypatch.setattr(kernels.runtime.processors, "_chosen", threads)
    rng = np.random.default_rng(kinds)
    sizes, activations = (701, 20, 5), ("relu", "identity")
    parameters, _, t = network(sizes, dtype, dtype, 1.0)
    different = np.concatenate([[0.0, -0.0], rng.standard_normal(kinds - 1)]).astype(dtype)
    x = rng.choice(different, (300, 701))
    x[rng.random(x.shape) > 0.2] = 0
    x[::7], x[1::5, 100:400] = 0, 0
    assert kernels.prepare_data(x).rows.coded == (kinds <= 256)
    batches = rng.integers(0, 300, (20, 30))
    mine = trained(kernels, parameters, sizes, activations, x, t, batches, 0.01)
    expected = trained(reference, parameters, sizes, activations, x, t, batches, 0.01)
    for actual, wanted in zip(mine, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol={"float64": 1e-11, "float32": 1e-5}[dtype], atol=1e-5)
    if dtype == "float64":
        np.testing.assert_allclose(mine[0], expected[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_images_of_bytes_are_read_as_if_divided(density):
    sizes, activations = (70, 20, 5), ("sigmoid", "identity")
    parameters, x, t = network(sizes, "uint8", "float64", density)
    batches = np.random.default_rng(0).integers(0, 300, (20, 10))
    results = []
    architecture, rule = Architecture(sizes, activations, "cross_entropy", True), Rule("sgd", SETTINGS, 0)
    for images, divisor in ((x, 255), ((x / np.float32(255)).astype(np.float32), None)):
        mine, losses, state = parameters.copy(), np.zeros(20), np.zeros((0, parameters.size))
        data = kernels.prepare_data(images, divisor)
        kernels.train_steps(mine, architecture, (data, t), batches, rule, state, (losses, np.zeros(1, np.int64)))
        results.append((mine, losses))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(reference.prepare_data(x, 255), (x / np.float32(255)).astype(np.float32))


LOSSES = ("cross_entropy", "squared_error", "binary_cross_entropy")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SLOTS)
@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_loss_with_every_optimizer(loss, name, density, dtype, monkeypatch):
    """Two calls, so that the state is kept between them; three threads, more than the last layer has panels."""
    monkeypatch.setattr(kernels.engine.step, "PARALLEL_THRESHOLD", 0)
    monkeypatch.setattr(kernels.runtime.processors, "_chosen", 3)
    sizes, activations = (70, 40, 30, 5), ("tanh", "leaky_relu", "identity")
    parameters, x, labels = network(sizes, dtype, dtype, density)
    rng = np.random.default_rng(1)
    t = labels if loss == "cross_entropy" else rng.random((len(x), 5)).astype(dtype)
    batches, results = rng.integers(0, len(x), (20, 13)), []
    for module in (kernels, reference):
        mine, state = parameters.copy(), np.zeros((SLOTS[name], parameters.size), dtype)
        losses, done, data = np.zeros(20), np.zeros(1, np.int64), module.prepare_data(x)
        architecture = Architecture(sizes, activations, loss, loss != "squared_error")
        for part in (slice(0, 7), slice(7, 20)):
            rule = Rule(name, (0.002, *SETTINGS[1:]), part.start)
            module.train_steps(mine, architecture, (data, t), batches[part], rule, state, (losses[part], done))
        assert done[0] == 20
        results.append((losses, mine, state))
    tolerance = {"float64": 1e-11, "float32": 5e-3}[dtype]  # AdaGrad and Adam divide by gradients that are nearly 0
    for actual, expected in zip(*results, strict=True):
        scale = np.abs(expected).max(initial=1e-30)
        np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=tolerance)


def test_a_network_that_diverges_keeps_its_optimizers_state_as_numpy_does():
    """Sparse steps are made again densely from where they began: from the state that was there then, too."""
    sizes, activations = (70, 20, 5), ("relu", "identity")
    parameters, x, t = network(sizes, "float64", "float64", 0.1)
    batches = np.random.default_rng(0).integers(0, 300, (12, 10))
    results = []
    for module in (kernels, reference):
        mine, state = parameters.copy(), np.full((1, parameters.size), 0.5)
        rule, data = Rule("momentum", (1e200, 0.9, 0.0, 0.0, 0.0), 0), module.prepare_data(x)
        architecture = Architecture(sizes, activations, "cross_entropy", True)
        with np.errstate(all="ignore"):
            module.train_steps(
                mine, architecture, (data, t), batches, rule, state, (np.zeros(12), np.zeros(1, np.int64))
            )
        results.append((mine, state))
    for actual, expected in zip(*results, strict=True):
        assert not np.isfinite(expected).all()
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(256, 784, 512), (1000, 70, 90), (90, 1000, 70), (64, 64, 1500)])
def test_threads_that_are_at_different_gradients_do_not_meet_in_memory(shape, dtype, threads):
    rows, depth, columns = shape
    rng = np.random.default_rng(5)
    dout, x, W = (
        rng.standard_normal(size).astype(dtype) for size in ((rows, columns), (rows, depth), (depth, columns))
    )
    expected = reference.affine_backward(dout, x, W)
    fastbp.set_num_threads(threads)
    try:
        for _ in range(5):
            for one, other in zip(kernels.affine_backward(dout, x, W), expected, strict=True):
                assert_parity(one, other, "gradient")
    finally:
        fastbp.set_num_threads(None)


@pytest.mark.parametrize("module", [kernels, reference])
def test_of_equal_scores_the_first_is_the_answer(module):
    parameters, data = np.zeros(4 * 3 + 3), module.prepare_data(np.ones((6, 4)))
    parameters[-3:] = [1, 2, 2]
    architecture, labels = Architecture((4, 3), ("identity",), "cross_entropy", True), np.array([0, 1, 2, 0, 1, 1])
    assert module.count_correct(parameters, architecture, data, labels) == 3


def test_a_draw_that_is_the_ratio_itself_leaves_out():
    x, draws = np.arange(1.0, 4.0), np.array([0.2, 0.5, 0.7])
    assert_agree("dropout_forward", x, draws, np.float64(0.5), np.float64(1))
    np.testing.assert_array_equal(reference.dropout_forward(x, draws, 0.5, 1)[1], [False, False, True])


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (31, 33), (784, 50)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_decay(shape, dtype):
    a = numbers(np.random.default_rng(7), shape, dtype)
    exact = float(np.sum(np.square(a.astype(np.longdouble))))
    for module in (kernels, reference):
        np.testing.assert_allclose(module.sum_of_squares(a), exact, rtol=1e-14 if dtype == "float64" else 1e-6)
