"""What the tests of networks of any layers share: some images, a network, an own layer, a short training."""

from __future__ import annotations

import numpy as np

from fastbp import Adam, Sequential, Trainer, nn

BACKENDS = ("numpy", "numba")
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((60, 2, 8, 8)), RNG.integers(0, 4, 60)
CONV = (nn.Conv(3, 3, pad=1), nn.BatchNorm(), nn.Tanh(), nn.AveragePool(2), nn.Dropout(0.3), nn.Affine(4))


class Scale:
    """A user's own layer: x * factor + shift, and how often it was called to train."""

    parameters = ("factor", "shift")
    decayed = ("factor",)
    statistics = ("calls",)

    def __init__(self):
        self.factor, self.shift, self.calls = np.full(3, 1.5), np.zeros(3), np.zeros(1)

    def forward(self, x, train_flg=False):
        self.x, self.calls = x, self.calls + train_flg
        return x * self.factor + self.shift

    def backward(self, dout):
        self.dfactor, self.dshift = (dout * self.x).sum(axis=0), dout.sum(axis=0)
        return dout * self.factor


def conv_net(layers=CONV, **options):
    return Sequential((2, 8, 8), layers, **{"dtype": "float64", "seed": 0, **options})


def trained(network, iterations=30, trainer=(), data=(IMAGES, LABELS), **options):
    trainer = Trainer(network, **{"optimizer": Adam(0.01), "batch_size": 10, "seed": 1, **dict(trainer)})
    return trainer.fit(*data, iterations=iterations, progress=False, **options)
