"""What layers of images do, on the compiled kernels: convolution and pooling. See `layers`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..objects.arguments import (
    FLOAT,
    PASS,
    WASTED,
    Method,
    as_float,
    framed,
    is_array,
    is_count,
    is_frame,
    no_gradient,
    without_bias,
)
from ..objects.lazy import ConvolutionGradients, PoolingGradients
from .kernel_calls import is_tame, kernels


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
        """`col` in the dtype of the images, for layers that keep it so."""
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
    """-> as convolution_forward, without a bias."""
    return convolution_forward(x, W, np.zeros(len(W)), stride, pad) if is_array(W) and W.ndim == 4 else PASS


def convolution_backward_plain(*arguments: Any) -> Any:
    """-> dx, dW."""
    return without_bias(convolution_backward(*arguments))


def convolution_backward_by_weights_plain(*arguments: Any) -> Any:
    return without_bias(convolution_backward_by_weights(*arguments))


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
    """The operation for images as they are, or with a frame of `fill` around each; is_kept: the layer keeps windows."""

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
