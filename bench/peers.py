"""fastbp beside what people use instead, on the same data, weights and number of updates: `fastbp bench`.

All contenders alternate within each round, so that a slow moment of the machine meets all of them; the tables show
medians over the rounds, their spread, and the ratio to fastbp in float32. Compiling and loading are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastbp._progress import progress_bar
from fastbp.datasets import load_mnist

from . import conv_contenders
from .contenders import installed
from .kernel_pairs import CELLS, kernel_pair
from .measure import interleaved, repeated, seconds, summary

BASE = "fastbp float32"
RECIPE_PARTS = [1] + [600] * 16 + [399]  # an evaluation follows each but the last: after iterations 0, 600, ... 9600
GRID = [
    ((784, 50, 10), 1),
    ((784, 50, 10), 100),
    ((784, 128, 10), 128),
    ((784, 512, 10), 256),
    ((784, 1024, 10), 1024),
    ((784, 256, 256, 256, 10), 128),
    ((64, 64, 64, 10), 64),
]
MNIST_CELLS = 3  # the first cells of the grid, once more on MNIST
CELL_SECONDS = 0.25  # about how long one measurement of a cell runs
CONV_BATCH = 100
PARTS = ("recipe", "grid", "conv", "kernels")


def recipe(rounds: int) -> dict[str, Any]:
    """The MNIST recipe of the book: 10,000 updates of 784-50-10 with batch 100, 17 evaluations on 70,000 images."""
    (x, t), (x_test, t_test) = load_mnist()
    sizes, t, t_test = (784, 50, 10), t.astype(np.int64), t_test.astype(np.int64)
    accuracies = {}

    def once(name, make):
        contender = make(sizes, x, t)
        train, test = contender.prepare(x), contender.prepare(x_test)
        random = np.random.RandomState(0)
        for length in set(RECIPE_PARTS) if contender.compiles_for_each_length else {2}:
            contender.steps(random.randint(0, len(x), (length, 100)))
        contender.correct(train, t)
        contender.correct(test, t_test)

        def run():
            for length in RECIPE_PARTS:
                contender.steps(random.randint(0, len(x), (length, 100)))
                if length != RECIPE_PARTS[-1]:
                    right = contender.correct(train, t), contender.correct(test, t_test)
            accuracies[name] = [right[0] / len(t), right[1] / len(t_test)]

        return seconds(run)

    measurements = {name: lambda n=name, m=make: once(n, m) for name, make in installed(recipe=True).items()}
    measurements["dense floor"] = dense_floor
    with progress_bar("recipe", rounds * len(measurements)) as advance:
        measured = interleaved(measurements, rounds, counted(advance))
    return {"times": summary(measured, BASE), "accuracies": accuracies}


def counted(advance: Callable[[int, str], None]) -> Callable[[str], None]:
    """advance(done, status), by counting."""
    done = 0

    def count(name: str) -> None:
        nonlocal done
        done += 1
        advance(done, name)

    return count


def dense_floor() -> float:
    """The recipe's multiplications at the rate at which OpenBLAS multiplies large float32 matrices on all cores."""
    a = np.ones((2048, 2048), np.float32)
    per_second = 2 * 2048**3 / min(seconds(np.matmul, a, a) for _ in range(5))
    per_image = 784 * 50 + 50 * 10
    training = 10_000 * 100 * 2 * (2 * per_image + 50 * 10)
    return (training + 17 * 70_000 * 2 * per_image) / per_second


def grid(rounds: int) -> dict[str, Any]:
    """One training step of each network of the grid, by contender."""
    cells, steps = {}, list(grid_cells())
    with progress_bar("training steps", len(steps)) as advance:
        for number, (name, *setting) in enumerate(steps):
            advance(number, name)
            cells[name] = summary(cell(*setting, rounds), BASE)
    return with_best_peer(cells)


def grid_cells() -> Iterator[tuple[Any, ...]]:
    rng = np.random.default_rng(0)
    for sizes, batch in GRID:
        rows = max(2000, 2 * batch)
        x, t = rng.random((rows, sizes[0]), np.float32) / 10, rng.integers(0, sizes[-1], rows)  # no loss diverges
        yield f"{'-'.join(map(str, sizes))}, batch {batch}", sizes, batch, x, t
    (x, t), _ = load_mnist()
    for sizes, batch in GRID[:MNIST_CELLS]:
        yield f"{'-'.join(map(str, sizes))}, batch {batch}, MNIST", sizes, batch, x, t.astype(np.int64)


