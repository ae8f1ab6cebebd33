"""Several processes training one network together: synchronous data-parallel training over MPI.

Each process has its own share of the rows, and the whole network. All draw the same batches; of each batch, a process takes
the rows that are its own. One all-reduce a step adds up the gradients, and with them the loss and who was interrupted; then
all make the same update. So all processes have the same parameters at all times, and as many of them as there may be
compute what one would have computed with all of the rows, but for the order of the sums.

The communicator is mpi4py's (extra `mpi`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .._checks import Array
from .._interrupts import Interrupts, noted_interrupts
from ..backends import divide_processors

if TYPE_CHECKING:
    from ._run import Run

LOSS, WEIGHT, INTERRUPTED, EXTRA = range(4)  # what follows the gradient in the all-reduced vector
SECONDS_TO_READ = 0.5  # mpiexec drops what it has not read of a process's stderr when that process aborts

T = TypeVar("T")


class SeveralProcesses:
    """Training that the processes of a communicator share; see _executors.Executor."""

    def __init__(self, communicator: Any):
        self.communicator, self.rank = communicator, communicator.Get_rank()
        self.samples = self.first_row = self.all_samples = 0
        self.interrupts = Interrupts()

    def share_rows(self, samples: int) -> int:
        counts = self.communicator.allgather(samples)
        self.samples, self.first_row, self.all_samples = samples, sum(counts[: self.rank]), sum(counts)
        return self.all_samples

    def raise_on_all_ranks(self, work: Callable[[], T]) -> T:
        error: Exception | None = None
        try:
            result = work()
        except Exception as caught:
            error = caught
        messages = self.communicator.allgather(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, message in enumerate(messages):
            if message is not None:
                raise ValueError(f"process {rank} failed: {message}")
        return result

    def from_first(self, work: Callable[[], T]) -> T:
        result: Any = None
        if self.rank == 0:
            try:
                result = work(), None
            except Exception as caught:
                result = None, caught
        value, error = self.communicator.bcast(result, root=0)
        if error is not None:
            raise error
        return value

    def of_all(self, number: Any) -> Any:
        return self.communicator.allgather(number)

    @contextmanager
    def running(self, *arrays: Array) -> Iterator[None]:
        share_processors(self.communicator)
        for array in arrays:
            self.communicator.Bcast(array, root=0)
        with self._guarded():
            yield

    def train(self, run: Run, batches: Array, losses: Array) -> None:
        """As OneProcess; after a step in which a process was interrupted, all raise KeyboardInterrupt."""
        parameters, kernels = run.network.parameters, run.network._kernels
        buffer = np.empty(len(parameters) + EXTRA, parameters.dtype)
        gradient, rest = buffer[:-EXTRA], buffer[-EXTRA:]
        rule = run.optimizer.rule
        for step, batch in enumerate(batches):
            self._own_gradient(run, batch, gradient, rest, rule.steps + step)
            rest[INTERRUPTED] = self.interrupts.pending
            self._all_reduce(buffer)
            divisor = (float(rest[WEIGHT]) or 1.0) if run.network.reduction == "mean" else 1.0
            gradient /= parameters.dtype.type(divisor)
            losses[step] = float(rest[LOSS]) / divisor
            if run.terms is not None and run.terms.l2:
                losses[step] += run.network.add_decay(gradient, run.terms.l2)
            kernels.optimizer_update(rule._replace(steps=rule.steps + step), parameters, gradient, run.state)
            self._average(run.network.statistics)
            run.done[0] += 1
            if rest[INTERRUPTED]:
                self.interrupts.pending = False
                raise KeyboardInterrupt

    def _own_gradient(self, run: Run, batch: Array, gradient: Array, rest: Array, step: int) -> None:
        """Sums over the rows of the batch that are this process's own."""
        own = batch[(batch >= self.first_row) & (batch < self.first_row + self.samples)] - self.first_row
        if not len(own):
            gradient[:], rest[LOSS], rest[WEIGHT] = 0, 0, 0
            return
        terms = run.terms
        rest[LOSS] = run.network._engine.batch_gradient(run.train.x, run.train.t, own, gradient, terms, step)
        rest[WEIGHT] = len(own) if terms is None or terms.weights is None else terms.weights[own].sum()

    def _all_reduce(self, buffer: Array) -> None:
        from mpi4py import MPI

        self.communicator.Allreduce(MPI.IN_PLACE, buffer, op=MPI.SUM)

    def _average(self, statistics: Array) -> None:
        """Each process normalises its own rows of a batch; the running statistics become the mean of all processes'."""
        if len(statistics):
            self._all_reduce(statistics)
            statistics /= statistics.dtype.type(self.communicator.Get_size())

    def total(self, number: float) -> float:
        return sum(self.communicator.allgather(number))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Within: Ctrl-C waits for the end of a step, and an error in one process ends all of them, with a message.

        A FloatingPointError comes to all alike, and is raised.
        """
        with noted_interrupts() as self.interrupts:
            try:
                yield
            except FloatingPointError:
                raise
            except Exception:
                if self.communicator.Get_size() == 1:
                    raise
                last = f"fastbp: process {self.rank} failed; all end. The last checkpoint stays.\n"
                sys.stderr.write(traceback.format_exc() + last)
                sys.stderr.flush()
                time.sleep(SECONDS_TO_READ)
                self.communicator.Abort(1)


def share_processors(communicator: Any) -> None:
    """Divide the processors among the processes of this machine."""
    from mpi4py import MPI

    local = communicator.Split_type(MPI.COMM_TYPE_SHARED)
    divide_processors(local.Get_size())
    local.Free()


def world() -> Any:
    """The communicator of all processes that mpiexec or srun started together with this one; None for one alone.

    Raises ValueError where there are several, and mpi4py is missing.
    """
    names = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
    processes = max(int(os.environ.get(name, "")) if os.environ.get(name, "").isdecimal() else 1 for name in names)
    if processes == 1:
        return None
    if importlib.util.find_spec("mpi4py") is None:
        raise ValueError(f"{processes} processes were started together; that needs mpi4py: pip install 'fastbp[mpi]'")
    from mpi4py import MPI

    return MPI.COMM_WORLD


def shard(arrays: tuple[Array, ...], communicator: Any) -> tuple[Array, ...]:
    """This process's rows of arrays that all processes have whole.

    Args:
        arrays: all of the same number of rows.
        communicator: of mpi4py, or anything with Get_rank and Get_size.

    Returns:
        As many rows as the other processes', give or take one, in the order of the processes; copies.

    Examples:
        >>> import numpy as np
        >>> from fastbp.training import shard
        >>> class SecondOfTwo:
        ...     def Get_rank(self):
        ...         return 1
        ...
        ...     def Get_size(self):
        ...         return 2
        >>> shard((np.arange(6), np.arange(6) * 10), SecondOfTwo())
        (array([3, 4, 5]), array([30, 40, 50]))
    """
    rank, processes = communicator.Get_rank(), communicator.Get_size()
    rows = len(arrays[0])
    return tuple(array[rows * rank // processes : rows * (rank + 1) // processes].copy() for array in arrays)


share_of = shard  # its name until version 0.1
