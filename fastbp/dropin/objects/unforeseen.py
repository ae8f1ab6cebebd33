"""What nobody foresaw. Somebody's code may be of any kind: where looking at it goes wrong, it is left, and runs as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Settings:
    raises = False  # in tests, which are to show it


settings = _Settings()


def reason_for(error: Exception) -> str:
    """Why what was looked at is left, after an error in looking."""
    if settings.raises:
        raise error
    return text_of(error)


def text_of(error: Exception) -> str:
    return f"looking into it raised {type(error).__name__}: {error}"


def or_else(default: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function that looks at somebody's code or objects: it gives `default` where that goes wrong."""

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def looking(*arguments: P.args, **named: P.kwargs) -> R:
            try:
                return function(*arguments, **named)
            except Exception as error:
                reason_for(error)
                return default

        return looking

    return decorated
