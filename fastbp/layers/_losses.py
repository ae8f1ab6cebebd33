"""Losses, with the activation of the output layer before them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._checks import Array
from ._base import Layer

REDUCTIONS = ("mean", "sum")


class SoftmaxWithLoss(Layer):
    """Softmax and the mean cross-entropy with the labels.

    Args:
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the softmax (N, C).
        t: the labels, as they came.

    Examples:
        >>> import numpy as np
        >>> from fastbp import SoftmaxWithLoss
        >>> last = SoftmaxWithLoss()
        >>> float(last.forward(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1]).round(4))
        0.41
        >>> last.backward().round(4)
        array([[-0.0596,  0.0596],
               [ 0.25  , -0.25  ]])
    """

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
        y = checks.floating_array("y", self._cached("y"))
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


class _TargetLoss(Layer):
    """A loss of outputs x (N, M) and targets t (N, M): the mean over the batch, or with reduction="sum" the sum.

    `name` is that of its entry in fastbp/_losses.py.
    """

    name = ""

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
        total, y = self._kernels.target_loss_forward(x.astype(dtype, copy=False), self.t, self.name)
        self.y = y.astype(result, copy=False)
        self.loss = result.type(total / self._divisor(y))
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """dout * d(loss)/dx (N, M), divided by N for the mean. Raises RuntimeError before any forward."""
        y, t = self._cached("y"), self._cached("t")
        derivative = self._kernels.target_loss_backward(y.astype(t.dtype, copy=False), t, self.name)
        return (derivative * (dout / self._divisor(y))).astype(y.dtype, copy=False)

    def _divisor(self, y: Array) -> int:
        return len(y) if self.reduction == "mean" else 1

    def check_targets(self, t: Array) -> None:
        """Raises ValueError for targets that the loss has no value for; they are all real numbers otherwise."""


class IdentityWithLoss(_TargetLoss):
    """The output layer for regression: y = x, and half the squared error, ½ Σ (y - t)².

    Args:
        reduction: "mean" over the batch, or "sum".
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the outputs (N, M).
        t: the targets (N, M).

    Raises:
        ValueError: for another reduction.

    Examples:
        >>> from fastbp import IdentityWithLoss
        >>> last = IdentityWithLoss()
        >>> float(last.forward([[1.0], [3.0]], [[0.0], [0.0]]))
        2.5
        >>> last.backward()
        array([[0.5],
               [1.5]])
    """

    name = "squared_error"


class AbsoluteErrorWithLoss(_TargetLoss):
    """y = x, and Σ |y - t|: outliers count less than with the squared error.

    Args:
        reduction: "mean" over the batch, or "sum".
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the outputs (N, M).
        t: the targets (N, M).

    Raises:
        ValueError: for another reduction.

    Examples:
        >>> from fastbp import AbsoluteErrorWithLoss
        >>> last = AbsoluteErrorWithLoss()
        >>> float(last.forward([[1.0], [3.0]], [[0.0], [0.0]]))
        2.0
        >>> last.backward()
        array([[0.5],
               [0.5]])
    """

    name = "absolute_error"


class HuberWithLoss(_TargetLoss):
    """y = x, and Huber's loss: (y - t)² / 2 up to |y - t| = 1, and |y - t| - 1/2 beyond (Huber 1964).

    Args:
        reduction: "mean" over the batch, or "sum".
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the outputs (N, M).
        t: the targets (N, M).

    Raises:
        ValueError: for another reduction.

    Examples:
        >>> from fastbp import HuberWithLoss
        >>> last = HuberWithLoss()
        >>> float(last.forward([[0.5], [3.0]], [[0.0], [0.0]]))
        1.3125
        >>> last.backward()
        array([[0.25],
               [0.5 ]])
    """

    name = "huber"


class PoissonWithLoss(_TargetLoss):
    """y = exp(x), for counts, and half the Poisson deviance, Σ t log(t / y) - t + y.

    Args:
        reduction: "mean" over the batch, or "sum".
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the means (N, M).
        t: the targets (N, M), 0 or more.

    Raises:
        ValueError: for another reduction, and in `forward` for targets below 0.

    Examples:
        >>> from fastbp import PoissonWithLoss
        >>> last = PoissonWithLoss()
        >>> float(last.forward([[0.0]], [[2.0]]).round(4))
        0.3863
        >>> last.backward()
        array([[-1.]])
    """

    name = "poisson"

    def check_targets(self, t: Array) -> None:
        checks.counts("t", t)


class SigmoidWithLoss(_TargetLoss):
    """Sigmoid and binary cross-entropy, Σ -t log y - (1 - t) log(1 - y): one or several outputs of two classes.

    Args:
        reduction: "mean" over the batch, or "sum".
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        loss: the result of the last `forward`.
        y: the probabilities (N, M).
        t: the targets (N, M), from 0 to 1.

    Raises:
        ValueError: for another reduction, and in `forward` for targets outside of 0 to 1.

    Examples:
        >>> from fastbp import SigmoidWithLoss
        >>> last = SigmoidWithLoss()
        >>> float(last.forward([[0.0]], [[1.0]]).round(4))
        0.6931
        >>> last.backward()
        array([[-0.5]])
    """

    name = "binary_cross_entropy"

    def check_targets(self, t: Array) -> None:
        checks.probabilities("t", t)


LOSS_LAYERS: dict[str, type[Any]] = {
    "cross_entropy": SoftmaxWithLoss,
    **{
        loss.name: loss
        for loss in (IdentityWithLoss, SigmoidWithLoss, AbsoluteErrorWithLoss, HuberWithLoss, PoissonWithLoss)
    },
}
