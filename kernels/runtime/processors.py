"""What the processors offer: the width of their vectors, in bytes, and how many of them we may use.

FASTBP_VECTOR_BYTES=16, 32 or 64 sets another width: every width runs on every machine, LLVM splits or narrows the
vectors that the processor does not have.
"""

from __future__ import annotations

import contextlib
import math
import os
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm

WIDTHS = (16, 32, 64)  # SSE and NEON, AVX2, AVX-512
SMALLEST_CACHE, USUAL_CACHE = 16 * 1024, 32 * 1024  # bytes of the first level


def _vector_bytes() -> int:
    chosen = os.environ.get("FASTBP_VECTOR_BYTES")
    if chosen is None:
        features = llvm.get_host_cpu_features()
        return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    if chosen not in map(str, WIDTHS):
        raise ValueError(f"FASTBP_VECTOR_BYTES must be one of {WIDTHS}, got {chosen!r}")
    return int(chosen)


VECTOR_BYTES = _vector_bytes()
_chosen: int | None = None


def available_threads() -> int:
    """How many threads kernels may use: what set_num_threads set, or NUMBA_NUM_THREADS, or the processors we may use."""
    if _chosen is not None:
        return _chosen
    if chosen := os.environ.get("NUMBA_NUM_THREADS"):
        if not chosen.strip().isdecimal() or int(chosen) < 1:
            raise ValueError(
                f"The environment variable NUMBA_NUM_THREADS must be a whole number above 0, got {chosen!r}"
            )
        return int(chosen)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, quota())


@lru_cache(maxsize=1)
def first_level_cache(directory="/sys/devices/system/cpu/cpu0/cache"):
    """Bytes of a core's first-level cache for data, where Linux says how many; else 32 KB, which nearly all have."""
    for index in Path(directory).glob("index*"):
        with contextlib.suppress(OSError, ValueError):
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
            if (level, kind) == ("1", "Data"):
                return max(SMALLEST_CACHE, int(size.removesuffix("K")) * 1024)
    return USUAL_CACHE


@lru_cache(maxsize=1)
def quota(groups="/sys/fs/cgroup", own="/proc/self/cgroup"):
    """How many processors' time a container may use, rounded up; where nothing limits it, a very large number.

    More threads than that would be stopped in the middle of their work, all others waiting for it.
    """
    limits = [1e9]
    try:
        with open(own) as file:
            paths = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return int(limits[0])
    for _, controllers, path in paths:
        kind = "" if not controllers else f"/{controllers}" if "cpu" in controllers.split(",") else None
        while kind is not None:
            limits += _limits(f"{groups}{kind}{path.rstrip('/')}")
            if not path.strip("/"):
                break
            path = os.path.dirname(path.rstrip("/"))
    return max(1, math.ceil(min(limits)))


def _limits(folder):
    """The quota over the period, of control groups of version 2 or 1, where the folder has one."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = " ".join(Path(folder, name).read_text() for name in files).split()
            if limit != "max" and int(limit) > 0:
                return [int(limit) / int(period)]
    return []


def set_threads(count: int | None) -> None:
    """Use `count` threads at the most; None: as many as there are processors."""
    global _chosen
    _chosen = count
    _threads_of_kernels.cache_clear()


def divide_processors(processes: int) -> None:
    """One of `processes` on this machine uses its share, unless set_threads, NUMBA_NUM_THREADS or a binding said so."""
    free = available_threads()
    if _chosen is None and not os.environ.get("NUMBA_NUM_THREADS") and free == os.cpu_count():
        set_threads(max(1, free // processes))


def threads_for(work: int, least: int) -> int:
    """How many threads to use for so much work, where a second one pays from `least` on."""
    return _threads_of_kernels() if work >= least else 1


@lru_cache(maxsize=1)
def _threads_of_kernels() -> int:
    """`available_threads` at the first call that may use several: looking takes 5 to 10 us within a script's step."""
    return available_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads_of_kernels.cache_clear)
