"""The book's layers on the compiled kernels: what takes the place of their `forward` and `backward`.

Each function does what the book's method does, to the same attributes, for the arguments that the kernels are made for:
plain arrays of fitting shapes, float64 as in the book's networks, float32 and uint8 where they are inputs. For anything
else it returns PASS before it has changed anything, and the method of the user's own class runs. So whatever NumPy makes
of odd arguments, its errors included, stays as it was.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..backends import get_backend
from .known_versions import CHANNELS, NO_EPSILON

PASS: Any = object()
FLOAT = np.dtype(np.float64)
_INPUTS = (FLOAT, np.dtype(np.float32), np.dtype(np.uint8))  # what a product takes beside float64 weights
_PATCHES = "_fastbp_patches"  # the attribute that remembers a convolution's input

Method = Callable[..., Any]


class _Kernels:
    """The default backend's kernels, looked up (and Numba imported) at the first call."""

    def __getattr__(self, name: str) -> Any:
        module: ModuleType = get_backend()[1]
        for kernel in module.__dict__:
            if callable(module.__dict__[kernel]):
                setattr(self, kernel, module.__dict__[kernel])
        return getattr(module, name)


kernels = _Kernels()


def is_array(value: Any, dtype: np.dtype[Any] = FLOAT) -> bool:
    """A plain array of exactly this dtype; subclasses, masked arrays for one, do things of their own."""
    return type(value) is np.ndarray and value.dtype == dtype


def _is_floating(value: Any) -> bool:
    return type(value) is np.ndarray and (value.dtype == FLOAT or value.dtype == np.float32)


def as_float(value: Any) -> Any:
    """A plain array of real numbers as float64, as assigning it to a float64 array converts it; else None."""
    if type(value) is not np.ndarray or value.dtype.kind not in "biuf" or value.itemsize > 8:
        return None
    return value if value.dtype == FLOAT else value.astype(FLOAT)


def is_count(*values: Any, at_least: int) -> bool:
    return all(type(value) is int and value >= at_least for value in values)


def _fits(x: Any, W: Any) -> bool:
    """Whether x (N, ...) has rows that W (D, M), float32 or float64, can take, and the product has W's dtype."""
    if type(x) is not np.ndarray or type(W) is not np.ndarray or W.ndim != 2 or x.ndim < 2 or not len(x):
        return False
    if x.size != len(x) * W.shape[0] or not W.size:
        return False
    return x.dtype in _INPUTS if W.dtype == FLOAT else W.dtype == np.float32 == x.dtype


class _Dropped(threading.local):
    """The layer of which nobody will see the gradient of its input, in this thread and now."""

    layer: Any = None


_dropped = _Dropped()
_NOT_COMPUTED = np.array(np.nan)


def dropping_first_gradient(method: Method) -> Method:
    """The `gradient` of the book's networks, in which the first layer's backward leaves out the gradient of its input.

    The method goes through the layers from the last to the first, and returns the gradients of the parameters. What the
    first layer's backward gives is as large as the images, and never used.
    """

    @functools.wraps(method)
    def gradient(self: Any, *arguments: Any, **named: Any) -> Any:
        before, _dropped.layer = _dropped.layer, _first_layer(self)
        try:
            return method(self, *arguments, **named)
        finally:
            _dropped.layer = before

    return gradient


def _first_layer(network: Any) -> Any:
    """The first of a network's layers, if it is there once: of a layer used twice, the first gradient is used."""
    layers = getattr(network, "layers", None)
    layers = list(layers.values()) if isinstance(layers, dict) else layers
    if not isinstance(layers, list) or not layers or sum(one is layers[0] for one in layers) != 1:
        return None
    return layers[0]


def _no_gradient(shape: tuple[int, ...]) -> Any:
    """In the place of a gradient that is dropped: NaN everywhere, if anybody should look after all, and no memory."""
    return np.broadcast_to(_NOT_COMPUTED, shape)


def is_computed(result: Any) -> bool:
    """Whether a result is not what stands in the place of a dropped gradient."""
    return not (isinstance(result, np.ndarray) and np.may_share_memory(result, _NOT_COMPUTED))


# Below these, NumPy takes less time than a call of a kernel, most of which is Python's. A product of fewer multiplications
# is made in one thread by OpenBLAS, too. FASTBP_LEAST_WORK in the environment multiplies them: with 0, kernels take all.
_SCALE = float(os.environ.get("FASTBP_LEAST_WORK", "1"))
LEAST_PRODUCT, LEAST_ELEMENTWISE, LEAST_NORMALIZATION = 262_144 * _SCALE, 1_500 * _SCALE, 2_500 * _SCALE
LEAST_DROPOUT, LEAST_SOFTMAX_BACKWARD = 20_000 * _SCALE, 3_000 * _SCALE

