"""Statements of a method that compute with arrays number by number: an optimizer's rule, whatever it is and however typed.

    self.m[key] += (1 - self.beta1) * (grads[key] - self.m[key])
    m_hat = self.m[key] / (1 - self.beta1**self.t)
    params[key] -= self.lr * m_hat / (np.sqrt(self.v[key]) + 1e-8)

Such statements that follow each other are made one `Run`. Which of its names are arrays shows when it is called; then they
become a program of the kernel `run_program`, which makes the same operations in the same order, in one pass.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from .recognition import copied_tree

OPERATORS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
LEAST_OPERATIONS = 2  # of a run; `p -= lr * g` has two
RESULT = "_fastbp_result"  # what a run returns, where its last statement does


class Run(NamedTuple):
    """Statements that follow each other in one body. places: the variables, attributes and items that they read or set."""

    statements: tuple[ast.stmt, ...]
    reads: tuple[str, ...]  # places whose values they begin with
    sets: tuple[str, ...]  # places that hold something else, or that may be looked at, afterwards
    returns: bool

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.reads, *self.sets)))


def place_of(node: ast.AST) -> str | None:
    """A variable, an attribute or an item, as it is read; None for anything else, and for what is not simple."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return None if (inner := place_of(value)) is None else f"{inner}.{name}"
        case ast.Subscript(value=value, slice=ast.Name() | ast.Constant() | ast.Attribute() as key):
            inner, index = place_of(value), ast.unparse(key)
            return None if inner is None else f"{inner}[{index}]"
    return None


