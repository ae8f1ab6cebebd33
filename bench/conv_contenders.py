"""The peers of convolutional networks: the book's two, trained with Adam, by fastbp, NumPy, PyTorch and JAX.

All compute in float32, with the same architecture, initial weights, batches and learning rate. A contender is made of
(network, x, t) and has `steps(batches)`, one update for each row of batches; compiling happens before the clock starts.
"""

from __future__ import annotations

import itertools
import os
from importlib.util import find_spec

import numpy as np

from fastbp import Adam, DeepConvNet, SimpleConvNet
from fastbp.layers import Affine, Convolution, Pooling, Relu

NETWORKS = {"SimpleConvNet": SimpleConvNet, "DeepConvNet": DeepConvNet}
LEARNING_RATE = 0.001


class Fastbp:
    """As Trainer trains it, on either backend."""

    def __init__(self, network, x, t, backend="numba"):
        self.network = NETWORKS[network](dtype="float32", backend=backend, seed=0)
        self.optimizer = Adam(LEARNING_RATE, backend=backend)
        self.data = self.network._engine.prepare_data(x, None), t
        self.state = self.optimizer.memory_of(self.network.parameters)

    def steps(self, batches):
        record = np.empty(len(batches)), np.zeros(1, np.int64)
        self.network._engine.train_steps(self.data, batches, self.optimizer.rule, self.state, record, None)
        self.optimizer.steps += len(batches)


def layers_of(network):
    """("conv" | "pool" | "affine" | "relu" | "dropout", W, b, pad) of each layer, with initial weights."""
    for layer in NETWORKS[network](dtype="float32", backend="numpy", seed=0).layers.values():
        if isinstance(layer, Convolution):
            yield "conv", layer.W, layer.b, layer.pad
        elif isinstance(layer, Affine):
            yield "affine", layer.W, layer.b, 0
        else:
            yield (
                "pool" if isinstance(layer, Pooling) else "relu" if isinstance(layer, Relu) else "dropout",
                None,
                None,
                0,
            )


class Torch:
    """PyTorch, eager or compiled, in as many threads as there are processors."""

    def __init__(self, network, x, t, compiled=False):
        import torch

        self.torch, layers, flat = torch, [], False
        for kind, W, b, pad in layers_of(network):
            if kind == "affine" and not flat:
                layers.append(torch.nn.Flatten())
                flat = True
            layers.append(
                {
                    "conv": lambda W=W, pad=pad: torch.nn.Conv2d(W.shape[1], W.shape[0], W.shape[2], padding=pad),
                    "affine": lambda W=W: torch.nn.Linear(*W.shape),
                    "pool": lambda: torch.nn.MaxPool2d(2),
                    "relu": torch.nn.ReLU,
                    "dropout": lambda: torch.nn.Dropout(0.5),
                }[kind]()
            )
            if W is not None:
                with torch.no_grad():
                    layers[-1].weight.copy_(torch.from_numpy(np.ascontiguousarray(W if W.ndim == 4 else W.T)))
                    layers[-1].bias.copy_(torch.from_numpy(b.copy()))
        model = torch.nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        self.x, self.t = torch.from_numpy(x), torch.from_numpy(t)
        forward_loss = lambda x, t: torch.nn.functional.cross_entropy(model(x), t)  # noqa: E731
        self.forward_loss = torch.compile(forward_loss) if compiled else forward_loss

    def steps(self, batches):
        self.torch.set_num_threads(os.cpu_count())
        for rows in self.torch.from_numpy(batches):
            self.optimizer.zero_grad()
            self.forward_loss(self.x[rows], self.t[rows]).backward()
            self.optimizer.step()


class Jax:
    """JAX, one jitted update for each step."""

    def __init__(self, network, x, t):
        import jax
        import jax.numpy as jnp

        kinds = [(kind, pad) for kind, _, _, pad in layers_of(network)]
        params = [None if W is None else (jnp.array(W), jnp.array(b)) for _, W, b, _ in layers_of(network)]

        def forward(params, x, key):
            for (kind, pad), own in zip(kinds, params, strict=True):
                if kind == "conv":
                    x = jax.lax.conv_general_dilated(x, own[0], (1, 1), [(pad, pad)] * 2) + own[1][:, None, None]
                elif kind == "affine":
                    x = x.reshape(len(x), -1) @ own[0] + own[1]
                elif kind == "relu":
                    x = jax.nn.relu(x)
                elif kind == "pool":
                    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
                else:
                    key, own_key = jax.random.split(key)
                    x = jnp.where(jax.random.bernoulli(own_key, 0.5, x.shape), 2 * x, 0)
            return x

        def loss(params, x, t, key):
            return -jnp.mean(jax.nn.log_softmax(forward(params, x, key))[jnp.arange(len(t)), t])

        def update(params, m, v, step, x, t):
            gradients = jax.grad(loss)(params, x, t, jax.random.fold_in(jax.random.key(0), step))
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
            rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), params, m, v), m, v

        zeros = jax.tree.map(jnp.zeros_like, params)
        self.state, self.count = (params, zeros, zeros), itertools.count(1)
        self.update, self.jax = jax.jit(update), jax
        self.x, self.t = jnp.array(x), jnp.array(t.astype(np.int32))

    def steps(self, batches):
        for rows in batches:
            self.state = self.update(*self.state, next(self.count), self.x[rows], self.t[rows])
        self.jax.block_until_ready(self.state)


def installed():
    """name -> how to make it (network, x, t), of all that is installed."""
    found = {"fastbp float32": Fastbp, "NumPy float32": lambda *data: Fastbp(*data, backend="numpy")}
    if find_spec("torch"):
        found["PyTorch eager"] = Torch
        found["PyTorch compiled"] = lambda *data: Torch(*data, compiled=True)
    if find_spec("jax"):
        found["JAX jit"] = Jax
    return found
