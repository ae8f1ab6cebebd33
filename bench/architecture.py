"""`python -m bench.architecture`: the drawing of docs/architecture.md, made from the code's imports; --write puts it there.

A room is a package or a file of fastbp/ and kernels/. An arrow is drawn where one imports the other, unless a longer way
says so already. Nothing is imported: the files are read.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.ja.md"]
BEGIN, END = "<!-- drawing: python -m bench.architecture --write -->\n", "<!-- end of the drawing -->\n"
LEFT_OUT = {
    "__init__",
    "__main__",
    "__version__",
    "_version",
    "bench",
    "_moved",
    "_files",
    "_checks",
    "callbacks",
    "distributed",
    "optimizers",
}
DYNAMIC = [("backends", "reference"), ("backends", "kernels")]  # which backends imports by name, when they are wanted


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports)."""
    found = set(DYNAMIC)
    for file in sorted([*(ROOT / "fastbp").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        module = file.relative_to(ROOT).with_suffix("").parts
        for target in imports(file, module):
            one, other = room(module), room(target)
            if one != other and other and one and not {one, other} & LEFT_OUT:
                found.add((one, other))
    return found


def imports(file: Path, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a file imports of this project, from the top on."""
    package = module[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            named = tuple(node.module.split(".")) if node.module else ()
            yield from ([(*base, *named)] if named else [(*base, alias.name) for alias in node.names])


def room(module: tuple[str, ...]) -> str:
    """The room of a module: kernels' by its package there, fastbp's by its package or file."""
    if module[0] == "kernels":
        inner = module[1] if len(module) > 1 else "__init__"
        return "kernels" if inner == "__init__" else f"kernels/{inner}"
    return module[1] if len(module) > 1 else "__init__"


def reduced(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the arrows that a longer way says."""
    targets: dict[str, set[str]] = {}
    for one, other in found:
        targets.setdefault(one, set()).add(other)

    def reach(start: str) -> set[str]:
        seen, waiting = set(), list(targets.get(start, ()))
        while waiting:
            if (place := waiting.pop()) not in seen:
                seen.add(place)
                waiting += targets.get(place, ())
        return seen

    return sorted(
        (one, other) for one, other in found if not any(other in reach(via) for via in targets[one] - {other})
    )


def drawing() -> str:
    """A Mermaid flowchart, which GitHub and MkDocs draw."""
    lines = [f'    {name(one)}["{one}"] --> {name(other)}["{other}"]' for one, other in reduced(arrows())]
    return "```mermaid\nflowchart TD\n" + "\n".join(lines) + "\n```\n"


def name(place: str) -> str:
    return re.sub(r"\W", "_", place)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.architecture", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into docs/architecture.md")
    if not parser.parse_args().write:
        print(drawing(), end="")
        return
    for page in PAGES:
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        page.write_text(before + BEGIN + drawing() + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
