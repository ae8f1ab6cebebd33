"""Several threads in one kernel call: plain threads, which take parts of the work until none is left.

Each Python thread has helpers of its own, so two that call kernels at once do not know of each other; a forked child
begins with none. No threading layer is needed: Numba's own would cost 2 s of compiling for each parallel function, and
its `workqueue` layer ends the process when two threads enter it.

Starting a thread costs 0.3 ms, waking one 0.1 ms. So a helper stays, and after a call looks out for the next one for
another 1 to 3 ms before it sleeps: as long as what a script does between two calls. A stage takes 0.2 us. Tried and
lost: waking a helper for each call by a lock alone (a product of 175 us took 180 to 210 in two threads), or by a queue
(twice the lock's time).

A kernel for threads takes (thread, threads, control, ...), raises nothing and allocates nothing. Its work has one or more
stages of as many parts each, which do not depend on who does them: `take` gives them out, its own to each thread first,
and ends when all parts of the stage are done. So nobody waits for a thread that does not come: on a busy machine it may
not run for 20 ms, a hundred training steps. What it would have done others do, and it finds it done. With barriers for all
threads a step of 784-50-10 took 20 ms beside four busy processes on two cores; so it takes 0.6 to 1.2, and 0.9 in one thread
(bench/busy.py). Alone it is as fast or 5 % faster. Tried and lost: waiting 15 times as long before the processor is
offered to other threads; calling no helpers for a while after a call was held up.

`control` is a shared int64 array: parts done, gave up, begun, and for each part the last stage in which it was taken.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import traceback
from functools import lru_cache
from pathlib import Path

import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiler import kernel
from .simd import element_pointer, kept_apart

SPINS = 2000  # looks at the counter before the processor is offered to other threads
LOOKS = 1_000_000  # at the next call's `control`, 1 to 3 ms, before a helper sleeps
LINE = 8  # numbers of a cache line; what different threads write is so far apart
DONE, GAVE_UP, BEGUN, TAKEN = 0, LINE, 2 * LINE, 3 * LINE
PIECES = 16  # parts for each thread, at the most

_chosen: int | None = None


def available_threads() -> int:
    """How many threads kernels may use: what set_num_threads set, or NUMBA_NUM_THREADS, or the processors we may use."""
    if _chosen is not None:
        return _chosen
    if chosen := os.environ.get("NUMBA_NUM_THREADS"):
        if not chosen.strip().isdecimal() or int(chosen) < 1:
            raise ValueError(
                f"The environment variable NUMBA_NUM_THREADS must be a whole number above 0, got {chosen!r}"
            )
        return int(chosen)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, quota())


@lru_cache(maxsize=1)
def quota(groups="/sys/fs/cgroup", own="/proc/self/cgroup"):
    """How many processors' time a container may use, rounded up; where nothing limits it, a very large number.

    More threads than that would be stopped in the middle of their part, all others waiting for it.
    """
    limits = [1e9]
    try:
        with open(own) as file:
            paths = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return int(limits[0])
    for _, controllers, path in paths:
        kind = "" if not controllers else f"/{controllers}" if "cpu" in controllers.split(",") else None
        while kind is not None:
            limits += _limits(f"{groups}{kind}{path.rstrip('/')}")
            if not path.strip("/"):
                break
            path = os.path.dirname(path.rstrip("/"))
    return max(1, math.ceil(min(limits)))


def _limits(folder):
    """The quota over the period, of control groups of version 2 or 1, where the folder has one."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = " ".join(Path(folder, name).read_text() for name in files).split()
            if limit != "max" and int(limit) > 0:
                return [int(limit) / int(period)]
    return []


def set_threads(count: int | None) -> None:
    """Use `count` threads at the most; None: as many as there are processors."""
    global _chosen
    _chosen = count


