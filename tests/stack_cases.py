"""What the tests of stacks share: a script's layers and network, and steps of two of them beside each other."""

from __future__ import annotations

import itertools

import numpy as np
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
RNG = np.random.default_rng(7)


def made_of(module, kinds, widths, seed=0, dtype=np.float64):
    """A module's network of layers of these kinds, "A" an affine one, with parameters of its own."""
    rng, given, layers = np.random.default_rng(seed), iter(itertools.pairwise(widths)), []
    for kind in kinds:
        if kind == "A":
            shape = next(given)
            layers.append(module.Affine(rng.standard_normal(shape).astype(dtype), np.ones(shape[1], dtype)))
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


def steps(networks, inputs, count=4, rate=1e-3):
    """Some steps of each network on the same inputs, with what is left in them compared after each half of one."""
    fast, plain = networks
    for step in range(count):
        x = inputs[step % len(inputs)]
        one, other = fast.predict(x), plain.predict(x)
        assert_same(one, other, "scores")
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


def compiled(counts, name):
    count = counts.get(name)
    return 0 if count is None else count.calls - count.passed
