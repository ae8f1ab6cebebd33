"""A class or function that is patched: what runs in the place of its own code, decided where it is first called."""

from __future__ import annotations

import threading
from types import FunctionType
from typing import Any

import numpy as np

from .beginning import calls
from .beginning.ahead import ahead
from .beginning.estimates import matrices_of_cell
from .beginning.idling import Idling
from .objects.arguments import FLOAT
from .objects.lazy import make_lazy
from .objects.marks import mark, mark_of, own_of
from .objects.patched_classes import note
from .objects.plain_attributes import GETTING, has_any_of
from .objects.unforeseen import reason_for
from .operations.functions import FUNCTIONS
from .operations.methods import FORMS, FUNCTIONS_OF, OTHER_FORMS, Form, Forms
from .operations.optimizers import Rule, updating
from .operations.writing import can_stand_alone, lazy_attributes, written
from .reading.found import Found
from .reading.known_versions import KnownVersion
from .reading.recognition import function_node, function_version

LAYER = ("forward", "backward")
NOT_TRIED = "not tried: it did too little, or nothing"
LOOKED_AT = 0.04  # seconds of a class's own work, after which it is looked at whether kernels may take any of it


def patch_optimizer(made: type, rule: Rule, wrap: calls.Wrapper = calls.plain) -> None:
    """Accelerate an optimizer whose rule is known."""
    own = vars(made)["update"]
    made.update = wrap(f"{made.__name__}.update", updating(rule), own)  # type: ignore[attr-defined]


def not_to_be_tried(made: type) -> str | None:
    """Why a class cannot be tried, if so: its methods are not functions, or its attributes are not plain ones."""
    for name in LAYER:
        if name not in vars(made):
            return f"a subclass of {made.__bases__[0].__name__}, whose {name} it inherits"
        if not isinstance(vars(made)[name], FunctionType):
            return f"its {name} is a {type(vars(made)[name]).__name__}, no method"
        if not isinstance(own := own_of(vars(made)[name]), FunctionType) or function_node(own) is None:
            return f"the code of its {name} is not there to be read"
    if "__slots__" in vars(made) or has_any_of(made, (*GETTING, "__setattr__", "__getstate__")):
        return "its attributes are not plain ones"
    return None


def patch(
    made: type,
    version: KnownVersion | None,
    module: dict[str, Any],
    found: Found | None = None,
    wrap: calls.Wrapper = calls.plain,
    only_known: bool = False,
) -> None:
    """Accelerate a layer, whose code is known or is to be tried; `module` is where its functions are looked up."""
    _Patched(made, version, module, found, only_known).wrap(wrap)


