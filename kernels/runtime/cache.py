"""The disk cache of compiled kernels.

Numba's own cache notices an edit to a kernel but not to a function it calls in another file (numba issue #1833),
so after an upgrade it can run stale machine code. Here everything that shapes the machine code is in the name of
the cache directory: the content of all kernel files, the versions of Python, NumPy, Numba and llvmlite, the
processor, the vector width and the compiler switches. Nothing stale can be found, so nothing has to be invalidated.

Cache files are pickles of machine code: as trusted as the program itself. They are kept in a directory that only the
user can write, carry a checksum, and appear in one step; where any of that fails the kernels are compiled in memory.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import stat
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import caching, compiler, config, serialize

from .private import CACHE_PIECES, has_pieces
from .processors import VECTOR_BYTES

_DIGEST_BYTES = hashlib.sha256().digest_size
_KERNELS = Path(__file__).parents[1]


class KernelCache(getattr(caching, "_Cache", object)):
    """One file for each kernel and signature. Any fault, of reading or of writing, is a miss and never an error."""

    def __init__(self, directory: Path, name: str):
        self._directory = directory
        self._name = name

    @property
    def cache_path(self):
        return str(self._directory)

    def load_overload(self, sig, target_context):
        """The kernel, or None. Machine code needs none of what Numba knows of Python's functions: `refresh`, with which
        its own cache begins, would load it all, 0.35 s; whoever compiles after this calls that himself.
        """
        self._wait_for_others()
        try:
            payload = _read_checked(self._path(sig, target_context.codegen()))
            return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:
            return None

    def _wait_for_others(self):
        """Until another process that compiles kernels of this name, if one does, has written the first, or has ended."""
        is_at_it = _expected.pop(self._name, None)
        while is_at_it is not None and not self.count() and is_at_it():
            time.sleep(0.005)

    def save_overload(self, sig, data):
        if any(not lifted.can_cache for lifted in data.lifted) or data.library.has_dynamic_globals:
            return
        try:
            _write_checked(self._path(sig, data.codegen), serialize.dumps(data._reduce()))
        except Exception:
            return

    def enable(self):
        pass

    def disable(self):
        pass

    def flush(self):
        pass

    def count(self) -> int:
        return sum(1 for _ in self._directory.glob(f"{self._name}-*.kernel"))

    def _path(self, sig, codegen) -> Path:
        signature = hashlib.sha256(repr((sig, codegen.magic_tuple())).encode()).hexdigest()[:24]
        return self._directory / f"{self._name}-{signature}.kernel"


_expected = {}  # names of kernels, and whether somebody is still at work on them


def expect_kernels(names, is_at_it):
    """Let the first need of each of these kernels, of which the cache has none, wait for another process as long as
    is_at_it() says that it goes on."""
    _expected.update(dict.fromkeys(names, is_at_it))


def read_entry(name: str) -> bytes | None:
    """What `write_entry` has kept for this version under a name; None if there is nothing, or something damaged."""
    try:
        return _read_checked(cache_directory() / name)
    except Exception:
        return None


def write_entry(name: str, content: bytes) -> None:
    """Keep something beside the kernels that was made at some cost; where it cannot be written, nothing is kept."""
    try:
        _write_checked(cache_directory() / name, content)
    except Exception:
        return


def _read_checked(path: Path) -> bytes:
    """Raises OSError, or ValueError where the file is damaged."""
    content = path.read_bytes()
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if _checksum(path, payload) != digest:
        raise ValueError(f"{path} is damaged")
    return payload


def _write_checked(path: Path, payload: bytes) -> None:
    _write_atomically(path, _checksum(path, payload) + payload)


def _checksum(path: Path, payload: bytes) -> bytes:
    """A checksum of the content and the name: one kernel's file under another's name is no kernel."""
    return hashlib.sha256(path.name.encode() + b"\0" + payload).digest()


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def cache_root() -> Path:
    """The directory above every version's cache: FASTBP_CACHE_DIR, or the platform's place for caches."""
    if chosen := os.environ.get("FASTBP_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fastbp"


@lru_cache(maxsize=1)
def cache_directory() -> Path | None:
    """The private, writable directory of this version's kernels, or None where there can be none."""
    if not has_pieces(CACHE_PIECES, "kernels are not cached"):
        return None
    try:
        directory = cache_root() / fingerprint()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (directory.parent, directory):
            _refuse_unless_private(folder)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, RuntimeError):
        return None


def cached(dispatcher) -> int:
    """For how many signatures this version's cache holds a kernel."""
    cache = dispatcher._cache
    return cache.count() if isinstance(cache, KernelCache) else 0


def _refuse_unless_private(folder: Path) -> None:
    if os.name == "nt":  # permissions there come from the profile directory that holds the folder
        return
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others")


def fingerprint() -> str:
    """A digest of everything that decides what machine code a kernel becomes."""
    digest = hashlib.sha256()
    for file in sorted(_KERNELS.rglob("*.py")):
        digest.update(str(file.relative_to(_KERNELS)).encode() + b"\0" + file.read_bytes() + b"\0")
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__, platform.machine())
    switches = (config.CPU_NAME, config.CPU_FEATURES, config.BOUNDSCHECK, config.OPT, config.DEBUGINFO_DEFAULT)
    host = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), VECTOR_BYTES)
    digest.update(repr((versions, switches, host)).encode())
    return digest.hexdigest()[:32]
