"""Training on a machine that is busy with other things: the time of a step beside so many processes that never pause.

    python -m bench.busy

784-50-10, batches of 100, float32, 81 % zeros as in MNIST: in NumPy, in one thread, and in as many as there are
processors. Milliseconds are medians of runs, all three ways in turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

import numpy as np

import fastbp

WAYS = {"NumPy": ("numpy", None), "one thread": ("numba", 1), "all processors": ("numba", None)}


def measure(busy: int, seconds: float, rounds: int) -> dict[str, float]:
    """Milliseconds of a training step in each of WAYS, beside `busy` processes."""
    rng = np.random.default_rng(0)
    x, t = rng.random((2000, 784), np.float32), rng.integers(0, 10, 2000)
    x[rng.random(x.shape) < 0.81] = 0
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        for _ in range(rounds):
            for way, (backend, threads) in WAYS.items():
                fastbp.set_num_threads(threads)
                network = fastbp.MLP((784, 50, 10), backend=backend, seed=0)
                trainer = fastbp.Trainer(network, batch_size=100)
                spent, steps = 0.0, 0
                trainer.fit(x, t, iterations=1, evaluate_every=None, progress=False)
                while spent < seconds:
                    spent += trainer.fit(x, t, iterations=50, evaluate_every=None, progress=False).train_seconds
                    steps += 50
                times[way].append(1000 * spent / steps)
    finally:
        fastbp.set_num_threads(None)
        for process in processes:
            process.kill()
            process.wait()
    return {way: statistics.median(found) for way, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.busy", description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2, 4], help="processes beside this one")
    parser.add_argument("--seconds", type=float, default=1, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"| busy processes | {' | '.join(WAYS)} |\n| --- | --- | --- | --- |")
    for busy in options.busy:
        found = measure(busy, options.seconds, options.rounds)
        print(f"| {busy} | {' | '.join(f'{found[way]:.2f} ms' for way in WAYS)} |")


if __name__ == "__main__":
    main()
