"""The pictures of demos and sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from .._checks import Array
from ..functional import forward_prop
from ..sweep import Outcome
from ._demo_runs import height, optimizer_paths


def plot_optimizers(paths: dict[str, Array], path: Path) -> None:
    """Each optimizer's way on the contours of x² / 20 + y²."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    x, y = np.meshgrid(np.linspace(-10, 10, 201), np.linspace(-2.2, 2.2, 111))
    axes = list(figure.subplots(2, 4, sharex=True, sharey=True).flat)
    for (name, points), one in zip(paths.items(), axes, strict=False):
        one.contour(x, y, height(x, y), levels=np.geomspace(0.05, 8, 14), colors="0.8", linewidths=0.8)
        one.plot(*points.T, ".-", color="#c44e52", markersize=3, linewidth=0.8)
        one.plot(0, 0, "+", color="black")
        one.set_title(f"{name}: ends at z = {height(*points[-1]):.2g}", fontsize=10)
    for empty in axes[len(paths) :]:
        empty.set_axis_off()
    figure.suptitle("100 steps on z = x² / 20 + y² from (8, 1)")
    figure.savefig(path, dpi=110)


def optimizers_table() -> tuple[Table, dict[str, Array]]:
    paths = optimizer_paths()
    table = Table("", "x", "y", "z", title="x² / 20 + y² from (8, 1), after 100 steps")
    for name, points in paths.items():
        x, y = points[-1]
        table.add_row(name, f"{x:.3e}", f"{y:.3e}", f"{height(x, y):.3e}")
    return table, paths


def plot_plane(model: Any, losses: Sequence[float], x: Array, y: Array, path: Path) -> None:
    """The loss of each epoch, and the learned plane with the data in front of it."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.arange(1, len(losses) + 1), losses, color="#4c72b0")
    left.set(title="Loss of each epoch", xlabel="epoch", yscale="log")
    grid = np.linspace(-6, 6, 121)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    learned = forward_prop(model[0], model[1], model[2], points).reshape(121, 121)
    shading = right.contourf(grid, grid, learned, levels=21, cmap="PuOr", vmin=-1, vmax=1)
    right.scatter(*x.T, c=y[:, 0], cmap="PuOr", vmin=-1, vmax=1, s=14, edgecolors="white", linewidths=0.4)
    right.set(title="The learned plane, and the data it has not seen", aspect="equal")
    figure.colorbar(shading, ax=right)
    figure.savefig(path, dpi=110)


def sweep_table(outcomes: Sequence[Outcome]) -> Table:
    """The best first."""
    columns = ("validation", "learning rate", "hidden", "batch", "activation", "optimizer", "last loss")
    table = Table(*columns, title=f"{len(outcomes)} trials")
    for outcome in ranked(outcomes):
        trial, loss = outcome.trial, outcome.losses[-1]
        table.add_row(
            f"{outcome.accuracy:.4f}",
            f"{trial.learning_rate:g}",
            trial.hidden,
            str(trial.batch_size),
            trial.activation,
            trial.optimizer,
            "-" if loss is None else f"{loss:.4f}",
        )
    return table


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: -outcome.accuracy)


def plot_sweep(outcomes: Sequence[Outcome], path: Path) -> None:
    """Every trial's learning curve, the best in colour; and accuracy over the learning rate."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = ranked(outcomes)
    for place, outcome in enumerate(best):
        trial = outcome.trial
        label = f"{outcome.accuracy:.4f}  lr {trial.learning_rate:g}, {trial.hidden}, {trial.optimizer}"
        style = {"label": label, "linewidth": 1.6, "zorder": 3} if place < 6 else {"color": "0.8", "linewidth": 0.8}
        left.plot(np.arange(1, trial.epochs + 1), outcome.accuracies, ".-", **style)
    left.set(title="Validation accuracy", xlabel="epoch")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(fontsize="small", loc="lower right")
    widths = sorted({outcome.trial.hidden for outcome in outcomes}, key=lambda text: [*map(int, text.split("-"))])
    for hidden in widths:
        some = [outcome for outcome in outcomes if outcome.trial.hidden == hidden]
        right.scatter([o.trial.learning_rate for o in some], [o.accuracy for o in some], label=f"hidden {hidden}", s=22)
    right.set(title="After the last epoch", xlabel="learning rate", xscale="log")
    right.legend(fontsize="small")
    figure.savefig(path, dpi=110)
