"""Regression and binary outputs: the layers, the networks and the trainer on them."""

import numpy as np
import pytest

import fastbp
from fastbp import MLP, Adam, Identity, IdentityWithLoss, LeakyRelu, SigmoidWithLoss, Tanh, Trainer, check_gradients
from fastbp.layers._activations import ACTIVATION_LAYERS as ACTIVATIONS
from fastbp.layers._losses import LOSS_LAYERS as LOSSES
from fastbp.layers._losses import REDUCTIONS

BACKENDS = ("numpy", "numba")
X = np.array([[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]])
T = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_squared_error(backend):
    layer = IdentityWithLoss(backend=backend)
    assert layer.forward(X, T) == pytest.approx(((X - T) ** 2).sum() / 2 / 2)
    np.testing.assert_allclose(layer.backward(), (X - T) / 2)
    np.testing.assert_allclose(layer.backward(3.0), 3 * (X - T) / 2)
    whole = IdentityWithLoss("sum", backend)
    assert whole.forward(X, T) == pytest.approx(((X - T) ** 2).sum() / 2)
    np.testing.assert_allclose(whole.backward(), X - T)


@pytest.mark.parametrize("backend", BACKENDS)
def test_binary_cross_entropy(backend):
    layer, y = SigmoidWithLoss("sum", backend), 1 / (1 + np.exp(-X))
    assert layer.forward(X, T) == pytest.approx(-(T * np.log(y) + (1 - T) * np.log(1 - y)).sum())
    np.testing.assert_allclose(layer.y, y)
    np.testing.assert_allclose(layer.backward(), y - T)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x", [800.0, -800.0])
def test_binary_cross_entropy_does_not_overflow(backend, x):
    layer = SigmoidWithLoss(backend=backend)
    assert layer.forward(np.array([[x]]), np.array([[0.5]])) == pytest.approx(400)
    assert np.isfinite(layer.backward()).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("make", [Tanh, LeakyRelu, Identity])
def test_activations_keep_numpys_dtypes(make, dtype):
    x, results = np.array([[-2, 0, 1], [1, 3, -1]]).astype(dtype), []
    for backend in BACKENDS:
        layer = make(backend=backend)
        results.append((layer.forward(x), layer.backward(np.ones((2, 3), np.float32))))
    for mine, reference in zip(*results, strict=True):
        assert mine.dtype == reference.dtype
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-6)
    expected = {Tanh: np.tanh, LeakyRelu: lambda v: np.where(v > 0, v, 0.01 * v), Identity: lambda v: v}[make]
    np.testing.assert_allclose(results[0][0], expected(x.astype(np.float64)), rtol=2e-3)


def test_identity_hands_out_copies():
    x, layer = np.ones(3), Identity()
    layer.forward(x)[0] = 5
    layer.backward(x)[0] = 5
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_networks(activation, loss, backend):
    rng = np.random.default_rng(0)
    network = MLP((5, 4, 3, 2), activation, "xavier", "float64", backend, 0, loss)
    network.parameters += 0.01 * rng.standard_normal(network.parameters.size)  # no ReLU exactly at its kink
    t = rng.integers(0, 2, 6) if loss == "cross_entropy" else rng.random((6, 2))
    assert max(check_gradients(network, rng.standard_normal((6, 5)), t).values()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_trainer_reports_losses_where_there_are_no_classes(loss, reduction, backend):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((50, 4)), rng.random(50)
    network = MLP((4, 6, 1), "tanh", "xavier", "float64", backend, 0, loss, reduction)
    start = network.loss(x, t)
    history = Trainer(network, Adam(0.01), batch_size=10).fit(
        x, t, iterations=80, evaluate_every=79, validation=(x[:9], t[:9]), progress=False
    )
    first, last = history.evaluations
    assert first.train_accuracy is first.test_accuracy is None
    assert last.train_loss == pytest.approx(network.loss(x, t))
    assert last.test_loss == pytest.approx(network.loss(x[:9], t[:9]))
    assert last.train_loss < first.train_loss <= start * 1.01
    with pytest.raises(ValueError, match="has no classes, and so no accuracy"):
        network.accuracy(x, t)


def test_activations_can_be_mixed():
    network = MLP((5, 4, 3, 2), ("tanh", "leaky_relu"), seed=0)
    assert network.activations == ("tanh", "leaky_relu", "identity")
    assert list(network.layers) == ["Affine1", "Tanh1", "Affine2", "LeakyRelu2", "Affine3"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MLP((5, 2), loss="hinge"), ValueError, "loss must be one of 'cross_entropy', 'squared_error'"),
        (lambda: MLP((5, 2), reduction="none"), ValueError, "reduction must be one of 'mean', 'sum'"),
        (lambda: MLP((5, 2), reduction="sum"), ValueError, "reduction must be 'mean' for the loss 'cross_entropy'"),
        (lambda: MLP((5, 4, 2), ("tanh", "relu")), ValueError, "one for each of the 1 hidden layers, got 2"),
        (lambda: MLP((5, 4, 2), ("swish",)), ValueError, r"activation\[0\] must be one of"),
        (lambda: LeakyRelu(0), ValueError, "slope must be above 0"),
        (lambda: IdentityWithLoss().forward(X, T[0]), ValueError, r"t must have the shape \(2, 3\) of x"),
        (lambda: IdentityWithLoss().forward(X[:0], T[:0]), ValueError, "x must have at least one row"),
        (lambda: SigmoidWithLoss().forward(X, T + 1), ValueError, "t must be from 0 to 1, got 2.0"),
        (lambda: SigmoidWithLoss().forward(X, T * np.nan), ValueError, "t must be from 0 to 1, got nan"),
        (lambda: IdentityWithLoss().backward(), RuntimeError, "needs a forward before it"),
        (lambda: fit("squared_error", T[:, :2]), ValueError, r"t must hold 3 targets for each row"),
        (lambda: fit("binary_cross_entropy", T - 1), ValueError, "t must be from 0 to 1, got -1.0"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def fit(loss, t):
    return Trainer(MLP((3, 3), loss=loss), batch_size=1).fit(X, t, iterations=1, progress=False)


def test_all_layers_are_exported():
    assert {cls.__name__ for cls in (*ACTIVATIONS.values(), *LOSSES.values())} <= set(fastbp.__all__)
