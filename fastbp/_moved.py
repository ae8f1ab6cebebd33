"""Import paths that have moved go on working for one release, with a warning."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved(old: str, new: str) -> Callable[[str], Any]:
    """The `__getattr__` of the module `old`, whose names are in the module `new` now."""

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(new), name)
        shown = new.partition("._")[0]
        warnings.warn(f"{old}.{name} is now in {shown}", DeprecationWarning, stacklevel=2)
        return value

    return attribute
