"""The peers: what people would train the same network with. Each is asked for a few updates at a time.

A contender is made of (sizes, weights, x, t), gets float32 data and the same initial weights, and has
`steps(batches)`, which makes one update of plain gradient descent for each row of batches, and `scores(x)`.
All compute in float32 but the textbook, which is what it is. Compiling and moving data happen before the clock starts.
compiles_for_each_length: whether another number of updates in one call is compiled anew.
"""

from __future__ import annotations

import itertools
import os
from importlib.util import find_spec

import numpy as np

from fastbp import MLP, SGD

from . import textbook

LEARNING_RATE = 0.1


def initial_weights(sizes, dtype="float64"):
    return MLP(sizes, dtype=dtype, backend="numpy", weight_init_std="he" if len(sizes) > 3 else 0.01, seed=0).params


class Fastbp:
    """The compiled engine, as Trainer calls it."""

    compiles_for_each_length = False

    def __init__(self, sizes, x, t, backend="numba", dtype="float32"):
        self.network = MLP(sizes, dtype=dtype, backend=backend, seed=0)
        for key, value in initial_weights(sizes).items():
            self.network.params[key][...] = value
        self.kernels, self.rule = self.network._kernels, SGD(LEARNING_RATE).rule
        self.x, self.t = self.kernels.prepare_data(x), t

    def steps(self, batches):
        network, losses = self.network, np.empty(len(batches))
        self.kernels.train_steps(
            network.parameters, network.architecture, (self.x, self.t), batches, self.rule,
            np.empty((0, network.parameters.size), network.dtype), (losses, np.zeros(1, np.int64)),
        )  # fmt: skip
        return losses

    def prepare(self, x):
        return self.kernels.prepare_data(x)

    def correct(self, x, t):
        network = self.network
        return self.kernels.count_correct(network.parameters, network.architecture, x, t)


class Textbook:
    """bench/textbook.py: float32 images, float64 weights, one-hot labels, a second forward pass for the loss."""

    compiles_for_each_length = False

    def __init__(self, sizes, x, t):
        self.network = textbook.TwoLayerNet(initial_weights(sizes))
        self.x, self.t = x, np.eye(sizes[-1])[t]

    def steps(self, batches):
        for rows in batches:
            x, t = self.x[rows], self.t[rows]
            gradient = self.network.gradient(x, t)
            for key in self.network.params:
                self.network.params[key] -= LEARNING_RATE * gradient[key]
            self.network.loss(x, t)

    def prepare(self, x):
        return x

    def correct(self, x, t):
        return int(np.sum(self.network.predict(x).argmax(axis=1) == t))


