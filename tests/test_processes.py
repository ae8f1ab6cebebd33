"""Children train and finish, however they began; the same seed gives the same bits."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp import MLP, Adam, Trainer

X, T = np.random.default_rng(0).standard_normal((300, 64)), np.arange(300) % 10


def trained(seed):
    """Threads are used in it: the batch is large enough."""
    network = MLP((64, 128, 10), dtype="float64", seed=seed)
    Trainer(network, Adam(1e-3), batch_size=100).fit(X, T, iterations=30, progress=False)
    return network.parameters


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_pools_of_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    expected = [trained(seed) for seed in range(4)]  # a parallel kernel ran before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(trained, range(4))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_bits_in_another_process():
    code = "import test_processes as t; import hashlib; print(hashlib.sha256(t.trained(1).tobytes()).hexdigest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1
