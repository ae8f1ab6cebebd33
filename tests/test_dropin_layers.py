"""The accelerated layers against the same classes in plain NumPy: results, attributes, aliasing, errors."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
from conftest import LAYOUTS, TOLERANCE, examples, in_layout
from dropin_cases import assert_same, load_common, normal, outcome
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp.bench.dropin import write_common
from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning.calls import Counter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    write_common(folder)
    return folder


@pytest.fixture(scope="module")
def plain(folder):
    return load_common(folder)["layers"]


@pytest.fixture(scope="module")
def counted(folder):
    """The accelerated module, and the counts of its calls."""
    counter = Counter()
    start_accelerating(counter)
    try:
        return load_common(folder)["layers"], counter.counts
    finally:
        stop_accelerating()


@pytest.fixture(scope="module")
def fast(counted):
    return counted[0]


def both(plain, fast, name, arguments, calls):
    """Make the layer in both modules, do the same calls to both, and compare everything that can be seen."""
    layers = [outcome(getattr(module, name), *copy.deepcopy(arguments)) for module in (plain, fast)]
    everything = [*arguments, *(argument for call in calls for argument in call)]
    dtypes = [argument.dtype.name for argument in everything if isinstance(argument, np.ndarray)]
    tolerance = max((TOLERANCE.get(dtype, 0) for dtype in dtypes), default=0)
    for place, (method, *arrays) in enumerate(calls):
        results = []
        for layer in layers:
            np.random.seed(5)
            given_now = copy.deepcopy(arrays)
            result = outcome(getattr(layer, method), *given_now)
            aliases = [result is argument for argument in given_now]
            results.append((result, aliases, given_now, np.random.rand()))
        (expected, *others_expected), (actual, *others) = results
        assert_same(actual, expected, f"{name}.{method}", tolerance)
        assert others[0] == others_expected[0], "aliasing"
        for one, other in zip(others[1], others_expected[1], strict=True):
            assert_same(one, other, "an argument", tolerance)
        assert others[2] == others_expected[2], "the random state"
        for attribute, value in vars(layers[0]).items():
            if attribute == "col" and method == "forward" and place < len(calls) - 1:
                continue  # who reads it may change it: then backward is the layer's own
            assert_same(getattr(layers[1], attribute), value, f"{name}.{attribute} after {method}", tolerance)
    return layers


MANY = [np.float64, np.float32, np.float16, np.uint8, np.int64, np.bool_]


@pytest.mark.parametrize("dtype", MANY)
@pytest.mark.parametrize(
    "b", [normal(4), normal(1), np.array(0.5), 0, 1.5, normal(5), normal(4, dtype=np.float32), [1, 2, 3, 4]]
)
def test_affine(plain, fast, dtype, b):
    calls = [
        ("forward", normal(6, 3, dtype=dtype)),
        ("backward", normal(6, 4)),
        ("backward", normal(6, 4, dtype=np.float32)),
    ]
    both(plain, fast, "Affine", [normal(3, 4), b], calls)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_affine_layouts(plain, fast, layout, dtype):
    W, x, dout = (in_layout(array, layout) for array in (normal(30, 4, dtype=dtype), normal(5, 2, 3, 5), normal(5, 4)))
    both(plain, fast, "Affine", [W, normal(4, dtype=dtype)], [("forward", x), ("backward", dout)])


@pytest.mark.parametrize(
    ("W", "x"),
    [
        (normal(3, 4), normal(3)),
        (normal(3, 4), normal(0, 3)),
        (normal(3, 4), normal(2, 5)),
        (normal(3, 4), [[1.0, 2.0, 3.0]]),
        (normal(3, 4), np.ma.masked_array(normal(2, 3), [[1, 0, 0], [0, 0, 1]])),
        (normal(3, 4), normal(2, 3).astype(complex)),
        (normal(3, 4), normal(2, 3).astype(object)),
        (normal(3, 4), np.array("text")),
        (normal(3, 4).astype(">f8"), normal(2, 3)),
        (normal(3), normal(2, 3)),
        (normal(3, 0), normal(2, 3)),
        (normal(3, 4, dtype=np.int64), normal(2, 3)),
        (normal(3, 4, dtype=np.float16), normal(2, 3, dtype=np.float16)),
    ],
)
def test_odd_inputs_of_affine(plain, fast, W, x):
    columns = W.shape[-1] if W.ndim == 2 else 1
    both(plain, fast, "Affine", [W, np.zeros(columns)], [("forward", x), ("backward", normal(2, columns))])


@pytest.mark.parametrize(
    ("name", "arguments", "first", "x", "last"),
    [
        ("Affine", [normal(3, 4), normal(4)], (2, 4), (2, 3), (3, 4)),
        ("Relu", [], (2, 4), (2, 3), (4, 3)),
        ("Sigmoid", [], (2, 4), (2, 3), (4, 3)),
        ("Dropout", [], (2, 4), (2, 3), (4, 3)),
        ("BatchNormalization", [normal(3), normal(3)], (2, 3), (2, 3), (3, 3)),
        ("Convolution", [normal(2, 1, 2, 2), normal(2)], (1, 2, 3, 3), (1, 1, 4, 4), (1, 2, 4, 4)),
        ("Pooling", [2, 2], (1, 2, 3, 3), (1, 1, 4, 4), (1, 2, 4, 4)),
    ],
)
def test_backward_before_forward_and_with_other_shapes(plain, fast, name, arguments, first, x, last):
    calls = [("backward", normal(*first)), ("forward", normal(*x)), ("backward", normal(*last))]
    both(plain, fast, name, arguments, calls)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", MANY)
@pytest.mark.parametrize("name", ["Relu", "Sigmoid", "Dropout"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4, 5), (0, 3)])
def test_elementwise(plain, fast, name, dtype, layout, shape):
    x, dout = in_layout(normal(*shape, dtype=dtype), layout), in_layout(normal(*shape), layout)
    both(plain, fast, name, [], [("forward", x), ("backward", dout)])


def test_relu_backward_changes_its_argument_and_gives_it_back(fast):
    layer, dout = fast.Relu(), normal(3, 4, 5, 6).transpose(0, 2, 3, 1)
    layer.forward(normal(3, 5, 6, 4))
    assert layer.backward(dout) is dout
    assert (dout[layer.mask] == 0).all()


@pytest.mark.parametrize("name", ["Relu", "Sigmoid", "SoftmaxWithLoss"])
def test_nan_and_inf(plain, fast, name):
    x = normal(6, 5)
    x[0, 0], x[1, 1], x[2, 2], x[3] = np.nan, np.inf, -np.inf, -0.0
    labels = [np.array([0, 1, 2, 3, 4, 0])] if name == "SoftmaxWithLoss" else []
    both(plain, fast, name, [], [("forward", x, *labels), ("backward", normal(6, 5))])


ONE_HOT = np.eye(5)[[0, 3, 4, 1]]


@pytest.mark.parametrize("dtype", MANY)
@pytest.mark.parametrize(
    "t",
    [
        np.array([0, 3, 4, 1]), np.array([0, 3, 4, 1], np.uint8), np.array([0, -1, 4, 1]), np.array([0, 5, 4, 1]),
        np.array([0.0, 3.0, 4.0, 1.0]), np.array([[0], [3], [4], [1]]), ONE_HOT, ONE_HOT.astype(int), ONE_HOT.astype(bool),
        ONE_HOT[:, :4], np.array([0, 3]), np.array(2), [0, 3, 4, 1],
    ],
)  # fmt: skip
def test_softmax_with_loss(plain, fast, dtype, t):
    both(
        plain, fast, "SoftmaxWithLoss", [], [("forward", normal(4, 5, dtype=dtype), t), ("backward", 1), ("backward",)]
    )


def test_softmax_of_single_samples(plain, fast):
    both(plain, fast, "SoftmaxWithLoss", [], [("forward", normal(5), np.eye(5)[2]), ("backward",)])
    both(plain, fast, "SoftmaxWithLoss", [], [("forward", normal(1, 5), np.array([[2]])), ("backward",)])
    both(plain, fast, "SoftmaxWithLoss", [], [("forward", normal(4, 1), np.zeros((4, 1), int)), ("backward",)])


@pytest.mark.parametrize("shape", [(1, 3), (20, 3), (4, 1, 1, 3), (4, 3, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_batch_normalization(plain, fast, shape, dtype):
    x, dout = normal(*shape, dtype=dtype), normal(*shape)
    calls = [("forward", x), ("backward", dout), ("forward", x, False), ("backward", dout), ("forward", 2 * x, True)]
    both(plain, fast, "BatchNormalization", [normal(3), normal(3)], calls)
    both(plain, fast, "BatchNormalization", [1.0, 0.0], calls)
    both(plain, fast, "BatchNormalization", [normal(3), normal(3), 0.5, np.zeros(3), np.ones(3)], calls)
    both(plain, fast, "BatchNormalization", [normal(3), normal(4)], calls)


def test_dropout_draws_as_numpy_does_and_only_when_training(plain, fast):
    calls = [
        ("forward", normal(3, 4)),
        ("forward", normal(3, 4), False),
        ("forward", normal(3, 4), True),
        ("backward", normal(3, 4)),
    ]
    for ratio in (0.5, 0, 1, 0.3, np.float32(0.25), np.array(0.5)):
        both(plain, fast, "Dropout", [ratio], calls)


@given(
    st.integers(1, 3), st.integers(1, 6), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 9),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3), st.integers(0, 3), st.sampled_from(MANY),
    st.sampled_from(["C", "F", "strided", "reversed"]),
)  # fmt: skip
@examples(60)
def test_convolution(plain, fast, count, channels, size, filters, window, stride, pad, dtype, layout):
    x = in_layout(normal(count, channels, *size, dtype=dtype), layout)
    arguments = [normal(filters, channels, *window), normal(filters), stride, pad]
    rows = [(one + 2 * pad - other) // stride + 1 for one, other in zip(size, window, strict=True)]
    dout = in_layout(normal(count, filters, *rows), layout) if min(rows) > 0 else normal(1)
    layer = both(plain, fast, "Convolution", arguments, [("forward", x), ("backward", dout)])[1]
    assert "col" in vars(layer) or min(rows) < 1


@given(
    st.integers(1, 3), st.integers(1, 6), st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3), st.integers(0, 1), st.sampled_from(MANY),
    st.sampled_from(["C", "F", "strided", "reversed"]),
)  # fmt: skip
@examples(60)
def test_pooling(plain, fast, count, channels, size, window, stride, pad, dtype, layout):
    x = in_layout((normal(count, channels, *size) * 2).astype(dtype), layout)
    rows = [(one - other) // stride + 1 for one, other in zip(size, window, strict=True)]
    dout = in_layout(normal(count, channels, *rows), layout) if min(rows) > 0 else normal(1)
    both(plain, fast, "Pooling", [*window, stride, pad], [("forward", x), ("backward", dout)])


@pytest.mark.parametrize(
    "arguments",
    [
        [normal(2, 3, 2, 2), 0], [normal(2, 3, 2, 2), np.array(0.5)], [normal(2, 3, 2, 2, dtype=np.float32), normal(2)],
        [normal(2, 3, 2, 2), normal(2), 1.0, 0], [normal(2, 3, 2, 2), normal(2), 0, 0],
        [normal(2, 3, 2, 2), normal(2), 1, -1],
        [normal(2, 4, 2, 2), normal(2)], [normal(2, 3, 9, 9), normal(2)], [normal(2, 3, 2), normal(2)],
    ],
)  # fmt: skip
def test_odd_convolutions(plain, fast, arguments):
    calls = [("forward", normal(2, 3, 5, 5)), ("backward", normal(2, 2, 4, 4)), ("forward", normal(0, 3, 5, 5))]
    both(plain, fast, "Convolution", arguments, calls)


def test_what_is_changed_between_forward_and_backward_is_seen_as_in_numpy(plain, fast):
    x, W, dout = normal(2, 4, 6, 6), normal(5, 4, 3, 3), normal(2, 5, 4, 4)
    results = []
    for module in (plain, fast):
        given_x, given_W = x.copy(), W.copy()
        layer = module.Convolution(given_W, np.zeros(5))
        layer.forward(given_x)
        given_x += 1  # not seen: the patches were copied
        given_W *= 2  # seen: col_W is a view
        results.append((layer.backward(dout), layer.dW, layer.db))
        layer.col = layer.col * 3  # the attribute itself
        results[-1] += (layer.backward(dout), layer.dW)
        layer.W = W.copy()  # not seen either
        results[-1] += (layer.backward(dout), layer.dW)
    for expected, actual in zip(*results, strict=True):
        assert_same(actual, expected, "after a change")


def test_affine_uses_the_array_itself(fast):
    W, b = normal(3, 4), normal(4)
    layer = fast.Affine(W, b)
    assert layer.W is W
    assert layer.b is b
    x = normal(2, 3)
    first = layer.forward(x)
    W += 1
    assert_same(layer.forward(x), x @ W + b, "after an update in place")
    assert_same(first, x @ (W - 1) + b, "the first result is not written again")
    assert layer.x.base is x or layer.x is x


def test_results_are_fresh(fast):
    layer = fast.Affine(normal(30, 40), normal(40))
    layer.forward(normal(50, 30))
    layer.backward(normal(50, 40))
    kept, copies = (layer.dW, layer.db), (layer.dW.copy(), layer.db.copy())
    layer.forward(normal(50, 30))
    dx = layer.backward(normal(50, 40))
    dx += 1
    for array, copied in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles(fast, plain, monkeypatch, copier):
    package = type(sys)("common")
    monkeypatch.setitem(sys.modules, "common", package)
    monkeypatch.setitem(sys.modules, "common.layers", fast)
    layer = fast.Convolution(normal(3, 2, 2, 2), normal(3), 1, 1)
    layer.forward(normal(2, 2, 5, 5))
    dout = normal(2, 3, 6, 6)
    double = copier(layer)
    assert_same(double.backward(dout), layer.backward(dout), "dx of the copy")
    assert_same(double.dW, layer.dW, "dW of the copy")
    assert "col" in vars(double)


def test_a_pickle_is_read_without_fastbp(fast, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "common", type(sys)("common"))
    monkeypatch.setitem(sys.modules, "common.layers", fast)
    layer = fast.Convolution(normal(3, 2, 2, 2), normal(3))
    layer.forward(normal(2, 2, 5, 5))
    written = pickle.dumps(layer)
    monkeypatch.setitem(sys.modules, "common.layers", plain)
    read = pickle.loads(written)
    assert type(read) is plain.Convolution
    assert {name for name in vars(read) if name.startswith("_")} == set()
    dout = normal(2, 3, 4, 4)
    assert_same(read.backward(dout), layer.backward(dout), "dx")


def test_keyword_arguments_and_wrong_numbers_of_them(plain, fast):
    layer, other = fast.Affine(normal(3, 4), normal(4)), plain.Affine(normal(3, 4), normal(4))
    assert layer.forward(x=normal(2, 3)).shape == (2, 4)
    for arguments in ((), (1, 2, 3)):
        messages = []
        for one in (layer, other):
            with pytest.raises(TypeError) as caught:
                one.forward(*arguments)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_the_ordinary_calls_are_compiled(counted):
    layers, counts = counted
    for count in counts.values():
        count.calls = count.passed = 0
    network = [
        layers.Convolution(normal(6, 1, 3, 3), np.zeros(6), 1, 1), layers.Relu(), layers.Pooling(2, 2),
        layers.Affine(normal(96, 8), np.zeros(8)), layers.BatchNormalization(np.ones(8), np.zeros(8)),
        layers.Sigmoid(), layers.Dropout(), layers.Affine(normal(8, 3), np.zeros(3)),
    ]  # fmt: skip
    loss, x = layers.SoftmaxWithLoss(), normal(5, 1, 8, 8, dtype=np.float32)
    for layer in network:
        x = layer.forward(x)
    loss.forward(x, np.array([0, 1, 2, 0, 1], np.uint8))
    dout = loss.backward(1)
    for layer in reversed(network):
        dout = layer.backward(dout)
    assert dout.shape == (5, 1, 8, 8)
    called = {name: count for name, count in counts.items() if count.calls}
    assert len(called) == 16
    assert not {name for name, count in called.items() if count.passed}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_default_backend_computes(folder, plain, backend):
    with fastbp.use_backend(backend), fastbp.accelerated():
        layers = load_common(folder)["layers"]
        both(
            plain,
            layers,
            "Convolution",
            [normal(3, 2, 2, 2), normal(3)],
            [("forward", normal(2, 2, 4, 4)), ("backward", normal(2, 3, 3, 3))],
        )
        both(
            plain,
            layers,
            "BatchNormalization",
            [normal(3), normal(3)],
            [("forward", normal(7, 3)), ("backward", normal(7, 3))],
        )


@given(
    st.integers(1, 3), st.integers(1, 3), st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3), st.integers(0, 2), st.sampled_from(MANY),
)  # fmt: skip
@examples(60)
def test_im2col_and_col2im_are_the_same_to_the_last_bit(plain, fast, count, channels, size, window, stride, pad, dtype):
    x = normal(count, channels, *size, dtype=dtype)
    expected, actual = (outcome(module.im2col, x, *window, stride, pad) for module in (plain, fast))
    if isinstance(expected, type):
        assert actual == expected
        return
    assert actual.dtype == expected.dtype == np.float64
    np.testing.assert_array_equal(actual, expected)
    col = normal(*expected.shape)
    np.testing.assert_array_equal(
        fast.col2im(col, x.shape, *window, stride, pad), plain.col2im(col, x.shape, *window, stride, pad)
    )


@pytest.mark.parametrize("shape", [(3,), (3, 4), (80, 70), (2, 50, 50)])
@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_functions(plain, fast, name, shape):
    x = normal(*shape)
    assert_same(getattr(fast, name)(x), getattr(plain, name)(x), name)
    assert outcome(getattr(fast, name), "text") == outcome(getattr(plain, name), "text")