# Kernels do not warn of overflow, division by zero or invalid operations. So where NumPy might, the user's own method runs.
TAME = {8: 1e150, 4: 1e18}  # by the size of a number: below these, no product or sum in a layer comes near overflow
LARGEST_EXPONENT = {8: 709.0, 4: 88.0}  # likewise: exp of them does not overflow


def is_tame(*arrays: Any) -> bool:
    """Whether no number of these arrays is NaN, infinite, or so large that its square may overflow."""
    return all(kernels.largest_magnitude(array) < TAME[array.itemsize] for array in arrays)


def affine_forward(self: Any, x: Any) -> Any:
    W, b = self.W, self.b
    if not (_fits(x, W) and is_array(b, W.dtype) and b.shape == W.shape[1:]) or len(x) * W.size < LEAST_PRODUCT:
        return PASS
    rows = x.reshape(x.shape[0], -1)
    out = kernels.affine_forward(rows, W, b)
    if not is_tame(out):
        return PASS
    self.original_x_shape = x.shape
    self.x = rows
    return out


def affine_backward(self: Any, dout: Any) -> Any:
    x, W, shape = self.x, self.W, self.original_x_shape
    if not (_fits(x, W) and x.ndim == 2 and is_array(dout, W.dtype) and dout.shape == (len(x), W.shape[1])):
        return PASS
    if type(shape) is not tuple or shape[0] != len(x) or math.prod(shape) != x.size or len(x) * W.size < LEAST_PRODUCT:
        return PASS
    dx, dW, db = kernels.affine_backward(dout, x, W, self is not _dropped.layer)
    if not is_tame(db):
        return PASS
    self.dW, self.db = dW, db
    return _no_gradient(shape) if dx is None else dx.reshape(shape)


def relu_forward(self: Any, x: Any) -> Any:
    if not _is_floating(x) or not x.ndim or x.size < LEAST_ELEMENTWISE:
        return PASS
    out, self.mask = kernels.relu_forward(x)
    return out


def relu_backward(self: Any, dout: Any) -> Any:
    """In place, as the book's: dout itself is what comes back."""
    mask = self.mask
    if not (
        _is_floating(dout) and is_array(mask, np.dtype(bool)) and dout.shape == mask.shape and dout.flags.writeable
    ):
        return PASS
    if dout.size < LEAST_ELEMENTWISE:
        return PASS
    return kernels.relu_backward(dout, mask, dout)


def sigmoid_forward(self: Any, x: Any) -> Any:
    if not _is_floating(x) or not x.ndim or x.size < LEAST_ELEMENTWISE:
        return PASS
    if kernels.largest_magnitude(x) > LARGEST_EXPONENT[x.itemsize]:
        return PASS
    self.out = kernels.sigmoid_forward(x)
    return self.out


def sigmoid_backward(self: Any, dout: Any) -> Any:
    out = self.out
    if not (_is_floating(out) and out.ndim and is_array(dout, out.dtype) and dout.shape == out.shape):
        return PASS
    if dout.size < LEAST_ELEMENTWISE:
        return PASS
    dx = kernels.sigmoid_backward(dout, out)
    return dx if is_tame(dx) else PASS


def _labels(t: Any, shape: tuple[int, ...]) -> Any:
    """Labels of scores (N, C) as indices (N,), where the book's layer would take them so; else None."""
    if type(t) is not np.ndarray or t.dtype.kind not in "biuf":
        return None
    if t.shape == shape and t.size:
        return t.argmax(axis=1)
    if t.shape != shape[:1] or t.size in (0, shape[0] * shape[1]) or t.dtype.kind not in "iu":
        return None
    return t.astype(np.int64, copy=False) if t.min() >= 0 and t.max() < shape[1] else None


def _labels_of_scores(x: Any, t: Any) -> Any:
    """The labels, if the scores x are a matrix of numbers whose differences are finite; else None."""
    if not _is_floating(x) or x.ndim != 2 or (labels := _labels(t, x.shape)) is None:
        return None
    return labels if is_tame(x) else None


def softmax_with_loss_forward(self: Any, x: Any, t: Any) -> Any:
    labels = _labels_of_scores(x, t)
    if labels is None:
        return PASS
    loss, y = kernels.softmax_cross_entropy_forward(x, labels)
    self.t, self.y, self.loss = t, y, x.dtype.type(loss)
    return self.loss


def softmax_with_loss_forward_without_epsilon(self: Any, x: Any, t: Any) -> Any:
    """For the version that takes the logarithm of y itself."""
    labels = _labels_of_scores(x, t)
    if labels is None:
        return PASS
    self.t, self.y = t, kernels.softmax_cross_entropy_forward(x, labels)[1]
    self.loss = -np.sum(np.log(self.y[np.arange(len(labels)), labels])) / len(labels)
    return self.loss


