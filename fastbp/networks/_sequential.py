"""Networks of any layers in a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _checks as checks
from ..nn import LayerSpec, as_spec, from_description
from ._network import Network
from ._planning import Settings


class Sequential(Network):
    """A network of any layers in a row, and a loss at the end.

    Rows of affine layers with activations between them train as fast as an MLP; other networks layer by layer.

    Args:
        input_shape: of one sample: (channels, height, width) of an image, or (features,).
        layers: of `fastbp.nn`, or the user's own: any object with forward and backward, which is copied. Attributes that it
            names in `parameters` are trained, each with its gradient in "d" + name after backward. The last layer gives a
            row of scores.
        weight_init_std: the standard deviation of the initial weights, or "he", sqrt(2 / inputs), or "xavier",
            sqrt(1 / inputs), where a layer has none of its own.
        dtype: "float32" or "float64"; the same seed draws the same weights for both.
        backend: "numba" or "numpy"; None for the default.
        seed: for numpy.random.default_rng, and for the dropout of `gradient`.
        loss: as for MLP.
        reduction: as for MLP.
        l2: adds l2 / 2 * (the sum of all squared weights) to the loss.

    Attributes:
        parameters: all of them as one flat vector (P,).
        params: {"W1": ..., "b1": ..., "gamma1": ..., ...}, views of `parameters`: the n-th W is that of the n-th layer that
            has one. Change them in place.
        statistics: what batch normalisation measured, as one flat vector.
        layers: Convolution1, Relu1, Pooling1, Affine1, ..., in order.
        last_layer: SoftmaxWithLoss or another with a loss.

    Raises:
        TypeError: for what is no layer, and for arguments of another type.
        ValueError: for sizes that do not fit, naming the layer and both shapes, and for unknown names.

    Examples:
        >>> import numpy as np
        >>> from fastbp import Sequential, nn
        >>> layers = [nn.Conv(8, 3), nn.BatchNorm(), nn.Relu(), nn.MaxPool(2), nn.Dropout(0.2), nn.Affine(10)]
        >>> network = Sequential((1, 28, 28), layers, seed=0)
        >>> network.predict(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 10)
        >>> {key: value.shape for key, value in network.params.items()}
        {'W1': (8, 1, 3, 3), 'b1': (8,), 'gamma1': (8,), 'beta1': (8,), 'W2': (1352, 10), 'b2': (10,)}
    """

    file_format = "fastbp network 2"

    def __init__(
        self,
        input_shape: Sequence[int],
        layers: Sequence[Any],
        *,
        weight_init_std: float | str = "he",
        dtype: str | type | np.dtype[Any] = "float32",
        backend: str | None = None,
        seed: int | None = None,
        loss: str = "cross_entropy",
        reduction: str = "mean",
        l2: float = 0.0,
    ):
        draw = np.random.default_rng(seed).standard_normal
        settings = Settings(draw, weight_init_std, dtype, backend, seed, loss, reduction, l2)
        self._build(input_shape, layers, settings)

    def _build(self, input_shape: Sequence[int], layers: Sequence[Any], settings: Settings) -> None:
        specs = checked_layers(layers)
        self._assemble(checked_shape(input_shape), specs, settings)
        output = self._plans[-1].output_shape
        if len(output) != 1:
            raise ValueError(
                f"layers[-1], {specs[-1]}, gives an array of shape {output} for each sample; the last layer must give a row "
                "of scores, as Affine and Flatten do"
            )

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self._specs))
        return (
            f"{type(self).__name__}({self.input_shape}, [{layers}], loss={self.loss_name!r}, dtype={self.dtype.name!r}, "
            f"backend={self.backend!r})"
        )

    def describe(self) -> dict[str, Any]:
        """The architecture in plain words, as files and checkpoints hold it."""
        return {
            "input_shape": self.input_shape,
            "layers": [spec.describe() for spec in self._specs],
            "loss": self.loss_name,
            "reduction": self.reduction,
            "dtype": self.dtype.name,
            "l2": self.l2,
        }


def described(
    description: Mapping[str, Any], backend: str | None, own_layers: Mapping[str, Callable[[], Any]]
) -> Sequential:
    """The network that `describe` described, with weights of 0. Raises KeyError, TypeError and ValueError for no network."""
    layers: list[Any] = []
    numbers: Counter[str] = Counter()
    for place, layer in enumerate(description["layers"]):
        if "own_layer" not in layer:
            layers.append(from_description(layer))
            continue
        name = layer["own_layer"]
        numbers[name] += 1
        make = own_layers.get(f"{name}{numbers[name]}", own_layers.get(name))
        if make is None:
            raise ValueError(f"layers[{place}] is of the user's own class {name}: give own_layers={{{name!r}: ...}}")
        layers.append(make())
    return Sequential(
        description["input_shape"],
        layers,
        weight_init_std=0.0,
        dtype=description["dtype"],
        backend=backend,
        loss=description["loss"],
        reduction=description["reduction"],
        l2=description["l2"],
    )


def checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """Raises TypeError and ValueError for what is no shape of a sample."""
    if isinstance(input_shape, str) or not hasattr(input_shape, "__iter__"):
        raise TypeError(f"input_shape must be a sequence such as (1, 28, 28), got {input_shape!r}")
    shape = tuple(checks.whole_number(f"input_shape[{i}]", size, at_least=1) for i, size in enumerate(input_shape))
    if not shape:
        raise ValueError("input_shape must hold at least one size, that of a sample without the batch, got ()")
    return shape


def checked_layers(layers: Sequence[Any]) -> list[LayerSpec]:
    """Raises TypeError and ValueError for what are no layers."""
    if isinstance(layers, (str, LayerSpec)) or not hasattr(layers, "__iter__"):
        raise TypeError(f"layers must be a list of layers such as [nn.Affine(50), nn.Relu()], got {layers!r}")
    specs = [as_spec(f"layers[{place}]", layer) for place, layer in enumerate(layers)]
    if not specs:
        raise ValueError("layers must hold at least one layer, got none")
    return specs
