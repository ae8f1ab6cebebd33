"""Putting the compiled kernels under the book's layers, where they are defined: `accelerate()` and `accelerated()`.

Two places of Python see every definition: the built-in function that makes classes, and the loader that has executed a
module. While accelerating, both look at what has been defined. A class that has the book's text, or that is found to
compute the same when it is first called (`trials`), keeps its name, its constructor, its attributes and its place; only
its `forward` and `backward` are patched with ones that use the kernels where they can, and the class's own methods where
not. Anything else is left as it is.
"""

from __future__ import annotations

import builtins
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from types import FunctionType
from typing import Any

from .beginning import calls
from .beginning.idling import Idling
from .networks.expressions import with_kernels
from .networks.fusing import with_programs
from .networks.stacking import goes_through_layers
from .objects.marks import mark_of
from .objects.unforeseen import or_else, reason_for
from .operations.functions import FUNCTIONS
from .operations.kernel_calls import kernels
from .operations.optimizers import UPDATES
from .patching import (
    LAYER,
    NOT_TRIED,
    fast_function,
    not_to_be_tried,
    patch,
    patch_optimizer,
)
from .reading.dropped_gradient import dropping_first_gradient, layers_of_dropped
from .reading.found import Found
from .reading.recognition import class_version, digest, function_node, function_version


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
    return start_accelerating(_state.wrap, _state.only_known)  # as under `fastbp run --verbose --only-known`


def start_accelerating(wrap: calls.Wrapper, only_known: bool = False) -> list[Found]:
    """Accelerate, with calls wrapped by `wrap`: counted, or compared; `only_known`: nothing is tried."""
    with _state.lock:
        _state.only_known = only_known
        _state.depth += 1
        _state.wrap = wrap
        kernels.look_up_again()
        builtins.__build_class__ = _make_class  # type: ignore[assignment]
        SourceFileLoader.exec_module = _execute_module  # type: ignore[method-assign, assignment]
    return _state.found


def stop_accelerating() -> None:
    """Leave alone what is defined from now on; what has been accelerated stays so."""
    with _state.lock:
        _state.depth = max(0, _state.depth - 1)
        if not _state.depth:
            if builtins.__build_class__ is _make_class:  # else somebody has wrapped it
                builtins.__build_class__ = _build_class
            if SourceFileLoader.exec_module is _execute_module:
                SourceFileLoader.exec_module = _exec_module  # type: ignore[method-assign]
            _state.wrap, _state.only_known = calls.plain, False


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
    try:
        _consider(made, body)
    except Exception as error:
        _note_left(made, body, reason_for(error))
    return made


def _consider(made: Any, body: Any) -> None:
    """Patch whatever of a class that has just been made can be."""
    if not _state.depth:
        return  # somebody's own `__build_class__`, put around ours, still calls it
    if type(made) not in (type, ABCMeta) or not isinstance(body, FunctionType) or _is_no_script_s(made.__module__):
        return
    own = vars(made)
    is_layer = any(method in own for method in LAYER) and all(hasattr(made, method) for method in LAYER)
    is_layer = is_layer and not any(goes_through_layers(own.get(method)) for method in LAYER)
    if is_layer:
        _consider_class(made, body)
    elif isinstance(own.get("update"), FunctionType):
        _consider_optimizer(made, body)
    if _consider_methods(made, is_layer) and not is_layer:
        _note_programs(made, body)


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


# Nobody has layers in these. Numba alone has 1,500 classes, and looking at them took a fifth of the time of its import.
PACKAGES = {
    __name__.partition(".")[0],
    "numpy",
    "numba",
    "llvmlite",
    "matplotlib",
    "mpl_toolkits",
    "PIL",
    "scipy",
    "pandas",
}


def _is_no_script_s(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _consider_class(made: type, body: FunctionType) -> None:
    code = body.__code__
    found = Found(code.co_filename, code.co_firstlineno, made.__name__, None, False)
    _state.found.append(found)
    found.version = class_version(code, made.__name__, body.__globals__)
    if found.version is not None:
        patch(made, found.version, body.__globals__, found, _state.wrap, _state.only_known)
        found.accelerated, found.how = True, "the book's text"
    elif _state.only_known:
        found.reason = "not the book's text"
    elif (reason := not_to_be_tried(made)) is not None:
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
    found = Found(code.co_filename, code.co_firstlineno, made.__name__, None, False, "not the book's text")
    _state.found.append(found)
    if rule is not None:
        patch_optimizer(made, rule, _state.wrap)
        found.accelerated, found.how, found.reason = True, "the book's text", ""


def _note_programs(made: type, body: FunctionType) -> None:
    """That a class has methods that run programs: of an optimizer, which may have been noted as unknown."""
    found = _found_for(made, body)
    found.accelerated, found.how, found.reason = True, "its statements, in one pass", ""


def _note_left(made: type, body: FunctionType, reason: str) -> None:
    """That looking at a class went wrong, unless it is one of which the report says nothing, or is patched already."""
    if {*LAYER, "update"}.isdisjoint(vars(made)):
        return
    found = _found_for(made, body)
    found.reason = found.reason if found.accelerated else reason


def _found_for(made: type, body: FunctionType) -> Found:
    """What has been noted of a class, or a new note: it is not accelerated."""
    place = body.__code__.co_filename, body.__code__.co_firstlineno, made.__name__
    found = next((one for one in reversed(_state.found) if (one.file, one.line, one.name) == place), None)
    if found is None:
        _state.found.append(found := Found(*place, None, False))
    return found


def _execute_module(loader: SourceFileLoader, module: Any) -> None:
    _exec_module(loader, module)
    _consider_functions(module)


@or_else(None)
def _consider_functions(module: Any) -> None:
    """Patch those of a module that has just been executed."""
    if _is_no_script_s(module.__name__):
        return
    for name in FUNCTIONS:
        function = vars(module).get(name)
        if (
            isinstance(function, FunctionType)
            and function.__globals__ is vars(module)
            and mark_of(function).version is None
        ):
            _consider_function(function, name)


def _consider_function(function: FunctionType, name: str) -> None:
    version = function_version(function)
    found = Found(function.__code__.co_filename, function.__code__.co_firstlineno, name, version, version is not None)
    _state.found.append(found)
    if version is None and not _state.only_known:
        from .trials.functions import TriedFunction  # few scripts have such functions

        found.reason = NOT_TRIED
        function.__globals__[name] = _state.wrap(name, TriedFunction(name, function, found), function)
        return
    if version is None or version.kind not in FUNCTIONS:
        found.accelerated, found.reason = False, "not the book's code"
        return
    function.__globals__[name] = fast_function(function, version, _state.wrap)