def softmax_with_loss_backward(self: Any, dout: Any = 1) -> Any:
    y, t = self.y, self.t
    if not _is_floating(y) or y.ndim != 2 or type(t) is not np.ndarray or y.size < LEAST_SOFTMAX_BACKWARD:
        return PASS
    if t.shape == y.shape and t.size and t.dtype.kind in "biuf" and np.result_type(y, t) == y.dtype:
        return kernels.softmax_cross_entropy_backward(y, t.astype(y.dtype, copy=False))
    labels = _labels(t, y.shape) if t.ndim == 1 else None
    return PASS if labels is None else kernels.softmax_cross_entropy_backward(y, labels)


def dropout_forward(self: Any, x: Any, train_flg: Any = True) -> Any:
    if not (_is_floating(x) and x.ndim and train_flg and isinstance(self.dropout_ratio, int | float)):
        return PASS
    if x.size < LEAST_DROPOUT:
        return PASS
    if not is_tame(x):
        return PASS
    out, self.mask = kernels.dropout_forward(x, np.random.rand(*x.shape), self.dropout_ratio, 1.0)
    return out


def dropout_backward(self: Any, dout: Any) -> Any:
    mask = self.mask
    if not (_is_floating(dout) and dout.ndim and is_array(mask, np.dtype(bool)) and dout.shape == mask.shape):
        return PASS
    if dout.size < LEAST_DROPOUT:
        return PASS
    return kernels.dropout_backward(dout, mask, 1.0) if is_tame(dout) else PASS


