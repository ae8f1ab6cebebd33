"""What a method seems to do: the expressions that its result and the attributes it sets were equal to, every time."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..objects.lazy import LAZY
from ..operations.methods import Operation, names_in
from ..reading.recognition import copied_tree
from .families import Family
from .subjects import Differs, Values, copied, evaluate, same

MOST_TUPLES = 64  # ways of making the same tuple that are followed
OF_ROWS = ("batch_mean", "batch_var", "std")  # what a normalisation's own formulas may call by names of their own
OLD = {"running_mean": "old_mean", "running_var": "old_var"}
MOST_VARIABLES = 2  # of such a formula
ARITHMETIC = (
    ast.BinOp,
    ast.operator,
    ast.UnaryOp,
    ast.unaryop,
    ast.Constant,
    ast.Attribute,
    ast.Name,
    ast.expr_context,
)


class Guess:
    """The expressions, as calls are seen one after the other; apart from kinds of arguments where there are none.

    Of float32, say, a method may make float64, and be an operation's all the same for float64 alone.
    """

    def __init__(self, operation: Operation, family: Family):
        self.operation, self.family = operation, family
        self.results: list[str] = []
        self.sets: dict[str, list[str]] = {}
        self.seen: set[Any] = set()
        self.differ: dict[Any, Differs] = {}

    def see(self, kind: Any, result: Any, before: Values, after: Values, values: Values, theirs: Values) -> None:
        if kind in self.differ:
            return
        results = _given_by(self.operation, _matching(self.results or None, result, values, theirs, self.family))
        if not results and result is not None:  # most operations differ here
            self.differ[kind] = Differs(f"gives other numbers{_by_how_much(result, values)}", 1)
            return
        sets = _follow(self.sets, before, after, values, theirs, self.family)
        if result is None:  # all that it makes are attributes
            is_made = any(_given_by(self.operation, found) for found in sets.values())
            results = ["None"] if is_made and self.results in ([], ["None"]) else []
        unexplained = [target for target, found in sets.items() if not found]
        if not results:
            self.differ[kind] = Differs(f"gives other numbers{_by_how_much(result, values)}", 1)
        elif unexplained:
            self.differ[kind] = Differs(f"sets {unexplained[0].removesuffix('[...]')} to something else", 2)
        else:
            self.results, self.sets = results, sets
            self.seen.add(kind)

    def must_agree(self, name: str) -> None:
        if not self.seen - set(self.differ):
            error = next(iter(self.differ.values()), Differs("does not take such arguments"))
            raise Differs(f"{name} {error}", error.stage)

    @property
    def chosen(self) -> tuple[tuple[str, str], ...]:
        """What is set to what. An argument that the operation itself changes is as it is to be."""
        return tuple((target, found[0]) for target, found in self.sets.items() if target != f"{found[0]}[...]")


def _given_by(operation: Operation, expressions: list[str]) -> list[str]:
    """Those that are made of the operation's results: a layer that gives its argument back is none of its kind."""
    return [one for one in expressions if names_in(one) & set(operation.outputs)]


def _by_how_much(result: Any, values: Values) -> str:
    out: Any = values.get("loss", values.get("out", values.get("dx")))
    if not isinstance(result, np.ndarray | np.generic | float):
        return f" (a {type(result).__name__}, not an array)"
    if np.shape(result) != np.shape(out):
        return f" (of shape {np.shape(result)}, not {np.shape(out)})"
    with np.errstate(all="ignore"):
        most = np.nanmax(np.abs(np.asarray(result) - out))
    return f" (by up to {most:.1e})" if most else ", or the same in another array: its argument's, or a new one"


def snapshot(values: Values, paths: Any) -> Values:
    """The values at some paths, and copies of them."""
    return {path: (value := evaluate(path, values), copied(value)) for path in paths}


def _follow(
    sets: dict[str, list[str]], before: Values, after: Values, values: Values, theirs: Values, family: Family
) -> dict[str, list[str]]:
    """Find what each attribute has been set to; one that stayed what it was must be what it would be set to."""
    found = dict(sets)
    for path, (now, _) in after.items():
        was, as_it_was = before[path]
        if now is NotImplemented:
            continue
        is_same = now is was
        in_place = is_same and isinstance(now, np.ndarray)
        unchanged = is_same and (not in_place or same(now, as_it_was, exactly=True))
        target = f"{path}[...]" if (in_place and not unchanged) or f"{path}[...]" in sets else path
        if unchanged and target not in sets:
            continue
        found[target] = _matching(sets.get(target), now, values, theirs, family, by_value=in_place)
    return found


