"""Trying somebody's code: nobody sees it, it needs no kernel, compiles none, and does not count."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .global_random import ordinary_generator


class _Trying(threading.local):
    now = 0  # how many trials this is within, in this thread


trying = _Trying()


@contextmanager
def undisturbed() -> Iterator[None]:
    """No warning is shown in the `with` block, no random number is used up, and calls of functions are their own.

    The global functions draw from an MT19937, as they do where the script has not put another generator in its place.
    """
    trying.now += 1
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), ordinary_generator():
            warnings.simplefilter("ignore")
            yield
    finally:
        trying.now -= 1
