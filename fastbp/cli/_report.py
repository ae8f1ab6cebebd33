"""How results are shown: tables for the terminal, a picture, a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from .._files import write_atomically
from ..comparison import Comparison, Parity, Run
from ..training._run import Evaluation
from ._check import Check

COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


def comparison_table(comparison: Comparison) -> Table:
    """A run a column: the accuracies of each evaluation, then the seconds and the speed."""
    table = Table(title=_title(comparison))
    table.add_column("iteration", justify="right")
    for run in comparison.runs:
        table.add_column(f"{run.spec}\ntrain / test", justify="right")
    longest = max((run.history.evaluations for run in comparison.runs), key=len, default=[])
    for number, evaluation in enumerate(longest):
        cells = [_accuracies(run.history.evaluations[number : number + 1]) for run in comparison.runs]
        table.add_row(str(evaluation.iteration), *cells)
    if any(run.end for run in comparison.runs):
        table.add_row("end", *(_accuracies([run.end] if run.end else []) for run in comparison.runs))
    table.add_section()
    for name, cells in _timings(comparison):
        table.add_row(name, *cells)
    return table


def _title(comparison: Comparison) -> str:
    recipe = comparison.recipe
    network = [] if recipe.network == "mlp" else [recipe.network]
    hidden = f"hidden {'-'.join(map(str, recipe.hidden))}"
    updates = f"{recipe.iterations} iterations of {recipe.batch_size} samples"
    rate = f"learning rate {recipe.learning_rate:g}"
    return ", ".join([*network, updates, hidden, recipe.activation, recipe.optimizer, rate])


def _accuracies(evaluations: Sequence[Evaluation]) -> str:
    """The accuracies of one evaluation, or of none."""
    return "".join(f"{one.train_accuracy:.4f} / {one.test_accuracy:.4f}" for one in evaluations) or "-"


def _timings(comparison: Comparison) -> list[tuple[str, list[str]]]:
    runs = comparison.runs
    rates = [len(run.history.losses) / max(run.history.train_seconds, 1e-9) for run in runs]
    speedups = [f"{runs[0].seconds / max(run.seconds, 1e-9):.1f}x" for run in runs]
    return [
        ("compiling", [f"{run.compile_seconds:.2f} s" for run in runs]),
        ("training", [f"{run.history.train_seconds:.2f} s" for run in runs]),
        ("evaluating", [f"{run.history.evaluate_seconds:.2f} s" for run in runs]),
        ("iterations / s", [f"{rate:,.0f}" for rate in rates]),
        ("speed-up", speedups),
    ]


def parity_line(parity: Parity) -> RenderableType:
    """One sentence: how far two runs are apart, in red where it is too much."""
    return Text(str(parity), style="green" if parity.ok else "bold red")


def checks_table(checks: Sequence[Check]) -> Table:
    """A subject a row, a comparison a column, with the largest relative error of each."""
    comparisons = list(dict.fromkeys(check.comparison for check in checks))
    table = Table(title="Largest relative errors")
    table.add_column("", no_wrap=True)
    for name in comparisons:
        table.add_column(name, justify="right")
    for subject in dict.fromkeys(check.subject for check in checks):
        found = {check.comparison: check for check in checks if check.subject == subject}
        table.add_row(subject, *(_error_cell(found.get(name)) for name in comparisons))
    return table


def _error_cell(check: Check | None) -> Text:
    if check is None:
        return Text("")
    return Text(f"{check.error:.1e}", style="green") if check.ok else Text(f"{check.error:.1e} FAILED", "bold red")


def costs_table(costs: Sequence[tuple[str, float]]) -> Table:
    """What was compiled, and the seconds it took."""
    table = Table("compiled", Column("seconds", justify="right"))
    for name, seconds in costs:
        table.add_row(name, f"{seconds:.2f}", end_section=name == costs[-1][0])
    table.add_row("all", f"{sum(seconds for _, seconds in costs):.2f}")
    return table


def print_all(*parts: RenderableType) -> None:
    console = Console()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write all of it or nothing; "-" is standard output."""
    text = json.dumps(content, allow_nan=False)
    if str(path) == "-":
        print(text)
    else:
        write_atomically(path, text.encode())


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Loss and accuracy curves of each run and a bar of times, in the format of the path's ending."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, accuracy_axes, time_axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
    for index, run in enumerate(comparison.runs):
        # Runs that agree lie on each other: every later one is thinner, and dashed, so that each can be seen.
        style = {"color": COLORS[index % len(COLORS)], "linewidth": max(1.0, 4 - 1.5 * index)}
        loss_axes.plot(
            *_smoothed(run.history.losses), label=str(run.spec), linestyle=("-", "-", "--")[index % 3], **style
        )
        _plot_accuracies(accuracy_axes, run, style)
    _zoom_on_learning(accuracy_axes, comparison.runs)
    loss_axes.set(title="Loss (mean of 100 iterations)", xlabel="iteration", yscale="log")
    accuracy_axes.set(title="Accuracy (solid: train, dotted: test)", xlabel="iteration")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    _plot_times(time_axes, comparison)
    image = BytesIO()
    figure.savefig(image, format=path.suffix.lstrip(".").lower(), dpi=120)
    write_atomically(path, image.getvalue())


def _smoothed(losses: np.ndarray, window: int = 100) -> tuple[np.ndarray, np.ndarray]:
    count = max(1, len(losses) // window)
    pieces = np.array_split(losses, count)
    ends = np.cumsum([len(piece) for piece in pieces])
    return ends, np.array([piece.mean() for piece in pieces])


def _plot_accuracies(axes: Any, run: Run, style: dict[str, Any]) -> None:
    evaluations = run.history.evaluations
    iterations = [evaluation.iteration for evaluation in evaluations]
    axes.plot(iterations, [e.train_accuracy for e in evaluations], label=str(run.spec), **style)
    axes.plot(iterations, [e.test_accuracy for e in evaluations], ":", **style)


def _zoom_on_learning(axes: Any, runs: Sequence[Run]) -> None:
    """Leave the first evaluation, of an untrained network, below the picture where the others are far above it."""
    later = [
        accuracy
        for run in runs
        for e in run.history.evaluations[1:]
        for accuracy in (e.train_accuracy, e.test_accuracy)
        if accuracy is not None
    ]
    if later:
        axes.set_ylim(max(0.0, min(later) - 0.02), min(1.0, max(later) + 0.01))


def _plot_times(axes: Any, comparison: Comparison) -> None:
    runs = comparison.runs
    names = [str(run.spec) for run in runs]
    left = np.zeros(len(runs))
    for part, color in (("train", COLORS[0]), ("evaluate", COLORS[1]), ("compile", "#c0c0c0")):
        seconds = np.array(
            [run.compile_seconds if part == "compile" else getattr(run.history, f"{part}_seconds") for run in runs]
        )
        axes.barh(names, seconds, left=left, label=part, color=color)
        left += seconds
    for index, run in enumerate(runs):
        text = f" {run.seconds:.1f} s"
        if index:
            text += f", {runs[0].seconds / max(run.seconds, 1e-9):.1f}x"
        axes.text(left[index], index, text, va="center")
    axes.set(title="Seconds (compile: first run only)", xlim=(0, float(np.max(left)) * 1.4))
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=3, frameon=False)
