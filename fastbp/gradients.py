"""Gradients by central differences, and the check of a network's own gradients against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from . import _checks as checks
from ._checks import Array


def numerical_gradient(f: Callable[[Array], Any], x: Array, h: float = 1e-4) -> Array:
    """df/dx by central differences, (f(x + h) - f(x - h)) / 2h, for each number of x in turn.

    The error is of the order of h² and of the rounding of f / h, so x should be float64.

    Args:
        f: a function of x that gives a number; it is called with x itself, changed in place.
        x: an array; it is as it was when this returns or raises.
        h: half the difference, above 0.

    Returns:
        An array of x's shape and dtype.

    Raises:
        TypeError: where x is not an array of floating point numbers.
        ValueError: where it is read-only.

    Examples:
        >>> import numpy as np
        >>> from fastbp import numerical_gradient
        >>> numerical_gradient(lambda x: np.sum(x**2), np.array([3.0, 4.0])).round(6)
        array([6., 8.])
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be an array, got {type(x).__name__}")
    checks.floating_array("x", x)
    if not x.flags.writeable:
        raise ValueError("x must be writable, got a read-only array")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        try:
            x[index] = value + h
            above = f(x)
            x[index] = value - h
            below = f(x)
        finally:
            x[index] = value
        gradient[index] = (above - below) / (2 * h)
    return gradient


class Network(Protocol):
    """What a network must have for `check_gradients`: the book's interface."""

    @property
    def params(self) -> dict[str, Array]: ...

    def loss(self, x: Any, t: Any) -> Any: ...

    def gradient(self, x: Any, t: Any) -> dict[str, Array]: ...


def check_gradients(network: Network, x: ArrayLike, t: ArrayLike, h: float = 1e-5) -> dict[str, float]:
    """The error of each parameter's gradient against central differences.

    The error is the largest difference, relative to the largest number of either gradient: below 1e-5 where all is right.
    (The book's loss is -log(y + 1e-7), its gradient that of -log(y): where the label's probability y is small, 1e-7 / y is
    added. A ReLU whose input lies within h of its kink is not differentiable there, and shows.) Differences that the
    rounding of the loss explains count as 0.

    Args:
        network: with `params`, `loss(x, t)` and `gradient(x, t)`, as the book's networks and fastbp's have them. Every
            parameter costs two losses: keep it small.
        x: a batch (N, ...), as network.loss takes it.
        t: its labels or targets.
        h: half the difference.

    Returns:
        {"W1": ..., "b1": ..., ...}.

    Raises:
        TypeError: where a parameter is not float64: smaller dtypes drown the difference in rounding.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> network = fastbp.MLP((4, 5, 3), activation="tanh", weight_init_std="xavier", dtype="float64", seed=0)
        >>> errors = fastbp.check_gradients(network, np.random.default_rng(0).random((6, 4)), [0, 1, 2, 0, 1, 2])
        >>> sorted(errors), max(errors.values()) < 1e-5
        (['W1', 'W2', 'b1', 'b2'], True)
    """
    for key, parameter in network.params.items():
        if np.asarray(parameter).dtype != np.float64:
            raise TypeError(
                f"params[{key!r}] must be float64 for a gradient check, got {np.asarray(parameter).dtype}; "
                "make the network with dtype='float64'"
            )
    analytic = network.gradient(x, t)
    loss = getattr(network, "training_loss", network.loss)  # with the same dropout, and statistics of the batch
    rounding = 4 * np.finfo(np.float64).eps * max(1.0, abs(loss(x, t))) / h
    return {
        key: relative_error(analytic[key], numerical_gradient(lambda _: loss(x, t), parameter, h), rounding)
        for key, parameter in network.params.items()
    }


def relative_error(a: Array, b: Array, negligible: float = 0.0) -> float:
    """The largest difference of two arrays of one shape, relative to the largest magnitude in either.

    0 for arrays that are equal, or nowhere further apart than `negligible`.
    """
    difference = np.max(np.abs(a - b), initial=0.0)
    scale = max(np.max(np.abs(a), initial=0.0), np.max(np.abs(b), initial=0.0))
    return 0.0 if difference <= negligible else float(difference / scale)
