"""How the threads of one call share its work: in chunks, each claimed by whoever comes first.

A kernel for threads takes `work` = (thread, threads, control) as its first argument, raises nothing and allocates nothing.
Its work has one or more phases of as many chunks each; what a chunk is does not depend on who does it, so neither do the
numbers. Each thread claims its own chunk first and then what is left, and a phase ends when all of its chunks are done:

    for first, end in chunks(work, 1, count):           # phase 1: one chunk for each thread
        ...
    for chunk in claimed(work, 2, chunk_count):         # phase 2, where the number of the chunk is wanted
        first, end = chunk_bounds(count, chunk, chunk_count)

So nobody waits for a thread that does not come: on a busy machine it may not run for 20 ms, a hundred training steps. With
barriers for all threads a step of 784-50-10 took 20 ms beside four busy processes on two cores; so it takes 0.6 to 1.2,
and 0.9 in one thread (bench/busy.py). Alone it is as fast or 5 % faster.

`control` is a shared int64 array: the call's arguments (mailbox.py), chunks done, cancelled, and for each chunk the last
phase in which it was claimed.
"""

from __future__ import annotations

import sys

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiler import device
from .simd import element_pointer, noinline

SPINS = 2000  # looks at the counter before the processor is offered to other threads
LINE = 8  # numbers of a cache line; what different threads write is so far apart
ARGUMENTS_SIZE = 1024
DONE, CANCELLED, CLAIMED = ARGUMENTS_SIZE, ARGUMENTS_SIZE + LINE, ARGUMENTS_SIZE + 2 * LINE
CHUNKS_PER_THREAD = 16  # at the most


def control_of(threads):
    """A new one, for calls of at most so many threads."""
    return np.zeros(CLAIMED + (LINE * CHUNKS_PER_THREAD * threads if threads > 1 else 0), np.int64)


@device
def reset_control(control):
    """For the next call."""
    for i in range(ARGUMENTS_SIZE, len(control)):
        control[i] = 0


@device
def chunks(work, phase, count):
    """The bounds in range(count) of the chunks that this thread claims in a phase, of as many as there are threads."""
    threads = work[1]
    chunk = claim_chunk(work, phase, threads, -1)
    while chunk >= 0:
        yield count * chunk // threads, count * (chunk + 1) // threads
        chunk = claim_chunk(work, phase, threads, chunk)


@device
def claimed(work, phase, chunk_count):
    """The numbers of the chunks that this thread claims in a phase, of `chunk_count`, at most `most_chunks(threads)`."""
    chunk = claim_chunk(work, phase, chunk_count, -1)
    while chunk >= 0:
        yield chunk
        chunk = claim_chunk(work, phase, chunk_count, chunk)


@device
def claim_chunk(work, phase, chunk_count, last):
    """A chunk of this phase that nobody has claimed, from 0 to chunk_count - 1; -1 once all are done, by whomever.

    last: the one that this thread had, at first -1; it is done now. Phases count from 1, and all have as many chunks.
    """
    noinline()
    thread, threads, control = work
    if threads == 1:
        return last + 1 if last + 1 < chunk_count else -1
    if last >= 0:
        atomic_increment(control, DONE)
    first = last if last >= 0 else thread * chunk_count // threads
    for i in range(chunk_count):
        chunk = first + i if first + i < chunk_count else first + i - chunk_count
        if atomic_load(control, CLAIMED + LINE * chunk) < phase and compare_exchange(
            control, CLAIMED + LINE * chunk, phase - 1, phase
        ):
            return chunk
    spins = 0
    while atomic_load(control, DONE) < phase * chunk_count and atomic_load(control, CANCELLED) == 0:
        spins += 1
        if spins > SPINS:
            yield_processor()
    return -1


@device
def chunk_bounds(count, chunk, chunk_count):
    """This chunk of range(count): first, end."""
    return count * chunk // chunk_count, count * (chunk + 1) // chunk_count


@device
def most_chunks(threads):
    """As many chunks as make it a small loss that the threads do not end at once."""
    return CHUNKS_PER_THREAD * threads


@intrinsic
def atomic_increment(typing_context, array, index):
    """array[index] += 1, for all threads at once; what it was before."""

    def codegen(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "seq_cst")

    return types.int64(array, types.intp), codegen


@intrinsic
def compare_exchange(typing_context, array, index, old, new):
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
def atomic_store(typing_context, array, index, value):
    """array[index] = value, after all that was written before it."""

    def codegen(context, builder, signature, arguments):
        pointer = element_pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store_atomic(arguments[2], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


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
