"""Layers over images (N, C, H, W), on either backend: the book's Convolution and Pooling; AveragePooling and Flatten."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._checks import Array
from ._affine import _operand
from ._base import Layer


class Convolution(Layer):
    """Cross-correlation of images with FN filters, and a bias: each patch of x times each filter.

    Args:
        W: the filters (FN, C, FH, FW), kept and not copied.
        b: the bias (FN,), kept as W is; or one number for all.
        stride: the step between patches, at least 1.
        pad: how many zeros to put around the images, at least 0.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        dW: the gradient of W, after `backward`.
        db: the gradient of b, after `backward`.
        x: the input of the last `forward`.
        col: its patches (N * OH * OW, C * FH * FW), made when asked for.
        col_W: the filters as a matrix (C * FH * FW, FN).

    Raises:
        TypeError: for other dtypes.
        ValueError: for shapes that do not fit, a stride below 1 and a pad below 0.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Convolution
        >>> layer = Convolution(W=np.ones((1, 1, 2, 2)), b=np.zeros(1))
        >>> layer.forward(np.arange(9.0).reshape(1, 1, 3, 3))
        array([[[[ 8., 12.],
                 [20., 24.]]]])
        >>> layer.backward(np.ones((1, 1, 2, 2))).shape, layer.dW.shape
        ((1, 1, 3, 3), (1, 1, 2, 2))
    """

    parameters = ("W", "b")
    decayed = ("W",)

    def __init__(self, W: Array, b: ArrayLike, stride: int = 1, pad: int = 0, backend: str | None = None):
        super().__init__(backend)
        checks.filters_and_bias(W, b)
        self.W = W
        self.b = b
        self.stride = checks.whole_number("stride", stride, at_least=1)
        self.pad = checks.whole_number("pad", pad, at_least=0)
        self.x: Array | None = None
        self.col_W: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None
        self._padded: Array | None = None

    @property
    def col(self) -> Array | None:
        """The patches of the last forward's input, or None before it."""
        if self._padded is None:
            return None
        return self._kernels.im2col(self._padded, self.W.shape[2], self.W.shape[3], self.stride, 0, self._padded.dtype)

    def forward(self, x: ArrayLike) -> Array:
        """x (N, C, H, W) -> (N, FN, OH, OW), OH = (H + 2 pad - FH) // stride + 1.

        Raises TypeError for dtypes that are not real numbers, ValueError for shapes that do not fit.
        """
        W, b = checks.filters_and_bias(self.W, self.b)
        images = checks.images("x", x, W.shape[1])
        checks.window_fits(images.shape, W.shape[2:], self.pad)
        result = np.result_type(images, W, b)
        dtype = checks.compute_dtype(result)
        W = W.astype(dtype, copy=False)
        out, self._padded = self._kernels.convolution_forward(
            _operand(images, dtype), W, b.astype(dtype), self.stride, self.pad
        )
        self.x, self.col_W = images, W.reshape(len(W), -1).T
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout (N, FN, OH, OW) -> dx, of forward's x; sets dW and db.

        Raises RuntimeError before any forward, TypeError and ValueError as forward does.
        """
        return self._gradients(dout, needs_dx=True)

    def parameter_gradients(self, dout: ArrayLike) -> None:
        self._gradients(dout, needs_dx=False)

    def _gradients(self, dout: ArrayLike, *, needs_dx: bool) -> Any:
        padded, x = self._cached("_padded"), self._cached("x")
        W, _ = checks.filters_and_bias(self.W, self.b)
        checks.images("x", x, W.shape[1])
        checks.window_fits(padded.shape, W.shape[2:], 0)
        dout = checks.real_array("dout", dout)
        high, wide = (
            (size - window) // self.stride + 1 for size, window in zip(padded.shape[2:], W.shape[2:], strict=True)
        )
        checks.same_shape("dout", dout, (len(padded), len(W), high, wide), "forward's result")
        dtype = checks.compute_dtype(np.result_type(padded, W, dout))
        dx, dW, db = self._kernels.convolution_backward(
            dout.astype(dtype, copy=False), padded.astype(dtype, copy=False), W.astype(dtype, copy=False),
            self.stride, self.pad, needs_dx,
        )  # fmt: skip
        self.dW = dW.astype(np.result_type(x, dout), copy=False)
        self.db = db.astype(dout.dtype, copy=False)
        return None if dx is None else dx.astype(np.result_type(dout, W), copy=False)


class _Windows(Layer):
    """A layer over windows of images; see Pooling."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0, backend: str | None = None):
        super().__init__(backend)
        self.pool_h = checks.whole_number("pool_h", pool_h, at_least=1)
        self.pool_w = checks.whole_number("pool_w", pool_w, at_least=1)
        self.stride = checks.whole_number("stride", stride, at_least=1)
        self.pad = checks.whole_number("pad", pad, at_least=0)


