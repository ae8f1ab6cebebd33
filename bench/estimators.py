"""How much faster fastbp.sklearn's estimators train than scikit-learn's: MNIST, and 20 tables of 1,000 to 20,000 rows.

    python -m bench.estimators

Needs the extras `sklearn` and `cli`. Each fit runs in a process of its own, the two libraries in turn, after a short first
fit; the losses of both must be the same. Seconds are medians of the rounds, gains medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from typing import Any

WORKER = """
import importlib, json, sys, time, warnings
import numpy as np
from sklearn.datasets import make_classification, make_regression

library, task = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])
warnings.simplefilter("ignore")
if task["data"] == "MNIST":
    from fastbp.datasets import load_mnist
    (x, y), test = load_mnist()
else:
    rows, features, outputs = task["data"]
    if outputs > 1:
        x, y = make_classification(rows, features, n_informative=5, n_classes=outputs, random_state=0)
    else:
        x, y = make_regression(rows, features, n_informative=5, noise=10, random_state=0)
        y = y / y.std()
    x, test = np.asarray(x, task["dtype"]), None
kind = library.MLPRegressor if task["data"] != "MNIST" and outputs == 1 else library.MLPClassifier
options = {"random_state": 0, "tol": 0, "n_iter_no_change": 10**6, **task["options"]}
kind(**{**options, "max_iter": 2}).fit(x, y)
start = time.perf_counter()
model = kind(**options).fit(x, y)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "losses": model.loss_curve_, "score": model.score(*(test or (x, y)))}))
"""
ROWS, FEATURES, OUTPUTS = (1000, 2000, 5000, 10_000, 20_000), (10, 30, 75, 200), (2, 1, 5, 3)


def tables(epochs: int, dtype: str) -> list[dict[str, Any]]:
    """20 tasks with scikit-learn's defaults: binary, of several classes, regression (1 output)."""
    return [
        {"data": (rows, features, OUTPUTS[(i + j) % 4]), "dtype": dtype, "options": {"max_iter": epochs}}
        for (i, rows), (j, features) in itertools.product(enumerate(ROWS), enumerate(FEATURES))
    ]


def mnist(epochs: int) -> list[dict[str, Any]]:
    options = {"hidden_layer_sizes": [100], "batch_size": 200, "max_iter": epochs}
    return [
        {"data": "MNIST", "dtype": "float32", "options": {**options, "solver": solver}} for solver in ("sgd", "adam")
    ]


def measure(task: dict[str, Any], rounds: int) -> tuple[float, float, float, list[float]]:
    """Seconds of scikit-learn and of fastbp, the gain, the scores of both."""
    pairs = [[_fit(library, task) for library in ("sklearn.neural_network", "fastbp.sklearn")] for _ in range(rounds)]
    tolerance = 1e-6 if task["dtype"] == "float64" else 0.05
    for plain, fast in pairs:
        difference = max(abs(a - b) for a, b in zip(plain["losses"], fast["losses"], strict=True))
        assert difference <= tolerance, f"{task}: the losses differ by {difference}"
    seconds = [[one["seconds"] for one in way] for way in zip(*pairs, strict=True)]
    gain = statistics.median(plain / fast for plain, fast in zip(*seconds, strict=True))
    plain, fast = map(statistics.median, seconds)
    return plain, fast, gain, [one["score"] for one in pairs[0]]


def _fit(library: str, task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, library, json.dumps(task)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.estimators", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30, help="of each fit to a table")
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"), help="of the tables")
    parser.add_argument("--only", choices=("mnist", "tables"))
    options = parser.parse_args()
    tasks = [] if options.only == "tables" else mnist(10)
    tasks += [] if options.only == "mnist" else tables(options.epochs, options.dtype)
    gains = []
    print("| data | scikit-learn | fastbp | gain | scores |\n| --- | --- | --- | --- | --- |")
    for task in tasks:
        plain, fast, gain, scores = measure(task, options.rounds)
        name = (
            f"MNIST, {task['options']['solver']}" if task["data"] == "MNIST" else "{:,} x {}, {}".format(*task["data"])
        )
        print(f"| {name} | {plain:.2f} s | {fast:.2f} s | {gain:.1f} | {scores[0]:.4f} {scores[1]:.4f} |", flush=True)
        if task["data"] != "MNIST":
            gains.append(gain)
    if gains:
        print(f"geometric mean of the tables: {math.exp(statistics.fmean(map(math.log, gains))):.2f}")


if __name__ == "__main__":
    main()
