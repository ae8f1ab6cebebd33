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


@contextmanager
def noted_interrupts(*, patient: bool = False) -> Iterator[Interrupts]:
    """Within, Ctrl-C is noted; at the end it raises KeyboardInterrupt, unless an error or its handling came first.

    A second one raises at once, for somebody is in a hurry; if patient, it waits too: for work of microseconds.

    Outside of the main thread, where signals do not come, and where somebody handles SIGINT otherwise, nothing is changed.
    """
    interrupts = Interrupts()
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    if before is not signal.default_int_handler:
        yield interrupts
        return

    def note(*_: Any) -> None:
        if interrupts.pending and not patient:
            raise KeyboardInterrupt
        interrupts.pending = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts.pending:
        raise KeyboardInterrupt
