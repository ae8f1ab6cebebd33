"""How the modules here come by the kernels: the same way as the book's own, under `fastbp run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from ..dropin.acceleration import KINDS, VERSION, fast_function, patch_methods
from ..dropin.fast_functions import FUNCTIONS
from ..dropin.fast_layers import dropping_first_gradient as drops_the_first
from ..dropin.known_versions import COMPAT, KnownVersion

__all__ = ["accelerated", "drops_the_first"]

Definition = TypeVar("Definition", bound=Callable[..., Any])


def accelerated(definition: Definition) -> Definition:
    """A class or function that does what the book's of the same name does, on the kernels where they take its arguments."""
    name: str = definition.__name__
    if isinstance(definition, type):
        patch_methods(definition, KINDS[name], vars(sys.modules[definition.__module__]))
        return definition
    if name in FUNCTIONS:
        return fast_function(definition, KnownVersion(name, COMPAT))  # type: ignore[return-value]
    setattr(definition, VERSION, KnownVersion(name, COMPAT))
    return definition
