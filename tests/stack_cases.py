"""What the tests of stacks share: a script's layers and network, and steps of two of them beside each other."""

from __future__ import annotations

import itertools

import numpy as np
from conftest import TOLERANCE
from dropin_cases import assert_same

LAYERS = """
import numpy as np
from collections import OrderedDict

class Affine:
    def __init__(self, W, b):
        self.W = W
        self.b = b
        self.x = None
        self.original_x_shape = None
        self.dW = None
        self.db = None

    def forward(self, x):
        self.original_x_shape = x.shape
        x = x.reshape(x.shape[0], -1)
        self.x = x
        out = np.dot(self.x, self.W) + self.b
        return out

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        dx = dx.reshape(*self.original_x_shape)
        return dx

class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        self.mask = (x <= 0)
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        dx = dout
        return dx

class Sigmoid:
    def __init__(self):
        self.out = None

    def forward(self, x):
        out = 1 / (1 + np.exp(-x))
        self.out = out
        return out

    def backward(self, dout):
        dx = dout * (1.0 - self.out) * self.out
        return dx
"""
NETWORK = """
class Network:
    def __init__(self, layers):
        self.layers = OrderedDict((str(place), layer) for place, layer in enumerate(layers))

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def gradient(self, dout):
        layers = list(self.layers.values())
        layers.reverse()
        for layer in layers:
            dout = layer.backward(dout)
        return {key: layer.dW for key, layer in self.layers.items() if hasattr(layer, "dW")}
"""
NORMALIZATION = """
class BatchNormalization:
    def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.input_shape = None

        self.running_mean = running_mean
        self.running_var = running_var

        self.batch_size = None
        self.xc = None
        self.std = None
        self.dgamma = None
        self.dbeta = None

    def forward(self, x, train_flg=True):
        self.input_shape = x.shape
        if x.ndim != 2:
            N, C, H, W = x.shape
            x = x.reshape(N, -1)

        out = self.__forward(x, train_flg)

        return out.reshape(*self.input_shape)

    def __forward(self, x, train_flg):
        if self.running_mean is None:
            N, D = x.shape
            self.running_mean = np.zeros(D)
            self.running_var = np.zeros(D)

        if train_flg:
            mu = x.mean(axis=0)
            xc = x - mu
            var = np.mean(xc**2, axis=0)
            std = np.sqrt(var + 10e-7)
            xn = xc / std

            self.batch_size = x.shape[0]
            self.xc = xc
            self.xn = xn
            self.std = std
            self.running_mean = self.momentum * self.running_mean + (1-self.momentum) * mu
            self.running_var = self.momentum * self.running_var + (1-self.momentum) * var
        else:
            xc = x - self.running_mean
            xn = xc / ((np.sqrt(self.running_var + 10e-7)))

        out = self.gamma * xn + self.beta
        return out

    def backward(self, dout):
        if dout.ndim != 2:
            N, C, H, W = dout.shape
            dout = dout.reshape(N, -1)

        dx = self.__backward(dout)

        dx = dx.reshape(*self.input_shape)
        return dx

    def __backward(self, dout):
        dbeta = dout.sum(axis=0)
        dgamma = np.sum(self.xn * dout, axis=0)
        dxn = self.gamma * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / self.batch_size) * self.xc * dvar
        dmu = np.sum(dxc, axis=0)
        dx = dxc - dmu / self.batch_size

        self.dgamma = dgamma
        self.dbeta = dbeta

        return dx
"""
OTHER_LAYERS = """
import numpy as np
from collections import OrderedDict

class Linear:
    def __init__(self, W, b):
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, inputs):
        W, b = self.params
        self.inputs = inputs
        return inputs @ W + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = self.inputs.T @ dout
        self.grads[1][...] = dout.sum(axis=0)
        return dout @ W.T
Affine = Linear

class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dout):
        return np.where(self.mask, dout, 0)

class Rectifier:
    def forward(self, x):
        self.mask = x <= 0
        y = x.copy()
        y[self.mask] = 0
        return y

    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx
Relu = Rectifier

class Logistic:
    def forward(self, x):
        self.y = 1.0 / (1.0 + np.exp(-x))
        return self.y

    def backward(self, dout):
        return dout * self.y * (1.0 - self.y)
Sigmoid = Logistic
"""
OTHER_NORMALIZATION = """
class BatchNorm:
    def __init__(self, scale, shift, decay=0.9):
        self.scale, self.shift, self.decay = scale, shift, decay
        self.mean, self.var = None, None

    def forward(self, inputs, training=True):
        if self.mean is None:
            self.mean, self.var = np.zeros(inputs.shape[1]), np.zeros(inputs.shape[1])
        if training:
            mu = inputs.mean(axis=0)
            self.xc = inputs - mu
            var = np.mean(self.xc ** 2, axis=0)
            self.std = np.sqrt(var + 1e-5)
            self.xn = self.xc / self.std
            self.mean = self.decay * self.mean + (1 - self.decay) * mu
            self.var = self.decay * self.var + (1 - self.decay) * var
            return self.scale * self.xn + self.shift
        return self.scale * ((inputs - self.mean) / np.sqrt(self.var + 1e-5)) + self.shift

    def backward(self, dout):
        count = len(dout)
        self.dshift = dout.sum(axis=0)
        self.dscale = np.sum(self.xn * dout, axis=0)
        dxn = self.scale * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dxc += 2.0 / count * self.xc * (0.5 * dstd / self.std)
        return dxc - np.sum(dxc, axis=0) / count
BatchNormalization = BatchNorm
"""
DROPOUT = """
class Dropout:
    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio = dropout_ratio
        self.mask = None

    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = np.random.rand(*x.shape) > self.dropout_ratio
            return x * self.mask
        else:
            return x * (1.0 - self.dropout_ratio)

    def backward(self, dout):
        return dout * self.mask
"""
OTHER_DROPOUT = """
class Drop:
    def __init__(self, rate):
        self.rate, self.kept = rate, None

    def forward(self, inputs, training=True):
        if not training:
            return inputs
        self.kept = np.random.rand(*inputs.shape) > self.rate
        return inputs * self.kept / (1 - self.rate)

    def backward(self, dout):
        return dout * self.kept / (1 - self.rate)
Dropout = Drop
"""
RNG = np.random.default_rng(7)


