"""What layers do, on the compiled kernels: functions of arrays that know nothing of attributes (those are in `methods`).

Each takes the arguments that the kernels are made for: plain arrays of fitting shapes, float64 as in the book's networks,
float32 and uint8 where they are inputs. It returns a tuple of results; or PASS for anything else, before it has changed
anything, and then the method of the user's own class runs. So whatever NumPy makes of odd arguments, its errors
included, stays as it was.
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np

from ..backends import get_backend, kernel_cache
from .arguments import (
    FLOAT,
    LARGEST_EXPONENT,
    PASS,
    TAME,
    WASTED,
    Method,
    Rows,
    as_float,
    as_input,
    fits,
    framed,
    is_array,
    is_count,
    is_factor,
    is_floating,
    is_frame,
    is_transposed,
    labels_of,
    no_gradient,
)
from .global_random import uniform
from .label_losses import LOSSES
from .lazy import ConvolutionGradients, PoolingGradients


class _Kernels:
    """The default backend's kernels, looked up (and Numba imported) at the first call."""

    announces = False  # whether it is said on stderr that kernels must be compiled

    def __getattr__(self, name: str) -> Any:
        backend, module = get_backend()
        if self.announces and backend == "numba":
            root, own = kernel_cache()
            if not any((root / own).glob("*")):
                print("fastbp: compiling kernels for this processor, once; it takes some seconds", file=sys.stderr)
        for kernel in module.__dict__:
            if callable(module.__dict__[kernel]):
                setattr(self, kernel, module.__dict__[kernel])
        return getattr(module, name)


kernels = _Kernels()


def is_tame(*arrays: Any) -> bool:
    """Whether no number of these arrays is NaN, infinite, or so large that its square may overflow."""
    return all(kernels.largest_magnitude(array) < TAME[array.itemsize] for array in arrays)


def is_silent(*arrays: Any) -> bool:
    """Whether sums of products of these arrays, not all tame, come without a warning: NaN is passed on in silence.

    A network that has diverged has NaN in all its weights, and many a script goes on with it to its end.
    """
    return all(
        array.dtype.kind != "f" or kernels.largest_magnitude(array, ignore_nan=True) < TAME[array.itemsize]
        for array in arrays
    )


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
    return _without_bias(affine_backward(dout, rows, W, shape, needs_dx))


def _without_bias(results: Any) -> Any:
    """dx and dW, of a layer that has no bias."""
    return results[:2] if isinstance(results, tuple) else results


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
    """The same, where a layer makes something else of NaN and infinities."""
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
    """The same with another loss, one of LOSSES, which NumPy computes: it is of few numbers, the softmax takes the time."""
    loss_of = LOSSES[loss]

    def softmax_with_loss_forward(x: Any, t: Any) -> Any:
        labels = _labels_of_scores(x, t)
        if labels is None or ("targets" in loss and t.shape != x.shape):
            return PASS
        y = kernels.softmax_cross_entropy_forward(x, labels)[1]
        with np.errstate(all="ignore"):
            value = loss_of(y, labels, t, epsilon)
        return (value, y, labels) if np.isfinite(value) else PASS  # NumPy may warn of it

    return softmax_with_loss_forward


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


class Patches(NamedTuple):
    """What a convolution's forward leaves for its backward, in the place of the matrix of patches, `col`."""

    padded: Any
    col_W: Any
    shape: tuple[int, ...]
    stride: int
    pad: int
    dtype: np.dtype[Any]

    def col(self) -> Any:
        return kernels.im2col(self.padded, self.shape[2], self.shape[3], self.stride, 0, FLOAT)

    def col_as_given(self) -> Any:
        """Of the dtype of the images, where a layer keeps them so."""
        return self.col().astype(self.dtype, copy=False)


def convolution_forward(x: Any, W: Any, b: Any, stride: Any, pad: Any) -> Any:
    """-> out (N, FN, OH, OW), patches, col_W (C * FH * FW, FN): a view of W."""
    if not (is_array(W) and W.ndim == 4 and W.size and is_array(b) and b.shape == W.shape[:1]):
        return PASS
    if not is_count(stride, at_least=1) or not is_count(pad, at_least=0):
        return PASS
    images = as_float(x)
    if images is None or x.ndim != 4 or not x.size or x.shape[1] != W.shape[1]:
        return PASS
    if x.shape[2] + 2 * pad < W.shape[2] or x.shape[3] + 2 * pad < W.shape[3] or not is_tame(W, b):
        return PASS
    out, padded = kernels.convolution_forward(images, W, b, stride, pad)
    # input that is as large as the output comes from a layer before this one, where it was looked at
    if 4 * x.size <= out.size and not is_tame(images):
        return WASTED
    col_W = W.reshape(W.shape[0], -1).T
    return out, Patches(padded, col_W, W.shape, stride, pad, x.dtype), col_W


def convolution_backward(dout: Any, patches: Any, col_W: Any, W: Any, shape: Any, window: Any, needs_dx: Any) -> Any:
    """-> dx, dW, db. shape: of forward's x; window: stride and pad, as the layer has them now."""
    if patches is None or not is_array(dout):
        return PASS
    if col_W is not patches.col_W or window != (patches.stride, patches.pad) or W.shape != patches.shape:
        return PASS
    return _convolution_backward(dout, patches, col_W.T.reshape(patches.shape), shape, needs_dx)


