"""The two backends, and which one a new layer or network is given.

A backend is a module of plain functions: fastbp.reference ("numpy") or fastbp.kernels ("numba"), which only this file
imports. The name comes from,
in this order: the argument, `with use_backend(name)`, `set_default_backend(name)`, the environment variable
FASTBP_BACKEND, and last "numba".
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from . import _checks as checks
from ._backend import Backend

BACKENDS = {"numpy": "fastbp.reference", "numba": "fastbp.kernels"}

_process_default: str | None = None
_chosen_here: ContextVar[str | None] = ContextVar("fastbp_backend", default=None)


def _known(name: object, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(map(repr, BACKENDS))}, got {name!r}")
    return str(name)


def default_backend() -> str:
    """The name of the backend that new layers and networks get, in this thread or task.

    Returns:
        "numba" or "numpy".

    Raises:
        ValueError: where the environment variable FASTBP_BACKEND names another.

    Examples:
        >>> import fastbp
        >>> with fastbp.use_backend("numpy"):
        ...     fastbp.default_backend()
        'numpy'
    """
    if (name := _chosen_here.get() or _process_default) is not None:
        return name
    return _known(os.environ.get("FASTBP_BACKEND") or "numba", "The environment variable FASTBP_BACKEND")


def set_default_backend(name: str | None) -> None:
    """Make a backend the default of the whole process.

    Args:
        name: "numpy" or "numba"; None returns to the initial default.

    Raises:
        ValueError: for another name.

    Examples:
        >>> import fastbp
        >>> fastbp.set_default_backend("numpy")
        >>> fastbp.Relu().backend
        'numpy'
        >>> fastbp.set_default_backend(None)
    """
    global _process_default
    _process_default = None if name is None else _known(name, "backend")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the `with` block, in this thread or asyncio task only, another backend is the default.

    Args:
        name: "numpy" or "numba".

    Raises:
        ValueError: for another name.

    Examples:
        >>> import fastbp
        >>> with fastbp.use_backend("numpy"):
        ...     reference = fastbp.MLP((4, 3), seed=0)
        >>> reference.backend
        'numpy'
    """
    token = _chosen_here.set(_known(name, "backend"))
    try:
        yield
    finally:
        _chosen_here.reset(token)


def get_backend(name: str | None = None) -> tuple[str, Backend]:
    """The backend of that name, or the default one: its name and its module. Numba is imported here, when first needed.

    Raises ValueError for a name other than "numpy" or "numba".
    """
    name = default_backend() if name is None else _known(name, "backend")
    return name, cast(Backend, _imported(BACKENDS[name]))


def _imported(module: str) -> ModuleType:
    """The module. Nearly all that Numba makes while it is imported stays: looking for garbage among it took 40 of 290 ms."""
    looks = "numba" not in sys.modules and gc.isenabled()
    if looks:
        gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if looks:
            if gc.get_freeze_count() == 0:  # nobody has frozen any
                gc.freeze()  # these two put all objects there are among the old ones, which are looked at rarely
                gc.unfreeze()
            gc.enable()


def memory_pool(backend: str) -> Any:
    """A context manager in which this thread's results of `backend` get memory that is used again.

    Only where nothing refers to a result any more its memory becomes another's. `release` gives back what is free then.
    The backend "numpy" makes new arrays.
    """
    return _runtime("arrays").MemoryPool() if backend == "numba" else _NewArrays()


class _NewArrays(nullcontext[None]):
    def release(self) -> None:
        """Nothing is kept."""


def available_threads() -> int:
    """How many threads kernels may use now. Imports Numba."""
    return _runtime("processors").available_threads()


def kernel_cache() -> tuple[Path, str]:
    """The directory above the kernel caches of all versions, and the name of this process's. Imports Numba."""
    cache = _runtime("cache")
    return cache.cache_root(), cache.fingerprint()


def read_cache_entry(name: str) -> bytes | None:
    """What was kept beside the kernels under a name; None if there is nothing. Imports Numba."""
    entry: bytes | None = _runtime("cache").read_entry(name)
    return entry


def write_cache_entry(name: str, content: bytes) -> None:
    """Keep something beside the kernels of this version; where it cannot be written, nothing is kept. Imports Numba."""
    _runtime("cache").write_entry(name, content)


def expect_kernels(names: Sequence[str], is_at_it: Callable[[], bool]) -> None:
    """Where another process is compiling kernels of these names, wait for them when they are needed, while is_at_it()."""
    _runtime("cache").expect_kernels(names, is_at_it)


def new_tuning() -> Any:
    """What finds out, by the time from call to call, which of two ways to take: see kernels/runtime/tuning.py."""
    return _runtime("tuning").Tuning()


def compile_pool() -> None:
    """Compile what the kernels' threads do between calls."""
    _runtime("threads").compile_pool()


def cached_training() -> int:
    """For how many dtypes the kernel cache has training steps. Imports Numba."""
    return _imported("fastbp.kernels.engine.step").cached_dtypes()


@contextmanager
def compiled_functions(callback: Callable[[int], None]) -> Iterator[None]:
    """In the `with` block, calls `callback` with how many functions of the kernels were compiled so far, after each."""
    with _runtime("compiler").compiled_functions(callback):
        yield


def _runtime(module: str) -> ModuleType:
    return _imported(f"fastbp.kernels.runtime.{module}")


def set_num_threads(count: int | None) -> None:
    """Let the compiled kernels of this process use at most so many threads.

    Without it, the environment variable NUMBA_NUM_THREADS is obeyed.

    Args:
        count: at least 1; None for as many as there are processors.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for less than 1.

    Examples:
        >>> import fastbp
        >>> fastbp.set_num_threads(1)
        >>> fastbp.set_num_threads(None)
    """
    count = None if count is None else checks.whole_number("count", count, at_least=1)
    _runtime("processors").set_threads(count)


def divide_processors(processes: int) -> None:
    """Let this process use its part of the processors, as one of so many, unless the user or a binding has said so."""
    _runtime("processors").divide_processors(processes)
