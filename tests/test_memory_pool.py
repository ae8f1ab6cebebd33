"""Memory of results that is used again: nobody's array is written to, and what is not needed any more is given back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks_cases import IMAGES, LABELS, RNG, conv_net, trained

import fastbp
from fastbp import nn
from fastbp.kernels.runtime.arrays import SMALLEST_POOLED, MemoryPool, _sizes, empty

FLOAT64 = np.dtype(np.float64)


def kept_bytes(pool):
    return sum(size * len(blocks) for size, blocks in pool._blocks.items())


def test_memory_is_used_again_and_results_stay_as_they_are():
    network = conv_net([nn.Conv(16, 3, pad=1), nn.Relu(), nn.MaxPool(2), nn.Affine(4)], backend="numba")
    kept, x = [], RNG.random((200, 2, 8, 8))
    with network._engine.memory:
        for _ in range(4):
            out = network.layers["Convolution1"].forward(x)
            kept.append((out, out.copy()))
            x = x + 1
    for out, copied in kept:
        np.testing.assert_array_equal(out, copied)
    del kept, out, copied
    fastbp.set_num_threads(1)  # what a worker that is late still reads is held, too, for as long as that lasts
    pool, counts = network._engine.memory, []
    try:
        with pool:
            for _ in range(30):
                network.layers["Convolution1"].forward(x)
                counts.append(kept_bytes(pool))
    finally:
        fastbp.set_num_threads(None)
    assert counts[-1] == counts[9]  # by then there is enough for what is held at a time


@given(st.lists(st.integers(SMALLEST_POOLED // 8, 200_000), min_size=2, max_size=60))
def test_batches_of_any_size_share_memory(sizes):
    """One array at a time: a block or two of each octave will do, whatever sizes come."""
    pool = MemoryPool()
    for size in sizes:
        with pool:
            empty(size, FLOAT64)[...] = 1
    assert kept_bytes(pool) < 5 * 8 * max(sizes)


@given(st.integers(1, 1 << 40))
def test_blocks_are_at_least_as_large_as_asked_and_at_most_twice(size):
    sizes = _sizes(size)
    assert size <= sizes[0] <= size * 9 / 8 + 1
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] >= 2 * sizes[0]
    assert _sizes(sizes[0]) == sizes  # rounded is rounded


def test_what_has_long_not_been_used_is_given_back():
    pool = MemoryPool()
    with pool:
        first = [empty(1 << 20, FLOAT64) for _ in range(3)]
    del first
    for _ in range(200):
        with pool:
            small = empty(1 << 14, FLOAT64)
    with pool:
        other = empty(1 << 15, FLOAT64)
    assert kept_bytes(pool) < 1 << 20
    pool.release()
    assert kept_bytes(pool) == (small.nbytes + other.nbytes)
    small[...], other[...] = 1, 2  # still theirs
    assert (small == 1).all()


def test_training_gives_back_its_memory():
    network = conv_net([nn.Conv(16, 3, pad=1), nn.Relu(), nn.MaxPool(2), nn.Affine(4)], backend="numba")
    trained(network, 3, {"batch_size": 60})
    held = kept_bytes(network._engine.memory)  # what layers still refer to
    network.gradient(IMAGES[:1], LABELS[:1])
    network._engine.release()
    assert kept_bytes(network._engine.memory) < held


@pytest.mark.parametrize("nested", [False, True])
def test_pools_are_of_the_thread_that_is_within_them(nested):
    pool, other, seen = MemoryPool(), MemoryPool(), []

    def work():
        seen.append(kept_bytes(pool))
        with pool:
            arrays.append(empty(1 << 15, FLOAT64))
            inside.set()
            leave.wait(30)
        empty(1 << 15, FLOAT64)

    inside, leave, arrays = threading.Event(), threading.Event(), []
    thread = threading.Thread(target=work)
    with other if nested else pool:
        thread.start()
        inside.wait(30)
        arrays.append(empty(1 << 15, FLOAT64))
    outside = empty(1 << 15, FLOAT64)
    leave.set()
    thread.join()
    assert seen == [0]
    assert kept_bytes(pool) + kept_bytes(other) == 2 * (1 << 18)
    assert not any(np.shares_memory(outside, array) for array in arrays)
