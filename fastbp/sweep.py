"""Trying hyper-parameters: many short trainings on MNIST, the results kept as they come, the best ones on top."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

from . import _checks as checks
from ._activations import ACTIVATIONS
from .datasets import load_mnist
from .networks._named import make_network
from .networks._network import Network
from .training._optimizers import OPTIMIZERS
from .training._trainer import Trainer

VALIDATION_SHARE = 6  # every sixth of the training images is kept for validation: 10,000 of MNIST's


@dataclass(frozen=True)
class Trial:
    """One training's settings. hidden: widths joined by "-", such as "100-50"; network: as in comparison.Recipe."""

    learning_rate: float
    hidden: str
    batch_size: int
    activation: str
    optimizer: str
    epochs: int
    seed: int
    network: str = "mlp"


@dataclass(frozen=True)
class Outcome:
    """A trial and how it went: the validation accuracy and the mean loss of each epoch."""

    trial: Trial
    accuracies: list[float]
    losses: list[float]

    @property
    def accuracy(self) -> float:
        return self.accuracies[-1]


@dataclass(frozen=True)
class Choices:
    """What may be chosen for a setting: some values, or a range from `low` to `high`, even in the logarithm if `log`."""

    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @classmethod
    def parse(cls, name: str, text: str, convert: Callable[[str], Any]) -> Choices:
        """ "1,2,5", "0.1:1" or "0.001:1:log". Raises ValueError, naming the setting, for anything else."""
        expected = f"{name} must be values such as 1,2,5 or a range such as 0.001:1:log, got {text!r}"
        parts = text.split(":")
        try:
            if len(parts) == 1:
                values = tuple(convert(part.strip()) for part in text.split(",") if part.strip())
                if not values:
                    raise ValueError(expected)
                return cls(values)
            low, high = float(parts[0]), float(parts[1])
        except ValueError as error:
            raise ValueError(expected) from error
        log = parts[2:] == ["log"]
        if len(parts) > 3 or (parts[2:] and not log) or not low < high or (log and low <= 0) or not math.isfinite(high):
            raise ValueError(expected)
        return cls((), low, high, log)

    def draw(self, rng: np.random.Generator) -> Any:
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.log:
            return float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.3g}")
        return float(f"{rng.uniform(self.low, self.high):.3g}")


def hidden_widths(text: str) -> str:
    """ "100-50" as it is, if it is widths joined by "-". Raises ValueError."""
    if not all(part.isdigit() and int(part) > 0 for part in text.split("-")):
        raise ValueError(f"hidden must be widths such as 50 or 100-50, got {text!r}")
    return text


def plan(
    learning_rate: Choices,
    hidden: Choices,
    batch_size: Choices,
    activation: Choices,
    optimizer: Choices,
    *,
    trials: int,
    grid: bool,
    epochs: int,
    seed: int,
    network: str = "mlp",
) -> list[Trial]:
    """The trials: drawn at random, the same for the same seed, or with grid=True every combination, `trials` at the most.

    Raises ValueError for names that do not exist, and for a range in a grid.
    """
    for name, choices, known in (("activation", activation, ACTIVATIONS), ("optimizer", optimizer, OPTIMIZERS)):
        for value in choices.values:
            checks.one_of(name, value, known)
    settings = (learning_rate, hidden, batch_size, activation, optimizer)
    if grid:
        if not all(choices.values for choices in settings):
            raise ValueError(
                "a grid needs values, such as 0.01,0.1,1, for every setting; a range can be drawn from only"
            )
        found: Iterator[tuple[Any, ...]] = itertools.product(*(choices.values for choices in settings))
        drawn = list(itertools.islice(found, trials))
    else:
        rng = np.random.default_rng(seed)
        drawn = [tuple(choices.draw(rng) for choices in settings) for _ in range(trials)]
    planned = [_trial(values, epochs, seed, network) for values in drawn]
    if network != "mlp":  # which takes whatever got so far
        for trial in planned:
            _network(trial, 784, "numpy")
    return planned


def _trial(values: tuple[Any, ...], epochs: int, seed: int, network: str) -> Trial:
    learning_rate, hidden, batch_size, activation, optimizer = values
    return Trial(learning_rate, hidden, int(batch_size), activation, optimizer, epochs, seed, network)


