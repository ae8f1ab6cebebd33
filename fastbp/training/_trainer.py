"""The training loop: what a run is to do, checked before it begins."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks as checks
from .._checks import Array
from ..networks._engines import Terms
from ..networks._mlp import MLP
from ..networks._network import Network
from ._callbacks import Callback, ProgressBar, checked_callbacks
from ._checkpoints import Checkpoint, read_checkpoint
from ._distributed import SeveralProcesses
from ._executors import Executor, OneProcess
from ._optimizers import SGD, Optimizer
from ._run import (
    CheckpointWriter,
    Data,
    Evaluation,
    History,
    Run,
    digest,
    shuffled,
    with_replacement,
)

__all__ = ["Evaluation", "History", "Trainer"]


class Plan(NamedTuple):
    """A checked run: data, terms of the loss, rows in all, iterations, and how it draws batches and evaluates."""

    train: Data
    test: Data | None
    terms: Terms | None
    samples: int
    total: int
    shuffle: bool
    evaluate_every: int | None


class Trainer:
    """Trains a network with mini-batches.

    Args:
        network: an MLP, Sequential or one of the book's; training changes its parameters in place.
        optimizer: None for SGD(0.1).
        batch_size: rows for each update, at least 1.
        seed: of the numpy.random.RandomState that draws the batches. None draws them from NumPy's global random state, as
            np.random.choice in a script would, so that np.random.seed(n) gives the batches of that script.
        l2: adds l2 / 2 * (the sum of all squared weights, not biases) to each loss, the book's weight decay; to what the
            network has of its own.
        dropout: of an MLP, the probability of each hidden output to be left out of an update; those that stay are divided
            by 1 - dropout. Which ones is drawn from the seed (0 where that is None), the number of the update and of the
            row. Other networks have nn.Dropout among their layers.
        communicator: mpi4py.MPI.COMM_WORLD, for instance: its processes train one network together, each with its own
            shard of the rows; see the page on several processes.

    Attributes:
        history: what the last `fit` did.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> rng = np.random.default_rng(0)
        >>> x = rng.random((200, 4), np.float32)
        >>> t = (x[:, 0] > x[:, 1]).astype(int)
        >>> network = fastbp.MLP((4, 16, 2), seed=0)
        >>> trainer = fastbp.Trainer(network, fastbp.Adam(0.01), batch_size=20)
        >>> history = trainer.fit(x, t, epochs=50, evaluate_every=None, progress=False)
        >>> len(history.losses), network.accuracy(x, t) > 0.95
        (500, True)
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer | None = None,
        batch_size: int = 100,
        seed: int | None = 0,
        *,
        l2: float = 0.0,
        dropout: float = 0.0,
        communicator: Any = None,
    ):
        if not isinstance(network, Network):
            raise TypeError(f"network must be a fastbp network (MLP, Sequential, ...), got {type(network).__name__}")
        self.network = network
        self.optimizer = SGD(0.1) if optimizer is None else optimizer
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be a fastbp optimizer (SGD, Momentum, Adam, ...), got {type(optimizer).__name__}"
            )
        self.batch_size = checks.whole_number("batch_size", batch_size, at_least=1)
        self.seed = None if seed is None else checks.whole_number("seed", seed, at_least=0)
        self.l2 = checks.not_negative("l2", l2)
        self.dropout = checks.below_one("dropout", dropout)
        if self.dropout and not isinstance(network, MLP):
            raise ValueError(
                f"dropout is for an MLP; put nn.Dropout({dropout:g}) among the layers of this network instead"
            )
        if communicator is not None and seed is None:
            raise ValueError("seed must be a number where several processes are to draw the same batches, got None")
        self.communicator = communicator
        self._random: Any = np.random if seed is None else np.random.RandomState(self.seed)
        self.history = History()

    def fit(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        iterations: int | None = None,
        epochs: int | None = None,
        sample_weight: ArrayLike | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        evaluate_every: int | None = 600,
        shuffle: bool = False,
        divide_by: float | None = None,
        on_nonfinite: str = "raise",
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 600,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> History:
        """Train on x and t.

        Ctrl-C stops within half a second, or at the end of a step that takes longer, with a warning: the history so far is
        returned, and kept as `history`. With a communicator, all its processes call fit, each with its own shard of the
        rows, of the validation data too.

        Args:
            x: the inputs (N, ...).
            t: class indices (N,) or one-hot (N, classes); for networks that do not classify, targets (N, outputs).
            iterations: how long, in updates; or
            epochs: how long, in epochs. An epoch is N // batch_size batches drawn with replacement, or, with shuffle=True,
                every sample once in a new random order, the last batch being what is left.
            sample_weight: how much each row counts (N,); a batch's loss is the mean weighted by them.
            validation: another (x, t) for the test accuracy.
            evaluate_every: measure the accuracies on all data after the update of iterations 0, evaluate_every,
                2 * evaluate_every, ...; None never does.
            shuffle: how an epoch is drawn, see there.
            divide_by: of images x of uint8, 255 for instance: they are kept as they are, and read as
                np.float32(x) / np.float32(divide_by).
            on_nonfinite: where a loss is NaN or infinite, "raise" FloatingPointError, the network and the optimizer being as
                at the last evaluation, or at the start; or "ignore" it, as NumPy would.
            checkpoint: a file that takes the whole run after every `checkpoint_every` iterations and at its end (extra
                `save`).
            checkpoint_every: in iterations.
            resume: with the same arguments, a run that was killed goes on from its checkpoint, if the file exists, and ends
                bit for bit as if it had never stopped.
            callbacks: instances of fastbp.training.Callback, EarlyStopping for instance.
            progress: show a bar (with the extra `cli` installed).

        Returns:
            The history of this call.

        Raises:
            TypeError: for arguments of another type, before anything is changed.
            ValueError: for shapes and numbers that do not fit, before anything is changed.
            SavedFileError: for a checkpoint that is damaged or of another run.
            FloatingPointError: see on_nonfinite.
        """
        checks.one_of("on_nonfinite", on_nonfinite, ("raise", "ignore"))
        callbacks = checked_callbacks(callbacks)
        if resume and checkpoint is None:
            raise ValueError("resume needs checkpoint, the file to go on from")
        executor: Executor = OneProcess() if self.communicator is None else SeveralProcesses(self.communicator)
        data = executor.raise_on_all_ranks(lambda: self._checked(x, t, validation, sample_weight, divide_by))
        plan = self._plan(executor, data, iterations, epochs, shuffle=shuffle, evaluate_every=evaluate_every)
        all_callbacks = [*callbacks, ProgressBar(f"{self.network.backend}:{self.network.dtype}", progress)]
        saved = None
        if checkpoint is not None:
            path, settings = Path(checkpoint), self._settings(executor, plan)
            every = checks.whole_number("checkpoint_every", checkpoint_every, at_least=1)
            if resume:
                saved = executor.from_first(lambda: read_checkpoint(path, settings) if path.exists() else None)
            if saved is not None:
                self._random.set_state(saved.random)
            all_callbacks.append(CheckpointWriter(path, every, settings, self._random.get_state(legacy=True)))
        else:
            checks.whole_number("checkpoint_every", checkpoint_every, at_least=1)
        self._execute(executor, plan, all_callbacks, saved, stop_at_nonfinite=on_nonfinite == "raise")
        if self.history.interrupted:
            done = len(self.history.losses)
            message = f"Training was interrupted after {done} of {plan.total} iterations"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return self.history

    def _plan(
        self,
        executor: Executor,
        data: tuple[Data, Data | None, Array | None],
        iterations: int | None,
        epochs: int | None,
        *,
        shuffle: bool,
        evaluate_every: int | None,
    ) -> Plan:
        """What a run is to do: nothing is changed yet."""
        train, test, weights = data
        samples = executor.share_rows(train.samples)
        if self.batch_size > samples:
            raise ValueError(f"batch_size must be at most the number of samples, {samples}, got {self.batch_size}")
        total = self._total_iterations(samples, iterations, epochs, shuffle)
        if evaluate_every is not None:
            evaluate_every = checks.whole_number("evaluate_every", evaluate_every, at_least=1)
        terms = self._terms(weights, executor.first_row)
        return Plan(train, test, terms, samples, total, shuffle, evaluate_every)

    def _execute(
        self,
        executor: Executor,
        plan: Plan,
        all_callbacks: list[Callback],
        saved: Checkpoint | None,
        *,
        stop_at_nonfinite: bool,
    ) -> None:
        """Carry out a plan, from the start or from a checkpoint."""
        self.history = History(losses=np.empty(plan.total))
        run = Run(
            self.network,
            self.optimizer,
            plan.train,
            plan.test,
            self.history,
            evaluate_every=plan.evaluate_every,
            callbacks=all_callbacks,
            stop_at_nonfinite=stop_at_nonfinite,
            terms=plan.terms,
            executor=executor,
        )
        if saved is not None:
            run.restore(saved)
        draw = shuffled if plan.shuffle else with_replacement
        with executor.running(self.network.parameters, self.network.statistics, run.state):
            run.until_done(draw(self._random, plan.samples, self.batch_size, plan.total))

    def _checked(
        self,
        x: ArrayLike,
        t: ArrayLike,
        validation: tuple[ArrayLike, ArrayLike] | None,
        sample_weight: ArrayLike | None,
        divide_by: float | None,
    ) -> tuple[Data, Data | None, Array | None]:
        """The data to train on, the data to validate with, and the weights of the rows."""
        self._check_network()
        self.optimizer.memory_of(self.network.parameters)
        divide_by = None if divide_by is None else checks.positive("divide_by", divide_by)
        train = self._data("x", x, t, divide_by)
        test = None if validation is None else self._data("validation x", *_pair(validation), divide_by)
        if sample_weight is None:
            return train, test, None
        return train, test, checks.weights_of_samples(sample_weight, train.samples).astype(self.network.dtype)

    def _terms(self, weights: Array | None, first_row: int) -> Terms | None:
        l2 = self.l2 + self.network.l2
        if weights is None and not l2 and not self.dropout and not self.network.has_dropout:
            return None
        return Terms(weights, l2, dropout=self.dropout, seed=self.seed or 0, first_row=first_row)

    def _settings(self, executor: Executor, plan: Plan) -> dict[str, Any]:
        """What decides every number of a run but its parameters: two runs that agree in it are the same run."""
        network, rule = self.network, self.optimizer.rule
        weights = None if plan.terms is None else plan.terms.weights
        return {
            "network": network.describe(),
            "dtype": network.dtype.name,
            "optimizer": rule.name,
            "optimizer_settings": rule.settings,
            "iterations": plan.total,
            "batch_size": self.batch_size,
            "shuffle": plan.shuffle,
            "evaluate_every": plan.evaluate_every,
            "seed": self.seed,
            "l2": self.l2 + network.l2,
            "dropout": self.dropout,
            "weights_digest": executor.of_all(None if weights is None else zlib.crc32(weights.data)),
            "train_digest": executor.of_all(digest(plan.train)),
            "test_digest": executor.of_all(None if plan.test is None else digest(plan.test)),
        }

    def _check_network(self) -> None:
        network = self.network
        for key, view in network.params.items():
            if not isinstance(view, np.ndarray) or not np.may_share_memory(view, network.parameters):
                raise ValueError(
                    f"network.params[{key!r}] was replaced by another array; Trainer trains network.parameters. "
                    f"Change it in place: network.params[{key!r}][...] = value"
                )

    def _data(self, name: str, x: ArrayLike, t: ArrayLike, divide_by: float | None) -> Data:
        rows = self.network.check_rows(name, x)
        if divide_by is not None and rows.dtype != np.uint8:
            raise TypeError(f"divide_by is for {name} of dtype uint8; got dtype {rows.dtype}: divide it yourself")
        if not len(rows):
            raise ValueError(f"{name} must have at least one row, got none")
        keep = rows.dtype in (np.uint8, np.float32)
        rows = np.ascontiguousarray(rows, dtype=rows.dtype if keep else self.network.dtype)
        prepared = self.network._engine.prepare_data(rows, divide_by)
        return Data(len(rows), prepared, self._labels_or_targets(t, len(rows)), rows, divide_by)

    def _labels_or_targets(self, t: ArrayLike, rows: int) -> Array:
        network = self.network
        if network.classifies:
            return checks.class_indices(t, rows, network.outputs)
        targets = checks.targets(t, rows, network.outputs)
        network.last_layer.check_targets(targets)
        return np.ascontiguousarray(targets, dtype=network.dtype)

    def _total_iterations(self, samples: int, iterations: int | None, epochs: int | None, shuffle: bool) -> int:
        if (iterations is None) == (epochs is None):
            raise ValueError(f"give iterations or epochs, one of them, got iterations={iterations}, epochs={epochs}")
        if iterations is not None:
            return checks.whole_number("iterations", iterations, at_least=1)
        per_epoch = -(-samples // self.batch_size) if shuffle else samples // self.batch_size
        return checks.whole_number("epochs", epochs, at_least=1) * per_epoch


def _pair(validation: Any) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"validation must be a pair (x, t), got {type(validation).__name__}")
    return validation[0], validation[1]
