"""What is noted of the functions that fastbp puts in the place of somebody's own.

It is kept in an attribute, and `functools.wraps` copies attributes to whatever a script wraps around such a function. So a
mark says which function it is of, and counts for that one alone: what a script wraps is the script's own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

_ATTRIBUTE = "__fastbp__"


@dataclass(frozen=True)
class Mark:
    """function: the one that it is of; own: whose place that takes; version: which of the book's functions it is;
    network: which of a network's methods (see `reading.network_methods`)."""

    function: Any = None
    own: Any = None
    version: Any = None
    network: Any = None


_NONE = Mark()


def mark_of(function: Any) -> Mark:
    """What is noted of a function; nothing of anything else."""
    mark = vars(function).get(_ATTRIBUTE) if isinstance(function, FunctionType) else None
    return mark if isinstance(mark, Mark) and mark.function is function else _NONE


def mark(function: Callable[..., Any], **facts: Any) -> None:
    """Note facts of a function, beside those that are noted."""
    setattr(function, _ATTRIBUTE, replace(mark_of(function), function=function, **facts))


def in_place_of(own: Any) -> Callable[[Any], Any]:
    """Decorates a function that takes the place of `own`: as `functools.wraps`, and noted; what `own` is, it is, too."""

    def decorated(function: Any) -> Any:
        functools.update_wrapper(function, own)
        noted = mark_of(own)
        mark(function, own=own, version=noted.version, network=noted.network)
        return function

    return decorated


def own_of(function: Any) -> Any:
    """The script's own function, whose place this takes; what is none of fastbp's is its own."""
    while (own := mark_of(function).own) is not None:
        function = own
    return function


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """As `function` takes its arguments: of what a script has wrapped around another, its own, not that of the other."""
    return inspect.signature(own_of(function), follow_wrapped=False)
