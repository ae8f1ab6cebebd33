"""fastbp beside what people use instead, on the same data, weights and number of updates: `python -m bench.peers`.

All contenders take turns within each round, so that a slow moment of the machine meets all of them; the table shows
medians over the rounds, their spread, and the ratio to fastbp in float32. Compiling and loading are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from bench.contenders import installed
from fastbp.datasets import load_mnist

BASE = "fastbp numba:float32"
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


def seconds(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def interleaved(measurements, rounds):
    """measurements: name -> a function that returns seconds. Returns name -> the list of `rounds` results."""
    results = {name: [] for name in measurements}
    for number in range(rounds):
        names = list(measurements)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            results[name].append(measurements[name]())
    return results


def recipe(rounds):
    """The MNIST recipe of the book: 10,000 updates of 784-50-10 with batch 100, 17 evaluations on 70,000 images."""
    (x, t), (x_test, t_test) = load_mnist()
    sizes, t, t_test = (784, 50, 10), t.astype(np.int64), t_test.astype(np.int64)
    accuracies = {}

    def once(name, make):
        contender = make(sizes, x, t)
        train, test = contender.prepare(x), contender.prepare(x_test)
        random = np.random.RandomState(0)
        contender.steps(random.randint(0, len(x), (2, 100)))

        def run():
            for length in RECIPE_PARTS:
                contender.steps(random.randint(0, len(x), (length, 100)))
                if length != RECIPE_PARTS[-1]:
                    right = contender.correct(train, t), contender.correct(test, t_test)
            accuracies[name] = [right[0] / len(t), right[1] / len(t_test)]

        warm(contender, random, len(x), set(RECIPE_PARTS), train, t, test, t_test)
        return seconds(run)

    def warm(contender, random, samples, lengths, train, t, test, t_test):
        if type(contender).__name__ == "Jax":  # compiles for each length
            for length in lengths:
                contender.steps(random.randint(0, samples, (length, 100)))
        contender.correct(train, t)
        contender.correct(test, t_test)

    makers = installed(recipe=True)
    measured = interleaved({name: lambda n=name, m=make: once(n, m) for name, make in makers.items()}, rounds)
    measured["dense floor"] = [dense_floor() for _ in range(rounds)]
    return measured, accuracies


def dense_floor():
    """The recipe's multiplications at the rate at which OpenBLAS multiplies large float32 matrices on all cores."""
    a = np.ones((2048, 2048), np.float32)
    per_second = 2 * 2048**3 / min(seconds(np.matmul, a, a) for _ in range(5))
    per_image = 784 * 50 + 50 * 10
    training = 10_000 * 100 * 2 * (2 * per_image + 50 * 10)
    return (training + 17 * 70_000 * 2 * per_image) / per_second


def grid_cells():
    rng = np.random.default_rng(0)
    for sizes, batch in GRID:
        rows = max(2000, 2 * batch)
        x, t = rng.standard_normal((rows, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], rows)
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


def summary(measured):
    base = statistics.median(measured[BASE])
    return {
        name: {
            "median_seconds": statistics.median(values),
            "min_seconds": min(values),
            "max_seconds": max(values),
            "times_fastbp": statistics.median(values) / base,
        }
        for name, values in measured.items()
    }


def grid_verdict(cells):
    """For each cell, how many times as long the best peer takes; and their geometric mean."""
    ratios = {
        name: min(entry["times_fastbp"] for peer, entry in cell.items() if peer != BASE) for name, cell in cells.items()
    }
    return ratios, float(np.exp(np.mean(np.log(list(ratios.values())))))


def show(title, entries, unit=1.0, suffix="s", extra=None):
    print(f"\n{title}")
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["median_seconds"]):
        values = [entry[key] * unit for key in ("median_seconds", "min_seconds", "max_seconds")]
        line = f"  {name:26} {values[0]:9.3f} {suffix}  [{values[1]:.3f} .. {values[2]:.3f}]  {entry['times_fastbp']:6.2f}x"
        print(line + (f"  {extra[name][0]:.4f} / {extra[name][1]:.4f}" if extra and name in extra else ""))


def plot(content, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    entries = sorted(content["recipe"].items(), key=lambda item: -item[1]["median_seconds"])
    left.barh([name for name, _ in entries], [entry["median_seconds"] for _, entry in entries], color="#4c72b0")
    for index, (_, entry) in enumerate(entries):
        left.text(entry["median_seconds"], index, f" {entry['median_seconds']:.1f} s", va="center")
    left.set(title="MNIST recipe, seconds", xlim=(0, entries[0][1]["median_seconds"] * 1.15))
    cells = content["grid"]
    peers = [name for name in next(iter(cells.values())) if name != BASE]
    for index, peer in enumerate(peers):
        heights = np.arange(len(cells)) + (index - len(peers) / 2) * 0.8 / len(peers)
        right.barh(heights, [cell[peer]["times_fastbp"] for cell in cells.values()], 0.8 / len(peers), label=peer)
    right.axvline(1, color="black", linewidth=1)
    right.set(title="One training step: time over fastbp's", xscale="log", yticks=range(len(cells)))
    right.set_yticklabels(list(cells))
    right.invert_yaxis()
    right.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender is measured")
    parser.add_argument("--json", type=Path, help="save all figures here")
    parser.add_argument("--plot", type=Path, help="save a picture here")
    parser.add_argument("--only", choices=["recipe", "grid"], help="measure one part only")
    options = parser.parse_args(arguments)
    content = {"recipe": {}, "accuracies": {}, "grid": {}}
    if options.only != "grid":
        measured, content["accuracies"] = recipe(options.rounds)
        content["recipe"] = summary(measured)
        show("MNIST recipe, training and 17 evaluations", content["recipe"], extra=content["accuracies"])
    if options.only != "recipe":
        for name, *setting in grid_cells():
            content["grid"][name] = summary(cell(*setting, options.rounds))
            show(f"One step of {name}", content["grid"][name], 1e6, "us")
        ratios, mean = grid_verdict(content["grid"])
        print("\nThe best peer's time over fastbp's:")
        for name, ratio in ratios.items():
            print(f"  {name:40} {ratio:6.2f}x")
        print(f"  {'geometric mean':40} {mean:6.2f}x")
        content["geometric_mean"] = mean
    if options.json:
        options.json.write_text(json.dumps(content, indent=1))
    if options.plot and content["recipe"] and content["grid"]:
        plot(content, options.plot)


if __name__ == "__main__":
    main()
