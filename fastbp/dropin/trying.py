"""Whether somebody's code is being tried, in this thread: that needs no kernel, compiles none, and does not count."""

from __future__ import annotations

import threading


class _Trying(threading.local):
    now = 0  # how many trials this is within

    def __enter__(self) -> None:
        self.now += 1

    def __exit__(self, *error: object) -> None:
        self.now -= 1


trying = _Trying()
