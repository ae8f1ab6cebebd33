"""What the report says of a class or function."""

from __future__ import annotations

from dataclasses import dataclass

from .known_versions import KnownVersion


@dataclass
class Found:
    """A class or function that was looked at: whether it was accelerated, how it was known, and what was left and why."""

    file: str
    line: int
    name: str
    version: KnownVersion | None
    accelerated: bool
    reason: str = ""
    how: str = ""
