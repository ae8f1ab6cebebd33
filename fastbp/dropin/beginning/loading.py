"""Importing Numba and the kernels in a thread, while the script goes on: half a second, shared where its calls are long.

NumPy lets go of Python's lock while it computes, so most of the import fits in between. When the kernels begin does not
depend on it: that is counted (see `calls`), and if the import is not over by then, it is waited for.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

from ...backends import get_backend

SWITCH_INTERVAL = 1e-4  # seconds; with Python's 5 ms, the script waits so long after each call of NumPy's


class Loader:
    """Imports the default backend's module, once."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    def begin(self) -> None:
        """Begin, unless that was done; where there can be no thread, importing waits until a kernel is called."""
        if self._thread is None:
            self._thread = threading.Thread(target=_load, name="fastbp loads Numba")
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=self.wait)  # a child would wait for ever for what this thread imports
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def give_up(self) -> None:
        """Import no further module: the script is over, and would wait for 0.4 s. What is half imported is forgotten."""
        if self._thread is not None and self._thread.is_alive():
            sys.meta_path.insert(0, _NoFurther(self._thread))

    def wait(self) -> None:
        """Until it is over."""
        if self._thread is not None and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()


class _NoFurther:
    """Finds no modules for one thread."""

    def __init__(self, thread: threading.Thread):
        self._thread = thread

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if threading.current_thread() is self._thread:
            raise ImportError(f"{name} is not imported any more: the script is over")


def _load() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
    shortened = sys.getswitchinterval()
    try:
        with contextlib.suppress(Exception):  # the first call of a kernel says what is wrong
            get_backend()
    finally:
        if sys.getswitchinterval() == shortened:  # else the script has set another one meanwhile
            sys.setswitchinterval(before)
