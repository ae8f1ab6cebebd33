"""Layers that keep in attributes what others are given: whether they train, an epsilon, a tuple of what backward needs."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_layers_agree, assert_same, taken

FLAGS = """
import numpy as np


class Dropout:
    def __init__(self, ratio):
        self.ratio, self.training = ratio, True

    def forward(self, x):
        if not self.training:
            return x * (1.0 - self.ratio)
        self.mask = np.random.rand(*x.shape) > self.ratio
        return x * self.mask

    def backward(self, dout):
        if not self.training:
            return dout
        return dout * self.mask


class BatchNorm:
    def __init__(self, gamma, beta):
        self.g, self.shift, self.eps, self.rho, self.training = gamma, beta, 1e-5, 0.9, True
        self.mean, self.variance = np.zeros(len(gamma)), np.ones(len(gamma))

    def forward(self, x):
        if self.training:
            mu, var = x.mean(axis=0), x.var(axis=0)
            self.xc, self.inverse = x - mu, 1 / np.sqrt(var + self.eps)
            self.mean = self.rho * self.mean + (1 - self.rho) * mu
            self.variance = self.rho * self.variance + (1 - self.rho) * var
            return self.g * (self.xc * self.inverse) + self.shift
        return self.g * (x - self.mean) / np.sqrt(self.variance + self.eps) + self.shift

    def backward(self, dout):
        count, xn = len(dout), self.xc * self.inverse
        self.dshift, self.dg = dout.sum(axis=0), (xn * dout).sum(axis=0)
        dxn = self.g * dout
        return (count * dxn - dxn.sum(axis=0) - xn * (dxn * xn).sum(axis=0)) / count * self.inverse
"""

OF_IMAGES = """
import numpy as np


class BatchNorm2d:
    def __init__(self, gamma, beta, eps=1e-6):
        self.gamma, self.beta, self.eps = gamma.reshape(1, -1, 1, 1), beta.reshape(1, -1, 1, 1), eps

    def forward(self, x):
        mu, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
        std = np.sqrt(var + self.eps)
        x_hat = (x - mu) / std
        KEEPS
        return self.gamma * x_hat + self.beta

    def backward(self, dout):
        count = dout.shape[0] * dout.shape[2] * dout.shape[3]
        TAKES
        self.dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)
        self.dgamma = (x_hat * dout).sum(axis=(0, 2, 3), keepdims=True)
        dxn = self.gamma * dout
        sums = dxn.sum(axis=(0, 2, 3), keepdims=True), (dxn * x_hat).sum(axis=(0, 2, 3), keepdims=True)
        return (count * dxn - sums[0] - x_hat * sums[1]) / (count * std)
"""

KEPT = {
    "x, mean and variance": (
        "self.x, self.mu, self.var = x, mu, var",
        "std = np.sqrt(self.var + self.eps); x_hat = (self.x - self.mu) / std",
    ),
    "normalised, and the deviation": ("self.x_hat, self.std = x_hat, std", "x_hat, std = self.x_hat, self.std"),
    "a tuple": ("self.cache = (x_hat, std)", "x_hat, std = self.cache"),
}

TUPLES = """
import numpy as np


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.cache = (x, self.W)
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        x, W = self.cache
        self.dW, self.db = np.dot(x.T, dout), dout.sum(axis=0)
        return np.dot(dout, W.T)
"""

CONSTANT = """
import numpy as np


