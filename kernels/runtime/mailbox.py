"""How a call reaches the workers: one line of memory for each, which both sides read and write without Python's lock.

    STATE       FREE: it spins, or will; OPEN: there is a call for it; INSIDE: it is in one; ASLEEP: it waits to be woken
    FUNCTION    the address of the call's entry, a function of the address of its arguments, the thread and the threads
    ARGUMENTS   that address: the first numbers of the call's `control`
    THREAD, THREADS
    SHOULD_END  not 0: leave

The caller writes a line and sets it to OPEN; the worker sets it to INSIDE, runs the call, and sets it to FREE. What is
still OPEN when the caller has done all the work is cancelled: nobody waits for a worker that does not come.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .chunks import (
    ARGUMENTS_SIZE,
    LINE,
    SPINS,
    atomic_load,
    atomic_store,
    compare_exchange,
    reset_control,
    yield_processor,
)
from .compiler import device, kernel
from .simd import element_pointer, noinline

STATE, FUNCTION, ARGUMENTS, THREAD, THREADS, SHOULD_END = range(6)
FREE, OPEN, INSIDE, ASLEEP = range(4)
ENDED, SLEEPS, FAILED = range(3)  # why a worker comes back to Python
LOOKS = 1_000_000  # at a line, 1 to 3 ms, before a worker sleeps

_i32, _i64, _bytes = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_ENTRY = ir.FunctionType(_i32, [_bytes, _i64, _i64])


@kernel
def serve(mailboxes, line):
    """A worker's calls, one after the other, until none comes for a while; why it ends."""
    looks = 0
    while looks < LOOKS:
        state = atomic_load(mailboxes, line + STATE)
        if state == OPEN and compare_exchange(mailboxes, line + STATE, OPEN, INSIDE):
            if enter(mailboxes, line) != 0:
                return FAILED
            atomic_store(mailboxes, line + STATE, FREE)
            looks = 0
        if atomic_load(mailboxes, line + SHOULD_END) != 0:
            return ENDED
        looks += 1
        if looks % SPINS == 0:
            yield_processor()
    if compare_exchange(mailboxes, line + STATE, FREE, ASLEEP) and atomic_load(mailboxes, line + SHOULD_END) == 0:
        return SLEEPS
    return ENDED if atomic_load(mailboxes, line + SHOULD_END) != 0 else -1


@device
def open_call(mailboxes, control, threads, entry):
    """Have the workers that are free take part in a call; entry: what `publish` returned."""
    noinline()
    reset_control(control)
    for thread in range(1, threads):
        line = (thread - 1) * LINE
        if atomic_load(mailboxes, line + STATE) == FREE:
            mailboxes[line + FUNCTION], mailboxes[line + ARGUMENTS] = entry
            mailboxes[line + THREAD], mailboxes[line + THREADS] = thread, threads
            compare_exchange(mailboxes, line + STATE, FREE, OPEN)  # unless it has just fallen asleep


@device
def close_call(mailboxes, threads):
    """Cancel the call for those who have not begun it -> how many have not left it, or an earlier one, after a while."""
    noinline()
    inside = 0
    for thread in range(1, threads):
        line = (thread - 1) * LINE
        if not compare_exchange(mailboxes, line + STATE, OPEN, FREE):
            spins = 0
            while atomic_load(mailboxes, line + STATE) == INSIDE and spins < SPINS:
                spins += 1
            inside += atomic_load(mailboxes, line + STATE) == INSIDE
    return inside


@kernel
def withdraw(mailboxes, threads):
    """`close_call`, from Python."""
    return close_call(mailboxes, threads)


@intrinsic
def publish(typing_context, function, control, arguments):
    """Put `arguments` where workers find them, at the beginning of `control`; the addresses of the entry and of that.

    The entry is a function of its own in the kernel's module: it loads the arguments and calls `function`, a device
    function, with work and them; what it returns is not 0 where that raised an exception.
    """
    work = types.Tuple((types.int64, types.int64, control))
    inner = typing_context.resolve_function_type(function, (work, *arguments.types), {})

    def codegen(context, builder, signature, values):
        packed = context.make_tuple(builder, types.Tuple((control, arguments)), values[1:])
        if context.get_abi_sizeof(packed.type) > 8 * ARGUMENTS_SIZE:
            raise NotImplementedError(f"the arguments of a parallel kernel must fit {8 * ARGUMENTS_SIZE} bytes")
        pointer = element_pointer(context, builder, signature.args[1], values[1], _i64(0))
        builder.store(packed, builder.bitcast(pointer, packed.type.as_pointer()))
        entry = _entry(context, builder, function.dispatcher.overloads[tuple(inner.args)], work, packed.type)
        addresses = [builder.ptrtoint(pointer_, _i64) for pointer_ in (entry, pointer)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(function, control, arguments), codegen


@intrinsic
def call_outlined(typing_context, function, work, arguments):
    """function(work, *arguments), of a device function that stays a function: `publish` has a call of it, too."""
    inner = typing_context.resolve_function_type(function, (work, *arguments.types), {})

    def codegen(context, builder, signature, values):
        compiled = function.dispatcher.overloads[tuple(inner.args)]
        status = _call(context, builder, compiled, [values[1], *cgutils.unpack_tuple(builder, values[2])])
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(function, work, arguments), codegen


def _call(context, builder, compiled, values):
    context.add_linking_libs((compiled.library,))
    described = compiled.fndesc
    callee = context.declare_function(builder.module, described)
    arguments = described.restype, described.argtypes, values
    return context.call_conv.call_function(builder, callee, *arguments, attrs=("noinline",))[0]


def _entry(context, builder, compiled, work, packed):
    entry = ir.Function(builder.module, _ENTRY, builder.module.get_unique_name("entry"))
    entry.linkage = "internal"
    body = ir.IRBuilder(entry.append_basic_block())
    control, arguments = cgutils.unpack_tuple(body, body.load(body.bitcast(entry.args[0], packed.as_pointer())))
    first = context.make_tuple(body, work, [*entry.args[1:], control])
    body.ret(_call(context, body, compiled, [first, *cgutils.unpack_tuple(body, arguments)]).code)
    return entry


@intrinsic
def enter(typing_context, mailboxes, line):
    """Run the call in a line; not 0 where it raised an exception."""

    def codegen(context, builder, signature, values):
        first = element_pointer(context, builder, signature.args[0], *values)
        function, arguments, thread, threads = (
            builder.load(builder.gep(first, [_i64(place)])) for place in (FUNCTION, ARGUMENTS, THREAD, THREADS)
        )
        function = builder.inttoptr(function, _ENTRY.as_pointer())
        return builder.call(function, [builder.inttoptr(arguments, _bytes), thread, threads])

    return types.int32(mailboxes, types.int64), codegen
