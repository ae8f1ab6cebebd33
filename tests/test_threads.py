import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastbp import MLP, Affine, Convolution, Trainer, set_num_threads
from fastbp.kernels import threads
from fastbp.kernels.compiler import kernel
from fastbp.kernels.threads import most_parts, share, take


@kernel
def _relay(thread, count, control, turns):
    """One part adds its number in each stage; a stage that began too early would read what is not written yet."""
    for turn in range(len(turns) - 1):
        part = take(control, turn + 1, count, thread, count, -1)
        while part >= 0:
            if turn % count == part:
                turns[turn + 1] = turns[turn] * 3 + part
            part = take(control, turn + 1, count, thread, count, part)


def relayed(turns, count):
    expected = [0]
    for turn in range(turns - 1):
        expected.append((expected[-1] * 3 + turn % count) % 2**64)
    return np.array(expected, np.uint64)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_stage_begins_when_the_one_before_it_is_done(count):
    turns = np.zeros(3000, np.uint64)
    threads.run(_relay, count, turns)
    np.testing.assert_array_equal(turns, relayed(3000, count))


@kernel
def _count(thread, count, control, parts, times):
    for stage in range(1, len(times) // parts + 1):
        part = take(control, stage, parts, thread, count, -1)
        while part >= 0:
            times[(stage - 1) * parts + part] += stage
            part = take(control, stage, parts, thread, count, part)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_part_of_each_stage_is_done_once(count):
    most = most_parts.py_func(count)
    for parts in (1, count, most - 1, most):
        times = np.zeros(200 * parts, np.int64)
        threads.run(_count, count, parts, times)
        np.testing.assert_array_equal(times, np.repeat(np.arange(1, 201), parts))


@pytest.fixture
def helpers(monkeypatch):
    """Helpers that never come: what they were called for is in the list instead."""
    calls = []
    monkeypatch.setattr(threads._Helper, "call", lambda self, control, function, *task: calls.append((function, task)))
    monkeypatch.setattr(threads._Helper, "take_back", lambda self: None)
    return calls


def test_a_helper_that_does_not_come_is_not_waited_for(helpers):
    turns = np.zeros(100, np.uint64)
    threads.run(_relay, 3, turns)
    np.testing.assert_array_equal(turns, relayed(100, 3))
    assert len(helpers) == 2


def test_networks_and_layers_are_the_same_where_helpers_do_not_come(request):
    rng = np.random.default_rng(0)
    images, W, b = rng.standard_normal((9, 2, 60, 60)), rng.standard_normal((5, 2, 3, 3)), np.zeros(5)
    x, V, c = images.reshape(9, -1), rng.standard_normal((7200, 70)), np.zeros(70)
    zeros = x * (rng.random(x.shape) < 0.1)

    def results():
        convolution, affine, sparse = Convolution(W, b), Affine(V, c), Affine(V, c)
        yield train(0)
        for layer, batch in ((convolution, images), (affine, x), (sparse, zeros)):
            out = layer.forward(batch)
            yield from (out, layer.backward(out), layer.dW, layer.db)

    set_num_threads(3)
    try:
        expected = list(results())
        calls = request.getfixturevalue("helpers")
        found = list(results())
    finally:
        set_num_threads(None)
    assert len({function for function, _ in calls}) >= 8
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_helper_that_comes_late_does_nothing(helpers):
    turns = np.zeros(100, np.uint64)
    threads.run(_relay, 2, turns)
    turns[:] = 7
    for function, task in helpers:
        function(*task)
    assert (turns == 7).all()


@kernel
def _hold(thread, count, control, flags):
    """Two stages: the helper does a part of the first, and then waits for flags[2]; the other does all the rest."""
    for stage in range(1, 3):
        while stage == 2 and thread > 0 and threads.atomic_load(flags, 2) == 0:
            threads.yield_processor()
        part = take(control, stage, count, thread, count, -1)
        while part >= 0:
            flags[thread] = 1
            while threads.atomic_load(flags, 1 - thread) == 0:
                threads.yield_processor()
            part = take(control, stage, count, thread, count, part)


def test_a_helper_that_is_still_at_an_earlier_call_is_left_out():
    flags, turns = np.zeros(3, np.int64), np.zeros(3000, np.uint64)
    threads.run(_relay, 3, turns)
    assert soon(lambda: all(helper.is_free for helper in threads._team.helpers))
    threads.run(_hold, 2, flags)  # its helper does not end
    late = [helper for helper in threads._team.helpers if not helper.is_free]
    for _ in range(3):
        threads.run(_relay, 3, turns)
        np.testing.assert_array_equal(turns, relayed(3000, 3))
    assert len(late) == 1
    assert not late[0].is_free
    flags[2] = 1
    assert soon(lambda: late[0].is_free)
    threads.run(_relay, 2, turns)
    np.testing.assert_array_equal(turns, relayed(3000, 2))


def test_a_call_that_was_not_begun_is_taken_back(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    threads._team.forget()
    turns = np.zeros(100, np.uint64)
    before = sys.getrefcount(turns)
    for _ in range(3):
        threads.run(_relay, 3, turns)
        np.testing.assert_array_equal(turns, relayed(100, 3))
        assert sys.getrefcount(turns) == before
        assert all(helper.is_free for helper in threads._team.helpers)
    threads._team.forget()


def test_ctrl_c_in_the_middle_of_calling_a_helper(monkeypatch):
    def call(self, *task):
        self._task, self.is_free = task, False
        raise KeyboardInterrupt

    turns, before = np.zeros(100, np.uint64), threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(threads._Helper, "call", call)
        with pytest.raises(KeyboardInterrupt):
            threads.run(_relay, 2, turns)
    assert soon(lambda: threading.active_count() <= before)
    assert not turns.any()
    threads.run(_relay, 2, turns)
    np.testing.assert_array_equal(turns, relayed(100, 2))


@pytest.mark.parametrize("begun", [False, True])
def test_a_thread_may_end_while_its_helper_is_at_a_call(begun):
    started, going_on, before = threading.Event(), threading.Event(), threading.active_count()

    def task():
        started.set()
        going_on.wait(10)

    helper = threads._Helper()
    helper.call(np.ones(threads.TAKEN, np.int64), task)
    if begun:
        started.wait(10)
    helper.end()
    going_on.set()
    assert soon(lambda: threading.active_count() <= before)


def test_threads_that_wait_for_one_that_never_comes_give_up():
    def interrupted(thread, count, control, turns):
        if thread == 0:
            raise KeyboardInterrupt
        _relay(thread, count, control, turns)

    interrupted.overloads, interrupted.compile = {}, lambda signature: None  # as a kernel has them
    before = threading.active_count()
    turns = np.zeros(10, np.uint64)
    with pytest.raises(KeyboardInterrupt):
        threads.run(interrupted, 3, turns)
    assert not turns.any()
    assert soon(lambda: threading.active_count() <= before)


def soon(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_helpers_stay_for_the_next_call_and_end_with_their_thread():
    def calls():
        for _ in range(20):
            threads.run(_relay, 4, np.zeros(30, np.uint64))
            counts.append(threading.active_count())

    before, counts = threading.active_count(), []
    caller = threading.Thread(target=calls)
    caller.start()
    caller.join()
    assert max(counts) <= before + 4
    del caller
    assert soon(lambda: threading.active_count() <= before)


def test_calls_of_changing_numbers_of_threads_follow_each_other_at_once():
    for count in (2, 5, 1, 3, 2, 4) * 50:
        turns = np.zeros(7, np.uint64)
        threads.run(_relay, count, turns)
        expected = 0
        for turn in range(6):
            expected = expected * 3 + turn % count
        assert turns[6] == expected


def test_a_helper_that_sleeps_is_woken():
    for pause in (0, 0.0003, 0.02, 0):
        time.sleep(pause)
        turns = np.zeros(4, np.uint64)
        threads.run(_relay, 3, turns)
        assert turns[3] == 5


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_shares_cover_everything_once(count, parts):
    @kernel
    def shares(count, thread, parts):
        return share(count, thread, parts)

    pieces = [range(*shares(count, thread, parts)) for thread in range(parts)]
    assert [i for piece in pieces for i in piece] == list(range(count))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def train(seed, steps=150):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((300, 64)).astype(np.float32), rng.integers(0, 10, 300)
    network = MLP((64, 64, 64, 10), seed=seed, dtype="float64")
    Trainer(network, batch_size=64).fit(x, t, iterations=steps, progress=False)
    return network.parameters


def test_networks_trained_in_many_python_threads_are_those_trained_one_by_one():
    alone = [train(seed) for seed in range(16)]
    together = [None] * 16
    workers = [threading.Thread(target=lambda s=seed: together.__setitem__(s, train(s))) for seed in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(alone, together)


BESIDE_OTHERS = f"""
import sys, threading, numba, numpy as np
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import train

@numba.njit(parallel=True)
def total(numbers):
    result = 0.0
    for i in numba.prange(len(numbers)):
        result += numbers[i]
    return result

try:
    total(np.ones(9))
except ValueError as error:
    sys.exit(f"not here: {{error}}")
expected, found = [train(seed) for seed in range(4)], [None] * 4
workers = [threading.Thread(target=lambda seed=seed: found.__setitem__(seed, train(seed))) for seed in range(4)]
for worker in workers:
    worker.start()
while any(worker.is_alive() for worker in workers):
    assert total(np.ones(10_000)) == 10_000
assert np.array_equal(found, expected)
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_beside_parallel_functions_of_the_users_own(layer):
    """Which use one of Numba's threading layers; our kernels use none, whichever it is."""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BESIDE_OTHERS], env=environment, timeout=300, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    if "not here" in result.stderr:
        pytest.skip(f"the layer {layer} is not installed")
    assert (result.returncode, result.stdout) == (0, f"{layer}\n"), result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_forked_child_trains():
    code = f"""
import os, sys, numpy as np
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import train
expected = train(0)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(train(0), expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], timeout=120, check=False, stderr=subprocess.PIPE
    )
    assert result.returncode == 0, result.stderr


def test_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert threads.available_threads() == 1
    set_num_threads(3)
    try:
        assert threads.available_threads() == 3
    finally:
        set_num_threads(None)
    assert threads.available_threads() == 1
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"count must be at least 1, got {wrong}"):
            set_num_threads(wrong)


@pytest.mark.parametrize("wrong", ["abc", "0", "-1", "2.5"])
def test_a_wrong_environment_variable_is_named(monkeypatch, wrong):
    monkeypatch.setenv("NUMBA_NUM_THREADS", wrong)
    with pytest.raises(ValueError, match=f"NUMBA_NUM_THREADS must be a whole number above 0, got '{wrong}'"):
        threads.available_threads()


def groups(folder, lines, limits):
    """A file as /proc/self/cgroup, and a tree as /sys/fs/cgroup."""
    (folder / "own").write_text(lines)
    for name, text in limits.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(text)
    return threads.quota.__wrapped__(str(folder / "groups"), str(folder / "own"))


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


def test_threads_stay_within_the_limit_of_a_container(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "quota", lambda: 1)
    assert threads.available_threads() == 1


def test_processors_are_divided_unless_somebody_has_said_otherwise(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "quota", lambda: 100)
    for environment, affinity, expected in (("", 8, 2), ("5", 8, 5), ("", 3, 3)):
        monkeypatch.setenv("NUMBA_NUM_THREADS", environment)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=affinity: set(range(n)), raising=False)
        monkeypatch.setattr(threads, "_chosen", None)
        threads.divide_processors(3)
        assert threads.available_threads() == expected


def test_the_result_does_not_depend_on_the_number_of_threads():
    results = []
    for count in (1, 2, 4):
        threads.set_threads(count)
        try:
            results.append(train(0))
        finally:
            threads.set_threads(None)
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(results[2], results[0], rtol=0, atol=1e-12)


def test_sigint_in_the_middle_of_threaded_training_leaves_no_threads():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((300, 64)).astype(np.float32), rng.integers(0, 10, 300)
    trainer = Trainer(MLP((64, 64, 64, 10), seed=0), batch_size=64)
    trainer.fit(x, t, iterations=1, progress=False)
    before = threading.active_count()
    for delay in (0.05, 0.11, 0.2, 0.31):
        threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.warns(RuntimeWarning, match="interrupted"):
            history = trainer.fit(x, t, iterations=10**8, progress=False, evaluate_every=None)
        assert np.isfinite(history.losses).all()
    assert soon(lambda: threading.active_count() <= before)
