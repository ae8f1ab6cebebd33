"""Tables and pictures of what is kept: what saved networks predict, and what the kernel cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from .._checks import Array
from .._kernel_cache import CachedVersion
from ._predict import Prediction, TestResult

BAR = 30  # characters
MISTAKES = 24  # pictures of them


def prediction_tables(predictions: Sequence[Prediction]) -> list[Text | Table]:
    """For each picture what it is, and a table with a bar and a percentage for each class."""
    tables: list[Text | Table] = []
    for prediction in predictions:
        tables.append(Text(f"{prediction.path}: {prediction.label}", "bold"))
        table = Table("class", "", "probability")
        table.columns[2].justify = "right"
        for label, value in enumerate(prediction.probabilities):
            style = "bold green" if label == prediction.label else ""
            table.add_row(Text(str(label), style), Text("█" * round(BAR * value), style), Text(f"{value:.2%}", style))
        tables.append(table)
    return tables


def plot_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """What the network was given of each picture, and the probability of each class."""
    figure = Figure(figsize=(7, 2.2 * len(predictions)), layout="constrained")
    axes = figure.subplots(len(predictions), 2, squeeze=False, width_ratios=(1, 2.4))
    for prediction, (left, right) in zip(predictions, axes, strict=True):
        left.imshow(prediction.image, cmap="gray", vmin=0, vmax=255)
        left.set_title(prediction.path.name, fontsize=9)
        left.set_axis_off()
        classes = np.arange(len(prediction.probabilities))
        colors = ["#55a868" if label == prediction.label else "#4c72b0" for label in classes]
        right.bar(classes, prediction.probabilities, color=colors)
        right.set(ylim=(0, 1), xticks=classes)
    figure.savefig(path, dpi=110)


def confusion_table(result: TestResult) -> Table:
    """A row for each class, a column for what its images were taken for; the last column is the share that was right."""
    classes = len(result.confusion)
    wrong, total = len(result.mistakes), int(result.confusion.sum())
    table = Table(title=f"accuracy {result.accuracy:.4f}: {wrong:,} of {total:,} images mistaken")
    for name in ("class", *map(str, range(classes)), "right"):
        table.add_column(name, justify="right")
    for label, row in enumerate(result.confusion):
        cells = [
            Text(str(count) if count else "·", "green" if other == label else "red" if count else "dim")
            for other, count in enumerate(row)
        ]
        own = f"{row[label] / row.sum():.4f}" if row.sum() else "-"
        table.add_row(str(label), *cells, own)
    return table


def cache_table(root: Path, versions: Sequence[CachedVersion]) -> Table:
    """A row for each version of fastbp, Python, NumPy, Numba and processor that has kernels."""
    table = Table("version", "kernels", "size", title=f"kernels in {root}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for version in versions:
        name = version.directory.name[:12] + (", this one" if version.current else "")
        table.add_row(name, f"{version.kernels:,}", f"{version.size / 1e6:.1f} MB")
    return table


def plot_mistakes(result: TestResult, images: Array, path: Path, filters: Array | None = None) -> None:
    """The most confident mistakes: each image (28, 28), what it is, and what it was taken for.

    Below them the filters (FN, C, FH, FW) of a first layer that is a convolution, their first channel.
    """
    figure = Figure(figsize=(11, 6.4 if filters is None else 9), layout="constrained")
    upper: Any = figure
    if filters is not None:
        halves: Any = figure.subfigures(2, 1, height_ratios=(6.4, 2.6))
        upper = halves[0]
        plot_filters(halves[1], filters)
    side = int(images.shape[1] ** 0.5)
    axes = list(upper.subplots(4, 6).flat)
    for axis in axes:
        axis.set_axis_off()
    for number, axis in zip(result.mistakes[:MISTAKES], axes, strict=False):
        taken = int(result.probabilities[number].argmax())
        axis.imshow(images[number].reshape(side, -1), cmap="gray_r")
        axis.set_title(
            f"{result.labels[number]}, taken for {taken}: {result.probabilities[number, taken]:.1%}", fontsize=8
        )
    upper.suptitle(f"The most confident of {len(result.mistakes)} mistakes in {len(result.labels):,} images")
    figure.savefig(path, dpi=110)


def plot_filters(figure: Any, filters: Array) -> None:
    """Up to 64 filters, all on one scale of grey: white is the largest weight."""
    shown = filters[:64, 0]
    columns = min(len(shown), 16)
    axes = list(figure.subplots(-(-len(shown) // columns), columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for one, axis in zip(shown, axes, strict=False):
        axis.imshow(one, cmap="gray", vmin=shown.min(), vmax=shown.max())
    figure.suptitle(f"The {len(filters)} filters of the first layer")