class Relu:
    def __init__(self):
        self.floor, self.name = 0, "relu"

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = self.floor
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout
"""


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_an_attribute_says_whether_the_network_trains(both):
    plain, fast, counts = both(FLAGS)
    x, dout = normal(9, 4), normal(9, 4)
    pairs = [[module.Dropout(0.3) for module in (plain, fast)]]
    pairs.append([module.BatchNorm(normal(4), normal(4)) for module in (plain, fast)])
    for layers in pairs:
        for training in (True, True, False, True):
            for layer in layers:
                layer.training = training
            np.random.seed(3)
            expected = layers[0].forward(x)
            np.random.seed(3)
            assert_same(layers[1].forward(x), expected, training)
            assert_layers_agree(layers, [("backward", dout)])
    assert taken(counts, "Dropout.backward") == 3
    for name in ("Dropout.forward", "BatchNorm.forward", "BatchNorm.backward"):
        assert taken(counts, name) == 4


@pytest.mark.parametrize("value", [1, 0.0, None, np.array(True)])
def test_a_flag_that_is_none_is_left_to_the_layer(both, value):
    plain, fast, counts = both(FLAGS)
    layers = [module.BatchNorm(normal(4), normal(4)) for module in (plain, fast)]
    assert_layers_agree(layers, [("forward", normal(9, 4))])
    for layer in layers:
        layer.training = value
    assert_layers_agree(layers, [("forward", normal(9, 4))])
    assert taken(counts, "BatchNorm.forward") == 1


@pytest.mark.parametrize("kept", KEPT)
def test_batch_normalisation_of_images_whatever_it_keeps(both, kept):
    source = OF_IMAGES.replace("KEEPS", KEPT[kept][0]).replace("TAKES", KEPT[kept][1])
    plain, fast, counts = both(source)
    layers = [module.BatchNorm2d(normal(3), normal(3)) for module in (plain, fast)]
    x = normal(6, 3, 4, 5)
    assert_layers_agree(layers, [("forward", x), ("backward", x[::-1]), ("forward", 3 * x), ("backward", x)])
    assert taken(counts, "BatchNorm2d.forward") == taken(counts, "BatchNorm2d.backward") == 2
    with np.errstate(all="ignore"):
        x[0, 0, 0, 0] = np.inf
        assert_layers_agree(layers, [("forward", x), ("backward", x)])


def test_an_epsilon_that_somebody_changes(both):
    source = OF_IMAGES.replace("KEEPS", KEPT["a tuple"][0]).replace("TAKES", KEPT["a tuple"][1])
    plain, fast, counts = both(source)
    layers = [module.BatchNorm2d(normal(3), normal(3)) for module in (plain, fast)]
    x = normal(6, 3, 4, 5)
    for eps in (1e-6, 0.5, np.float64(1e-6), 1e-6):
        for layer in layers:
            layer.eps = eps
        assert_layers_agree(layers, [("forward", x), ("backward", x)])
    assert taken(counts, "BatchNorm2d.forward") == 2


def test_what_is_computed_of_attributes_warns_as_the_layer_does(both):
    """Where x - mean overflows, say, kernels have read it before they leave the call to the layer."""
    source = OF_IMAGES.replace("KEEPS", KEPT["x, mean and variance"][0]).replace(
        "TAKES", KEPT["x, mean and variance"][1]
    )
    plain, fast, _ = both(source)
    layers = [module.BatchNorm2d(normal(3), normal(3)) for module in (plain, fast)]
    x = normal(6, 3, 4, 5)
    assert_layers_agree(layers, [("forward", x), ("backward", x)])
    for layer in layers:
        layer.x = np.full_like(x, np.inf)
        layer.mu = np.full((1, 3, 1, 1), np.inf)
    warned = []
    for layer in layers:
        with pytest.warns(RuntimeWarning) as record:
            layer.backward(x)
        warned.append([(one.filename, one.lineno, str(one.message)) for one in record])
    assert len(warned[0]) == len(warned[1])
    assert [one[1:] for one in warned[0]] == [one[1:] for one in warned[1]]


def test_a_tuple_of_what_backward_needs(both):
    plain, fast, counts = both(TUPLES)
    layers = [module.Affine(normal(4, 3), normal(3)) for module in (plain, fast)]
    assert_layers_agree(layers, [("forward", normal(9, 4)), ("backward", normal(9, 3))] * 2)
    assert taken(counts, "Affine.forward") == taken(counts, "Affine.backward") == 2
    assert layers[1].cache[1] is layers[1].W


STATIC = """
import numpy as np


class Functions:
    @staticmethod
    def softmax(x):
        x = x - np.max(x, axis=1, keepdims=True)
        return np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True)


class SoftmaxWithLoss:
    @staticmethod
    def entropy(y, t):
        return -np.sum(t * np.log(y + 1e-7)) / y.shape[0]

    def forward(self, x, t):
        self.t, self.y = t, Functions.softmax(x)
        self.loss = self.entropy(self.y, t)
        return self.loss

    def backward(self, dout=1):
        return (self.y - self.t) / self.t.shape[0]
"""


def test_static_methods_are_looked_into_and_may_be_replaced(both):
    plain, fast, counts = both(STATIC)
    layers, x, t = [module.SoftmaxWithLoss() for module in (plain, fast)], normal(9, 4), np.eye(4)[np.arange(9) % 4]
    assert_layers_agree(layers, [("forward", x, t), ("backward",)] * 2)
    assert taken(counts, "SoftmaxWithLoss.forward") == taken(counts, "SoftmaxWithLoss.backward") == 2
    for module in (plain, fast):
        module.Functions.softmax = staticmethod(lambda x: np.full_like(x, 0.25))
    assert_layers_agree(layers, [("forward", x, t), ("backward",)])
    for module in (plain, fast):
        module.SoftmaxWithLoss.entropy = staticmethod(lambda y, t: y.sum())
    assert_layers_agree(layers, [("forward", x, t)])
    assert taken(counts, "SoftmaxWithLoss.forward") == 2


def test_a_static_method_that_prints_leaves_the_layer_alone(both):
    plain, fast, counts = both(
        STATIC.replace("        x = x - np.max", "        print(x.shape)\n        x = x - np.max")
    )
    layers, x, t = [module.SoftmaxWithLoss() for module in (plain, fast)], normal(9, 4), np.eye(4)[np.arange(9) % 4]
    assert_layers_agree(layers, [("forward", x, t), ("backward",)])
    assert taken(counts, "SoftmaxWithLoss.forward") == 0


def test_a_number_that_is_no_setting_of_the_kernel(both):
    plain, fast, counts = both(CONSTANT)
    layers = [module.Relu() for module in (plain, fast)]
    x = normal(9, 4)
    for floor in (0, -1, 0, False, None):
        for layer in layers:
            layer.floor = floor
        assert_layers_agree(layers, [("forward", x)])
    assert taken(counts, "Relu.forward") == 2


@pytest.mark.parametrize("floor", ["np.zeros(1)", "[0]", "np.float64(0)", "float('inf') * 0"])
def test_what_is_no_plain_number_leaves_the_layer_alone(both, floor):
    source = CONSTANT.replace("self.floor, self.name = 0, ", f"self.floor, self.name = {floor}, ")
    plain, fast, counts = both(source)
    layers = [module.Relu() for module in (plain, fast)]
    assert_layers_agree(layers, [("forward", normal(9, 4))] * 2)
    assert taken(counts, "Relu.forward") == 0


DEBUGGED = """
import numpy as np

