"""One recipe of training on several backends and dtypes: same weights, same batches, every loss compared.

    from fastbp.comparison import Recipe, compare

    comparison = compare(Recipe(iterations=1000))  # of MNIST
    print(comparison.ok, comparison.speedups)

`fastbp compare` shows the same in a terminal.
"""

from __future__ import annotations

import html
import itertools
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import _checks as checks
from . import _notebook
from ._progress import progress_bar
from ._warmup import LAYER_FUNCTIONS, TRAINING_FUNCTIONS, compile_meanwhile
from .backends import BACKENDS, compiled_functions
from .datasets.mnist import Part, load_mnist
from .networks._named import make_network
from .networks._network import DTYPES, Network
from .training._callbacks import Callback
from .training._optimizers import OPTIMIZERS
from .training._run import Evaluation
from .training._run import Run as TrainingRun
from .training._trainer import History, Trainer

# Of the largest difference between two losses. Two orders of summation differ in their rounding; in float32 that soon
# puts some input of a ReLU on the other side of 0, and over the 10,000 iterations of the recipe it grows to 6e-3.
TOLERANCES = {"float64": 1e-9, "float32": 0.05}
RUNS = ("numpy:float64", "numba:float64", "numba:float32")


@dataclass(frozen=True)
class Recipe:
    """What every run does; the defaults are the book's for MNIST (chapter 5).

    Attributes:
        iterations: updates.
        batch_size: rows for each of them.
        hidden: widths of the hidden layers; for a convolutional network, of the one behind its convolutions.
        learning_rate: of the optimizer.
        activation: as MLP takes it.
        evaluate_every: in iterations.
        seed: of the weights and of the batches.
        optimizer: "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam" or "adamw".
        network: "mlp", or the book's "simple-conv" (chapter 7) or "deep-conv" (chapter 8).

    Examples:
        >>> from fastbp.comparison import Recipe
        >>> Recipe(iterations=1000).hidden
        (50,)
    """

    iterations: int = 10_000
    batch_size: int = 100
    hidden: tuple[int, ...] = (50,)
    learning_rate: float = 0.1
    activation: str = "relu"
    evaluate_every: int = 600
    seed: int = 0
    optimizer: str = "sgd"
    network: str = "mlp"


@dataclass(frozen=True)
class RunSpec:
    """A backend and a dtype, written "numba:float32".

    Attributes:
        backend: "numba" or "numpy".
        dtype: "float32" or "float64".

    Examples:
        >>> from fastbp.comparison import RunSpec
        >>> RunSpec.parse("numba:float32")
        RunSpec(backend='numba', dtype='float32')
    """

    backend: str
    dtype: str

    @classmethod
    def parse(cls, text: str) -> RunSpec:
        """Raises ValueError, listing what exists, for anything but BACKEND:DTYPE."""
        backend, _, dtype = text.strip().partition(":")
        known = [f"{name}:{kind}" for name in BACKENDS for kind in DTYPES]
        checks.one_of("a run", f"{backend}:{dtype}", known)
        return cls(backend, dtype)

    def __str__(self) -> str:
        return f"{self.backend}:{self.dtype}"


@dataclass
class Run:
    """One run that was made, and where its time went.

    Attributes:
        spec: the backend and dtype.
        compile_seconds: 0 for NumPy; next to nothing where the kernels were compiled before.
        history: as Trainer.fit returns it.
        end: accuracies after the last update, where the history's last evaluation came before; not in the seconds.

    Examples:
        >>> from fastbp import History
        >>> from fastbp.comparison import Run, RunSpec
        >>> Run(RunSpec("numba", "float32"), 9.0, History(train_seconds=2.0, evaluate_seconds=0.5)).seconds
        2.5
    """

    spec: RunSpec
    compile_seconds: float
    history: History
    end: Evaluation | None = None

    @property
    def seconds(self) -> float:
        """Training and evaluating, without compiling."""
        return self.history.train_seconds + self.history.evaluate_seconds

    def to_json(self) -> dict[str, Any]:
        """Its part of `Comparison.to_json`."""
        history = self.history
        return {
            "backend": self.spec.backend,
            "dtype": self.spec.dtype,
            "compile_seconds": self.compile_seconds,
            "train_seconds": history.train_seconds,
            "evaluate_seconds": history.evaluate_seconds,
            "losses": [float(loss) if np.isfinite(loss) else None for loss in history.losses],
            "evaluations": [asdict(evaluation) for evaluation in history.evaluations],
            "end": None if self.end is None else asdict(self.end),
        }


