"""The command line of fastbp: `fastbp --help` lists the commands."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .. import _checks as checks
from .._activations import ACTIVATIONS
from .._warmup import load_cached
from ..backends import BACKENDS, get_backend
from ..comparison import Comparison, Recipe, RunSpec, compare
from ..dropin import command
from ..networks._named import NETWORKS
from ..networks._network import DTYPES
from ..training._distributed import shard, world
from ..training._optimizers import OPTIMIZERS
from ._demo_commands import demo, graph
from ._model_commands import cache, evaluate, predict
from ._options import (
    INTERRUPTED,
    Activation,
    BatchSize,
    DataDir,
    EvaluateEvery,
    Hidden,
    Iterations,
    JsonFile,
    LearningRate,
    NetworkName,
    OptimizerName,
    PlotFile,
    Seed,
    check_file,
    check_files,
    fail,
    user_errors,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Backpropagation written by hand in NumPy, at compiled speed, with proof that the answers did not change.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastbp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What holds for all commands."""


app.command()(predict)
app.command()(evaluate)
app.command()(cache)
app.command()(graph)
app.add_typer(demo, name="demo")


_FOR_SCRIPTS = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


@app.command(short_help=command.RUN, add_help_option=False, context_settings=_FOR_SCRIPTS)
def run(context: typer.Context) -> None:
    """Named here for the list of commands; `__main__` starts it without what the others need."""
    command.run(context.args)


@app.command(short_help=command.AUDIT, add_help_option=False, context_settings=_FOR_SCRIPTS)
def audit(context: typer.Context) -> None:
    """Like `run`."""
    command.audit(context.args)


@app.command("compare")
def compare_command(
    network: NetworkName = "mlp",
    iterations: Iterations = None,
    batch_size: BatchSize = 100,
    hidden: Hidden = None,
    optimizer: OptimizerName = None,
    learning_rate: LearningRate = None,
    activation: Activation = "relu",
    evaluate_every: EvaluateEvery = 600,
    seed: Seed = 0,
    runs: Annotated[
        str, typer.Option(help=f"BACKEND:DTYPE,... of {', '.join(BACKENDS)} and {', '.join(DTYPES)}.")
    ] = "numpy:float64,numba:float64,numba:float32",
    data_dir: DataDir = None,
    plot: PlotFile = None,
    json: JsonFile = None,
) -> None:
    """Train the same network with the same batches on several backends, and compare accuracy, speed and every loss.

    Exits with 1 where two runs of the same dtype do not agree.
    """
    chosen = {"iterations": iterations, "hidden": hidden, "optimizer": optimizer, "learning_rate": learning_rate}
    recipe = _recipe(network, chosen, batch_size, activation, evaluate_every, seed)
    specs = user_errors(lambda: [RunSpec.parse(text) for text in runs.split(",")])
    if repeated := {str(spec) for spec in specs if specs.count(spec) > 1}:
        fail(f"--runs names {', '.join(sorted(repeated))} more than once")
    comparison = _carry_out(recipe, specs, data_dir, plot, json)
    if not comparison.ok:
        raise typer.Exit(1)


