"""What the kernel cache holds, and emptying it. The cache itself is kernels/runtime/cache.py."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from .backends import kernel_cache

_VERSION = re.compile("[0-9a-f]{32}")  # the name of a version's directory: its fingerprint


@dataclass(frozen=True)
class CachedVersion:
    """The kernels of one version of fastbp, Python, NumPy, Numba, processor, ... `current`: of this process's."""

    directory: Path
    current: bool
    kernels: int
    size: int


def cached_versions() -> tuple[Path, list[CachedVersion]]:
    """The directory above them, and the versions in it, this process's first. Imports Numba."""
    root, own = kernel_cache()
    found = []
    for directory in sorted(root.iterdir() if root.is_dir() else []):
        if not _VERSION.fullmatch(directory.name) or directory.is_symlink():
            continue
        sizes = [file.stat().st_size for file in directory.glob("*.kernel")]
        found.append(CachedVersion(directory, directory.name == own, len(sizes), sum(sizes)))
    return root, sorted(found, key=lambda version: not version.current)


def clear_cache(*, old_only: bool = False) -> int:
    """Delete the kernels of all versions, or of all but this process's; returns how many. Raises OSError.

    Nothing but the cache's own files is deleted. Processes that run keep what they have loaded.
    """
    deleted = 0
    for version in cached_versions()[1]:
        if old_only and version.current:
            continue
        for pattern in ("*.kernel", "*.trial", "*.tmp"):
            for file in version.directory.glob(pattern):
                file.unlink(missing_ok=True)
                deleted += file.suffix == ".kernel"
        with contextlib.suppress(OSError):  # something else is in it, or a process writes to it
            version.directory.rmdir()
    return deleted
