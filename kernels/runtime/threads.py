"""Several threads in one kernel call: a pool of plain threads, which share the chunks of the work (chunks.py).

Each Python thread has workers of its own, so two that call kernels at once do not know of each other; a forked child
begins with none. No threading layer is needed: Numba's own would cost 2 s of compiling for each parallel function, and
its `workqueue` layer ends the process when two threads enter it.

Starting a thread costs 0.3 ms, waking one 0.1 ms. So a worker stays, and after a call spins for the next one for
another 1 to 3 ms before it sleeps: as long as what a script does between two calls. A phase takes 0.2 us.

Measured and rejected: waking a worker for each call by a lock alone (a product of 175 us took 180 to 210 in two threads), or
by a queue (twice the lock's time); waiting 15 times as long before the processor is offered to other threads; calling no
workers for a while after a call was held up.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback

import numba
import numpy as np

from .chunks import ALONE, BEGUN, CANCELLED, SPINS, atomic_load, new_controls, yield_processor
from .compiler import kernel

LOOKS = 1_000_000  # at the next call's `control`, 1 to 3 ms, before a worker sleeps


class _Worker:
    """A thread that spins for calls for a while, and then sleeps until there is one.

    It has `_given` while it sleeps or works; a call that waits for it there releases that. Its callers never wait for it.
    """

    def __init__(self):
        self._given, self._task, self.is_free = threading.Lock(), None, True
        self._given.acquire()
        threading.Thread(target=self._work, name="fastbp", daemon=True).start()

    def call(self, next_control, function, *arguments):
        self._task, self.is_free = (next_control, function, arguments), False
        self._given.release()

    def cancel(self):
        """The last call, if it has not begun: late, it must not keep arrays alive."""
        if self._given.acquire(blocking=False):
            self._task, self.is_free = None, True

    def end(self):
        """After the call that it has begun, if it has."""
        self.cancel()
        self._task = None
        with contextlib.suppress(RuntimeError):  # it is about to look for its task, and finds none
            self._given.release()

    def _work(self):
        self._given.acquire()
        while (task := self._task) is not None:
            next_control, function, arguments = task
            self._task = task = None
            try:
                function(*arguments)
            except BaseException:  # an index out of bounds, where those are checked: the others would wait for ever
                traceback.print_exc()
                os.abort()
            del function, arguments  # asleep, it must not keep arrays alive
            self.is_free = True
            spin_wait(next_control)
            self._given.acquire()


class _Workers(list):
    """The workers of one Python thread; they end with it."""

    def __del__(self):
        for worker in self:
            worker.end()


class _Pool(threading.local):
    """The workers of one Python thread, and the `control` of its calls.

    There are two, in turn: a worker looks at the next call's while it waits for it. One that is late, and still at an
    earlier call when the next begins, is left out of that, and keeps its `control` for itself.
    """

    def __init__(self):
        self.reset()

    def reset(self):
        self.workers, self.calls, self.controls = _Workers(), 0, new_controls(1)

    def next_call(self, workers):
        """The workers that are free, of so many, and the controls of this call and of the one after it."""
        while len(self.workers) < workers:
            _compile_first(spin_wait, (self.controls[0],))
            self.workers.append(_Worker())
            self.controls = new_controls(len(self.workers) + 1)
        free = [worker for worker in self.workers if worker.is_free]
        if len(free) < len(self.workers):
            self.controls = new_controls(len(self.workers) + 1)
        self.calls += 1
        now, after = self.controls[self.calls % 2], self.controls[1 - self.calls % 2]
        after[:] = 0
        return free[:workers], now, after


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)  # a child has no threads but the one that forked


_ALONE = 0, 1, ALONE


def run(function, threads, *arguments):
    """Call function(work, *arguments) in `threads` threads at once, one of them this one; work: see chunks.py."""
    if threads == 1:
        function(_ALONE, *arguments)
        return
    workers, control, next_control = _pool.next_call(threads - 1)
    _compile_first(function, ((0, threads, control), *arguments))
    try:
        for number, worker in enumerate(workers, 1):
            worker.call(next_control, function, (number, threads, control), *arguments)
        function((0, threads, control), *arguments)
        for worker in workers:
            worker.cancel()
    except BaseException:
        control[CANCELLED] = 1  # Ctrl-C before our own call: those who wait for it give up
        _pool.reset()
        raise


def compile_pool():
    """Compile what workers do between calls."""
    spin_wait(np.ones(BEGUN + 1, np.int64))


_compiled = set()


def _compile_first(function, arguments):
    """Compile in this thread alone: Ctrl-C then ends it, and no worker goes on with it."""
    signature = function, _kinds(arguments)
    if signature not in _compiled:
        function.compile(tuple(map(numba.typeof, arguments)))
        _compiled.add(signature)


def _kinds(arguments):
    """What distinguishes the types of kernels' arguments: arrays are flat, contiguous and writable, numbers of one type."""
    return tuple(map(_kind, arguments))


def _kind(argument):
    if type(argument) is np.ndarray:
        return argument.dtype.num
    return _kinds(argument) if isinstance(argument, tuple) else type(argument)


@kernel
def spin_wait(control):
    """Wait a while for a call to begin: it is heard of here sooner than by waking up, and not before its GIL is free."""
    looks = 0
    while atomic_load(control, BEGUN) == 0 and looks < LOOKS:
        looks += 1
        if looks % SPINS == 0:
            yield_processor()
