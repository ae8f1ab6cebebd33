"""Whether calls are shared between threads is found by taking both ways in turn."""

from __future__ import annotations

import pytest

from fastbp.kernels.runtime import tuning
from fastbp.kernels.runtime.tuning import BLOCKS, CALLS, HELD, Tuning


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass from call to call, by whether calls are shared: a list, which a test may change."""
    now, seconds = [0.0], [1.0, 1.0]
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    def call(of):
        shares = of.next_call()
        now[0] += seconds[shares]
        return shares

    return call, seconds, now


TRIED = 2 * BLOCKS * CALLS


@pytest.mark.parametrize(("alone", "shared", "expected"), [(1.0, 0.9, True), (1.0, 1.1, False), (1.0, 1.0, False)])
def test_what_takes_less_time_is_held(clock, alone, shared, expected):
    call, seconds, _ = clock
    seconds[:] = alone, shared
    of = Tuning()
    tried = [call(of) for _ in range(TRIED)]
    assert sum(tried) == TRIED // 2
    assert tried[:CALLS] == [False] * CALLS
    assert [call(of) for _ in range(HELD)] == [expected] * HELD
    assert of.is_second is expected


def test_it_is_tried_again(clock):
    call, seconds, _ = clock
    of = Tuning()
    seconds[:] = 1.0, 0.5
    for _ in range(TRIED + HELD):
        call(of)
    seconds[:] = 1.0, 2.0  # another program has come to use the other processor
    tried = [call(of) for _ in range(TRIED)]
    assert sum(tried) == TRIED // 2
    assert not call(of)


def test_what_a_program_does_now_and_then_does_not_count(clock):
    call, seconds, now = clock
    seconds[:] = 1.0, 0.9
    of = Tuning()
    for count in range(TRIED):
        call(of)
        if count in (3 * CALLS + 3, 5 * CALLS + 3):
            now[0] += 1000.0  # an evaluation, say, in two blocks of shared calls
    assert call(of)
