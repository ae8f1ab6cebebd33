"""The method that would take the place of somebody's own, beside it: whether anybody could see a difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..objects.arguments import PASS, Method
from ..objects.global_random import in_arrays, random_state
from ..objects.lazy import LAZY, OURS, made_of
from ..operations.methods import Form, kind_of
from ..operations.writing import written
from .subjects import COUNT, Differs, Subject, Values, call, copied, each_same, evaluate, on_numpy, same


def verified(
    subject: Subject, name: str, form: Form, forward_forms: tuple[Form, ...], binding: dict[str, str], flag: bool | None
) -> Form:
    """The form with the kinds of arguments for which it agrees, on new inputs. Raises Differs if it does for none.

    name: which method it is of; forward_forms: what runs in the place of forward, before backward is called.
    """
    kinds: dict[Any, list[bool]] = {}
    fast = written(subject.own[name], (form,), on_numpy())
    before = written(subject.own["forward"], forward_forms, on_numpy())
    layers, rng = [subject.copy(binding, flag) for _ in range(2)], np.random.default_rng(3)
    reason = "it does not take what was tried"
    for place in range(COUNT):
        drawn = subject.draw_into(rng, place, binding, layers)
        given = [subject.inputs(drawn, flag) for _ in layers]
        if name == "backward":
            out = _forward(subject, before, layers, given, place)
            if isinstance(out, Exception):
                continue
            gradients = subject.family.draw_gradients(rng, place, out)
            given = [subject.gradients(copied(gradients)) for _ in layers]
        is_exact = subject.family.is_exact and name == "forward"
        kind = _kind(form, subject, given[0], layers[0], binding)  # before the call, which may forget what it reads
        difference, taken = _both(subject.own[name], fast, layers, given, place, is_exact)
        if not taken:
            continue
        kinds.setdefault(kind, []).append(not difference)
        reason = difference or reason
    right = frozenset(kind for kind, agrees in kinds.items() if all(agrees) and len(agrees) > 1)
    if not right or (form.measured != ("t",) and not any(_is_usual(kind[0], subject, name, binding) for kind in right)):
        raise Differs(f"{name}: {reason}", 3)
    return form._replace(kinds=right)


def _is_usual(kind: Any, subject: Subject, name: str, binding: dict[str, str]) -> bool:
    """Whether it is the kind of the call that is about to be made: of x, or by its dtype of what forward makes of it."""
    dtype = np.dtype(np.float32 if subject.arguments[0].dtype == np.float32 else np.float64)
    if name == "forward":
        return bool(kind == (dtype, subject.arguments[0].ndim))
    values = (evaluate(path, {"self": subject.layer}) for path in binding.values())
    return bool(kind[0] == np.result_type(dtype, *(value for value in values if isinstance(value, np.ndarray))))


def _forward(subject: Subject, before: Method, layers: list[Any], given: list[list[Any]], place: int) -> Any:
    """Call forward, the user's own on the first copy, and what takes its place on the second; the first one's result."""
    np.random.seed(place)
    out = call(subject.own["forward"], layers[0], *given[0])
    np.random.seed(place)
    if not isinstance(out, Exception):
        if call(before, layers[1], *given[1]) is PASS:
            call(subject.own["forward"], layers[1], *given[1])
            forget_lazy(layers[1])
        forms: tuple[Form, ...] = before.forms  # type: ignore[attr-defined]
        fill_lazy(layers[1], forms)
        if out is None:  # it keeps it and returns nothing
            kept = [target for form in forms for target, value in form.sets if value in ("out", "loss")]
            return evaluate(kept[0], {"self": layers[0]}) if kept else KeyError("out")
    return out


def _kind(form: Form, subject: Subject, given: list[Any], layer: Any, binding: dict[str, str]) -> tuple[Any, ...]:
    """The kind of what was tried: of the arguments, and of what is read from attributes."""
    family = subject.family
    names = family.gradients if set(family.gradients) & set(form.operation.inputs) else family.arguments
    arguments = dict(zip(names, given, strict=False))
    reads = {**binding, **dict(zip(form.operation.inputs, form.reads, strict=True))}
    read = (arguments[one] if one in arguments else evaluate(reads[one], {"self": layer}) for one in form.measured)
    return kind_of(*read)


def _both(
    own: Callable[..., Any],
    fast: Callable[..., Any],
    layers: list[Any],
    given: list[list[Any]],
    place: int,
    is_exact: bool,
) -> tuple[str, bool]:
    """Call both, on two copies; what differs, and whether the fast one took it."""
    forms: tuple[Form, ...] = fast.forms  # type: ignore[attr-defined]
    was = [_arrays(layer, arguments) for layer, arguments in zip(layers, given, strict=True)]
    equal = [(one, other) for one, other in zip(*was, strict=False) if same(one, other)]
    attributes_before = [dict(vars(layer)) for layer in layers]
    outcomes, states = [], []
    for method, layer, arguments in zip((fast, own), reversed(layers), reversed(given), strict=True):
        np.random.seed(place)
        outcomes.append(call(method, layer, *arguments))
        states.append(in_arrays(random_state()))
    if outcomes[0] is PASS or isinstance(outcomes[0], Exception):
        call(own, layers[1], *given[1])
        forget_lazy(layers[1])
        return "", False
    fill_lazy(layers[1], forms)
    if isinstance(outcomes[1], Exception):
        for layer, before in zip(layers, attributes_before, strict=True):
            vars(layer).clear()
            vars(layer).update(before)
        return f"it raises {type(outcomes[1]).__name__}", True
    if not same(outcomes[0], outcomes[1]):
        return "the result differs", True
    if not same(states[0], states[1]):
        return "other random numbers are drawn", True
    if difference := _attributes_differ(layers, outcomes if is_exact else []):
        return difference, True
    if not same(given[0], given[1]):
        return "its arguments are changed otherwise", True
    if not all(same(one, other) for one, other in equal):
        return "an array that it had is changed otherwise", True
    now = [
        [*_arrays(layer, arguments), *(outcome if isinstance(outcome, tuple) else [outcome])]
        for layer, arguments, outcome in zip(layers, given, reversed(outcomes), strict=True)
    ]
    if _sharing(was[0], now[0]) != _sharing(was[1], now[1]):
        return "other arrays share memory", True
    return "", True


def _attributes_differ(layers: list[Any], exact: list[Any]) -> str:
    """What differs in two copies; exact: two results that must agree in small numbers, too, as all attributes then."""
    attributes = [_seen(layer) for layer in layers]
    for attribute, value in attributes[0].items():
        if not same(attributes[1].get(attribute, NotImplemented), value):
            return f"self.{attribute} differs"
    pairs = [exact, *((attributes[1][name], value) for name, value in attributes[0].items())] if exact else []
    if not all(each_same(one, other) for one, other in pairs if isinstance(one, np.ndarray) and one.dtype.kind == "f"):
        return "small numbers of the result differ"
    return "other attributes are set" if attributes[0].keys() != attributes[1].keys() else ""


def _seen(layer: Any) -> Values:
    return {name: value for name, value in vars(layer).items() if not name.startswith(OURS)}


def _arrays(layer: Any, arguments: list[Any]) -> list[Any]:
    """All arrays that can be reached, in one order."""
    found = list(arguments)
    for name in sorted(_seen(layer)):
        value = vars(layer)[name]
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return [one if isinstance(one, np.ndarray) else None for one in found]


def _sharing(was: list[Any], now: list[Any]) -> list[bool]:
    """For all pairs of arrays, before and after: whether they are one, and whether one is seen through the other."""
    pairs = itertools.chain(itertools.product(was, now), itertools.combinations(now, 2))
    return [
        answer
        for one, other in pairs
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.size and other.size
        for answer in (one is other, np.may_share_memory(one, other))
    ]


def forget_lazy(layer: Any) -> None:
    """Forget what lazy attributes would be made of: the layer's own method has set these since."""
    for name in [name for name in vars(layer) if name.startswith(OURS)]:
        del vars(layer)[name]


def fill_lazy(layer: Any, forms: tuple[Form, ...]) -> None:
    """Make what is made when somebody asks for it."""
    for form in forms:
        for target, value in form.sets:
            if value in LAZY and LAZY[value][1] in vars(layer):
                vars(layer)[target.removeprefix("self.")] = made_of(vars(layer)[LAZY[value][1]], value)
