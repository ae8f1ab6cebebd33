"""Methods written out from their forms, as dataclasses write `__init__`: a call costs no more than one written by hand."""

from __future__ import annotations

import builtins
import itertools
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from ..beginning.idling import Idling, NeverIdling
from ..objects import arguments
from ..objects.arguments import PASS, WASTED, Method
from ..objects.lazy import LAZY
from ..objects.marks import in_place_of, signature_of
from ..reading.dropped_gradient import dropped
from .methods import NAMES, OPERATIONS, TRAIN, Form, Forms, names_in

GIVEN = ("x", "t", "h", "c", "dout", "dh", "dc")  # what methods are given
COMPUTES = re.compile(r"np\.|by_channel| [-+*/] ")  # of what is read: more than a look at an attribute


def numbered(kinds: frozenset[Any]) -> frozenset[tuple[int, ...]]:
    """Kinds of arrays by the numbers that NumPy has for dtypes, which take a tenth of the time to look at."""
    numbered = set()
    for kind in kinds:
        if all(isinstance(one, tuple) for one in kind):
            dtypes = [_NUMBERS.get(dtype) or (dtype.num,) for dtype, _ in kind]
            for numbers in itertools.product(*dtypes):
                pairs = zip(numbers, (ndim for _, ndim in kind), strict=True)
                numbered.add(tuple(itertools.chain.from_iterable(pairs)))
    return frozenset(numbered)


_NUMBERS = {  # of dtypes that are one kind
    kind: tuple(np.dtype(code).num for code in codes)
    for kind, codes in {"i": "bhilq", "u": "BHILQ", "b": "?", "c": "FDG"}.items()
}


class Waste:
    """How often in a row a method's results were for NumPy to make: they were not finite, as a network has diverged, say."""

    MOST, AGAIN = 8, 64

    def __init__(self) -> None:
        self.calls = 0

    def is_likely(self) -> bool:
        """After a few, kernels are tried now and then only."""
        if self.calls < self.MOST:
            return False
        self.calls += 1
        return self.calls % self.AGAIN != 0


def written(
    own: FunctionType, forms: tuple[Form, ...], modules: Any = OPERATIONS, idling: Idling | None = None
) -> Method:
    """The method that takes the place of one of somebody's own: does what the forms say, or returns PASS.

    modules: where operations are, for a trial other ones. A form with no kinds yet is for any. idling: what notes the
    sizes of calls; with it the method stands alone: it runs `own` itself where it would return PASS, and has its parameters
    by name, so that it can be put into the class as it is.
    """
    alone = idling is not None
    parameters, rest = _parameters(own)
    roles = _roles(len(parameters), forms)
    shown = [*parameters, *rest] if alone else roles
    names: dict[str, Any] = {
        "PASS": PASS,
        "WASTED": WASTED,
        "waste": Waste(),
        "dropped": dropped,
        **NAMES,
    }
    names.update(own=own, name=own.__name__, idling=idling or NeverIdling())
    pass_on = f"return own({', '.join(('self', *shown))})" if alone else "return PASS"
    lines = [f"def {own.__name__}({', '.join(('self', *shown))}):"]
    lines += [f"    {role} = {name}" for role, name in zip(roles, parameters, strict=True) if alone and role != name]
    if forms:
        lines += [f"    {line}" for line in as_it_was(forms[0], names, pass_on)]
    if forms and forms[0].tried is not None:
        lines += [f"    {line}" for line in _of_tried_arguments(own, roles, names, pass_on)]
    for place, form in enumerate(forms):
        names[f"operation{place}"] = form.operation.function(modules)
        names[f"kinds{place}"] = numbered(form.kinds)
        names[f"least{place}"] = getattr(arguments, form.operation.least, 0) if modules is OPERATIONS else 0
        indent = "    "
        if form.train is not None:
            lines.append(f"    if {'' if form.train else 'not '}{form.flag}:")
            indent += "    "
        lines += [indent + line for line in _body(form, place, pass_on)]
    exec("\n".join([*lines, f"    {pass_on}"]), names)
    method: Method = names[own.__name__]
    method.__defaults__ = own.__defaults__
    method.forms = forms  # type: ignore[attr-defined]
    return in_place_of(own)(method) if alone else method


def as_it_was(form: Form, names: dict[str, Any], pass_on: str) -> Iterator[str]:
    """Conditions: the functions that the code calls are those that it called when the form was found; and if it was tried,
    an object of the very class that was."""
    for place, (module, name, function) in enumerate(form.helpers):
        names.update({f"module{place}": module, f"helper{place}": function})
        yield f"if module{place}.get({name!r}) is not helper{place}: {pass_on}"
    if form.tried is not None:
        names.update({"tried": form.tried.made, "methods": form.tried.methods})
        yield f"if type(self) is not tried: {pass_on}"
        if form.tried.methods:
            yield f"if not methods.isdisjoint(vars(self)): {pass_on}"


