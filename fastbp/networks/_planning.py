"""How a network is laid out before it is made: shapes from layer to layer, arrays in one vector, initial values."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._activations import SLOPE
from .._checks import Array
from ..nn import SCALES, Activation, Affine, Dropout, Flatten, Initial, LayerSpec, Plan


class Settings(NamedTuple):
    """What all networks are made with, beside their layers; see Sequential. standard_normal(shape): random weights."""

    standard_normal: Callable[[tuple[int, ...]], Array]
    weight_init_std: float | str
    dtype: Any
    backend: str | None
    seed: int | None = None
    loss: str = "cross_entropy"
    reduction: str = "mean"
    l2: float = 0.0


class Views:
    """Arrays cut off a flat vector one after the other, under the keys W1, b1, W2, ...; `taken`: keys of all arrays."""

    def __init__(self, vector: Array, taken: set[str]):
        self.vector, self.at, self.taken = vector, 0, taken
        self.numbers: Counter[str] = Counter()
        self.by_key: dict[str, Array] = {}

    def of(self, arrays: Mapping[str, Initial]) -> dict[str, tuple[str, Array]]:
        """For each name its key and the view. Raises ValueError where another array has that key."""
        found = {}
        for name, initial in arrays.items():
            self.numbers[name] += 1
            key, size = f"{name}{self.numbers[name]}", math.prod(initial.shape)
            if key in self.taken:
                raise ValueError(
                    f"two arrays of the layers would be called {key}: give the one named {name!r} another name"
                )
            self.taken.add(key)
            self.by_key[key] = self.vector[self.at : self.at + size].reshape(initial.shape)
            self.at += size
            found[name] = key, self.by_key[key]
        return found


def planned(input_shape: tuple[int, ...], specs: Sequence[LayerSpec]) -> list[Plan]:
    """Each layer behind the one before it. Raises TypeError and ValueError, naming the layer, where one does not fit."""
    plans: list[Plan] = []
    shape = input_shape
    for place, spec in enumerate(specs):
        try:
            plans.append(spec.plan(shape))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"layers[{place}], {spec}: {error}") from error
        shape = plans[-1].output_shape
    return plans


def first_values(initial: Initial, settings: Settings) -> Any:
    if not initial.inputs:
        return initial.value
    std = settings.weight_init_std if initial.std is None else initial.std
    return (SCALES[std](initial.inputs) if isinstance(std, str) else std) * settings.standard_normal(initial.shape)


def compiled_form(
    input_shape: tuple[int, ...], specs: Sequence[LayerSpec]
) -> tuple[tuple[int, ...], tuple[str, ...], float | None] | None:
    """Widths, activations, and the ratio of Dropout (None for none) of a network that compiled steps can train.

    That is affine layers, activations between them, and Dropout of one ratio behind all of these or none. None for others.
    """
    rest = [spec for spec in specs if not isinstance(spec, Flatten)]
    sizes, activations, ratios = [math.prod(input_shape)], [], []
    while rest:
        affine = rest.pop(0)
        if not isinstance(affine, Affine):
            return None
        activation = rest.pop(0) if rest and isinstance(rest[0], Activation) else Activation("identity")
        dropout = rest.pop(0) if rest and isinstance(rest[0], Dropout) else Dropout(0.0)
        assert isinstance(activation, Activation)
        assert isinstance(dropout, Dropout)
        if activation.slope != SLOPE or not dropout.inverted:
            return None
        sizes.append(affine.units)
        activations.append(activation.name)
        ratios.append(dropout.ratio)
    if not activations or activations[-1] != "identity" or ratios[-1] or len(set(ratios[:-1])) > 1:
        return None
    return tuple(sizes), tuple(activations), ratios[0] or None


def dropout_seed(seed: Any) -> int:
    """What numpy.random.default_rng takes as a seed -> a number of 63 bits. Raises TypeError for what is no seed."""
    if seed is None:
        return 0
    if isinstance(seed, numbers.Integral) and 0 <= int(seed) < 1 << 63:
        return int(seed)
    try:
        return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    except TypeError:
        raise TypeError(f"seed must be None, an integer or a sequence of integers, got {seed!r}") from None


def dtype_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)
