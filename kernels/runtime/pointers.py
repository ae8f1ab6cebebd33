"""Kernels that other kernels call by their address: each is compiled by itself, and only where a call needs it.

A kernel that chooses between functions compiles all of them. Training steps, with a branch for each activation, loss and
optimizer's rule, took 9.1 s to compile so, of which 1.6 were theirs. By itself, where it is used, an activation takes 0.1 s
each way, a loss or dropout 0.2 to 0.3, the rules or products of a few rows 0.4 to 0.7. A call by address takes as long as
one of a device function that is not inlined.
"""

from __future__ import annotations

from functools import cache

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def address_of(function, *examples):
    """Where a kernel, mostly an InnerKernel, is in memory, compiled for arguments of the types of these. It stays there."""
    return _address(getattr(function, "dispatcher", function), tuple(map(numba.typeof, examples)))


@cache
def _address(function, signature):
    function.compile(signature)
    compiled = function.overloads[signature]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


@intrinsic
def call_at(typing_context, address, result, arguments):
    """Call the kernel at an address; result: None, or a number of the type that it returns.

    The kernel was compiled for arguments of these types: arrays may be read-only here, but nothing may differ else, and
    nothing looks whether it does. So Python functions bring to one dtype whatever comes to such a call.
    """
    returned = types.unliteral(result)

    def codegen(context, builder, signature, values):
        given = signature.args[2].types
        kind = context.call_conv.get_function_type(returned, given)
        function = builder.inttoptr(values[0], kind.as_pointer())
        unpacked = cgutils.unpack_tuple(builder, values[2])
        status, value = context.call_conv.call_function(builder, function, returned, given, unpacked)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return value

    return returned(types.int64, result, arguments), codegen
