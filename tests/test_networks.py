import copy
import itertools
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from conftest import assert_parity, examples
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import MLP, SGD, Adam, Trainer, TwoLayerNet, check_gradients, numerical_gradient
from fastbp.layers import Affine, Relu, SoftmaxWithLoss

BACKENDS = ("numpy", "numba")


class BookNet:
    """The book's TwoLayerNet (chapter 5), written anew: only its layers come from fastbp."""

    def __init__(self, sizes, std):
        self.params = {}
        for number, shape in enumerate(itertools.pairwise(sizes), 1):
            self.params[f"W{number}"] = std * np.random.randn(*shape)
            self.params[f"b{number}"] = np.zeros(shape[1])
        self.layers = OrderedDict()
        self.layers["Affine1"] = Affine(self.params["W1"], self.params["b1"])
        self.layers["Relu1"] = Relu()
        self.layers["Affine2"] = Affine(self.params["W2"], self.params["b2"])
        self.last = SoftmaxWithLoss()

    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.last.forward(x, t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward(1)
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        affines = self.layers["Affine1"], self.layers["Affine2"]
        return {f"{kind}{i}": getattr(a, f"d{kind}") for i, a in enumerate(affines, 1) for kind in "Wb"}


def numpy_losses(sizes, std, x, t, batches, learning_rate):
    """The same training in NumPy alone, without any of fastbp: the oracle."""
    W1, W2 = std * np.random.randn(*sizes[:2]), std * np.random.randn(*sizes[1:])
    b1, b2, losses = np.zeros(sizes[1]), np.zeros(sizes[2]), []
    for rows in batches:
        images, one_hot = x[rows], np.eye(sizes[2])[t[rows]]
        sums = images @ W1 + b1
        hidden = np.maximum(sums, 0)
        scores = np.exp(hidden @ W2 + b2)
        y = scores / scores.sum(axis=1, keepdims=True)
        losses.append(-np.mean(np.log(y[one_hot == 1] + 1e-7)))
        delta = (y - one_hot) / len(rows)
        delta1 = delta @ W2.T * (sums > 0)
        W2 -= learning_rate * hidden.T @ delta
        b2 -= learning_rate * delta.sum(axis=0)
        W1 -= learning_rate * images.T @ delta1
        b1 -= learning_rate * delta1.sum(axis=0)
    return losses


def classification(seed=0, rows=60, features=12, classes=5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, features)), rng.integers(0, classes, rows)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_books_loop_gives_the_numbers_of_plain_numpy(backend):
    x, t = classification()
    batches = np.random.default_rng(1).integers(0, 60, (200, 10))
    losses = []
    np.random.seed(3)
    with fastbp.use_backend(backend):
        network = BookNet((12, 8, 5), 0.5)
    for rows in batches:
        gradient = network.gradient(x[rows], t[rows])
        losses.append(network.last.loss)
        for key in network.params:
            network.params[key] -= 0.1 * gradient[key]
    np.random.seed(3)
    np.testing.assert_allclose(losses, numpy_losses((12, 8, 5), 0.5, x, t, batches, 0.1), rtol=1e-10)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_layer_net_is_the_books(backend):
    x, t = classification()
    np.random.seed(3)
    mine = TwoLayerNet(12, 8, 5, weight_init_std=0.5, backend=backend)
    np.random.seed(3)
    book = BookNet((12, 8, 5), 0.5)
    assert list(mine.params) == ["W1", "b1", "W2", "b2"]
    assert list(mine.layers) == ["Affine1", "Relu1", "Affine2"]
    assert isinstance(mine.layers, OrderedDict)
    assert mine.lastLayer is mine.last_layer
    assert mine.layers["Affine1"].W is mine.params["W1"]
    for key in book.params:
        np.testing.assert_array_equal(mine.params[key], book.params[key])
    assert mine.loss(x, t) == pytest.approx(book.loss(x, t), rel=1e-12)
    gradients = mine.gradient(x, t), book.gradient(x, t)
    for key in book.params:
        assert_parity(gradients[0][key], gradients[1][key], key)
    assert mine.accuracy(x, np.eye(5)[t]) == mine.accuracy(x, t) == np.mean(mine.predict(x).argmax(axis=1) == t)


def test_updates_in_place_reach_the_layers_and_the_flat_vector():
    network = MLP((3, 2), dtype="float64", seed=0)
    network.params["W1"] -= 1
    network.params["b1"][...] = 5
    np.testing.assert_array_equal(network.predict(np.zeros((1, 3))), [[5, 5]])
    np.testing.assert_array_equal(network.parameters, np.append(network.params["W1"].ravel(), [5, 5]))


