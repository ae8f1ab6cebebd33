"""Networks for classifying images by name, as `fastbp train --network` and sweeps make them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import _checks as checks
from ._book import DeepConvNet, SimpleConvNet
from ._mlp import MLP
from ._network import Network


class Defaults(NamedTuple):
    """What a network is made and trained with unless somebody says otherwise."""

    hidden: tuple[int, ...]
    optimizer: str
    learning_rate: float
    iterations: int
    weight_init_std: float | str


def make_network(
    name: str,
    features: int,
    hidden: Sequence[int],
    activation: str = "relu",
    weight_init_std: float | str | None = None,
    *,
    dtype: str = "float32",
    backend: str | None = None,
    seed: int | None = None,
) -> Network:
    """A network for images of `features` pixels in 10 classes.

    Raises ValueError for names that do not exist, and for images, widths and activations that do not fit.
    """
    defaults = NETWORKS[checks.one_of("network", name, NETWORKS)]
    std = defaults.weight_init_std if weight_init_std is None else weight_init_std
    if name == "mlp":
        return MLP((features, *hidden, CLASSES), activation, std, dtype, backend, seed)
    shape, width = _image_shape(name, features), _only_width(name, hidden)
    if activation != "relu":
        raise ValueError(f"the network {name!r} has the activation 'relu', got {activation!r}")
    options: dict[str, Any] = {"dtype": dtype, "backend": backend, "seed": seed}
    if name == "deep-conv":
        return DeepConvNet(shape, hidden_size=width, output_size=CLASSES, **options)
    return SimpleConvNet(shape, hidden_size=width, output_size=CLASSES, weight_init_std=std, **options)


def _image_shape(name: str, features: int) -> tuple[int, int, int]:
    side = math.isqrt(features)
    if side * side != features:
        raise ValueError(f"the network {name!r} needs square images, got {features} pixels")
    return 1, side, side


def _only_width(name: str, hidden: Sequence[int]) -> int:
    if len(hidden) != 1:
        raise ValueError(
            f"the network {name!r} has one hidden layer behind its convolutions, got widths {tuple(hidden)}"
        )
    return hidden[0]


CLASSES = 10
NETWORKS = {
    "mlp": Defaults((50,), "sgd", 0.1, 10_000, 0.01),
    # He's weights instead of the book's 0.01: 0.986 of the test images after two epochs instead of 0.975
    "simple-conv": Defaults((100,), "adam", 0.001, 1200, "he"),
    "deep-conv": Defaults((50,), "adam", 0.001, 3000, "he"),
}
