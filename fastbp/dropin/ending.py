"""How the process ends: Numba's objects are left out of Python's last collections of garbage.

Python looks for cycles several times as it ends. With Numba imported these are 80,000 objects more, and 0.2 to 0.3 s, on
a busy machine up to a second; a script of a second would notice. Those collections are there for what acts when it is
collected: files are flushed, `__del__` is called, generators run their `finally`. So nothing is left out where anything
alive may act.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import sys
from typing import Any

IDLE = {"fastbp", "llvmlite", "numba"}  # packages whose `__del__` gives back what ends with the process


def end_quickly() -> None:
    """From now on; to be called before the script, so that it runs after all that the script has registered."""
    atexit.register(_leave_out)


def _leave_out() -> None:
    with contextlib.suppress(Exception):  # a script's own metaclass may raise anything
        if not _may_act(gc.get_objects()):
            gc.freeze()


def _may_act(objects: list[Any]) -> bool:
    """Whether any of them does something when it is collected, which it need not be if it is in no cycle."""
    acting = {kind for kind in set(map(type, objects)) if hasattr(kind, "__del__") and not _is_idle(kind)}
    streams = _standard_streams()
    alive = [one for one in objects if type(one) in acting and id(one) not in streams]
    return not all(isinstance(one, io.IOBase) and one.closed for one in alive)


def _is_idle(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in IDLE


def _standard_streams() -> set[int]:
    """The ids of the three streams and what they consist of: Python flushes them itself."""
    found = list[Any]()
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        buffer = getattr(stream, "buffer", None)
        found += [stream, buffer, getattr(buffer, "raw", None)]
    return set(map(id, found))
