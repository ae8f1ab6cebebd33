"""The commands for looking at things: fastbp graph | demo."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import PlotFile, Seed, check_file, check_files, fail


def graph(
    example: Annotated[
        str, typer.Argument(help="square-sum, network, or MODULE:FUNCTION: a function of yours to trace.")
    ] = "square-sum",
    plot: Annotated[Path | None, typer.Option(help="Draw it here (.svg, .png, .pdf; needs the extra `graph`).")] = None,
) -> None:
    """Show a computation graph with the values and gradients of a real forward and backward pass.

    Without --plot it is printed in Graphviz's language.
    """
    from ..graph import EXAMPLES, FORMATS

    traced = EXAMPLES[example]() if example in EXAMPLES else _traced(example, list(EXAMPLES))
    if plot is None:
        print(traced.to_dot(), end="")
        return
    check_file("--plot", plot)
    if plot.suffix.lower() not in FORMATS:
        fail(f"--plot must end in {', '.join(FORMATS)}, got {plot}")
    try:
        traced.draw(plot)
    except RuntimeError as error:
        fail(str(error))
    print(f"{len(traced.operations)} operations, drawn in {plot}")


def _traced(example: str, known: list[str]) -> Any:
    """The graph of a call of MODULE:FUNCTION; a module may lie in the working directory."""
    from ..graph import trace

    module, _, function = example.partition(":")
    if not function:
        fail(f"the graph must be one of {', '.join(known)} or MODULE:FUNCTION, got {example!r}")
    sys.path.insert(0, "")
    try:
        call = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        fail(f"{example}: {error}")
    with trace() as traced:
        call()
    if not traced.operations:
        fail(f"{example} called no node or layer")
    return traced


demo = typer.Typer(no_args_is_help=True, help="Demonstrations: the optimizers' paths, a learned plane.")


@demo.command("optimizers")
def demo_optimizers(plot: PlotFile = None) -> None:
    """The ways of all optimizers on x² / 20 + y²."""
    from . import _report as report
    from ._demo_plots import optimizers_table, plot_optimizers

    check_files(plot, None)
    table, paths = optimizers_table()
    report.print_all(table)
    if plot is not None:
        plot_optimizers(paths, plot)


@demo.command("plane")
def demo_plane(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 100,
    seed: Seed = 0,
    plot: PlotFile = None,
) -> None:
    """A network of three hidden units learns a plane (needs the extra `demo`)."""
    from ._demo_plots import plot_plane
    from ._demo_runs import learn_plane

    check_files(plot, None)
    try:
        learned = learn_plane(epochs, seed)
    except ModuleNotFoundError as error:
        fail(f"the plane needs {error.name}: pip install 'fastbp[demo]'")
    if plot is not None:
        plot_plane(*learned, plot)