def convolution_backward_by_weights(dout: Any, patches: Any, W: Any, shape: Any, window: Any, needs_dx: Any) -> Any:
    """-> dx, dW, db: where the layer keeps no view of W, and takes W itself, as it is now."""
    if patches is None or not is_array(dout) or not is_array(W):
        return PASS
    if window != (patches.stride, patches.pad) or W.shape != patches.shape:
        return PASS
    return _convolution_backward(dout, patches, W, shape, needs_dx)


def convolution_backward_kept(
    dout: Any, patches: Any, col_W: Any, W: Any, shape: Any, window: Any, needs_dx: Any
) -> Any:
    """-> dx, dW, db, gradients: where the layer keeps the gradient of `col`, too."""
    results = convolution_backward(dout, patches, col_W, W, shape, window, needs_dx)
    return (*results, ConvolutionGradients(dout.copy(), W.copy())) if isinstance(results, tuple) else results


def convolution_forward_plain(x: Any, W: Any, stride: Any, pad: Any) -> Any:
    """The same without a bias."""
    return convolution_forward(x, W, np.zeros(len(W)), stride, pad) if is_array(W) and W.ndim == 4 else PASS


def convolution_backward_plain(*arguments: Any) -> Any:
    """-> dx, dW."""
    return _without_bias(convolution_backward(*arguments))


def convolution_backward_by_weights_plain(*arguments: Any) -> Any:
    return _without_bias(convolution_backward_by_weights(*arguments))


def _convolution_backward(dout: Any, patches: Patches, W: Any, shape: Any, needs_dx: Any) -> Any:
    padded, _, filters, stride, pad, _ = patches
    high, wide = ((padded.shape[axis] - filters[axis]) // stride + 1 for axis in (2, 3))
    if dout.shape != (padded.shape[0], filters[0], high, wide):
        return PASS
    if shape != (*padded.shape[:2], padded.shape[2] - 2 * pad, padded.shape[3] - 2 * pad):
        return PASS
    dx, dW, db = kernels.convolution_backward(dout, padded, W, stride, pad, needs_dx)
    if not is_tame(db):  # it is the sum of dout, which is then finite
        return WASTED
    return no_gradient(shape) if dx is None else dx, dW, db


def pooling(fill: float | None = None, is_kept: bool = False) -> Method:
    """Of images as they are, or with a frame of `fill` around each; is_kept: where the layer keeps its windows, too."""

    def pooling_forward(x: Any, pool_h: Any, pool_w: Any, stride: Any, pad: Any) -> Any:
        """-> out (N, C, OH, OW), arg_max (N * OH * OW * C,), and patches where they are kept."""
        if not is_count(pool_h, pool_w, stride, at_least=1) or not is_frame(pad, fill):
            return PASS
        images = as_float(x)
        if images is None or x.ndim != 4 or not x.size:
            return PASS
        images = images if fill is None else framed(images, pad, fill)
        if images.shape[2] < pool_h or images.shape[3] < pool_w:
            return PASS
        results = kernels.pooling_forward(images, pool_h, pool_w, stride, 0)
        return (*results, PoolingPatches(images, pool_h, pool_w, stride)) if is_kept else results

    return pooling_forward


def pooling_gradient(is_framed: bool = False, is_kept: bool = False) -> Method:
    """is_framed: images had a frame, whose gradient is left out. is_kept: the layer keeps the gradient of its windows."""

    def pooling_backward(dout: Any, shape: Any, arg_max: Any, window: Any) -> Any:
        """-> dx, and gradients where they are kept. shape: of forward's x; window: pool_h, pool_w, stride, pad."""
        numbers, (pool_h, pool_w, stride, pad) = as_float(dout), window
        if numbers is None or not is_count(pool_h, pool_w, stride, at_least=1) or is_framed == (pad == 0):
            return PASS
        if type(shape) is not tuple or len(shape) != 4 or not is_count(pad, at_least=0):
            return PASS
        (count, channels), height, width = shape[:2], shape[2] + 2 * pad, shape[3] + 2 * pad
        sides = (height - pool_h) // stride + 1, (width - pool_w) // stride + 1
        if height < pool_h or width < pool_w or dout.shape != (count, channels, *sides):
            return PASS
        if not is_array(arg_max, np.dtype(np.int64)) or arg_max.shape != (dout.size,):
            return PASS
        dx = kernels.pooling_backward(numbers, arg_max, (count, channels, height, width), pool_h, pool_w, stride, 0)
        if stride < max(pool_h, pool_w) and not is_tame(dx):
            return PASS  # overlapping windows are added up
        dx = dx[:, :, pad:-pad, pad:-pad] if is_framed else dx
        return (dx, PoolingGradients(dout.copy(), arg_max, pool_h * pool_w)) if is_kept else (dx,)

    return pooling_backward


class PoolingPatches(NamedTuple):
    """What a pooling's forward leaves for the matrix of its windows; images: with their frame."""

    images: Any
    pool_h: int
    pool_w: int
    stride: int

    def col(self) -> Any:
        size = self.pool_h * self.pool_w
        return kernels.im2col(as_float(self.images), self.pool_h, self.pool_w, self.stride, 0, FLOAT).reshape(-1, size)
