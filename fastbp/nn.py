"""What `Sequential` is made of: layers described without their input's size, which is found out from the layer before.

    from fastbp import Sequential, nn

    network = Sequential((1, 28, 28), [nn.Conv(30, 5), nn.Relu(), nn.MaxPool(2), nn.Affine(10)], seed=0)

A shape is that of one sample: (features,), or (channels, height, width) of an image.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import _checks as checks
from . import layers
from ._activations import SLOPE
from .layers import Elu, Gelu, GeluTanh, Identity, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh
from .layers._activations import ACTIVATION_LAYERS, ACTIVATION_NAMES
from .layers._losses import LOSS_LAYERS
from .layers._regularization import SeededDropout

Shape = tuple[int, ...]
SCALES: dict[str, Callable[[int], float]] = {
    "he": lambda inputs: math.sqrt(2 / inputs),  # He et al. 2015, for ReLU
    "xavier": lambda inputs: math.sqrt(1 / inputs),  # Glorot and Bengio 2010, in the book's form
}

__all__ = [
    "Affine",
    "AveragePool",
    "BatchNorm",
    "Conv",
    "Dropout",
    "Elu",
    "Flatten",
    "Gelu",
    "GeluTanh",
    "Identity",
    "LeakyRelu",
    "MaxPool",
    "Relu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Tanh",
]


class Initial(NamedTuple):
    """An array that a layer has: its shape, and its first values.

    inputs: how many numbers each output is a sum of: random weights with the standard deviation `std`, a number, "he",
    "xavier", or None for the network's. Without it, they are `value`.
    """

    shape: Shape
    value: Any = 0.0
    inputs: int = 0
    std: float | str | None = None


class Plan(NamedTuple):
    """A layer whose input is known: the shape that it gives, the arrays that it has, and how to make it of them.

    make(arrays by name, backend) -> the layer. parameters are trained; statistics are measured while training.
    """

    output_shape: Shape
    make: Callable[[Mapping[str, Any], str], Any]
    parameters: Mapping[str, Initial] = {}
    statistics: Mapping[str, Initial] = {}


class LayerSpec:
    """A layer without its sizes: what all classes of this module share."""

    def plan(self, shape: Shape) -> Plan:
        """What it becomes behind a layer that gives `shape`. Raises ValueError where it does not fit."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """As it is written: Conv(30, 5, pad=1)."""
        shown = []
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if one.default is dataclasses.MISSING:
                shown.append(repr(value))
            elif value != one.default:
                shown.append(f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _set(self, **settings: Any) -> None:
        """Arguments as they were checked: Python's numbers, which files can hold, for NumPy's."""
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def describe(self) -> dict[str, Any]:
        """What saved files say of it."""
        settings = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"layer": type(self).__name__, **settings}


def from_description(description: Mapping[str, Any]) -> LayerSpec:
    """The layer that `describe` described. Raises ValueError and TypeError for what is no layer of this module."""
    settings = dict(description)
    name = checks.one_of("layer", settings.pop("layer", None), SPECS)
    for key, value in settings.items():
        settings[key] = tuple(value) if isinstance(value, list) else value
    return SPECS[name](**settings)


@dataclass(frozen=True, repr=False)
class Affine(LayerSpec):
    """The fully connected layer. Images become rows of numbers first.

    Args:
        units: the number of outputs.
        weight_init_std: the standard deviation of the initial weights, "he", "xavier", or None for the network's.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp import Sequential, nn
        >>> network = Sequential((4,), [nn.Affine(3)], seed=0)
        >>> network.params["W1"].shape
        (4, 3)
    """

    units: int
    weight_init_std: float | str | None = None

    def __post_init__(self) -> None:
        self._set(
            units=checks.whole_number("units", self.units, at_least=1),
            weight_init_std=checked_std(self.weight_init_std),
        )

    def plan(self, shape: Shape) -> Plan:
        inputs = math.prod(shape)
        parameters = {
            "W": Initial((inputs, self.units), inputs=inputs, std=self.weight_init_std),
            "b": Initial((self.units,)),
        }
        return Plan((self.units,), lambda own, backend: layers.Affine(own["W"], own["b"], backend), parameters)


@dataclass(frozen=True, repr=False)
class Conv(LayerSpec):
    """Convolution of images.

    Args:
        filters: how many; each gives a channel.
        size: their height and width, one number or two.
        stride: the step between patches.
        pad: how many zeros to put around the images.
        weight_init_std: the standard deviation of the initial weights, "he", "xavier", or None for the network's.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp import Sequential, nn
        >>> network = Sequential((1, 28, 28), [nn.Conv(30, 5), nn.Affine(10)], seed=0)
        >>> network.params["W1"].shape, network.params["W2"].shape
        ((30, 1, 5, 5), (17280, 10))
    """

    filters: int
    size: int | tuple[int, int]
    stride: int = 1
    pad: int = 0
    weight_init_std: float | str | None = None

    def __post_init__(self) -> None:
        self._set(
            filters=checks.whole_number("filters", self.filters, at_least=1),
            size=_checked_size(self.size),
            stride=checks.whole_number("stride", self.stride, at_least=1),
            pad=checks.whole_number("pad", self.pad, at_least=0),
            weight_init_std=checked_std(self.weight_init_std),
        )

    def plan(self, shape: Shape) -> Plan:
        channels, window = _channels(shape), _pair(self.size)
        inputs = channels * math.prod(window)
        parameters = {
            "W": Initial((self.filters, channels, *window), inputs=inputs, std=self.weight_init_std),
            "b": Initial((self.filters,)),
        }
        output = self.filters, *_moved(shape, window, self.stride, self.pad)
        make = lambda own, backend: layers.Convolution(own["W"], own["b"], self.stride, self.pad, backend)  # noqa: E731
        return Plan(output, make, parameters)


@dataclass(frozen=True, repr=False)
class MaxPool(LayerSpec):
    """The largest number of each window of an image.

    Args:
        size: the window's height and width, one number or two.
        stride: the step between windows, downwards and to the right; None for the size of a square window.
        pad: how many zeros to put around the images.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp import nn
        >>> nn.MaxPool(2).plan((30, 24, 24)).output_shape
        (30, 12, 12)
    """

    size: int | tuple[int, int]
    stride: int | None = None
    pad: int = 0
    layer: ClassVar[type[Any]] = layers.Pooling

    def __post_init__(self) -> None:
        size, stride = _checked_size(self.size), self.stride
        if stride is not None:
            stride = checks.whole_number("stride", stride, at_least=1)
        elif len(set(_pair(size))) > 1:
            raise ValueError(f"stride must be given for a window that is not square, got None for the size {size}")
        self._set(size=size, stride=stride, pad=checks.whole_number("pad", self.pad, at_least=0))

    def plan(self, shape: Shape) -> Plan:
        window = _pair(self.size)
        stride = window[0] if self.stride is None else self.stride
        output = _channels(shape), *_moved(shape, window, stride, self.pad)
        return Plan(output, lambda own, backend: self.layer(*window, stride, self.pad, backend))


@dataclass(frozen=True, repr=False)
class AveragePool(MaxPool):
    """The mean of each window of an image.

    Args:
        size: the window's height and width, one number or two.
        stride: the step between windows, downwards and to the right; None for the size of a square window.
        pad: how many zeros to put around the images; they count.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp import nn
        >>> nn.AveragePool(7).plan((64, 7, 7)).output_shape
        (64, 1, 1)
    """

    layer: ClassVar[type[Any]] = layers.AveragePooling


@dataclass(frozen=True, repr=False)
class Flatten(LayerSpec):
    """Images as rows of numbers. `Affine` does it by itself; other layers may want it.

    Examples:
        >>> from fastbp import nn
        >>> nn.Flatten().plan((30, 12, 12)).output_shape
        (4320,)
    """

    def plan(self, shape: Shape) -> Plan:
        return Plan((math.prod(shape),), lambda own, backend: layers.Flatten(backend))


@dataclass(frozen=True, repr=False)
class Dropout(LayerSpec):
    """While training, each number is left out with a probability.

    Which ones is a function of the seed, the number of the update and of the row: it does not depend on the number of
    threads and processes, and a run that goes on from a checkpoint leaves out the same.

    Args:
        ratio: the probability, from 0 up to, not including, 1.
        inverted: divide what is kept by 1 - ratio while training; False multiplies by it when predicting, as the book does.

    Raises:
        TypeError: for a ratio that is no number.
        ValueError: for a ratio out of range.

    Examples:
        >>> from fastbp import nn
        >>> nn.Dropout(0.2)
        Dropout(ratio=0.2)
    """

    ratio: float = 0.5
    inverted: bool = True

    def __post_init__(self) -> None:
        self._set(ratio=checks.below_one("ratio", self.ratio), inverted=checks.boolean("inverted", self.inverted))

    def plan(self, shape: Shape) -> Plan:
        return Plan(shape, lambda own, backend: SeededDropout(self.ratio, self.inverted, backend))


@dataclass(frozen=True, repr=False)
class BatchNorm(LayerSpec):
    """Batch normalisation (Ioffe and Szegedy, 2015): each feature, or of images each channel, to mean 0 and variance 1.

    Args:
        momentum: of the running mean and variance, which are used for predicting.
        per_channel: for images; False normalises every pixel by itself, as the book does.

    Raises:
        TypeError: for a momentum that is no number.
        ValueError: for a momentum out of range.

    Examples:
        >>> from fastbp import Sequential, nn
        >>> network = Sequential((4,), [nn.Affine(3), nn.BatchNorm(), nn.Relu(), nn.Affine(2)], seed=0)
        >>> list(network.params)
        ['W1', 'b1', 'gamma1', 'beta1', 'W2', 'b2']
    """

    momentum: float = 0.9
    per_channel: bool = True

    def __post_init__(self) -> None:
        self._set(
            momentum=checks.ratio("momentum", self.momentum),
            per_channel=checks.boolean("per_channel", self.per_channel),
        )

    def plan(self, shape: Shape) -> Plan:
        if len(shape) not in (1, 3):
            raise ValueError(f"it needs rows of numbers or images (channels, height, width), and its input has {shape}")
        per_channel = self.per_channel and len(shape) == 3
        columns = (shape[0] if per_channel else math.prod(shape),)

        def make(own: Mapping[str, Any], backend: str) -> Any:
            running = own["running_mean"], own["running_var"]
            return layers.BatchNormalization(own["gamma"], own["beta"], self.momentum, *running, per_channel, backend)

        parameters = {"gamma": Initial(columns, 1.0), "beta": Initial(columns)}
        return Plan(shape, make, parameters, {"running_mean": Initial(columns), "running_var": Initial(columns, 1.0)})


@dataclass(frozen=True, repr=False)
class Activation(LayerSpec):
    """An activation by its name in the table; `nn.Relu()` and the others become one."""

    name: str
    slope: float = SLOPE

    def __post_init__(self) -> None:
        checks.one_of("name", self.name, ACTIVATION_LAYERS)
        self._set(slope=checks.positive("slope", self.slope))

    def plan(self, shape: Shape) -> Plan:
        settings = {"slope": self.slope} if self.name == "leaky_relu" else {}
        return Plan(shape, lambda own, backend: ACTIVATION_LAYERS[self.name](**settings, backend=backend))

    def __repr__(self) -> str:
        return f"{ACTIVATION_LAYERS[self.name].__name__}({'' if self.slope == SLOPE else self.slope})"


class OwnLayer(LayerSpec):
    """A layer of the user's own: any object with forward(x) and backward(dout).

    Attributes that it names in `parameters` are trained, each with its gradient in "d" + name after backward; those in
    `decayed` are shrunk by weight decay; those in `statistics` are kept with the network, and not trained. Where forward
    has an argument train_flg, that says whether the network trains.
    """

    def __init__(self, layer: Any):
        self.layer = copy.deepcopy(layer)

    def plan(self, shape: Shape) -> Plan:
        parameters, statistics = self._initials("parameters"), self._initials("statistics")
        if unknown := set(_names_in(self.layer, "decayed")) - set(parameters):
            raise ValueError(f"decayed must name parameters of it, got {', '.join(sorted(unknown))}")
        return Plan(self._output_shape(shape), self._make, parameters, statistics)

    def _output_shape(self, shape: Shape) -> Shape:
        """Tried with a copy. Raises ValueError, saying what came, for a forward that cannot take such rows."""
        layer, zeros = copy.deepcopy(self.layer), np.zeros((2, *shape))
        try:
            out = np.asarray(layer.forward(zeros, train_flg=False) if takes_mode(layer) else layer.forward(zeros))
        except Exception as error:
            raise ValueError(f"its forward of zeros {zeros.shape} raised {type(error).__name__}: {error}") from error
        if out.ndim < 2 or len(out) != 2:
            raise ValueError(
                f"its forward must give a row for each sample, 2 of zeros gave an array of shape {out.shape}"
            )
        return out.shape[1:]

    def _initials(self, kind: str) -> dict[str, Initial]:
        """The arrays that it names in `parameters` or `statistics`. Raises TypeError and ValueError for what is none."""
        found = {}
        for name in _names_in(self.layer, kind):
            if not hasattr(self.layer, name):
                raise ValueError(f"{kind} names {name!r}, which it does not have")
            array = checks.real_array(name, getattr(self.layer, name))
            found[name] = Initial(array.shape, array)
        return found

    def _make(self, own: Mapping[str, Any], backend: str) -> Any:
        layer = copy.deepcopy(self.layer)
        for name, view in own.items():
            setattr(layer, name, view)
        return layer

    def describe(self) -> dict[str, Any]:
        return {"own_layer": type(self.layer).__name__}

    def __repr__(self) -> str:
        return type(self.layer).__name__


def _names_in(layer: Any, kind: str) -> tuple[str, ...]:
    """What a layer names in `parameters`, `decayed` or `statistics`. Raises TypeError for anything but names."""
    names = getattr(layer, kind, ())
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{kind} must be a tuple of names such as ('factor',), got {names!r}")
    return tuple(names)


def takes_mode(layer: Any) -> bool:
    """Whether its forward has an argument train_flg, the book's word for whether the network trains."""
    return "train_flg" in inspect.signature(layer.forward).parameters


