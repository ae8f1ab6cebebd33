"""Who carries out a training run: this process, or several together (_distributed.py). One interface for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._checks import Array

if TYPE_CHECKING:
    from ._run import Run

T = TypeVar("T")


class Executor(Protocol):
    """rank: 0, but for other processes of one training. first_row: of this process's rows among all of them."""

    rank: int
    first_row: int

    def raise_on_all_ranks(self, work: Callable[[], T]) -> T:
        """work() in every process; where it raises in one, all raise, instead of waiting for that one forever."""

    def from_first(self, work: Callable[[], T]) -> T:
        """What work() gives in the first process, in all; its error, in all."""

    def of_all(self, number: Any) -> Any:
        """This number, or those of all processes."""

    def total(self, number: float) -> float:
        """The sum of this number over all processes."""

    def share_rows(self, samples: int) -> int:
        """Say that this process has so many rows of the data: how many there are in all."""

    def running(self, *arrays: Array) -> Any:
        """A context manager around a run, which begins with these arrays of the first process in all."""

    def train(self, run: Run, batches: Array, losses: Array) -> None:
        """Updates for batches (steps, batch size), row numbers; run.done is increased by those that were made."""


class OneProcess:
    """Training here, by the network's engine."""

    rank, first_row = 0, 0

    def raise_on_all_ranks(self, work: Callable[[], T]) -> T:
        return work()

    def from_first(self, work: Callable[[], T]) -> T:
        return work()

    def of_all(self, number: Any) -> Any:
        return number

    def total(self, number: float) -> float:
        return number

    def share_rows(self, samples: int) -> int:
        return samples

    @contextmanager
    def running(self, *arrays: Array) -> Iterator[None]:
        yield

    def train(self, run: Run, batches: Array, losses: Array) -> None:
        record = losses, run.done
        data = run.train.x, run.train.t
        run.network._engine.train_steps(data, batches, run.optimizer.rule, run.state, record, run.terms)
