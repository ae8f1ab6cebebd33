"""The decorators that everything compiled goes through: `kernel`, called from Python, and `device`, called by kernels."""

from __future__ import annotations

import gc
import signal
import threading
import warnings
from contextlib import contextmanager
from functools import cached_property, partial, update_wrapper

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import codegen, compiler, compiler_machinery, event
from numba.extending import overload

from .cache import KernelCache, cache_directory
from .private import DEVICE_PIECES, has_pieces

HAS_DEVICE_PIECES = has_pieces(DEVICE_PIECES, "kernels take longer to compile")

_FILTERS_CHANGED = ("_filters_mutated", "_filters_mutated_lock_held")  # of Python up to 3.13, and from 3.14 on


def kernel(function=None, *, exact=False, stands_for=None, from_python=True):
    """Compile `function` with Numba at its first call, without the GIL, through the disk cache.

    Division by zero and invalid operations give inf and NaN as in NumPy. The only relaxation of IEEE arithmetic is
    `contract`: a * b + c may be rounded once instead of twice. It keeps NaN, inf and signed zeros. With exact=True there is
    none, and elementwise arithmetic is NumPy's to the last bit.

    Arrays that travel together come from Python as a plain tuple, and the kernel makes a NamedTuple of it, which costs
    nothing there: taking a NamedTuple from Python costs 1.1 us more than a tuple's 0.25.

    stands_for: the function of a kernel file that `function` was made for; the cache has it under that name. from_python:
    see InnerKernel.
    """
    if function is None:
        return partial(kernel, exact=exact)
    named = function if stands_for is None else stands_for
    options = _options(named, exact)
    if HAS_DEVICE_PIECES:
        options["pipeline_class"] = _KernelCompiler
    dispatcher = numba.njit(**options, no_cfunc_wrapper=True, no_cpython_wrapper=not from_python)(function)
    dispatcher.compile = partial(_compile, dispatcher)
    directory = cache_directory()
    if directory is not None:
        dispatcher._cache = KernelCache(directory, f"{named.__module__.rpartition('.')[2]}.{named.__qualname__}")
    return dispatcher


class InnerKernel:
    """A `kernel` that only other kernels call, by its address (runtime/pointers.py). It has no entry from Python, which
    looks at each argument, and takes 0.1 to 0.25 s to compile where these are many."""

    def __init__(self, function):
        self.dispatcher = kernel(function, from_python=False)


def device(function=None, *, exact=False):
    """Compile `function` into the kernels that call it: a device function has no entry from Python, no cache file, and is
    not optimised by itself (see `_DeviceCompiler`). LLVM decides whether it is inlined; `simd.noinline` forbids it.

    It may not be handed to another one as an argument: Numba keeps no kernel in which that happens."""
    if function is None:
        return partial(device, exact=exact)
    return _DeviceFunction(function, _options(function, exact))


class _DeviceFunction:
    """A device function, for which Numba's dispatcher is made when a kernel is compiled that calls it.

    Importing the kernels made more than 200 of them, in 36 ms, and where kernels are in the cache none is needed.
    """

    def __init__(self, function, options):
        update_wrapper(self, function)
        self.py_func, self._options = function, options

    @property
    def _numba_type_(self):
        """What Numba asks a value for that it meets in a function, and does not know."""
        return types.Dispatcher(self._dispatcher)

    @cached_property
    def _dispatcher(self):
        if HAS_DEVICE_PIECES:
            self._options["pipeline_class"] = _DeviceCompiler
        dispatcher = numba.njit(**self._options, no_cpython_wrapper=True, no_cfunc_wrapper=True)(self.py_func)
        if HAS_DEVICE_PIECES:
            dispatcher.get_call_template = partial(_without_literals, dispatcher)
        return dispatcher

    def __call__(self, *arguments):
        return self._dispatcher(*arguments)


def by_type(function):
    """Numba's `overload`: decorates what returns the implementation of `function` for some types, inside kernels.

    The implementation is compiled as device functions are, with the options of the kernel that it is in. So a stack of
    layers compiles in 3.8 s instead of 4.0, and its backward in 4.5 instead of 5.0.
    """
    return overload(function, jit_options={"pipeline_class": _DeviceCompiler} if HAS_DEVICE_PIECES else {})


def _options(function, exact):
    if function.__closure__:
        raise TypeError(f"{function.__qualname__}: a kernel may not close over variables, its cache key ignores them")
    return {"nogil": True, "error_model": "numpy", "fastmath": not exact and {"contract"}, "_nrt": False}