def as_spec(name: str, layer: Any) -> LayerSpec:
    """What a user put into the list of layers. Raises TypeError, naming it and what exists, for what is no layer."""
    if isinstance(layer, LayerSpec):
        return layer
    if type(layer) in ACTIVATION_NAMES:
        return Activation(ACTIVATION_NAMES[type(layer)], getattr(layer, "slope", SLOPE))
    if type(layer) is layers.Dropout:
        return Dropout(layer.dropout_ratio, layer.inverted)  # which draws from the network's seed
    if type(layer) in LOSS_NAMES:
        loss = LOSS_NAMES[type(layer)]
        raise TypeError(
            f"{name} must be a layer, got the loss {type(layer).__name__}; write Sequential(..., loss={loss!r})"
        )
    if isinstance(layer, type):
        raise TypeError(f"{name} must be a layer, got the class {layer.__name__}; write {layer.__name__}(...)")
    if not all(callable(getattr(layer, method, None)) for method in ("forward", "backward")):
        known = ", ".join(__all__)
        raise TypeError(f"{name} must be a layer of fastbp.nn ({known}), or have forward and backward, got {layer!r}")
    return OwnLayer(layer)


LOSS_NAMES = {kind: loss for loss, kind in LOSS_LAYERS.items()}
SPECS: dict[str, type[LayerSpec]] = {
    spec.__name__: spec for spec in (Activation, Affine, AveragePool, BatchNorm, Conv, Dropout, Flatten, MaxPool)
}