def _network(trial: Trial, features: int, backend: str | None = None) -> Network:
    std, widths = ACTIVATIONS[trial.activation].init, [*map(int, trial.hidden.split("-"))]
    return make_network(trial.network, features, widths, trial.activation, std, backend=backend, seed=trial.seed)


def read_outcomes(path: Path) -> list[Outcome]:
    """What an earlier sweep left; a last line that was cut off is left out. Raises ValueError for another kind of file."""
    if not path.exists():
        return []
    lines, outcomes = path.read_text(encoding="utf-8").splitlines(keepends=True), []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            outcomes.append(Outcome(Trial(**content["trial"]), content["accuracies"], content["losses"]))
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(f"{path}, line {number}, is not the outcome of a trial") from error
    return outcomes


def append_outcome(path: Path, outcome: Outcome) -> None:
    """One line more, behind the last whole one."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(whole)
        file.seek(whole)
        file.write((json.dumps(asdict(outcome)) + "\n").encode())


def run_trials(
    trials: Sequence[Trial], path: Path, jobs: int, data_dir: str | None, advance: Callable[[Outcome], None]
) -> list[Outcome]:
    """Carry out the trials that `path` does not hold yet, in `jobs` processes; each is appended to `path` as it ends.

    Returns the outcomes of all trials. Ctrl-C ends it with KeyboardInterrupt; what was appended stays.
    """
    known = {outcome.trial: outcome for outcome in read_outcomes(path)}
    for trial in trials:
        if trial in known:
            advance(known[trial])
    waiting = [trial for trial in dict.fromkeys(trials) if trial not in known]
    with closing(_carried_out(waiting, jobs, data_dir)) as outcomes:
        for outcome in outcomes:
            append_outcome(path, outcome)
            known[outcome.trial] = outcome
            advance(outcome)
    return [known[trial] for trial in dict.fromkeys(trials)]


def _carried_out(trials: list[Trial], jobs: int, data_dir: str | None) -> Generator[Outcome, None, None]:
    if jobs == 1 or len(trials) < 2:
        _load(data_dir, threads=None)
        yield from map(_train, trials)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(trials)), multiprocessing.get_context("spawn"), _load, (data_dir, 1))
    started: set[Any] = set()
    try:
        with _interrupts_blocked():  # in the processes that begin here, too: this one ends them
            pending: set[Future[Outcome]] = {pool.submit(_train, trial) for trial in trials}
            started = set(multiprocessing.active_children()) - others
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BaseException:
        for process in started:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C waits for the end, and processes that begin within never see it (on Windows, from `_load` on)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # a process of multiprocessing's; where that begins, Ctrl-C is let through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_data: dict[str, Any] = {}


def _load(data_dir: str | None, threads: int | None) -> None:
    """In each process: the images, and one thread for each of several processes."""
    if threads is not None:
        from .backends import set_num_threads

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_num_threads(threads)
    (x, t), _ = load_mnist(normalize=False, data_dir=data_dir)
    kept = np.arange(len(x)) % VALIDATION_SHARE == 0
    _data.update(train=(x[~kept], t[~kept]), validation=(x[kept], t[kept]))


def _train(trial: Trial) -> Outcome:
    (x, t), validation = _data["train"], _data["validation"]
    network = _network(trial, x.shape[1])
    x, held_out = (images.reshape(-1, *network.input_shape) for images in (x, validation[0]))
    trainer = Trainer(network, OPTIMIZERS[trial.optimizer](trial.learning_rate), trial.batch_size, trial.seed)
    per_epoch = max(1, len(x) // trial.batch_size)
    accuracies, losses = [], []
    for _ in range(trial.epochs):
        history = trainer.fit(
            x, t, iterations=per_epoch, evaluate_every=None, divide_by=255, on_nonfinite="ignore", progress=False
        )
        loss = float(np.mean(history.losses))
        losses.append(loss if math.isfinite(loss) else None)
        accuracies.append(network.accuracy(held_out.astype(np.float32) / np.float32(255), validation[1]))
    return Outcome(trial, accuracies, losses)  # type: ignore[arg-type]
