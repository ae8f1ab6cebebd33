"""Training steps beside the same network in plain C, by one thread and by two, where there is a C compiler.

    python -m bench.plain_c

784-50-10, batches of 100 images of MNIST, float32, gradient descent. plain_c.c is written for this network and this data
alone; what a step takes there says how much of fastbp's could be saved. Both train in turn, from the same weights on the
same batches, and the first losses are compared. Microseconds are medians of the rounds, and so is the ratio.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import fastbp
from fastbp.datasets import load_mnist

from .contenders import LEARNING_RATE, Fastbp, initial_weights
from .measure import interleaved, seconds

COMPARED = 100  # losses, before rounding has led the two apart
SIZES, BATCH, BLOCK = (784, 50, 10), 100, 98
SOURCE = Path(__file__).with_suffix(".c")
COMPILER = os.environ.get("CC", "cc")
# Sums in any order, as fastbp's; -ffast-math would make subnormal numbers 0 in the whole process that loads the library.
OPTIONS = [
    "-O3", "-march=native", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-shared",
    "-fPIC", "-pthread",
]  # fmt: skip


class _Work(ctypes.Structure):
    """As in plain_c.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("entries", "starts", "numbers", "labels", "batches")),
        *((name, ctypes.c_int32) for name in ("steps", "threads")),
        ("rate", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("W1", "b1", "W2", "b2", "losses")),
    )


class PlainC:
    """The network in C. x: (N, 784), of at most 256 different numbers, none below 0; t: labels (N,)."""

    def __init__(self, x, t, threads, library):
        numbers, codes = np.unique(x, return_inverse=True)
        if len(numbers) > 256 or numbers[0] != 0:
            raise ValueError(f"x must have at most 256 different numbers, the least of them 0, got {len(numbers)}")
        self._train, self._threads = library.train_steps, threads
        codes = codes.reshape(x.shape)
        rows, columns = np.nonzero(codes)
        counts = np.add.reduceat(codes > 0, np.arange(0, x.shape[1], BLOCK), axis=1, dtype=np.int32)
        weights = initial_weights(SIZES, "float32")
        padded = {name: _padded(value, library.lanes()) for name, value in weights.items()}
        self.parameters = {name: padded[name][..., : value.shape[-1]] for name, value in weights.items()}
        self._arrays = {
            "entries": (columns % BLOCK | codes[rows, columns] << 8).astype(np.uint16),
            "starts": np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
            "numbers": numbers.astype(np.float32),
            "labels": t.astype(np.int64),
            **padded,
        }

    def steps(self, batches):
        """One update for each row of `batches` (steps, BATCH) -> the losses before them."""
        losses = np.empty(len(batches))
        arrays = {**self._arrays, "batches": batches.astype(np.int64), "losses": losses}
        places = {name: array.ctypes.data for name, array in arrays.items()}
        work = _Work(**places, steps=len(batches), threads=self._threads, rate=LEARNING_RATE)
        if self._train(ctypes.byref(work)):
            raise OSError("no second thread could be started")
        return losses


def _padded(array, lanes):
    """With zeros behind each row, up to whole vectors."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % lanes)])


@cache
def compiled():
    """plain_c.c, compiled for this processor. Raises OSError where there is no compiler, or it fails."""
    sizes = dict(zip(("FEATURES", "HIDDEN", "CLASSES"), SIZES, strict=True), BATCH=BATCH, BLOCK=BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "plain_c.so"
        command = [COMPILER, *OPTIONS, *(f"-D{name}={size}" for name, size in sizes.items())]
        try:
            subprocess.run([*command, "-o", library, SOURCE, "-lm"], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise OSError(f"{COMPILER} failed: {error.stderr.strip()}") from error
        return ctypes.CDLL(str(library))


def measure(threads, steps, rounds):
    """Seconds of a step, of each round, by contender. Raises ValueError where the losses of the two differ."""
    (x, t), _ = load_mnist()
    x = np.asarray(x, np.float32)
    contenders = {"fastbp": Fastbp(SIZES, x, t.astype(np.int64)), "plain C": PlainC(x, t, threads, compiled())}
    batches, losses = np.random.default_rng(0).integers(0, len(x), (steps, BATCH)), {name: [] for name in contenders}

    def once(name):
        return seconds(lambda: losses[name].append(contenders[name].steps(batches))) / steps

    fastbp.set_num_threads(threads)
    try:
        measured = interleaved({name: lambda n=name: once(n) for name in contenders}, rounds + 1)
    finally:
        fastbp.set_num_threads(None)
    ours, theirs = (found[0][:COMPARED] for found in losses.values())
    if not np.allclose(ours, theirs, rtol=1e-4):
        raise ValueError("the losses of fastbp and of plain C differ")
    return {name: values[1:] for name, values in measured.items()}  # the first has compiled, or loaded


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.plain_c", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="of a run")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    try:
        compiled()
    except OSError as error:  # there is none, or it fails
        parser.exit(1, f"no C compiler, which CC may name: {error}\n")
    print("| threads | fastbp | plain C | time of fastbp |\n| --- | --- | --- | --- |")
    for threads in (1, 2):
        found = measure(threads, options.steps, options.rounds)
        ours, theirs = (statistics.median(values) * 1e6 for values in found.values())
        ratio = statistics.median(one / other for one, other in zip(*found.values(), strict=True))
        print(f"| {threads} | {ours:.0f} us | {theirs:.0f} us | {ratio:.2f} |")


if __name__ == "__main__":
    main()
