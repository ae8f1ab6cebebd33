"""How long NumPy may take for a call that kernels make sooner, from its arrays alone: the same in every run of a script."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..objects.arguments import LEAST_CELL, LEAST_ELEMENTWISE, LEAST_PRODUCT, SCALE
from ..objects.cells import parameters_of_cell
from ..objects.unforeseen import or_else

# Numbers in the array that is given. Measured and rejected: 6,000; evaluations of 1,000 rows of 16, after each ten steps of
# 100, kept all calls of a tiny network looked at, and brought kernels to begin that saved nothing: 1.15 of Python's time.
LEAST_COUNTED = 20_000 * SCALE
# Seconds: of a call, of each number in its arrays, of each multiplication; of each number in a matrix of patches, forwards
# and backwards, and of each number of the images that are pooled. Without the last two the kernels began 1 to 2 s late in
# readers' convolutional networks: one took 4.4 s instead of 3.8.
CALL, NUMBER, PRODUCT = 5e-6, 2e-9, 6e-11
PATCHES, POOLED = {"forward": 6e-9, "backward": 9e-9}, {"forward": 20e-9, "backward": 4e-9}
# Of a product of numbers that are not mostly zeros, of the dtype of the weights, a tenth counts: OpenBLAS is about as fast.
DENSE, SAMPLES, LARGEST_DENSITY = 0.1, 512, 0.3
CELL = 0.3  # likewise, of a step of a recurrent layer, with its gates: kernels take half of NumPy's time
STEP = 3e-10  # and of each of its weights: an object is made for each step, with gradients, which are added up
LEAST_EXPECTED = 1_000_000  # numbers that are given; a call of fewer is looked at when it is over
# Of each number that a product must convert to the dtype of the weights: 376 MB, for 60,000 images, that are new memory.
CONVERTED = 4e-9


@or_else(0.0)
def estimated_seconds(name: str, arguments: tuple[Any, ...], result: Any) -> float:
    """How long NumPy may take for a call of a layer's method or a function, from the sizes of its arrays.

    0 for a call with so few numbers that it is left to NumPy.
    """
    given = arguments[1] if len(arguments) > 1 else arguments[0] if arguments else None
    are_arrays = len(arguments) > 2 and all(isinstance(one, np.ndarray) for one in arguments[1:3])
    if are_arrays and (matrices := matrices_of_cell(arguments[0])):
        return _cell(name, given, matrices)
    numbers = _size(result) + _size(given)
    if numbers < LEAST_ELEMENTWISE:
        return 0.0
    weights = _weights(arguments[0]) if arguments else None
    if weights is None:
        return CALL + NUMBER * numbers + _pooled(name, given, result)
    rows = _size(given if name == "backward" else result) / max(1, _outputs(weights))
    if rows * weights.size < LEAST_PRODUCT:
        return 0.0
    return CALL + NUMBER * numbers + _product(name, given, weights, rows)


def _cell(name: str, given: Any, matrices: list[Any]) -> float:
    """A step of a recurrent layer, which has a product with each of the matrices."""
    weights = sum(one.size for one in matrices)
    products = given.shape[0] * weights if given.ndim else 0
    seconds = (CELL * PRODUCT * products + STEP * weights) * (2 if name == "backward" else 1)
    return CALL + seconds if products >= LEAST_CELL else 0.0


@or_else(0.0)
def expected_seconds(layer: Any, x: Any) -> float:
    """How long layer.forward(x) may take, before it is called; images are taken to stay as large as they are."""
    weights = _weights(layer)
    if weights is None:
        return CALL + 2 * NUMBER * x.size
    return seconds_of_product(x, weights)


def seconds_of_product(x: Any, weights: Any) -> float:
    """How long the product of rows or images x with weights (D, M) or filters (M, C, H, W) may take."""
    rows = x.size / max(1, weights.shape[0 if weights.ndim == 2 else 1])
    return CALL + NUMBER * (x.size + rows * _outputs(weights)) + _product("forward", x, weights, rows)


def _product(name: str, given: Any, weights: Any, rows: float) -> float:
    """What a product of so many rows takes, with its patches if it is of images; rows of another dtype are converted."""
    seconds = PRODUCT * rows * weights.size * (2 if name == "backward" else 1)
    if weights.ndim == 4:
        return seconds + PATCHES.get(name, 0) * rows * weights[0].size
    if name != "backward":  # which is not given x: it is taken to be as it was
        _is_dense[weights.shape] = is_dense = _is_dense_in(given, weights.dtype)
    else:
        is_dense = _is_dense.get(weights.shape, False)
    if is_dense:
        return seconds * DENSE
    return seconds + (CONVERTED * given.size if isinstance(given, np.ndarray) and given.dtype != weights.dtype else 0)


_is_dense: dict[tuple[int, ...], bool] = {}  # whether x was, in the last forward of weights of this shape


def _is_dense_in(x: Any, dtype: Any) -> bool:
    """Whether x is of this dtype, and most of its numbers are not zero, by a sample."""
    if not isinstance(x, np.ndarray) or x.dtype != dtype or not x.flags.c_contiguous:
        return False
    sample = x.reshape(-1)[:: max(1, x.size // SAMPLES) | 1]
    return bool(np.count_nonzero(sample) > LARGEST_DENSITY * sample.size)


def _outputs(weights: Any) -> int:
    count: int = weights.shape[-1 if weights.ndim == 2 else 0]
    return count


def _pooled(name: str, given: Any, result: Any) -> float:
    """What pooling takes beside: where images come and others, of another size, go."""
    images = isinstance(given, np.ndarray) and isinstance(result, np.ndarray) and given.ndim == result.ndim == 4
    return POOLED.get(name, 0) * max(given.size, result.size) if images and given.size != result.size else 0.0


def _weights(layer: Any) -> Any:
    """A layer's matrix or filters, by the names that they mostly have; None if it has none."""
    held = getattr(layer, "__dict__", {})  # nothing of the script's runs, as a property would
    weights = next((held[name] for name in ("W", "w", "weight", "weights") if held.get(name) is not None), None)
    if weights is None:
        parameters = held.get("params")
        weights = parameters[0] if type(parameters) is list and parameters else None  # the book's second volume
    return weights if isinstance(weights, np.ndarray) and weights.ndim in (2, 4) and weights.size else None


def matrices_of_cell(layer: Any) -> list[Any]:
    """The two matrices of a recurrent layer, for x and for what it has given before; none if it is something else."""
    matrices = [one for one in parameters_of_cell(layer) if isinstance(one, np.ndarray) and one.ndim == 2 and one.size]
    return matrices if len(matrices) == 2 and matrices[0].shape[1] == matrices[1].shape[1] else []


def _size(value: Any) -> int:
    """How many numbers an array has, or a dict's arrays, which an update goes over several times."""
    if isinstance(value, np.ndarray):
        return value.size
    return 4 * sum(map(_size, value.values())) if type(value) is dict else 0