class _AtTheEnd(Callback):
    """Measures the accuracies after the last update: evaluations are of iterations 0, evaluate_every, ..."""

    def __init__(self, iterations: int):
        self.every = iterations
        self.evaluation: Evaluation | None = None

    def on_iterations(self, run: TrainingRun) -> None:
        evaluations = run.history.evaluations
        if not evaluations or evaluations[-1].iteration != run.iteration - 1:
            self.evaluation = run.measure()


@dataclass(frozen=True)
class Parity:
    """How far two runs of one dtype are apart.

    Attributes:
        first: the one.
        second: the other.
        max_loss_difference: the largest, of all iterations.
        tolerance: what it may be: 1e-9 in float64, 0.05 in float32.
        first_break: the first iteration whose losses differ by more than the tolerance, or whose evaluation differs at all
            in float64; None where there is none.

    Examples:
        >>> from fastbp.comparison import Parity, RunSpec
        >>> parity = Parity(RunSpec("numpy", "float64"), RunSpec("numba", "float64"), 4e-16, 1e-9, None)
        >>> parity.ok
        True
    """

    first: RunSpec
    second: RunSpec
    max_loss_difference: float
    tolerance: float
    first_break: int | None

    @property
    def ok(self) -> bool:
        """Whether there is no break."""
        return self.first_break is None

    def __str__(self) -> str:
        verdict = "parity ok" if self.ok else f"parity BROKEN at iteration {self.first_break}"
        return (
            f"{verdict}: {self.first} and {self.second}: largest loss difference {self.max_loss_difference:.1e}, "
            f"tolerance {self.tolerance:.0e}"
        )


@dataclass
class Comparison:
    """All runs of one recipe. A notebook shows them as a table.

    Attributes:
        recipe: what they did.
        runs: in the order in which they were made.
        interrupted: Ctrl-C ended it; `runs` has what was done.

    Examples:
        >>> from fastbp import History
        >>> from fastbp.comparison import Comparison, Recipe, Run, RunSpec
        >>> numpy = Run(RunSpec("numpy", "float64"), 0.0, History(train_seconds=8.0))
        >>> numba = Run(RunSpec("numba", "float64"), 9.0, History(train_seconds=2.0))
        >>> Comparison(Recipe(), [numpy, numba]).speedups
        {'numba:float64': 4.0}
    """

    recipe: Recipe
    runs: list[Run] = field(default_factory=list)
    interrupted: bool = False

    @property
    def parities(self) -> list[Parity]:
        """Every two runs of the same dtype."""
        pairs = itertools.combinations(self.runs, 2)
        return [compare_runs(a, b) for a, b in pairs if a.spec.dtype == b.spec.dtype]

    @property
    def ok(self) -> bool:
        """Whether every two runs of one dtype agree."""
        return all(parity.ok for parity in self.parities)

    @property
    def speedups(self) -> dict[str, float]:
        """How many times as fast as the first run each other one was, compile time excluded."""
        return {str(run.spec): self.runs[0].seconds / run.seconds for run in self.runs[1:]}

    def _repr_html_(self) -> str:
        """For notebooks: a run a row, and below the table how far runs of one dtype are apart."""
        rows = []
        for run in self.runs:
            last = run.end or (run.history.evaluations[-1] if run.history.evaluations else None)
            accuracies = "-" if last is None else f"{last.train_accuracy:.4f} / {last.test_accuracy:.4f}"
            speed = f"{self.runs[0].seconds / max(run.seconds, 1e-9):.1f}"
            rows.append((run.spec, f"{run.compile_seconds:.2f}", f"{run.seconds:.2f}", speed, accuracies))
        columns = ("run", "compiling (s)", "training (s)", "speed-up", "train / test accuracy")
        lines = "".join(f"<div>{html.escape(str(parity))}</div>" for parity in self.parities)
        caption = f"{self.recipe.iterations} iterations of {self.recipe.batch_size} samples"
        return _notebook.table(caption, columns, rows) + lines

    def to_json(self) -> dict[str, Any]:
        """What `fastbp compare --json` writes."""
        parities = self.parities
        worst = max(parities, key=lambda parity: parity.max_loss_difference / parity.tolerance, default=None)
        difference = None if worst is None else worst.max_loss_difference
        return {
            "recipe": asdict(self.recipe),
            "runs": [run.to_json() for run in self.runs],
            "parity": {
                "max_loss_difference": difference if difference is None or np.isfinite(difference) else None,
                "tolerance": None if worst is None else worst.tolerance,
                "ok": self.ok,
                "first_break": None if worst is None else worst.first_break,
            },
            "speedups": self.speedups,
        }


