"""What the commands share: their options, and how they answer wrong ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .._activations import ACTIVATIONS
from ..networks._named import NETWORKS
from ..training._optimizers import OPTIMIZERS

PLOT_FORMATS = (".png", ".svg", ".pdf")
INTERRUPTED = 130

OWN_DEFAULT = "the network's"  # of options that each kind of network has its own default for
Iterations = Annotated[
    int | None,
    typer.Option(min=1, help="Number of updates.", show_default=OWN_DEFAULT),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples in each update.")]
Hidden = Annotated[
    str | None,
    typer.Option(help="Widths of the hidden layers, e.g. 50 or 100,50.", show_default=OWN_DEFAULT),
]
LearningRate = Annotated[
    float | None,
    typer.Option(min=0, help="Step of the optimizer.", show_default=OWN_DEFAULT),
]
Activation = Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")]
OptimizerName = Annotated[
    str | None,
    typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.", show_default=OWN_DEFAULT),
]
NetworkName = Annotated[str, typer.Option(help=f"One of {', '.join(NETWORKS)}; the book's of chapters 7 and 8.")]
EvaluateEvery = Annotated[int, typer.Option(min=1, help="Iterations from one evaluation to the next.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")]
DataDir = Annotated[
    Path | None, typer.Option(help="A folder of four IDX files named as MNIST's.", show_default="MNIST itself")
]
PlotFile = Annotated[Path | None, typer.Option(help="Save a plot here (.png, .svg, .pdf).")]
JsonFile = Annotated[Path | None, typer.Option(help="Save everything as JSON here; - prints it, and nothing else.")]


def check_files(plot: Path | None, json: Path | None) -> None:
    for option, path in (("--plot", plot), ("--json", json)):
        check_file(option, path)
    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        fail(f"--plot must end in {', '.join(PLOT_FORMATS)}, got {plot}")


def check_file(option: str, path: Path | None) -> None:
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        fail(f"{option}: {path} is a folder, expected a file")
    if not path.absolute().parent.is_dir():
        fail(f"{option}: there is no folder {path.absolute().parent}")


def user_errors(work: Any) -> Any:
    """The result of work(); what the user gave wrongly ends the program with the message alone."""
    try:
        return work()
    except (ValueError, TypeError, FileNotFoundError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    print(f"fastbp: {message}", file=sys.stderr)
    raise typer.Exit(2)
