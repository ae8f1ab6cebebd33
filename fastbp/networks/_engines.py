"""How networks are trained: many steps in one compiled call, or layer by layer. One interface, one meaning.

Rows of affine layers with activations between them, and dropout behind all of these or none, are an `Architecture`, which
the backends know. Everything else goes layer by layer, with memory that is used again from step to step.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .. import _losses as losses
from .._checks import Array
from .._interrupts import noted_interrupts
from ..backends import memory_pool

if TYPE_CHECKING:
    from ._network import Network


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

    Steps layer by layer know weights, l2, seed and first_row: the network has its dropout itself, and the rest is for MLPs.
    """

    weights: Array | None = None
    l2: float = 0.0
    l2_divided: bool = False
    dropout: float = 0.0
    seed: int = 0
    first_row: int = 0
    loss_parts: int = 1
    log_floor: float = 0.0


class Engine(Protocol):
    """What training asks of a network. x is what prepare_data gave; see the functions of these names in reference.py."""

    def prepare_data(self, rows: Array, divide_by: float | None) -> Any:
        """rows (n, *input_shape), C-contiguous -> what the other methods take as x."""

    def train_steps(self, data: Any, batches: Array, rule: Any, state: Array, record: Any, terms: Terms | None) -> None:
        """Updates of the network, one for each row of `batches`."""

    def batch_gradient(self, x: Any, t: Array, rows: Array, gradient: Array, terms: Terms | None, step: int) -> float:
        """The summed loss of these rows without l2; `gradient` takes its derivative."""

    def count_correct(self, x: Any, t: Array) -> int:
        """For how many rows the largest score is t's."""

    def release(self) -> None:
        """Give back the memory that was kept from step to step."""


class CompiledSteps:
    """Many steps in one call of the backend. Dropout layers that the network has go into the terms."""

    def __init__(self, network: Network):
        self.network = weakref.proxy(network)  # a cycle would keep its arrays until the garbage collector comes

    def prepare_data(self, rows: Array, divide_by: float | None) -> Any:
        return self.network._kernels.prepare_data(rows.reshape(len(rows), -1), divide_by)

    def train_steps(self, data: Any, batches: Array, rule: Any, state: Array, record: Any, terms: Terms | None) -> None:
        network = self.network
        arguments = (
            network.parameters,
            network.architecture,
            data,
            batches,
            rule,
            state,
            record,
            self._with_dropout(terms),
        )
        network._kernels.train_steps(*arguments)

    def batch_gradient(self, x: Any, t: Array, rows: Array, gradient: Array, terms: Terms | None, step: int) -> float:
        network = self.network
        summed = network.architecture._replace(mean=False)
        arguments = network.parameters, summed, x, t, rows, gradient, self._with_dropout(terms), step
        return float(network._kernels.batch_gradient(*arguments))

    def count_correct(self, x: Any, t: Array) -> int:
        network = self.network
        return int(network._kernels.count_correct(network.parameters, network.architecture, x, t))

    def release(self) -> None:
        """Nothing is kept."""

    def _with_dropout(self, terms: Terms | None) -> Terms | None:
        ratio = self.network.hidden_dropout
        return terms if ratio is None else (terms or Terms())._replace(dropout=ratio)


class Samples(NamedTuple):
    """rows (n, ...), of uint8 divided by `divide_by` where that is not None."""

    rows: Array
    divide_by: float | None

    def batch(self, rows: Array | slice, dtype: Any) -> Array:
        """Some of the rows, in the dtype given."""
        picked = self.rows[rows]
        if self.divide_by is not None:
            picked = picked.astype(np.float32)
            picked /= np.float32(self.divide_by)
        return picked.astype(dtype, copy=False)


class LayerByLayer:
    """Steps in which each layer makes a call of its own."""

    def __init__(self, network: Network):
        self.network = weakref.proxy(network)  # a cycle would keep its arrays until the garbage collector comes
        self.memory = memory_pool(network.backend)

    def prepare_data(self, rows: Array, divide_by: float | None) -> Samples:
        return Samples(rows, divide_by)

    def train_steps(self, data: Any, batches: Array, rule: Any, state: Array, record: Any, terms: Terms | None) -> None:
        """An error or Ctrl-C in the middle of a step takes it back: parameters, statistics and `done` belong together."""
        network, (x, t), (recorded, done) = self.network, data, record
        gradient, mean = np.empty_like(network.parameters), network.reduction == "mean"
        for step, rows in enumerate(batches, rule.steps):
            statistics, steps_done = network.statistics.copy(), done[0]
            try:
                loss = self._gradient(x, t, rows[rows >= 0], gradient, terms, step, mean=mean)
                if terms is not None and terms.l2:
                    loss += network.add_decay(gradient, terms.l2)
                with noted_interrupts(patient=True):
                    recorded[step - rule.steps] = loss
                    network._kernels.optimizer_update(rule._replace(steps=step), network.parameters, gradient, state)
                    done[0] += 1
            except BaseException:
                if done[0] == steps_done:
                    network.statistics[...] = statistics
                raise

    def batch_gradient(self, x: Any, t: Array, rows: Array, gradient: Array, terms: Terms | None, step: int) -> float:
        return self._gradient(x, t, rows, gradient, terms, step, mean=False)

    def count_correct(self, x: Any, t: Array) -> int:
        network, correct = self.network, 0
        for first in range(0, len(t), network.rows_at_a_time):
            rows = slice(first, first + network.rows_at_a_time)
            with self.memory:
                scores = network._forward(x.batch(rows, network.dtype))
            correct += int(np.sum(scores.argmax(axis=1) == t[rows]))
        return correct

    def release(self) -> None:
        self.memory.release()

    def _gradient(
        self, x: Any, t: Array, rows: Array, gradient: Array, terms: Terms | None, step: int, *, mean: bool
    ) -> float:
        """The loss of a batch, the mean or the sum; `gradient` takes its derivative."""
        network, terms = self.network, terms or Terms()
        weights = None if terms.weights is None else terms.weights[rows]
        with self.memory:
            network._draw_dropout(terms.seed, step, rows + terms.first_row)
            scores = network._forward(x.batch(rows, network.dtype), training=True)
            loss, delta = _loss_and_delta(network, scores, t[rows], weights, mean=mean)
            network._backward(delta, gradient)
        return loss


def _loss_and_delta(
    network: Network, scores: Array, t: Array, weights: Array | None, *, mean: bool
) -> tuple[float, Array]:
    """The loss of scores (N, outputs) and its derivative by them, weighted where there are weights (N,)."""
    if weights is None:
        loss, delta = float(network.last_layer.forward(scores, t)), network.last_layer.backward()
        if network.reduction == "mean" and not mean:
            loss, delta = loss * len(scores), delta * delta.dtype.type(len(scores))
        return loss, delta
    row_losses, delta = losses.row_losses(network.loss_name, scores, t)
    divisor = (float(weights.sum(dtype=np.float64)) or 1.0) if mean else 1.0
    loss = float(np.sum(weights * row_losses, dtype=np.float64)) / divisor
    return loss, delta * (weights / divisor).astype(delta.dtype)[:, None]
