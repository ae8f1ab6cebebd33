"""The layers of the book ゼロから作るDeep Learning (common/layers.py), on either backend.

A layer checks its arguments, remembers what backward needs, and calls one kernel forward and one backward. Results are
new arrays in the dtype that NumPy's own arithmetic would give. Departures from the book, on purpose:

- `Relu.backward` leaves the caller's dout as it is; the book's sets it to 0 in place and returns it.
- Class indices out of range, negative ones too, are an error; NumPy would count negative ones from the end.
- `Sigmoid` does not warn of overflow.
- For a single sample, x (C,), `SoftmaxWithLoss.backward` divides by one sample; the book's divides by C.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import checks
from .backends import get_backend
from .checks import Array
from .losses import absolute_error, huber, poisson

REDUCTIONS = ("mean", "sum")


class _Layer:
    """What all layers share: the backend they were made with, by name and as a module of kernels."""

    def __init__(self, backend: str | None = None):
        self.backend, self._kernels = get_backend(backend)

    def _remembered(self, name: str) -> Any:
        value = getattr(self, name)
        if value is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend, self._kernels = get_backend(self.backend)


class Affine(_Layer):
    """x @ W + b.

    W (D, M) and b (M,), or one number for all, are kept, not copied: what is changed in them in place is used by the
    next call. After backward, `dW` (D, M) and `db` (M,) hold their gradients; `x` and `original_x_shape` are the input.
    """

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
        x = self._remembered("x")
        W, _ = checks.weights_and_bias(self.W, self.b)
        checks.same_shape("W", W, (x.shape[1], W.shape[1]), "the W that forward was called with")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, (len(x), W.shape[1]), "forward's result")
        whole = dout.dtype.kind in "iub"  # sums of whole numbers stay exact, up to 2**53
        dtype = checks.compute_dtype(np.dtype(np.float64) if whole else np.result_type(x, W, dout))
        W_, dout_ = W.astype(dtype, copy=False), dout.astype(dtype, copy=False)
        dx, dW, db = self._kernels.affine_backward(dout_, _operand(x, dtype), W_)
        self.dW = dW.astype(np.result_type(x, dout), copy=False)
        self.db = db.astype(np.sum(dout[:0], axis=0).dtype, copy=False)
        return dx.astype(np.result_type(dout, W), copy=False).reshape(self.original_x_shape)


def _operand(x: Array, dtype: np.dtype[Any]) -> Array:
    """x as a kernel takes it beside weights of `dtype`: uint8 and float32 unconverted, the rest converted."""
    return x if x.dtype in (np.uint8, np.float32) else x.astype(dtype, copy=False)


class Relu(_Layer):
    """max(x, 0). `mask` remembers where x <= 0."""

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self.mask: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape and dtype; 0 where x <= 0, NaN stays. Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        out, self.mask = self._kernels.relu_forward(x.astype(_elementwise(x.dtype), copy=False))
        return out.astype(x.dtype, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx, a new array: 0 where the mask is set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._remembered("mask")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, mask.shape, "forward's result")
        return self._kernels.relu_backward(dout.astype(_elementwise(dout.dtype), copy=False), mask).astype(
            dout.dtype, copy=False
        )


def _elementwise(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype that kernels know and that holds every value of `dtype`."""
    return np.dtype({"float16": np.float32, "bool": np.uint8}.get(dtype.name, dtype))


class _ByOut(_Layer):
    """An activation whose derivative is a function of its result; `name` is that of its kernels."""

    name = ""

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self.out: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape, in the dtype of np.exp(x). Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        result = np.exp(np.empty(0, x.dtype)).dtype
        out = getattr(self._kernels, f"{self.name}_forward")(x.astype(checks.compute_dtype(result), copy=False))
        self.out = out.astype(result, copy=False)
        return self.out

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        out = checks.floating_array("out", self._remembered("out"))
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, out.shape, "forward's result")
        result = np.result_type(dout, out)
        dtype = checks.compute_dtype(result)
        backward = getattr(self._kernels, f"{self.name}_backward")
        return backward(dout.astype(dtype, copy=False), out.astype(dtype, copy=False)).astype(result, copy=False)


