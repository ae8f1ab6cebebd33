import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastbp import MLP, Affine, Convolution, Pooling, Trainer, set_num_threads
from fastbp.kernels.runtime import processors, threads
from fastbp.kernels.runtime.chunks import (
    atomic_load,
    chunk_bounds,
    chunks,
    claimed,
    most_chunks,
    yield_processor,
)
from fastbp.kernels.runtime.compiler import kernel
from fastbp.kernels.runtime.mailbox import FREE, FUNCTION, INSIDE, LINE, STATE
from fastbp.kernels.runtime.threads import parallel_kernel


@parallel_kernel
def _relay(work, turns):
    """One chunk adds its number in each phase; a phase that began too early would read what is not written yet."""
    count = work[1]
    for turn in range(len(turns) - 1):
        for chunk in claimed(work, turn + 1, count):
            if turn % count == chunk:
                turns[turn + 1] = turns[turn] * 3 + chunk


def relayed(turns, count):
    expected = [0]
    for turn in range(turns - 1):
        expected.append((expected[-1] * 3 + turn % count) % 2**64)
    return np.array(expected, np.uint64)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_phase_begins_when_the_one_before_it_is_done(count):
    turns = np.zeros(3000, np.uint64)
    threads.run(_relay, count, turns)
    np.testing.assert_array_equal(turns, relayed(3000, count))


@parallel_kernel
def _count(work, chunk_count, times):
    for phase in range(1, len(times) // chunk_count + 1):
        for chunk in claimed(work, phase, chunk_count):
            times[(phase - 1) * chunk_count + chunk] += phase


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_chunk_of_each_phase_is_done_once(count):
    most = most_chunks.py_func(count)
    for chunk_count in (1, count, most - 1, most):
        times = np.zeros(200 * chunk_count, np.int64)
        threads.run(_count, count, chunk_count, times)
        np.testing.assert_array_equal(times, np.repeat(np.arange(1, 201), chunk_count))


@parallel_kernel
def _add_up(work, numbers, sums):
    for first, end in chunks(work, 1, len(numbers)):
        for i in range(first, end):
            sums[i] += numbers[i]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 4, 5, 1000])
def test_chunks_cover_everything_once(count, length):
    numbers, sums = np.arange(length), np.zeros(length, np.int64)
    for times in range(1, 4):
        threads.run(_add_up, count, numbers, sums)
        np.testing.assert_array_equal(sums, times * numbers)


def test_a_kernel_is_compiled_for_each_dtype_inside_a_tuple():
    @parallel_kernel
    def first(work, pair):
        for chunk in claimed(work, 1, 2):
            pair[0][chunk] = pair[1]

    for dtype in (np.float32, np.float64) * 2:
        out = np.zeros(2, dtype)
        threads.run(first, 2, (out, dtype(1)))
        assert out.tolist() == [1, 1]
    assert len(first.signatures) == 2


@pytest.fixture
def absent(monkeypatch):
    """Workers that never come; the addresses of the calls that were published for them."""
    published = set()
    original = threads.run

    def call(self, count, original=threads._Pool.call):
        published.update(self.mailboxes[FUNCTION::LINE].tolist())
        return original(self, count)

    monkeypatch.setattr(threads, "_work", lambda *_: None)
    monkeypatch.setattr(threads._Pool, "call", call)
    threads._pool.reset()
    yield published
    threads._pool.reset()
    assert threads.run is original


def test_a_worker_that_does_not_come_is_not_waited_for(absent):
    turns = np.zeros(100, np.uint64)
    threads.run(_relay, 3, turns)
    np.testing.assert_array_equal(turns, relayed(100, 3))
    assert threads._pool.mailboxes[FUNCTION::LINE].all()
    assert (threads._pool.mailboxes[STATE::LINE] == FREE).all()


def test_networks_and_layers_are_the_same_where_workers_do_not_come(request):
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
        pooling = Pooling(2, 2)
        pooled = pooling.forward(images.repeat(4, axis=1))
        yield from (pooled, pooling.backward(pooled))

    set_num_threads(3)
    try:
        expected = list(results())
        published = request.getfixturevalue("absent")
        found = list(results())
    finally:
        set_num_threads(None)
    assert len(published) >= 8
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_worker_that_comes_late_does_nothing(monkeypatch):
    late = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: late.append(self))
        threads._pool.reset()
        turns = np.zeros(100, np.uint64)
        threads.run(_relay, 2, turns)
    turns[:] = 7
    for worker in late:
        worker.start()
    time.sleep(0.05)
    assert (turns == 7).all()
    turns[0] = 0
    threads.run(_relay, 2, turns)
    np.testing.assert_array_equal(turns, relayed(100, 2))


@parallel_kernel
def _hold(work, flags):
    """Two phases: the worker does a chunk of the first, and then waits for flags[2]; the other does all the rest."""
    thread, count, _ = work
    for phase in range(1, 3):
        while phase == 2 and thread > 0 and atomic_load(flags, 2) == 0:
            yield_processor()
        for _ in claimed(work, phase, count):
            flags[thread] = 1
            while atomic_load(flags, 1 - thread) == 0:
                yield_processor()


