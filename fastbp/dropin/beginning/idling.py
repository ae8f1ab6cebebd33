"""Classes whose every call is left to NumPy, as their arrays are small: their own methods are put back for the time.

Looking at the size of an array takes 0.1 to 0.3 us, and a script that trains a tiny network, or checks gradients number by
number, makes a million calls. Whatever may change the sizes brings the accelerated methods back: another object of the
class, unless there are many, or a large array in the method that is still looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ..objects.marks import in_place_of

_all: weakref.WeakSet[Idling] = weakref.WeakSet()


def wake_all() -> None:
    """Bring back the accelerated methods of all classes."""
    for one in list(_all):
        one.large()


class NeverIdling:
    """In the place of Idling for a function, or a method that somebody else looks after."""

    def small(self, name: str) -> None:
        pass

    def large(self) -> None:
        pass


class Idling:
    """How many calls of a class's methods in a row have been left to NumPy by their size.

    It depends on the calls alone, so that a script runs the same way every time.
    """

    MOST, OF_ANOTHER_OBJECT = 3000, 50

    def __init__(self, made: type, own: Mapping[str, Callable[..., Any]]):
        self._made, self._own = made, own
        self._calls, self._most = 0, self.MOST
        self._accelerated: dict[str, Any] = {}
        self._put_back: dict[str, Any] = {}
        self._init: Any = None
        self._objects, self._wakes_at = 0, 1
        _all.add(self)

    def watch(self, name: str) -> None:
        """The class's method of that name is the accelerated one now."""
        self._accelerated[name] = vars(self._made)[name]

    def small(self, name: str) -> None:
        """A call of the method `name` was left to NumPy: after many, its own method runs without a look at the sizes."""
        self._calls += 1
        if self._calls >= self._most and self._put_own(name):
            self._calls = 0
            self._watch_for_objects()

    def rest(self) -> None:
        """The class is none that kernels are for, it seems: until they begin, no call of it is looked at."""
        for name in self._accelerated:
            self._put_own(name)

    def _put_own(self, name: str) -> bool:
        """Put the class's own method back; not where somebody has put another there."""
        accelerated = self._accelerated.get(name)
        if vars(self._made).get(name) is not accelerated:
            return False
        self._put_back[name] = accelerated
        setattr(self._made, name, self._own[name])
        return True

    def large(self) -> None:
        """A call was not: everything is looked at again."""
        self._calls = 0
        if self._put_back:
            self._objects, self._wakes_at, self._most = 0, 1, self.MOST
            self._wake()

    def _wake(self) -> None:
        self._calls = 0
        if self._put_back:
            for name, accelerated in self._put_back.items():
                if vars(self._made).get(name) is self._own[name]:  # else somebody has patched it meanwhile
                    setattr(self._made, name, accelerated)
            self._put_back = {}
            if self._init is not None and vars(self._made).get("__init__") is self._init:
                self._unwatch()

    def _watch_for_objects(self) -> None:
        if self._init is not None or self._made.__init__ is object.__init__:  # type: ignore[misc]
            return  # it takes no arguments, where __new__ may
        self._had_init, own = "__init__" in vars(self._made), self._made.__init__  # type: ignore[misc]

        @in_place_of(own)
        def __init__(layer: Any, *arguments: Any, **named: Any) -> None:
            self._see_object()
            own(layer, *arguments, **named)

        self._before, self._init = own, __init__
        self._made.__init__ = __init__  # type: ignore[misc]

    def _see_object(self) -> None:
        """Another object may have larger arrays: everything is looked at again, after the 1st, 2nd, 4th, 8th, ... of them.

        Some scripts make new layers in each step. Every call of theirs was looked at: a recurrent one took 1.10 of Python's
        time, and takes 1.05.
        """
        self._objects += 1
        if self._objects >= self._wakes_at:
            self._wakes_at, self._most = 2 * self._wakes_at, self.OF_ANOTHER_OBJECT
            self._wake()

    def _unwatch(self) -> None:
        if self._had_init:
            self._made.__init__ = self._before  # type: ignore[misc]
        else:
            del self._made.__init__  # type: ignore[misc]
        self._init = None
