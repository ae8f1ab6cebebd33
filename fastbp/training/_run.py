"""One call of Trainer.fit: batches to the backend, evaluations and callbacks in between, and the history of it all."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import _notebook
from .._checks import Array
from ..networks._engines import Terms
from ..networks._network import Network
from ._callbacks import Callback
from ._checkpoints import Checkpoint, write_checkpoint
from ._executors import Executor, OneProcess
from ._optimizers import Optimizer

NUMBERS_AT_A_TIME = 100_000  # drawn for the batches: 800 KB
ROWS_AT_A_TIME = 1000  # in the loss of all rows
SECONDS_PER_CALL = 0.1  # compiled code comes back this often, for Ctrl-C and the progress bar


@dataclass(frozen=True)
class Evaluation:
    """Accuracies, from 0 to 1, after the update of an iteration; for networks that do not classify, losses.

    Attributes:
        iteration: counted from 0.
        train_accuracy: on all training data; None for networks that do not classify.
        test_accuracy: on the validation data; None without them.
        train_loss: None for networks that classify.
        test_loss: None for networks that classify, and without validation data.

    Examples:
        >>> from fastbp import Evaluation
        >>> Evaluation(600, train_accuracy=0.9, test_accuracy=0.91).test_accuracy
        0.91
    """

    iteration: int
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    train_loss: float | None = None
    test_loss: float | None = None


@dataclass
class History:
    """What a training run did.

    Attributes:
        losses: each batch's loss, of the forward pass before its update (iterations,), float64.
        evaluations: in order.
        train_seconds: where the time went.
        evaluate_seconds: likewise.
        interrupted: Ctrl-C ended the run; the history holds what was done.
        stopped: why a callback ended it, or None.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), batch_size=2)
        >>> history = trainer.fit(np.eye(2), [0, 1], iterations=3, progress=False)
        >>> history.losses.shape, history.evaluations[0].iteration, history.interrupted
        ((3,), 0, False)
    """

    losses: Array = field(default_factory=lambda: np.empty(0))
    evaluations: list[Evaluation] = field(default_factory=list)
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    interrupted: bool = False
    stopped: str | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the curve of the losses, and the last evaluations."""
        seconds = self.train_seconds + self.evaluate_seconds
        ended = f", {self.stopped}" if self.stopped else ", interrupted" if self.interrupted else ""
        caption = f"{len(self.losses)} iterations, {seconds:.2f} s{ended}"
        rows = [asdict(evaluation) for evaluation in self.evaluations[-5:]]
        columns = [name for name in asdict(Evaluation(0)) if any(row[name] is not None for row in rows)]
        cells = [
            [f"{row[name]:.4f}" if isinstance(row[name], float) else row[name] for name in columns] for row in rows
        ]
        return _notebook.curve(self.losses, "loss") + _notebook.table(caption, columns, cells)


@dataclass(frozen=True)
class Data:
    """Checked data: `samples` rows x as the backend reads them best, and as they are; labels or targets t."""

    samples: int
    x: Any
    t: Array
    rows: Array
    divide_by: float | None


def digest(data: Data) -> int:
    """A checksum of the rows and of what is to be learned of them."""
    start = zlib.crc32(repr(data.divide_by).encode())
    return zlib.crc32(data.t.data, zlib.crc32(data.rows.data, start))


