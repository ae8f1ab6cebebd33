"""Multilayer perceptrons: affine layers with activations between them, and a loss at the end.

All parameters are one flat vector, W1, b1, W2, b2, ...; `params` and the layers hold views of it.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .. import _notebook
from .._checks import Array
from .._version import __version__
from ..backends import get_backend
from ..gradients import numerical_gradient
from ..layers import Affine, Sigmoid, SoftmaxWithLoss
from ..layers._activations import ACTIVATION_LAYERS
from ..layers._losses import LOSS_LAYERS, REDUCTIONS
from ._onnx import write_onnx
from ._tensor_files import write_tensors

DTYPES = ("float32", "float64")
SCALES: dict[str, Callable[[int], float]] = {
    "he": lambda inputs: math.sqrt(2 / inputs),  # He et al. 2015, for ReLU
    "xavier": lambda inputs: math.sqrt(1 / inputs),  # Glorot and Bengio 2010, in the book's form
}
FORMAT = "fastbp network 1"  # of saved files
ROWS_AT_A_TIME = 1000  # in `accuracy`: the activations of a batch stay in the cache


class Architecture(NamedTuple):
    """A network as the backends take it: widths, the activation after each affine layer, the loss, mean or sum."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    mean: bool


class Terms(NamedTuple):
    """What a training run adds to the loss of its network, as the backends take it.

    weights (n,): one for each row of the data, in the network's dtype; a batch's mean is weighted by them. l2: adds
    l2 / 2 * (the sum of all W²), or with l2_divided that divided by what the batch's loss is divided by. dropout: the
    probability of each hidden output to be left out of a step; seed: which ones; first_row: what to count the rows of the
    data from, for it. loss_parts: the losses that are reported, not their gradients, are divided by it. log_floor: if not
    0, the reported cross-entropy is -log(max(y, log_floor)), scikit-learn's, instead of -log(y + 1e-7).
    """

    weights: Array | None = None
    l2: float = 0.0
    l2_divided: bool = False
    dropout: float = 0.0
    seed: int = 0
    first_row: int = 0
    loss_parts: int = 1
    log_floor: float = 0.0


