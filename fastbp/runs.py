"""One call of Trainer.fit: batches to the backend, evaluations and checkpoints in between, and the history of it all."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import Checkpoint, write_checkpoint
from .checks import Array
from .networks import MLP
from .optimizers import Optimizer

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
        network: MLP,
        optimizer: Optimizer,
        train: Data,
        test: Data | None,
        evaluate_every: int | None,
        history: History,
        advance: Callable[[int, str], None],
        stop_at_nonfinite: bool,
    ):
        self.network, self.optimizer = network, optimizer
        self.state = optimizer.memory_of(network.parameters)
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
            self._evaluate_if_due()  # Ctrl-C may have come between an update and its evaluation
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
            self._evaluate_if_due()
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

    def _evaluate_if_due(self) -> None:
        last, done = self.history.evaluations[-1:], int(self.done[0]) - 1
        if (
            self.evaluate_every
            and done >= 0
            and done % self.evaluate_every == 0
            and done not in [one.iteration for one in last]
        ):
            self._evaluate()
            self._keep()

    def _evaluate(self) -> None:
        start = time.perf_counter()
        try:
            measure = self._accuracy if self.network.classifies else self._loss
            values = [None if data is None else measure(data) for data in (self.train, self.test)]
            names = ("train_accuracy", "test_accuracy") if self.network.classifies else ("train_loss", "test_loss")
            self.history.evaluations.append(Evaluation(int(self.done[0]) - 1, **dict(zip(names, values, strict=True))))
        finally:
            self.history.evaluate_seconds += time.perf_counter() - start

    def _accuracy(self, data: Data) -> float:
        network = self.network
        return network._kernels.count_correct(network.parameters, network.architecture, data.x, data.t) / data.samples

    def _loss(self, data: Data) -> float:
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


def with_replacement(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
    """Batches as `random.choice(samples, batch_size)` draws them, one by one, many drawn in one call."""
    while total > 0:
        steps = min(total, max(1, NUMBERS_AT_A_TIME // batch_size))
        yield random.randint(0, samples, (steps, batch_size), dtype=np.int64)
        total -= steps


def shuffled(random: Any, samples: int, batch_size: int, total: int) -> Iterator[Array]:
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
