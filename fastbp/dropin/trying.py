"""Trying somebody's code: nobody sees it, it needs no kernel, compiles none, and does not count."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class _Trying(threading.local):
    now = 0  # how many trials this is within, in this thread


trying = _Trying()


@contextmanager
def undisturbed() -> Iterator[None]:
    """No warning is shown in the `with` block, no random number is used up, and calls of functions are their own."""
    state = np.random.get_state()
    trying.now += 1
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        trying.now -= 1
        np.random.set_state(state)