def test_initial_weights():
    sizes = (400, 300, 10)
    networks = {std: MLP(sizes, weight_init_std=std, dtype="float64", seed=1) for std in (0.01, "he", "xavier")}
    assert networks[0.01].params["W1"].std() == pytest.approx(0.01, rel=0.02)
    assert networks["he"].params["W2"].std() == pytest.approx(np.sqrt(2 / 300), rel=0.05)
    assert networks["xavier"].params["W1"].std() == pytest.approx(np.sqrt(1 / 400), rel=0.02)
    single = MLP(sizes, weight_init_std=0.01, dtype=np.float32, seed=1)
    assert single.parameters.dtype == np.float32
    np.testing.assert_array_equal(single.parameters, networks[0.01].parameters.astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x_dtype", ["float64", "float32", "uint8", "int64"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_network_computes_in_its_own_dtype(backend, x_dtype, dtype):
    network = MLP((12, 8, 5), dtype=dtype, backend=backend, seed=0)
    x, t = np.ones((3, 12), x_dtype), np.eye(5)[:3]
    assert network.predict(x).dtype == dtype
    assert network.loss(x, t).dtype == dtype
    assert {gradient.dtype.name for gradient in network.gradient(x, t).values()} == {dtype}


@examples(25)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.sampled_from(["relu", "sigmoid"]),
    st.sampled_from(BACKENDS),
    st.integers(0, 2**32 - 1),
)
def test_gradients_of_any_network(sizes, activation, backend, seed):
    rng = np.random.default_rng(seed)
    network = MLP(sizes, activation, 0.5, "float64", backend, seed)
    for key, parameter in network.params.items():
        if key[0] == "b":  # away from the kink of ReLU
            parameter[...] = rng.choice([-0.4, 0.4], parameter.shape)
    x = rng.choice([-1.0, 1.0], (4, sizes[0]))
    t = rng.integers(0, sizes[-1], 4)

    def loss(_):  # without the book's epsilon, which the gradient does not know of
        scores = network.predict(x)
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(4), t])

    analytic = network.gradient(x, t)
    for key, parameter in network.params.items():
        np.testing.assert_allclose(analytic[key], numerical_gradient(loss, parameter, h=1e-6), rtol=1e-6, atol=1e-8)
    assert list(check_gradients(network, x, t)) == list(network.params)


def test_a_wrong_gradient_is_found():
    class Wrong(MLP):
        def gradient(self, x, t):
            gradients = super().gradient(x, t)
            gradients["W2"][0, 0] += 0.01
            return gradients

    network = Wrong((4, 3, 2), dtype="float64", weight_init_std=0.5, seed=0)
    errors = check_gradients(network, *classification(rows=5, features=4, classes=2))
    assert errors["W2"] > 1e-3
    assert max(errors[key] for key in ("W1", "b1", "b2")) < 1e-5


def test_gradient_checks_need_float64():
    with pytest.raises(TypeError, match=r"params\['W1'\] must be float64 for a gradient check, got float32"):
        check_gradients(MLP((4, 2)), np.ones((1, 4)), [0])


def test_numerical_gradient_of_a_known_function():
    x = np.array([[3.0, -4.0], [0.5, 2.0]])
    np.testing.assert_allclose(numerical_gradient(lambda x: np.sum(x**3), x), 3 * x**2, rtol=1e-7)
    np.testing.assert_array_equal(x, [[3, -4], [0.5, 2]])
    np.testing.assert_allclose(numerical_gradient(lambda x: float(x**2), np.array(3.0)), 6.0)


def test_numerical_gradient_restores_x_when_f_fails():
    x = np.ones(2)
    with pytest.raises(ZeroDivisionError):
        numerical_gradient(lambda _: 1 / 0, x)
    np.testing.assert_array_equal(x, [1, 1])


@pytest.mark.parametrize("x", [np.array([1, 2]), 3.0, [1.0]])
def test_numerical_gradient_refuses_what_it_cannot_change_by_a_little(x):
    with pytest.raises(TypeError, match="x must be an array"):
        numerical_gradient(lambda x: 0, x)


def through_buffers(thing):
    """As dask and joblib send it: pickled with its arrays apart, which are read-only when they arrive."""
    buffers = []
    pickled = pickle.dumps(thing, 5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[bytes(buffer) for buffer in buffers])