def _without_literals(dispatcher, arguments, named):
    """How a device function is called, by the types of its arguments. An integer that stands in the code has a type of its
    own, and the function would be compiled once more for each of them: 126 functions instead of 109, 10.0 s instead of 8.5.
    """
    return type(dispatcher).get_call_template(dispatcher, tuple(map(types.unliteral, arguments)), named)


def _compile(dispatcher, signature):
    with interrupts_kept(), _shown_warnings_kept(), _garbage_left():
        return type(dispatcher).compile(dispatcher, signature)


@contextmanager
def interrupts_kept():
    """Raise at the end what Ctrl-C has been while LLVM made machine code, for seconds at a time.

    It comes when Python has control again, in what LLVM calls back, where Python prints a KeyboardInterrupt, and goes on:
    a script that was interrupted while it compiled did not end. Elsewhere it is raised at once, as always.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pending = []

    def note(number, frame):
        while frame is not None and not frame.f_code.co_name.startswith("_raw_object_cache"):  # llvmlite's
            frame = frame.f_back
        if frame is None or pending:
            raise KeyboardInterrupt
        pending.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pending:
        raise KeyboardInterrupt


@contextmanager
def _garbage_left():
    """Let Python look for garbage less often: the compiler makes many objects, and nearly all of them stay until its end.

    Compiling takes 9.6 s instead of 10.6 so, and 10 MB more; without any looking 9.4 s, and 95 MB more.
    """
    before = gc.get_threshold()
    if before[0] > 0:  # else somebody has switched it off
        gc.set_threshold(max(100_000, before[0]), 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Counting(event.Listener):
    def __init__(self, callback):
        self.callback, self.count = callback, 0

    def on_start(self, event):
        pass

    def on_end(self, event):
        self.count += 1
        self.callback(self.count)


@contextmanager
def compiled_functions(callback):
    """Calls `callback` with how many functions Numba has compiled in the `with` block, device functions too, after each."""
    listener = _Counting(callback)
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)


@contextmanager
def _shown_warnings_kept():
    """Let Python remember which warnings it has shown, which it does until somebody changes the warning filters.

    Numba's compiler changes them thousands of times, and back: every warning that is shown once would be shown again.
    """
    change = {name: getattr(warnings, name) for name in _FILTERS_CHANGED if hasattr(warnings, name)}
    filters = list(warnings.filters)
    for name in change:
        setattr(warnings, name, lambda: None)
    try:
        yield
    finally:
        for name, function in change.items():
            setattr(warnings, name, function)
        if filters != warnings.filters:  # another thread has changed them meanwhile, and Python must know
            with warnings.catch_warnings():
                pass


class _DeviceLibrary(codegen.JITCodeLibrary):
    """LLVM code that is linked into kernels, and never run by itself: neither optimised nor made machine code of."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _KernelLibrary(codegen.JITCodeLibrary):
    """A kernel with the device functions that it calls, which nobody else will: LLVM may leave out what they do not use of
    their arguments. An array is seven of them, and of most of these nothing is read.

    A training step of one row takes 0.83 to 0.96 of the time so, of 64 rows of 64-64-64-10 0.85. Compiling
    one takes 18.4 to 20.0 s on that machine, without this 16.8 to 19.9.
    """

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


class _KernelCompiler(compiler.Compiler):
    """Numba's compiler, into a _KernelLibrary."""

    def define_pipelines(self):
        state = self.state
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()


# Steps that look for what device functions do not have: closures, object mode, array expressions, functions to be inlined
# by Numba instead of LLVM. 109 functions compile in 8.0 s instead of 8.5 without them.
IDLE_STEPS = {"WithLifting", "InlineClosureLikes", "InlineInlinables", "InlineOverloads", "NopythonRewrites"}


def _without_idle_steps(pipeline):
    kept = compiler_machinery.PassManager(pipeline.pipeline_name)
    for step, description in pipeline.passes:
        if step.__name__ not in IDLE_STEPS:
            kept.add_pass(step, description)
    kept.finalize()
    return kept


class _DeviceCompiler(compiler.Compiler):
    """Numba's compiler, without what would be done again for each kernel that the device function is linked into.

    Compiling for `fastbp compare`, both dtypes, alternately, seconds: 25.7 without this, 16.4 with it.
    """

    def define_pipelines(self):
        state = self.state
        state.flags.no_compile = True
        state.library = _DeviceLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [_without_idle_steps(one) for one in super().define_pipelines()]

    def compile_extra(self, func):
        result = super().compile_extra(func)
        # What Numba's get_executable does after making machine code: a function object, by which callers find it.
        name, keep = result.fndesc.qualname, (result.library,)
        function = numba._dynfunc.make_function(result.fndesc.lookup_module(), name, "", 0, result.environment, keep)
        result.target_context.insert_user_function(function, result.fndesc, keep)
        return result._replace(entry_point=function)
