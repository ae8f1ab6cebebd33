"""Timing that a noisy machine does not spoil: contenders alternate within each round, medians and ratios at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

# Seconds: OpenBLAS's threads spin for some 100 ms after a product, on the processor that the next contender's threads need.
# Without a pause affine_forward of 100x784x50 took 82 us, with one of 50 ms 75, with 100 or 200 ms 47.
PAUSE = 0.15


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def interleaved(
    measurements: dict[str, Callable[[], float]], rounds: int, advance: Callable[[str], None] = lambda name: None
) -> dict[str, list[float]]:
    """measurements: name -> a function that returns seconds. Returns name -> the list of `rounds` results.

    advance(name) is called after each measurement.
    """
    results: dict[str, list[float]] = {name: [] for name in measurements}
    names = list(measurements)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(measurements[name]())
            advance(name)
    return results


def repeated(work: Callable[[], Any], about: float) -> Callable[[], float]:
    """A measurement of `work` in seconds a call, the median of as many calls as take about `about` seconds."""
    work()
    probe = min(seconds(work) for _ in range(3))
    calls = int(min(1000, max(3, about / max(probe, 1e-7))))

    def measured() -> float:
        time.sleep(PAUSE)
        return statistics.median(seconds(work) for _ in range(calls))

    return measured


def summary(measured: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median and spread by name, and the median of the ratios to `base`, round by round."""
    return {
        name: {
            "median_seconds": statistics.median(values),
            "min_seconds": min(values),
            "max_seconds": max(values),
            "times_fastbp": statistics.median(value / ours for value, ours in zip(values, measured[base], strict=True)),
        }
        for name, values in measured.items()
    }
