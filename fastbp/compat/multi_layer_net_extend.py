"""The book's common/multi_layer_net_extend.py: MultiLayerNet with Dropout and batch normalisation."""

import os
import sys
from collections import OrderedDict

import numpy as np

from .gradient import numerical_gradient
from .layers import *
from .layers import BatchNormalization, Dropout
from .multi_layer_net import MultiLayerNet as _MultiLayerNet


class MultiLayerNetExtend(_MultiLayerNet):
    """The arguments of MultiLayerNet, and use_dropout, dropout_ration (the book's spelling), use_batchnorm."""

    def __init__(
        self,
        input_size,
        hidden_size_list,
        output_size,
        activation="relu",
        weight_init_std="relu",
        weight_decay_lambda=0,
        use_dropout=False,
        dropout_ration=0.5,
        use_batchnorm=False,
    ):
        self.use_dropout = use_dropout
        self.use_batchnorm = use_batchnorm
        self._dropout_ratio = dropout_ration
        super().__init__(input_size, hidden_size_list, output_size, activation, weight_init_std, weight_decay_lambda)

    def _add_between(self, place):
        if self.use_batchnorm:
            gamma = self.params[f"gamma{place}"] = np.ones(self.hidden_size_list[place - 1])
            beta = self.params[f"beta{place}"] = np.zeros(self.hidden_size_list[place - 1])
            self.layers[f"BatchNorm{place}"] = BatchNormalization(gamma, beta)

    def _add_after(self, place):
        if self.use_dropout:
            self.layers[f"Dropout{place}"] = Dropout(self._dropout_ratio)

    def predict(self, x, train_flg=False):
        """x (N, inputs) -> scores (N, classes)."""
        for name, layer in self.layers.items():
            x = layer.forward(x, train_flg) if "Dropout" in name or "BatchNorm" in name else layer.forward(x)
        return x

    def loss(self, x, t, train_flg=False):
        """x (N, inputs), t: class indices or one-hot -> the error, and the weight decay's share."""
        return self.last_layer.forward(self.predict(x, train_flg), t) + self._weight_decay()

    def numerical_gradient(self, x, t):
        """Like `gradient`, by central differences."""

        def loss(_):
            return self.loss(x, t, train_flg=True)

        return {key: numerical_gradient(loss, self.params[key]) for key in self._gradient_keys()}

    def gradient(self, x, t):
        """x, t as for loss -> gradients by the names of `params`, by backpropagation."""
        self.loss(x, t, train_flg=True)
        self._backward()
        gradients = {}
        for place in range(1, self.hidden_layer_num + 2):
            layer = self.layers[f"Affine{place}"]
            gradients[f"W{place}"] = layer.dW + self.weight_decay_lambda * self.params[f"W{place}"]
            gradients[f"b{place}"] = layer.db
            if self.use_batchnorm and place <= self.hidden_layer_num:
                normalization = self.layers[f"BatchNorm{place}"]
                gradients[f"gamma{place}"], gradients[f"beta{place}"] = normalization.dgamma, normalization.dbeta
        return gradients

    def _gradient_keys(self):
        keys = []
        for place in range(1, self.hidden_layer_num + 2):
            keys += [f"W{place}", f"b{place}"]
            if self.use_batchnorm and place <= self.hidden_layer_num:
                keys += [f"gamma{place}", f"beta{place}"]
        return keys
