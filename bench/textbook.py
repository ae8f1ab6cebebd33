"""What people run today: a network of layers in plain NumPy as textbooks write it, trained by the recipe's own loop.

float32 images, float64 weights, one-hot labels, a second forward pass for the loss, all images at once to evaluate.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
        return np.dot(dout, self.W.T)


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class SoftmaxWithLoss:
    def forward(self, x, t):
        x = x - np.max(x, axis=-1, keepdims=True)
        self.y, self.t = np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True), t
        rows = np.arange(len(t))
        return -np.sum(np.log(self.y[rows, t.argmax(axis=1)] + 1e-7)) / len(t)

    def backward(self):
        return (self.y - self.t) / len(self.t)


class TwoLayerNet:
    def __init__(self, parameters):
        self.params = {key: value.copy() for key, value in parameters.items()}
        self.layers = OrderedDict(
            Affine1=Affine(self.params["W1"], self.params["b1"]),
            Relu1=Relu(),
            Affine2=Affine(self.params["W2"], self.params["b2"]),
        )
        self.last = SoftmaxWithLoss()

    def predict(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        return self.last.forward(self.predict(x), t)

    def accuracy(self, x, t):
        return np.sum(self.predict(x).argmax(axis=1) == t.argmax(axis=1)) / len(x)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        first, second = self.layers["Affine1"], self.layers["Affine2"]
        return {"W1": first.dW, "b1": first.db, "W2": second.dW, "b2": second.db}


def train(parameters, train, test, iterations, batch_size=100, learning_rate=0.1, evaluate_every=600, seed=0):
    """The recipe's loop on (x, one-hot t) pairs: every loss, and (train, test) accuracy at each evaluation."""
    network, losses, accuracies = TwoLayerNet(parameters), [], []
    random = np.random.RandomState(seed)
    for iteration in range(iterations):
        rows = random.choice(len(train[0]), batch_size)
        x, t = train[0][rows], train[1][rows]
        gradient = network.gradient(x, t)
        for key in network.params:
            network.params[key] -= learning_rate * gradient[key]
        losses.append(network.loss(x, t))
        if iteration % evaluate_every == 0:
            accuracies.append((network.accuracy(*train), network.accuracy(*test)))
    return losses, accuracies
