"""The book's common/multi_layer_net.py: fully connected networks of any depth."""

import os
import sys
from collections import OrderedDict
from itertools import pairwise as _pairwise

import numpy as np

from ._book import drops_the_first as _drops_the_first
from .gradient import numerical_gradient
from .layers import *
from .layers import Affine, Relu, Sigmoid, SoftmaxWithLoss

_ACTIVATIONS = {"sigmoid": Sigmoid, "relu": Relu}


class MultiLayerNet:
    """input_size inputs, layers of hidden_size_list units, output_size classes.

    activation: 'relu' or 'sigmoid'. weight_init_std: the standard deviation of the weights, or 'relu' or 'he' for
    sqrt(2 / n), 'sigmoid' or 'xavier' for sqrt(1 / n). weight_decay_lambda: the strength of the L2 norm in the loss.
    """

    def __init__(
        self,
        input_size,
        hidden_size_list,
        output_size,
        activation="relu",
        weight_init_std="relu",
        weight_decay_lambda=0,
    ):
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size_list = hidden_size_list
        self.hidden_layer_num = len(hidden_size_list)
        self.weight_decay_lambda = weight_decay_lambda
        self.params = _draw([input_size, *hidden_size_list, output_size], weight_init_std)
        self.layers = OrderedDict()
        for place in range(1, self.hidden_layer_num + 1):
            self.layers[f"Affine{place}"] = Affine(self.params[f"W{place}"], self.params[f"b{place}"])
            self._add_between(place)
            self.layers[f"Activation_function{place}"] = _ACTIVATIONS[activation]()
            self._add_after(place)
        last = self.hidden_layer_num + 1
        self.layers[f"Affine{last}"] = Affine(self.params[f"W{last}"], self.params[f"b{last}"])
        self.last_layer = SoftmaxWithLoss()

    def _add_between(self, place):
        """For networks that have a layer before each activation."""

    def _add_after(self, place):
        """For networks that have a layer after each activation."""

    def predict(self, x):
        """x (N, inputs) -> scores (N, classes)."""
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x, t):
        """x (N, inputs), t: class indices or one-hot -> the error, and the weight decay's share."""
        return self.last_layer.forward(self.predict(x), t) + self._weight_decay()

    def _weight_decay(self):
        decay = 0
        for place in range(1, self.hidden_layer_num + 2):
            decay += 0.5 * self.weight_decay_lambda * np.sum(self.params[f"W{place}"] ** 2)
        return decay

    def accuracy(self, x, t):
        """x (N, inputs), t: class indices or one-hot -> the share of rows whose largest score is the label's."""
        y = np.argmax(self.predict(x), axis=1)
        labels = t if t.ndim == 1 else np.argmax(t, axis=1)
        return np.sum(y == labels) / float(x.shape[0])

    def numerical_gradient(self, x, t):
        """Like `gradient`, by central differences."""
        return {key: numerical_gradient(lambda _: self.loss(x, t), self.params[key]) for key in self._gradient_keys()}

    def gradient(self, x, t):
        """x, t as for loss -> gradients by the names of `params`, by backpropagation."""
        self.loss(x, t)
        self._backward()
        gradients = {}
        for place in range(1, self.hidden_layer_num + 2):
            layer = self.layers[f"Affine{place}"]
            gradients[f"W{place}"] = layer.dW + self.weight_decay_lambda * layer.W
            gradients[f"b{place}"] = layer.db
        return gradients

    @_drops_the_first
    def _backward(self):
        dout = self.last_layer.backward(1)
        layers = list(self.layers.values())
        layers.reverse()
        for layer in layers:
            dout = layer.backward(dout)

    def _gradient_keys(self):
        return [f"{kind}{place}" for place in range(1, self.hidden_layer_num + 2) for kind in "Wb"]


def _draw(sizes, weight_init_std):
    """Weights and biases; the book's order of draws."""
    params = {}
    for place, (rows, columns) in enumerate(_pairwise(sizes), 1):
        scale = weight_init_std
        if str(weight_init_std).lower() in ("relu", "he"):
            scale = np.sqrt(2.0 / rows)
        elif str(weight_init_std).lower() in ("sigmoid", "xavier"):
            scale = np.sqrt(1.0 / rows)
        params[f"W{place}"] = scale * np.random.randn(rows, columns)
        params[f"b{place}"] = np.zeros(columns)
    return params
