"""Whether a layer does nothing but take its steps, one after the other: read from its code, before it is tried.

Trials have few steps, so that nothing may depend on which step it is, or on how many there are: the number of a step may
be an index and nothing else, and what a step gives is handed to the next one as it is. Most such layers are the book's.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

from .recognition import function_node

_ARRAYS = {"zeros", "empty", "zeros_like", "empty_like", "float32", "float64"}  # of NumPy
_BUILTINS = {"range", "reversed", "enumerate", "len", "zip"}
_STATEMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.If, ast.Return, ast.Expr, ast.Pass)
_EXPRESSIONS = (
    ast.Attribute, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.List, ast.ListComp, ast.Name, ast.Slice,
    ast.Starred, ast.Subscript, ast.Tuple, ast.UnaryOp,
)  # fmt: skip
MOST = 3  # of whole numbers that stand in the code, as those of axes do


class NotPlainly(Exception):
    """The layer does something beside; the message says what."""


def takes_its_steps(method: FunctionType, classes: Iterable[type]) -> None:
    """classes: of the steps. Raises NotPlainly."""
    node = function_node(method)
    assert node is not None
    _Reader(node, list(classes)).read()


class _Reader:
    def __init__(self, node: ast.FunctionDef, classes: list[type]):
        self.node, self.classes, self.me = node, classes, node.args.args[0].arg
        self.parents = {child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}
        self.counters: set[str] = set()

    def read(self) -> None:
        parts = [part for statement in self.node.body for part in ast.walk(statement)]
        for part in parts:
            if isinstance(part, ast.For | ast.comprehension):
                self.counters.update(_counted_by(part))
        for part in parts:
            self.part(part)
        self.lists(parts)

    def part(self, part: ast.AST) -> None:
        if isinstance(part, ast.stmt | ast.expr) and not isinstance(part, _STATEMENTS + _EXPRESSIONS):
            raise _beside(part)
        fits: dict[type, Callable[[Any], bool]] = {
            ast.Call: self.call, ast.Attribute: self.attribute, ast.Name: self.name, ast.Constant: _constant,
            ast.If: self.choice, ast.Compare: self.in_choice, ast.BoolOp: self.in_choice, ast.UnaryOp: self.in_choice,
            ast.Slice: _whole, ast.BinOp: _sum, ast.AugAssign: _sum, ast.comprehension: _without_tests,
        }  # fmt: skip
        if not fits.get(type(part), _anything)(part):
            raise _beside(part)

    def call(self, node: ast.Call) -> bool:
        function = node.func
        if isinstance(function, ast.Name):
            is_step = any(function.id == one.__name__ for one in self.classes)
            if function.id == "range":
                return len(node.args) == 1 and not isinstance(node.args[0], ast.BinOp | ast.Constant | ast.UnaryOp)
            return is_step or function.id in _BUILTINS
        assert isinstance(function, ast.Attribute)
        if isinstance(function.value, ast.Name) and function.value.id in ("np", "numpy"):
            return function.attr in _ARRAYS
        return function.attr in ("forward", "backward", "append")

    def attribute(self, node: ast.Attribute) -> bool:
        """Whether it may be read: any of the layer; of a variable its shape, or what a step alone keeps."""
        if not isinstance(node.value, ast.Name):
            return node.attr in ("shape", "append", "forward", "backward")
        if node.value.id in (self.me, "np", "numpy") or node.attr in ("shape", "append", "forward", "backward"):
            return True
        names = [inspect.getattr_static(one, node.attr, None) for one in self.classes]
        return not hasattr(np.ndarray, node.attr) and not any(one is not None for one in names)

    def name(self, node: ast.Name) -> bool:
        """The number of a step is an index."""
        if node.id not in self.counters or isinstance(node.ctx, ast.Store):
            return True
        parent = self.parents[node]
        inside = parent if not isinstance(parent, ast.Tuple) else self.parents[parent]
        return isinstance(inside, ast.Subscript) and inside.value is not node

    def choice(self, node: ast.If) -> bool:
        """What is not there yet begins as zeros."""
        return not node.orelse and all(isinstance(one, ast.Assign) for one in node.body)

    def in_choice(self, node: Any) -> bool:
        """A flag of the layer's, or whether an attribute is None, in an `if`."""
        if isinstance(node, ast.Compare):
            is_none = all(isinstance(one, ast.Constant) and one.value is None for one in node.comparators)
            if not (is_none and isinstance(node.left, ast.Attribute)):
                return False
        elif isinstance(node, ast.UnaryOp) and not (
            isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Attribute)
        ):
            return False
        parent = self.parents[node]
        while isinstance(parent, ast.BoolOp):
            parent = self.parents[parent]
        return isinstance(parent, ast.If)

    def lists(self, parts: list[ast.AST]) -> None:
        """A list that steps are put into is a new one in each call."""
        for part in parts:
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "append":
                name = ast.unparse(part.func.value)
                if not any(ast.unparse(one) == f"{name} = []" for one in self.node.body):
                    raise _beside(part)


def _counted_by(loop: ast.For | ast.comprehension) -> Iterator[str]:
    """The variables of a loop that count."""
    if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Name) and loop.iter.func.id in _BUILTINS:
        targets = loop.target.elts[:1] if isinstance(loop.target, ast.Tuple) else [loop.target]
        if loop.iter.func.id != "zip":
            yield from (one.id for one in targets if isinstance(one, ast.Name))


def _anything(node: Any) -> bool:
    return True


def _constant(node: ast.Constant) -> bool:
    return not isinstance(node.value, int | float) or (type(node.value) is int and node.value <= MOST)


def _whole(node: ast.Slice) -> bool:
    return node.lower is node.upper is node.step is None


def _sum(node: ast.BinOp | ast.AugAssign) -> bool:
    return isinstance(node.op, ast.Add)


def _without_tests(node: ast.comprehension) -> bool:
    return not node.ifs


def _beside(part: Any) -> NotPlainly:
    return NotPlainly(
        f"line {getattr(part, 'lineno', '?')} of it does more than take the next step: {ast.unparse(part)[:60]}"
    )