def _matching(
    known: list[str] | None, actual: Any, values: Values, theirs: Values, family: Family, by_value: bool = False
) -> list[str]:
    """Those of the expressions, all at first, that have this value, and share memory with the same inputs."""
    candidates = _expressions(values, family) if known is None else known
    if known is None and type(actual) is tuple and any(isinstance(one, np.ndarray) for one in actual):
        parts = [_matching(None, one, values, theirs, family) for one in actual]
        kept = [[one for one in part if one not in LAZY] for part in parts]
        candidates = [f"({', '.join(chosen)},)" for chosen in itertools.islice(itertools.product(*kept), MOST_TUPLES)]
    return [one for one in candidates if _is_value_of(one, actual, values, theirs, by_value)]


def _is_value_of(expression: str, actual: Any, values: Values, theirs: Values, by_value: bool) -> bool:
    value = evaluate(expression, values)
    if by_value and isinstance(value, np.ndarray) and value.dtype.kind == actual.dtype.kind == "f":
        value = value.astype(actual.dtype)
    if not same(value, actual):
        return False
    if by_value or expression in LAZY:
        return True
    parts = zip(value, actual, strict=True) if type(actual) is tuple else [(value, actual)]
    pairs = [(values[role], theirs[role]) for role in theirs if isinstance(theirs[role], np.ndarray)]
    return all(
        (one is mine) == (its is other) and np.may_share_memory(one, mine) == np.may_share_memory(its, other)
        for one, its in parts
        if isinstance(its, np.ndarray)
        for mine, other in pairs
    )


def _expressions(values: Values, family: Family) -> list[str]:
    """What an attribute may be: what the operation knows, shapes, views and copies of it."""
    kept = {role for role, _ in LAZY.values()}
    named = [role for role in values if role not in kept]
    found = [*named, *family.formulas, "None"]
    for role in named:
        if isinstance(values[role], np.ndarray):
            found += [f"{role}.shape", *(f"{role}.shape[{axis}]" for axis in range(values[role].ndim)), f"{role}.size"]
            rows = f"{role}.reshape(len({role}), -1)"
            found += [f"{role}.copy()", f"{role}.T", rows, f"{rows}.T", f"{role}.reshape(1, -1)", f"{role}.T.copy()"]
            found += [f"{role}.reshape(1, -1, 1, 1)"] if values[role].ndim == 1 else []
            found += [f"~{role}"] if values[role].dtype == bool else []
    return found


def own_formulas(formulas: list[tuple[ast.expr, str]], operation: Operation, binding: dict[str, str]) -> Iterator[str]:
    """What a normalisation's own code makes of its attributes, as expressions of the operation: however it keeps its means.

    formulas: expressions, with the name of the object in each. What their variables are is not known: all that they may be
    is given.
    """
    if not set(OF_ROWS) <= set(operation.outputs):
        return
    roles = {path: OLD.get(role, role) for role, path in binding.items()}
    for formula, me in formulas:
        parts = list(ast.walk(formula))
        variables = sorted({part.id for part in parts if isinstance(part, ast.Name)} - {me})
        if all(isinstance(part, ARITHMETIC) for part in parts) and 0 < len(variables) <= MOST_VARIABLES:
            for chosen in itertools.product(OF_ROWS, repeat=len(variables)):
                in_roles = _InRoles(me, roles, dict(zip(variables, chosen, strict=True)))
                yield ast.unparse(in_roles.visit(copied_tree(formula)))


class _InRoles(ast.NodeTransformer):
    """Gives attributes and variables of an expression the names that the operation has for them."""

    def __init__(self, me: str, roles: dict[str, str], variables: dict[str, str]):
        self.me, self.roles, self.variables = me, roles, variables

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        path = f"self.{node.attr}" if ast.unparse(node.value) == self.me else ""
        return ast.Name(self.roles.get(path, "unknown"), ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.variables[node.id], ast.Load())
