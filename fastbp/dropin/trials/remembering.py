"""What trials have found, kept beside the compiled kernels: the next run of a script need not try its layers again.

Trying the layers of a convolutional network takes 0.2 to 0.7 s, of runs that take 2 to 4 s. A verdict depends on the code of
the class and of all that it calls, on what its object and the call are like, and on fastbp, Python and NumPy: a digest of
these is the name under which it is kept. What the numbers in floating arrays are does not matter, as a trial draws others.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ...backends import read_cache_entry, write_cache_entry
from ..objects.lazy import OURS
from ..objects.marks import own_of

MOST_NUMBERS = 1000  # of an array of integers that is looked at whole


def digest(made: type, layer: Any, arguments: tuple[Any, ...], functions: Iterable[Any]) -> str:
    """A digest of everything that a verdict depends on. functions: forward, backward and all that they call."""
    seen = hashlib.sha256(repr((_versions(), made.__module__, made.__qualname__)).encode())
    for function in functions:
        for part in _of_function(own_of(getattr(function, "__func__", function))):
            seen.update(repr(part).encode() + b"\0")
    for one in (*type(layer).__mro__[:-1], layer):
        for name, value in sorted(vars(one).items()):
            if not name.startswith(OURS) and not callable(value) and not isinstance(value, staticmethod | classmethod):
                seen.update(repr((name, _of_value(value))).encode() + b"\0")
    seen.update(repr([_of_value(one, is_drawn=True) for one in arguments]).encode())
    return seen.hexdigest()[:32]


def recall(name: str) -> Any:
    """The verdict that was kept under a digest; None if there is none."""
    entry = read_cache_entry(f"{name}.trial")
    try:
        return None if entry is None else pickle.loads(entry)
    except Exception:
        return None  # it was whole, and yet is of no use: it is tried again


def keep(name: str, verdict: Any) -> None:
    write_cache_entry(f"{name}.trial", pickle.dumps(verdict))


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    """Those of Python, NumPy, and of all that takes part in a trial, by its text: version numbers do not change with it."""
    dropin = Path(__file__).parents[1]
    files = sorted([*dropin.rglob("*.py"), *dropin.parent.glob("*.py")])
    texts = hashlib.sha256(b"\0".join(file.read_bytes() for file in files))
    return sys.version, np.__version__, texts.hexdigest()


def _of_function(function: Any) -> Iterator[Any]:
    if not isinstance(function, FunctionType):
        yield function
        return
    yield from (function.__qualname__, function.__defaults__, function.__kwdefaults__)
    yield from _of_code(function.__code__)
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            yield name, value.__name__
        elif not callable(value) or isinstance(value, type):
            yield name, _of_value(value)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _of_code(code: CodeType) -> Iterator[Any]:
    yield from (code.co_code, code.co_names, code.co_varnames, code.co_flags, code.co_argcount, code.co_firstlineno)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield constant


def _of_value(value: Any, is_drawn: bool = False) -> Any:
    """What a trial may make something of; is_drawn: it draws other numbers for these, whatever they are."""
    if isinstance(value, np.ndarray):
        is_large = value.size > MOST_NUMBERS
        numbers = value.tobytes() if value.dtype.kind in "iub" and not is_large and not is_drawn else b""
        return value.dtype.str, value.shape, value.flags.c_contiguous, value.flags.writeable, numbers
    if isinstance(value, list | tuple):
        return type(value).__name__, [_of_value(one) for one in value]
    if isinstance(value, dict):
        return [(repr(key), _of_value(one)) for key, one in value.items()]
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return type(value).__name__, repr(value)
    return value.__qualname__ if isinstance(value, type) else type(value).__qualname__
