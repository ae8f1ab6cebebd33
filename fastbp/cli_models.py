"""The commands for saved networks: fastbp predict | evaluate."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import DataDir, JsonFile, PlotFile, check_files, fail, user_errors

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="As MLP.save or `fastbp train --save` wrote it.")]


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
    from . import report
    from .model_pictures import plot_predictions, prediction_tables
    from .predicting import predict_pictures

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
    """Show the accuracy on the test images and what was taken for what; --plot shows the most confident mistakes."""
    from . import report
    from .datasets import load_mnist
    from .model_pictures import confusion_table, plot_mistakes
    from .predicting import evaluate_on

    check_files(plot, json)
    network = load_model(model)
    _, (images, labels) = user_errors(lambda: load_mnist(normalize=False, data_dir=data_dir))
    result = user_errors(lambda: evaluate_on(network, images, labels))
    if json is not None:
        report.write_json(json, result.to_json())
    if str(json) != "-":
        report.print_all(confusion_table(result))
    if plot is not None:
        plot_mistakes(result, images, plot)


def load_model(path: Path) -> Any:
    """The network in that file; the program ends with a message where there is none."""
    from .saving import load

    if importlib.util.find_spec("safetensors") is None:
        fail("reading models needs safetensors: pip install 'fastbp[save]'")
    return user_errors(lambda: load(path))
