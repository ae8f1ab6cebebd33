"""A progress bar for long work: in notebooks, and in terminals where rich is installed (the extra `cli`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from . import _notebook

SECONDS_APART = 0.1  # of what a notebook is sent: each time is a message to the browser
Advance = Callable[[int, str], None]


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """Yields advance(done, status): `done` of `total` is reached, and `status` is shown beside the bar."""
    if shown and _notebook.in_notebook():
        yield _in_notebook(description, total)
    elif shown and find_spec("rich") is not None:
        with _in_terminal(description, total) as advance:
            yield advance
    else:
        yield lambda done, status: None


def _in_notebook(description: str, total: int) -> Advance:
    from IPython.display import HTML, display

    start = last = time.perf_counter()
    shown = display(HTML(_notebook.bar(description, 0, total, 0, "")), display_id=True)

    def advance(done: int, status: str) -> None:
        nonlocal last
        now = time.perf_counter()
        if done >= total or now - last > SECONDS_APART:
            last = now
            shown.update(HTML(_notebook.bar(description, done, total, now - start, status)))

    return advance


@contextmanager
def _in_terminal(description: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, status="")
        yield lambda done, status: progress.update(task, completed=done, status=status)
