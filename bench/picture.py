"""What was measured, as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from fastbp.cli._report import COLORS

STEP_TITLE = "One training step: fastbp's time, and how many times as long the peers take"
CONV_TITLE = "One training step of the book's convolutional networks, with Adam: fastbp's time, and the peers' over it"
KERNEL_TITLE = "Single kernels: fastbp's time, and how many times as long NumPy takes"


def tables(content: dict[str, Any], base: str) -> list[Table]:
    found = []
    if "recipe" in content:
        found.append(_recipe_table(content["recipe"], base))
    if "grid" in content:
        found.append(_cells_table(STEP_TITLE, content["grid"], base))
    if "conv" in content:
        found.append(_cells_table(CONV_TITLE, content["conv"], base))
    if "kernels" in content:
        found.append(_cells_table(KERNEL_TITLE, content["kernels"], base))
    return found


def _recipe_table(recipe: dict[str, Any], base: str) -> Table:
    title = "MNIST recipe: 784-50-10, 10,000 updates of batch 100, 17 evaluations of 70,000 images"
    table = Table("", "seconds", "least to most", f"times {base}", "train / test accuracy", title=title)
    for name, entry in sorted(recipe["times"].items(), key=lambda item: item[1]["median_seconds"]):
        accuracies = recipe["accuracies"].get(name)
        table.add_row(
            name,
            f"{entry['median_seconds']:.2f}",
            f"{entry['min_seconds']:.2f} - {entry['max_seconds']:.2f}",
            f"{entry['times_fastbp']:.2f}",
            "" if accuracies is None else f"{accuracies[0]:.4f} / {accuracies[1]:.4f}",
        )
    return table


def _cells_table(title: str, part: dict[str, Any], base: str) -> Table:
    """A cell a row: fastbp's microseconds, and how many times as long each peer takes."""
    peers = [name for name in next(iter(part["cells"].values())) if name != base]
    table = Table("", "us", *peers, "best peer", title=title)
    for name, cell in part["cells"].items():
        ratios = [f"{cell[peer]['times_fastbp']:.2f}" for peer in peers]
        table.add_row(name, f"{cell[base]['median_seconds'] * 1e6:,.0f}", *ratios, f"{part['best_peer'][name]:.2f}")
    table.add_row("geometric mean", "", *[""] * len(peers), f"{part['geometric_mean']:.2f}")
    return table


def plot_results(content: dict[str, Any], base: str, path: Path) -> None:
    """The parts that were measured side by side: the recipe's seconds, and the ratios of every cell."""
    parts = [part for part in ("recipe", "grid", "conv", "kernels") if part in content]
    figure = Figure(figsize=(7 * len(parts), 6.5), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        if part == "recipe":
            _plot_recipe(axes, content["recipe"]["times"], base)
        else:
            title = {"grid": "One training step", "conv": "Convolutional networks", "kernels": "Single kernels"}[part]
            _plot_cells(axes, content[part]["cells"], base, f"{title}: time over fastbp's")
    figure.savefig(path, dpi=110)


def _plot_recipe(axes: Any, times: dict[str, Any], base: str) -> None:
    entries = sorted(times.items(), key=lambda item: -item[1]["median_seconds"])
    colors = [COLORS[1] if name == base else COLORS[0] for name, _ in entries]
    axes.barh([name for name, _ in entries], [entry["median_seconds"] for _, entry in entries], color=colors)
    for index, (_, entry) in enumerate(entries):
        axes.text(entry["median_seconds"], index, f" {entry['median_seconds']:.2f} s", va="center")
    axes.set(title="MNIST recipe, seconds", xlim=(0, entries[0][1]["median_seconds"] * 1.15))


def _plot_cells(axes: Any, cells: dict[str, Any], base: str, title: str) -> None:
    peers = [name for name in next(iter(cells.values())) if name != base]
    thickness = 0.8 / len(peers)
    for index, peer in enumerate(peers):
        heights = np.arange(len(cells)) + (index + 0.5 - len(peers) / 2) * thickness
        ratios = [cell[peer]["times_fastbp"] for cell in cells.values()]
        axes.barh(heights, ratios, thickness, label=peer, color=COLORS[index % len(COLORS)])
    axes.axvline(1, color="black", linewidth=1)
    axes.set(title=title, xscale="log", yticks=range(len(cells)))
    axes.set_yticklabels(list(cells), fontsize="small")
    axes.invert_yaxis()
    axes.legend(fontsize="small")
