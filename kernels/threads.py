"""Several threads in one kernel call: plain threads that share the work and meet at barriers.

The threads are started for a call and end with it. Nothing stays behind that a fork could break, two calls from two
Python threads do not know of each other, and no threading layer is needed; Numba's own would cost 2 s of compiling for
each parallel function, and its `workqueue` layer ends the process when two threads enter it. A call in two
threads costs 0.1 to 0.5 ms to start, so this is for calls longer than that; a barrier then takes 0.2 us.

A kernel for threads takes (thread, threads, control, ...), raises nothing and allocates nothing: a thread that ended
early would leave the others waiting. `control` is a shared int64 array: [arrivals, gave up].
"""

from __future__ import annotations

import os
import sys
import threading

import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiler import kernel
from .simd import kept_apart

SPINS = 2000  # looks at the counter before the processor is offered to other threads
ARRIVALS, GAVE_UP = 0, 8  # a cache line apart

_chosen: int | None = None


def available_threads() -> int:
    """How many threads kernels may use: what set_num_threads set, or NUMBA_NUM_THREADS, or the processors we may use."""
    if _chosen is not None:
        return _chosen
    if chosen := os.environ.get("NUMBA_NUM_THREADS"):
        return max(1, int(chosen))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int | None) -> None:
    """Use `count` threads at the most; None: as many as there are processors."""
    global _chosen
    _chosen = count


def run(function, threads, *arguments):
    """Call function(thread, threads, control, *arguments) in `threads` threads at once, one of them this one."""
    control = np.zeros(16, np.int64)
    if threads > 1:
        _compile_first(function, (0, threads, control, *arguments))
    helpers = [
        threading.Thread(target=function, args=(number, threads, control, *arguments), daemon=True)
        for number in range(1, threads)
    ]
    try:
        for helper in helpers:
            helper.start()
        function(0, threads, control, *arguments)
    finally:
        control[GAVE_UP] = 1  # Ctrl-C before our own call: those who wait for us give up. Else all are through.
        for helper in helpers:
            if helper.ident is not None:
                helper.join()


def _compile_first(function, arguments):
    """Compile in this thread alone: Ctrl-C then ends it, and no helper goes on with it."""
    signature = tuple(map(numba.typeof, arguments))
    if signature not in function.overloads:
        function.compile(signature)


@kernel(part=True)
def meet(control, arrival, threads):
    """Wait until all threads are here, for the `arrival`-th time; False: they will not come, return at once."""
    kept_apart()
    if threads == 1:
        return True
    atomic_increment(control, ARRIVALS)
    target, spins = arrival * threads, 0
    while atomic_load(control, ARRIVALS) < target:
        if atomic_load(control, GAVE_UP) != 0:
            return False
        spins += 1
        if spins > SPINS:
            yield_processor()
    return True


@kernel(part=True)
def share(count, thread, threads):
    """This thread's part of range(count): first, end."""
    return count * thread // threads, count * (thread + 1) // threads


def _pointer(context, builder, signature, arguments):
    return builder.gep(context.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])


@intrinsic
def atomic_increment(typing_context, array, index):
    def codegen(context, builder, signature, arguments):
        builder.atomic_rmw("add", _pointer(context, builder, signature, arguments), ir.IntType(64)(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def atomic_load(typing_context, array, index):
    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(context, builder, signature, arguments), "seq_cst", 8)

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
