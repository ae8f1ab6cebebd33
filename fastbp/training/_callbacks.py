"""Callbacks, called as a training run goes on: early stopping, schedules, logs, plots, progress bars."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _checks as checks
from .._checks import Array
from .._progress import progress_bar
from ..backends import compiled_functions

if TYPE_CHECKING:
    from ._run import Evaluation, Run


class Callback:
    """Is called as a run goes on; override what you need.

    `run` has network, optimizer, iteration (how many are done), total, losses (of those done), history, rank (0, but for
    other processes of one training), and stop(reason). Change network.parameters in place. Among several processes of one
    training, all call the same; stop in on_iterations or on_evaluation, for all alike.

    Attributes:
        every: the number of iterations between two calls of on_iterations; one more comes after the last. None: never.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.training import Callback
        >>> class Print(Callback):
        ...     every = 2
        ...
        ...     def on_iterations(self, run):
        ...         print(run.iteration, "of", run.total)
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), batch_size=2)
        >>> _ = trainer.fit(np.eye(2), [0, 1], iterations=4, callbacks=[Print()], progress=False)
        2 of 4
        4 of 4
    """

    every: int | None = None

    def on_start(self, run: Run) -> None:
        """Before the first iteration; after a checkpoint was read, where the run goes on from one."""

    def on_iterations(self, run: Run) -> None:
        """After iterations every, 2 * every, ..."""

    def on_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """After an evaluation, which is the last of run.history.evaluations."""

    def on_progress(self, run: Run) -> None:
        """About ten times a second."""

    def on_end(self, run: Run) -> None:
        """At the end, however it came: also after Ctrl-C and errors. The last callback comes first."""

    def state(self) -> dict[str, Array]:
        """What a checkpoint is to keep of this callback: arrays by name."""
        return {}

    def restore(self, state: dict[str, Array]) -> None:
        """Restore what `state` returned, where a run is resumed from a checkpoint; called before on_start."""


def checked_callbacks(callbacks: Any) -> list[Callback]:
    """Raises TypeError for anything but a sequence of callbacks."""
    for callback in callbacks if isinstance(callbacks, Iterable) else [callbacks]:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be instances of fastbp.training.Callback, got {type(callback).__name__}")
    return list(callbacks)


class EarlyStopping(Callback):
    """Stops where a measure has not improved for some evaluations.

    Args:
        patience: for how many evaluations, at least 1.
        monitor: a number of Evaluation, such as "train_loss"; accuracies are to rise, losses to fall. None for the test
            accuracy, or the test loss.
        min_delta: how much is an improvement, 0 or more.
        restore_best: end with the parameters of the best evaluation.

    Attributes:
        best: the best value so far, or None.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range, and as the run begins for a measure that it does not have.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.training import EarlyStopping
        >>> stopping = EarlyStopping(patience=2, monitor="train_accuracy")
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), batch_size=2)
        >>> history = trainer.fit(
        ...     np.eye(2), [0, 1], iterations=100, evaluate_every=1, callbacks=[stopping], progress=False
        ... )
        >>> history.stopped
        'train_accuracy has not improved on 1.0000 for 2 evaluations'
    """

    MEASURES = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")

    def __init__(
        self, patience: int = 5, monitor: str | None = None, min_delta: float = 0.0, restore_best: bool = True
    ):
        self.patience = checks.whole_number("patience", patience, at_least=1)
        self.monitor = None if monitor is None else checks.one_of("monitor", monitor, self.MEASURES)
        self.min_delta = checks.not_negative("min_delta", min_delta)
        self.restore_best = restore_best
        self.best: float | None = None
        self._best_parameters: Array | None = None
        self._best_statistics = np.empty(0)
        self._waited = 0

    def on_start(self, run: Run) -> None:
        if not run.iteration:
            self.best, self._best_parameters, self._waited = None, None, 0
        self._measure = self.monitor or ("test_accuracy" if run.network.classifies else "test_loss")
        if self._measure not in run.measured:
            raise ValueError(
                f"EarlyStopping watches {self._measure}, which this run does not measure: it needs evaluate_every"
                + (", and validation=(x, t)" if self._measure.startswith("test") else "")
            )

    def on_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        value = getattr(evaluation, self._measure)
        sign = 1 if self._measure.endswith("accuracy") else -1
        if self.best is None or sign * (value - self.best) > self.min_delta:
            self.best, self._waited, self._best_parameters = value, 0, run.network.parameters.copy()
            self._best_statistics = run.network.statistics.copy()
            return
        self._waited += 1
        if self._waited >= self.patience:
            run.stop(f"{self._measure} has not improved on {self.best:.4f} for {self.patience} evaluations")

    def on_end(self, run: Run) -> None:
        if self.restore_best and self._best_parameters is not None:
            run.network.parameters[...] = self._best_parameters
            run.network.statistics[...] = self._best_statistics

    def state(self) -> dict[str, Array]:
        if self.best is None or self._best_parameters is None:
            return {}
        best = np.array([self.best, self._waited])
        return {"best": best, "parameters": self._best_parameters, "statistics": self._best_statistics}

    def restore(self, state: dict[str, Array]) -> None:
        if state:
            self.best, self._waited = float(state["best"][0]), int(state["best"][1])
            self._best_parameters, self._best_statistics = state["parameters"].copy(), state["statistics"].copy()


class LearningRate(Callback):
    """Sets the learning rate to its first value times factor(iteration), anew after every so many iterations.

    At the end, the optimizer has its own learning rate again.

    Args:
        factor: such as cosine_decay(10_000), step_decay(3000, 0.1) or inverse_scaling(0.5), or any function of the
            iteration, a whole number, that gives a number of 0 or more.
        every: in iterations, at least 1.

    Raises:
        TypeError: where factor is not callable.
        ValueError: for every below 1, and during the run for a rate below 0.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.training import LearningRate, step_decay
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), fastbp.SGD(0.1), batch_size=2)
        >>> decay = LearningRate(step_decay(100, 0.5))
        >>> _ = trainer.fit(np.eye(2), [0, 1], iterations=300, callbacks=[decay], progress=False)
        >>> trainer.optimizer.learning_rate
        0.1
    """

    def __init__(self, factor: Callable[[int], float], every: int = 100):
        if not callable(factor):
            raise TypeError(f"factor must be a function of the iteration, got {type(factor).__name__}")
        self.factor = factor
        self.every: int = checks.whole_number("every", every, at_least=1)

    def on_start(self, run: Run) -> None:
        self._first = run.optimizer.learning_rate
        self.on_iterations(run)

    def on_iterations(self, run: Run) -> None:
        done = run.iteration // self.every * self.every
        rate = self._first * self.factor(done)
        run.optimizer.learning_rate = checks.not_negative(f"the learning rate of iteration {done}", rate)

    def on_end(self, run: Run) -> None:
        run.optimizer.learning_rate = self._first


def cosine_decay(iterations: int, warmup: int = 0) -> Callable[[int], float]:
    """From 0 to 1 over `warmup` iterations, then down to 0 at `iterations` along a cosine (Loshchilov and Hutter 2017).

    Args:
        iterations: at least 1.
        warmup: in iterations, 0 or more.

    Returns:
        A function of the iteration, for LearningRate.

    Raises:
        TypeError: for arguments that are not whole numbers.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp.training import cosine_decay
        >>> factor = cosine_decay(100)
        >>> factor(0), round(factor(50), 6), factor(100)
        (1.0, 0.5, 0.0)
    """
    iterations = checks.whole_number("iterations", iterations, at_least=1)
    warmup = checks.whole_number("warmup", warmup, at_least=0)

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        done = min(1.0, (iteration - warmup) / max(1, iterations - warmup))
        return (1 + math.cos(math.pi * done)) / 2

    return factor


def step_decay(iterations: int, factor: float = 0.1) -> Callable[[int], float]:
    """The rate times `factor` after every `iterations` iterations.

    Args:
        iterations: at least 1.
        factor: above 0.

    Returns:
        A function of the iteration, for LearningRate.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range.

    Examples:
        >>> from fastbp.training import step_decay
        >>> factor = step_decay(3000, 0.5)
        >>> factor(0), factor(3000), factor(6000)
        (1.0, 0.5, 0.25)
    """
    iterations = checks.whole_number("iterations", iterations, at_least=1)
    factor = checks.positive("factor", factor)
    return lambda iteration: factor ** (iteration // iterations)


def inverse_scaling(power: float = 0.5) -> Callable[[int], float]:
    """1 / (iteration + 1) ** power.

    Args:
        power: 0 or more.

    Returns:
        A function of the iteration, for LearningRate.

    Raises:
        TypeError: for a power that is not a number.
        ValueError: for one below 0.

    Examples:
        >>> from fastbp.training import inverse_scaling
        >>> inverse_scaling(0.5)(3)
        0.5
    """
    power = checks.not_negative("power", power)
    return lambda iteration: 1 / (iteration + 1) ** power


class _Log(Callback):
    """A line for each evaluation: what it measured, the learning rate, the mean loss since the one before, the seconds.

    A file that is there is begun anew; where the run goes on from a checkpoint, its lines up to there stay.
    """

    COLUMNS: ClassVar = ("iteration", "loss", "learning_rate", *EarlyStopping.MEASURES, "seconds")

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._file: Any = None

    def on_start(self, run: Run) -> None:
        if run.rank:
            return
        lines = self._lines_before(run.iteration) if run.iteration and self.path.exists() else []
        self._file = open(self.path, "w", encoding="utf-8", newline="")  # noqa: SIM115 - closed in on_end
        self._begin()
        self._file.writelines(lines)
        self._last, self._start = run.iteration, time.perf_counter()

    def on_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        if run.rank:
            return
        row = {
            "iteration": evaluation.iteration,
            "loss": float(np.mean(run.losses[self._last :])) if run.iteration > self._last else None,
            "learning_rate": run.optimizer.learning_rate,
            **{measure: getattr(evaluation, measure) for measure in EarlyStopping.MEASURES},
            "seconds": round(time.perf_counter() - self._start, 3),
        }
        self._last = run.iteration
        self._file.write(self._line(row))
        self._file.flush()

    def on_end(self, run: Run) -> None:
        if self._file is not None:
            self._file.close()

    def _lines_before(self, iteration: int) -> list[str]:
        """The file's lines of evaluations before that iteration; what a kill left half-written is dropped."""
        return []

    def _begin(self) -> None:
        """What a file begins with."""

    def _line(self, row: dict[str, Any]) -> str:
        raise NotImplementedError


