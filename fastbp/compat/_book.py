"""How the modules here come by the kernels: the same way as the book's own, under `fastbp run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from ..dropin.objects.marks import mark
from ..dropin.operations.functions import FUNCTIONS
from ..dropin.operations.optimizers import RULES
from ..dropin.patching import fast_function, patch, patch_optimizer
from ..dropin.reading.dropped_gradient import dropping_first_gradient as drops_the_first
from ..dropin.reading.known_versions import COMPAT, KnownVersion

__all__ = ["accelerated", "drops_the_first"]

Definition = TypeVar("Definition", bound=Callable[..., Any])


def accelerated(definition: Definition) -> Definition:
    """A class or function that does what the book's of the same name does, on the kernels where they take its arguments."""
    name: str = definition.__name__
    if name in RULES and isinstance(definition, type):
        patch_optimizer(definition, RULES[name])
        return definition
    if isinstance(definition, type):
        patch(definition, KnownVersion(name, COMPAT), vars(sys.modules[definition.__module__]))
        return definition
    if name in FUNCTIONS:
        return fast_function(definition, KnownVersion(name, COMPAT))  # type: ignore[return-value]
    mark(definition, version=KnownVersion(name, COMPAT))
    return definition
