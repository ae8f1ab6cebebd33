"""What all networks share: layers in a row and a loss at the end, over one flat vector of parameters.

`params` and the layers hold views of the vector. What layers measure while training and need for predicting, the running
mean of batch normalisation for instance, lies in a second vector, `statistics`.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, OrderedDict
from collections.abc import Sequence
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
from ..layers import Sigmoid, SoftmaxWithLoss
from ..layers._activations import ACTIVATION_NAMES
from ..layers._losses import LOSS_LAYERS, REDUCTIONS
from ..layers._regularization import Draw, SeededDropout
from ..nn import (
    Initial,
    LayerSpec,
    OwnLayer,
    checked_std,
    takes_mode,
)
from ._engines import Architecture, CompiledSteps, Engine, LayerByLayer
from ._onnx import write_onnx
from ._planning import Settings, Views, compiled_form, dropout_seed, dtype_name, first_values, planned
from ._tensor_files import write_tensors

DTYPES = ("float32", "float64")
CACHED_BYTES = 1 << 23  # of activations: about so many stay in a cache while a layer's results are read by the next


class Declared(NamedTuple):
    """A parameter or statistic: its key in `params`, its layer, and what the layer calls it."""

    key: str
    layer: Any
    name: str


class Call(NamedTuple):
    """How a layer is called: its forward takes train_flg; it is of the user's own, and may give any dtype."""

    layer: Any
    takes_mode: bool
    own: bool


