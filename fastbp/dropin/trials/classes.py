"""What a class of somebody's own computes, found by trying it: beside the operations, on drawn inputs.

A method that passes the screening is run on copies of a real object, with drawn weights, settings and inputs: several batch
sizes, zeros, numbers large and small, NaN and infinities, in several dtypes. Where an operation gives the same, every
attribute that the method has set is looked for among what the operation knows. Then the method that would take its place
is written and run beside it, on new inputs, and everything that anybody can see is compared: results, attributes,
arguments, which arrays share memory, the random numbers drawn. Only what agrees in all of it is accelerated.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ..objects.arguments import PASS
from ..objects.cells import decide_cells
from ..objects.lazy import LAZY
from ..objects.patched_classes import accelerated_of
from ..objects.trying import undisturbed
from ..operations.methods import KEPT_PATCHES, KEPT_STEPS, NEEDS_DX, Form, Forms, Operation, Tried, kind_of, names_in
from ..reading.allowed import METHODS
from ..reading.screening import NotPlain, Screened, looked_into, screen
from ..reading.through_time import takes_its_steps
from .families import FAMILIES, WINDOW
from .guesses import Guess, own_formulas, snapshot
from .remembering import digest, keep, recall
from .subjects import (
    COUNT,
    MOST,
    Differs,
    Subject,
    Values,
    attribute_name,
    attribute_of,
    call,
    copied,
    evaluate,
    not_plain,
    numbers_of,
    of_first_rows,
    on_numpy,
    parts_of_lists,
    same,
)
from .verification import verified

HOPELESS = 9  # inputs that an operation has agreed for none of
MOST_PLACES = 4  # where backward may find what it takes


class Verdict(NamedTuple):
    """What a class was found to be: its forms, how that is known, and a reason for what is left."""

    forms: Forms
    how: str
    reason: str


def try_class(made: type, layer: Any, arguments: tuple[Any, ...], own: dict[str, FunctionType]) -> Verdict:
    """Try a class, by a call of forward that is about to be made: the object and its arguments, which are not changed.

    own: its forward and backward, as they were defined.
    """
    if not hasattr(layer, "__dict__"):
        return _left("its objects have slots, and no attributes beside")
    screened = looked_into(screen, type(layer), own["forward"])
    if isinstance(screened, NotPlain):
        return _left(f"forward: {screened}")
    backward = looked_into(screen, type(layer), own["backward"], screened.made)
    if screened.made:
        if (reason := _takes_its_steps(own, screened.made)) is not None:
            return _left(reason)
        if arguments and getattr(arguments[0], "ndim", 0) == 3:
            decide_cells(screened.made, layer, arguments[0])
    both = [one for one in (screened, backward) if isinstance(one, Screened)]
    sets = _names(path for one in both for path in one.sets)
    reads = _names(path for one in both for path in one.reads)
    if (name := not_plain(layer, sets | reads, screened.made)) is not None:
        return _left(f"self.{name} is not a plain attribute of its own")
    helpers = {(id(one.module), one.name): one for screen_of in both for one in screen_of.helpers}
    tried = Tried(type(layer), frozenset(name for one in both for name in one.methods))
    if not tried.methods.isdisjoint(vars(layer)):
        return _left("a method is an attribute of the object")
    functions = [one.function for one in helpers.values()]
    functions += [getattr(one, name) for one in screened.made for name in METHODS]
    functions += [accelerated_of(one) is not None for one in screened.made]
    name = digest(made, layer, arguments, (*own.values(), *functions))
    verdict: Verdict | None = recall(name)
    if verdict is None:
        subjects = [Subject(own, layer, arguments, one, sets) for one in FAMILIES]
        with undisturbed():
            verdict = _try_families(made, subjects, screened, backward)
        keep(name, verdict)
    return verdict._replace(forms=verdict.forms.only_for(tried, tuple(helpers.values())))


def _takes_its_steps(own: dict[str, FunctionType], made: Iterable[type]) -> str | None:
    """Why a layer that makes objects of other classes is left, if it does anything beside."""
    for name, method in own.items():
        try:
            takes_its_steps(method, made)
        except Exception as error:  # what else somebody's code may be is not ours to foresee
            return f"{name}: {error}"
    return None


def _left(reason: str) -> Verdict:
    return Verdict(Forms((), ()), "", reason)


def _names(paths: Iterable[str]) -> set[str]:
    """The attributes of self that paths begin with."""
    return {attribute_name(path) for path in paths}


def _try_families(made: type, subjects: list[Subject], screened: Screened, backward: Screened | NotPlain) -> Verdict:
    """The verdict of the first family that it is of, those that its name speaks of first; or what came nearest."""
    reasons = []
    for subject in sorted(subjects, key=lambda one: not one.family.is_named(made)):
        family = subject.family
        if not family.may_be(subject.arguments):
            continue
        try:
            return _try_family(subject, screened, backward)
        except Differs as error:
            reasons.append((family.is_named(made), error.stage, f"{family.name}: {error}"))
        except Exception as error:  # what somebody's class may do is not ours to foresee: it is left
            what = f"{family.name}: trying it raised {type(error).__name__}: {error}"
            reasons.append((family.is_named(made), -1, what))
    return _left(max(reasons)[2] if reasons else "no kernel takes what it takes")


def _covers(one: str, path: str) -> bool:
    """Whether what is known of one path says something of the other: the same, or a part of it."""
    return path == one or path.startswith(f"{one}[") or one.startswith(f"{path}[")


def _try_family(subject: Subject, forward: Screened, backward: Screened | NotPlain) -> Verdict:
    """Raises Differs."""
    family = subject.family
    difference = Differs("its arguments or attributes are other ones")
    left: list[Verdict] = []  # whose forward is an operation's, and whose backward is none
    subject.find_flag(forward.reads)
    for operation in family.forward(numbers_of(subject.layer, forward)):
        for binding in family.bindings(operation, subject.layer, list(forward.reads)):
            if of_first_rows(family, operation, binding, subject.layer, subject.arguments) is PASS:
                continue  # where it raises, a trial will say what is wrong
            weights = subject.weights(binding)
            sizes = (
                [True] if all(shape == less for shape, less in subject.small_shapes(binding).items()) else [True, False]
            )
            if sum(one.size for one in weights) > MOST:
                sizes = [True]  # its weights fewer: that some layers do not take
            before = len(left)
            for subject.restriction, subject.is_small in itertools.product(family.restrictions, sizes):
                if len(left) > before and not subject.restriction.mends_backward:
                    continue
                try:
                    forms, trial = _try_forward(subject, operation, binding, forward)
                except Differs as error:
                    difference = max(difference, error, key=lambda one: one.stage)
                    continue
                how = f"{family.name}, tried on {COUNT} {subject.restriction.name or 'inputs'}"
                try:
                    if isinstance(backward, NotPlain):
                        raise Differs(str(backward))
                    return Verdict(Forms(forms, _try_backward(subject, trial, backward, forms)), how, "")
                except Differs as error:
                    alone = tuple(form.only_where(family.alone) for form in forms)
                    left.append(Verdict(Forms(alone, ()), how, f"backward: {error}"))
            if left and not family.has_rivals:
                return left[0]
    if left:
        return left[0]
    raise difference


class _Trial(NamedTuple):
    """A forward that is an operation's: with what it takes, for which values of `train`, and the attributes it sets."""

    operation: Operation
    binding: dict[str, str]
    flags: tuple[bool | None, ...]
    kept: list[str]


def _try_forward(
    subject: Subject, operation: Operation, binding: dict[str, str], screened: Screened
) -> tuple[tuple[Form, ...], _Trial]:
    flags, family = subject.flags(), subject.family
    forms: list[Form] = []
    for flag in flags:
        predicting = family.predicting if flag is False else None
        for used in (*(() if predicting is None else predicting(operation)), operation):
            try:
                proposed = _propose_forward(subject, used, binding, screened, flag)
                proposed = proposed.only_where(subject.restriction.forward)
                forms.append(verified(subject, "forward", proposed, (), binding, flag))
                break
            except Differs:
                if not (family.has_flag and flag is False):
                    raise
    unread = set(parts_of_lists(screened.reads, subject.layer)) - set(map(attribute_of, binding.values()))
    explained = {target.removesuffix("[...]") for form in forms for target, _ in form.sets}
    constant = subject.constant(path for path in unread if not any(_covers(one, path) for one in explained))
    forms = [form.only_where(*constant) for form in forms]
    if len(forms) == 2 and forms[0]._replace(train=None) == forms[1]._replace(train=None):
        forms = [forms[0]._replace(train=None)]
    kept = [target for target, value in forms[0].sets if value not in LAZY]
    return tuple(forms), _Trial(operation, binding, flags, kept)