class CSVLog(_Log):
    """A CSV file with a line for each evaluation.

    It has what was measured, the learning rate, the mean loss since the line before, and the seconds. A file that is
    there is begun anew; where the run goes on from a checkpoint, its lines up to there stay.

    Args:
        path: the file.

    Raises:
        OSError: if the file cannot be written, when the run begins.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.training import CSVLog
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), batch_size=2)
        >>> _ = trainer.fit(np.eye(2), [0, 1], iterations=4, callbacks=[CSVLog("log.csv")], progress=False)
        >>> with open("log.csv") as file:
        ...     print(file.readline(), end="")
        iteration,loss,learning_rate,test_accuracy,test_loss,train_accuracy,train_loss,seconds
    """

    def _begin(self) -> None:
        self._file.write(",".join(self.COLUMNS) + "\n")

    def _line(self, row: dict[str, Any]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row[column] for column in self.COLUMNS])
        return line.getvalue()

    def _lines_before(self, iteration: int) -> list[str]:
        with open(self.path, encoding="utf-8", newline="") as file:
            lines = [line for line in file if line.endswith("\n")][1:]
        return [line for line in lines if line.split(",", 1)[0].isdecimal() and int(line.split(",", 1)[0]) < iteration]


class JSONLinesLog(_Log):
    """A file with a line of JSON for each evaluation.

    It has what was measured, the learning rate, the mean loss since the line before, and the seconds. A file that is
    there is begun anew; where the run goes on from a checkpoint, its lines up to there stay.

    Args:
        path: the file.

    Raises:
        OSError: if the file cannot be written, when the run begins.

    Examples:
        >>> import json
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.training import JSONLinesLog
        >>> trainer = fastbp.Trainer(fastbp.MLP((2, 2), seed=0), batch_size=2)
        >>> _ = trainer.fit(np.eye(2), [0, 1], iterations=4, callbacks=[JSONLinesLog("log.jsonl")], progress=False)
        >>> with open("log.jsonl") as file:
        ...     json.loads(file.readline())["learning_rate"]
        0.1
    """

    def _line(self, row: dict[str, Any]) -> str:
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
        }
        return json.dumps(finite) + "\n"

    def _lines_before(self, iteration: int) -> list[str]:
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["iteration"] < iteration:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
        return kept