DEBUG = False
CHECKS = True


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        if DEBUG:
            print("x", x.shape)
        if CHECKS:
            assert x.ndim == 2
        else:
            print("not checked")
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
        if not DEBUG:
            return np.dot(dout, self.W.T)
        print("dout", dout.shape)
        return np.dot(dout, self.W.T)
"""


def test_flags_of_the_module_count_as_they_are(both, capsys):
    plain, fast, counts = both(DEBUGGED)
    layers = [module.Affine(np.arange(12.0).reshape(4, 3), np.ones(3)) for module in (plain, fast)]
    for debug in (False, True, False):
        plain.DEBUG = fast.DEBUG = debug
        said = []
        for layer in layers:
            layer.forward(np.ones((9, 4)))
            layer.backward(np.ones((9, 3)))
            said.append(capsys.readouterr().out)
        assert_layers_agree(layers, [("forward", normal(9, 4)), ("backward", normal(9, 3))])
        assert said[0] == said[1] == ("x (9, 4)\ndout (9, 3)\n" if debug else "")
        capsys.readouterr()
    assert taken(counts, "Affine.forward") == taken(counts, "Affine.backward") == 4


def test_a_number_of_the_module_counts_as_it_is(both):
    """It is looked at in each call: somebody may set another one."""
    source = STATIC.replace("class SoftmaxWithLoss", "EPSILON = 1e-3\n\n\nclass SoftmaxWithLoss").replace(
        "1e-7", "EPSILON"
    )
    plain, fast, counts = both(source)
    layers, x, t = (
        [module.SoftmaxWithLoss() for module in (plain, fast)],
        10 * normal(9, 4),
        np.eye(4)[np.arange(9) % 4],
    )
    for calls in (1, 2, 2):
        assert_layers_agree(layers, [("forward", x, t)])
        assert taken(counts, "SoftmaxWithLoss.forward") == calls
        if calls == 2:
            plain.EPSILON = fast.EPSILON = 1e-2


IN_PLACE = """
import numpy as np


class Linear:
    def __init__(self, W, b):
        self.w, self.b = W, b
        self.grad_w, self.grad_b = np.zeros_like(W), np.zeros_like(b)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dout):
        self.grad_w[...] = self.x.T @ dout
        self.grad_b[...] = dout.sum(axis=0)
        return dout @ self.w.T
"""


@pytest.mark.parametrize("shape", [(40, 30), (150, 100), (600, 400)])
def test_gradients_are_written_into_large_arrays_too(both, shape):
    plain, fast, counts = both(IN_PLACE)
    layers = [module.Linear(normal(*shape), normal(shape[1])) for module in (plain, fast)]
    gradient = layers[1].grad_w
    assert_layers_agree(layers, [("forward", normal(9, shape[0])), ("backward", normal(9, shape[1]))] * 2)
    assert taken(counts, "Linear.forward") == taken(counts, "Linear.backward") == 2
    assert layers[1].grad_w is gradient


STATIC_RELU = """
import numpy as np


class Relu:
    @staticmethod
    def forward(x):
        return np.maximum(x, 0)

    @classmethod
    def backward(cls, dout):
        return cls.forward(dout)
"""


def test_a_layer_of_static_methods_is_left(both):
    plain, fast, counts = both(STATIC_RELU)
    assert_layers_agree([plain.Relu(), fast.Relu()], [("forward", normal(9, 4)), ("backward", normal(9, 4))])
    assert_same(fast.Relu.forward(normal(9, 4)), plain.Relu.forward(normal(9, 4)), "forward")
    assert not counts


@pytest.mark.parametrize("flag", ["np.array(False)", "0", "None", "[]"])
def test_what_is_no_flag_of_the_module_is_left(both, flag):
    plain, fast, counts = both(DEBUGGED.replace("CHECKS = True", f"CHECKS = {flag}"))
    layers = [module.Affine(np.ones((4, 3)), np.ones(3)) for module in (plain, fast)]
    assert_layers_agree(layers, [("forward", normal(9, 4)), ("backward", normal(9, 3))])
    assert taken(counts, "Affine.forward") == 0