@app.command()
def train(
    backend: Annotated[str, typer.Option(help=f"One of {', '.join(BACKENDS)}.")] = "numba",
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    network: NetworkName = "mlp",
    iterations: Iterations = None,
    batch_size: BatchSize = 100,
    hidden: Hidden = None,
    optimizer: OptimizerName = None,
    learning_rate: LearningRate = None,
    activation: Activation = "relu",
    evaluate_every: EvaluateEvery = 600,
    seed: Seed = 0,
    data_dir: DataDir = None,
    save: Annotated[Path | None, typer.Option(help="Save the network here (.safetensors).")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Keep the run here, every 600 iterations.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --checkpoint, if it is there.")] = False,
    plot: PlotFile = None,
    json: JsonFile = None,
) -> None:
    """Train one network and show its accuracies and times.

    Started by mpiexec -n N (extra `mpi`), N processes train it together, each on its shard of the images.
    """
    communicator = user_errors(world)
    if resume and checkpoint is None:
        fail("--resume needs --checkpoint, the file to go on from")
    for option, path in (("--save", save), ("--checkpoint", checkpoint)):
        check_file(option, path)
        if path is not None and importlib.util.find_spec("safetensors") is None:
            fail(f"{option} needs safetensors: pip install 'fastbp[save]'")
    chosen = {"iterations": iterations, "hidden": hidden, "optimizer": optimizer, "learning_rate": learning_rate}
    recipe = _recipe(network, chosen, batch_size, activation, evaluate_every, seed)
    spec = user_errors(lambda: RunSpec.parse(f"{backend}:{dtype}"))
    keeping = {"checkpoint": checkpoint, "resume": resume, "save": save}
    _carry_out(recipe, [spec], data_dir, plot, json, communicator=communicator, **keeping)


@app.command()
def check(
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Check the gradients of every layer against central differences, and both backends against each other.

    Exits with 1 where an error is larger than it may be.
    """
    from dataclasses import asdict

    from . import _report as report
    from ._check import run_checks

    found = run_checks(seed)
    if json is not None:
        check_file("--json", json)
        report.write_json(json, {"checks": [{**asdict(item), "ok": item.ok} for item in found]})
    if str(json) != "-":
        report.print_all(report.checks_table(found))
    if not all(item.ok for item in found):
        raise typer.Exit(1)


@app.command()
def warmup() -> None:
    """Compile all kernels once, for both dtypes, into the cache; later processes start without compiling."""
    from .._progress import progress_bar
    from .._warmup import STEPS, warm_up
    from . import _report as report

    costs = []
    with progress_bar("compiling", STEPS) as advance:
        for cost in warm_up():
            costs.append(cost)
            advance(len(costs), cost[0])
    report.print_all(report.costs_table(costs))


@app.command()
def sweep(
    network: NetworkName = "mlp",
    learning_rate: Annotated[str, typer.Option(help="Values 0.01,0.1 or a range 0.001:1:log.")] = "0.001:1:log",
    hidden: Annotated[str, typer.Option(help="Values such as 20,50,100-50.")] = "20,50,100",
    batch_size: Annotated[str, typer.Option(help="Values.")] = "100",
    activation: Annotated[str, typer.Option(help=f"Values, of {', '.join(ACTIVATIONS)}.")] = "relu",
    optimizer: Annotated[str, typer.Option(help=f"Values, of {', '.join(OPTIMIZERS)}.")] = "sgd",
    trials: Annotated[int, typer.Option(min=1, help="How many.")] = 40,
    grid: Annotated[bool, typer.Option("--grid", help="Every combination instead of random ones.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images in each trial.")] = 2,
    seed: Seed = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="the processors")] = None,
    results: Annotated[
        Path, typer.Option(help="Each trial is added here as it ends; those it holds already are not made again.")
    ] = Path("sweep.jsonl"),
    data_dir: DataDir = None,
    plot: PlotFile = None,
) -> None:
    """Try hyper-parameters on MNIST: many short trainings, and which were best on images kept for validation."""
    from .._progress import progress_bar
    from ..backends import available_threads
    from ..sweep import Choices, hidden_widths, plan, read_outcomes, run_trials
    from . import _report as report
    from ._demo_plots import plot_sweep, sweep_table

    check_files(plot, results)
    chosen = user_errors(
        lambda: (
            Choices.parse("--learning-rate", learning_rate, float),
            Choices.parse("--hidden", hidden, hidden_widths),
            Choices.parse("--batch-size", batch_size, int),
            Choices.parse("--activation", activation, str),
            Choices.parse("--optimizer", optimizer, str),
        )
    )
    planned = user_errors(lambda: plan(*chosen, trials=trials, grid=grid, epochs=epochs, seed=seed, network=network))
    best = 0.0
    folder = None if data_dir is None else str(data_dir)
    with progress_bar("trials", len(planned)) as advance:
        done = 0

        def count(outcome: Any) -> None:
            nonlocal done, best
            done, best = done + 1, max(best, outcome.accuracy)
            advance(done, f"best {best:.4f}")

        try:
            outcomes = user_errors(lambda: run_trials(planned, results, jobs or available_threads(), folder, count))
        except KeyboardInterrupt:
            outcomes = None
    if outcomes is None:
        outcomes = [outcome for outcome in read_outcomes(results) if outcome.trial in set(planned)]
    if outcomes:
        report.print_all(sweep_table(outcomes))
        if plot is not None:
            plot_sweep(outcomes, plot)
    if len(outcomes) < len(set(planned)):
        print(f"Interrupted: {results} keeps what was done; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender is measured, alternately.")] = 5,
    only: Annotated[
        str | None, typer.Option(help="One part: recipe, grid, conv or kernels.", show_default="all")
    ] = None,
    plot: PlotFile = None,
    json: JsonFile = None,
) -> None:
    """Measure fastbp beside NumPy, and beside PyTorch, JAX and scikit-learn where they are installed (extra `bench`)."""
    from ..bench.peers import PARTS, carry_out

    parts = PARTS if only is None else (user_errors(lambda: checks.one_of("--only", only, PARTS)),)
    check_files(plot, json)
    carry_out(parts, rounds, json, plot)


def _recipe(
    network: str, chosen: dict[str, Any], batch_size: int, activation: str, evaluate_every: int, seed: int
) -> Recipe:
    """chosen: iterations, hidden, optimizer and learning_rate; what is None becomes the network's default."""
    defaults = NETWORKS[user_errors(lambda: checks.one_of("--network", network, NETWORKS))]
    settings = {name: getattr(defaults, name) if value is None else value for name, value in chosen.items()}
    if chosen["hidden"] is not None:
        try:
            settings["hidden"] = tuple(int(width) for width in chosen["hidden"].split(",") if width.strip())
        except ValueError:
            fail(f"--hidden must be widths separated by commas, such as 50 or 100,50, got {chosen['hidden']!r}")
    if chosen["optimizer"] not in (None, defaults.optimizer) and chosen["learning_rate"] is None and network != "mlp":
        fail(f"--optimizer {chosen['optimizer']} needs --learning-rate: 0.001 is for {defaults.optimizer}")
    return Recipe(
        batch_size=batch_size,
        activation=activation,
        evaluate_every=evaluate_every,
        seed=seed,
        network=network,
        **settings,
    )


def _carry_out(
    recipe: Recipe, specs: list[RunSpec], data_dir: Path | None, plot: Path | None, json: Path | None, **saving: Any
) -> Comparison:
    """Make the runs, show them, save them; what can go wrong with the files is found before the runs."""
    from ..datasets import load_mnist
    from . import _report as report

    check_files(plot, json)
    loading = threading.Thread(target=_load_kernels, args=(specs,), daemon=True)
    loading.start()  # while the files are read
    data = user_errors(lambda: load_mnist(normalize=False, data_dir=data_dir))
    loading.join()
    if (communicator := saving.get("communicator")) is not None:
        data = [shard(part, communicator) for part in data]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Training was interrupted")
        comparison = user_errors(lambda: compare(recipe, specs, *data, progress=str(json) != "-", **saving))
    if communicator is not None and communicator.Get_rank():
        raise typer.Exit(INTERRUPTED if comparison.interrupted else 0)  # the first process has the same to tell
    if comparison.runs and str(json) != "-":
        parities = [report.parity_line(parity) for parity in comparison.parities]
        report.print_all(report.comparison_table(comparison), *parities)
    if json is not None:
        report.write_json(json, comparison.to_json())
    if comparison.runs and plot is not None:
        report.plot_comparison(comparison, plot)
    if comparison.interrupted:
        done = "this is what was done until then" if comparison.runs else "nothing was trained yet"
        print(f"Interrupted: {done}.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    return comparison


def _load_kernels(specs: list[RunSpec]) -> None:
    """Import Numba where it is needed, and load what the kernel cache has. Errors are left to those who need it."""
    with contextlib.suppress(Exception):
        dtypes = [spec.dtype for spec in specs if get_backend(spec.backend)[0] == "numba"]
        load_cached(dtypes)
