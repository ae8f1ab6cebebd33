"""How large the numbers are that a result was summed from: rounding is in proportion to them, not to what is left of them.

The gradient of a bias before batch normalisation is 0. Computed, it is 5.5e-16 in one order of additions and -1.4e-16 in
another: a sum that cancelled, not a difference. So differences are measured against the sum of the terms' magnitudes
(N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import fast_functions, fast_layers

Terms = dict[str, float]  # by what is compared, "result" or an attribute: the largest sum of its terms' magnitudes


def terms_of(fast: Callable[..., Any], own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    """The terms of what one call gives; none where nothing is summed.

    fast, own: the kernels' method and the user's; arguments: copies of the call's, as the user's method left them.
    """
    method = inspect.unwrap(fast)
    with np.errstate(all="ignore"):
        if method in _PRODUCTS:
            return _of_products(own, arguments)
        return _OTHERS[method](*arguments) if method in _OTHERS else {}


def largest(array: Any) -> float:
    """The largest finite magnitude in an array of numbers; 0 for anything else."""
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "biuf":
        return 0.0
    numbers = np.abs(array.astype(np.float64))
    return float(np.max(numbers, where=np.isfinite(numbers), initial=0.0))


def _of_products(own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    """Of sums of products: the same sums of the absolute values, made by the user's own method."""
    absolute = tuple(map(_absolute, arguments))
    results = {"result": own(*absolute)}
    if hasattr(absolute[0], "__dict__"):
        results.update(vars(absolute[0]))
    return {name: largest(value) for name, value in results.items()}


def _absolute(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return np.abs(argument) if argument.dtype.kind == "f" else argument
    if not hasattr(argument, "__dict__") or isinstance(argument, type):
        return argument
    layer = object.__new__(type(argument))
    names = [name for name in vars(argument) if not name.startswith("_fastbp")]
    names += [name for name in LAZY if isinstance(getattr(argument, name, None), np.ndarray)]
    vars(layer).update({name: _absolute(getattr(argument, name)) for name in names})
    return layer


def _of_softmax(layer: Any, x: Any, t: Any) -> Terms:
    """exp(x - maximum) has the relative error of the difference."""
    size = 1 + largest(x)
    return {"y": size, "loss": size, "result": size}


def _of_normalization(layer: Any, x: Any, train_flg: Any = True) -> Terms:
    """x - mean cancels, and small standard deviations magnify what is left."""
    rows = np.abs(x.reshape(len(x), -1))
    std = layer.std if train_flg else np.sqrt(layer.running_var)
    size = rows.max(axis=0) + rows.mean(axis=0) + np.abs(layer.running_mean)
    scaled = 1 + size / np.maximum(std, 1e-3)  # the book's epsilon is 1e-6 below the root
    normal = (1 + (largest(layer.xn) if train_flg else largest(scaled))) * scaled
    sizes = {"xc": size, "xn": normal, "std": std + size, "running_mean": size, "running_var": size * size}
    sizes["result"] = np.abs(layer.gamma) * normal + np.abs(layer.beta)
    return {name: largest(value) for name, value in sizes.items()}


def _of_normalization_backward(layer: Any, dout: Any) -> Terms:
    dout = np.abs(dout.reshape(len(dout), -1))
    xc, xn, std = np.abs(layer.xc), np.abs(layer.xn), layer.std
    direct = np.abs(layer.gamma) * dout / std
    through_variance = xc * (direct * xc).sum(axis=0) / (len(dout) * std * std)
    dx = direct + through_variance
    sizes = {"result": dx + dx.mean(axis=0), "dgamma": (xn * dout).sum(axis=0), "dbeta": dout.sum(axis=0)}
    return {name: largest(value) for name, value in sizes.items()}


LAZY = ("col",)  # of Convolution: made when somebody asks for it
_PRODUCTS = {
    fast_layers.affine_forward,
    fast_layers.affine_backward,
    fast_layers.convolution_forward,
    fast_layers.convolution_backward,
    fast_layers.pooling_backward,
    fast_functions.col2im,
}
_OTHERS: dict[Callable[..., Any], Callable[..., Terms]] = {
    fast_layers.softmax_with_loss_forward: _of_softmax,
    fast_layers.softmax_with_loss_forward_without_epsilon: _of_softmax,
    fast_layers.batch_normalization_forward: _of_normalization,
    fast_layers.batch_normalization_backward: _of_normalization_backward,
}
