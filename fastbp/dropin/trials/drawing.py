"""What layers are tried on: weights and inputs of several sizes and dtypes, numbers large and small, NaN and infinities."""

from __future__ import annotations

from typing import Any

import numpy as np

Values = dict[str, Any]
Shape = tuple[int, ...]
SCALES = (1.0, 1e60, 1.0, 20.0, 1e-4, 300.0)
BATCHES = (2, 1, 3, 70, 5)
WILD = (np.nan, np.inf, -np.inf, -0.0, 0.0)


def numbers(rng: Any, shape: tuple[int, ...], scale: float, dtype: Any = np.float64) -> Any:
    """Normal numbers, some of them 0; of large arrays, the same ones again and again, which takes less time."""
    drawn = rng.standard_normal(min(1009, int(np.prod(shape)) or 1)) * scale
    drawn[::7] = 0
    with np.errstate(over="ignore", under="ignore"):
        return np.resize(drawn, shape).astype(dtype)


def draw_input(rng: Any, shape: tuple[int, ...], time: int, dtype: Any = np.float64) -> Any:
    """Numbers of another scale each time; the third time, NaN, infinities and zeros are among them."""
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 256, shape).astype(dtype)
    scale = SCALES[time % len(SCALES)]
    array = numbers(rng, shape, min(scale, 1e12) if dtype == np.float32 else scale, dtype)
    if time % 6 == 2 and array.size:
        array.flat[rng.integers(0, array.size, len(WILD))] = WILD
    return array


