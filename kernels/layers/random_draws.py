"""The numbers that np.random.rand draws, from its own generator's state: MT19937 (Matsumoto and Nishimura, 1998).

The numbers, and the state afterwards, are those of NumPy to the last bit; in loops that become vectors, 10,000 take a fourth
of its time.
"""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import empty, workspace
from ..runtime.compiler import device, kernel
from ..runtime.simd import load_scalar, store_scalar

LENGTH, MIDDLE = 624, 397  # words of the state, and how far apart are those that are combined
_UPPER, _LOWER, _MATRIX = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x9908B0DF)
_MASK1, _MASK2 = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)
_ONE, _5, _6, _7, _11, _15, _18 = (np.uint32(n) for n in (1, 5, 6, 7, 11, 15, 18))
_HIGH, _UNIT = 67108864.0, 1 / 9007199254740992.0  # 2**26, 2**-53


def random_doubles(state, count):
    """`count` draws from [0, 1), float64. state (625,) uint32, changed: 624 words, and how many of them have been used."""
    out = empty(count, np.dtype(np.float64))
    _random_doubles(out, state, workspace(2 * count, np.dtype(np.uint32)))
    return out


@kernel
def _random_doubles(out, state, words):
    used, filled, needed = np.intp(state[LENGTH]), 0, 2 * out.size
    while filled < needed:
        if used >= LENGTH:
            renew(state)
            used = 0
        count = min(LENGTH - used, needed - filled)
        temper(words, filled, state, used, count)
        used, filled = used + count, filled + count
    state[LENGTH] = used
    for i in range(out.size):
        high, low = load_scalar(words, 2 * i) >> _5, load_scalar(words, 2 * i + 1) >> _6
        store_scalar(out, i, (np.float64(np.int32(high)) * _HIGH + np.float64(np.int32(low))) * _UNIT)


@device
def renew(state):
    """The next 624 words."""
    for i in range(LENGTH - MIDDLE):
        store_scalar(state, i, combined(state, i, i + 1, i + MIDDLE))
    for i in range(LENGTH - MIDDLE, LENGTH - 1):
        store_scalar(state, i, combined(state, i, i + 1, i + MIDDLE - LENGTH))
    store_scalar(state, LENGTH - 1, combined(state, LENGTH - 1, 0, MIDDLE - 1))


@device
def combined(state, i, following, other):
    word = np.uint32((load_scalar(state, i) & _UPPER) | (load_scalar(state, following) & _LOWER))
    twist = np.uint32(np.uint32(-np.int32(word & _ONE)) & _MATRIX)
    return np.uint32(load_scalar(state, other) ^ np.uint32(word >> _ONE) ^ twist)


@device
def temper(words, first, state, used, count):
    """words[first : first + count] = what those of the state from `used` on give."""
    for i in range(count):
        word = load_scalar(state, used + i)
        word = np.uint32(word ^ np.uint32(word >> _11))
        word = np.uint32(word ^ (np.uint32(word << _7) & _MASK1))
        word = np.uint32(word ^ (np.uint32(word << _15) & _MASK2))
        store_scalar(words, first + i, np.uint32(word ^ np.uint32(word >> _18)))
