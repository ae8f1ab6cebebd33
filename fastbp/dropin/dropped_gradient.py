"""The gradient that nobody sees: of the images, in the `gradient` method of the book's networks."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

Method = Callable[..., Any]


class _Dropped(threading.local):
    """The layer of which nobody will see the gradient of its input, in this thread and now."""

    layer: Any = None


dropped = _Dropped()


def dropping_first_gradient(method: Method) -> Method:
    """The `gradient` of the book's networks, in which the first layer's backward leaves out the gradient of its input.

    The method goes through the layers from the last to the first, and returns the gradients of the parameters. What the
    first layer's backward gives is as large as the images, and never used.
    """

    @functools.wraps(method)
    def gradient(self: Any, *arguments: Any, **named: Any) -> Any:
        before, dropped.layer = dropped.layer, _first_layer(self)
        try:
            return method(self, *arguments, **named)
        finally:
            dropped.layer = before

    return gradient


def _first_layer(network: Any) -> Any:
    """The first of a network's layers, if it is there once: of a layer used twice, the first gradient is used."""
    layers = getattr(network, "layers", None)
    layers = list(layers.values()) if isinstance(layers, dict) else layers
    if not isinstance(layers, list) or not layers or sum(one is layers[0] for one in layers) != 1:
        return None
    return layers[0]