class Sigmoid(_ByOut):
    """1 / (1 + exp(-x)). `out` remembers the result; dx = dout * (1 - out) * out."""

    name = "sigmoid"


class Tanh(_ByOut):
    """The hyperbolic tangent. `out` remembers the result; dx = dout * (1 - out²)."""

    name = "tanh"


class SoftmaxWithLoss(_Layer):
    """Softmax and the mean cross-entropy with the labels. Remembers `loss`, `y` (the softmax) and `t` (the labels)."""

    def __init__(self, backend: str | None = None):
        super().__init__(backend)
        self.loss: Any = None
        self.y: Array | None = None
        self.t: Array | None = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """x (N, C), t: class indices (N,) or one-hot (N, C) -> the mean of -log(y[label] + 1e-7), a scalar.

        One sample may come as x (C,) with t an index or one-hot (C,). The label of a one-hot row is its first maximum.
        Raises TypeError for other dtypes and for labels that are not integers, ValueError for an empty batch, for
        shapes that do not fit and for labels out of range.
        """
        scores = checks.real_array("x", x)
        if scores.ndim not in (1, 2) or scores.size == 0:
            raise ValueError(f"x must have shape (N, C) with at least one row and one class, got {scores.shape}")
        self.t = np.asarray(t)
        rows, labels = self._rows_and_labels(scores)
        result = np.exp(np.empty(0, scores.dtype)).dtype
        rows = rows.astype(checks.compute_dtype(result), copy=False)
        loss, y = self._kernels.softmax_cross_entropy_forward(rows, labels)
        self.y = y.astype(result, copy=False).reshape(scores.shape)
        self.loss = result.type(loss)
        return self.loss

    def backward(self, dout: Any = 1) -> Array:
        """(y - t) / N, (N, C), with t one-hot. dout is ignored, as in the book.

        Raises RuntimeError before any forward, and what forward raises where y or t was changed since.
        """
        y = checks.floating_array("y", self._remembered("y"))
        rows, labels = self._rows_and_labels(y)
        result = y.dtype if labels.ndim == 1 else np.result_type(y, self.t)
        dtype = checks.compute_dtype(result)
        labels = labels if labels.ndim == 1 else labels.astype(dtype, copy=False)
        dx = self._kernels.softmax_cross_entropy_backward(rows.astype(dtype, copy=False), labels)
        return dx.astype(result, copy=False).reshape(y.shape)

    def _rows_and_labels(self, scores: Array) -> tuple[Array, Array]:
        """Scores or probabilities as (N, C) and labels that fit them; a single sample becomes one row."""
        t = np.asarray(self.t)
        rows = np.atleast_2d(scores)
        if scores.ndim == 1:
            t = t.reshape(1, -1) if t.size == scores.size > 1 else t.reshape(-1)
        return rows, checks.labels(t, *rows.shape)


