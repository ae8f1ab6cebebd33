"""What the processors offer, and how many of them kernels may use."""

import os

import pytest

from fastbp import set_num_threads
from fastbp.kernels.runtime import processors


def test_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert processors.available_threads() == 1
    set_num_threads(3)
    try:
        assert processors.available_threads() == 3
    finally:
        set_num_threads(None)
    assert processors.available_threads() == 1
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"count must be at least 1, got {wrong}"):
            set_num_threads(wrong)


@pytest.mark.parametrize("wrong", ["abc", "0", "-1", "2.5"])
def test_a_wrong_environment_variable_is_named(monkeypatch, wrong):
    monkeypatch.setenv("NUMBA_NUM_THREADS", wrong)
    with pytest.raises(ValueError, match=f"NUMBA_NUM_THREADS must be a whole number above 0, got '{wrong}'"):
        processors.available_threads()


def groups(folder, lines, limits):
    """A file as /proc/self/cgroup, and a tree as /sys/fs/cgroup."""
    (folder / "own").write_text(lines)
    for name, text in limits.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(text)
    return processors.quota.__wrapped__(str(folder / "groups"), str(folder / "own"))


@pytest.mark.parametrize(
    ("lines", "limits", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 10**9),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 10**9),
        ("0::/\n", {}, 10**9),
        (
            "3:cpu,cpuacct:/box\n2:memory:/box\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 10**9),
    ],
)
def test_the_limit_of_a_container(tmp_path, lines, limits, expected):
    assert groups(tmp_path, lines, limits) == expected


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([("1", "Instruction", "64K"), ("1", "Data", "48K"), ("2", "Unified", "1024K")], 48 * 1024),
        ([("1", "Data", "4K")], processors.SMALLEST_CACHE),
        ([("1", "Data", "much")], processors.USUAL_CACHE),
        ([("2", "Unified", "1024K")], processors.USUAL_CACHE),
        ([("1", "Data", None)], processors.USUAL_CACHE),
        ([], processors.USUAL_CACHE),
    ],
)
def test_the_first_level_cache_is_as_large_as_linux_says(tmp_path, indices, expected):
    for number, values in enumerate(indices):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            if value is not None:
                (folder / name).write_text(f"{value}\n")
    assert processors.first_level_cache.__wrapped__(str(tmp_path)) == expected


def test_threads_stay_within_the_limit_of_a_container(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(processors, "quota", lambda: 1)
    assert processors.available_threads() == 1


def test_processors_are_divided_unless_somebody_has_said_otherwise(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(processors, "_chosen", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "quota", lambda: 100)
    for environment, affinity, expected in (("", 8, 2), ("5", 8, 5), ("", 3, 3)):
        monkeypatch.setenv("NUMBA_NUM_THREADS", environment)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=affinity: set(range(n)), raising=False)
        monkeypatch.setattr(processors, "_chosen", None)
        processors.divide_processors(3)
        assert processors.available_threads() == expected