def divide_processors(processes: int) -> None:
    """One of `processes` on this machine uses its part, unless set_threads, NUMBA_NUM_THREADS or a binding said so."""
    free = available_threads()
    if _chosen is None and not os.environ.get("NUMBA_NUM_THREADS") and free == os.cpu_count():
        set_threads(max(1, free // processes))


class _Helper:
    """A thread that looks out for calls for a while, and then sleeps until there is one.

    It has `_given` while it sleeps or works; a call that waits for it there releases that. Its callers never wait for it.
    """

    def __init__(self):
        self._given, self._task, self.is_free = threading.Lock(), None, True
        self._given.acquire()
        threading.Thread(target=self._work, name="fastbp", daemon=True).start()

    def call(self, next_control, function, *arguments):
        self._task, self.is_free = (next_control, function, arguments), False
        self._given.release()

    def take_back(self):
        """The last call, if it has not begun: late, it must not keep arrays alive."""
        if self._given.acquire(blocking=False):
            self._task, self.is_free = None, True

    def end(self):
        """After the call that it has begun, if it has."""
        self.take_back()
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
            look_out(next_control)
            self._given.acquire()


class _Helpers(list):
    """The helpers of one Python thread; they end with it."""

    def __del__(self):
        for helper in self:
            helper.end()


class _Team(threading.local):
    """The helpers of one Python thread, and the `control` of its calls.

    There are two, in turn: a helper looks at the next call's while it waits for it. One that is late, and still at an
    earlier call when the next begins, is left out of that, and keeps its `control` for itself.
    """

    def __init__(self):
        self.forget()

    def forget(self):
        self.helpers, self.calls, self.controls = _Helpers(), 0, new_controls(1)

    def next_call(self, helpers):
        """The helpers that are free, of so many, and the controls of this call and of the one after it."""
        while len(self.helpers) < helpers:
            _compile_first(look_out, (self.controls[0],))
            self.helpers.append(_Helper())
            self.controls = new_controls(len(self.helpers) + 1)
        free = [helper for helper in self.helpers if helper.is_free]
        if len(free) < len(self.helpers):
            self.controls = new_controls(len(self.helpers) + 1)
        self.calls += 1
        now, after = self.controls[self.calls % 2], self.controls[1 - self.calls % 2]
        after[:] = 0
        return free[:helpers], now, after


def new_controls(threads):
    return np.zeros((2, TAKEN + LINE * PIECES * threads), np.int64)


_team = _Team()
ALONE = np.zeros(TAKEN, np.int64)  # `control` where there is one thread: not looked at
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.forget)  # a child has no threads but the one that forked


def threads_for(work: int, least: int) -> int:
    """How many threads to use for so much work, where a second one pays from `least` on."""
    return available_threads() if work >= least else 1


def run(function, threads, *arguments):
    """Call function(thread, threads, control, *arguments) in `threads` threads at once, one of them this one."""
    if threads == 1:
        function(0, 1, ALONE, *arguments)
        return
    helpers, control, next_control = _team.next_call(threads - 1)
    _compile_first(function, (0, threads, control, *arguments))
    try:
        for number, helper in enumerate(helpers, 1):
            helper.call(next_control, function, number, threads, control, *arguments)
        function(0, threads, control, *arguments)
        for helper in helpers:
            helper.take_back()
    except BaseException:
        control[GAVE_UP] = 1  # Ctrl-C before our own call: those who wait for it give up
        _team.forget()
        raise


_compiled = set()


def _compile_first(function, arguments):
    """Compile in this thread alone: Ctrl-C then ends it, and no helper goes on with it."""
    # by the arrays alone: what else a function takes is always of the same types, and this is looked at in every call
    kinds = (function, *[argument.dtype.num for argument in arguments if type(argument) is np.ndarray])
    if kinds not in _compiled:
        function.compile(tuple(map(numba.typeof, arguments)))
        _compiled.add(kinds)


@kernel
def look_out(control):
    """Wait a while for a call to begin: it is heard of here sooner than by waking up, and not before its GIL is free."""
    looks = 0
    while atomic_load(control, BEGUN) == 0 and looks < LOOKS:
        looks += 1
        if looks % SPINS == 0:
            yield_processor()


@kernel(part=True)
def next_part(control, thread, threads, last):
    """`take` for work of one stage, with a part for each thread."""
    return take(control, 1, threads, thread, threads, last)


@kernel(part=True)
def take(control, stage, parts, thread, threads, last):
    """The next part of this stage that nobody has taken, from 0 to parts - 1; -1 once all are done, by whomever.

    last: the one that this thread had, at first -1; it is done now. Stages count from 1, and all have as many parts, at
    most `most_parts(threads)`.
    """
    kept_apart()
    if threads == 1:
        return last + 1 if last + 1 < parts else -1
    if last >= 0:
        atomic_increment(control, DONE)
    elif stage == 1 and not has_begun(control, thread):
        return -1
    first = last if last >= 0 else thread * parts // threads
    for i in range(parts):
        part = first + i if first + i < parts else first + i - parts
        if atomic_load(control, TAKEN + LINE * part) < stage and replaced(
            control, TAKEN + LINE * part, stage - 1, stage
        ):
            return part
    spins = 0
    while atomic_load(control, DONE) < stage * parts and atomic_load(control, GAVE_UP) == 0:
        spins += 1
        if spins > SPINS:
            yield_processor()
    return -1


@kernel(part=True)
def has_begun(control, thread):
    """Whether the first thread has come so far; the others wait for it, and until then Ctrl-C leaves everything undone."""
    if thread == 0:
        atomic_increment(control, BEGUN)
    spins = 0
    while atomic_load(control, BEGUN) == 0:
        if atomic_load(control, GAVE_UP) != 0:
            return False
        spins += 1
        if spins > SPINS:
            yield_processor()
    return True


@kernel(part=True)
def share(count, part, parts):
    """This part of range(count): first, end."""
    return count * part // parts, count * (part + 1) // parts


@kernel(part=True)
def most_parts(threads):
    """As many parts as make it a small loss that the threads do not end at once."""
    return PIECES * threads


@intrinsic
def atomic_increment(typing_context, array, index):
    """array[index] += 1, for all threads at once; what it was before."""

    def codegen(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "seq_cst")

    return types.int64(array, types.intp), codegen


@intrinsic
def replaced(typing_context, array, index, old, new):
    """array[index] = new where it is `old`, for all threads at once; whether it was."""

    def codegen(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, signature.args[0], *arguments[:2])
        return builder.extract_value(builder.cmpxchg(pointer, *arguments[2:], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typing_context, array, index):
    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(element_pointer(context, builder, signature.args[0], *arguments), "seq_cst", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def yield_processor(typing_context):
    """Let another thread run; on Windows, where the C library has no such function, go on spinning."""

    def codegen(context, builder, signature, arguments):
        if sys.platform != "win32":
            function_type = ir.FunctionType(ir.IntType(32), [])
            function = builder.module.globals.get("sched_yield")
            builder.call(function or ir.Function(builder.module, function_type, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen
