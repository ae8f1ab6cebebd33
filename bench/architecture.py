"""`python -m bench.architecture`: the drawing of docs/architecture.md, made from the code's imports; --write draws it.

A room is a package or a file of fastbp/ and kernels/. An arrow is drawn where one imports the other, unless a longer way
says so already. Nothing is imported: the files are read.
"""

from __future__ import annotations

import argparse
import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
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
    """The arrows in Graphviz's language, of rooms in two boxes: fastbp's and kernels'."""
    found = reduced(arrows())
    places = sorted({place for arrow in found for place in arrow})
    lines = ['  node [shape=box, style="rounded,filled", fillcolor="#eef1f8", color="#4c72b0", fontname="Helvetica"]']
    for building in ("fastbp", "kernels"):
        inside = " ".join(
            f'"{place}"' for place in places if (place.split("/")[0] == "kernels") == (building != "fastbp")
        )
        lines.append(f'  subgraph "cluster_{building}" {{ label="{building}" fontname="Helvetica" {inside} }}')
    lines += [f'  "{one}" -> "{other}"' for one, other in found]
    return "digraph {\n" + "\n".join(lines) + "\n}\n"


def drawn() -> str:
    """What PICTURE was drawn from."""
    return html.unescape(PICTURE.read_text("utf-8").partition("<desc>")[2].partition("</desc>")[0])


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.architecture", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="draw it (extra `graph`)")
    if not parser.parse_args().write:
        print(drawing(), end="")
        return
    import pygraphviz

    svg = pygraphviz.AGraph(string=drawing()).draw(format="svg", prog="dot").decode()
    PICTURE.write_text(re.sub(r"(<svg[^>]*>)", rf"\1\n<desc>{html.escape(drawing())}</desc>", svg, count=1), "utf-8")


if __name__ == "__main__":
    main()