def _propose_forward(
    subject: Subject,
    operation: Operation,
    binding: dict[str, str],
    screened: Screened,
    flag: bool | None,
) -> Form:
    """What forward seems to do: which expressions its result and its attributes were equal to, every time."""
    own, function = subject.own["forward"], operation.function(on_numpy())
    layer, rng = subject.copy(binding, flag), np.random.default_rng(1)
    formulas = dict.fromkeys([*subject.family.formulas, *own_formulas(screened.formulas, operation, binding)])
    guess = Guess(operation, subject.family._replace(formulas=tuple(formulas)))
    for place in range(COUNT):
        if place == HOPELESS and not guess.seen:
            break
        drawn = subject.draw_into(rng, place, binding, [layer])
        given = subject.inputs(drawn, flag)
        changed = {"self": layer, **dict(zip(subject.family.arguments, given, strict=False))}
        paths = [*subject.family.arguments, *parts_of_lists(screened.sets, layer)]
        before = snapshot(changed, paths)
        theirs = dict(zip(subject.family.arguments, given, strict=False))
        theirs.update({role: evaluate(path, {"self": layer}) for role, path in binding.items()})
        np.random.seed(place)
        result = call(own, layer, *given)
        np.random.seed(place)
        values = values_of(operation, function, drawn)
        if isinstance(result, Exception) or values is None:
            continue
        guess.see(kind_of(*given, *theirs.values()), result, before, snapshot(changed, paths), values, theirs)
    guess.must_agree("forward")
    reads = tuple(binding.get(role, role) for role in operation.inputs)
    form = Form(operation, reads, guess.chosen, guess.results[0], flag, subject.family.measured)
    return form._replace(flag=f"getattr(self, {subject.flag!r}, None)") if subject.flag else form


def values_of(operation: Operation, function: Any, drawn: Values) -> Values | None:
    """What the operation knows: inputs and outputs; None if it does not take these."""
    given = [drawn.get(role) for role in operation.inputs]
    results = function(*given)
    if not isinstance(results, tuple):
        return None
    return {**drawn, **dict(zip(operation.outputs, results, strict=True))}


def _try_backward(subject: Subject, trial: _Trial, screened: Screened, forms: tuple[Form, ...]) -> tuple[Form, ...]:
    difference = Differs("no kernel takes what it takes")
    flag = trial.flags[0]
    for operation in subject.family.backward(trial.operation):
        takes = [name for name in subject.family.gradients if name in operation.inputs]
        if len(subject.parameters["backward"]) < len(takes):
            continue
        try:
            for proposed in _propose_backward(subject, trial, operation, screened, forms):
                try:
                    return (verified(subject, "backward", proposed, forms, trial.binding, flag),)
                except Differs as error:
                    difference = max(difference, error, key=lambda one: one.stage)
        except Differs as error:
            difference = max(difference, error, key=lambda one: one.stage)
    raise difference


def _propose_backward(
    subject: Subject, trial: _Trial, operation: Operation, screened: Screened, forms: tuple[Form, ...]
) -> Iterator[Form]:
    """What backward seems to do: once for each place where what it takes may be found, as they may differ for NaN alone."""
    forward, backward = subject.own["forward"], subject.own["backward"]
    function, first = operation.function(on_numpy()), trial.operation.function(on_numpy())
    layer, rng = subject.copy(trial.binding, trial.flags[0]), np.random.default_rng(2)
    reads: dict[str, list[str]] = {}
    guess = Guess(operation, subject.family)
    for place in range(COUNT):
        if place == HOPELESS and not guess.seen:
            break
        drawn = subject.draw_into(rng, place, trial.binding, [layer])
        given = subject.inputs(drawn, trial.flags[0])
        np.random.seed(place)
        out = call(forward, layer, *given)
        np.random.seed(place)
        known = values_of(trial.operation, first, drawn)
        if isinstance(out, Exception) or known is None:
            continue
        if out is None:  # the layer keeps it and returns nothing
            out = known.get("out", known.get("loss"))
        known.update(subject.family.more(known))
        kind, read_until_now = kind_of(*drawn.values(), out), {role: list(found) for role, found in reads.items()}
        outs = out if isinstance(out, tuple) else (out,)
        here = {"self": layer, **dict(zip(subject.family.gradients, outs, strict=False))}
        try:
            _find_reads(reads, operation, known, here, screened, trial)
        except Differs as error:  # of images, say, which it does not take
            reads = read_until_now
            guess.differ.setdefault(kind, error)
            continue
        sets = parts_of_lists(screened.sets, layer)
        before = snapshot({"self": layer}, sets)
        gradients = subject.family.draw_gradients(rng, place, out)
        mine = copied(gradients)
        result = call(backward, layer, *subject.gradients(mine))
        if isinstance(result, Exception):
            continue
        values = _backward_values(operation, function, known, copied(gradients))
        if values is None:
            continue
        theirs = {name: one for name, one in mine.items() if isinstance(one, np.ndarray)}
        guess.see(kind, result, before, snapshot({"self": layer}, sets), values, theirs)
    guess.must_agree("backward")
    constant = subject.constant(_unexplained(subject, screened, reads, guess.sets, forms, trial), "backward")
    again = tuple(one for one in forms[0].sets if LAZY.get(one[1], ("",))[0] in operation.outputs)
    if any("dx" in names_in(value) for _, value in guess.chosen):
        reads["needs_dx"] = ["True"]  # an attribute holds it: somebody may look
    elif guess.results[0] == "None":
        reads["needs_dx"] = ["False"]
    for expressions in itertools.islice(itertools.product(*(reads[role] for role in operation.inputs)), MOST_PLACES):
        chosen = (*guess.chosen, *again)
        form = Form(operation, expressions, chosen, guess.results[0], None, subject.family.measured_backward)
        yield form.only_where(subject.restriction.backward, *constant)


