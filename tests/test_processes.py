"""Children train and finish, however they began; the same seed gives the same bits."""

import multiprocessing
import os
import shutil
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


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib")
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(trained)(seed) for seed in range(4))
    for seed, one in enumerate(found):
        np.testing.assert_array_equal(one, trained(seed))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="only root can become another user",
)
@pytest.mark.slow
def test_another_user_may_run_what_root_installed(tmp_path):
    """Who may read anything, wherever Python was installed, but has no place to write to: kernels are compiled in memory."""
    nobody = "--reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    code = "import test_processes as t; print(t.trained(1).sum())"
    environment = {**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("FASTBP_CACHE_DIR", None)
    done = subprocess.run(
        ["setpriv", *nobody.split(), sys.executable, "-W", "error", "-c", code], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{trained(1).sum()}\n"), done.stderr


def test_the_same_seed_gives_the_same_bits_in_another_process():
    code = "import test_processes as t; import hashlib; print(hashlib.sha256(t.trained(1).tobytes()).hexdigest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1
