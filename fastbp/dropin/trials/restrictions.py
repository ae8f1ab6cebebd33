"""Under which conditions a layer is tried, where it is an operation's for some images alone.

Layers in the style of CS231n assert that whole windows fill the image; others take its height for its width, or do not add
up what overlapping windows give. Such a layer is tried on images of that kind, and its form says for which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Restriction(NamedTuple):
    """adjust: what is drawn, changed so that the condition holds. forward, backward: the condition, of what their operations
    take. mends_backward: whether backward may be right under it where forward is without it."""

    name: str = ""
    adjust: Callable[[dict[str, Any]], dict[str, Any]] = dict
    forward: str = ""
    backward: str = ""
    mends_backward: bool = False


NONE = Restriction()


def _squared(drawn: dict[str, Any]) -> dict[str, Any]:
    """With images and windows as wide as they are high."""
    side = min(drawn["x"].shape[2:])
    window: dict[str, Any] = {
        role: min(drawn["pool_h"], drawn["pool_w"]) for role in ("pool_h", "pool_w") if role in drawn
    }
    return {**drawn, **window, "x": drawn["x"][:, :, :side, :side].copy()}


def _fitted(drawn: dict[str, Any]) -> dict[str, Any]:
    """With images that end where the last window does."""
    high, wide = drawn["W"].shape[2:] if "W" in drawn else (drawn["pool_h"], drawn["pool_w"])
    rest = [
        (side + 2 * drawn["pad"] - window) % drawn["stride"]
        for side, window in zip(drawn["x"].shape[2:], (high, wide), strict=True)
    ]
    height, width = (side - one for side, one in zip(drawn["x"].shape[2:], rest, strict=True))
    return {**drawn, "x": drawn["x"][:, :, :height, :width].copy()} if min(height, width) > 0 else drawn


def _all(square: tuple[str, str], windows: tuple[str, str]) -> tuple[Restriction, ...]:
    """None, each of the two, and both, from their conditions for forward and backward."""
    both = [" and ".join(pair) for pair in zip(square, windows, strict=True)]
    return (
        NONE,
        Restriction("square images", _squared, square[0], square[1], mends_backward=True),
        Restriction("whole windows", _fitted, *windows),
        Restriction("square images of whole windows", lambda drawn: _fitted(_squared(drawn)), both[0], both[1]),
    )


def _apart(drawn: dict[str, Any]) -> dict[str, Any]:
    """With windows that do not overlap: some layers' gradients are right for these alone."""
    return {**drawn, "stride": max(drawn["pool_h"], drawn["pool_w"], drawn["stride"])}


def _whole(shape: str, high: str, wide: str, stride: str, pad: str) -> str:
    rests = [f"({shape}[{axis}] + 2 * {pad} - {side}) % {stride}" for axis, side in ((2, high), (3, wide))]
    return f"{rests[0]} == {rests[1]} == 0"


def _begun(drawn: dict[str, Any]) -> dict[str, Any]:
    """With running statistics, where some layers are made with them and never look whether they are there."""
    shape = drawn["gamma"].shape
    values = {"running_mean": np.zeros(shape), "running_var": np.ones(shape)}
    return {**drawn, **{role: value for role, value in values.items() if drawn[role] is None}}


OF_NORMALIZATION = (NONE, Restriction("inputs with running statistics", _begun, "running_mean is not None"))
OF_CONVOLUTION = _all(
    (
        "x.shape[2] == x.shape[3] and W.shape[2] == W.shape[3]",
        "shape[2] == shape[3] and W.shape[2] == W.shape[3]",
    ),
    (
        _whole("x.shape", "W.shape[2]", "W.shape[3]", "stride", "pad"),
        _whole("shape", "W.shape[2]", "W.shape[3]", "window[0]", "window[1]"),
    ),
)
OF_POOLING = (
    *_all(
        ("x.shape[2] == x.shape[3] and pool_h == pool_w", "shape[2] == shape[3] and window[0] == window[1]"),
        (
            _whole("x.shape", "pool_h", "pool_w", "stride", "pad"),
            _whole("shape", "window[0]", "window[1]", "window[2]", "window[3]"),
        ),
    ),
    Restriction(
        "windows apart", _apart, "stride >= max(pool_h, pool_w)", "window[2] >= max(window[0], window[1])", True
    ),
)
