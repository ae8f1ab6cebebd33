"""Private pieces of Numba that the compiler and the cache build on, and what happens where they are missing.

Tried with Numba 0.61 to 0.68. Where another version lacks a piece, fastbp does without what it is for, with one warning:
device functions are compiled as Numba compiles all functions, or kernels are not cached. Answers are the same.
"""

from __future__ import annotations

import functools
import importlib
import warnings

DEVICE_PIECES = (
    "numba._dynfunc.make_function",
    "numba.core.codegen.JITCodeLibrary._optimize_final_module",
    "numba.core.codegen.JITCodeLibrary._finalize_final_module",
    "numba.core.codegen.JITCodeLibrary._finalize_dynamic_globals",
    "numba.core.compiler.Compiler.define_pipelines",
    "numba.core.compiler.Compiler.compile_extra",
    "numba.core.compiler_machinery.PassManager.add_pass",
    "numba.core.compiler_machinery.PassManager.finalize",
    "numba.core.dispatcher.Dispatcher.get_call_template",
)
CACHE_PIECES = (
    "numba.core.caching._Cache",
    "numba.core.compiler.CompileResult._rebuild",
    "numba.core.compiler.CompileResult._reduce",
    "numba.core.serialize.dumps",
)


@functools.lru_cache(maxsize=2)
def has_pieces(names, without):
    """Whether Numba has all of these; `without`: what the warning says where it has not."""
    missing = [name for name in names if not _exists(name)]
    if missing:
        warnings.warn(f"this version of Numba has no {missing[0]}: {without}", RuntimeWarning, stacklevel=2)
    return not missing


def _exists(name):
    module, *attributes = "", *name.split(".")
    found = None
    for attribute in attributes:
        module = f"{module}.{attribute}".lstrip(".")
        found = getattr(found, attribute, None)
        if found is None:
            try:
                found = importlib.import_module(module)
            except ImportError:
                return False
    return True