def made_of(module, kinds, widths, seed=0, dtype=np.float64):
    """A module's network of layers of these kinds, with parameters of their own: "A" an affine one, "N" a normalisation,
    "D" dropout."""
    rng, given, layers = np.random.default_rng(seed), iter(itertools.pairwise(widths)), []
    for kind in kinds:
        if kind == "A":
            shape = next(given)
            layers.append(module.Affine(rng.standard_normal(shape).astype(dtype), np.ones(shape[1], dtype)))
        elif kind == "N":
            layers.append(module.BatchNormalization(rng.random(shape[1]) + 0.5, rng.standard_normal(shape[1])))
        elif kind == "D":
            layers.append(module.Dropout(0.3))
        else:
            layers.append(module.Relu() if kind == "R" else module.Sigmoid())
    return module.Network(layers)


def assert_same_state(fast, plain):
    for (key, one), other in zip(fast.layers.items(), plain.layers.values(), strict=True):
        assert vars(one).keys() == vars(other).keys()
        for name, value in vars(other).items():
            if isinstance(value, list):
                for place, part in enumerate(value):
                    assert_same(getattr(one, name)[place], part, f"{key}.{name}[{place}]")
            else:
                assert_same(getattr(one, name), value, f"{key}.{name}")


def predicted(network, x, seed, *flag):
    """The scores, and what is drawn after them."""
    np.random.seed(seed)
    return network.predict(x, *flag), np.random.rand(), np.random.randn()


def steps(networks, inputs, count=4, rate=1e-3):
    """Some steps of each network on the same inputs, with what is left in them compared after each half of one."""
    fast, plain = networks
    for step in range(count):
        x = inputs[step % len(inputs)]
        (one, *drawn), (other, *expected) = (predicted(network, x, step) for network in networks)
        assert_same(one, other, "scores")
        assert drawn == expected
        assert_same_state(fast, plain)
        dout = np.random.default_rng(step).standard_normal(other.shape).astype(other.dtype)
        fast.gradient(dout.copy())
        plain.gradient(dout.copy())
        assert_same_state(fast, plain)
        for network in networks:
            for layer in network.layers.values():
                if hasattr(layer, "W"):
                    layer.W -= rate * layer.dW
                    layer.b -= rate * layer.db


def assert_alike(actual, expected, dtype=np.float64):
    """What two backends' stacks give, as flat lists: within rounding, and masks the same."""
    tolerance = 100 * TOLERANCE[np.dtype(dtype).name]
    for one, other in zip(actual, expected, strict=True):
        assert (one is None) == (other is None)
        if one is None:
            continue
        assert np.shape(one) == np.shape(other)
        if isinstance(other, np.ndarray) and other.dtype == bool:
            np.testing.assert_array_equal(one, other)
        else:
            off = np.max(np.abs(np.asarray(one, float) - other), initial=0)
            assert off <= tolerance * max(np.max(np.abs(other), initial=0), 1)


def compiled(counts, name):
    count = counts.get(name)
    return 0 if count is None else count.calls - count.passed