class Run:
    """One call of fit: takes batches from a stream, gives them to the backend in portions, evaluates in between."""

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        train: Data,
        test: Data | None,
        history: History,
        *,
        evaluate_every: int | None = None,
        callbacks: Sequence[Callback] = (),
        stop_at_nonfinite: bool = True,
        terms: Terms | None = None,
        executor: Executor | None = None,
        measured: Sequence[str] | None = None,
    ):
        """measured: what evaluations tell; None for what this run makes itself."""
        self.network, self.optimizer = network, optimizer
        self.state = optimizer.memory_of(network.parameters)
        self.train, self.test = train, test
        self.evaluate_every = evaluate_every
        self.history, self.callbacks, self.terms = history, callbacks, terms
        self.stop_at_nonfinite = stop_at_nonfinite
        self.executor: Executor = OneProcess() if executor is None else executor
        self._snapshot()
        self.done = np.zeros(1, np.int64)  # counted by the backend: exact even where Ctrl-C comes between two calls
        self.total = len(history.losses)
        self._portion, self._rows, self._seconds = 1, 0, 0.0
        if measured is None:
            kind = "accuracy" if network.classifies else "loss"
            measured = [f"train_{kind}", *([f"test_{kind}"] if test is not None else [])] if evaluate_every else []
        self.measured = measured

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        return int(self.done[0])

    @property
    def losses(self) -> Array:
        """The losses of the iterations that are done."""
        return self.history.losses[: self.iteration]

    @property
    def rank(self) -> int:
        """0, but for other processes of one training."""
        return self.executor.rank

    def stop(self, reason: str) -> None:
        """End the run when the callbacks of this moment have been called; `reason` goes to the history."""
        self.history.stopped = reason

    def restore(self, saved: Checkpoint) -> None:
        done = len(saved.losses)
        self.network.parameters[...], self.state[...] = saved.parameters, saved.state
        self.network.statistics[...] = saved.statistics
        self.optimizer.steps = saved.optimizer_steps
        self.history.losses[:done], self.done[0] = saved.losses, done
        self.history.evaluations[:] = [Evaluation(**evaluation) for evaluation in saved.evaluations]
        self.history.train_seconds, self.history.evaluate_seconds = saved.seconds
        self.history.stopped = saved.stopped
        for callback, state in zip(self.callbacks, saved.callbacks, strict=False):
            callback.restore(state)
        self._snapshot()

    def until_done(self, stream: Iterator[Array]) -> None:
        """Train on what the stream has after the iterations that are done."""
        passed = 0
        with ExitStack() as ends:
            try:
                for callback in self.callbacks:
                    callback.on_start(self)
                    ends.callback(callback.on_end, self)
                self._evaluate_if_due()  # Ctrl-C may have come between an update and its evaluation
                for batches in stream:
                    if self.history.stopped is not None:
                        break
                    fresh = batches[max(0, self.iteration - passed) :]
                    passed += len(batches)
                    self._take(fresh)
            except KeyboardInterrupt:
                self.history.interrupted = True
            finally:
                self.history.losses = self.losses
                self.network._engine.release()

    def _take(self, batches: Array) -> None:
        """Train on batches (steps, batch size), a portion at a time; a portion ends where something is due."""
        while len(batches) and self.history.stopped is None:
            steps = min(self._portion, len(batches), self._until_evaluation(), *self._until_callbacks())
            seconds = self._steps(batches[:steps])
            batches = batches[steps:]
            if steps == self._portion or seconds > SECONDS_PER_CALL:
                self._portion = max(1, min(2 * steps, int(steps * SECONDS_PER_CALL / max(seconds, 1e-9))))
            if self.stop_at_nonfinite:
                self._check_losses(self.iteration - steps)
            self._evaluate_if_due()
            for callback in self.callbacks:
                if callback.every and (self.iteration % callback.every == 0 or self.iteration == self.total):
                    callback.on_iterations(self)
            for callback in self.callbacks:
                callback.on_progress(self)

    def _snapshot(self) -> None:
        """Keep a copy of the network and the optimizer as they are now."""
        network = self.network
        self.snapshot = network.parameters.copy(), network.statistics.copy(), self.state.copy(), self.optimizer.steps

    def _check_losses(self, start: int) -> None:
        """Raises FloatingPointError where a loss from `start` on is not finite; the network is that of the snapshot."""
        losses = self.history.losses[start : self.done[0]]
        if np.isfinite(losses).all():
            return
        iteration = start + int(np.argmin(np.isfinite(losses)))
        spoiled = [key for key, value in self.network.params.items() if not np.isfinite(value).all()]
        network = self.network
        network.parameters[...], network.statistics[...], self.state[...], self.optimizer.steps = self.snapshot
        self.done[0] = iteration + 1
        finite = np.isfinite(self.train.rows).all()
        cause = f"learning_rate={self.optimizer.learning_rate:g} is probably too large" if finite else "x is not finite"
        raise FloatingPointError(
            f"the loss of iteration {iteration} is {self.history.losses[iteration]}: {cause}"
            + (f"; {spoiled[0]} is not finite any more" if spoiled and finite else "")
            + ". The network is as at the last evaluation; on_nonfinite='ignore' goes on all the same"
        )

    def _until_evaluation(self) -> int:
        every = self.evaluate_every or self.total
        return every - (self.iteration - 1) % every

    def _until_callbacks(self) -> list[int]:
        return [one.every - self.iteration % one.every for one in self.callbacks if one.every]

    def _steps(self, batches: Array) -> float:
        start, before = time.perf_counter(), self.iteration
        try:
            self.executor.train(self, batches, self.history.losses[before : before + len(batches)])
        finally:
            self.optimizer.steps += self.iteration - before
            seconds = time.perf_counter() - start
            self.history.train_seconds += seconds
            self._seconds, self._rows = self._seconds + seconds, self._rows + int(np.count_nonzero(batches >= 0))
        return seconds

    def _evaluate_if_due(self) -> None:
        last, done = self.history.evaluations[-1:], self.iteration - 1
        if (
            self.evaluate_every
            and done >= 0
            and done % self.evaluate_every == 0
            and done not in [one.iteration for one in last]
        ):
            evaluation = self._evaluate()
            self._snapshot()
            for callback in self.callbacks:
                callback.on_evaluation(self, evaluation)

    def _evaluate(self) -> Evaluation:
        start = time.perf_counter()
        try:
            self.history.evaluations.append(self.measure())
            return self.history.evaluations[-1]
        finally:
            self.history.evaluate_seconds += time.perf_counter() - start

    def measure(self) -> Evaluation:
        """Accuracies, or losses, of all data as the network is now; the history does not take it."""
        measure = self._accuracy if self.network.classifies else self._loss
        values = [None if data is None else measure(data) for data in (self.train, self.test)]
        names = ("train_accuracy", "test_accuracy") if self.network.classifies else ("train_loss", "test_loss")
        return Evaluation(self.iteration - 1, **dict(zip(names, values, strict=True)))

    def _accuracy(self, data: Data) -> float:
        network = self.network
        hits = network._engine.count_correct(data.x, data.t)
        return self.executor.total(hits) / self.executor.total(data.samples)

    def _loss(self, data: Data) -> float:
        """The loss of all rows, in pieces whose activations stay in the cache."""
        network, total = self.network, 0.0
        for first in range(0, data.samples, ROWS_AT_A_TIME):
            rows, t = data.rows[first : first + ROWS_AT_A_TIME], data.t[first : first + ROWS_AT_A_TIME]
            x = rows if data.divide_by is None else rows.astype(np.float32) / np.float32(data.divide_by)
            loss = float(network.data_loss(x, t))
            total += loss * len(rows) if network.reduction == "mean" else loss
        total = self.executor.total(total)
        total = total / self.executor.total(data.samples) if network.reduction == "mean" else total
        return total + network.decay_loss()

    def status(self, brief: bool = True) -> str:
        """For the person who waits: samples a second and the last loss and evaluation; or, not brief, all of that one."""
        shown = [f"{self._rows / self._seconds:,.0f} samples/s"] if brief and self._seconds else []
        if self.iteration:
            shown.append(f"loss {self.history.losses[self.done[0] - 1]:.4f}")
        if self.history.evaluations:
            last = self.history.evaluations[-1]
            kind = "accuracy" if self.network.classifies else "loss"
            values = [(name, getattr(last, f"{name}_{kind}")) for name in ("train", "test")]
            known = [f"{name} {value:.4f}" for name, value in values if value is not None]
            shown += known[-1:] if brief else known
        return "  ".join(shown)