def _backward_values(operation: Operation, function: Any, known: Values, gradients: Values) -> Values | None:
    known = {**known, **gradients}
    if any(role not in known for role in operation.inputs if role != "needs_dx"):
        return None
    results = function(*(True if role == "needs_dx" else known[role] for role in operation.inputs))
    if not isinstance(results, tuple):
        return None
    return {**gradients, **dict(zip(operation.outputs, results, strict=True))}


def _find_reads(
    reads: dict[str, list[str]], operation: Operation, known: Values, here: Values, screened: Screened, trial: _Trial
) -> None:
    """Find where backward finds what the operation takes: an attribute that has had its value every time.

    here: the object, and arrays that have the shapes of the gradients.
    """
    for role in operation.inputs:
        if role not in reads:
            paths = list(dict.fromkeys([*screened.reads, *trial.kept]))
            reads[role] = ([role] if role in here else _fixed_reads(role, trial)) or [
                *_possible_reads(paths),
                *_derived(role, paths, reads, screened),
            ]
            reads[role] += _OF_DOUT.get(role, ())
        if len(reads[role]) == 1 and role in (*here, "needs_dx", "patches", "steps", "window", *trial.binding):
            continue
        wanted = [known[one] for one in (role, *_ALSO.get(role, ())) if one in known]
        reads[role] = [one for one in reads[role] if any(same(evaluate(one, here), value) for value in wanted)]
        if not reads[role]:
            raise Differs(f"keeps no {role}, which it needs")


_OF_DOUT = {"shape": ("dout.shape",), "count": ("dout.shape[0]", "dout.size // dout.shape[1]")}
_ALSO = {"t": ("labels",), "shape": ("rows_shape",)}  # what may stand for a role


def _fixed_reads(role: str, trial: _Trial) -> list[str]:
    if role == "window":
        return [f"({', '.join(trial.binding[one] for one in WINDOW if one in trial.binding)})"]
    if role in trial.binding:
        return [trial.binding[role]]
    return {"needs_dx": [NEEDS_DX], "patches": [KEPT_PATCHES], "steps": [KEPT_STEPS]}.get(role, [])


def _possible_reads(paths: list[str]) -> list[str]:
    forms = ("{}", "{}.shape", "{}.shape[0]", "~{}", "({} <= 0)", "({} < 0)", "~({} > 0)", "~({} >= 0)", "{}.T")
    return [form.format(path) for form in forms for path in paths]


def _derived(role: str, paths: list[str], reads: dict[str, list[str]], screened: Screened) -> list[str]:
    """What batch normalisation's backward may make of what forward has kept, as expressions: x - mean, (x - mean) / std."""
    if role == "std":
        sums = [f"{path} + {epsilon}" for path in paths for epsilon in (*map(repr, screened.numbers), *paths)]
        found = [*paths, *(f"np.sqrt({one})" for one in (*paths, *sums)), *(f"(1 / {path})" for path in paths)]
        return [*found, *(f"{one}.reshape(-1)" for one in found)]
    if role == "xc":
        centred = [f"({one} - {other})" for one, other in itertools.permutations(paths, 2)]
        rows = [*paths, *(f"by_channel({one})" for one in (*paths, *centred))]
        return [*centred, *rows, *(f"({one} * {std})" for one in rows for std in reads["std"])]
    if role == "xn":
        normalized = [f"({one} / {std})" for one in reads["xc"] for std in reads["std"]]
        return [*normalized, *(f"by_channel({one})" for one in paths)]
    return []


def _unexplained(
    subject: Subject,
    screened: Screened,
    reads: dict[str, list[str]],
    sets: dict[str, list[str]],
    forms: tuple[Form, ...],
    trial: _Trial,
) -> list[str]:
    """What backward reads that forward does not set, that is no setting or parameter, and that backward does not set."""
    known = {target.removesuffix("[...]") for form in forms for target, _ in form.sets}
    known |= {target.removesuffix("[...]") for target in sets}
    known |= set(map(attribute_of, trial.binding.values()))
    text = " ".join(found[0] for found in reads.values())
    known |= set(re.findall(r"self\.\w+(?:\[[^\]]*\])*", text))
    read = parts_of_lists(screened.reads, subject.layer)
    return [path for path in read if not any(_covers(one, path) for one in known)]
