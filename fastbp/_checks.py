"""What arrays may reach a kernel. Compiled loops do not look at bounds, so everything is checked here, once.

Each function names the argument, what was expected and what came.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def real_array(name: str, value: ArrayLike) -> Array:
    """`value` as an array of real numbers (bool, integers, float16 to float64), in this machine's byte order.

    Raises TypeError for any other dtype.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be an array of real numbers (integers or float16 to float64), got {_kind(value)}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _kind(value: ArrayLike) -> str:
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else f"{type(value).__name__}"


def floating_array(name: str, value: ArrayLike) -> Array:
    """`value` as an array of floating point numbers: parameters. Raises TypeError for anything else, integers too."""
    array = real_array(name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be an array of floating point numbers, got dtype {array.dtype}")
    return array


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that kernels compute in for results of `dtype`: float32 for float16 and float32, else float64."""
    return np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)


def same_shape(name: str, array: Array, shape: tuple[int, ...], of: str) -> None:
    """Raises ValueError unless `array` has the shape `shape`, which is that `of` something."""
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of {of}, got {array.shape}")


def weights_and_bias(W: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """W (D, M) and b (M,), or one number for all. Raises TypeError for other dtypes, ValueError for other shapes."""
    W = floating_array("W", W)
    b = real_array("b", b)
    if W.ndim != 2:
        raise ValueError(f"W must have two dimensions (inputs, outputs), got shape {W.shape}")
    if b.shape not in {(), (1,), (W.shape[1],), (1, W.shape[1])}:
        raise ValueError(f"b must have shape ({W.shape[1]},) to fit W of shape {W.shape}, got {b.shape}")
    return W, b if b.shape == W.shape[1:] else np.broadcast_to(b.reshape(b.shape[-1:]), W.shape[1:])


def filters_and_bias(W: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """W (FN, C, FH, FW) and b (FN,), or one number for all. Raises TypeError for other dtypes, ValueError for shapes."""
    W = floating_array("W", W)
    b = real_array("b", b)
    if W.ndim != 4 or 0 in W.shape:
        raise ValueError(f"W must have shape (filters, channels, height, width), none of them 0, got {W.shape}")
    if b.shape not in {(), (1,), (len(W),)}:
        raise ValueError(f"b must have shape ({len(W)},) to fit W of shape {W.shape}, got {b.shape}")
    return W, b if b.shape == W.shape[:1] else np.broadcast_to(b.reshape(b.shape[-1:]), W.shape[:1])


def images(name: str, value: ArrayLike, channels: int | None = None) -> Array:
    """`value` as images (N, C, H, W). Raises ValueError for another rank or another number of channels."""
    array = real_array(name, value)
    if array.ndim != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {array.shape}")
    if channels is not None and array.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {array.shape[1]} (shape {array.shape})")
    return array


def window_fits(shape: tuple[int, ...], window: tuple[int, ...], pad: int) -> None:
    """Raises ValueError where a window (height, width) is larger than images of `shape` with their padding."""
    if any(size + 2 * pad < wide for size, wide in zip(shape[2:], window, strict=True)):
        raise ValueError(f"x must be at least as large as the window {tuple(window)} with a pad of {pad}, got {shape}")


def rows(name: str, value: ArrayLike, features: int) -> Array:
    """`value` with every row flattened, (N, features). Raises ValueError when that is not its number of features."""
    array = real_array(name, value)
    if array.ndim == 0:
        raise ValueError(f"{name} must have one row for each sample, got a single number")
    array = array.reshape(len(array), math.prod(array.shape[1:]))
    if array.shape[1] != features:
        shape = np.shape(value)
        raise ValueError(f"{name} must have {features} features in each row, got {array.shape[1]} (shape {shape})")
    return array


def samples(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`value` (N, *shape); where `shape` is (features,), rows of any shape with so many numbers.

    Raises TypeError for other dtypes, ValueError for other shapes, saying what to do about images in another layout.
    """
    if len(shape) == 1:
        return rows(name, value, shape[0])
    array = real_array(name, value)
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        return array
    expected = f"{name} must have shape (N, {', '.join(map(str, shape))})"
    hint = ""
    if len(shape) == 3:
        expected += ", images as (N, channels, height, width)"
        channels, height, width = shape
        if array.shape[1:] == (height, width, channels):
            hint = f": the channels come last, {name}.transpose(0, 3, 1, 2) puts them first"
        elif array.ndim > 1 and math.prod(array.shape[1:]) == math.prod(shape):
            hint = f": {name}.reshape(-1, {', '.join(map(str, shape))}) has it, if its rows are in that order"
    raise ValueError(f"{expected}, got {array.shape}{hint}")


def labels(t: ArrayLike, rows: int, classes: int) -> Array:
    """Labels for scores (rows, classes): class indices (rows,) as int64, or one-hot (rows, classes) as they are.

    Raises TypeError for indices that are not integers, ValueError for other shapes and for indices out of range.
    """
    t = real_array("t", t)
    if t.shape == (rows, classes):
        return t
    if t.shape not in {(rows,), (rows, 1)}:
        raise ValueError(
            f"t must hold one class index for each row, shape ({rows},), or one-hot rows, shape ({rows}, {classes}); "
            f"got shape {t.shape}"
        )
    if t.dtype.kind not in "iu":
        raise TypeError(f"t must hold integers when it holds class indices, got dtype {t.dtype}")
    if t.size and not (0 <= t.min() and t.max() < classes):
        worst = t.min() if t.min() < 0 else t.max()
        raise ValueError(f"t must hold class indices from 0 to {classes - 1}, got {worst}")
    return t.reshape(rows).astype(np.int64, copy=False)


def probabilities(name: str, t: Array) -> None:
    """Raises ValueError where a number of `t` is not from 0 to 1."""
    if t.size and not (t.min() >= 0 and t.max() <= 1):
        worst = next(float(value) for value in t.flat if not 0 <= value <= 1)
        raise ValueError(f"{name} must be from 0 to 1, got {worst}")


def weights_of_samples(sample_weight: ArrayLike, rows: int) -> Array:
    """Weights, one for each of `rows` rows: finite, not negative, not all 0. Raises TypeError and ValueError."""
    weights = real_array("sample_weight", sample_weight)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight must hold a number for each row, shape ({rows},), got shape {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise ValueError("sample_weight must be finite and not negative, and some of it above 0")
    return weights


def counts(name: str, t: Array) -> None:
    """Raises ValueError where a number of `t` is below 0."""
    if t.size and not t.min() >= 0:
        worst = next(float(value) for value in t.flat if not value >= 0)
        raise ValueError(f"{name} must be 0 or more, got {worst}")


def targets(t: ArrayLike, rows: int, outputs: int) -> Array:
    """Numbers to be met, as (rows, outputs); (rows,) too where there is one output.

    Raises TypeError for other dtypes, ValueError for other shapes.
    """
    t = real_array("t", t)
    if t.shape == (rows,) and outputs == 1:
        return t.reshape(rows, 1)
    if t.shape != (rows, outputs):
        raise ValueError(f"t must hold {outputs} targets for each row, shape ({rows}, {outputs}), got shape {t.shape}")
    return t


def class_indices(t: ArrayLike, rows: int, classes: int) -> Array:
    """Labels as class indices (rows,), int64; one-hot rows must hold a single 1 and zeros.

    Raises what `labels` raises, and ValueError for rows that are not one-hot.
    """
    t = labels(t, rows, classes)
    if t.ndim == 1:
        return t
    one_hot = ((t == 0) | (t == 1)).all(axis=1) & ((t != 0).sum(axis=1) == 1)
    if not one_hot.all():
        raise ValueError(f"t must be one-hot, a single 1 in each row; row {int(np.argmin(one_hot))} is not")
    return t.argmax(axis=1).astype(np.int64, copy=False)


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """`value` as an int. Raises TypeError for other types (bool too), ValueError below `at_least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return int(value)


def not_negative(name: str, value: Any) -> float:
    """`value` as a finite float of at least 0. Raises TypeError for what is no number, ValueError for the rest."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """`value` as a finite float above 0. Raises TypeError for what is no number, ValueError for the rest."""
    if not_negative(name, value) == 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return float(value)


def below_one(name: str, value: Any) -> float:
    """`value` as a float from 0 up to, not including, 1. Raises TypeError for what is no number, ValueError for the rest."""
    if not_negative(name, value) >= 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return float(value)


def ratio(name: str, value: Any) -> float:
    """`value` as a float from 0 to 1. Raises TypeError for what is no number, ValueError for the rest."""
    if not_negative(name, value) > 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """`value` as a bool, NumPy's too. Raises TypeError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def one_of(name: str, value: Any, known: Any) -> Any:
    """`value` if it is among `known`. Raises ValueError, listing them, if not."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return value