class LivePlot(Callback):
    """In a notebook: a plot of the losses and the evaluations so far, redrawn at each evaluation.

    Raises:
        ModuleNotFoundError: as the run begins, without matplotlib (extra `cli`) or IPython.

    Examples:
        >>> from fastbp.training import LivePlot
        >>> callbacks = [LivePlot()]  # trainer.fit(..., callbacks=callbacks)
    """

    def on_start(self, run: Run) -> None:
        if run.rank:
            return
        from IPython.display import display
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(8, 3), layout="constrained")
        self._axes = self._figure.subplots(1, 2)
        self._display = display(self._figure, display_id=True)

    def on_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        if run.rank:
            return
        left, right = self._axes
        left.clear()
        left.set(title=f"loss, {run.iteration} of {run.total} iterations", xlabel="iteration", yscale="log")
        every = max(1, len(run.losses) // 2000)
        left.plot(range(0, len(run.losses), every), run.losses[::every], linewidth=0.7)
        right.clear()
        right.set(title="evaluations", xlabel="iteration")
        found = run.history.evaluations
        for measure in EarlyStopping.MEASURES:
            if getattr(evaluation, measure) is not None:
                right.plot(
                    [one.iteration for one in found], [getattr(one, measure) for one in found], ".-", label=measure
                )
        right.legend()
        if self._display is not None:
            self._display.update(self._figure)


LONG = 2.0  # seconds, of a run that is worth lines beside the bar


class ProgressBar(Callback):
    """A bar on standard error, where the extra `cli` is installed and somebody watches.

    Of runs that take a while, each evaluation stays above it as a line of its own.
    """

    def __init__(self, description: str, shown: bool = True):
        self.description, self.shown = description, shown

    def on_start(self, run: Run) -> None:
        self._ends, self._started = ExitStack(), time.perf_counter()
        bar = progress_bar(self.description, run.total, shown=self.shown and not run.rank)
        self._advance = self._ends.enter_context(bar)
        if run.network.backend == "numba":
            compiling = "compiling kernels, which happens once"
            self._ends.enter_context(compiled_functions(lambda _: self._advance(run.iteration, compiling)))

    def on_progress(self, run: Run) -> None:
        self._advance(run.iteration, run.status())

    def on_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        if time.perf_counter() - self._started > LONG:
            self._advance.note(f"iteration {evaluation.iteration}: {run.status(brief=False)}")

    def on_end(self, run: Run) -> None:
        self._ends.close()
