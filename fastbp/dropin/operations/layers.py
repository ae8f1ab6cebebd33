"""What layers do, on the compiled kernels: functions of arrays that know nothing of attributes (those are in `methods`).

Each takes the arguments that the kernels are made for: plain arrays of fitting shapes, float64 as in the book's networks,
float32 and uint8 where they are inputs. It returns a tuple of results; or PASS for anything else, before it has changed
anything, and then the method of the user's own class runs. So whatever NumPy makes of odd arguments, its errors
included, stays as it was.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..objects.arguments import (
    LARGEST_EXPONENT,
    PASS,
    WASTED,
    Method,
    Rows,
    as_input,
    fits,
    is_array,
    is_factor,
    is_floating,
    is_transposed,
    labels_of,
    no_gradient,
    without_bias,
)
from ..objects.global_random import uniform
from .kernel_calls import is_silent, is_tame, kernels
from .label_losses import LOSSES


def affine_forward(x: Any, W: Any, b: Any) -> Any:
    """-> out (N, M), rows: x as (N, D)."""
    if not (fits(x, W) and is_array(b, W.dtype) and b.shape == W.shape[1:]):
        return PASS
    rows = x.reshape(x.shape[0], -1)
    out = kernels.affine_forward(as_input(rows), W, b)
    return (out, rows) if is_tame(out) or is_silent(b, W, rows) else WASTED


def affine_backward(dout: Any, rows: Any, W: Any, shape: Any, needs_dx: Any) -> Any:
    """-> dx, of `shape`, dW (D, M), db (M,)."""
    if not (fits(rows, W) and rows.ndim == 2 and is_array(dout, W.dtype) and dout.shape == (len(rows), W.shape[1])):
        return PASS
    if type(shape) is not tuple or shape[0] != len(rows) or math.prod(shape) != rows.size:
        return PASS
    dx, dW, db = kernels.affine_backward(dout, as_input(rows), W, needs_dx)
    if not is_tame(db) and not is_silent(dout, W, rows):
        return WASTED
    return no_gradient(shape) if dx is None else dx.reshape(shape), dW, db


def product_forward(x: Any, W: Any) -> Any:
    """-> out (N, M), rows: x as (N, D)."""
    if not fits(x, W):
        return PASS
    return affine_forward(x, W, np.zeros(W.shape[1], W.dtype))


def product_backward(dout: Any, rows: Any, W: Any, shape: Any, needs_dx: Any) -> Any:
    """-> dx, dW: those of affine_backward."""
    return without_bias(affine_backward(dout, rows, W, shape, needs_dx))


def relu_forward(x: Any, strict: bool = False) -> Any:
    """-> out, mask: x <= 0; strict: x < 0."""
    if not is_floating(x) or not x.ndim:
        return PASS
    if is_transposed(x):
        out, mask = kernels.relu_forward(x.T, strict)
        return out.T, mask.T
    return kernels.relu_forward(x, strict)


def relu_forward_strict(x: Any) -> Any:
    """-> out, mask: x < 0."""
    return relu_forward(x, True)


def relu_forward_in_place(x: Any, strict: bool = False) -> Any:
    """-> x itself, changed, and the mask; of NaN and infinities layers make this or that."""
    if not (is_floating(x) and x.ndim and x.flags.writeable and is_tame(x)):
        return PASS
    out, mask = relu_forward(x, strict)
    np.copyto(x, out)
    return x, mask


def relu_forward_strict_in_place(x: Any) -> Any:
    return relu_forward_in_place(x, True)


def relu_backward_in_place(dout: Any, mask: Any) -> Any:
    """-> dout itself, changed."""
    return _relu_backward(dout, mask, dout) if getattr(dout, "flags", None) and dout.flags.writeable else PASS


def relu_backward(dout: Any, mask: Any) -> Any:
    """-> dx."""
    return _relu_backward(dout, mask, None)


def relu_forward_of_tame(x: Any) -> Any:
    """-> as relu_forward; PASS for NaN and infinities, of which the layer makes something else."""
    return relu_forward(x) if is_floating(x) and is_tame(x) else PASS


def relu_forward_strict_of_tame(x: Any) -> Any:
    return relu_forward_strict(x) if is_floating(x) and is_tame(x) else PASS


def relu_backward_of_tame(dout: Any, mask: Any) -> Any:
    return relu_backward(dout, mask) if is_floating(dout) and is_tame(dout) else PASS


def _relu_backward(dout: Any, mask: Any, out: Any) -> Any:
    if not (is_floating(dout) and is_array(mask, np.dtype(bool)) and dout.shape == mask.shape):
        return PASS
    if is_transposed(dout, mask):
        dx = kernels.relu_backward(dout.T, mask.T, None if out is None else out.T)
        return (dx.T if out is None else out,)
    return (kernels.relu_backward(dout, mask, out),)


def sigmoid_forward(x: Any) -> Any:
    """-> out."""
    if not is_floating(x) or not x.ndim:
        return PASS
    if kernels.largest_magnitude(x) > LARGEST_EXPONENT[x.itemsize]:
        return PASS
    return (kernels.sigmoid_forward(x.T).T if is_transposed(x) else kernels.sigmoid_forward(x),)


def sigmoid_backward(dout: Any, out: Any) -> Any:
    """-> dx."""
    return _from_output(kernels.sigmoid_backward, dout, out)


def tanh_forward(x: Any) -> Any:
    """-> out."""
    if not is_floating(x) or not x.ndim or not is_tame(x):
        return PASS
    return (kernels.tanh_forward(x),)


def tanh_backward(dout: Any, out: Any) -> Any:
    """-> dx."""
    return _from_output(kernels.tanh_backward, dout, out)


def _from_output(kernel: Method, dout: Any, out: Any) -> Any:
    if not (is_floating(out) and out.ndim and is_array(dout, out.dtype) and dout.shape == out.shape):
        return PASS
    dx = kernel(dout, out)
    return (dx,) if is_tame(dx) else WASTED


def _labels_of_scores(x: Any, t: Any) -> Any:
    """The labels, if the scores x are a matrix of numbers whose differences are finite; else None."""
    if not is_floating(x) or x.ndim != 2 or (labels := labels_of(t, x.shape)) is None:
        return None
    return labels if is_tame(x) else None


def softmax_with_loss_forward(x: Any, t: Any) -> Any:
    """-> loss, y (N, C): softmax(x), labels (N,). The loss is the mean of -log(y[label] + 1e-7)."""
    labels = _labels_of_scores(x, t)
    if labels is None:
        return PASS
    loss, y = kernels.softmax_cross_entropy_forward(x, labels)
    return x.dtype.type(loss), y, labels


def softmax_with_other_loss(loss: str, epsilon: float) -> Method:
    """The operation with another loss, one of LOSSES, which NumPy computes: the softmax takes the time."""
    loss_of = other_loss(loss, epsilon)

    def softmax_with_loss_forward(x: Any, t: Any) -> Any:
        labels = _labels_of_scores(x, t)
        if labels is None or ("targets" in loss and t.shape != x.shape):
            return PASS
        y = kernels.softmax_cross_entropy_forward(x, labels)[1]
        value = loss_of(y, labels, t)
        return PASS if value is PASS else (value, y, labels)

    return softmax_with_loss_forward


def other_loss(loss: str, epsilon: float) -> Method:
    """One of LOSSES as a function of y = softmax(x), labels and t, which gives PASS where NumPy may warn of it."""
    of_numbers = LOSSES[loss]

    def value_of(y: Any, labels: Any, t: Any) -> Any:
        if "targets" in loss and t.shape != y.shape:
            return PASS
        with np.errstate(all="ignore"):
            value = of_numbers(y, labels, t, epsilon)
        return value if np.isfinite(value) else PASS

    return value_of


def softmax_with_loss_backward(y: Any, t: Any) -> Any:
    """-> dx = (y - one-hot t) / N."""
    if not is_floating(y) or y.ndim != 2 or type(t) is not np.ndarray:
        return PASS
    if t.shape == y.shape and t.size and t.dtype.kind in "biuf" and np.result_type(y, t) == y.dtype:
        return (kernels.softmax_cross_entropy_backward(y, t.astype(y.dtype, copy=False)),)
    labels = labels_of(t, y.shape) if t.ndim == 1 else None
    return PASS if labels is None else (kernels.softmax_cross_entropy_backward(y, labels),)


def softmax_with_loss_backward_times(y: Any, t: Any, dout: Any) -> Any:
    """-> dx, where `dout` is 1."""
    return softmax_with_loss_backward(y, t) if isinstance(dout, int | float) and dout == 1 else PASS


def dropout_forward(x: Any, ratio: Any) -> Any:
    """-> out, mask: draws > ratio."""
    return _dropout(x, ratio, 1.0)


def dropout_forward_inverted(x: Any, ratio: Any) -> Any:
    """-> out: divided by 1 - ratio, mask: draws > ratio."""
    return PASS if (scale := _inverted(x, ratio)) is None else _dropout(x, ratio, scale)


def dropout_apply(x: Any, ratio: Any) -> Any:
    """-> out: of a prediction, all of x times 1 - ratio."""
    if not (is_floating(x) and x.ndim and isinstance(ratio, int | float)):
        return PASS
    return (x * (1.0 - ratio),) if is_tame(x) else PASS


def dropout_off(x: Any, ratio: Any) -> Any:
    """-> x: of a prediction, where all of it is kept as it is."""
    return (x,)


def dropout_backward(dout: Any, mask: Any) -> Any:
    """-> dx."""
    return _dropout_gradient(dout, mask, 1.0)


def dropout_backward_inverted(dout: Any, mask: Any, ratio: Any) -> Any:
    """-> dx: divided by 1 - ratio."""
    return PASS if (scale := _inverted(dout, ratio)) is None else _dropout_gradient(dout, mask, scale)


def _inverted(x: Any, ratio: Any) -> float | None:
    """1 / (1 - ratio), if that is a number that leaves x its dtype."""
    return 1 / (1 - ratio) if is_floating(x) and is_factor(ratio, x.dtype) and ratio < 1 else None


def _dropout(x: Any, ratio: Any, scale: float) -> Any:
    if not (is_floating(x) and x.ndim and isinstance(ratio, int | float)):
        return PASS
    return kernels.dropout_forward(x, uniform(x.shape, kernels), ratio, scale) if is_tame(x) else PASS


def _dropout_gradient(dout: Any, mask: Any, scale: float) -> Any:
    if not (is_floating(dout) and dout.ndim and is_array(mask, np.dtype(bool)) and dout.shape == mask.shape):
        return PASS
    return (kernels.dropout_backward(dout, mask, scale),) if is_tame(dout) else PASS


def normalization_forward(epsilon: float, by_channel: bool = False) -> Method:
    rows_of = Rows(by_channel)

    def batch_normalization_forward(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, momentum: Any) -> Any:
        """-> out, xc, xn (N, D), std, batch_mean, batch_variance, old_mean, old_variance (D,)."""
        rows = rows_of.of(x)
        if rows is None or len(rows) < 2 or not isinstance(momentum, int | float):
            return PASS
        if (old := _running(rows, gamma, beta, mean, variance)) is None:
            return PASS
        out, *kept = kernels.batch_normalization_forward(rows, gamma, beta, epsilon)
        return (rows_of.back(out, x.shape), *kept, *old) if is_tame(kept[2], kept[3]) else WASTED

    return batch_normalization_forward


def normalization_apply(epsilon: float, by_channel: bool = False) -> Method:
    rows_of = Rows(by_channel)

    def batch_normalization_apply(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
        """-> out, old_mean, old_variance: what out was computed with."""
        rows = rows_of.of(x)
        if rows is None or (old := _running(rows, gamma, beta, mean, variance)) is None:
            return PASS
        out = kernels.batch_normalization_apply(rows, gamma, beta, *old, epsilon)
        return (rows_of.back(out, x.shape), *old) if is_tame(out) else WASTED

    return batch_normalization_apply


def _running(rows: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    """The running mean and variance, zeros where there are none yet; None if anything does not fit."""
    columns = rows.shape[1:]
    if mean is None:
        mean, variance = np.zeros(columns), np.zeros(columns)
    vectors = gamma, beta, mean, variance
    if not all(is_array(vector) and vector.shape == columns for vector in vectors) or not is_tame(*vectors):
        return None
    return mean, variance


def normalization_gradient(by_channel: bool = False) -> Method:
    rows_of = Rows(by_channel)

    def batch_normalization_backward(dout: Any, gamma: Any, std: Any, xc: Any, xn: Any, count: Any, shape: Any) -> Any:
        """-> dx, dgamma, dbeta."""
        rows = rows_of.of(dout)
        if rows is None or dout.shape != shape or count != len(rows):
            return PASS
        columns = rows.shape[1:]
        shapes = [(xc, rows.shape), (xn, rows.shape), (std, columns), (gamma, columns)]
        if not all(is_array(array) and array.shape == expected for array, expected in shapes):
            return PASS
        dx, dgamma, dbeta = kernels.batch_normalization_backward(rows, gamma, xc, xn, std)
        return (rows_of.back(dx, shape), dgamma, dbeta) if is_tame(gamma, dgamma, dbeta) else WASTED

    return batch_normalization_backward
