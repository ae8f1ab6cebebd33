"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._checks import Array
from ._base import Layer


class Affine(Layer):
    """x @ W + b, the fully connected layer.

    Args:
        W: the weights (D, M), kept and not copied: what is changed in them in place is used by the next call.
        b: the bias (M,), kept as W is; or one number for all.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        dW: the gradient (D, M) of W, after `backward`.
        db: the gradient (M,) of b, after `backward`.
        x: the input of the last `forward` as a matrix (N, D).
        original_x_shape: the shape that the input had.

    Raises:
        TypeError: for dtypes that are not floating point numbers.
        ValueError: for shapes that do not fit each other.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Affine
        >>> layer = Affine(W=np.array([[1.0, 2.0], [3.0, 4.0]]), b=np.array([0.5, 0.5]))
        >>> layer.forward([[1.0, 1.0]])
        array([[4.5, 6.5]])
        >>> layer.backward([[1.0, 0.0]])
        array([[1., 3.]])
        >>> layer.dW, layer.db
        (array([[1., 0.],
               [1., 0.]]), array([1., 0.]))
    """

    parameters = ("W", "b")
    decayed = ("W",)

    def __init__(self, W: Array, b: ArrayLike, backend: str | None = None):
        super().__init__(backend)
        checks.weights_and_bias(W, b)
        self.W = W
        self.b = b
        self.x: Array | None = None
        self.original_x_shape: tuple[int, ...] | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (N, ...), D numbers in each row -> (N, M).

        Raises TypeError for dtypes that are not real numbers, ValueError for shapes that do not fit W.
        """
        W, b = checks.weights_and_bias(self.W, self.b)
        matrix = checks.rows("x", x, W.shape[0])
        self.original_x_shape = np.shape(x)
        self.x = matrix
        result = np.result_type(matrix, W, b)
        dtype = checks.compute_dtype(result)
        out = self._kernels.affine_forward(_operand(matrix, dtype), W.astype(dtype, copy=False), b.astype(dtype))
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout (N, M) -> dx, in the shape of forward's x; sets dW and db.

        Raises RuntimeError before any forward, TypeError and ValueError as forward does.
        """
        return self._gradients(dout, needs_dx=True)

    def parameter_gradients(self, dout: ArrayLike) -> None:
        self._gradients(dout, needs_dx=False)

    def _gradients(self, dout: ArrayLike, *, needs_dx: bool) -> Any:
        x = self._cached("x")
        W, _ = checks.weights_and_bias(self.W, self.b)
        checks.same_shape("W", W, (x.shape[1], W.shape[1]), "the W that forward was called with")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, (len(x), W.shape[1]), "forward's result")
        whole = dout.dtype.kind in "iub"  # sums of whole numbers stay exact, up to 2**53
        dtype = checks.compute_dtype(np.dtype(np.float64) if whole else np.result_type(x, W, dout))
        W_, dout_ = W.astype(dtype, copy=False), dout.astype(dtype, copy=False)
        dx, dW, db = self._kernels.affine_backward(dout_, _operand(x, dtype), W_, needs_dx)
        self.dW = dW.astype(np.result_type(x, dout), copy=False)
        self.db = db.astype(np.sum(dout[:0], axis=0).dtype, copy=False)
        if dx is None:
            return None
        return dx.astype(np.result_type(dout, W), copy=False).reshape(self.original_x_shape)


def _operand(x: Array, dtype: np.dtype[Any]) -> Array:
    """x as a kernel takes it beside weights of `dtype`: uint8 and float32 unconverted, the rest converted."""
    return x if x.dtype in (np.uint8, np.float32) else x.astype(dtype, copy=False)
