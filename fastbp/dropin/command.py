"""`fastbp run` and `fastbp audit`. They need no extra: what they print is plain text."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .acceleration import start_accelerating
from .auditing import Auditor, DifferenceFound
from .beginning.ahead import ahead
from .beginning.calls import Counter, plain, script_is_over
from .ending import end_quickly
from .memory import keep_freed_memory
from .networks import expressions
from .operations.kernel_calls import kernels
from .reading.found import Found
from .reading.known_versions import COMPAT
from .running import CannotRun, run_module, run_script

RUN = "Run a script with the book's layers accelerated, wherever it defines or imports them; nothing in it is changed."
AUDIT = "Run a script with every accelerated call computed by its own code as well, and compare the results."


def run(arguments: Sequence[str]) -> None:
    """`fastbp run ...`: ends as the script ends."""
    parser = _parser("run", RUN)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="report at the end what was accelerated, and what not"
    )
    options = parser.parse_args(arguments)
    counter = Counter() if options.verbose or options.json else None
    found = start_accelerating(counter or plain, options.only_known)
    kernels.announces = ahead.is_wanted = True
    keep_freed_memory()
    end_quickly()
    start = time.perf_counter()
    try:
        _run_it(options)
    finally:
        if not options.verbose and not any(one.accelerated for one in found) and not expressions.are_used():
            print(f"fastbp: nothing was accelerated: {_why_not(found)}", file=sys.stderr)
        if counter is not None:
            content = _content(found, counter.counts, time.perf_counter() - start)
            _write_json(options.json, content)
            if options.verbose:
                print(*filter(None, (_verdicts(found), _counts(counter.counts))), sep="\n", file=sys.stderr)


def audit(arguments: Sequence[str]) -> None:
    """`fastbp audit ...`: ends as the script ends, or with status 1 at the first difference."""
    parser = _parser("audit", AUDIT)
    parser.add_argument("--tolerance", type=float, help="of the largest magnitude in an array (float64: 1e-10)")
    options = parser.parse_args(arguments)
    auditor = Auditor(options.tolerance)
    found = start_accelerating(auditor, options.only_known)
    start, difference = time.perf_counter(), None
    try:
        _run_it(options)
    except DifferenceFound as error:
        difference = str(error)
    finally:
        content = _content(found, auditor.audits, time.perf_counter() - start)
        _write_json(options.json, {**content, "difference": difference})
        report = (_verdicts(found), _audits(auditor.audits), *_left_out(auditor.audits))
        print(*filter(None, report), sep="\n", file=sys.stderr)
    if difference is not None:
        print(f"Different: {difference}", file=sys.stderr)
        sys.exit(1)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"fastbp {name}", description=description, allow_abbrev=False)
    parser.add_argument("-m", "--module", action="store_true", help="SCRIPT is the name of a module, as in python -m")
    parser.add_argument(
        "--only-known", action="store_true", help="accelerate the book's own text, and try nothing else"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to a file")
    parser.add_argument("script", metavar="SCRIPT", help="a Python file")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="what the script is given")
    return parser


def _run_it(options: argparse.Namespace) -> None:
    try:
        (run_module if options.module else run_script)(options.script, options.arguments)
    except CannotRun as error:
        print(f"fastbp: {error}", file=sys.stderr)
        sys.exit(1 if options.module else 2)
    finally:
        script_is_over()


def _content(found: list[Found], counts: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "definitions": [dataclasses.asdict(one) for one in _shown(found)],
        "calls": {name: dataclasses.asdict(count) for name, count in counts.items()},
    }


def _write_json(file: Path | None, content: dict[str, Any]) -> None:
    if file is None:
        return
    try:
        file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    except OSError as error:
        print(f"fastbp: the report could not be written to {file}: {error.strerror}", file=sys.stderr)


def _shown(found: list[Found]) -> list[Found]:
    """Without the classes of installed libraries that happen to have a forward and a backward."""
    return [one for one in found if one.accelerated or "site-packages" not in Path(one.file).parts]


def _why_not(found: list[Found]) -> str:
    """In one line, of what was looked at last: a script's own classes come after its imports."""
    shown = _shown(found)
    if not shown:
        return "no class with a forward and a backward was defined in Python code"
    last = shown[-1]
    others = f"; nor were {len(shown) - 1} others" if len(shown) > 1 else ""
    place = f"{os.path.basename(last.file)}:{last.line}"
    return f"{last.name} ({place}) was not patched: {last.reason}{others}; see --verbose"


def _verdicts(found: list[Found]) -> str:
    shown = _shown(found)
    if not shown:
        if expressions.are_used():
            return ""
        return f"fastbp: nothing was accelerated: {_why_not(found)}"
    rows = []
    for one in shown:
        verdict = "accelerated" if one.accelerated else "not patched"
        note = one.reason or (one.version.note if one.version else "")
        note = ", ".join(filter(None, (one.how, "" if note == COMPAT else note)))
        rows.append(
            (
                f"{os.path.relpath(one.file) if os.path.exists(one.file) else one.file}:{one.line}",
                one.name,
                verdict,
                note,
            )
        )
    return _table(("defined at", "name", "", ""), rows)


def _counts(counts: dict[str, Any]) -> str:
    rows = [
        (name, f"{count.calls - count.passed:,}", f"{count.passed:,}", f"{count.seconds:.3f}")
        for name, count in counts.items()
        if count.calls
    ]
    return _table(("call", "compiled", "left to your code", "seconds"), rows) if rows else ""


def _audits(audits: dict[str, Any]) -> str:
    rows = [
        (
            name, f"{one.calls - one.passed:,}", f"{one.passed:,}", f"{one.absolute:.1e}", f"{one.relative:.1e}",
            f"{one.own_seconds:.3f}", f"{one.seconds:.3f}", f"{one.own_seconds / one.seconds:.1f}x" if one.seconds else "",
        )
        for name, one in audits.items()
        if one.calls
    ]  # fmt: skip
    head = (
        "call",
        "compared",
        "left to your code",
        "largest difference",
        "relative",
        "your seconds",
        "fastbp's",
        "gain",
    )
    return _table(head, rows) if rows else ""


def _left_out(audits: dict[str, Any]) -> Iterator[str]:
    for name, one in audits.items():
        if one.left_out:
            yield (
                f"{name}: in {one.left_out:,} calls the gradient of the network's input was neither computed nor compared; "
                "the network's gradient method drops it."
            )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(_lines([head, *rows], widths))


def _lines(rows: Sequence[tuple[str, ...]], widths: list[int]) -> Iterator[str]:
    for row in rows:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
