"""Several threads in one kernel call: a pool of plain threads, which share the chunks of the work (chunks.py).

Each Python thread has workers of its own, so two that call kernels at once do not know of each other; a forked child
begins with none. No threading layer is needed: Numba's own would cost 2 s of compiling for each parallel function, and
its `workqueue` layer ends the process when two threads enter it.

A call is published in memory (mailbox.py), and a worker takes it and runs it without leaving compiled code: Python's
lock, for which it would wait while the caller holds it, is not needed. After a call a worker spins for the next one for
another 1 to 3 ms before it sleeps: as long as what a script does between two calls. Starting a thread costs 0.3 ms,
waking one 0.1 ms, a phase 0.2 us.

Measured and rejected: workers that went back to Python for each call: one that had to wait for Python's lock was not
there for the next call (of 300 calls in a row of `affine_forward`, 100x4320 by 4320x100, float64, a quarter took 2.5 ms
instead of 1.3). Waking a worker for each call by a lock alone (a product of 175 us took 180 to 210 in two threads), or
by a queue (twice the lock's time); waiting 15 times as long before the processor is offered to other threads; calling no
workers for a while after a call was held up.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial

import numpy as np

from .chunks import CANCELLED, control_of
from .compiler import device, kernel
from .mailbox import (
    ASLEEP,
    ENDED,
    FAILED,
    FREE,
    INSIDE,
    LINE,
    SHOULD_END,
    SLEEPS,
    STATE,
    call_outlined,
    close_call,
    open_call,
    publish,
    serve,
    withdraw,
)

ALONE = 1, control_of(1), np.zeros(0, np.int64)  # a call of one thread: `control` and the mailboxes are not looked at


def parallel_kernel(function=None, *, exact=False):
    """A kernel for several threads, to be called by `run`: its first argument is `work`, see chunks.py.

    The function itself becomes a device function; what is called from Python publishes the call for the workers, if
    there are to be any, and makes the first thread's part of it. It returns how many workers have not left it yet.
    """
    if function is None:
        return partial(parallel_kernel, exact=exact)
    body = device(function, exact=exact)

    def launch(call, *arguments):
        threads, control, mailboxes = call
        if threads == 1:
            call_outlined(body, (0, threads, control), arguments)
            return 0
        open_call(mailboxes, control, threads, publish(body, control, arguments))
        call_outlined(body, (0, threads, control), arguments)
        return close_call(mailboxes, threads)

    return kernel(launch, exact=exact, stands_for=function)


class _Worker:
    """A thread that serves one mailbox: spins for calls, and sleeps where none comes."""

    def __init__(self, mailboxes, number, held):
        self._mailboxes, self._line, self._awake = mailboxes, number * LINE, threading.Lock()
        self._awake.acquire()
        arguments = mailboxes, self._line, self._awake, held
        threading.Thread(target=_work, args=arguments, name="fastbp", daemon=True).start()

    @property
    def state(self):
        return self._mailboxes[self._line + STATE]

    def wake(self):
        if self.state == ASLEEP:
            self._mailboxes[self._line + STATE] = FREE
            self._awake.release()

    def end(self):
        """After the call that it has begun, if it has."""
        self._mailboxes[self._line + SHOULD_END] = 1
        if self.state == ASLEEP:
            self._awake.release()


def _work(mailboxes, line, awake, held):
    """`held` is what the pool keeps for workers that are late: here it outlives the pool."""
    while (reason := serve(mailboxes, line)) != ENDED:
        if reason == FAILED:  # an index out of bounds, where those are checked: the others would wait for ever
            print("fastbp: IndexError: index is out of bounds, in a thread of a kernel", file=sys.stderr, flush=True)
            os.abort()
        if reason == SLEEPS:
            awake.acquire()


class _Workers(list):
    """The workers of one Python thread; they end with it."""

    def __del__(self):
        for worker in self:
            worker.end()


class _Pool(threading.local):
    """The workers of one Python thread, their mailboxes, and the `control` of its calls.

    A worker that has not left a call when the next one begins keeps that call's `control` and arguments, and is left out.
    """

    def __init__(self):
        self.reset()

    def reset(self, workers=0):
        """Begin anew, with so many workers."""
        if workers:
            compile_pool()  # in this thread alone: Ctrl-C then ends it
        self.mailboxes = np.zeros(LINE * workers, np.int64)
        self.control, self.held = control_of(workers + 1), []
        self.workers = _Workers(_Worker(self.mailboxes, number, self.held) for number in range(workers))

    def call(self, threads):
        """The next call of so many threads, as `parallel_kernel` takes it."""
        if len(self.workers) < threads - 1:
            self.reset(threads - 1)
        if self.held and not any(worker.state == INSIDE for worker in self.workers):
            self.held.clear()
        for worker in self.workers:
            worker.wake()
        return threads, self.control, self.mailboxes

    def hold(self, arguments):
        """Somebody has not left the call that was made just now."""
        self.held.append((self.control, arguments))
        self.control = control_of(len(self.workers) + 1)

    def cancel(self):
        """The call that was made just now: who waits in it gives up, and nobody begins it."""
        self.control[CANCELLED] = 1
        while withdraw(self.mailboxes, len(self.workers) + 1):
            time.sleep(0.001)
        self.reset()


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)  # a child has no threads but the one that forked


def run(function, threads, *arguments, kept=None):
    """Call function(work, *arguments), a `parallel_kernel`, in `threads` threads at once, one of them this one.

    kept: arrays of which there are only addresses among the arguments (see tables.py); a worker may come late and read them.
    """
    if threads == 1:
        function(ALONE, *arguments)
        return
    call = _pool.call(threads)
    try:
        if function(call, *arguments):
            _pool.hold((arguments, kept))
    except BaseException:
        _pool.cancel()
        raise


def compile_pool():
    """Compile what workers do between calls, by serving a mailbox that says to leave."""
    mailbox = np.zeros(LINE, np.int64)  # its state is FREE: there is no call to enter
    mailbox[SHOULD_END] = 1
    serve(mailbox, 0)
