"""NumPy's global generator: what np.random.rand draws, from its state in memory, by a kernel.

The state is where the generator says that it is (`ctypes.state_address`, which is there for Numba and others to use). If
what lies there is not what `get_state` says, or somebody has put another generator or function in its place, NumPy draws.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

RAND = np.random.rand
WORDS = 625  # 624 of the state, and how many of them have been used


def uniform(shape: tuple[int, ...], kernels: Any) -> Any:
    """np.random.rand(*shape): the same numbers, and the same state afterwards. kernels: a backend's."""
    generator, state = _drawn_from()
    if state is None:
        return np.random.rand(*shape)
    with generator.lock:
        draws = kernels.random_doubles(state, math.prod(shape))
    return draws.reshape(shape)


def saved_state() -> Callable[[], None] | None:
    """What brings the global generator back to the state that it is in now; None where the numbers come from elsewhere."""
    _, state = _drawn_from()
    return None if state is None else functools.partial(np.copyto, state, state.copy())


def random_state() -> Any:
    """The state of the global generator, whichever it is; for `np.random.set_state`."""
    return np.random.get_state(legacy=False)


def in_arrays(state: Any) -> list[Any]:
    """What of a state says which numbers have been drawn, to compare: of an MT19937 its words, and how many are used up."""
    parts = state["state"].values()
    return [one if isinstance(one, np.ndarray) else np.frombuffer(repr(one).encode(), np.uint8) for one in parts]


@contextmanager
def ordinary_generator() -> Iterator[None]:
    """The global functions draw from an MT19937 in the `with` block, and go on as before after it."""
    before = getattr(np.random, "get_bit_generator", _generator)()
    if isinstance(before, np.random.MT19937):
        state = random_state()
        try:
            yield
        finally:
            np.random.set_state(state)
        return
    put: Any = vars(np.random)["set_bit_generator"]  # as old as `get_bit_generator`
    put(np.random.MT19937(0))
    try:
        yield
    finally:
        put(before)


def _drawn_from() -> tuple[Any, Any]:
    """The global generator and its state, None where np.random.rand draws from something else."""
    generator = _generator()
    return generator, None if generator is None or np.random.rand is not RAND else _state(generator)


def _generator() -> Any:
    """What the global functions draw from, if it is an MT19937; older versions of NumPy cannot have another one."""
    get = getattr(np.random, "get_bit_generator", None)
    generator = get() if get is not None else np.random.mtrand._rand._bit_generator
    return generator if type(generator) is np.random.MT19937 else None


@functools.lru_cache(maxsize=2)
def _state(generator: Any) -> Any:
    """The generator's state in its own memory, (625,) uint32; None if something else is found there."""
    address = generator.ctypes.state_address
    memory: Any = (ctypes.c_uint32 * WORDS).from_address(address)
    state = np.frombuffer(memory, np.uint32)
    stated = generator.state["state"]
    is_it = np.array_equal(state[:-1], stated["key"]) and state[-1] == stated["pos"]
    return state if is_it else None
