"""From statements (see `statements`) to a program of the kernel `run_program`, once it shows which places are arrays.

The statements are gone through with symbols for values: an array is a row of the program, whatever is computed of numbers
alone stays an expression, which Python evaluates in each call.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from .statements import OPERATORS, Reader, Run, place_of

MOST_INPUTS, MOST_OUTPUTS, BLOCK = 5, 4, 128  # the kernel's
CODES = {"add": 0, "subtract": 1, "multiply": 2, "divide": 3, "square root": 4}


class NotAProgram(Exception):
    """The statements do something that no program does, with such values."""


@dataclass
class Symbol:
    """What a place holds: an array, in `row` after what was done until now, or a number, by its expression.

    given: the number of the input that it is, for an array that was there before. Two places may hold the same.
    """

    row: int = -1
    expression: ast.expr | None = None
    given: int = -1
    is_changed: bool = False


class Plan(NamedTuple):
    """What is to be done in a call. arrays: which of the values are arrays; changed: which inputs are written into.

    numbers: makes the constants, the results that are numbers, and those in between, of the values. results: for each, the
    number of an input, of a new array, or of a number of `numbers`, and which of these it is.
    """

    operations: np.ndarray
    outputs: np.ndarray
    rows: int
    arrays: tuple[int, ...]
    changed: tuple[int, ...]
    made: int
    numbers: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]]
    results: tuple[tuple[str, int], ...]


@dataclass
class _Planning:
    """The program while the statements are gone through; constants are known by the text of their expression."""

    reader: Reader
    run: Run
    arrays: tuple[int, ...]
    operations: list[tuple[int, int, int, int]] = field(default_factory=list)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    symbols: dict[str, Symbol] = field(default_factory=dict)
    numbers: dict[str, ast.expr] = field(default_factory=dict)  # that places hold at any time: they may raise an error

    def __post_init__(self) -> None:
        for number, place in enumerate(self.run.reads):
            if number in self.arrays:
                given = self.arrays.index(number)
                self.symbols[place] = Symbol(row=given, given=given)
            else:
                self.symbols[place] = Symbol(expression=ast.Name(f"place{number}", ast.Load()))

    def statement(self, node: ast.stmt) -> Symbol | None:
        """What is returned, if this returns."""
        match node:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                self.put(target, self.value(value))
            case ast.AugAssign(target=target, op=operator, value=value):
                before = self.symbols[place_of(target) or ""]
                self.put(target, self.changed(before, operator, self.value(value)))
            case ast.Return(value=ast.expr() as value):
                return self.value(value)
        return None

    def put(self, target: ast.expr, symbol: Symbol) -> None:
        self.symbols[place_of(target) or ""] = symbol
        if symbol.expression is not None:
            self.numbers[ast.dump(symbol.expression)] = symbol.expression

    def changed(self, before: Symbol, operator: ast.operator, by: Symbol) -> Symbol:
        """An array is changed itself, for all places that hold it; a number is replaced."""
        made = self.operation(operator, before, by)
        if before.expression is not None:
            return made
        before.row, before.is_changed = made.row, True
        return before

    def value(self, node: ast.expr) -> Symbol:
        """What a simple expression gives; for a place, the very symbol that it holds."""
        if isinstance(node, ast.Constant):
            return Symbol(expression=node)
        if (place := place_of(node)) is not None:
            return self.symbols[place]
        match node:
            case ast.BinOp(left=left, op=operator, right=right):
                return self.operation(operator, self.value(left), self.value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.negative(self.value(operand))
            case ast.UnaryOp(operand=operand):
                return self.value(operand)
            case ast.Call(func=ast.Attribute(value=copied, attr="copy"), args=[]):
                return self.copied(self.value(copied))
            case ast.Call(func=function, args=[argument]):
                return self.called(function, self.value(argument))
        raise NotAProgram

    def copied(self, symbol: Symbol) -> Symbol:
        if symbol.expression is not None:
            raise NotAProgram
        return Symbol(row=symbol.row)

    def called(self, function: ast.expr, argument: Symbol) -> Symbol:
        if argument.expression is not None:
            return Symbol(expression=ast.Call(function, [argument.expression], []))
        name = self.reader.function_of(function)
        if name is np.sqrt:
            return self.made("square root", argument.row, argument.row)
        if name is np.square:
            return self.made("multiply", argument.row, argument.row)
        raise NotAProgram

    def negative(self, symbol: Symbol) -> Symbol:
        """-symbol; for an array -1 times it, which has the same bits."""
        if symbol.expression is not None:
            return Symbol(expression=ast.UnaryOp(ast.USub(), symbol.expression))
        return self.operation(ast.Mult(), symbol, Symbol(expression=ast.Constant(-1.0)))

    def operation(self, operator: ast.operator, left: Symbol, right: Symbol) -> Symbol:
        if left.expression is not None and right.expression is not None:
            return Symbol(expression=ast.BinOp(left.expression, operator, right.expression))
        if isinstance(operator, ast.Pow):
            exponent = right.expression
            if not isinstance(exponent, ast.Constant) or exponent.value != 2:
                raise NotAProgram
            return self.made("multiply", left.row, left.row)
        return self.made(OPERATORS[type(operator)], self.row_of(left), self.row_of(right))

    def row_of(self, symbol: Symbol) -> int:
        """Constants are counted downwards from -1 until all are known."""
        if symbol.expression is None:
            return symbol.row
        text = ast.dump(symbol.expression)
        self.constants.setdefault(text, symbol.expression)
        return -1 - list(self.constants).index(text)

    def made(self, name: str, a: int, b: int) -> Symbol:
        row = len(self.arrays) + len(self.operations)
        self.operations.append((CODES[name], row, a, b))
        return Symbol(row=row)


def plan_of(run: Run, function: FunctionType, arrays: tuple[int, ...]) -> Plan:
    """How to make the run where the values of these numbers are arrays. Raises NotAProgram."""
    planning = _Planning(Reader(function), run, arrays)
    symbols = list(planning.symbols.values())  # those of the inputs, whatever places hold afterwards
    returned = None
    for statement in run.statements:
        returned = planning.statement(statement)
    ends = [planning.symbols[place] for place in run.sets] + ([returned] if returned is not None else [])
    changed = [one for one in symbols if one.is_changed]
    fresh: list[Symbol] = []
    numbers: list[ast.expr] = []
    results: list[tuple[str, int]] = []
    for one in ends:
        if one.expression is not None:
            results.append(("number", len(numbers)))
            numbers.append(one.expression)
        elif one.given >= 0:
            results.append(("input", one.given))
        else:
            known = [place for place, other in enumerate(fresh) if other is one]
            results.append(("made", known[0] if known else len(fresh)))
            fresh += [] if known else [one]
    if (
        len(arrays) > MOST_INPUTS
        or len(changed) + len(fresh) > MOST_OUTPUTS
        or not changed + fresh
        or not planning.operations
    ):
        raise NotAProgram
    shift = len(planning.constants)
    seen = {*planning.constants, *map(ast.dump, numbers)}
    others = [one for text, one in planning.numbers.items() if text not in seen]
    operations, rows = _renumbered(planning.operations, len(arrays), shift, [*changed, *fresh])
    return Plan(
        operations, rows[0], rows[1], arrays, tuple(one.given for one in changed), len(fresh),
        _numbers(run, function, list(planning.constants.values()), numbers, others), tuple(results),
    )  # fmt: skip


def _renumbered(
    operations: list[tuple[int, int, int, int]], inputs: int, constants: int, results: list[Symbol]
) -> tuple[np.ndarray, tuple[np.ndarray, int]]:
    """With constants after the inputs, and rows used again once nothing reads them any more."""
    last = {row: place for place, (_, _, a, b) in enumerate(operations) for row in (a, b)}
    last.update({one.row: len(operations) for one in results})
    last.update({-1 - i: len(operations) for i in range(constants)})
    rows = {row: row for row in range(inputs)} | {-1 - i: inputs + i for i in range(constants)}
    free: list[int] = []
    most = inputs + constants
    made = []
    for place, (code, row, a, b) in enumerate(operations):
        read = rows[a], rows[b]
        free += [rows[one] for one in {a, b} if last[one] == place and one >= inputs]
        if not free:
            free.append(most)
            most += 1
        rows[row] = free.pop()
        made.append((code, rows[row], *read))
        if row not in last:
            free.append(rows[row])
    outputs = np.array([rows[one.row] for one in results], np.int64)
    return np.array(made, np.int64).reshape(-1, 4), (outputs, most)


def _numbers(run: Run, function: FunctionType, *groups: list[ast.expr]) -> Callable[..., Any]:
    """A function of the values of `reads`: the numbers of each group of expressions, as the method's own names read them."""
    arguments = ", ".join(f"place{number}" for number in range(len(run.reads)))
    made = ast.parse(f"lambda {arguments}: ()", mode="eval")
    assert isinstance(made.body, ast.Lambda)
    elements: list[ast.expr] = [ast.Tuple(copy.deepcopy(group), ast.Load()) for group in groups]
    made.body.body = ast.Tuple(elements, ast.Load())
    code = compile(ast.fix_missing_locations(made), "<numbers>", "eval")
    evaluate: Callable[..., Any] = eval(code, function.__globals__)
    return evaluate
