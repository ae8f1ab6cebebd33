"""The commands for what is kept: fastbp predict | evaluate | cache."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import DataDir, JsonFile, PlotFile, check_files, fail, user_errors

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="As network.save or `fastbp train --save` wrote it.")]


def predict(
    model: ModelFile,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of one digit each: any size, dark or light ink.")
    ],
    plot: PlotFile = None,
    json: JsonFile = None,
) -> None:
    """Show which digit each picture is, and the probability of every class.

    The ink is brought to MNIST's form: a box of 20 x 20 pixels, its centre of mass in the middle of 28 x 28.
    """
    from . import _report as report
    from ._model_plots import plot_predictions, prediction_tables
    from ._predict import predict_pictures

    check_files(plot, json)
    network = load_model(model)
    predictions = user_errors(lambda: predict_pictures(network, pictures))
    if json is not None:
        report.write_json(json, {"predictions": [one.to_json() for one in predictions]})
    if str(json) != "-":
        report.print_all(*prediction_tables(predictions))
    if plot is not None:
        plot_predictions(predictions, plot)


def evaluate(model: ModelFile, data_dir: DataDir = None, plot: PlotFile = None, json: JsonFile = None) -> None:
    """Show the accuracy on the test images and the confusion matrix.

    --plot shows the most confident mistakes, and the filters of a first layer that is a convolution.
    """
    from ..datasets import load_mnist
    from ..layers import Convolution
    from . import _report as report
    from ._model_plots import confusion_table, plot_mistakes
    from ._predict import evaluate_on

    check_files(plot, json)
    network = load_model(model)
    _, (images, labels) = user_errors(lambda: load_mnist(normalize=False, data_dir=data_dir))
    result = user_errors(lambda: evaluate_on(network, images, labels))
    if json is not None:
        report.write_json(json, result.to_json())
    if str(json) != "-":
        report.print_all(confusion_table(result))
    if plot is not None:
        first = next(iter(network.layers.values()))
        plot_mistakes(result, images, plot, first.W if isinstance(first, Convolution) else None)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all kernels.")] = False,
    clear_old: Annotated[bool, typer.Option("--clear-old", help="Delete the kernels of other versions.")] = False,
    json: JsonFile = None,
) -> None:
    """Show where compiled kernels are kept, and how many; or delete them. They are compiled anew when needed."""
    from .._kernel_cache import cached_versions, clear_cache
    from . import _report as report
    from ._model_plots import cache_table

    check_files(None, json)
    try:
        deleted = clear_cache(old_only=not clear) if clear or clear_old else None
        root, versions = cached_versions()
    except OSError as error:
        fail(f"the kernel cache: {error}")
    if json is not None:
        rows = [{**asdict(version), "directory": str(version.directory)} for version in versions]
        report.write_json(json, {"directory": str(root), "versions": rows, "deleted": deleted})
    if str(json) != "-":
        report.print_all(cache_table(root, versions))
        if deleted is not None:
            print(f"{deleted} kernels deleted")


def load_model(path: Path) -> Any:
    """The network in that file; the program ends with a message where there is none."""
    from ..networks._saving import load

    if importlib.util.find_spec("safetensors") is None:
        fail("reading models needs safetensors: pip install 'fastbp[save]'")
    return user_errors(lambda: load(path))
