"""`python -m bench.scripts FOLDER [SCRIPT ...]`: other people's scripts under Python, `fastbp run` and `fastbp audit`.

`python -m bench.scripts --list FILE`: those in a list, whose lines name a folder beside it, a script in that, and the
folder to run it from, between tabs.

FOLDER is a checkout of somebody's repository, which is copied and not changed. In the book's own, all scripts of chapters
3 to 8 run, the long ones with fewer iterations, and MNIST is put where they look for it. In the copy, each script begins
with a seed, and ends with a digest of the random state and of all arrays that its variables hold. So one run says
whether two runs were the same to the last bit, and the printed text whether fastbp's numbers are Python's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fastbp.datasets.mnist import OWN_FILES

FUTURE = re.compile(
    r"^from __future__ import (?:\([^)]*\)|[^\n(]*)[^\n]*\n", re.MULTILINE
)  # nothing may stand before it
BEGIN = "import numpy as _numpy; _numpy.random.seed(0); del _numpy  # fastbp.bench\n"
END = """
def _digest_of_everything():
    import hashlib, numpy
    digest, seen = hashlib.sha256(repr(numpy.random.get_state()).encode()), set()
    LIBRARIES = ("numpy", "matplotlib", "builtins", "PIL", "pandas")
    def add(value, depth):
        if id(value) in seen or depth > 6:
            return
        seen.add(id(value))
        if isinstance(value, numpy.ndarray) and value.dtype != object:
            digest.update(value.tobytes())
        elif isinstance(value, (list, tuple)):
            for one in value:
                add(one, depth + 1)
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                add(value[key], depth + 1)
        elif isinstance(value, (int, float, str)):
            digest.update(repr(value).encode())
        elif hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in LIBRARIES:
            add({name: one for name, one in vars(value).items() if not name.startswith("_fastbp")}, depth + 1)
    for name, value in sorted(globals().items()):
        if not name.startswith("__") and not isinstance(value, type) and not callable(value):
            add(value, 0)
    import sys
    print("digest", digest.hexdigest(), file=sys.stderr)
