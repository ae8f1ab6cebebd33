"""Which of two ways calls go, of one thread or of several, say: whichever lets the program that makes them take less time.

What a call saves by a second thread, the program may lose after it, as what the other core has read or written must be
fetched from its cache: on two cores of a Xeon a step of 784-50-10 in a script took 1.16 times as long with two threads, on
two of an EPYC (Zen 5) 0.88. So the time from call to call is measured, some of each way in turn. Only for calls that give
the same numbers to the last bit either way.
"""

from __future__ import annotations

import math
import time

CALLS, BLOCKS = 24, 3  # of a block; of each way. The shortest counts: a program may do other things now and then
HELD = 6000  # calls, for which what was found is held to be so: the machine may be busy, or free, later
MARGIN = 0.98  # of the first way's time, from which on the second is taken


class Tuning:
    """Finds the faster of two ways for calls that are like each other. is_second: whether they go the second way now."""

    def __init__(self):
        self.is_second = False
        self._tried, self._left, self._start, self._shortest = 2 * BLOCKS, 0, 0.0, [math.inf] * 2

    def next_call(self):
        """Count a call that is to be made now, and return whether it goes the second way."""
        if self._left == 0:
            self._next_block(time.perf_counter())
        self._left -= 1
        return self.is_second

    def _next_block(self, now):
        if self._tried < 2 * BLOCKS:
            self._shortest[self.is_second] = min(self._shortest[self.is_second], now - self._start)
            self._tried += 1
        else:
            self._tried, self._shortest = 0, [math.inf] * 2
        is_found = self._tried == 2 * BLOCKS
        first, second = self._shortest
        self.is_second = second < MARGIN * first if is_found else self._tried % 2 == 1
        self._left, self._start = HELD if is_found else CALLS, now
