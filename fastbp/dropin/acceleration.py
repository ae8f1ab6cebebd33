"""Putting the compiled kernels under the book's layers, where they are defined: `accelerate()` and `accelerated()`.

Two places of Python see every definition: the built-in function that makes classes, and the loader that has executed a
module. While accelerating, both look at what has been defined. A class that has the book's text, or that is found to
compute the same when it is first called (`trials`), keeps its name, its constructor, its attributes and its place; only
its `forward` and `backward` are patched with ones that use the kernels where they can, and the class's own methods where
not. Anything else is left as it is.
"""

from __future__ import annotations

import builtins
import inspect
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import FunctionType
from typing import Any

import numpy as np

from . import calls, operations
from .ahead import ahead
from .arguments import FLOAT
from .dropped_gradient import dropping_first_gradient, layers_of_dropped
from .expressions import with_kernels
from .fast_functions import FUNCTIONS
from .fast_optimizers import UPDATES, Rule, updating
from .fusing import with_programs
from .idling import Idling
from .known_versions import KnownVersion
from .lazy import make_lazy
from .methods import FORMS, FUNCTIONS_OF, OTHER_FORMS, Form, Forms
from .recognition import class_version, digest, function_node, function_version
from .stacking import goes_through_layers, note
from .tried_functions import TriedFunction
from .writing import can_stand_alone, lazy_attributes, written

LAYER = ("forward", "backward")
NOT_TRIED = "not tried: it did too little, or nothing"
LOOKED_AT = 0.04  # seconds of a class's own work, after which it is looked at whether kernels may take any of it
VERSION = "__fastbp_version__"  # on functions: which of the book's they are


@dataclass
class Found:
    """A class or function that was looked at: whether it was accelerated, how it was known, and what was left and why."""

    file: str
    line: int
    name: str
    version: KnownVersion | None
    accelerated: bool
    reason: str = ""
    how: str = ""


