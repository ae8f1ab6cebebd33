"""Whether attributes of an object hold values and do no more: then it makes no difference how often they are read."""

from __future__ import annotations

import inspect
from types import MemberDescriptorType
from typing import Any
from weakref import WeakKeyDictionary

GETTING = ("__getattribute__", "__getattr__")
_known: WeakKeyDictionary[type, dict[tuple[str, ...], bool]] = WeakKeyDictionary()


def hold_values(holder: Any, names: tuple[str, ...]) -> bool:
    """Whether these are attributes that the class of an object has no property, or other code, for."""
    of_class = _known.setdefault(type(holder), {})
    if names not in of_class:
        of_class[names] = _hold_values(type(holder), names)
    return of_class[names]


def _hold_values(made: type, names: tuple[str, ...]) -> bool:
    if has_any_of(made, GETTING):
        return False
    found = [inspect.getattr_static(made, name, None) for name in names]
    # What a class has for its __slots__ gets the value, and does no more.
    return all(isinstance(one, MemberDescriptorType) or not hasattr(type(one), "__get__") for one in found)


def has_any_of(made: type, special: tuple[str, ...]) -> bool:
    """Whether a class has special methods of these names that are not `object`'s."""
    return any(getattr(made, name, None) is not getattr(object, name, None) for name in special)