def batch_normalization_forward(self: Any, x: Any, train_flg: Any = True) -> Any:
    if not is_array(x) or x.ndim not in (2, 4) or not x.size or x.size < LEAST_NORMALIZATION:
        return PASS
    columns = (x.size // len(x),)
    vectors = [self.gamma, self.beta]
    if self.running_mean is not None:
        vectors += [self.running_mean, self.running_var]
    if not all(is_array(vector) and vector.shape == columns for vector in vectors):
        return PASS
    if not isinstance(self.momentum, int | float):
        return PASS
    if not is_tame(*vectors):
        return PASS
    rows = x.reshape(x.shape[0], -1)
    old_mean, old_variance = vectors[2:] or (np.zeros(columns), np.zeros(columns))
    if not train_flg:
        out = kernels.batch_normalization_apply(rows, self.gamma, self.beta, old_mean, old_variance, 10e-7)
        if not is_tame(out):
            return PASS
        if not vectors[2:]:
            self.running_mean, self.running_var = old_mean, old_variance
        self.input_shape = x.shape
        return out.reshape(x.shape)
    out, xc, xn, std, mean, variance = kernels.batch_normalization_forward(rows, self.gamma, self.beta, 10e-7)
    if not is_tame(mean, std):
        return PASS
    self.input_shape = x.shape
    self.batch_size, self.xc, self.xn, self.std = x.shape[0], xc, xn, std
    self.running_mean = self.momentum * old_mean + (1 - self.momentum) * mean
    self.running_var = self.momentum * old_variance + (1 - self.momentum) * variance
    return out.reshape(x.shape)


def batch_normalization_backward(self: Any, dout: Any) -> Any:
    if not is_array(dout) or dout.ndim not in (2, 4) or not dout.size or dout.shape != self.input_shape:
        return PASS
    rows = dout.reshape(dout.shape[0], -1)
    columns = rows.shape[1:]
    if self.batch_size != len(rows) or not (is_array(self.gamma) and self.gamma.shape == columns):
        return PASS
    xc, xn, std = self.xc, self.xn, self.std
    if not all(is_array(array) for array in (xc, xn, std)) or (xc.shape, xn.shape, std.shape) != (
        rows.shape, rows.shape, columns,
    ):  # fmt: skip
        return PASS
    dx, dgamma, dbeta = kernels.batch_normalization_backward(rows, self.gamma, xc, xn, std)
    if not is_tame(self.gamma, dgamma, dbeta):
        return PASS
    self.dgamma, self.dbeta = dgamma, dbeta
    return dx.reshape(dout.shape)


def _only_rows(method: Method) -> Method:
    """For the version that takes images in another way: only inputs (N, D)."""

    @functools.wraps(method)
    def rows_only(self: Any, x: Any, *rest: Any) -> Any:
        return PASS if np.ndim(x) != 2 else method(self, x, *rest)

    return rows_only


def convolution_forward(self: Any, x: Any) -> Any:
    W, b, stride, pad = self.W, self.b, self.stride, self.pad
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
        return PASS
    self.x = x
    self.col_W = col_W = W.reshape(W.shape[0], -1).T
    vars(self).pop("col", None)
    vars(self)[_PATCHES] = padded, col_W, W.shape, stride, pad
    return out


def convolution_backward(self: Any, dout: Any) -> Any:
    state = vars(self)
    if _PATCHES not in state or not is_array(dout):
        return PASS
    padded, col_W, shape, stride, pad = state[_PATCHES]
    if self.col_W is not col_W or self.stride != stride or self.pad != pad or self.W.shape != shape:
        return PASS
    high, wide = ((padded.shape[axis] - shape[axis]) // stride + 1 for axis in (2, 3))
    if dout.shape != (padded.shape[0], shape[0], high, wide):
        return PASS
    if np.shape(self.x) != (*padded.shape[:2], padded.shape[2] - 2 * pad, padded.shape[3] - 2 * pad):
        return PASS
    W, needs_dx = col_W.T.reshape(shape), self is not _dropped.layer
    dx, dW, db = kernels.convolution_backward(dout, padded, W, stride, pad, needs_dx)
    if not is_tame(db):  # it is the sum of dout, which is then finite
        return PASS
    self.dW, self.db = dW, db
    return _no_gradient(self.x.shape) if dx is None else dx


class Patches:
    """The attribute `col` of a convolution: the matrix of patches, made when somebody asks for it."""

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        state = vars(layer)
        if _PATCHES in state and "col" not in state:
            padded, _, shape, stride, _ = state[_PATCHES]
            state["col"] = kernels.im2col(padded, shape[2], shape[3], stride, 0, FLOAT)
        try:
            return state["col"]
        except KeyError:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute 'col'") from None

    def __set__(self, layer: Any, value: Any) -> None:
        vars(layer).pop(_PATCHES, None)
        vars(layer)["col"] = value

    def __delete__(self, layer: Any) -> None:
        vars(layer).pop(_PATCHES, None)
        del vars(layer)["col"]


def state_with_patches(self: Any) -> dict[str, Any]:
    """For pickle and copy: the attributes that the user's own class has, `col` among them."""
    state = dict(vars(self))
    if state.pop(_PATCHES, None) is not None:
        state["col"] = self.col
    return state


def pooling_forward(self: Any, x: Any) -> Any:
    if not is_count(self.pool_h, self.pool_w, self.stride, at_least=1) or self.pad != 0:
        return PASS
    images = as_float(x)
    if images is None or x.ndim != 4 or not x.size or x.shape[2] < self.pool_h or x.shape[3] < self.pool_w:
        return PASS
    out, self.arg_max = kernels.pooling_forward(images, self.pool_h, self.pool_w, self.stride, 0)
    self.x = x
    return out


def pooling_backward(self: Any, dout: Any) -> Any:
    numbers, x, arg_max, window = as_float(dout), self.x, self.arg_max, (self.pool_h, self.pool_w)
    if numbers is None or not is_count(*window, self.stride, at_least=1) or self.pad != 0:
        return PASS
    if type(x) is not np.ndarray or x.ndim != 4 or x.shape[2] < window[0] or x.shape[3] < window[1]:
        return PASS
    rows = ((x.shape[axis + 2] - window[axis]) // self.stride + 1 for axis in (0, 1))
    if (
        dout.shape != (*x.shape[:2], *rows)
        or not is_array(arg_max, np.dtype(np.int64))
        or arg_max.shape != (dout.size,)
    ):
        return PASS
    dx = kernels.pooling_backward(numbers, arg_max, x.shape, *window, self.stride, 0)
    return dx if self.stride >= max(window) or is_tame(dx) else PASS  # overlapping windows are added up


class Fast:
    """How a kind of class is accelerated: its methods, and the functions of its module that they stand for."""

    def __init__(self, methods: dict[str, Method], *functions: str):
        self.methods = methods
        self.functions = functions


def _layer(forward: Method, backward: Method, *functions: str) -> Fast:
    return Fast({"forward": forward, "backward": backward}, *functions)


LAYERS = {
    "Affine": _layer(affine_forward, affine_backward),
    "Relu": _layer(relu_forward, relu_backward),
    "Sigmoid": _layer(sigmoid_forward, sigmoid_backward, "sigmoid"),
    "SoftmaxWithLoss": _layer(softmax_with_loss_forward, softmax_with_loss_backward, "softmax", "cross_entropy_error"),
    "Dropout": _layer(dropout_forward, dropout_backward),
    "BatchNormalization": _layer(batch_normalization_forward, batch_normalization_backward),
    "Convolution": _layer(convolution_forward, convolution_backward, "im2col", "col2im"),
    "Pooling": _layer(pooling_forward, pooling_backward, "im2col", "col2im"),
}

OTHER_VERSIONS = {  # by their notes: of a class, or of a function that it calls
    CHANNELS: _layer(_only_rows(batch_normalization_forward), _only_rows(batch_normalization_backward)),
    NO_EPSILON: _layer(softmax_with_loss_forward_without_epsilon, softmax_with_loss_backward),
}