class Reader:
    """Says what is simple in a function, by the names of its module that none of its own variables has."""

    def __init__(self, function: FunctionType):
        own = function.__code__.co_varnames
        self.names = {name: value for name, value in function.__globals__.items() if name not in own}
        self.names.update({} if "float" in own else {"float": self.names.get("float", float)})

    def function_of(self, node: ast.AST) -> Any:
        """np.sqrt, np.square, math.sqrt or float, by whatever name; None for anything else."""
        match node:
            case ast.Name(id=name):
                found = self.names.get(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                found = getattr(self.names.get(module), name, None)
            case _:
                return None
        return found if any(found is one for one in (np.sqrt, np.square, math.sqrt, float)) else None

    def is_simple(self, node: ast.AST) -> bool:
        match node:
            case ast.Constant(value=value):
                return type(value) in (int, float)
            case ast.BinOp(left=left, op=operator, right=right):
                return isinstance(operator, (*OPERATORS, ast.Pow)) and self.is_simple(left) and self.is_simple(right)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self.is_simple(operand)
            case ast.Call(func=function, args=[argument], keywords=[]):
                return self.function_of(function) is not None and self.is_simple(argument)
            case ast.Call(func=ast.Attribute(value=copied, attr="copy"), args=[], keywords=[]):
                return place_of(copied) is not None
        return place_of(node) is not None

    def is_statement(self, node: ast.stmt) -> bool:
        match node:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                return place_of(target) is not None and self.is_simple(value)
            case ast.AugAssign(target=target, op=operator, value=value):
                return isinstance(operator, tuple(OPERATORS)) and place_of(target) is not None and self.is_simple(value)
            case ast.Return(value=ast.expr() as value):
                return self.is_simple(value)
        return False


def runs_in(node: ast.FunctionDef, function: FunctionType) -> Iterator[tuple[list[ast.stmt], Run]]:
    """The runs of a function, each with the body that it is in."""
    reader = Reader(function)
    for body in _bodies(node):
        first = 0
        while first < len(body):
            end = first
            while end < len(body) and reader.is_statement(body[end]):
                end += 1
                if isinstance(body[end - 1], ast.Return):
                    break
            if end > first and (run := _run(tuple(body[first:end]), node)) is not None:
                yield body, run
            first = max(end, first + 1)


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for child in ast.walk(node):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(child, name, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                yield body


def _run(statements: tuple[ast.stmt, ...], function: ast.FunctionDef) -> Run | None:
    """None where it is too little, or where what it sets would change which places its other statements mean."""
    if operations_in(statements) < LEAST_OPERATIONS or not any(_changes_state(one) for one in statements):
        return None
    reads, sets, nodes = _reads_and_sets(statements)
    if any(_is_part(place, node) for place in sets for other, node in nodes.items() if other != place):
        return None
    seen = tuple(
        place for place in sets if not place.isidentifier() or place in reads or _is_read(place, function, statements)
    )
    return Run(statements, tuple(reads), seen, isinstance(statements[-1], ast.Return))


def _reads_and_sets(statements: tuple[ast.stmt, ...]) -> tuple[dict[str, None], dict[str, None], dict[str, ast.expr]]:
    """The places whose values statements begin with, those that they set, and an expression of each."""
    reads: dict[str, None] = {}
    sets: dict[str, None] = {}
    nodes: dict[str, ast.expr] = {}
    for statement in statements:
        for node in _places_read(statement):
            nodes[place := place_of(node) or ""] = node
            if place not in sets:
                reads[place] = None
        if (target := _target(statement)) is not None:
            nodes[place := place_of(target) or ""] = target
            sets[place] = None
    return reads, sets, nodes


def split(run: Run, numbers: set[str]) -> list[Run]:
    """A run as several that have no arrays in common, where these places are numbers; empty if it is one.

    What is computed of numbers alone is a statement of each.
    """
    of_numbers: list[ast.stmt] = []
    groups: list[tuple[set[str], list[ast.stmt]]] = []
    for statement in run.statements:
        reads, sets, _ = _reads_and_sets((statement,))
        if numbers.issuperset(reads) and all(one[0].isdisjoint(sets) for one in groups):
            numbers = numbers | set(sets)
            of_numbers.append(statement)
            continue
        if not numbers.isdisjoint(sets):
            return []
        places, statements = {*reads, *sets} - numbers, [statement]
        for group in [one for one in groups if not places.isdisjoint(one[0])]:
            places, statements = places | group[0], group[1] + statements
            groups.remove(group)
        groups.append((places, statements))
    if len(groups) < 2 or run.returns:
        return []
    made = []
    for _, statements in groups:
        chosen = tuple(one for one in run.statements if one in of_numbers or one in statements)
        reads, sets, _ = _reads_and_sets(chosen)
        made.append(Run(chosen, tuple(reads), tuple(one for one in run.sets if one in sets), False))
    return made


def operations_in(statements: tuple[ast.stmt, ...]) -> int:
    """How many operations they make with numbers or arrays."""
    return sum(isinstance(part, ast.BinOp | ast.AugAssign) for one in statements for part in ast.walk(one))


def _changes_state(statement: ast.stmt) -> bool:
    """Sets an item or an attribute, or changes an array."""
    return isinstance(statement, ast.AugAssign) or isinstance(_target(statement), ast.Attribute | ast.Subscript)


def _target(statement: ast.stmt) -> ast.expr | None:
    if isinstance(statement, ast.Assign):
        return statement.targets[0]
    return statement.target if isinstance(statement, ast.AnnAssign | ast.AugAssign) else None


def _places_read(statement: ast.stmt) -> Iterator[ast.expr]:
    """The places whose values a statement reads, in their order."""
    if isinstance(statement, ast.AugAssign):
        yield statement.target
    yield from places_in(statement.value)  # type: ignore[attr-defined]


def places_in(node: ast.expr) -> Iterator[ast.expr]:
    """The places in a simple expression, without the functions that it calls."""
    if isinstance(node, ast.Call):
        inner = [node.func.value] if isinstance(node.func, ast.Attribute) and not node.args else node.args
        for one in inner:
            yield from places_in(one)
    elif place_of(node) is not None:
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from places_in(child)


def _is_part(place: str, node: ast.expr) -> bool:
    """Whether a place is named within another one, as `self.m` or `key` is in `self.m[key]`."""
    return any(place_of(part) == place for part in ast.walk(node) if part is not node)


def _is_read(name: str, function: ast.FunctionDef, statements: tuple[ast.stmt, ...]) -> bool:
    """Whether a variable is read anywhere but in the run."""
    inside = {id(part) for one in statements for part in ast.walk(one)}
    for part in ast.walk(function):
        if isinstance(part, ast.Global | ast.Nonlocal) and name in part.names:
            return True
        if (
            isinstance(part, ast.Name)
            and part.id == name
            and not isinstance(part.ctx, ast.Store)
            and id(part) not in inside
        ):
            return True
    return False


def own_function(run: Run, function: FunctionType) -> FunctionType:
    """The statements as a function of the values of `reads`, which returns those of `sets`, and what the run returns."""
    names = {place: f"place{number}" for number, place in enumerate(run.places)}

    class Renaming(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            place = place_of(node)
            if place is not None and place in names:
                context = node.ctx if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) else ast.Load()
                return ast.copy_location(ast.Name(names[place], context), node)
            return self.generic_visit(node)

    body: list[ast.stmt] = []
    for statement in run.statements:
        renamed = Renaming().visit(copied_tree(statement))
        if isinstance(renamed, ast.Return):
            assert renamed.value is not None
            renamed = ast.copy_location(ast.Assign([ast.Name(RESULT, ast.Store())], renamed.value), renamed)
        body.append(renamed)
    results = [names[place] for place in run.sets] + [RESULT] * run.returns
    end = ast.parse(
        f"def {function.__name__}({', '.join(names[one] for one in run.reads)}):\n    return ({', '.join(results)},)"
    )
    definition = end.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.body = [*body, ast.copy_location(definition.body[0], run.statements[-1])]
    ast.copy_location(definition, run.statements[0])
    names_of: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(end), function.__code__.co_filename, "exec", dont_inherit=True), names_of)
    code = names_of[function.__name__].__code__
    return FunctionType(code, function.__globals__, function.__name__)
