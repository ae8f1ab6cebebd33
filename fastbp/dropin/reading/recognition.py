"""Which classes and functions are the book's own: recognised by their code, not by their name.

A definition is brought to a canonical text, whose digest is looked up in `known_versions`. Comments, docstrings, formatting,
annotations, the order of methods, the name of the definition and those of local variables do not count; everything that
could change what the code does, does. None of the book's code is kept here, only digests of it:

    python -m fastbp.dropin.reading.recognition FILE.py ...

prints the digest of every class and function in the files, and the version where it is known.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeVar

from .known_versions import KNOWN_VERSIONS, KnownVersion

Node = TypeVar("Node", bound=ast.AST)
Definition = ast.ClassDef | ast.FunctionDef
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind", "type_ignores", "simple"}


def class_version(code: CodeType, name: str, module: dict[str, Any]) -> KnownVersion | None:
    """The version that a class is, from the code of its body; None where it is another or its source is not there."""
    node = _definition(code.co_filename, name, code.co_firstlineno, module)
    return KNOWN_VERSIONS.get(digest(node)) if isinstance(node, ast.ClassDef) else None


def function_version(function: FunctionType) -> KnownVersion | None:
    """The version that a function is; None where it is another or its source is not there."""
    node = function_node(function)
    return None if node is None else KNOWN_VERSIONS.get(digest(node))


def function_node(function: FunctionType) -> ast.FunctionDef | None:
    """A function's syntax tree; None where its source is not there, or has changed."""
    code = function.__code__
    node = _definition(code.co_filename, code.co_name, code.co_firstlineno, function.__globals__)
    return node if isinstance(node, ast.FunctionDef) else None


def copied_tree(node: Node) -> Node:
    """A copy of a syntax tree, in half of the time that `copy.deepcopy` takes."""
    made = type(node).__new__(type(node))
    for name, value in vars(node).items():
        vars(made)[name] = _copied_value(value)
    return made


def _copied_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied_value(one) for one in value]
    return copied_tree(value) if isinstance(value, ast.AST) else value


def _definition(file: str, name: str, line: int, module: dict[str, Any]) -> Definition | None:
    linecache.checkcache(file)
    return _definitions("".join(linecache.getlines(file, module))).get((name, line))


@lru_cache(maxsize=16)
def _definitions(source: str) -> dict[tuple[str, int], Definition]:
    """Every class and function of a source by its name and its first line, that of a decorator where it has any."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {(node.name, min(part.lineno for part in (node, *node.decorator_list))): node for node in found}


def digest(node: Definition) -> str:
    """Equal for definitions that differ only in what does not count."""
    canonical = _class(node) if isinstance(node, ast.ClassDef) else _function(node, "")
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def _class(node: ast.ClassDef) -> str:
    bases = [base for base in node.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    methods = {part.name: _function(part, part.name) for part in node.body if isinstance(part, ast.FunctionDef)}
    others = [part for part in _without_strings(node.body) if not isinstance(part, ast.FunctionDef)]
    repeated = len(methods) + len(others) - len(_without_strings(node.body))
    outside = [_text(part, {}) for part in (*bases, *node.keywords, *node.decorator_list, *others)]
    return repr((outside, repeated, [methods[name] for name in sorted(methods)]))


def _function(node: ast.FunctionDef, name: str) -> str:
    places = {local: f"local{place}" for place, local in enumerate(_locals(node))}
    return repr(
        (name, _text(node.args, places), [_text(part, places) for part in (*node.decorator_list, *_body(node))])
    )


def _body(node: ast.FunctionDef) -> list[ast.stmt]:
    return _without_strings(node.body)


def _without_strings(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without docstrings, strings that stand as comments, and `pass`."""
    return [
        part
        for part in body
        if not isinstance(part, ast.Pass)
        and not (
            isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
        )
    ]


def _locals(function: ast.FunctionDef) -> list[str]:
    """The names that belong to a function, arguments first, in the order in which they appear."""
    found: dict[str, None] = {}
    outer: set[str] = set()
    for node in _in_order(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
        elif isinstance(node, ast.arg):
            found[node.arg] = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
    return [name for name in found if name not in outer]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _text(node: Any, places: dict[str, str]) -> str:
    """An expression or statement with its local names replaced; the same for every version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(_text(part, places) for part in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Name):
        return places.get(node.id, f"name {node.id}")
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign([node.target], node.value)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _IGNORED or value is None or value == []:
            continue
        if name == "arg" and isinstance(node, ast.arg):
            value = places.get(value, value)
        elif name == "body" and isinstance(value, list):
            value = _without_strings(value)
        fields.append(f"{name}={_text(value, places)}")
    return f"{type(node).__name__}({','.join(fields)})"


def main(files: list[str]) -> None:
    for file in files:
        for (name, line), node in _definitions(Path(file).read_text("utf-8")).items():
            print(f"{digest(node)}  {file}:{line}  {name}  {KNOWN_VERSIONS.get(digest(node), '')}")


if __name__ == "__main__":
    main(sys.argv[1:])