class MLP:
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
        rng = np.random.default_rng(seed)
        self._build(sizes, activation, weight_init_std, dtype, backend, rng.standard_normal, loss, reduction)

    def _build(
        self,
        sizes: Sequence[int],
        activation: str | Sequence[str],
        weight_init_std: float | str,
        dtype: str | type | np.dtype[Any],
        backend: str | None,
        standard_normal: Callable[[tuple[int, int]], Array],
        loss: str = "cross_entropy",
        reduction: str = "mean",
    ) -> None:
        self.sizes = _checked_sizes(sizes)
        self.activations = (*_checked_activations(activation, len(self.sizes) - 2), "identity")
        self.loss_name = checks.one_of("loss", loss, LOSS_LAYERS)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)
        if (loss, reduction) == ("cross_entropy", "sum"):
            raise ValueError("reduction must be 'mean' for the loss 'cross_entropy', as in the book, got 'sum'")
        self.dtype = np.dtype(checks.one_of("dtype", _dtype_name(dtype), DTYPES))
        scale = _checked_scale(weight_init_std)
        self.backend, self._kernels = get_backend(backend)
        self.parameters = np.zeros(sum((i + 1) * o for i, o in itertools.pairwise(self.sizes)), self.dtype)
        self.params = _views(self.parameters, self.sizes)
        for number, (inputs, outputs) in enumerate(itertools.pairwise(self.sizes), 1):
            self.params[f"W{number}"][...] = scale(inputs) * standard_normal((inputs, outputs))
        self._make_layers()

    def _make_layers(self) -> None:
        self.layers: OrderedDict[str, Any] = OrderedDict()
        for number in range(1, len(self.sizes)):
            if number > 1:
                hidden = ACTIVATION_LAYERS[self.activations[number - 2]]
                self.layers[f"{hidden.__name__}{number - 1}"] = hidden(backend=self.backend)
            self.layers[f"Affine{number}"] = Affine(
                self.params[f"W{number}"], self.params[f"b{number}"], backend=self.backend
            )
        last = LOSS_LAYERS[self.loss_name]
        reduction = {} if last is SoftmaxWithLoss else {"reduction": self.reduction}
        self.last_layer = last(**reduction, backend=self.backend)

    @property
    def architecture(self) -> Architecture:
        """What the backends need to know of the network besides its parameters."""
        return Architecture(self.sizes, self.activations, self.loss_name, self.reduction == "mean")

    @property
    def classifies(self) -> bool:
        """Whether t holds classes, and there is an accuracy."""
        return self.loss_name == "cross_entropy"

    def predict(self, x: ArrayLike) -> Array:
        """x (N, ...) -> scores (N, outputs), before the softmax, sigmoid or exp, in the network's dtype.

        Raises TypeError for dtypes that are not real numbers, ValueError for another number of features.
        """
        out = self._input(x)
        for layer in self.layers.values():
            out = layer.forward(out)
        return out

    def predict_proba(self, x: ArrayLike) -> Array:
        """x (N, ...) -> probabilities (N, outputs): the softmax of the scores, or their sigmoid for binary outputs.

        Raises what predict raises, and ValueError for a network of regression.
        """
        if self.loss_name == "binary_cross_entropy":
            return Sigmoid(backend=self.backend).forward(self.predict(x))
        if not self.classifies:
            raise ValueError(
                f"a network with the loss {self.loss_name!r} has no probabilities; predict gives its outputs"
            )
        scores = self.predict(x)
        if not len(scores):
            return scores
        _, y = self._kernels.softmax_cross_entropy_forward(scores, np.zeros(len(scores), np.int64))
        return y

    def loss(self, x: ArrayLike, t: ArrayLike) -> Any:
        """x (N, ...), t: class indices (N,) or one-hot (N, classes), or for the other losses targets (N, outputs).

        Raises what predict and the last layer's forward raise.
        """
        if not self.classifies:
            scores = self.predict(x)
            return self.last_layer.forward(scores, checks.targets(t, *scores.shape))
        t = checks.real_array("t", t)
        return self.last_layer.forward(self.predict(x), t.astype(self.dtype) if t.ndim == 2 else t)

    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """x (N, ...), t as in `loss` -> the share of rows whose largest score is their label's.

        Raises what `loss` raises, and ValueError for a network that does not classify.
        """
        if not self.classifies:
            raise ValueError(f"a network with the loss {self.loss_name!r} has no classes, and so no accuracy")
        x = checks.rows("x", x, self.sizes[0])
        labels = checks.labels(t, len(x), self.sizes[-1])
        labels = labels if labels.ndim == 1 else labels.argmax(axis=1)
        if not len(x):
            raise ValueError("x must have at least one row, got none")
        hits = 0
        for first in range(0, len(x), ROWS_AT_A_TIME):
            rows = slice(first, first + ROWS_AT_A_TIME)
            hits += int(np.sum(self.predict(x[rows]).argmax(axis=1) == labels[rows]))
        return hits / len(x)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """The gradient of the loss by backpropagation, {"W1": ..., "b1": ..., ...}: new arrays.

        Raises what `loss` raises.
        """
        self.loss(x, t)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        return {key: layer.gradient_of(name) for key, layer, name in self._declared()}

    def __repr__(self) -> str:
        hidden = self.activations[:-1]
        activation = hidden[0] if len(set(hidden)) == 1 else hidden
        return (
            f"{type(self).__name__}({self.sizes}, activation={activation!r}, loss={self.loss_name!r}, "
            f"dtype={self.dtype.name!r}, backend={self.backend!r})"
        )

    def _repr_html_(self) -> str:
        """For notebooks: a layer a row, with the shapes of its parameters."""
        shapes: dict[int, list[str]] = {}
        for key, layer, _ in self._declared():
            shapes.setdefault(id(layer), []).append(f"{key} {self.params[key].shape}")
        rows = [(name, ", ".join(shapes.get(id(layer), []))) for name, layer in self.layers.items()]
        rows.append((type(self.last_layer).__name__, ""))
        caption = f"{len(self.parameters):,} parameters, {self.dtype.name}, backend {self.backend}"
        return _notebook.table(caption, ("layer", "parameters"), rows)

    def _declared(self) -> Iterator[tuple[str, Any, str]]:
        """Each key of `params`, its layer, and what the layer calls it: as the layers declare their parameters."""
        declaring = [layer for layer in self.layers.values() if layer.parameters]
        for number, layer in enumerate(declaring, 1):
            for name in layer.parameters:
                yield f"{name}{number}", layer, name

    @property
    def decayed(self) -> frozenset[str]:
        """The keys of `params` that weight decay shrinks."""
        return frozenset(key for key, layer, name in self._declared() if name in layer.decayed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path`, a .safetensors file: weights by name, and what `fastbp.load` needs to know.

        A file that is there already stays whole until the new one is. Raises ModuleNotFoundError without safetensors
        (extra `save`), OSError as the disk does.
        """
        description = {
            "sizes": self.sizes,
            "activations": self.activations[:-1],
            "loss": self.loss_name,
            "reduction": self.reduction,
            "dtype": self.dtype.name,
        }
        metadata = {"format": FORMAT, "fastbp": __version__, "architecture": json.dumps(description)}
        write_tensors(Path(path), dict(self.params), metadata)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path` as an ONNX model: x (N, inputs), in the network's dtype -> "scores" (N, outputs).

        There is a second output where the loss has an activation of its own: "probabilities", or for counts "means".
        Raises ModuleNotFoundError without onnx (extra `onnx`), OSError as the disk does; a file that is there already
        stays whole until the new one is.
        """
        write_onnx(self, Path(path))

    def numerical_gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """The gradient of the loss by central differences, two losses for each parameter: slow, for checking."""
        return {key: numerical_gradient(lambda _: self.loss(x, t), self.params[key]) for key in self.params}

    def _input(self, x: ArrayLike) -> Array:
        """x, converted only where its own dtype would make the result another than the network's."""
        x = checks.real_array("x", x)
        return x if np.result_type(x, self.dtype) == self.dtype else x.astype(self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"_kernels", "params", "layers"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.parameters = self.parameters.copy()  # what protocol 5 brings may be read-only, or part of another array
        self.backend, self._kernels = get_backend(self.backend)
        self.params = _views(self.parameters, self.sizes)
        self._make_layers()


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
        sizes = (input_size, hidden_size, output_size)
        self._build(sizes, "relu", weight_init_std, "float64", backend, lambda shape: np.random.randn(*shape))

    @property
    def lastLayer(self) -> SoftmaxWithLoss:
        """The book's name for last_layer."""
        return self.last_layer


def _views(parameters: Array, sizes: tuple[int, ...]) -> dict[str, Array]:
    """W1, b1, W2, b2, ... as views of the flat vector."""
    views, at = {}, 0
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        views[f"W{number}"] = parameters[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        views[f"b{number}"] = parameters[at : at + outputs]
        at += outputs
    return views


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


def _checked_scale(weight_init_std: float | str) -> Callable[[int], float]:
    if isinstance(weight_init_std, str):
        return SCALES[checks.one_of("weight_init_std", weight_init_std, SCALES)]
    std = checks.not_negative("weight_init_std", weight_init_std)
    return lambda inputs: std


def _dtype_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)
