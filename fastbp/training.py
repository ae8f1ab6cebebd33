"""The training loop: mini-batches, updates, evaluations, progress, and a history of it all."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import checks
from .checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from .checks import Array
from .networks import MLP
from .optimizers import SGD, Optimizer
from .progress import progress_bar

NUMBERS_AT_A_TIME = 100_000  # drawn for the batches: 800 KB
ROWS_AT_A_TIME = 1000  # in the loss of all rows
SECONDS_PER_CALL = 0.1  # compiled code comes back this often, for Ctrl-C and the progress bar


@dataclass(frozen=True)
class Evaluation:
    """Accuracies, from 0 to 1, after the update of an iteration; for networks that do not classify, losses.

    What there is not is None: the test's without validation data.
    """

    iteration: int
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    train_loss: float | None = None
    test_loss: float | None = None


@dataclass
class History:
    """What a training run did.

    losses (iterations,), float64: each batch's loss, of the forward pass before its update. train_seconds
    and evaluate_seconds: where the time went. interrupted: Ctrl-C ended the run; the history holds what was done.
    """

    losses: Array = field(default_factory=lambda: np.empty(0))
    evaluations: list[Evaluation] = field(default_factory=list)
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    interrupted: bool = False


@dataclass(frozen=True)
class _Data:
    """Checked data: `samples` rows x as the backend reads them best, and as they are; labels or targets t."""

    samples: int
    x: Any
    t: Array
    rows: Array
    divide_by: float | None


class Trainer:
    """Trains a network with mini-batches.

    Raises TypeError and ValueError for bad arguments.

    seed: of the numpy.random.RandomState that draws the batches. None draws them from NumPy's global random state, as
    np.random.choice in a script would, so that np.random.seed(n) gives the batches of that script.
    """

    def __init__(self, network: MLP, optimizer: Optimizer | None = None, batch_size: int = 100, seed: int | None = 0):
        if not isinstance(network, MLP):
            raise TypeError(f"network must be a fastbp network (MLP, TwoLayerNet), got {type(network).__name__}")
        self.network = network
        self.optimizer = SGD(0.1) if optimizer is None else optimizer
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be a fastbp optimizer (SGD, Momentum, Adam, ...), got {type(optimizer).__name__}"
            )
        self.batch_size = checks.whole_number("batch_size", batch_size, at_least=1)
        self.seed = seed
        self._random: Any = np.random if seed is None else np.random.RandomState(seed)
        self.history = History()

    def fit(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        iterations: int | None = None,
        epochs: int | None = None,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        evaluate_every: int | None = 600,
        shuffle: bool = False,
        divide_by: float | None = None,
        on_nonfinite: str = "raise",
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 600,
        resume: bool = False,
        progress: bool = True,
    ) -> History:
        """Train on x (N, ...) and t; returns the history of this call.

        t: class indices (N,) or one-hot (N, classes); for networks that do not classify, targets (N, outputs).

        iterations or epochs, one of them: how long. An epoch is N // batch_size batches drawn with replacement, or,
        with shuffle=True, every sample once in a new random order, the last batch being what is left.
        validation: another (x, t) for the test accuracy. evaluate_every: measure the accuracies on all data after the
        update of iterations 0, evaluate_every, 2 * evaluate_every, ...; None never does. divide_by: of images x of
        uint8, 255 for instance: they are kept as they are, and read as np.float32(x) / np.float32(divide_by).
        on_nonfinite: where a loss is NaN or infinite, "raise" FloatingPointError, the network and the optimizer being as
        at the last evaluation, or at the start; or "ignore" it, as NumPy would. checkpoint: a file that takes the whole
        run after every `checkpoint_every` iterations and at its end (extra `save`); with resume=True and the same
        arguments, a run that was killed goes on from there, if the file exists, and ends bit for bit as if it had never
        stopped. progress: show a bar (with the extra `cli` installed).

        Ctrl-C stops within half a second, with a warning: the history so far is returned, and kept as `history`.

        Raises TypeError and ValueError for bad arguments, before anything is changed, and SavedFileError for a checkpoint
        that is damaged or of another run.
        """
        self._check_network()
        self.optimizer.memory_of(self.network.parameters)
        divide_by = None if divide_by is None else checks.positive("divide_by", divide_by)
        checks.one_of("on_nonfinite", on_nonfinite, ("raise", "ignore"))
        train = self._data("x", x, t, divide_by)
        test = None if validation is None else self._data("validation x", *_pair(validation), divide_by)
        if self.batch_size > train.samples:
            raise ValueError(
                f"batch_size must be at most the number of samples, {train.samples}, got {self.batch_size}"
            )
        total = self._total_iterations(train.samples, iterations, epochs, shuffle)
        if evaluate_every is not None:
            evaluate_every = checks.whole_number("evaluate_every", evaluate_every, at_least=1)
        checkpoint_every = checks.whole_number("checkpoint_every", checkpoint_every, at_least=1)
        path = None if checkpoint is None else Path(checkpoint)
        if resume and path is None:
            raise ValueError("resume needs checkpoint, the file to go on from")
        settings = {} if path is None else self._settings(train, test, total, shuffle, evaluate_every)
        saved = read_checkpoint(path, settings) if resume and path is not None and path.exists() else None
        if saved is not None:
            self._random.set_state(saved.random)
        start = self._random.get_state(legacy=True) if self.seed is not None else np.random.get_state(legacy=True)
        self.history = History(losses=np.empty(total))
        name = f"{self.network.backend}:{self.network.dtype}"
        with progress_bar(name, total, shown=progress) as advance:
            run = _Run(self, train, test, evaluate_every, self.history, advance, on_nonfinite == "raise")
            if path is not None:
                run.save_to(path, checkpoint_every, settings, start)
            if saved is not None:
                run.restore(saved)
            batches = _shuffled if shuffle else _with_replacement
            run.until_done(batches(self._random, train.samples, self.batch_size, total))
        if self.history.interrupted:
            done = len(self.history.losses)
            warnings.warn(f"Training was interrupted after {done} of {total} iterations", RuntimeWarning, stacklevel=2)
        return self.history

    def _settings(
        self, train: _Data, test: _Data | None, total: int, shuffle: bool, evaluate_every: int | None
    ) -> dict[str, Any]:
        """What decides every number of a run but its parameters: two runs that agree in it are the same run."""
        network, rule = self.network, self.optimizer.rule
        return {
            "network": network.architecture,
            "dtype": network.dtype.name,
            "optimizer": rule.name,
            "optimizer_settings": rule.settings,
            "iterations": total,
            "batch_size": self.batch_size,
            "shuffle": shuffle,
            "evaluate_every": evaluate_every,
            "seed": self.seed,
            "train_digest": _digest(train),
            "test_digest": None if test is None else _digest(test),
        }

    def _check_network(self) -> None:
        network = self.network
        for key, view in network.params.items():
            if not isinstance(view, np.ndarray) or view.base is not network.parameters:
                raise ValueError(
                    f"network.params[{key!r}] was replaced by another array; Trainer trains network.parameters. "
                    f"Change it in place: network.params[{key!r}][...] = value"
                )

    def _data(self, name: str, x: ArrayLike, t: ArrayLike, divide_by: float | None) -> _Data:
        rows = checks.rows(name, x, self.network.sizes[0])
        if divide_by is not None and rows.dtype != np.uint8:
            raise TypeError(f"divide_by is for {name} of dtype uint8; got dtype {rows.dtype}: divide it yourself")
        if not len(rows):
            raise ValueError(f"{name} must have at least one row, got none")
        keep = rows.dtype in (np.uint8, np.float32)
        rows = np.ascontiguousarray(rows, dtype=rows.dtype if keep else self.network.dtype)
        prepared = self.network._kernels.prepare_data(rows, divide_by)
        return _Data(len(rows), prepared, self._labels_or_targets(t, len(rows)), rows, divide_by)

    def _labels_or_targets(self, t: ArrayLike, rows: int) -> Array:
        network = self.network
        if network.classifies:
            return checks.class_indices(t, rows, network.sizes[-1])
        targets = checks.targets(t, rows, network.sizes[-1])
        if network.loss_name == "binary_cross_entropy":
            checks.probabilities("t", targets)
        return np.ascontiguousarray(targets, dtype=network.dtype)

    def _total_iterations(self, samples: int, iterations: int | None, epochs: int | None, shuffle: bool) -> int:
        if (iterations is None) == (epochs is None):
            raise ValueError(f"give iterations or epochs, one of them, got iterations={iterations}, epochs={epochs}")
        if iterations is not None:
            return checks.whole_number("iterations", iterations, at_least=1)
        per_epoch = -(-samples // self.batch_size) if shuffle else samples // self.batch_size
        return checks.whole_number("epochs", epochs, at_least=1) * per_epoch


def _digest(data: _Data) -> int:
    """A checksum of the rows and of what is to be learned of them."""
    start = zlib.crc32(repr(data.divide_by).encode())
    return zlib.crc32(data.t.data, zlib.crc32(data.rows.data, start))


class _Run:
    """One call of fit: takes batches from a stream, gives them to the backend in portions, evaluates in between."""

    def __init__(
        self,
        trainer: Trainer,
        train: _Data,
        test: _Data | None,
        evaluate_every: int | None,
        history: History,
        advance: Callable[[int, str], None],
        stop_at_nonfinite: bool,
    ):
        self.network = trainer.network
        self.optimizer = trainer.optimizer
        self.state = trainer.optimizer.memory_of(trainer.network.parameters)
        self.train, self.test = train, test
        self.evaluate_every = evaluate_every
        self.history, self.advance = history, advance
        self.stop_at_nonfinite = stop_at_nonfinite
        self.save: Callable[[], None] | None = None
        self.save_every = len(history.losses)
        self._keep()
        self.done = np.zeros(1, np.int64)  # counted by the backend: exact even where Ctrl-C comes between two calls

    def save_to(self, path: Path, every: int, settings: dict[str, Any], random: Any) -> None:
        """Write a checkpoint to `path` after every so many iterations, and at the end."""

        def save() -> None:
            history, done = self.history, int(self.done[0])
            evaluations = [asdict(evaluation) for evaluation in history.evaluations]
            seconds = history.train_seconds, history.evaluate_seconds
            arrays = self.network.parameters, self.state
            steps, losses = self.optimizer.steps, history.losses[:done]
            write_checkpoint(path, Checkpoint(settings, *arrays, steps, losses, evaluations, seconds, random))

        self.save, self.save_every = save, every

    def restore(self, saved: Checkpoint) -> None:
        done = len(saved.losses)
        self.network.parameters[...], self.state[...] = saved.parameters, saved.state
        self.optimizer.steps = saved.optimizer_steps
        self.history.losses[:done], self.done[0] = saved.losses, done
        self.history.evaluations[:] = [Evaluation(**evaluation) for evaluation in saved.evaluations]
        self.history.train_seconds, self.history.evaluate_seconds = saved.seconds
        self._keep()

    def until_done(self, stream: Iterator[Array]) -> None:
        """Train on what the stream has after the iterations that are done."""
        passed = 0
        try:
            for batches in stream:
                fresh = batches[max(0, int(self.done[0]) - passed) :]
                passed += len(batches)
                self._take(fresh)
        except KeyboardInterrupt:
            self.history.interrupted = True
            if self.save is not None:
                self.save()
        finally:
            self.history.losses = self.history.losses[: self.done[0]]

    def _take(self, batches: Array) -> None:
        """Train on batches (steps, batch size), a portion at a time; a portion ends where an evaluation is due."""
        portion = 1
        while len(batches):
            until_save = self.save_every - int(self.done[0]) % self.save_every
            steps = min(portion, len(batches), self._until_evaluation(), until_save)
            seconds = self._steps(batches[:steps])
            batches = batches[steps:]
            portion = max(1, min(2 * portion, int(steps * SECONDS_PER_CALL / max(seconds, 1e-9))))
            if self.stop_at_nonfinite:
                self._check_losses(int(self.done[0]) - steps)
            if self.evaluate_every and (self.done[0] - 1) % self.evaluate_every == 0:
                self._evaluate()
                self._keep()
            if self.save is not None and (
                self.done[0] % self.save_every == 0 or self.done[0] == len(self.history.losses)
            ):
                self.save()
            self.advance(int(self.done[0]), self._status())

    def _keep(self) -> None:
        """Remember the network and the optimizer as they are now."""
        self.kept = self.network.parameters.copy(), self.state.copy(), self.optimizer.steps

    def _check_losses(self, start: int) -> None:
        """Raises FloatingPointError where a loss from iteration `start` on is not finite; the network is as it was kept."""
        losses = self.history.losses[start : self.done[0]]
        if np.isfinite(losses).all():
            return
        iteration = start + int(np.argmin(np.isfinite(losses)))
        spoiled = [key for key, value in self.network.params.items() if not np.isfinite(value).all()]
        self.network.parameters[...], self.state[...], self.optimizer.steps = self.kept
        self.done[0] = iteration + 1
        finite = np.isfinite(self.train.rows).all()
        cause = f"learning_rate={self.optimizer.learning_rate:g} is probably too large" if finite else "x is not finite"
        raise FloatingPointError(
            f"the loss of iteration {iteration} is {self.history.losses[iteration]}: {cause}"
            + (f"; {spoiled[0]} is not finite any more" if spoiled and finite else "")
            + ". The network is as at the last evaluation; on_nonfinite='ignore' goes on all the same"
        )

    def _until_evaluation(self) -> int:
        every = self.evaluate_every or len(self.history.losses)
        return every - (int(self.done[0]) - 1) % every

    def _steps(self, batches: Array) -> float:
        network, start, before = self.network, time.perf_counter(), int(self.done[0])
        try:
            network._kernels.train_steps(
                network.parameters,
                network.architecture,
                self.train.x,
                self.train.t,
                batches,
                self.optimizer.rule,
                self.state,
                self.history.losses[before : before + len(batches)],
                self.done,
            )
        finally:
            self.optimizer.steps += int(self.done[0]) - before
            seconds = time.perf_counter() - start
            self.history.train_seconds += seconds
        return seconds

    def _evaluate(self) -> None:
        start = time.perf_counter()
        try:
            measure = self._accuracy if self.network.classifies else self._loss
            values = [None if data is None else measure(data) for data in (self.train, self.test)]
            names = ("train_accuracy", "test_accuracy") if self.network.classifies else ("train_loss", "test_loss")
            self.history.evaluations.append(Evaluation(int(self.done[0]) - 1, **dict(zip(names, values, strict=True))))
        finally:
            self.history.evaluate_seconds += time.perf_counter() - start

    def _accuracy(self, data: _Data) -> float:
        network = self.network
        return network._kernels.count_correct(network.parameters, network.architecture, data.x, data.t) / data.samples

    def _loss(self, data: _Data) -> float:
        """The loss of all rows, in pieces whose activations stay in the cache."""
        network, total = self.network, 0.0
        for first in range(0, data.samples, ROWS_AT_A_TIME):
            rows, t = data.rows[first : first + ROWS_AT_A_TIME], data.t[first : first + ROWS_AT_A_TIME]
            x = rows if data.divide_by is None else rows.astype(np.float32) / np.float32(data.divide_by)
            loss = float(network.loss(x, t))
            total += loss * len(rows) if network.reduction == "mean" else loss
        return total / data.samples if network.reduction == "mean" else total

    def _status(self) -> str:
        loss = f"loss {self.history.losses[self.done[0] - 1]:.4f}"
        if not self.history.evaluations:
            return loss
        last = self.history.evaluations[-1]
        train, test = (
            (last.train_accuracy, last.test_accuracy) if self.network.classifies else (last.train_loss, last.test_loss)
        )
        return f"{loss}  train {train:.4f}" + ("" if test is None else f"  test {test:.4f}")


def _with_replacement(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
    """Batches as `random.choice(samples, batch_size)` draws them, one by one, many drawn in one call."""
    while total > 0:
        steps = min(total, max(1, NUMBERS_AT_A_TIME // batch_size))
        yield random.randint(0, samples, (steps, batch_size), dtype=np.int64)
        total -= steps


def _shuffled(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
    """Every sample once an epoch: the full batches, then, where the division leaves a rest, the short one."""
    while total > 0:
        order = random.permutation(samples).astype(np.int64, copy=False)
        whole = samples // batch_size
        full = order[: whole * batch_size].reshape(whole, batch_size)[:total]
        yield full
        total -= len(full)
        if total > 0 and samples % batch_size:
            yield order[whole * batch_size :].reshape(1, -1)
            total -= 1


def _pair(validation: Any) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"validation must be a pair (x, t), got {type(validation).__name__}")
    return validation[0], validation[1]