class Pooling(_Windows):
    """Max pooling. The padding is zeros, which take part.

    Args:
        pool_h: the window's height, at least 1.
        pool_w: the window's width, at least 1.
        stride: the step between windows, at least 1.
        pad: how many zeros to put around the images, at least 0.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        x: the input of the last `forward`.
        arg_max: the place of the first maximum in each window (N * OH * OW * C,).

    Raises:
        TypeError: for arguments that are not whole numbers.
        ValueError: for windows and strides below 1, and a pad below 0.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Pooling
        >>> layer = Pooling(2, 2, stride=2)
        >>> layer.forward(np.arange(16.0).reshape(1, 1, 4, 4))
        array([[[[ 5.,  7.],
                 [13., 15.]]]])
        >>> int(layer.backward(np.ones((1, 1, 2, 2))).sum())
        4
    """

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0, backend: str | None = None):
        super().__init__(pool_h, pool_w, stride, pad, backend)
        self.x: Array | None = None
        self.arg_max: Array | None = None
        self._shape: tuple[int, ...] | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (N, C, H, W) -> (N, C, OH, OW), in x's dtype, OH = (H + 2 pad - pool_h) // stride + 1.

        Raises TypeError for dtypes that are not real numbers, ValueError for shapes that do not fit.
        """
        images = checks.images("x", x)
        checks.window_fits(images.shape, (self.pool_h, self.pool_w), self.pad)
        self.x = images
        computed = images.astype(checks.compute_dtype(images.dtype), copy=False)
        out, self.arg_max = self._kernels.pooling_forward(computed, self.pool_h, self.pool_w, self.stride, self.pad)
        self._shape = out.shape
        return out.astype(images.dtype, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout (N, C, OH, OW) -> dx, of forward's x: each number where its maximum was.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        x, arg_max = self._cached("x"), self._cached("arg_max")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, self._cached("_shape"), "forward's result")
        checks.same_shape("arg_max", arg_max, (dout.size,), "forward's result")
        computed = dout.astype(checks.compute_dtype(dout.dtype), copy=False)
        dx = self._kernels.pooling_backward(computed, arg_max, x.shape, self.pool_h, self.pool_w, self.stride, self.pad)
        return dx.astype(dout.dtype, copy=False)


class AveragePooling(_Windows):
    """The mean of each window. The padding is zeros, which take part.

    Args:
        pool_h: the window's height, at least 1.
        pool_w: the window's width, at least 1.
        stride: the step between windows, at least 1.
        pad: how many zeros to put around the images, at least 0.
        backend: "numba" or "numpy"; None for the default.

    Raises:
        TypeError: for arguments that are not whole numbers.
        ValueError: for windows and strides below 1, and a pad below 0.

    Examples:
        >>> import numpy as np
        >>> from fastbp import AveragePooling
        >>> layer = AveragePooling(2, 2, stride=2)
        >>> layer.forward(np.arange(16.0).reshape(1, 1, 4, 4))
        array([[[[ 2.5,  4.5],
                 [10.5, 12.5]]]])
        >>> layer.backward(np.ones((1, 1, 2, 2)))[0, 0, 0]
        array([0.25, 0.25, 0.25, 0.25])
    """

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0, backend: str | None = None):
        super().__init__(pool_h, pool_w, stride, pad, backend)
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (N, C, H, W) -> (N, C, OH, OW), OH = (H + 2 pad - pool_h) // stride + 1; integers become float64.

        Raises TypeError for dtypes that are not real numbers, ValueError for shapes that do not fit.
        """
        images = checks.images("x", x)
        checks.window_fits(images.shape, (self.pool_h, self.pool_w), self.pad)
        result = images.dtype if images.dtype.kind == "f" else np.dtype(np.float64)
        computed = images.astype(checks.compute_dtype(result), copy=False)
        out = self._kernels.average_pooling_forward(computed, self.pool_h, self.pool_w, self.stride, self.pad)
        self._shapes = images.shape, out.shape
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout (N, C, OH, OW) -> dx, of forward's x: each number shared out to its window.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        x_shape, shape = self._cached("_shapes")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, shape, "forward's result")
        result = dout.dtype if dout.dtype.kind == "f" else np.dtype(np.float64)
        computed = dout.astype(checks.compute_dtype(result), copy=False)
        dx = self._kernels.average_pooling_backward(computed, x_shape, self.pool_h, self.pool_w, self.stride, self.pad)
        return dx.astype(result, copy=False)


class Flatten(Layer):
    """Each sample's numbers in a row, (N, ...) -> (N, D): the same numbers in another shape, not a copy where it can be.

    Args:
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Flatten
        >>> layer = Flatten()
        >>> layer.forward(np.ones((2, 3, 4, 4))).shape, layer.backward(np.ones((2, 48))).shape
        ((2, 48), (2, 3, 4, 4))
    """

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self._shape: tuple[int, ...] | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (N, ...) -> (N, D). Raises TypeError for other dtypes, ValueError for a single number."""
        x = checks.real_array("x", x)
        if x.ndim == 0:
            raise ValueError("x must have one row for each sample, got a single number")
        self._shape = x.shape
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, dout: ArrayLike) -> Array:
        """dout (N, D) -> dx, of forward's x. Raises RuntimeError, TypeError and ValueError as other layers do."""
        shape = self._cached("_shape")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, (shape[0], math.prod(shape[1:])), "forward's result")
        return dout.reshape(shape)