class CheckpointWriter(Callback):
    """Writes a checkpoint of the run to `path` after every so many iterations and at its end. The last of the callbacks."""

    def __init__(self, path: Path, every: int, settings: dict[str, Any], random: Any):
        self.path, self.every, self.settings, self.random = path, every, settings, random

    def on_iterations(self, run: Run) -> None:
        if run.rank:
            return
        history = run.history
        write_checkpoint(
            self.path,
            Checkpoint(
                self.settings,
                run.network.parameters,
                run.network.statistics,
                run.state,
                run.optimizer.steps,
                run.losses,
                [asdict(evaluation) for evaluation in history.evaluations],
                (history.train_seconds, history.evaluate_seconds),
                self.random,
                history.stopped,
                [callback.state() for callback in run.callbacks],
            ),
        )

    def on_end(self, run: Run) -> None:
        if run.history.interrupted or run.history.stopped is not None:
            self.on_iterations(run)


def with_replacement(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
    """Batches as `random.choice(samples, batch_size)` draws them, one by one, many drawn in one call."""
    while total > 0:
        steps = min(total, max(1, NUMBERS_AT_A_TIME // batch_size))
        yield random.randint(0, samples, (steps, batch_size), dtype=np.int64)
        total -= steps


def shuffled(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
    """Every sample once an epoch; where the division leaves a rest, the last batch of each is shorter."""
    while total > 0:
        batches = in_batches(random.permutation(samples), batch_size)[:total]
        yield batches
        total -= len(batches)


def in_batches(order: Array, batch_size: int) -> Array:
    """Row numbers (n,) -> (batches, batch size); the last ends in -1 where there are no more."""
    batches = np.full((-(-len(order) // batch_size), batch_size), -1, np.int64)
    batches.ravel()[: len(order)] = order
    return batches