class _State:
    """What is accelerated now, and what has been found: of the whole process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.wrap: calls.Wrapper = calls.plain
        self.only_known = False
        self.found: list[Found] = []


_state = _State()
_build_class: Callable[..., Any] = builtins.__build_class__
_exec_module = SourceFileLoader.exec_module


def accelerate() -> list[Found]:
    """Accelerate the book's layers and functions in everything that is imported or defined from now on.

    `from common.layers import *` after it gives layers with the same names, attributes and numbers, several times faster;
    classes that differ from the book's in what they do are not patched. What exists already is not changed.

    Returns:
        The list to which every class and function that is looked at is added, with the reason if it was left.

    Examples:
        >>> import fastbp
        >>> found = fastbp.accelerate()
        >>> class Relu:  # the book's, or whatever you import or define
        ...     def forward(self, x):
        ...         self.mask = x <= 0
        ...         out = x.copy()
        ...         out[self.mask] = 0
        ...         return out
        ...
        ...     def backward(self, dout):
        ...         dout[self.mask] = 0
        ...         return dout
        >>> found[-1].name
        'Relu'
        >>> fastbp.unload_ipython_extension(None)  # not from here on
    """
    return start_accelerating(_state.wrap)  # under `fastbp run --verbose`, calls go on being counted


def start_accelerating(wrap: calls.Wrapper, only_known: bool = False) -> list[Found]:
    """The same, with calls that are wrapped in another way: counted, or compared; `only_known`: nothing is tried."""
    with _state.lock:
        _state.only_known = only_known
        _state.depth += 1
        _state.wrap = wrap
        vars(operations.kernels).clear()
        builtins.__build_class__ = _make_class  # type: ignore[assignment]
        SourceFileLoader.exec_module = _execute_module  # type: ignore[method-assign, assignment]
    return _state.found


def stop_accelerating() -> None:
    """Leave alone what is defined from now on; what has been accelerated stays so."""
    with _state.lock:
        _state.depth = max(0, _state.depth - 1)
        if not _state.depth:
            builtins.__build_class__ = _build_class
            SourceFileLoader.exec_module = _exec_module  # type: ignore[method-assign]
            _state.wrap = calls.plain


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext fastbp`: accelerate what later cells import or define.

    Args:
        shell: IPython's; not used.

    Examples:
        >>> import fastbp
        >>> fastbp.load_ipython_extension(None)
        >>> fastbp.unload_ipython_extension(None)
    """
    accelerate()


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext fastbp`: do not patch what later cells import or define; what is patched stays patched.

    Args:
        shell: IPython's; not used.

    Examples:
        >>> import fastbp
        >>> fastbp.load_ipython_extension(None)
        >>> fastbp.unload_ipython_extension(None)
    """
    stop_accelerating()


@contextmanager
def accelerated() -> Iterator[list[Found]]:
    """`accelerate()` for what is imported or defined in the `with` block; it stays accelerated afterwards.

    Returns:
        A context manager that gives the list of what was looked at.

    Examples:
        >>> import fastbp
        >>> with fastbp.accelerated() as found:
        ...     class Double:  # or: from common.layers import *
        ...         def forward(self, x):
        ...             return 2 * x
        ...
        ...         def backward(self, dout):
        ...             return 2 * dout
        >>> found[-1].name, found[-1].accelerated
        ('Double', False)
    """
    found = accelerate()
    try:
        yield found
    finally:
        stop_accelerating()


def _make_class(body: Any, name: str, *bases: Any, **keywords: Any) -> Any:
    made = _build_class(body, name, *bases, **keywords)
    if type(made) not in (type, ABCMeta) or not isinstance(body, FunctionType) or _is_ours(made.__module__):
        return made
    own = vars(made)
    is_layer = any(method in own for method in LAYER) and all(hasattr(made, method) for method in LAYER)
    is_layer = is_layer and not any(goes_through_layers(own.get(method)) for method in LAYER)
    if is_layer:
        _consider_class(made, body)
    elif isinstance(own.get("update"), FunctionType):
        _consider_optimizer(made, body)
    if _consider_methods(made, is_layer) and not is_layer:
        _note_programs(made, body)
    return made


def _consider_methods(made: type, is_layer: bool) -> bool:
    """Those that go through layers: which of their results nobody sees; and what methods compute of weights, and update.

    Whether any was made to run programs.
    """
    found = False
    for name, method in list(vars(made).items()):
        if not isinstance(method, FunctionType) or (is_layer and name in LAYER):
            continue
        attribute = layers_of_dropped(method)
        own: dict[str, Callable[..., Any]] = {name: method}
        idling = Idling(made, own)
        better = with_kernels(method, made.__name__, _state.wrap, idling)
        if better is None and attribute is None and not _state.only_known:
            better = with_programs(method, made.__name__, _state.wrap, idling)
            found = found or better is not None
        if attribute is not None:
            own[name] = dropping_first_gradient(method, attribute)
            setattr(made, name, dropping_first_gradient(better, attribute) if better is not None else own[name])
        elif better is not None:
            setattr(made, name, better)
        if better is not None:
            idling.watch(name)
    return found


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def _consider_class(made: type, body: FunctionType) -> None:
    code = body.__code__
    found = Found(code.co_filename, code.co_firstlineno, made.__name__, None, False)
    _state.found.append(found)
    found.version = class_version(code, made.__name__, body.__globals__)
    if found.version is not None:
        found.accelerated, found.how = True, "the book's text"
        patch(made, found.version, body.__globals__, found, _state.wrap, _state.only_known)
    elif _state.only_known:
        found.reason = "not the book's text"
    elif (reason := _not_to_be_tried(made)) is not None:
        found.reason = reason
    else:
        found.reason = NOT_TRIED
        patch(made, None, body.__globals__, found, _state.wrap)


def _consider_optimizer(made: type, body: FunctionType) -> None:
    """By the text of `update`: what the other methods do, its defaults for one, does not matter.

    Where it does not take params and grads it is something else, and its file need not be read: importing matplotlib
    took 0.3 s longer, for six classes with such a method.
    """
    update, node = vars(made)["update"], None
    if (update.__code__.co_argcount, update.__code__.co_kwonlyargcount) == (3, 0):
        node = function_node(update)
    rule = None if node is None else UPDATES.get(digest(node))
    if rule is None and made.__name__.lower() not in {one.name for one in UPDATES.values()}:
        return
    code = body.__code__
    found = Found(code.co_filename, code.co_firstlineno, made.__name__, None, rule is not None)
    _state.found.append(found)
    found.how, found.reason = ("the book's text", "") if rule is not None else ("", "not the book's text")
    if rule is not None:
        patch_optimizer(made, rule, _state.wrap)


def _note_programs(made: type, body: FunctionType) -> None:
    """That a class has methods that run programs: of an optimizer, which may have been noted as unknown."""
    code = body.__code__
    place = code.co_filename, code.co_firstlineno
    found = next((one for one in _state.found if (one.file, one.line) == place), None)
    if found is None:
        _state.found.append(found := Found(*place, made.__name__, None, True))
    found.accelerated, found.how, found.reason = True, "its statements, in one pass", ""


def patch_optimizer(made: type, rule: Rule, wrap: calls.Wrapper = calls.plain) -> None:
    """Accelerate an optimizer whose rule is known."""
    own = vars(made)["update"]
    made.update = wrap(f"{made.__name__}.update", updating(rule), own)  # type: ignore[attr-defined]


def _not_to_be_tried(made: type) -> str | None:
    """Why a class cannot be tried, if so: its methods are not functions, or its attributes are not plain ones."""
    for name in LAYER:
        if name not in vars(made):
            return f"a subclass of {made.__bases__[0].__name__}, whose {name} it inherits"
        if not isinstance(vars(made)[name], FunctionType):
            return f"its {name} is a {type(vars(made)[name]).__name__}, no method"
        if not isinstance(own := inspect.unwrap(vars(made)[name]), FunctionType) or function_node(own) is None:
            return f"the code of its {name} is not there to be read"
    special = ("__setattr__", "__getattribute__", "__getattr__", "__getstate__")
    if "__slots__" in vars(made) or any(
        getattr(made, name, None) is not getattr(object, name, None) for name in special
    ):
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
        """The same, where the class has the book's text and nothing needs to be tried: it is decided now."""
        if self.version is None or not known_forms(self.version, self.module)[0].forward:
            return False
        self.decide(None, ())
        return True

    def is_ours(self, layer: Any, *arguments: Any) -> bool:
        """Whether kernels are known to take the calls of forward, or are likely to: here is one that is to be made."""
        if self.may_be_ours is None and not self.only_known:
            from .prospects import may_be_ours_to_make

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
                self.chosen = self._choose(layer, arguments)
            return self.chosen

    def weigh(self, name: str, seconds: float, arguments: tuple[Any, ...], result: Any) -> float | None:
        """How much of a call to count: nothing before the class, if it is not known, has done some work and was looked at.

        None where it is no operation's.
        """
        if self.may_be_ours is None:
            self.uncounted += seconds
            if name != "forward" or self.uncounted < LOOKED_AT:
                return 0.0
            from .prospects import may_be_ours

            self.may_be_ours = may_be_ours(self.made, arguments[0], arguments[1:], result, self.own[name])
            seconds = self.uncounted
        if self.may_be_ours:
            return seconds
        self.idling.rest()
        return None

    def _choose(self, layer: Any, arguments: tuple[Any, ...]) -> dict[str, calls.Method]:
        if arguments and getattr(arguments[0], "ndim", 0) == 4:  # images: there are convolutions before or after it
            ahead.compile_meanwhile("convolution", FLOAT)
        forms, reason = (Forms((), ()), "") if self.version is None else known_forms(self.version, self.module)
        if not forms.forward and (self.only_known or _not_to_be_tried(self.made)):
            self.found.accelerated, self.found.reason = False, reason
        elif not forms.forward:
            from .trials import try_class  # most scripts are over before this, or have the book's text alone

            verdict = try_class(self.made, layer, arguments, self.own)
            forms, self.found.how = verdict.forms, verdict.how
            self.found.accelerated = bool(forms.forward)
            self.found.reason = "; ".join(filter(None, ("" if forms.forward else reason, verdict.reason)))
        if (lazy := lazy_attributes(forms)) is not None:
            make_lazy(self.made, lazy)
        self.idling.large()
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
    for function in FUNCTIONS_OF.get(version.kind, ()):
        known = version_of(module.get(function))
        if known is None or known.kind != function:
            return Forms((), ()), f"its {function} is not the book's"
        forms = OTHER_FORMS.get(known.note, forms)
    return forms, ""


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
    if hasattr(function, VERSION):
        return getattr(function, VERSION)
    return function_version(function) if isinstance(function, FunctionType) else None


def _execute_module(loader: SourceFileLoader, module: Any) -> None:
    _exec_module(loader, module)
    if _is_ours(module.__name__):
        return
    for name in FUNCTIONS:
        function = vars(module).get(name)
        if (
            isinstance(function, FunctionType)
            and function.__globals__ is vars(module)
            and not hasattr(function, VERSION)
        ):
            _consider_function(function, name)


def _consider_function(function: FunctionType, name: str) -> None:
    version = function_version(function)
    found = Found(function.__code__.co_filename, function.__code__.co_firstlineno, name, version, version is not None)
    _state.found.append(found)
    if version is None and not _state.only_known:
        found.reason = NOT_TRIED
        function.__globals__[name] = _state.wrap(name, TriedFunction(name, function, found), function)
        return
    if version is None or version.kind not in FUNCTIONS:
        found.accelerated, found.reason = False, "not the book's code"
        return
    function.__globals__[name] = fast_function(function, version, _state.wrap)


def fast_function(function: calls.Method, version: KnownVersion, wrap: calls.Wrapper = calls.plain) -> calls.Method:
    """The function, accelerated."""
    made = wrap(version.kind, FUNCTIONS[version.kind], function)
    setattr(made, VERSION, version)
    return made
