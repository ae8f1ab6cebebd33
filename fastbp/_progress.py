"""A progress bar for long work, where rich is installed (the extra `cli`) and somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Yields advance(done, status): `done` of `total` is reached, and `status` is shown beside the bar."""
    if not shown or find_spec("rich") is None:
        yield lambda done, status: None
        return
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
