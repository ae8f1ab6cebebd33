"""Things to look at: the paths of the optimizers, and a plane that a small network learns."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from .. import functional
from .._checks import Array
from ..training._optimizers import OPTIMIZERS

START, STEPS = (8.0, 1.0), 100
RATES = {
    "sgd": 0.9,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 1.0,
    "rmsprop": 0.1,
    "adam": 0.3,
    "adamw": 0.3,
}


def optimizer_paths() -> dict[str, Array]:
    """name -> the points (101, 2) on the way of minimising z = x² / 20 + y² from (8, 1) in 100 steps."""
    return {name: _path(optimizer(RATES[name])) for name, optimizer in OPTIMIZERS.items()}


def _path(optimizer: Any) -> Array:
    params = {"x": START[0], "y": START[1]}
    points = [START]
    for _ in range(STEPS):
        optimizer.update(params, {"x": params["x"] / 10, "y": 2 * params["y"]})
        points.append((params["x"], params["y"]))
    return np.array(points)


def height(x: Array, y: Array) -> Array:
    """z = x² / 20 + y²."""
    return x**2 / 20 + y**2


def plane_data(seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """The playground's plane without noise, half of it for training: x, y, and x and y to validate with.

    Raises ModuleNotFoundError without playground-data (extra `demo`).
    """
    import plygdata

    random.seed(seed)
    np.random.seed(seed)
    data = plygdata.generate_data(data_type=plygdata.DatasetType.RegressPlane, noise=0.0)
    return tuple(np.asarray(part, np.float64) for part in plygdata.split_data(data, training_size=0.5))  # type: ignore[return-value]


def learn_plane(
    epochs: int = 100, seed: int = 0, verbose: int = 10
) -> tuple[functional.Model, list[float], Array, Array]:
    """[2, 3, 1] from zeros, batches of 4, lr 0.02: the model, the loss of each epoch, and the data to validate with."""
    x, y, x_valid, y_valid = plane_data(seed)
    layers = [2, 3, 1]
    model = layers, [np.zeros((3, 2)), np.zeros((1, 3))], [np.zeros(3), np.zeros(1)]
    trained, losses = functional.train(model, x, y, batch_size=4, epochs=epochs, lr=0.02, verbose=verbose)
    return trained, losses, x_valid, y_valid