def of_kinds(place: int, *choices: Any) -> tuple[Any, ...]:
    """One of each of the choices, every combination in its order, and how often all have been through."""
    count = 1
    chosen = []
    for choice in choices:
        chosen.append(choice[place // count % len(choice)])
        count *= len(choice)
    return (*chosen, place // count)


FLOATS = (np.float64, np.float32)
PAIRS = (
    (np.float64, np.float64), (np.float64, np.float32), (np.float64, np.uint8), (np.float64, np.int64),
    (np.float32, np.float32),
)  # fmt: skip


def draw_affine(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    (of_weights, of_x), time = of_kinds(place, PAIRS)
    (columns, outputs), count = current["W"].shape if np.ndim(current["W"]) == 2 else (1, 1), BATCHES[time % 5]
    shape = (count, columns)
    if time % 2:
        fits = arguments[0].ndim > 2 and np.prod(arguments[0].shape[1:]) == columns
        shape = (count, *(arguments[0].shape[1:] if fits else (columns, 1, 1)))
    scale = (1.0, 1e4, 1e-3)[time % 3]
    drawn = {"x": draw_input(rng, shape, time, of_x), "W": numbers(rng, (columns, outputs), scale, of_weights)}
    if "b" in current:
        drawn["b"] = numbers(rng, (outputs,), 10 * scale, of_weights)
    return drawn


def draw_elementwise(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    rest = {1: (), 2: (9,), 4: (2, 3, 4)}
    dtype, ndim, time = of_kinds(place, FLOATS, (arguments[0].ndim, 4 if arguments[0].ndim == 2 else 2))
    return {"x": draw_input(rng, (BATCHES[time % 5], *rest.get(ndim, (4,) * (ndim - 1))), time, dtype)}


def draw_dropout(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    return {**draw_elementwise(rng, place, current, arguments), "ratio": (0.5, 0.1, 1.0, 0.85, 0.0)[place % 5]}


def draw_softmax(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    dtype, labels_kind, time = of_kinds(place, FLOATS, range(7))
    classes = arguments[0].shape[-1] if arguments[0].ndim == 2 else 3
    count = BATCHES[place % 5] + (place % 5 == 1) * (time % 2)
    labels = rng.integers(0, classes, count)
    labels[0], labels[-1] = classes - 1, 0
    one_hot = np.eye(classes)[labels]
    whole = one_hot.copy()
    if time % 3 == 1:  # soft labels, and rows without one
        one_hot = 0.9 * one_hot + 0.1 * rng.random((count, classes))
        whole[count // 2] = 0
    t = (
        labels, one_hot, whole.astype(int), whole.astype(np.uint8), labels.astype(np.uint8), whole.astype(bool),
        one_hot.astype(np.float32),
    )  # fmt: skip
    return {"x": numbers(rng, (count, classes), (1.0, 30.0, 3000.0)[time % 3], dtype), "t": t[labels_kind]}


def draw_normalization(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    columns = current["gamma"].size
    shapes: list[tuple[int, ...]] = [(columns,)]
    if arguments[0].ndim == 4 and np.prod(arguments[0].shape[1:]) == columns:
        shapes.append(arguments[0].shape[1:])
    elif arguments[0].ndim == 4 and arguments[0].shape[1] == columns:
        shapes.append((columns, 3, 2))
    elif arguments[0].ndim == 4 and columns % 2 == 0:
        shapes.append((2, columns // 2, 1))
    rest, time = of_kinds(place, shapes)
    # Of two rows, dx is a sum that cancels to rounding.
    x = numbers(rng, (max(3, BATCHES[time % 5]), *rest), (1.0, 1e-3, 30.0, 1e-4)[time % 4])
    if len(x) > 20:
        x[0] *= 50  # one that is many standard deviations away
    x = x + numbers(rng, rest, (0.0, 1e-3, 5.0, 1e-4)[time % 4])
    gamma, beta = (
        numbers(rng, (columns,), (1.0, 100.0)[time % 2]),
        numbers(rng, (columns,), (1.0, 100.0)[time // 2 % 2]),
    )
    drawn = {"x": x, "gamma": gamma, "beta": beta, "momentum": 0.9 - place / 50}
    mean, variance = numbers(rng, (columns,), 1), numbers(rng, (columns,), 1) ** 2
    if time % 4 == 0:
        mean, variance = None, None
    return {**drawn, "running_mean": mean, "running_var": variance}


def draw_convolution(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    dtype, time = of_kinds(place, (np.float64, np.float32, np.uint8))
    filters, channels, high, wide = current["W"].shape if np.ndim(current["W"]) == 4 else (1, 1, 1, 1)
    x = draw_input(rng, (BATCHES[time % 3], channels, high + place % 4, wide + place * 3 % 5), time, dtype)
    scale = (1.0, 1e4)[time % 2]
    drawn = {"x": x, "W": numbers(rng, (filters, channels, high, wide), scale)}
    if "b" in current:
        drawn["b"] = numbers(rng, (filters,), scale)
    return {**drawn, "stride": 1 + place // 2 % 3, "pad": place // 3 % 3}


def draw_pooling(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    dtype, time = of_kinds(place, FLOATS)
    high, wide, stride = 1 + time % 3, 1 + time // 2 % 4, 1 + place // 3 % 3
    channels = arguments[0].shape[1] if arguments[0].ndim == 4 else 2
    x = draw_input(rng, (BATCHES[time % 3], channels, high + place % 5, wide + place * 2 % 5), time, dtype)
    pad = 1 + place % 2 if current["pad"] else 0  # with a frame or without: that is another operation
    return {"x": x, "pool_h": high, "pool_w": wide, "stride": stride, "pad": pad}


OF_CELLS = (  # dtypes of weights, x, h and c
    (np.float32, np.float32, np.float32, np.float32), (np.float64, np.float64, np.float64, np.float64),
    (np.float64, np.float32, np.float32, np.float32), (np.float64, np.float32, np.float64, np.float64),
    (np.float64, np.float64, np.float32, np.float32),
)  # fmt: skip


OF_SCALES = (  # of weights, biases, x, h and c
    (0.3, 0.3, 1, 1, 1), (0.1, 0.1, 3, 3, 3), (0.3, 30, 1e-3, 1e-3, 1e-3), (1e-3, 10, 300, 100, 1e4), (0.1, 10, 0.1, 1, 50),
)  # fmt: skip


def draw_cell(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    (of_weights, *of_inputs), time = of_kinds(place, OF_CELLS)
    (inputs, columns), units, count = current["Wx"].shape, len(current["Wh"]), BATCHES[time % 5]
    of_W, of_b, *scales = OF_SCALES[time % 5]
    drawn = {
        "Wx": numbers(rng, (inputs, columns), of_W, of_weights), "Wh": numbers(rng, (units, columns), of_W, of_weights),
        "b": numbers(rng, (columns,), of_b, of_weights),
    }  # fmt: skip
    sizes = {"x": inputs, "h": units, "c": units}
    for (role, size), scale, dtype in zip(sizes.items(), scales, of_inputs, strict=True):
        drawn[role] = numbers(rng, (count, size), scale, dtype)
    return drawn


def draw_sequence(rng: Any, place: int, current: Values, arguments: tuple[Any, ...]) -> Values:
    """A cell's arguments, x (N, T, D) for some steps; no h and c at times."""
    drawn = draw_cell(rng, place, current, arguments)
    count, inputs = drawn["x"].shape
    drawn["x"] = np.stack([drawn["x"], *numbers(rng, (place % 3, count, inputs), 1.0, drawn["x"].dtype)], axis=1)
    without = {3: ("h", "c"), 5: ("h",), 6: ("c",)}.get(place % 8, ())
    return {**drawn, **dict.fromkeys(without)}
