"""A progress bar for long work: in notebooks, and in terminals where rich is installed (the extra `cli`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from . import _notebook

SECONDS_APART = 0.1  # of what a notebook is sent: each time is a message to the browser


class Advance:
    """advance(done, status): `done` of the total is reached, and `status` is shown beside the bar."""

    def __call__(self, done: int, status: str) -> None:
        """Where no bar is shown."""

    def note(self, text: str) -> None:
        """A line that stays, above the bar."""


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """Yields an Advance, which moves the bar."""
    if shown and _notebook.in_notebook():
        yield _InNotebook(description, total)
    elif shown and find_spec("rich") is not None:
        with _in_terminal(description, total) as advance:
            yield advance
    else:
        yield Advance()


class _InNotebook(Advance):
    def __init__(self, description: str, total: int):
        from IPython.display import HTML, display

        self.html, self.description, self.total = HTML, description, total
        self.start = self.last = time.perf_counter()
        self.shown = display(HTML(_notebook.bar(description, 0, total, 0, "")), display_id=True)

    def __call__(self, done: int, status: str) -> None:
        now = time.perf_counter()
        if done >= self.total or now - self.last > SECONDS_APART:
            self.last = now
            self.shown.update(self.html(_notebook.bar(self.description, done, self.total, now - self.start, status)))


class _InTerminal(Advance):
    def __init__(self, progress: Any, task: Any, total: int):
        self.progress, self.task, self.total = progress, task, total

    def __call__(self, done: int, status: str) -> None:
        left = "left  " if done < self.total else ""
        self.progress.update(self.task, completed=done, status=status, left=left)

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False)


@contextmanager
def _in_terminal(description: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),  # what the others leave
        MofNCompleteColumn(table_column=Column(min_width=2 * len(str(total)) + 1)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[left]}{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        yield _InTerminal(progress, progress.add_task(description, total=total, status="", left="left  "), total)
