"""The functional network: the numbers of the source, batches as matrices, and the delta rule against central differences."""

import itertools

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

from fastbp import numerical_gradient
from fastbp.functional import (
    HIDDEN,
    accumulate,
    back_prop,
    deltas,
    forward_prop,
    mean_element,
    optimize,
    sseloss,
    train,
    update_params,
)

BACKENDS = ("numpy", "numba")
LAYERS = [2, 2, 2]
WEIGHTS = [[[0.15, 0.2], [0.25, 0.3]], [[0.4, 0.45], [0.5, 0.55]]]
BIASES = [[0.35, 0.35], [0.6, 0.6]]
MODEL = LAYERS, WEIGHTS, BIASES
X, T = [0.05, 0.1], [0.01, 0.99]


def digits(actual, expected):
    """Equal to the digits that the source prints."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=6e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_numbers_of_the_source(backend):
    y, outs, sums = forward_prop(*MODEL, X, cache_mode=True, backend=backend)
    digits([y], [[1.10590597, 1.2249214]])
    np.testing.assert_array_equal(forward_prop(*MODEL, X, backend=backend), y)
    gW, gb = back_prop(*MODEL, T, outs, sums, backend=backend)
    digits(
        gW,
        [
            [[0.00670603, 0.01341205], [0.00748746, 0.01497492]],
            [[0.65016812, 0.65412915], [0.13937182, 0.14022092]],
        ],
    )
    digits(gb, [[0.13412051, 0.14974924], [1.09590597, 0.2349214]])
    W, b = update_params(*MODEL, gW, gb, lr=0.1)
    digits(
        W,
        [
            [[0.1493294, 0.19865879], [0.24925125, 0.29850251]],
            [[0.33498319, 0.38458708], [0.48606282, 0.53597791]],
        ],
    )
    digits(b, [[0.33658795, 0.33502508], [0.4904094, 0.57650786]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_train_reports_the_loss_of_the_source(backend):
    _, losses = train(MODEL, [X], [T], batch_size=1, epochs=1, lr=0.1, verbose=0, backend=backend)
    np.testing.assert_allclose(losses, [0.31404948868496607], rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_samples_one_by_one(backend):
    rng = np.random.default_rng(0)
    layers = [3, 5, 4, 2]
    weights = [rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (2, 4))]
    biases = [rng.standard_normal(width) for width in layers[1:]]
    x, t = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))
    y, outs, sums = forward_prop(layers, weights, biases, x, True, backend)
    whole = back_prop(layers, weights, biases, t, outs, sums, backend)
    total = None
    for i in range(7):
        one, outs, sums = forward_prop(layers, weights, biases, x[i], True, backend)
        np.testing.assert_allclose(one, y[i], rtol=1e-12)
        grads = back_prop(layers, weights, biases, t[i], outs, sums, backend)
        total = grads if total is None else tuple(map(accumulate, total, grads))
    for a, b in zip((*whole[0], *whole[1]), (*total[0], *total[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    (_, W, _), loss = optimize((layers, weights, biases), x, t, 0.3, backend)
    np.testing.assert_allclose(W[0], weights[0] - 0.3 * mean_element(total[0], 7 * 2)[0], rtol=1e-12)
    assert loss == pytest.approx(sseloss(y, t) / 14)


def test_train_obeys_its_arguments(capsys):
    rng = np.random.default_rng(0)
    x = rng.random((10, 2))
    y = x[:, :1] - x[:, 1:]
    model = [2, 3, 1], [np.zeros((3, 2)), np.zeros((1, 3))], [np.zeros(3), np.zeros(1)]
    trained, losses = train(model, x, y, batch_size=4, epochs=6, lr=0.5, verbose=2)
    assert len(losses) == 6
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch 2", "epoch 4", "epoch 6"]
    by_hand = model
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)) * 6:  # the last batch is what is left
        by_hand, _ = optimize(by_hand, x[rows], y[rows], 0.5)
    np.testing.assert_array_equal(trained[1][0], by_hand[1][0])
    shuffled = train(model, x, y, batch_size=4, epochs=6, lr=0.5, verbose=0, seed=1)[1]
    assert shuffled == train(model, x, y, batch_size=4, epochs=6, lr=0.5, verbose=0, seed=1)[1] != losses
    np.testing.assert_array_equal(model[1][0], 0)  # what was passed in is as it was


@st.composite
def networks(draw):
    layers = draw(st.lists(st.integers(1, 5), min_size=2, max_size=7))
    return layers, draw(st.integers(0, 2**31)), draw(st.integers(1, 4))


def error(layers, weights, biases, x, d, f):
    z = x
    for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
        u = z @ W.T + b
        z = f(u) if i < len(weights) - 1 else u
    return ((z - d) ** 2).sum() / 2


@examples(40)
@given(networks(), st.sampled_from(["sigmoid", "tanh", "identity", "softplus"]), st.sampled_from(["sum", "mean"]))
def test_the_delta_rule_gives_the_gradients(network, name, reduction):
    """(4.12) and (4.13): for 1 to 6 layers, of f by name and as a pair of functions."""
    layers, seed, rows = network
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((o, i)) for i, o in itertools.pairwise(layers)]
    biases = [rng.standard_normal(width) for width in layers[1:]]
    x, d = rng.standard_normal((rows, layers[0])), rng.standard_normal((rows, layers[-1]))
    softplus = (lambda u: np.log1p(np.exp(u)), lambda u: 1 / (1 + np.exp(-u)))
    f = softplus if name == "softplus" else name
    function = softplus[0] if name == "softplus" else HIDDEN[name][0]
    found, grads_w, grads_b = deltas(layers, weights, biases, x, d, f, reduction)
    assert [delta.shape for delta in found] == [(rows, width) for width in layers[1:]]
    scale = rows if reduction == "mean" else 1
    for parameter, gradient in zip((*weights, *biases), (*grads_w, *grads_b), strict=True):
        numeric = numerical_gradient(lambda _: error(layers, weights, biases, x, d, function), parameter, 1e-5)
        np.testing.assert_allclose(gradient * scale, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", HIDDEN)
def test_the_derivatives_by_name(name):
    u, h = np.array([-700.0, -3, -0.5, 0.25, 2, 700]), 1e-6
    f, derivative = HIDDEN[name]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(derivative(u), (f(u + h) - f(u - h)) / (2 * h), atol=1e-8)


def test_deltas_of_one_sample():
    found, grads_w, _ = deltas(*MODEL, X, T)
    digits(found, [[0.13412051, 0.14974924], [1.09590597, 0.2349214]])
    digits([grads_w[0]], [[[0.00670603, 0.01341205], [0.00748746, 0.01497492]]])


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (
            lambda: forward_prop([3, 2], [np.ones((3, 2))], [np.ones(2)], np.ones(3)),
            ValueError,
            "W is .outputs, inputs",
        ),
        (
            lambda: forward_prop([3, 2, 1], [np.ones((2, 3))], [np.ones(2)], np.ones(3)),
            ValueError,
            "weights must have one",
        ),
        (lambda: forward_prop([3], [], [], np.ones(3)), ValueError, "layers must hold at least two widths"),
        (lambda: forward_prop([2, 0], [np.ones((0, 2))], [[]], [1, 2]), ValueError, r"layers\[1\] must be at least 1"),
        (lambda: forward_prop(*MODEL, [1, 2, 3]), ValueError, r"x must have shape \(2,\)"),
        (lambda: forward_prop(*MODEL, ["a", "b"]), TypeError, "x must be an array of real numbers"),
        (lambda: back_prop(*MODEL, T, [X], []), ValueError, "cached_outs must have 3 entries"),
        (
            lambda: train(MODEL, [X], [T], batch_size=2),
            ValueError,
            "batch_size must be at most the number of samples, 1",
        ),
        (lambda: train(MODEL, np.ones((0, 2)), np.ones((0, 2))), ValueError, "x must have at least one row"),
        (lambda: train(MODEL, [X], [T], 1, epochs=0), ValueError, "epochs must be at least 1"),
        (lambda: train(MODEL, [X], [T], 1, lr=1e200, verbose=0), FloatingPointError, "lr=1e.200 is probably too large"),
        (lambda: deltas(*MODEL, X, T, "swish"), ValueError, "f must be one of 'sigmoid'"),
        (lambda: deltas(*MODEL, X, T, (np.tanh,)), TypeError, "a pair of functions"),
        (lambda: deltas(*MODEL, X, T, reduction="max"), ValueError, "reduction must be one of"),
        (lambda: mean_element([np.ones(2)], 0), ValueError, "count must be above 0"),
        (lambda: sseloss([1, 2], [1]), ValueError, r"y_true must have the shape \(2,\)"),
        (lambda: accumulate([np.ones(2)], []), ValueError, "second must have 1 entries"),
    ],
)
def test_bad_arguments_are_named(call, exception, message):
    with np.errstate(all="ignore"), pytest.raises(exception, match=message):
        call()