def cell(sizes, batch, x, t, rounds):
    """Seconds for one training step, by contender."""
    random = np.random.RandomState(0)
    contenders = {name: make(sizes, x, t) for name, make in installed(recipe=False).items()}
    counts = {}
    for name, contender in contenders.items():
        contender.steps(random.randint(0, len(x), (3, batch)))
        probe = min(seconds(contender.steps, random.randint(0, len(x), (3, batch))) for _ in range(2)) / 3
        counts[name] = int(np.clip(CELL_SECONDS / probe, 3, 5000))
        contender.steps(random.randint(0, len(x), (counts[name], batch)))

    def once(name):
        return seconds(contenders[name].steps, random.randint(0, len(x), (counts[name], batch))) / counts[name]

    return interleaved({name: lambda n=name: once(n) for name in contenders}, rounds)


def conv(rounds: int) -> dict[str, Any]:
    """One training step of each of the book's convolutional networks, by contender."""
    rng, cells = np.random.default_rng(0), {}
    x = rng.random((20 * CONV_BATCH, 1, 28, 28), np.float32)
    t = rng.integers(0, 10, len(x))
    with progress_bar("convolutional networks", len(conv_contenders.NETWORKS)) as advance:
        for number, network in enumerate(conv_contenders.NETWORKS):
            advance(number, network)
            contenders = {name: make(network, x, t) for name, make in conv_contenders.installed().items()}
            measured = interleaved(
                {name: one_step(contender, len(x), rng) for name, contender in contenders.items()}, rounds
            )
            cells[f"{network}, batch {CONV_BATCH}"] = summary(measured, BASE)
    return with_best_peer(cells)


def one_step(contender: Any, rows: int, rng: Any) -> Callable[[], float]:
    """A measurement of a step, in calls of several that take about CELL_SECONDS."""

    def steps(count):
        return seconds(contender.steps, rng.integers(0, rows, (count, CONV_BATCH)))

    steps(3)
    count = int(np.clip(CELL_SECONDS / (steps(2) / 2), 1, 100))
    return lambda: steps(count) / count


def kernels(rounds: int) -> dict[str, Any]:
    """Single kernels in float32 beside NumPy's own products and elementwise passes."""
    cells = {}
    with progress_bar("kernels", len(CELLS)) as advance:
        for number, (name, shape) in enumerate(CELLS):
            title = f"{name} {'x'.join(map(str, shape))}"
            advance(number, title)
            ours, theirs = kernel_pair(name, shape)
            pair = {BASE: repeated(ours, CELL_SECONDS), "NumPy": repeated(theirs, CELL_SECONDS)}
            cells[title] = summary(interleaved(pair, rounds), BASE)
    return with_best_peer(cells)


def with_best_peer(cells: dict[str, Any]) -> dict[str, Any]:
    """For each cell, how many times as long the best peer takes; and their geometric mean."""
    best = {name: min(v["times_fastbp"] for peer, v in cell.items() if peer != BASE) for name, cell in cells.items()}
    return {"cells": cells, "best_peer": best, "geometric_mean": float(np.exp(np.mean(np.log(list(best.values())))))}


def measure(parts: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """The parts, of "recipe", "grid", "conv" and "kernels", measured: what --json saves."""
    work = {"recipe": recipe, "grid": grid, "conv": conv, "kernels": kernels}
    return {"rounds": rounds, **{part: work[part](rounds) for part in parts}}


def carry_out(parts: tuple[str, ...], rounds: int, json: Path | None, plot: Path | None) -> None:
    """Measure, show the tables, save the figures and the picture."""
    from fastbp.cli._report import print_all, write_json

    from .picture import plot_results, tables

    content = measure(parts, rounds)
    if str(json) != "-":
        print_all(*tables(content, BASE))
    if json is not None:
        write_json(json, content)
    if plot is not None:
        plot_results(content, BASE, plot)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender is measured")
    parser.add_argument("--json", type=Path, help="save all figures here; - prints them, and nothing else")
    parser.add_argument("--plot", type=Path, help="save a picture here")
    parser.add_argument("--only", choices=PARTS, help="measure one part only")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    carry_out((options.only,) if options.only else PARTS, options.rounds, options.json, options.plot)


if __name__ == "__main__":
    main()
