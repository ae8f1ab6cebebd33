"""Whether a class may be an operation's at all, by one call that its own method has made: a look before any trial.

The kernels begin when they repay (see `calls`), so what is none of theirs must not count. A script of recurrent layers began
with Numba's import, 0.4 s, and with trials, and took 1.1 of Python's time. The first look takes 25 ms, most of it imports,
none of Numba; it decides nothing but what is counted: where it is wrong, kernels begin later.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ..objects.arguments import WASTED
from ..objects.trying import undisturbed
from ..objects.unforeseen import or_else
from ..operations.methods import Operation
from ..reading.screening import NotPlain, Screened, looked_into, screen
from .families import FAMILIES, Family
from .subjects import FIRST_ROWS, LARGE, attribute_name, copied, first_rows, numbers_of, of_first_rows

NEAR = 1e-3  # of the largest number: an epsilon more or less does not tell layers apart
MOST_LOOKS = 12  # at operations with attributes bound in other ways; whoever needs more is tried


@or_else(False)
def may_be_ours(made: type, layer: Any, arguments: tuple[Any, ...], result: Any, forward: FunctionType) -> bool:
    """Whether any operation makes something like `result` of the arguments of a call of forward that is over."""
    screened = looked_into(screen, type(layer), forward)
    if isinstance(screened, NotPlain):
        return False
    return _is_any(made, layer, arguments, result, screened)


@or_else(False)
def may_be_ours_to_make(made: type, layer: Any, arguments: tuple[Any, ...], forward: FunctionType) -> bool:
    """Whether it would, for a call that is about to be made: a copy of the object makes it first, of a few rows."""
    first = tuple(first_rows(one) if isinstance(one, np.ndarray) and one.ndim else one for one in arguments)
    try:
        result = result_of_copy(layer, first, forward)
    except NotMade:
        return False
    return _is_any(made, layer, first, result, screen(type(layer), forward))


class NotMade(Exception):
    """A copy of an object has not made a call."""


def result_of_copy(layer: Any, arguments: tuple[Any, ...], forward: FunctionType) -> Any:
    """What a copy of an object gives for these arguments. Nobody sees it: no warning is shown, no random number is used up.

    Raises NotMade where the method may do more than set attributes, or has failed, maybe with so few rows alone.
    """
    try:
        with undisturbed():
            return forward(_double(layer, screen(type(layer), forward)), *arguments)
    except Exception as error:
        raise NotMade from error


def _double(layer: Any, screened: Screened) -> Any:
    """An object with a layer's attributes: copies of those that its method sets, but for what is large."""
    double, set_by_it = object.__new__(type(layer)), {attribute_name(path) for path in screened.sets}
    for name, value in vars(layer).items():
        is_large = isinstance(value, np.ndarray) and value.size > LARGE
        vars(double)[name] = value if name not in set_by_it else None if is_large else copied(value)
    return double


def _is_any(made: type, layer: Any, arguments: tuple[Any, ...], result: Any, screened: Screened) -> bool:
    looks = 0
    with undisturbed():  # dropout draws
        for family in sorted(FAMILIES, key=lambda one: not one.is_named(made)):
            if not family.may_be(arguments) or not family.may_give(result, arguments):
                continue
            for operation in family.forward(numbers_of(layer, screened)):
                for binding in family.bindings(operation, layer, list(screened.reads)):
                    looks += 1
                    if looks > MOST_LOOKS or _is_like(family, operation, binding, layer, arguments, result):
                        return True
    return False


def _is_like(
    family: Family, operation: Operation, binding: dict[str, str], layer: Any, arguments: tuple[Any, ...], result: Any
) -> bool:
    results = of_first_rows(family, operation, binding, layer, arguments)
    if not isinstance(results, tuple) or result is None:
        return isinstance(results, tuple) or results is WASTED
    of_all_rows = family.has_flag  # random, or of the statistics of all rows: its shape can be alike, no more
    found = [one for one in results if isinstance(one, np.ndarray | np.generic)]
    wanted = result if isinstance(result, tuple) else (result,)
    return all(any(_are_alike(one, part, of_all_rows) for one in found) for part in wanted)


def _are_alike(some: Any, all_: Any, in_shape_alone: bool) -> bool:
    """Whether results of the first rows may be those of all; of a loss, whether both are one number."""
    if not isinstance(all_, np.ndarray | np.generic | float) or np.ndim(some) != np.ndim(all_):
        return False
    if np.ndim(some) == 0:
        return True
    all_ = np.asarray(all_)
    if np.shape(some)[1:] != all_.shape[1:] or in_shape_alone:
        return np.shape(some)[1:] == all_.shape[1:]
    if np.shape(some) != all_[:FIRST_ROWS].shape:
        return False
    differences = np.abs(np.asarray(some, float) - all_[:FIRST_ROWS])
    largest = np.max(np.abs(some), initial=0)
    return not bool(np.max(differences, initial=0) > NEAR * largest)  # NaN is like anything