class _Patched:
    """A class whose methods are patched. What runs in their place is decided when forward is called for the first time."""

    def __init__(
        self, made: type, version: KnownVersion | None, module: dict[str, Any], found: Found | None, only_known: bool
    ):
        self.made, self.version, self.module = made, version, module
        self.found = found or Found("", 0, made.__name__, version, True)
        self.only_known = only_known
        self.lock = threading.RLock()
        self.own: dict[str, FunctionType] = {name: vars(made)[name] for name in LAYER}
        self.idling = Idling(made, self.own)
        self.wrapped: dict[str, Any] = {}
        self.alone: dict[str, Any] = {}
        self.is_watched = self.is_plain = False
        self.chosen: dict[str, calls.Method] | None = None
        self.uncounted, self.may_be_ours = 0.0, None if version is None else True

    def wrap(self, wrap: calls.Wrapper) -> None:
        self.is_watched, self.is_plain = hasattr(wrap, "watches"), wrap is calls.plain
        for name in LAYER:
            setattr(self.made, name, wrap(f"{self.made.__name__}.{name}", _Fast(self, name), self.own[name]))
            self.wrapped[name] = vars(self.made)[name]
            self.idling.watch(name)
        note(self.made, self)

    @property
    def is_decided(self) -> bool:
        """Whether it is known what its methods are."""
        return self.chosen is not None

    def is_decided_by_text(self) -> bool:
        """Whether it is known by the book's text, without a trial: if so, it is decided now."""
        if self.version is None or not known_forms(self.version, self.module)[0].forward:
            return False
        self.decide(None, ())
        return True

    def is_ours(self, layer: Any, *arguments: Any) -> bool:
        """Whether kernels are known to take the calls of forward, or are likely to: here is one that is to be made."""
        if self.may_be_ours is None and not self.only_known:
            from .trials.prospects import may_be_ours_to_make

            if may_be_ours_to_make(self.made, layer, arguments, self.own["forward"]):
                self.may_be_ours = True
        return self.may_be_ours is True

    def forms_of(self, name: str) -> tuple[Form, ...]:
        return getattr((self.chosen or {}).get(name), "forms", ())

    def methods_of(self, name: str) -> tuple[Any, ...]:
        """What has been put into the class under that name, and what was there: small calls are left to it."""
        alone = (self.alone[name],) if name in self.alone else ()
        return self.wrapped[name], self.own[name], *alone

    def decide(self, layer: Any, arguments: tuple[Any, ...]) -> dict[str, calls.Method]:
        with self.lock:
            if self.chosen is None:
                try:
                    self.chosen = self._choose(layer, arguments)
                except Exception as error:
                    self.found.accelerated, self.found.reason = False, reason_for(error)
                    self.chosen = self._put_all(Forms((), ()))
            return self.chosen

    def weigh(self, name: str, seconds: float, arguments: tuple[Any, ...], result: Any) -> float | None:
        """How much of a call to count: nothing before the class, if it is not known, has done some work and was looked at.

        None where it is no operation's.
        """
        if self.may_be_ours is None:
            self.uncounted += seconds
            if name != "forward" or self.uncounted < LOOKED_AT:
                return 0.0
            from .trials.prospects import may_be_ours

            self.may_be_ours = may_be_ours(self.made, arguments[0], arguments[1:], result, self.own[name])
            seconds = self.uncounted
        if self.may_be_ours:
            return seconds
        self.idling.rest()
        return None

    def _choose(self, layer: Any, arguments: tuple[Any, ...]) -> dict[str, calls.Method]:
        if arguments and getattr(arguments[0], "ndim", 0) == 4:  # images: there are convolutions before or after it
            ahead.compile_meanwhile("convolution", FLOAT)
        if len(arguments) > 2 and (matrices := matrices_of_cell(layer)):
            ahead.compile_meanwhile("lstm", matrices[0].dtype)
        forms, reason = (Forms((), ()), "") if self.version is None else known_forms(self.version, self.module)
        if any(form.operation.name.startswith("convolution") for form in forms.forward):
            ahead.compile_meanwhile("convolution", FLOAT)  # known by its text, maybe before any call
        if not forms.forward and (self.only_known or not_to_be_tried(self.made)):
            self.found.accelerated, self.found.reason = False, reason
        elif not forms.forward:
            from .trials.classes import try_class  # most scripts are over before this, or have the book's text alone

            verdict = try_class(self.made, layer, arguments, self.own)
            forms, self.found.how = verdict.forms, verdict.how
            self.found.accelerated = bool(forms.forward)
            self.found.reason = "; ".join(filter(None, ("" if forms.forward else reason, verdict.reason)))
        if (lazy := lazy_attributes(forms)) is not None:
            make_lazy(self.made, lazy)
        self.idling.large()
        return self._put_all(forms)

    def _put_all(self, forms: Forms) -> dict[str, calls.Method]:
        """What its methods are called for, of these forms, which are put into the class as well."""
        for name in LAYER:
            if vars(self.made).get(name) is self.wrapped[name]:
                self._put(name, getattr(forms, name))
        return {name: written(self.own[name], getattr(forms, name)) for name in LAYER}

    def _put(self, name: str, forms: tuple[Form, ...]) -> None:
        """Without what was around the method until now: what is left costs nothing any more, the rest one call less."""
        if not forms and not self.is_watched:
            setattr(self.made, name, self.own[name])
        elif self.is_plain and can_stand_alone(self.own[name], forms):
            setattr(self.made, name, written(self.own[name], forms, idling=self.idling))
            self.alone[name] = vars(self.made)[name]
            self.idling.watch(name)


def known_forms(version: KnownVersion, module: dict[str, Any]) -> tuple[Forms, str]:
    """Those of a known class that fit the functions it calls, in its module; none, and why, if they are not the book's."""
    forms = OTHER_FORMS.get(version.note) or FORMS[version.kind]
    if module.get("np", np) is not np:
        return Forms((), ()), "its np is not NumPy"
    helpers: list[tuple[dict[str, Any], str, Any]] = []
    for function in FUNCTIONS_OF.get(version.kind, ()):
        helpers.append((module, function, module.get(function)))
        known = version_of(module.get(function))
        if known is None or known.kind != function:
            return Forms((), ()), f"its {function} is not the book's"
        forms = OTHER_FORMS.get(known.note, forms)
    return forms.only_for(None, tuple(helpers)), ""


class _Fast:
    """What is called in the place of a method."""

    def __init__(self, patched: _Patched, name: str):
        self.patched, self.name = patched, name
        self.idling = patched.idling

    def __call__(self, *arguments: Any) -> Any:
        chosen = self.patched.chosen
        if chosen is None:
            if self.name != "forward":
                return calls.PASS
            chosen = self.patched.decide(arguments[0], arguments[1:])
        return chosen[self.name](*arguments)

    def weigh(self, seconds: float, arguments: tuple[Any, ...], result: Any) -> float | None:
        return self.patched.weigh(self.name, seconds, arguments, result)

    def is_ours(self, *arguments: Any) -> bool:
        """Whether kernels are known to take the calls of forward, or are likely to: here is one that is to be made."""
        return self.name == "forward" and self.patched.is_ours(*arguments)

    @property
    def forms(self) -> tuple[Form, ...]:
        return self.patched.forms_of(self.name)

    def is_left(self, *arguments: Any) -> bool:
        """Whether the user's own method is to run, whatever the arguments."""
        if self.patched.chosen is None and self.name == "forward":
            self.patched.decide(arguments[0], arguments[1:])
        return not self.forms


def version_of(function: Any) -> KnownVersion | None:
    """Which of the book's functions this is, or None."""
    if (noted := mark_of(function).version) is not None:
        return noted
    return function_version(function) if isinstance(function, FunctionType) else None


def fast_function(function: calls.Method, version: KnownVersion, wrap: calls.Wrapper = calls.plain) -> calls.Method:
    """The function, accelerated."""
    made = wrap(version.kind, FUNCTIONS[version.kind], function)
    mark(made, version=version)
    return made