_digest_of_everything()
"""

# What makes the book's long scripts short; everything else of them stays.
SHORTER = {
    "ch06/batch_norm_gradient_check.py": [
        (r"input_size=784", "input_size=49"),
        (r"x_train\[:1\]", "x_train[:1, ::16]"),
    ],
    "ch06/optimizer_compare_mnist.py": [(r"max_iterations = 2000", "max_iterations = 500")],
    "ch06/overfit_weight_decay.py": [(r"max_epochs = 201", "max_epochs = 101")],
    "ch06/weight_init_compare.py": [(r"max_iterations = 2000", "max_iterations = 500")],
    "ch06/batch_norm_test.py": [(r"num=16", "num=3"), (r"if i == 15", "if i == 2")],
    "ch06/hyperparameter_optimization.py": [(r"optimization_trial = 100", "optimization_trial = 20")],
    "ch07/train_convnet.py": [
        (r"#(x_train, t_train = )", r"\1"),
        (r"#(x_test, t_test = )", r"\1"),
        (r"max_epochs = 20", "max_epochs = 3"),
    ],
    "ch08/train_deepnet.py": [
        (r"(network = DeepConvNet\(\))", r"x_train, t_train = x_train[:2000], t_train[:2000]\n\1"),
        (r"(network = DeepConvNet\(\))", r"x_test, t_test = x_test[:500], t_test[:500]\n\1"),
        (r"epochs=20", "epochs=2"),
    ],
    "ch08/half_float_network.py": [(r"sampled = 10000", "sampled = 2000")],
    "ch08/misclassified_mnist.py": [(r"#(sampled = 1000|x_test = |t_test = )", r"\1")],
}
ADDRESS = re.compile(r"\b0x[0-9A-Fa-f]+\b")  # of an object that is printed, in every run another
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf")
ROUNDING = 1e-6  # of printed numbers: rounding, which training and then printing amplify


@dataclass
class Outcome:
    """One script: its seconds under Python and under fastbp (medians), and what the three ways showed.

    recognised: how much of the layers' time, under Python, is that of calls which kernels took.
    """

    script: str
    seconds: float = 0.0
    fast_seconds: float = 0.0
    same_text: bool = False
    same_warnings: bool = False
    identical_runs: bool = False
    audit: str = ""
    recognised: float = 0.0
    note: str = ""

    @property
    def gain(self) -> float:
        return self.seconds / self.fast_seconds


@dataclass
class Run:
    """What one run of a script printed, its exit status, and its seconds."""

    text: str
    errors: str
    status: int
    seconds: float

    @property
    def digest(self) -> str:
        lines = [line for line in self.errors.splitlines() if line.startswith("digest ")]
        return lines[-1] if lines else "no digest"

    @property
    def warnings(self) -> list[str]:
        return sorted(re.findall(r"\w*Warning: .*", self.errors))


def prepare(checkout: Path, copy: Path) -> None:
    """Copy a checkout without its history; MNIST is put beside every `mnist.py` that is there."""
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True)
    for module in [*copy.rglob("mnist.py"), *copy.rglob("mnist.ipynb")]:
        for file in OWN_FILES.glob("*.gz"):
            shutil.copy(file, module.parent)


def edit(file: Path, edits: list[tuple[str, str]]) -> None:
    """Seed a script, shorten it, and let it end with its digest. Raises ValueError if an edit finds nothing."""
    source = file.read_text("utf-8-sig", errors="surrogateescape")
    for pattern, replacement in edits:
        source, count = re.subn(pattern, replacement, source)
        if not count:
            raise ValueError(f"{file}: there is no {pattern!r} to replace")
    first = max((one.end() for one in FUTURE.finditer(source)), default=0)
    file.write_text(source[:first] + BEGIN + source[first:] + "\n" + END, "utf-8", errors="surrogateescape")


def run(script: Path, *command: str, limit: float, folder: Path | None = None) -> Run:
    environment = {**os.environ, "MPLBACKEND": "Agg", "DISPLAY": "", "PYTHONIOENCODING": "utf-8"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # mostly Python keeps the bytecode that it has compiled
    if "audit" in command:  # small calls are compared as well, which NumPy is left to make where speed counts
        environment["FASTBP_LEAST_WORK"] = "0"
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *command, os.path.relpath(script, folder or script.parent)],
            cwd=folder or script.parent,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run("", f"not done in {limit:.0f} s", -1, limit)
    return Run(ADDRESS.sub("0x", done.stdout), done.stderr, done.returncode, time.perf_counter() - start)


def same_text(one: str, other: str) -> bool:
    """Whether two texts differ at most in the last digits of numbers."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(map(float, NUMBER.findall(one)), map(float, NUMBER.findall(other)), strict=True)
    return all(a == b or abs(a - b) <= ROUNDING * max(abs(a), abs(b), 1) or (a != a and b != b) for a, b in pairs)


def examine(script: Path, name: str, rounds: int, limit: float, folder: Path | None = None) -> Outcome:
    """Run a script every way: `rounds` times under Python and under `fastbp run` alternately, and audited once."""
    outcome = Outcome(name)

    def once(*command: str, limit: float = limit) -> Run:
        return run(script, *command, limit=limit, folder=folder)

    once()  # what a script does once only, such as converting a data set
    plain = once()
    once("-m", "fastbp", "run")  # compiles what is not cached
    fast, pairs = [], []
    for _ in range(max(2, rounds)):
        fast.append(once("-m", "fastbp", "run"))
        if len(pairs) < rounds:
            pairs.append((once() if pairs else plain).seconds)
    outcome.seconds, outcome.fast_seconds = statistics.median(pairs), statistics.median(one.seconds for one in fast)
    outcome.identical_runs = len({(one.text, one.digest) for one in fast}) == 1
    outcome.same_text = same_text(plain.text, fast[0].text) and plain.status == fast[0].status
    outcome.same_warnings = plain.warnings == fast[0].warnings
    if plain.status:
        outcome.note = f"status {plain.status} under Python: {(plain.errors.splitlines() or [''])[-1][:100]}"
    with tempfile.TemporaryDirectory() as reports:
        report = Path(reports) / "audit.json"
        audited = once("-m", "fastbp", "audit", "--json", str(report), limit=3 * limit)
        content = json.loads(report.read_text("utf-8")) if report.exists() else {}
    calls = content.get("calls", {}).values()
    taken, left = (sum(call[which] for call in calls) for which in ("own_seconds", "left_seconds"))
    outcome.recognised = taken / (taken + left) if taken + left else 0.0
    if content.get("difference"):
        outcome.audit = content["difference"]
    elif audited.status == plain.status and "calls" in content:
        compared = sum(call["calls"] - call["passed"] for call in calls)
        outcome.audit = f"same, {compared:,} calls" if compared else "nothing to compare"
    else:
        outcome.audit = f"status {audited.status}: {(audited.errors.splitlines() or [''])[-1][:100]}"
    return outcome


