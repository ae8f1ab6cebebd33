"""A method compiled anew from its own source, changed here and there: lines, names and whatever else shows stay."""

from __future__ import annotations
import __future__

import ast
import os
from collections.abc import Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

LOOKING = {"locals", "globals", "vars", "eval", "exec", "dir"}  # by which a method would see what is put into it
_INSTALLED = ("site-packages", "dist-packages", os.path.dirname(os.__file__))


def is_installed(code: CodeType) -> bool:
    """Whether a function is of Python's library or an installed package, which need not be read."""
    return any(one in code.co_filename for one in _INSTALLED)


def statements_at(source: str, place: ast.stmt) -> list[ast.stmt]:
    """Statements as if they were written where another one is: an error in them shows that line."""
    made = ast.parse(source).body
    for part in (one for statement in made for one in ast.walk(statement)):
        if isinstance(part, ast.expr | ast.stmt):
            ast.copy_location(part, place)
    return made


def recompiled(method: FunctionType, owner: str, node: ast.FunctionDef, names: Mapping[str, Any]) -> FunctionType:
    """A function as `method` is, of another body, in which `names` are variables with these values.

    It is compiled within a class, as names with two underscores are read there, and within a function, of which `names` are
    variables, and the class, which the method may name, is not.
    """
    within = ast.parse(f"def outer({', '.join(names)}):\n    global {owner}\n    class {owner}:\n        pass")
    within.body[0].body[1].body = [node]  # type: ignore[attr-defined]
    future = method.__code__.co_flags & __future__.annotations.compiler_flag
    code = compile(within, method.__code__.co_filename, "exec", flags=future, dont_inherit=True)
    inner = _code_named(_code_named(_code_named(code, "outer"), owner), node.name)
    cells = tuple(CellType(names[name]) for name in inner.co_freevars)
    made = FunctionType(inner, method.__globals__, method.__name__, method.__defaults__, cells)
    made.__dict__.update(method.__dict__)
    annotations = "__annotate__" if hasattr(method, "__annotate__") else "__annotations__"  # not evaluated since 3.14
    for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__", annotations):
        setattr(made, name, getattr(method, name))
    return made


def _code_named(code: CodeType, name: str) -> CodeType:
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
