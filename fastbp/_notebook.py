"""What notebooks show: tables, a curve and a progress bar, in HTML that needs no widgets."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ._checks import Array

CURVE_WIDTH, CURVE_HEIGHT = 360, 80


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; the first column is to the left, the others to the right."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(*cell) for cell in enumerate(row))}</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(column: int, value: Any) -> str:
    return f'<td style="text-align: {"right" if column else "left"}">{html.escape(str(value))}</td>'


def curve(values: Array, label: str) -> str:
    """A line of numbers as a small picture (SVG), at most one point for each pixel; what is not finite is left out."""
    pieces = np.array_split(values, max(1, min(len(values), CURVE_WIDTH)))
    means = np.array([piece.mean() for piece in pieces if len(piece)])
    finite = np.flatnonzero(np.isfinite(means))
    if len(finite) < 2:
        return ""
    low, high = means[finite].min(), means[finite].max()
    across = finite / (len(means) - 1) * CURVE_WIDTH
    down = (high - means[finite]) / (high - low or 1) * CURVE_HEIGHT
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return (
        f'<svg width="{CURVE_WIDTH + 60}" height="{CURVE_HEIGHT + 10}" viewBox="-5 -5 {CURVE_WIDTH + 60} '
        f'{CURVE_HEIGHT + 10}" role="img" aria-label="{html.escape(label)} from {means[finite[0]]:.4g} to '
        f'{means[finite[-1]]:.4g}"><polyline points="{points}" fill="none" stroke="#4c72b0"/>'
        f'<text x="{CURVE_WIDTH + 4}" y="8" font-size="10" fill="currentColor">{high:.3g}</text>'
        f'<text x="{CURVE_WIDTH + 4}" y="{CURVE_HEIGHT}" font-size="10" fill="currentColor">{low:.3g}</text></svg>'
    )


def bar(description: str, done: int, total: int, seconds: float, status: str) -> str:
    """A progress bar as it stands, with the seconds so far and, some way on, those that are left."""
    left = f", {seconds * (total - done) / done:.0f} s left" if done and seconds > 2 else ""
    return (
        f'<div>{html.escape(description)} <progress value="{done}" max="{total}"></progress> '
        f"{done}/{total} {seconds:.0f} s{left} {html.escape(status)}</div>"
    )