def checked_std(std: Any) -> float | str | None:
    """A standard deviation of initial weights. Raises TypeError and ValueError for what is none."""
    if isinstance(std, str):
        return str(checks.one_of("weight_init_std", std, SCALES))
    return None if std is None else checks.not_negative("weight_init_std", std)


def _pair(size: Any) -> tuple[int, int]:
    high, wide = size if isinstance(size, tuple) else (size, size)
    return high, wide


def _checked_size(size: Any) -> int | tuple[int, int]:
    """A window's. Raises TypeError and ValueError for what is neither one number nor two."""
    if not isinstance(size, (tuple, list)):
        return checks.whole_number("size", size, at_least=1)
    if len(size) != 2:
        raise ValueError(f"size must be one number or two, the height and the width, got {size}")
    return checks.whole_number("size", size[0], at_least=1), checks.whole_number("size", size[1], at_least=1)


def _channels(shape: Shape) -> int:
    if len(shape) != 3:
        raise ValueError(f"it needs images, of shape (channels, height, width), and its input has shape {shape}")
    return shape[0]


def _moved(shape: Shape, window: tuple[int, int], stride: int, pad: int) -> tuple[int, int]:
    """How many windows there are, downwards and to the right."""
    high, wide = (size + 2 * pad for size in shape[1:])
    if high < window[0] or wide < window[1]:
        raise ValueError(f"its window {window} is larger than its input of shape {shape} with a pad of {pad}")
    return (high - window[0]) // stride + 1, (wide - window[1]) // stride + 1
