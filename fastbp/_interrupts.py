"""Ctrl-C that waits: for work that must not end in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupts:
    """pending: whether Ctrl-C came."""

    pending = False

    def raise_if_pending(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt


@contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Within, the first Ctrl-C is noted only; a second one raises KeyboardInterrupt: somebody is in a hurry.

    Outside of the main thread, where signals do not come, and where somebody handles SIGINT otherwise, nothing is changed.
    """
    interrupts = Interrupts()
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    if before is not signal.default_int_handler:
        yield interrupts
        return

    def note(*_: Any) -> None:
        if interrupts.pending:
            raise KeyboardInterrupt
        interrupts.pending = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