class LeakyRelu(_Layer):
    """x where x > 0, slope * x elsewhere. `mask` remembers where x <= 0.

    Raises TypeError and ValueError for a slope that is not a finite number above 0.
    """

    def __init__(self, slope: float = 0.01, backend: str | None = None):
        super().__init__(backend)
        self.slope = checks.positive("slope", slope)
        self.mask: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> the same shape; integers become float64. Raises TypeError for other dtypes."""
        x = checks.real_array("x", x)
        result = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        out, self.mask = self._kernels.leaky_relu_forward(
            x.astype(checks.compute_dtype(result), copy=False), self.slope
        )
        return out.astype(result, copy=False)

    def backward(self, dout: ArrayLike) -> Array:
        """dout, of forward's shape -> dx: dout, and slope * dout where the mask is set.

        Raises RuntimeError before any forward, ValueError for another shape, TypeError for other dtypes.
        """
        mask = self._remembered("mask")
        dout = checks.real_array("dout", dout)
        checks.same_shape("dout", dout, mask.shape, "forward's result")
        result = dout.dtype if dout.dtype.kind == "f" else np.dtype(np.float64)
        dx = self._kernels.leaky_relu_backward(dout.astype(checks.compute_dtype(result), copy=False), mask, self.slope)
        return dx.astype(result, copy=False)


class Identity(_Layer):
    """x itself: the activation of an output layer for regression."""

    def forward(self, x: ArrayLike) -> Array:
        """x (any shape) -> a copy. Raises TypeError for dtypes that are not real numbers."""
        return checks.real_array("x", x).copy()

    def backward(self, dout: ArrayLike) -> Array:
        """dout -> a copy. Raises TypeError for dtypes that are not real numbers."""
        return checks.real_array("dout", dout).copy()


class _TargetLoss(_Layer):
    """A loss of outputs x (N, M) and targets t (N, M): the mean over the batch, or with reduction="sum" the sum."""

    def __init__(self, reduction: str = "mean", backend: str | None = None):
        super().__init__(backend)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)
        self.loss: Any = None
        self.y: Array | None = None
        self.t: Array | None = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """x (N, M) or (N,), t the same shape -> the loss, a scalar in x's dtype; integers become float64.

        Raises TypeError for other dtypes, ValueError for an empty batch and for shapes that differ.
        """
        x, t = checks.real_array("x", x), checks.real_array("t", t)
        checks.same_shape("t", t, x.shape, "x")
        if not x.size or not x.ndim:
            raise ValueError(f"x must have at least one row, got shape {x.shape}")
        self.check_targets(t)
        result = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        dtype = checks.compute_dtype(result)
        self.t = t.astype(dtype, copy=False)
        total, y = self._loss(x.astype(dtype, copy=False), self.t)
        self.y = y.astype(result, copy=False)
        self.loss = result.type(total / self._divisor(y))
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """dout * the derivative by x, (N, M), divided by N for the mean. Raises RuntimeError before any forward."""
        y = self._remembered("y")
        return (self._derivative(y, self._remembered("t")) * (dout / self._divisor(y))).astype(y.dtype, copy=False)

    def _derivative(self, y: Array, t: Array) -> Array:
        return y - t

    def _divisor(self, y: Array) -> int:
        return len(y) if self.reduction == "mean" else 1

    def check_targets(self, t: Array) -> None:
        """Raises ValueError for targets that the loss has no value for; they are all real numbers otherwise."""

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        raise NotImplementedError


class IdentityWithLoss(_TargetLoss):
    """The output layer for regression: y = x, and half the squared error, ½ Σ (y - t)². Remembers `loss`, `y`, `t`."""

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        difference = x - t
        return float(np.sum(difference * difference, dtype=np.float64)) / 2, x


class AbsoluteErrorWithLoss(_TargetLoss):
    """y = x, and Σ |y - t|: outliers count less than with the squared error. Remembers `loss`, `y`, `t`."""

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        return float(absolute_error(np.atleast_2d(x), np.atleast_2d(t))[0].sum()), x

    def _derivative(self, y: Array, t: Array) -> Array:
        return np.sign(y - t)


class HuberWithLoss(_TargetLoss):
    """y = x, and Huber's loss, (y - t)² / 2 up to |y - t| = 1 and |y - t| - 1/2 beyond. Remembers `loss`, `y`, `t`."""

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        return float(huber(np.atleast_2d(x), np.atleast_2d(t))[0].sum()), x

    def _derivative(self, y: Array, t: Array) -> Array:
        return np.clip(y - t, -1, 1)


class PoissonWithLoss(_TargetLoss):
    """y = exp(x), for counts, and half the Poisson deviance, Σ t log(t / y) - t + y. Remembers `loss`, `y`, `t`."""

    def check_targets(self, t: Array) -> None:
        checks.counts("t", t)

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        with np.errstate(over="ignore"):
            return float(poisson(np.atleast_2d(x), np.atleast_2d(t))[0].sum()), np.exp(x)


class SigmoidWithLoss(_TargetLoss):
    """Sigmoid and binary cross-entropy, Σ -t log y - (1 - t) log(1 - y): one or several yes-or-no outputs.

    Targets are from 0 to 1. Remembers `loss`, `y` (the sigmoid) and `t`.
    """

    def check_targets(self, t: Array) -> None:
        checks.probabilities("t", t)

    def _loss(self, x: Array, t: Array) -> tuple[float, Array]:
        return self._kernels.sigmoid_cross_entropy_forward(x, t)