def examine_list(file: Path, rounds: int, limit: float, only: str = "") -> Iterator[Outcome]:
    """The outcome of each script that a file lists, with the folders of repositories beside it."""
    for line in filter(None, file.read_text("utf-8").splitlines()):
        checkout, script, folder = line.split("\t")[:3]
        if not re.search(only, f"{checkout}/{script}"):
            continue
        with tempfile.TemporaryDirectory() as copied:
            copy = Path(copied)
            prepare(file.parent / checkout, copy)
            edit(copy / script, [])
            yield examine(copy / script, f"{checkout}/{script}", rounds, limit, copy / folder)


def examine_all(checkout: Path, scripts: list[str], rounds: int, limit: float, only: str = "") -> Iterator[Outcome]:
    """Each script's outcome; without `scripts`, all of the book's chapters 3 to 8."""
    is_book = not scripts
    names = scripts or sorted(str(file.relative_to(checkout)) for file in checkout.glob("ch0[3-8]/*.py"))
    if not names:
        raise SystemExit(f"{checkout} has no chapters ch03 to ch08; name the scripts to run")
    for name in names:
        if not re.search(only, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            prepare(checkout, Path(folder))
            script = Path(folder) / name
            edit(script, SHORTER.get(name, []) if is_book else [])
            yield examine(script, name, rounds, limit)


def row(one: Outcome) -> str:
    speed = f"{one.seconds:.1f} s | {one.fast_seconds:.1f} s | {one.gain:.1f}"
    answers = ["yes" if answer else "NO" for answer in (one.same_text, one.same_warnings, one.identical_runs)]
    return f"| {one.script} | {speed} | {one.recognised:.0%} | {' | '.join(answers)} | {one.audit} | {one.note} |"


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.scripts", description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, nargs="?", metavar="FOLDER")
    parser.add_argument("--list", type=Path, metavar="FILE", help="a list of scripts, in the folders beside it")
    parser.add_argument(
        "scripts", nargs="*", metavar="SCRIPT", help="paths within FOLDER; none: the book's chapters 3 to 8"
    )
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="of these, the ones that a regular expression finds"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, alternating")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a run may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes to a file as well")
    options = parser.parse_args()
    if bool(options.checkout) == bool(options.list):
        parser.error("name a FOLDER, or a --list of scripts")
    print("| script | Python | fastbp run | gain | recognised | same text | same warnings | identical runs | audit | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    how = options.rounds, options.limit, options.only
    examined = (
        examine_list(options.list, *how) if options.list else examine_all(options.checkout, options.scripts, *how)
    )
    outcomes = []
    for one in examined:
        outcomes.append(one)
        print(row(one), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1), "utf-8")
    right = [
        one for one in outcomes if one.same_text and one.identical_runs and one.audit.startswith(("same", "nothing"))
    ]
    print(f"\n{len(right)} of {len(outcomes)} right; median gain {statistics.median(one.gain for one in outcomes):.2f}")
    sys.exit(len(right) != len(outcomes))


if __name__ == "__main__":
    main()
