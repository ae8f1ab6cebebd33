"""The command line: fastbp compare | train | check | bench | graph | demo | sweep | warmup."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, checks
from .backends import BACKENDS, get_backend
from .compare import Comparison, Recipe, RunSpec, compare
from .networks import ACTIVATIONS, DTYPES
from .optimizers import OPTIMIZERS
from .warmup import load_cached

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Backpropagation written by hand in NumPy, at compiled speed, with proof that the answers did not change.",
)

PLOT_FORMATS = (".png", ".svg", ".pdf")
INTERRUPTED = 130

Iterations = Annotated[int, typer.Option(min=1, help="Number of updates.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples in each update.")]
Hidden = Annotated[str, typer.Option(help="Widths of the hidden layers, e.g. 50 or 100,50.")]
LearningRate = Annotated[float, typer.Option(min=0, help="Step of the optimizer.")]
Activation = Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")]
OptimizerName = Annotated[str, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.")]
EvaluateEvery = Annotated[int, typer.Option(min=1, help="Iterations from one evaluation to the next.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the initial weights and of the batches.")]
DataDir = Annotated[
    Path | None, typer.Option(help="A folder of four IDX files named as MNIST's.", show_default="MNIST itself")
]
PlotFile = Annotated[Path | None, typer.Option(help="Save a picture of the curves and times here (.png, .svg, .pdf).")]
JsonFile = Annotated[Path | None, typer.Option(help="Save everything as JSON here; - prints it, and nothing else.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastbp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """What holds for all commands."""


@app.command("compare")
def compare_command(
    iterations: Iterations = 10_000,
    batch_size: BatchSize = 100,
    hidden: Hidden = "50",
    optimizer: OptimizerName = "sgd",
    learning_rate: LearningRate = 0.1,
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
    recipe = _recipe(iterations, batch_size, hidden, learning_rate, activation, evaluate_every, seed, optimizer)
    specs = _user_errors(lambda: [RunSpec.parse(text) for text in runs.split(",")])
    if repeated := {str(spec) for spec in specs if specs.count(spec) > 1}:
        _fail(f"--runs names {', '.join(sorted(repeated))} more than once")
    comparison = _carry_out(recipe, specs, data_dir, plot, json)
    if not comparison.ok:
        raise typer.Exit(1)


@app.command()
def train(
    backend: Annotated[str, typer.Option(help=f"One of {', '.join(BACKENDS)}.")] = "numba",
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    iterations: Iterations = 10_000,
    batch_size: BatchSize = 100,
    hidden: Hidden = "50",
    optimizer: OptimizerName = "sgd",
    learning_rate: LearningRate = 0.1,
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
    """Train one network and show its accuracies and times."""
    if resume and checkpoint is None:
        _fail("--resume needs --checkpoint, the file to go on from")
    for option, path in (("--save", save), ("--checkpoint", checkpoint)):
        _check_file(option, path)
        if path is not None and importlib.util.find_spec("safetensors") is None:
            _fail(f"{option} needs safetensors: pip install 'fastbp[save]'")
    recipe = _recipe(iterations, batch_size, hidden, learning_rate, activation, evaluate_every, seed, optimizer)
    spec = _user_errors(lambda: RunSpec.parse(f"{backend}:{dtype}"))
    _carry_out(recipe, [spec], data_dir, plot, json, checkpoint=checkpoint, resume=resume, save=save)


@app.command()
def check(
    seed: Seed = 0,
    json: JsonFile = None,
) -> None:
    """Check the gradients of every layer against central differences, and both backends against each other.

    Exits with 1 where an error is larger than it may be.
    """
    from dataclasses import asdict

    from . import report
    from .checking import run_checks

    found = run_checks(seed)
    if json is not None:
        _check_file("--json", json)
        report.write_json(json, {"checks": [{**asdict(item), "ok": item.ok} for item in found]})
    if str(json) != "-":
        report.print_all(report.checks_table(found))
    if not all(item.ok for item in found):
        raise typer.Exit(1)


@app.command()
def warmup() -> None:
    """Compile all kernels once, for both dtypes, into the cache; later processes start without compiling."""
    from . import report
    from .progress import progress_bar
    from .warmup import STEPS, warm_up

    costs = []
    with progress_bar("compiling", STEPS) as advance:
        for cost in warm_up():
            costs.append(cost)
            advance(len(costs), cost[0])
    report.print_all(report.costs_table(costs))


@app.command()
def graph(
    example: Annotated[
        str, typer.Argument(help="square-sum, network, or MODULE:FUNCTION: a function of yours to trace.")
    ] = "square-sum",
    plot: Annotated[Path | None, typer.Option(help="Draw it here (.svg, .png, .pdf; needs Graphviz).")] = None,
) -> None:
    """Show a computation graph with the values and gradients of a real forward and backward pass.

    Without --plot it is printed in Graphviz's language.
    """
    from .graph import EXAMPLES, FORMATS

    traced = EXAMPLES[example]() if example in EXAMPLES else _traced(example, list(EXAMPLES))
    if plot is None:
        print(traced.to_dot(), end="")
        return
    _check_file("--plot", plot)
    if plot.suffix.lower() not in FORMATS:
        _fail(f"--plot must end in {', '.join(FORMATS)}, got {plot}")
    try:
        traced.draw(plot)
    except RuntimeError as error:
        _fail(str(error))
    print(f"{len(traced.operations)} operations, drawn in {plot}")


def _traced(example: str, known: list[str]) -> Any:
    """The graph of a call of MODULE:FUNCTION; a module may lie in the working directory."""
    from .graph import trace

    module, _, function = example.partition(":")
    if not function:
        _fail(f"the graph must be one of {', '.join(known)} or MODULE:FUNCTION, got {example!r}")
    sys.path.insert(0, "")
    try:
        call = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        _fail(f"{example}: {error}")
    with trace() as traced:
        call()
    if not traced.operations:
        _fail(f"{example} called no node or layer")
    return traced


demo = typer.Typer(no_args_is_help=True, help="Things to look at.")
app.add_typer(demo, name="demo")


@demo.command("optimizers")
def demo_optimizers(plot: PlotFile = None) -> None:
    """The ways of all optimizers on x² / 20 + y²."""
    from . import report
    from .demo_pictures import optimizers_table, plot_optimizers

    _check_files(plot, None)
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
    from .demo_pictures import plot_plane
    from .demos import learn_plane

    _check_files(plot, None)
    try:
        learned = learn_plane(epochs, seed)
    except ModuleNotFoundError as error:
        _fail(f"the plane needs {error.name}: pip install 'fastbp[demo]'")
    if plot is not None:
        plot_plane(*learned, plot)


@app.command()
def sweep(
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
    from . import report
    from .demo_pictures import plot_sweep, sweep_table
    from .kernels.threads import available_threads
    from .progress import progress_bar
    from .sweep import Choices, hidden_widths, plan, read_outcomes, run_trials

    _check_files(plot, results)
    chosen = _user_errors(
        lambda: (
            Choices.parse("--learning-rate", learning_rate, float),
            Choices.parse("--hidden", hidden, hidden_widths),
            Choices.parse("--batch-size", batch_size, int),
            Choices.parse("--activation", activation, str),
            Choices.parse("--optimizer", optimizer, str),
        )
    )
    planned = _user_errors(lambda: plan(*chosen, trials=trials, grid=grid, epochs=epochs, seed=seed))
    best = 0.0
    folder = None if data_dir is None else str(data_dir)
    with progress_bar("trials", len(planned)) as advance:
        done = 0

        def count(outcome: Any) -> None:
            nonlocal done, best
            done, best = done + 1, max(best, outcome.accuracy)
            advance(done, f"best {best:.4f}")

        try:
            outcomes = _user_errors(lambda: run_trials(planned, results, jobs or available_threads(), folder, count))
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
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender is measured, in turns.")] = 5,
    only: Annotated[str | None, typer.Option(help="One part: recipe, grid or kernels.", show_default="all")] = None,
    plot: PlotFile = None,
    json: JsonFile = None,
) -> None:
    """Measure fastbp beside NumPy, and beside PyTorch, JAX and scikit-learn where they are installed (extra `bench`)."""
    from .bench.peers import PARTS, carry_out

    parts = PARTS if only is None else (_user_errors(lambda: checks.one_of("--only", only, PARTS)),)
    _check_files(plot, json)
    carry_out(parts, rounds, json, plot)


def _recipe(
    iterations: int,
    batch_size: int,
    hidden: str,
    learning_rate: float,
    activation: str,
    evaluate_every: int,
    seed: int,
    optimizer: str,
) -> Recipe:
    try:
        widths = tuple(int(width) for width in hidden.split(",") if width.strip())
    except ValueError:
        _fail(f"--hidden must be widths separated by commas, such as 50 or 100,50, got {hidden!r}")
    return Recipe(iterations, batch_size, widths, learning_rate, activation, evaluate_every, seed, optimizer)


def _carry_out(
    recipe: Recipe, specs: list[RunSpec], data_dir: Path | None, plot: Path | None, json: Path | None, **saving: Any
) -> Comparison:
    """Make the runs, show them, save them; what can go wrong with the files is found before the runs."""
    from . import report
    from .datasets import load_mnist

    _check_files(plot, json)
    loading = threading.Thread(target=_load_kernels, args=(specs,), daemon=True)
    loading.start()  # while the files are read
    data = _user_errors(lambda: load_mnist(normalize=False, data_dir=data_dir))
    loading.join()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Training was interrupted")
        comparison = _user_errors(lambda: compare(recipe, specs, *data, progress=str(json) != "-", **saving))
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


def _check_files(plot: Path | None, json: Path | None) -> None:
    for option, path in (("--plot", plot), ("--json", json)):
        _check_file(option, path)
    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        _fail(f"--plot must end in {', '.join(PLOT_FORMATS)}, got {plot}")


def _check_file(option: str, path: Path | None) -> None:
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        _fail(f"{option}: {path} is a folder, expected a file")
    if not path.absolute().parent.is_dir():
        _fail(f"{option}: there is no folder {path.absolute().parent}")


def _user_errors(work: Any) -> Any:
    """The result of work(); what the user gave wrongly ends the program with the message alone."""
    try:
        return work()
    except (ValueError, TypeError) as error:
        _fail(str(error))


def _fail(message: str) -> None:
    print(f"fastbp: {message}", file=sys.stderr)
    raise typer.Exit(2)