class Network:
    """What MLP and Sequential share: make one of those.

    Examples:
        >>> import fastbp
        >>> isinstance(fastbp.MLP((4, 3)), fastbp.networks.Network)
        True
    """

    file_format = ""  # of saved files
    rows_at_a_time = 1000  # in `accuracy`: the activations of so many rows stay in the cache

    def _assemble(self, input_shape: tuple[int, ...], specs: Sequence[LayerSpec], settings: Settings) -> None:
        """Plan the layers, lay out their arrays, draw the initial weights in order, and make the layers.

        Raises TypeError and ValueError for settings and sizes that do not fit.
        """
        self.loss_name = checks.one_of("loss", settings.loss, LOSS_LAYERS)
        self.reduction = checks.one_of("reduction", settings.reduction, REDUCTIONS)
        if (self.loss_name, self.reduction) == ("cross_entropy", "sum"):
            raise ValueError("reduction must be 'mean' for the loss 'cross_entropy', as in the book, got 'sum'")
        self.dtype = np.dtype(checks.one_of("dtype", dtype_name(settings.dtype), DTYPES))
        self.l2, self.seed, self.step = checks.not_negative("l2", settings.l2), dropout_seed(settings.seed), 0
        if checked_std(settings.weight_init_std) is None:
            raise TypeError("weight_init_std must be a number, 'he' or 'xavier', got None")
        self.backend, self._kernels = get_backend(settings.backend)
        self.input_shape, self._specs = input_shape, list(specs)
        self._plans = planned(input_shape, specs)
        self.parameters, self.statistics = (
            np.zeros(sum(math.prod(one.shape) for one in arrays), self.dtype) for arrays in self._initials()
        )
        self._make_layers()
        for initials, views in zip(self._initials(), (self.params, self._statistic_views), strict=True):
            for initial, view in zip(initials, views.values(), strict=True):
                view[...] = first_values(initial, settings)

    def _initials(self) -> tuple[list[Initial], list[Initial]]:
        """How all parameters begin, and all statistics."""
        plans = self._plans
        return (
            [one for plan in plans for one in plan.parameters.values()],
            [one for plan in plans for one in plan.statistics.values()],
        )

    def _make_layers(self) -> None:
        """The layers, of views of `parameters` and `statistics`; and what follows from them."""
        keys: set[str] = set()
        parameters, statistics = Views(self.parameters, keys), Views(self.statistics, keys)
        self.layers: OrderedDict[str, Any] = OrderedDict()
        self._declared: list[Declared] = []
        self._measured: list[Declared] = []
        numbers: Counter[str] = Counter()
        for plan in self._plans:
            trained, measured = parameters.of(plan.parameters), statistics.of(plan.statistics)
            own = {name: view for name, (_, view) in {**trained, **measured}.items()}
            layer = plan.make(own, self.backend)
            kind = "activation" if isinstance(layer, tuple(ACTIVATION_NAMES)) else type(layer).__name__
            numbers[kind] += 1
            while (key := f"{type(layer).__name__}{numbers[kind]}") in self.layers:  # a user's class of the same name
                numbers[kind] += 1
            self.layers[key] = layer
            self._declared += [Declared(key, layer, name) for name, (key, _) in trained.items()]
            self._measured += [Declared(key, layer, name) for name, (key, _) in measured.items()]
        self.params, self._statistic_views = parameters.by_key, statistics.by_key
        last = LOSS_LAYERS[self.loss_name]
        reduction = {} if last is SoftmaxWithLoss else {"reduction": self.reduction}
        self.last_layer = last(**reduction, backend=self.backend)
        self._row = [
            Call(layer, takes_mode(layer), isinstance(spec, OwnLayer))
            for layer, spec in zip(self.layers.values(), self._specs, strict=True)
        ]
        self._dropouts = [layer for layer in self.layers.values() if isinstance(layer, SeededDropout)]
        self._choose_engine()

    def _choose_engine(self) -> None:
        compiled = compiled_form(self.input_shape, self._specs)
        self.architecture: Any = None  # what the compiled steps know of the network; None where they cannot train it
        self.hidden_dropout: float | None = None
        self._engine: Engine
        if compiled is None:
            self._engine = LayerByLayer(self)
        else:
            sizes, activations, self.hidden_dropout = compiled
            self.architecture = Architecture(sizes, activations, self.loss_name, self.reduction == "mean")
            self._engine = CompiledSteps(self)
        largest = max(math.prod(shape) for shape in (self.input_shape, *(plan.output_shape for plan in self._plans)))
        self.rows_at_a_time = min(1000, max(1, CACHED_BYTES // (largest * self.dtype.itemsize)))

    @property
    def outputs(self) -> int:
        """The number of scores of each row."""
        return self._plans[-1].output_shape[0]

    @property
    def has_dropout(self) -> bool:
        """Whether there is dropout among its layers."""
        return bool(self._dropouts)

    @property
    def classifies(self) -> bool:
        """Whether t holds classes, and there is an accuracy."""
        return self.loss_name == "cross_entropy"

    def predict(self, x: ArrayLike) -> Array:
        """x (N, ...) -> scores (N, outputs), before the softmax, sigmoid or exp, in the network's dtype.

        Raises TypeError for dtypes that are not real numbers, ValueError for another number of features.
        """
        x = self._input(x)
        if not len(x):
            return np.empty((0, self.outputs), self.dtype)
        if self.architecture is not None or len(x) <= self.rows_at_a_time:
            scores = self._forward(x)
            return scores.copy() if np.may_share_memory(scores, x) else scores
        return np.concatenate([self._forward(x[rows]) for rows in self._pieces(len(x))])

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

        Dropout and batch normalisation are as they are for predicting. Raises what predict and the last layer's forward
        raise.
        """
        return self.data_loss(x, t) + self.decay_loss() if self.l2 else self.data_loss(x, t)

    def data_loss(self, x: ArrayLike, t: ArrayLike) -> Any:
        """As `loss`, without what l2 adds."""
        x, t = self._batch(x, t)
        return self.last_layer.forward(self.predict(x), t)

    def training_loss(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The loss whose derivative `gradient` gives: batch normalisation uses the batch, and dropout leaves out numbers.

        Which ones those of the last `gradient`. Nothing is changed. Raises what `loss` raises.
        """
        x, t = self._batch(x, t)
        before = self.statistics.copy()
        self._draw_dropout(self.seed, self.step, np.arange(len(x)))
        try:
            return self._loss_of(self._forward(x, training=True), t)
        finally:
            self.statistics[...] = before

    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """x (N, ...), t as in `loss` -> the share of rows whose largest score is their label's.

        Raises what `loss` raises, and ValueError for a network that does not classify.
        """
        if not self.classifies:
            raise ValueError(f"a network with the loss {self.loss_name!r} has no classes, and so no accuracy")
        x = self._input(x)
        labels = checks.labels(t, len(x), self.outputs)
        labels = labels if labels.ndim == 1 else labels.argmax(axis=1)
        if not len(x):
            raise ValueError("x must have at least one row, got none")
        hits = sum(int(np.sum(self._forward(x[rows]).argmax(axis=1) == labels[rows])) for rows in self._pieces(len(x)))
        return hits / len(x)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """The gradient of the loss by backpropagation, {"W1": ..., "b1": ..., ...}: new arrays.

        The network trains: the statistics of batch normalisation follow the batch, and each call draws other numbers for
        dropout to leave out, by the network's seed and the number of the call. Raises what `loss` raises.
        """
        x, t = self._batch(x, t)
        self.step += 1
        self._draw_dropout(self.seed, self.step, np.arange(len(x)))
        self._loss_of(self._forward(x, training=True), t)
        self._back_through(self.last_layer.backward())
        gradients = {
            key: np.asarray(gradient_of(layer, name)).astype(self.dtype, copy=False)
            for key, layer, name in self._declared
        }
        if self.l2:
            for key in self.decayed:
                gradients[key] = gradients[key] + self.dtype.type(self.l2) * self.params[key]
        return gradients

    def numerical_gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """The gradient of training_loss by central differences, two losses for each parameter: slow, for checking."""
        return {key: numerical_gradient(lambda _: self.training_loss(x, t), self.params[key]) for key in self.params}

    def describe(self) -> dict[str, Any]:
        """The architecture in plain words, as saved files and checkpoints hold it."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path`, a .safetensors file: weights by name, and what `fastbp.load` needs to know.

        Of layers of the user's own it keeps the class's name and their parameters. A file that is there already stays whole
        until the new one is. Raises ModuleNotFoundError without safetensors (extra `save`), OSError as the disk does.
        """
        metadata = {"format": self.file_format, "fastbp": __version__, "architecture": json.dumps(self.describe())}
        write_tensors(Path(path), {**self.params, **self._statistic_views}, metadata)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to `path` as an ONNX model: x (N, ...), in the network's dtype -> "scores" (N, outputs).

        There is a second output where the loss has an activation of its own: "probabilities", or for counts "means".
        Raises ModuleNotFoundError without onnx (extra `onnx`), OSError as the disk does; a file that is there already
        stays whole until the new one is. ValueError for layers of the user's own.
        """
        write_onnx(self, Path(path))

    def _repr_html_(self) -> str:
        """For notebooks: a layer a row, with the shapes of its parameters and of what it gives."""
        shapes: dict[int, list[str]] = {}
        for key, layer, _ in self._declared:
            shapes.setdefault(id(layer), []).append(f"{key} {self.params[key].shape}")
        rows = [
            (name, ", ".join(shapes.get(id(layer), [])), " x ".join(map(str, plan.output_shape)))
            for (name, layer), plan in zip(self.layers.items(), self._plans, strict=True)
        ]
        rows.append((type(self.last_layer).__name__, "", ""))
        caption = f"{len(self.parameters):,} parameters, {self.dtype.name}, backend {self.backend}"
        return _notebook.table(caption, ("layer", "parameters", "output"), rows)

    @property
    def decayed(self) -> frozenset[str]:
        """The keys of `params` that weight decay shrinks."""
        return frozenset(key for key, layer, name in self._declared if name in getattr(layer, "decayed", ()))

    def add_decay(self, gradient: Array, l2: float) -> float:
        """Add l2 * W to the flat gradient of all weights that decay; returns l2 / 2 * ΣW²."""
        squares, at, decayed = 0.0, 0, self.decayed
        for key, value in self.params.items():
            if key in decayed:
                gradient[at : at + value.size] += value.dtype.type(l2) * value.ravel()
                squares += float(np.sum(value * value, dtype=np.float64))
            at += value.size
        return l2 / 2 * squares

    def check_rows(self, name: str, x: ArrayLike) -> Array:
        """x as rows that the network takes, unconverted. Raises TypeError and ValueError."""
        return checks.samples(name, x, self.input_shape)

    def _input(self, x: ArrayLike) -> Array:
        """x, for compiled steps converted only where its own dtype would make the result another than the network's."""
        x = self.check_rows("x", x)
        if self.architecture is None:
            return x.astype(self.dtype, copy=False)
        return x if np.result_type(x, self.dtype) == self.dtype else x.astype(self.dtype)

    def _batch(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """x and its labels or targets, checked before anything is computed or changed. Raises TypeError and ValueError."""
        x = self._input(x)
        if not len(x):
            raise ValueError("x must have at least one row, got none")
        if not self.classifies:
            targets = checks.targets(t, len(x), self.outputs)
            self.last_layer.check_targets(targets)
            return x, targets
        labels = checks.labels(t, len(x), self.outputs)
        return x, labels.astype(self.dtype) if labels.ndim == 2 else labels

    def _pieces(self, rows: int) -> list[slice]:
        return [slice(first, first + self.rows_at_a_time) for first in range(0, rows, self.rows_at_a_time)]

    def _loss_of(self, scores: Array, t: Array) -> Any:
        loss = self.last_layer.forward(scores, t)
        return loss + self.decay_loss() if self.l2 else loss

    def decay_loss(self) -> float:
        """l2 / 2 * the sum of all squared weights that decay."""
        return self.l2 / 2 * sum(float(np.sum(self.params[key] ** 2, dtype=np.float64)) for key in self.decayed)

    def _draw_dropout(self, seed: int, step: int, rows: Array) -> None:
        for number, layer in enumerate(self._dropouts):
            layer.draw = Draw(seed, step, number, rows)

    def _forward(self, x: Array, training: bool = False) -> Array:
        """Through all layers. While training, layers measure their statistics, which stay in the flat vector.

        Where a layer raises, the statistics are as before.
        """
        if any(call.own for call in self._row):
            x = x.copy()  # which they may write into
        try:
            for layer, takes_mode, own in self._row:
                x = layer.forward(x, train_flg=training) if takes_mode else layer.forward(x)
                if own:
                    x = np.asarray(x).astype(self.dtype, copy=False)
            if training:
                for key, layer, name in self._measured:
                    self._statistic_views[key][...] = getattr(layer, name)
        finally:
            if training:
                for key, layer, name in self._measured:
                    setattr(layer, name, self._statistic_views[key])
        return x

    def _back_through(self, dout: Array, last: Any = None) -> None:
        """The derivative of the scores, back through the layers, to that of the input or to the parameters of `last`."""
        for layer, _, own in reversed(self._row):
            if layer is last:
                getattr(layer, "parameter_gradients", layer.backward)(dout)
                break
            dout = layer.backward(dout)
            if own:
                dout = np.asarray(dout).astype(self.dtype, copy=False)

    def _backward(self, dout: Array, gradient: Array) -> None:
        """The derivative of the scores -> that of all parameters, into the flat vector; the rows' own is left out."""
        first: Any = self._declared[0].layer if self._declared else None  # before it there is nothing to learn
        self._back_through(dout, first)
        at = 0
        for key, layer, name in self._declared:
            found = np.asarray(gradient_of(layer, name))
            checks.same_shape(f"the gradient d{name} of {type(layer).__name__}", found, self.params[key].shape, name)
            gradient[at : at + found.size] = found.reshape(-1)
            at += found.size

    def __getstate__(self) -> dict[str, Any]:
        made = {"params", "layers", "last_layer", "_kernels", "_plans", "_engine", "_declared", "_measured", "_row"}
        made |= {"_statistic_views", "_dropouts"}
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # what protocol 5 brings may be read-only, or part of another array
        self.parameters, self.statistics = self.parameters.copy(), self.statistics.copy()
        self.backend, self._kernels = get_backend(self.backend)
        self._plans = planned(self.input_shape, self._specs)
        self._make_layers()


def gradient_of(layer: Any, name: str) -> Array:
    """The gradient of a parameter, after backward: of fastbp's layers, and of a user's own."""
    return layer.gradient_of(name) if hasattr(layer, "gradient_of") else getattr(layer, f"d{name}")