def _of_tried_arguments(own: FunctionType, roles: list[str], names: dict[str, Any], pass_on: str) -> Iterator[str]:
    """Conditions: of parameters beside arrays, what was tried."""
    defaults = dict(zip(reversed(roles), reversed(own.__defaults__ or ()), strict=False))
    for role in roles:
        default = defaults.get(role)
        if role == TRAIN or (
            role.startswith("unused") and isinstance(default, bool | None) and own.__name__ == "forward"
        ):
            names[f"default_{role}"] = default
            also = "" if default is None and role in defaults else f" and type({role}) is not bool"
            yield f"if {role} is not default_{role}{also}: {pass_on}"
        elif role.startswith("unused"):
            names[f"default_{role}"] = default
            is_loss = own.__name__ == "backward" and role == "unused0" and "dout" not in roles  # tried with numbers
            numbers = f" and type({role}) not in (int, float)" if is_loss else ""
            yield f"if {role} is not default_{role}{numbers}: {pass_on}"


_OF_WRITTEN = {
    "tried",
    "methods",
    "results",
    "own",
    "waste",
    "dropped",
    *NAMES,
    "is_small",
    "is_other",
    "is_outside",
    "idling",
    *("type", "vars", "bool", "int", "float", "len", "AttributeError", "LookupError", "TypeError"),
}


def can_stand_alone(own: FunctionType, forms: tuple[Form, ...]) -> bool:
    """Whether none of the method's parameters has a name that the written one gives to something else."""
    parameters, rest = _parameters(own)
    roles = _roles(len(parameters), forms)
    used = {"self", "name", *roles, *_OF_WRITTEN}
    for form in forms:
        used.update((*form.operation.inputs, *form.operation.outputs))
        read = " ".join((*form.reads, *(value for _, value in form.sets), form.returns, form.where))
        used.update(names_in(read) & vars(builtins).keys())
    return all(
        name == role or name not in used for name, role in zip(parameters, roles, strict=True)
    ) and used.isdisjoint(one.lstrip("*") for one in rest)


def required_beside(own: FunctionType) -> list[str]:
    """The parameters that a method needs beside self and one array."""
    parameters = list(signature_of(own).parameters.values())[2:]
    return [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


def _parameters(own: FunctionType) -> tuple[list[str], list[str]]:
    """The names of a method's parameters beside self, and "**named" if it takes any."""
    parameters = list(signature_of(own).parameters.values())[1:]
    rest = [f"**{one.name}" for one in parameters if one.kind is one.VAR_KEYWORD]
    return [one.name for one in parameters if one.kind is not one.VAR_KEYWORD], rest


def _roles(count: int, forms: tuple[Form, ...]) -> list[str]:
    """What a method's parameters are to the operation; `train` is a flag that is used."""
    inputs = [role for role in GIVEN if any(role in form.reads for form in forms)]
    rest = [f"unused{place}" for place in range(count - len(inputs))]
    if rest and any(form.train is not None and form.flag == TRAIN for form in forms):
        rest[0] = TRAIN
    return [*inputs, *rest]


def _body(form: Form, place: int, pass_on: str) -> list[str]:
    inputs, outputs = form.operation.inputs, form.operation.outputs
    reads = [f"{role} = {read}" for role, read in zip(inputs, form.reads, strict=True) if role != read]
    assigned, conditions = reads, []
    if form.operation.work:  # the first condition: of small calls, looking at them is most of the time
        assigned.append(f"is_small = {form.operation.work} < least{place}")
        conditions += ["if is_small:", "    idling.small(name)", f"    {pass_on}"]
    if form.kinds:
        kind = ", ".join(f"{role}.dtype.num, {role}.ndim" for role in form.measured)
        assigned.append(f"is_other = ({kind}) not in kinds{place}")
        conditions.append(f"if is_other: {pass_on}")
    if form.where:
        assigned.append(f"is_outside = not ({form.where})")
        conditions.append(f"if is_outside: {pass_on}")
    lines = []
    if assigned:  # an attribute that is not there yet is for the user's own method to miss
        quiet = "with np.errstate(all='ignore'): " if any(map(COMPUTES.search, form.reads)) else ""
        lines = [
            "try:",
            f"    {quiet}{'; '.join(assigned)}",
            f"except (AttributeError, LookupError, TypeError): {pass_on}",
        ]
    lines += [
        *conditions,
        f"if waste.calls and waste.is_likely(): {pass_on}",
        f"results = operation{place}({', '.join(inputs)})",
        f"if results is PASS: {pass_on}",
        "if results is WASTED:",
        "    waste.calls += 1",
        f"    {pass_on}",
        "waste.calls = 0",
        "idling.large()",
        f"{', '.join(outputs)}, = results",
    ]
    for target, value in form.sets:
        if value in LAZY:
            lines.append(f"vars(self).pop({target.removeprefix('self.')!r}, None)")
        else:
            lines.append(f"{target} = {value}")
    lines += [f"vars(self)[{kept!r}] = {role}" for role, kept in dict(LAZY.values()).items() if role in outputs]
    return [*lines, f"return {form.returns}"]


def lazy_attributes(forms: Forms) -> dict[str, str] | None:
    """The attributes that are made when somebody asks for them, and their values; None where an object keeps nothing."""
    both = (*forms.forward, *forms.backward)
    if not any(role in form.operation.outputs for form in both for role, _ in LAZY.values()):
        return None
    return {target.removeprefix("self."): value for form in both for target, value in form.sets if value in LAZY}