def compare_runs(a: Run, b: Run) -> Parity:
    """Compare every loss and evaluation of two runs.

    Args:
        a: a run.
        b: another, of the same dtype and recipe.

    Returns:
        How far they are apart.

    Examples:
        >>> import numpy as np
        >>> from fastbp import History
        >>> from fastbp.comparison import Run, RunSpec, compare_runs
        >>> numpy = Run(RunSpec("numpy", "float64"), 0.0, History(np.array([2.0, 1.0])))
        >>> numba = Run(RunSpec("numba", "float64"), 0.0, History(np.array([2.0, 1.5])))
        >>> compare_runs(numpy, numba).first_break
        1
    """
    tolerance = TOLERANCES[a.spec.dtype]
    losses = [run.history.losses for run in (a, b)]
    length = min(map(len, losses))
    first, second = (series[:length] for series in losses)
    with np.errstate(invalid="ignore"):
        differences = np.abs(first - second)
    differences[(first == second) | (np.isnan(first) & np.isnan(second))] = 0  # both diverged alike
    differences[np.isnan(differences)] = np.inf
    breaks = [int(i) for i in np.flatnonzero(differences > tolerance)[:1]]
    if a.spec.dtype == "float64":
        pairs = zip(a.history.evaluations, b.history.evaluations, strict=False)
        breaks += [one.iteration for one, other in pairs if one != other]
    return Parity(a.spec, b.spec, float(differences.max(initial=0)), tolerance, min(breaks, default=None))


def compare(
    recipe: Recipe | None = None,
    runs: Sequence[RunSpec | str] = RUNS,
    train: Part | None = None,
    test: Part | None = None,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    save: Path | None = None,
    communicator: Any = None,
    progress: bool = True,
) -> Comparison:
    """Make the same training run on several backends and dtypes, from the same weights with the same batches.

    Ctrl-C ends the run at hand and leaves out those after it.

    Args:
        recipe: what to do; None for the book's recipe.
        runs: such as "numba:float32"; the first one is what the speed of the others is compared with.
        train: images and labels; None for MNIST's. Images of uint8 are divided by 255.
        test: likewise; both or none.
        checkpoint: as for Trainer.fit; for a single run.
        resume: likewise.
        save: where the last network goes, a .safetensors file.
        communicator: as for Trainer; train and test are then this process's shard.
        progress: show bars.

    Returns:
        The runs, how far they are apart, and how fast they were.

    Raises:
        TypeError: for a recipe of another kind, before the first run.
        ValueError: for a recipe that does not fit the data, for unknown runs, and for one of train and test without the
            other; before the first run.

    Examples:
        >>> import numpy as np
        >>> from fastbp.comparison import Recipe, compare
        >>> rng = np.random.default_rng(0)
        >>> data = rng.random((200, 20), np.float32), rng.integers(0, 10, 200)
        >>> comparison = compare(Recipe(iterations=50), ["numpy:float64", "numba:float64"], data, data, progress=False)
        >>> comparison.ok, [str(run.spec) for run in comparison.runs]
        (True, ['numpy:float64', 'numba:float64'])
    """
    recipe = Recipe() if recipe is None else recipe
    specs = [run if isinstance(run, RunSpec) else RunSpec.parse(run) for run in runs]
    if (train is None) != (test is None):
        raise ValueError("train and test must both be given, or neither, for MNIST")
    if train is None or test is None:
        train, test = load_mnist(normalize=False)
    comparison = Comparison(recipe)
    try:
        compile_seconds = _compile_all(recipe, specs, train, test, progress=progress)
    except KeyboardInterrupt:
        comparison.interrupted = True
    for spec in specs:
        if comparison.interrupted:
            break
        trainer, end = _trainer(recipe, spec, train, communicator), _AtTheEnd(recipe.iterations)
        history = trainer.fit(
            *_shaped(train, trainer.network),
            iterations=recipe.iterations,
            validation=_shaped(test, trainer.network),
            evaluate_every=recipe.evaluate_every,
            divide_by=_divisor(train),
            on_nonfinite="ignore",
            checkpoint=checkpoint,
            resume=resume,
            callbacks=[end],
            progress=progress,
        )
        if save is not None and (communicator is None or communicator.Get_rank() == 0):
            trainer.network.save(save)
        comparison.interrupted = history.interrupted
        if len(history.losses):
            comparison.runs.append(Run(spec, compile_seconds.get(spec, 0.0), history, end.evaluation))
    return comparison


