"""Multilayer perceptrons: affine layers with activations between them, and a loss at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _checks as checks
from ..layers import SoftmaxWithLoss
from ..layers._activations import ACTIVATION_LAYERS
from ..nn import Activation, Affine, LayerSpec
from ._network import Network
from ._planning import Settings


class MLP(Network):
    """A multilayer perceptron of any depth.

    Args:
        sizes: the widths from the input to the output, e.g. (784, 50, 10).
        activation: "relu", "sigmoid", "tanh", "leaky_relu", "elu", "silu", "gelu", "gelu_tanh", "softplus" or "identity",
            after every affine layer but the last; or a sequence of one for each of them.
        weight_init_std: the standard deviation of the initial weights, or "he", sqrt(2 / inputs), or "xavier",
            sqrt(1 / inputs); biases start at 0.
        dtype: "float32" or "float64"; the same seed draws the same weights for both.
        backend: "numba" or "numpy"; None for the default.
        seed: for numpy.random.default_rng.
        loss: "cross_entropy", after a softmax, for classes; "squared_error", half the squared error of the outputs, for
            regression; "absolute_error" or "huber", for data with outliers; "poisson", after exp, for counts;
            "binary_cross_entropy", after a sigmoid, for outputs of two classes each.
        reduction: the loss is the "mean" over the batch or the "sum".

    Attributes:
        parameters: all of them as one flat vector (P,).
        params: {"W1": (in, out), "b1": (out,), ...}, views of `parameters`. Change them in place: an array put into
            `params` is not seen.
        layers: Affine1, Relu1, ..., in order.
        last_layer: SoftmaxWithLoss, IdentityWithLoss or another with a loss.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for sizes below 1 and for unknown names; the message lists those that exist.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> network = fastbp.MLP((4, 8, 3), activation="tanh", seed=0)
        >>> x, t = np.ones((5, 4), np.float32), [0, 1, 2, 0, 1]
        >>> network.predict(x).shape, network.predict_proba(x).dtype
        ((5, 3), dtype('float32'))
        >>> {key: gradient.shape for key, gradient in network.gradient(x, t).items()}
        {'W1': (4, 8), 'b1': (8,), 'W2': (8, 3), 'b2': (3,)}
    """

    file_format = "fastbp network 1"

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Sequence[str] = "relu",
        weight_init_std: float | str = 0.01,
        dtype: str | type | np.dtype[Any] = "float32",
        backend: str | None = None,
        seed: int | None = None,
        loss: str = "cross_entropy",
        reduction: str = "mean",
    ):
        draw = np.random.default_rng(seed).standard_normal
        self._build(sizes, activation, Settings(draw, weight_init_std, dtype, backend, seed, loss, reduction))

    def _build(self, sizes: Sequence[int], activation: str | Sequence[str], settings: Settings) -> None:
        self.sizes = _checked_sizes(sizes)
        self.activations = (*_checked_activations(activation, len(self.sizes) - 2), "identity")
        specs: list[LayerSpec] = []
        for units, name in zip(self.sizes[1:], self.activations, strict=True):
            specs += [Affine(units), Activation(name)]
        self._assemble(self.sizes[:1], specs[:-1], settings)

    def __repr__(self) -> str:
        hidden = self.activations[:-1]
        activation = hidden[0] if len(set(hidden)) == 1 else hidden
        return (
            f"{type(self).__name__}({self.sizes}, activation={activation!r}, loss={self.loss_name!r}, "
            f"dtype={self.dtype.name!r}, backend={self.backend!r})"
        )

    def describe(self) -> dict[str, Any]:
        """The architecture in plain words, as saved files and checkpoints hold it."""
        return {
            "sizes": self.sizes,
            "activations": self.activations[:-1],
            "loss": self.loss_name,
            "reduction": self.reduction,
            "dtype": self.dtype.name,
        }


def described(description: Mapping[str, Any], backend: str | None) -> MLP:
    """The network that a saved file describes, with weights of 0. Raises KeyError, TypeError, ValueError for no network."""
    return MLP(
        description["sizes"],
        description["activations"],
        0.0,
        description["dtype"],
        backend,
        loss=description["loss"],
        reduction=description["reduction"],
    )


class TwoLayerNet(MLP):
    """The book's network of chapter 5: Affine, ReLU, Affine, softmax with loss, in float64.

    Initial weights are weight_init_std * np.random.randn(...), drawn as in the book from NumPy's global random state.

    Args:
        input_size: the number of features.
        hidden_size: the number of hidden units.
        output_size: the number of classes.
        weight_init_std: the standard deviation of the initial weights, or "he" or "xavier".
        backend: "numba" or "numpy"; None for the default.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for sizes below 1.

    Examples:
        >>> import numpy as np
        >>> from fastbp import TwoLayerNet
        >>> np.random.seed(0)
        >>> network = TwoLayerNet(784, 50, 10)
        >>> float(network.loss(np.zeros((2, 784)), [3, 4]).round(4))
        2.3026
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float | str = 0.01,
        backend: str | None = None,
    ):
        draw = lambda shape: np.random.randn(*shape)  # noqa: E731
        sizes = input_size, hidden_size, output_size
        self._build(sizes, "relu", Settings(draw, weight_init_std, "float64", backend))

    @property
    def lastLayer(self) -> SoftmaxWithLoss:
        """The book's name for last_layer."""
        return self.last_layer


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"sizes must be a sequence of layer widths such as (784, 50, 10), got {sizes!r}")
    checked = tuple(checks.whole_number(f"sizes[{i}]", size, at_least=1) for i, size in enumerate(sizes))
    if len(checked) < 2:
        raise ValueError(f"sizes must hold at least two widths, input and output, got {sizes!r}")
    return checked


def _checked_activations(activation: str | Sequence[str], hidden: int) -> tuple[str, ...]:
    if isinstance(activation, str):
        return (checks.one_of("activation", activation, ACTIVATION_LAYERS),) * hidden
    names = tuple(checks.one_of(f"activation[{i}]", name, ACTIVATION_LAYERS) for i, name in enumerate(activation))
    if len(names) != hidden:
        raise ValueError(f"activation must name one for each of the {hidden} hidden layers, got {len(names)}")
    return names