def test_a_worker_that_is_still_at_an_earlier_call_is_left_out():
    turns = np.zeros(3000, np.uint64)
    threads._pool.reset()
    threads.run(_hold, 3, np.ones(3, np.int64))  # compiled: workers fall asleep meanwhile, and this one has to come
    threads.run(_relay, 3, turns)
    pool, flags = threads._pool, np.zeros(3, np.int64)
    assert soon(lambda: not any(worker.state == INSIDE for worker in pool.workers))
    kept, control = np.zeros(1), pool.control
    before, before_kept = sys.getrefcount(flags), sys.getrefcount(kept)
    threads.run(_hold, 2, flags, kept=[kept])  # its worker does not end
    found = control.copy()
    late = [worker for worker in pool.workers if worker.state == INSIDE]
    assert len(late) == 1
    assert sys.getrefcount(flags) > before  # the worker still needs it
    assert sys.getrefcount(kept) > before_kept
    for _ in range(3):
        threads.run(_relay, 3, turns)
        np.testing.assert_array_equal(turns, relayed(3000, 3))
    assert late[0].state == INSIDE
    np.testing.assert_array_equal(control, found)  # later calls have another one
    flags[2] = 1
    assert soon(lambda: late[0].state != INSIDE)
    threads.run(_relay, 2, turns)
    np.testing.assert_array_equal(turns, relayed(3000, 2))
    assert soon(lambda: threads.run(_relay, 2, turns) or sys.getrefcount(flags) == before)
    assert sys.getrefcount(kept) == before_kept


def test_a_call_that_was_not_begun_keeps_nothing(absent):
    turns = np.zeros(100, np.uint64)
    before = sys.getrefcount(turns)
    for _ in range(3):
        threads.run(_relay, 3, turns)
        np.testing.assert_array_equal(turns, relayed(100, 3))
        assert sys.getrefcount(turns) == before
        assert all(worker.state == FREE for worker in threads._pool.workers)


@parallel_kernel
def _fail(work, flags):
    """The first thread has a chunk, and raises once another one has come, which then waits for it."""
    for _ in claimed(work, 1, work[1]):
        while work[0] == 0 and atomic_load(flags, 0) == 0:
            yield_processor()
        if work[0] == 0:
            raise ValueError("out of luck")
        flags[0] = 1


def test_threads_that_wait_for_one_that_never_comes_give_up():
    before = threading.active_count()
    for flags in (np.ones(1, np.int64), np.zeros(1, np.int64)):  # once to compile it: meanwhile workers fall asleep
        with pytest.raises(ValueError, match="out of luck"):
            threads.run(_fail, 3, flags)
    assert not threads._pool.workers
    assert soon(lambda: threading.active_count() <= before)
    turns = np.zeros(100, np.uint64)
    threads.run(_relay, 2, turns)
    np.testing.assert_array_equal(turns, relayed(100, 2))


def test_ctrl_c_after_a_call_leaves_nobody_inside():
    def interrupted(call, *arguments):
        _relay(call, *arguments)
        raise KeyboardInterrupt

    before, turns = threading.active_count(), np.zeros(100, np.uint64)
    with pytest.raises(KeyboardInterrupt):
        threads.run(interrupted, 2, turns)
    np.testing.assert_array_equal(turns, relayed(100, 2))
    assert soon(lambda: threading.active_count() <= before)


def test_a_thread_may_end_while_its_worker_is_at_a_call():
    threads.run(_hold, 2, np.ones(3, np.int64))
    flags, before = np.zeros(3, np.int64), threading.active_count()
    references = sys.getrefcount(flags)
    caller = threading.Thread(target=lambda: threads.run(_hold, 2, flags))
    caller.start()
    caller.join()
    del caller
    time.sleep(0.02)
    assert sys.getrefcount(flags) > references  # the worker's, which is still at it
    flags[2] = 1
    assert soon(lambda: threading.active_count() <= before)
    assert soon(lambda: sys.getrefcount(flags) == references)


def soon(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_workers_stay_for_the_next_call_and_end_with_their_thread():
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


def test_a_worker_that_sleeps_is_woken():
    for pause in (0, 0.0003, 0.02, 0):
        time.sleep(pause)
        turns = np.zeros(4, np.uint64)
        threads.run(_relay, 3, turns)
        assert turns[3] == 5


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("chunk_count", [1, 2, 3])
def test_the_bounds_of_chunks_cover_everything_once(count, chunk_count):
    @kernel
    def bounds(count, chunk, chunk_count):
        return chunk_bounds(count, chunk, chunk_count)

    pieces = [range(*bounds(count, chunk, chunk_count)) for chunk in range(chunk_count)]
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


def test_the_result_does_not_depend_on_the_number_of_threads():
    results = []
    for count in (1, 2, 4):
        processors.set_threads(count)
        try:
            results.append(train(0))
        finally:
            processors.set_threads(None)
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
