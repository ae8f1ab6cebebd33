"""The classes whose methods are patched, and what others may ask of them (see `patching`)."""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class Accelerated(Protocol):
    """A class whose methods are patched."""

    own: Any

    @property
    def is_decided(self) -> bool:
        """Whether it is known what its methods are."""

    def is_decided_by_text(self) -> bool:
        """Whether it is known by the book's text, without a trial: if so, it is decided now."""

    def decide(self, layer: Any, arguments: tuple[Any, ...]) -> Any:
        """Find out what they are, for a call of forward."""

    def is_ours(self, layer: Any, *arguments: Any) -> bool:
        """Whether kernels are known to take the calls of forward, or are likely to: here is one that is to be made."""

    def forms_of(self, name: str) -> tuple[Any, ...]:
        """The forms that the method of that name has been found to be; none where it is the class's own."""

    def methods_of(self, name: str) -> tuple[Any, ...]:
        """The functions that may stand in the class under that name."""


_accelerated: weakref.WeakKeyDictionary[type, weakref.ref[Accelerated]] = weakref.WeakKeyDictionary()


def note(made: type, accelerated: Accelerated) -> None:
    """That a class's methods are patched. They keep `accelerated`, and that keeps the class: here nothing may."""
    _accelerated[made] = weakref.ref(accelerated)


def accelerated_of(made: type) -> Accelerated | None:
    reference = _accelerated.get(made)
    return None if reference is None else reference()
