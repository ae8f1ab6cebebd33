"""Dropout and BatchNormalization, of the book ゼロから作るDeep Learning, on either backend.

Each has, as an opt-in, the variant that other libraries have: Dropout(inverted=True) scales while training instead of
when predicting, BatchNormalization(per_channel=True) normalises the channels of images instead of every pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._checks import Array
from ._base import Layer

EPSILON = 10e-7  # of batch normalisation: the book's


class Dropout(Layer):
    """While training, each number is dropped with a probability.

    The mask is np.random.rand(*x.shape) > dropout_ratio, as the book draws it. When predicting, numbers are multiplied by
    1 - dropout_ratio; with inverted=True they are left, and divided by it while training.

    Args:
        dropout_ratio: the probability, from 0 to 1; with inverted=True below 1.
        inverted: scale while training instead of when predicting, as other libraries do.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        mask: which numbers were kept, of x's shape.

    Raises:
        TypeError: for a ratio that is not a number.
        ValueError: for a ratio out of range.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Dropout
        >>> np.random.seed(0)
        >>> layer = Dropout(0.5)
        >>> layer.forward(np.ones(4))
        array([1., 1., 1., 1.])
        >>> layer.forward(np.ones(4), train_flg=False)
        array([0.5, 0.5, 0.5, 0.5])
    """

    def __init__(self, dropout_ratio: float = 0.5, inverted: bool = False, backend: str | None = None):
        super().__init__(backend)
        check = checks.below_one if inverted else checks.ratio
        self.dropout_ratio = check("dropout_ratio", dropout_ratio)
        self.inverted = inverted
        self.mask: Array | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """x (any shape) -> the same shape; integers become float64. Raises TypeError for other dtypes."""
        x, result = _floating("x", x)
        if not train_flg:
            return x.copy() if self.inverted else (x * x.dtype.type(1 - self.dropout_ratio)).astype(result, copy=False)
        computed = x.astype(checks.compute_dtype(result), copy=False)
        draws = np.asarray(np.random.rand(*x.shape))
        out, self.mask = self._kernels.dropout_forward(computed, draws, self.dropout_ratio, self._scale())
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx: 0 where the mask is not set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._cached("mask")
        dout, result = _floating("dout", dout)
        checks.same_shape("dout", dout, mask.shape, "forward's result")
        computed = dout.astype(checks.compute_dtype(result), copy=False)
        return self._kernels.dropout_backward(computed, mask, self._scale()).astype(result, copy=False)

    def _scale(self) -> float:
        return 1 / (1 - self.dropout_ratio) if self.inverted else 1.0


class Draw(NamedTuple):
    """Which numbers `SeededDropout` leaves out: a seed, the number of the update, of the layer, and of each row (N,)."""

    seed: int
    step: int
    layer: int
    rows: Array


class SeededDropout(Layer):
    """Dropout whose mask is a function of a seed and of the numbers of the update, the layer and the row: see `Draw`.

    It is what `nn.Dropout` becomes in a network, and the same function as that of Trainer(dropout=...).

    Args:
        dropout_ratio: the probability, from 0 up to, not including, 1.
        inverted: divide by 1 - dropout_ratio while training; False multiplies by it when predicting.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        draw: the Draw of the next forward that trains.
        mask: which numbers were kept (N, D).

    Raises:
        TypeError: for a ratio that is not a number.
        ValueError: for a ratio out of range.
    """

    def __init__(self, dropout_ratio: float = 0.5, inverted: bool = True, backend: str | None = None):
        super().__init__(backend)
        self.dropout_ratio = checks.below_one("dropout_ratio", dropout_ratio)
        self.inverted = inverted
        self.draw: Draw | None = None
        self.mask: Array | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """x (N, ...) -> the same shape; integers become float64.

        Raises TypeError for other dtypes, ValueError where draw is not of N rows, RuntimeError where there is none.
        """
        x, result = _floating("x", x)
        if not train_flg:
            return x if self.inverted else (x * x.dtype.type(1 - self.dropout_ratio)).astype(result, copy=False)
        draw = self._cached("draw")
        checks.same_shape("draw.rows", draw.rows, x.shape[:1], "x's rows")
        rows = x.reshape(len(x), -1).astype(checks.compute_dtype(result), copy=False)
        out, self.mask = self._kernels.seeded_dropout_forward(rows, draw, self.dropout_ratio, self._scale())
        return out.reshape(x.shape).astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx: 0 where the mask is not set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._cached("mask")
        dout, result = _floating("dout", dout)
        rows = dout.reshape(len(dout), -1).astype(checks.compute_dtype(result), copy=False)
        checks.same_shape("dout", rows, mask.shape, "forward's result")
        return self._kernels.dropout_backward(rows, mask, self._scale()).reshape(dout.shape).astype(result, copy=False)

    def _scale(self) -> float:
        return 1 / (1 - self.dropout_ratio) if self.inverted else 1.0


def _floating(name: str, value: ArrayLike) -> tuple[Array, np.dtype[Any]]:
    array = checks.real_array(name, value)
    result = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    return array.astype(result, copy=False), result


class BatchNormalization(Layer):
    """(x - mean) / sqrt(variance + 10e-7) * gamma + beta, by column (Ioffe and Szegedy, 2015; biased variance).

    x is (N, D); or images (N, C, H, W), taken as the book takes them, (N, C * H * W), or with per_channel=True as
    (N * H * W, C). While training, the mean and variance are the batch's, and `running_mean` and `running_var` follow them:
    running = momentum * running + (1 - momentum) * new. When predicting, they are used.

    Args:
        gamma: the scales (D,), kept and not copied.
        beta: the shifts (D,), kept and not copied.
        momentum: of the running statistics, from 0 to 1.
        running_mean: (D,); None for zeros.
        running_var: (D,); None for zeros.
        per_channel: normalise the channels of images instead of every pixel.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        dgamma: the gradient (D,) of gamma, after `backward`.
        dbeta: the gradient (D,) of beta, after `backward`.

    Raises:
        TypeError: for a momentum that is not a number.
        ValueError: for a momentum out of range.

    Examples:
        >>> import numpy as np
        >>> from fastbp import BatchNormalization
        >>> layer = BatchNormalization(gamma=np.ones(2), beta=np.zeros(2))
        >>> layer.forward(np.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
        array([[-1., -1.],
               [ 1.,  1.]])
        >>> layer.running_mean
        array([0.2, 2. ])
    """

    parameters = ("gamma", "beta")
    statistics = ("running_mean", "running_var")

    def __init__(
        self,
        gamma: Array,
        beta: Array,
        momentum: float = 0.9,
        running_mean: Array | None = None,
        running_var: Array | None = None,
        per_channel: bool = False,
        backend: str | None = None,
    ):
        super().__init__(backend)
        self.gamma, self.beta = gamma, beta
        self.momentum = checks.ratio("momentum", momentum)
        self.running_mean, self.running_var = running_mean, running_var
        self.per_channel = per_channel
        self.input_shape: tuple[int, ...] | None = None
        self.batch_size: int | None = None
        self.xc: Array | None = None
        self.xn: Array | None = None
        self.std: Array | None = None
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """x (N, D) or (N, C, H, W) -> the same shape.

        Raises TypeError for dtypes that are not real numbers, ValueError for other shapes and for an empty batch.
        """
        x, result = _floating("x", x)
        columns = self._columns("x", x)
        if not len(columns):
            raise ValueError(f"x must have at least one row, got shape {x.shape}")
        gamma, beta = (self._vector(name, columns) for name in ("gamma", "beta"))
        if self.running_mean is None or self.running_var is None:
            self.running_mean, self.running_var = np.zeros((2, columns.shape[1]))
        mean, variance = (self._vector(name, columns) for name in ("running_mean", "running_var"))
        result = np.result_type(result, gamma, beta)
        dtype = checks.compute_dtype(result)
        columns, gamma, beta = (array.astype(dtype, copy=False) for array in (columns, gamma, beta))
        self.input_shape = x.shape  # the book's attribute, after predicting too
        if not train_flg:
            out = self._kernels.batch_normalization_apply(
                columns, gamma, beta, mean.astype(dtype), variance.astype(dtype), EPSILON
            )
            return self._images(out, x.shape).astype(result, copy=False)
        forward = self._kernels.batch_normalization_forward
        out, self.xc, self.xn, self.std, new_mean, new_variance = forward(columns, gamma, beta, EPSILON)
        self.batch_size = len(columns)
        self.running_mean = self.momentum * mean + (1 - self.momentum) * new_mean
        self.running_var = self.momentum * variance + (1 - self.momentum) * new_variance
        return self._images(out, x.shape).astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx; sets dgamma and dbeta.

        Raises RuntimeError before a forward that trained, ValueError for another shape, TypeError for other dtypes.
        """
        xc, xn, std = (self._cached(name) for name in ("xc", "xn", "std"))
        dout, result = _floating("dout", dout)
        checks.same_shape("dout", dout, self._cached("input_shape"), "forward's result")
        columns = self._columns("dout", dout)
        checks.same_shape("dout", columns, xc.shape, "the batch that forward trained with")
        gamma = self._vector("gamma", columns)
        dout_, gamma_ = (array.astype(xc.dtype, copy=False) for array in (columns, gamma))
        dx, self.dgamma, self.dbeta = self._kernels.batch_normalization_backward(dout_, gamma_, xc, xn, std)
        return self._images(dx, dout.shape).astype(np.result_type(result, gamma), copy=False)

    def _columns(self, name: str, x: Array) -> Array:
        if x.ndim not in (2, 4):
            raise ValueError(f"{name} must have shape (N, D) or (N, C, H, W), got {x.shape}")
        if x.ndim == 4 and self.per_channel:
            return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
        return x.reshape(len(x), int(np.prod(x.shape[1:])))

    def _images(self, columns: Array, shape: tuple[int, ...]) -> Array:
        """Columns back in the shape of the input."""
        if len(shape) == 4 and self.per_channel:
            return columns.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
        return columns.reshape(shape)

    def _vector(self, name: str, columns: Array) -> Array:
        vector = checks.floating_array(name, getattr(self, name))
        checks.same_shape(name, vector, columns.shape[1:], "x's columns")
        return vector
