"""Putting the compiled kernels under the book's layers, where they are defined: `accelerate()` and `accelerated()`.

Two places of Python see every definition: the built-in function that makes classes, and the loader that has executed a
module. While accelerating, both look at what has been defined. A class that is recognised as a known version of the book's
keeps its name, its constructor, its attributes and its place; only its `forward` and `backward` are patched with ones
that use the kernels where they can, and the class's own methods where not. Anything else is left as it is.
"""

from __future__ import annotations

import builtins
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import FunctionType
from typing import Any

import numpy as np

from . import calls
from .fast_functions import FUNCTIONS
from .fast_layers import LAYERS, OTHER_VERSIONS, Fast, Patches, dropping_first_gradient, kernels, state_with_patches
from .fast_optimizers import OPTIMIZERS
from .known_versions import KnownVersion
from .recognition import class_version, function_version

KINDS = {**LAYERS, **OPTIMIZERS}
LAYER = {"forward", "backward"}
GRADIENT = "gradient"  # a method of the book's networks
VERSION = "__fastbp_version__"  # on functions: which of the book's they are


@dataclass
class Found:
    """A class or function that was looked at: whether it was accelerated, and if not, why."""

    file: str
    line: int
    name: str
    version: KnownVersion | None
    accelerated: bool
    reason: str = ""


class _State:
    """What is accelerated now, and what has been found: of the whole process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.wrap: calls.Wrapper = calls.plain
        self.found: list[Found] = []


_state = _State()
_build_class: Callable[..., Any] = builtins.__build_class__
_exec_module = SourceFileLoader.exec_module


def accelerate() -> list[Found]:
    """Accelerate the book's layers and functions in everything that is imported or defined from now on.

    `from common.layers import *` after it gives layers with the same names, attributes and numbers, several times
    faster; classes that differ from the book's in what they do are not patched. What exists already is not changed.
    Returns the list to which every class and function that is looked at is added, with the reason if it was left.
    """
    return start_accelerating(_state.wrap)  # under `fastbp run --verbose`, calls go on being counted


def start_accelerating(wrap: calls.Wrapper) -> list[Found]:
    """The same, with calls that are wrapped in another way: counted, or compared."""
    with _state.lock:
        _state.depth += 1
        _state.wrap = wrap
        vars(kernels).clear()
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
    """`%load_ext fastbp`: accelerate what later cells import or define."""
    accelerate()


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext fastbp`."""
    stop_accelerating()


@contextmanager
def accelerated() -> Iterator[list[Found]]:
    """`accelerate()` for what is imported or defined in the `with` block; it stays accelerated afterwards."""
    found = accelerate()
    try:
        yield found
    finally:
        stop_accelerating()


def _make_class(body: Any, name: str, *bases: Any, **keywords: Any) -> Any:
    made = _build_class(body, name, *bases, **keywords)
    if type(made) is not type or not isinstance(body, FunctionType):
        return made
    own = vars(made)
    is_layer = bool(LAYER & own.keys()) and all(hasattr(made, method) for method in LAYER)
    if is_layer or (made.__name__ in OPTIMIZERS and "update" in own):
        _consider_class(made, body)
    if isinstance(method := own.get(GRADIENT), FunctionType):
        version = function_version(method)
        if version is not None and version.kind == GRADIENT:
            setattr(made, GRADIENT, dropping_first_gradient(method))
    return made


def _consider_class(made: type, body: FunctionType) -> None:
    code = body.__code__
    found = Found(code.co_filename, code.co_firstlineno, made.__name__, None, False)
    _state.found.append(found)
    if made.__bases__ != (object,):
        found.reason = f"a subclass of {made.__bases__[0].__name__}"
        return
    found.version = class_version(code, made.__name__, body.__globals__)
    if found.version is None:
        found.reason = "not the book's code" if made.__name__ in KINDS else "a layer of your own"
        return
    fast = OTHER_VERSIONS.get(found.version.note) or KINDS[found.version.kind]
    patch_methods(made, fast, body.__globals__, found, _state.wrap)


def patch_methods(
    made: type, fast: Fast, module: dict[str, Any], found: Found | None = None, wrap: calls.Wrapper = calls.plain
) -> None:
    """Accelerate a class whose code is known; `module` is where its functions are looked up, at the first call."""
    if found is not None:
        found.accelerated = True
    for name in fast.methods:
        own = vars(made)[name]
        setattr(made, name, wrap(f"{made.__name__}.{name}", _once_checked(name, fast, module, found), own))
    if fast is LAYERS["Convolution"]:
        made.col = Patches()  # type: ignore[attr-defined]
        made.__getstate__ = state_with_patches  # type: ignore[attr-defined]


def _once_checked(name: str, fast: Fast, module: dict[str, Any], found: Found | None) -> calls.Method:
    """The fast method, if what the user's class calls is NumPy's and the book's as well; the first call looks."""
    chosen: calls.Method | None = None

    @functools.wraps(fast.methods[name])
    def checked(*arguments: Any) -> Any:
        nonlocal chosen
        if chosen is None:
            chosen, reason = _for_functions(name, fast, module)
            if found is not None and reason:
                found.accelerated, found.reason = False, reason
        return chosen(*arguments)

    return checked


def _for_functions(name: str, fast: Fast, module: dict[str, Any]) -> tuple[calls.Method, str]:
    """The method that fits the versions of the functions in a module; or one that always passes, and why."""
    method = fast.methods[name]
    if module.get("np", np) is not np:
        return _pass, "its np is not NumPy"
    for function in fast.functions:
        version = version_of(module.get(function))
        if version is None or version.kind != function:
            return _pass, f"its {function} is not the book's"
        if version.note in OTHER_VERSIONS:
            method = OTHER_VERSIONS[version.note].methods[name]
    return method, ""


def _pass(*arguments: Any) -> Any:
    return calls.PASS


def version_of(function: Any) -> KnownVersion | None:
    """Which of the book's functions this is, or None."""
    if hasattr(function, VERSION):
        return getattr(function, VERSION)
    return function_version(function) if isinstance(function, FunctionType) else None


def _execute_module(loader: SourceFileLoader, module: Any) -> None:
    _exec_module(loader, module)
    if module.__name__.partition(".")[0] == __name__.partition(".")[0]:
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
    if version is None or version.kind not in FUNCTIONS:
        found.accelerated, found.reason = False, "not the book's code"
        return
    function.__globals__[name] = fast_function(function, version, _state.wrap)


def fast_function(function: calls.Method, version: KnownVersion, wrap: calls.Wrapper = calls.plain) -> calls.Method:
    """The function, accelerated."""
    made = wrap(version.kind, FUNCTIONS[version.kind], function)
    setattr(made, VERSION, version)
    return made