def _trainer(recipe: Recipe, spec: RunSpec, train: Part, communicator: Any = None) -> Trainer:
    network = make_network(
        recipe.network,
        train[0][0].size,
        recipe.hidden,
        recipe.activation,
        dtype=spec.dtype,
        backend=spec.backend,
        seed=recipe.seed,
    )
    optimizer = OPTIMIZERS[checks.one_of("optimizer", recipe.optimizer, OPTIMIZERS)](recipe.learning_rate)
    return Trainer(network, optimizer, recipe.batch_size, recipe.seed, communicator=communicator)


def _shaped(part: Part, network: Network) -> Part:
    """Images in the shape that the network takes."""
    return part[0].reshape(-1, *network.input_shape), part[1]


def _divisor(train: Part) -> float | None:
    return 255 if train[0].dtype == np.uint8 else None


def _compile_all(
    recipe: Recipe, specs: Sequence[RunSpec], train: Part, test: Part, *, progress: bool
) -> dict[RunSpec, float]:
    """The seconds that compiling took, for each run that needs it. A progress bar tells of what the cache has not."""
    compiled = [spec for spec in specs if spec.backend == "numba"]
    if not compiled:
        return {}
    is_mlp = recipe.network == "mlp"
    total = TRAINING_FUNCTIONS if is_mlp else LAYER_FUNCTIONS
    helpers = compile_meanwhile([spec.dtype for spec in compiled]) if is_mlp else {}
    advance = None
    try:
        with ExitStack() as ends:

            def count(done: int) -> None:
                nonlocal advance
                if advance is None:
                    advance = ends.enter_context(progress_bar("compiling, once", total, shown=progress))
                advance(min(done, total), "functions of the kernels")

            ends.enter_context(compiled_functions(count))
            return {spec: _compile(recipe, spec, train, test, helpers.get(spec.dtype)) for spec in compiled}
    finally:
        for helper in helpers.values():
            helper.kill()
            helper.wait()


def _compile(recipe: Recipe, spec: RunSpec, train: Part, test: Part, helper: subprocess.Popen[bytes] | None) -> float:
    """Train for one iteration on one batch, with a network of its own: what it costs the first time is compiling."""
    start = time.perf_counter()
    if helper is not None:
        helper.wait()
    size = recipe.batch_size
    trainer = _trainer(recipe, spec, train)
    batch, sample = (
        _shaped((part[0][:count], part[1][:count]), trainer.network) for part, count in ((train, size), (test, 1))
    )
    history = trainer.fit(
        *batch, iterations=1, validation=sample, evaluate_every=1, divide_by=_divisor(train), progress=False
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return time.perf_counter() - start