class HandWrittenNumPy:
    """What somebody who knows NumPy would write for speed: float32, one forward pass, no dx for the first layer."""

    compiles_for_each_length = False

    def __init__(self, sizes, x, t):
        params = initial_weights(sizes, "float32")
        self.layers = [(params[f"W{i}"], params[f"b{i}"]) for i in range(1, len(sizes))]
        self.x, self.t = x, t

    def steps(self, batches):
        every_row = np.arange(batches.shape[1])
        for rows in batches:
            outs = self.forward(self.x[rows])
            y = np.exp(outs[-1] - outs[-1].max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
            -np.log(y[every_row, self.t[rows]] + np.float32(1e-7)).mean()
            y[every_row, self.t[rows]] -= 1
            delta = y / np.float32(len(rows))
            for number in reversed(range(len(self.layers))):
                W, b = self.layers[number]
                before = (delta @ W.T) * (outs[number] > 0) if number else None
                W -= np.float32(LEARNING_RATE) * (outs[number].T @ delta)
                b -= np.float32(LEARNING_RATE) * delta.sum(axis=0)
                delta = before

    def forward(self, x):
        outs = [x]
        for W, b in self.layers:
            if len(outs) > 1:
                np.maximum(outs[-1], 0, out=outs[-1])
            outs.append(outs[-1] @ W + b)
        return outs

    def prepare(self, x):
        return x

    def correct(self, x, t):
        pieces = range(0, len(x), 10_000)
        return sum(int(np.sum(self.forward(x[i : i + 10_000])[-1].argmax(axis=1) == t[i : i + 10_000])) for i in pieces)


class Torch:
    """PyTorch, eager or compiled."""

    compiles_for_each_length = False

    def __init__(self, sizes, x, t, compiled=False, threads=None):
        import torch

        self.torch, self.threads = torch, threads or os.cpu_count()
        params, layers = initial_weights(sizes, "float32"), []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
            layers += [torch.nn.ReLU()] * (number > 1) + [torch.nn.Linear(inputs, outputs)]
            with torch.no_grad():
                layers[-1].weight.copy_(torch.from_numpy(params[f"W{number}"].T.copy()))
                layers[-1].bias.copy_(torch.from_numpy(params[f"b{number}"]))
        self.model = torch.nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        self.x, self.t = torch.from_numpy(x), torch.from_numpy(t)
        forward_loss = lambda x, t: torch.nn.functional.cross_entropy(self.model(x), t)  # noqa: E731
        self.forward_loss = torch.compile(forward_loss) if compiled else forward_loss

    def steps(self, batches):
        self.torch.set_num_threads(self.threads)
        for rows in self.torch.from_numpy(batches):
            self.optimizer.zero_grad()
            self.forward_loss(self.x[rows], self.t[rows]).backward()
            self.optimizer.step()

    def prepare(self, x):
        return self.torch.from_numpy(x)

    def correct(self, x, t):
        with self.torch.no_grad():
            return int(np.sum(self.model(x).argmax(axis=1).numpy() == t))


class Jax:
    """JAX, one jitted scan over all the steps of a call."""

    compiles_for_each_length = True

    def __init__(self, sizes, x, t):
        import jax
        import jax.numpy as jnp

        params = initial_weights(sizes, "float32")
        self.params = [(jnp.array(params[f"W{i}"]), jnp.array(params[f"b{i}"])) for i in range(1, len(sizes))]
        self.x, self.t = jnp.array(x), jnp.array(t.astype(np.int32))

        def forward(params, x):
            for W, b in params[:-1]:
                x = jax.nn.relu(x @ W + b)
            return x @ params[-1][0] + params[-1][1]

        def loss(params, x, t):
            return -jnp.mean(jax.nn.log_softmax(forward(params, x))[jnp.arange(len(t)), t])

        def step(params, rows, x, t):
            value, gradients = jax.value_and_grad(loss)(params, x[rows], t[rows])
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, gradients), value

        self.scan = jax.jit(lambda p, batches, x, t: jax.lax.scan(lambda p, rows: step(p, rows, x, t), p, batches))
        self.predict = jax.jit(lambda p, x: forward(p, x).argmax(axis=1))
        self.jax = jax

    def steps(self, batches):
        self.params, losses = self.scan(self.params, batches.astype(np.int32), self.x, self.t)
        losses.block_until_ready()

    def prepare(self, x):
        return self.jax.numpy.array(x)

    def correct(self, x, t):
        return int(np.sum(np.asarray(self.predict(self.params, x)) == t))


class ScikitLearn:
    """scikit-learn's MLPClassifier through partial_fit, which is its way to train on a batch at a time."""

    compiles_for_each_length = False

    def __init__(self, sizes, x, t):
        from sklearn.neural_network import MLPClassifier

        self.x, self.t = x, t
        self.model = MLPClassifier(sizes[1:-1], solver="sgd", learning_rate_init=LEARNING_RATE, alpha=0, momentum=0)
        self.model.partial_fit(x[:1], t[:1], classes=np.arange(sizes[-1]))
        for number, (W, b) in enumerate(zip(self.model.coefs_, self.model.intercepts_, strict=True), 1):
            W[...] = initial_weights(sizes, "float32")[f"W{number}"]
            b[...] = 0

    def steps(self, batches):
        self.model.batch_size = batches.shape[1]
        for rows in batches:
            self.model.partial_fit(self.x[rows], self.t[rows])

    def prepare(self, x):
        return x

    def correct(self, x, t):
        return int(np.sum(self.model.predict(x) == t))


def installed(recipe):
    """name -> how to make it (sizes, x, t), of all that is installed; some only for the recipe."""
    found = {"fastbp float32": Fastbp}
    if recipe:
        found["fastbp float64"] = lambda *data: Fastbp(*data, dtype="float64")
        found["textbook layers"] = Textbook
    found["NumPy float32"] = HandWrittenNumPy
    if find_spec("torch"):
        found["PyTorch eager, 1 thread"] = lambda *data: Torch(*data, threads=1)
        found["PyTorch eager"] = Torch
        found["PyTorch compiled"] = lambda *data: Torch(*data, compiled=True)
    if find_spec("jax"):
        found["JAX jit + scan"] = Jax
    if recipe and find_spec("sklearn"):
        found["scikit-learn"] = ScikitLearn
    return found


__all__ = ["Fastbp", "initial_weights", "installed"]
