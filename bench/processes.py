"""Training in several processes: the time of a step on 1 and on more, and what the all-reduce alone takes.

    python -m bench.processes

Needs the extra `mpi` and an MPI (`pip install mpich`). Each process uses one thread. Dense random input of 784 columns,
float32; seconds are medians of steps, runs of all numbers of processes in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

WORKER = """
import json, sys, time
import numpy as np
from mpi4py import MPI
import fastbp

hidden, batch, steps = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
rank, processes = world.Get_rank(), world.Get_size()
rng, rows = np.random.default_rng(rank), 8192 // processes
x, t = rng.standard_normal((rows, 784)).astype(np.float32), rng.integers(0, 10, rows)
network = fastbp.MLP((784, hidden, 10), weight_init_std="he", seed=0)
trainer = fastbp.Trainer(network, fastbp.SGD(1e-3), batch_size=batch, communicator=world if processes > 1 else None)
trainer.fit(x, t, iterations=2, evaluate_every=None, progress=False)
times, sums, buffer = [], [], np.zeros(len(network.parameters) + 3, np.float32)
for _ in range(3):
    world.Barrier()
    history = trainer.fit(x, t, iterations=steps, evaluate_every=None, progress=False)
    times.append(history.train_seconds / steps)
    start = time.perf_counter()
    for _ in range(5):
        world.Allreduce(MPI.IN_PLACE, buffer)
    sums.append((time.perf_counter() - start) / 5)
if rank == 0:
    print(json.dumps([sorted(times)[1], sorted(sums)[1]]))
"""


def measure(processes: int, hidden: int, batch: int) -> tuple[float, float]:
    """Seconds of a step, seconds of an all-reduce."""
    steps = max(3, min(200, 400_000_000 // (784 * hidden * batch)))
    command = ["mpiexec", "-n", str(processes), sys.executable, "-c", WORKER, *map(str, (hidden, batch, steps))]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    step, reduce = json.loads(done.stdout.splitlines()[-1])
    return step, reduce


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.processes", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    several = options.processes
    print(
        f"| hidden | batch | 1 process | {several} processes | gain | all-reduce |\n| --- | --- | --- | --- | --- | --- |"
    )
    for hidden, batch in ((50, 100), (50, 2048), (256, 256), (1024, 256), (1024, 2048)):
        rounds = [[measure(count, hidden, batch) for count in (1, several)] for _ in range(options.rounds)]
        one, more = (statistics.median(way[0] for way in ways) for ways in zip(*rounds, strict=True))
        gain = statistics.median(first[0] / second[0] for first, second in rounds)
        reduce = statistics.median(second[1] for _, second in rounds)
        cells = f"{1000 * one:.2f} ms | {1000 * more:.2f} ms | {gain:.2f} | {1000 * reduce:.2f} ms"
        print(f"| {hidden} | {batch} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