COPIES = [
    copy.deepcopy,
    through_buffers,
    *(
        lambda thing, protocol=protocol: pickle.loads(pickle.dumps(thing, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ),
]


@pytest.mark.parametrize("make", COPIES)
def test_copies_go_on_training(make):
    x, t = np.random.default_rng(0).random((30, 4)), np.arange(30) % 2
    first = Trainer(MLP((4, 3, 2), seed=0, dtype="float64"), Adam(0.01), batch_size=10)
    first.fit(x, t, iterations=5, progress=False)
    pairs = [(make(first.network), make(first.optimizer)), (first.network, first.optimizer)]
    trainers = [Trainer(*pair, batch_size=10, seed=1) for pair in pairs]
    losses = [trainer.fit(x, t, iterations=5, progress=False).losses for trainer in trainers]
    np.testing.assert_array_equal(*losses)
    for trainer in trainers:
        trainer.optimizer.update(trainer.network.params, trainer.network.gradient(x, t))
    np.testing.assert_array_equal(*(trainer.network.parameters for trainer in trainers))


@pytest.mark.parametrize("make", COPIES)
def test_copies_are_whole_and_separate(make):
    network = MLP((4, 3, 2), backend="numpy", seed=0)
    other = make(network)
    other.params["W1"] += 1
    assert other.backend == "numpy"
    assert other.params["W1"].base is other.parameters
    assert other.layers["Affine1"].W is other.params["W1"]
    assert not np.array_equal(other.parameters, network.parameters)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": (3,)}, ValueError, "sizes must hold at least two widths"),
        ({"sizes": (3, 0, 2)}, ValueError, r"sizes\[1\] must be at least 1, got 0"),
        ({"sizes": (3, 2.5)}, TypeError, r"sizes\[1\] must be an integer, got 2.5"),
        ({"sizes": 784}, TypeError, "sizes must be a sequence of layer widths"),
        (
            {"activation": "swish"},
            ValueError,
            "activation must be one of 'relu', 'sigmoid'",
        ),
        ({"weight_init_std": "lecun"}, ValueError, "weight_init_std must be one of 'he', 'xavier', got 'lecun'"),
        ({"weight_init_std": -1}, ValueError, "weight_init_std must be a finite number of at least 0"),
        ({"dtype": "int32"}, ValueError, "dtype must be one of 'float32', 'float64', got 'int32'"),
        ({"dtype": "nonsense"}, ValueError, "dtype must be one of 'float32', 'float64', got 'nonsense'"),
        ({"backend": "torch"}, ValueError, "backend must be one of 'numpy', 'numba', got 'torch'"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MLP(**{"sizes": (4, 3), **arguments})


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_batches_are_refused(backend):
    network = MLP((4, 3), backend=backend)
    with pytest.raises(ValueError, match="x must have 4 features in each row, got 5"):
        network.predict(np.ones((2, 5)))
    with pytest.raises(ValueError, match="x must have at least one row, got none"):
        network.loss(np.ones((0, 4)), np.zeros(0, int))
    with pytest.raises(ValueError, match="from 0 to 2, got 3"):
        network.gradient(np.ones((2, 4)), [0, 3])
    with pytest.raises(ValueError, match="x must have at least one row, got none"):
        network.accuracy(np.ones((0, 4)), np.zeros(0, int))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_sgd(backend, dtype):
    params = {"W": np.ones((2, 3), dtype), "F": np.asfortranarray(np.ones((2, 3), dtype)), "s": np.ones(8, dtype)[::2]}
    kept = dict(params)
    SGD(0.5, backend).update(params, {key: np.full(array.shape, 2.0) for key, array in params.items()})
    for key, array in kept.items():
        assert params[key] is array
        np.testing.assert_array_equal(array, np.zeros(array.shape, dtype))


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (np.ones(3), ValueError, r"grads\['b'\] must have the shape \(2,\) of params\['b'\], got \(3,\)"),
        (np.ones(2, complex), TypeError, r"grads\['b'\] must be an array of real numbers"),
    ],
)
def test_sgd_changes_nothing_when_a_gradient_does_not_fit(gradient, error, message):
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    with pytest.raises(error, match=message):
        SGD(0.1).update(params, {"W": np.ones((2, 2)), "b": gradient})
    np.testing.assert_array_equal(params["W"], np.ones((2, 2)))


def test_sgd_refuses_read_only_parameters():
    frozen = np.ones(2)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="must be writable"):
        SGD(0.1).update({"b": frozen}, {"b": np.ones(2)})


@pytest.mark.parametrize("learning_rate", [-0.1, np.nan, np.inf])
def test_sgd_refuses_learning_rates_that_make_no_sense(learning_rate):
    with pytest.raises(ValueError, match="learning_rate must be a finite number of at least 0"):
        SGD(learning_rate)
