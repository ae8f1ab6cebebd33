"""What the names in somebody's function mean: NumPy, another function of theirs, a method or an attribute of the object."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..objects.marks import own_of
from .recognition import function_node
from .sizes import (
    Given,
    Names,
    Test,
    has_sure_dimensions,
    has_sure_shape,
    is_no_list,
    is_no_mask,
    is_shape,
    names_of,
    no_names,
)


class Helper(NamedTuple):
    """A function, a flag or a number, with the names of a module or a class and the one where it was found."""

    module: Mapping[str, Any]
    name: str
    function: Any


class Resolver:
    """Knows what the names in one function mean: `made` is the class of its object, which it calls `me`."""

    def __init__(self, made: type):
        self.made, self.me = made, ""
        self.locals: set[str] = set()
        self.shapes = no_names(self)
        self.given = Given()
        self.sure: dict[Any, bool] = {}  # what each_result has found
        self.function_seen: FunctionType

    def path(self, node: ast.expr) -> str | None:
        """self.name, self.name[0] or self.name["W"], as it is read; None for anything else."""
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and self.me
            and node.value.id == self.me
        ):
            return f"self.{node.attr}"
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
            return None
        base = self.path(node.value) if isinstance(node.value, ast.Attribute) else None
        return f"{base}[{node.slice.value!r}]" if base and isinstance(node.slice.value, int | str) else None

    def numpy_name(self, node: ast.expr) -> str | None:
        """The last name of np.exp or np.lib.stride_tricks.as_strided; None if it is not NumPy's."""
        if not isinstance(node, ast.Attribute):
            return None
        inner = node.value
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id in self.locals:
            return None
        value = self.function_seen.__globals__.get(inner.id)
        if value is np or getattr(value, "__name__", "").startswith("numpy."):
            return node.attr if "random" not in ast.unparse(node).split(".")[:-1] else f"random.{node.attr}"
        return None

    def module_function(self, function: ast.Attribute) -> Helper | None:
        """util.im2col, where util is an imported module, or Activations.softmax, a static method of another class."""
        if isinstance(function.value, ast.Name) and function.value.id not in self.locals:
            owner = self.function_seen.__globals__.get(function.value.id)
            if isinstance(owner, ModuleType | type):
                value = vars(owner).get(function.attr)
                if isinstance(value, FunctionType | staticmethod):
                    return Helper(vars(owner), function.attr, value)
        return None

    def mangled(self, name: str) -> str:
        """A method's name in its class."""
        is_private = name.startswith("__") and not name.endswith("__")
        return f"_{self.made.__name__.lstrip('_')}{name}" if is_private else name

    def is_numpy(self, called: ast.expr) -> bool:
        return self.numpy_name(called) is not None

    def each_result(self, call: ast.Call, names: Names, test: Test) -> bool | None:
        """See sizes.Reader: of a function, a method or a class of somebody's; of what cannot be read, no."""
        function, is_method = self.somebodys(call.func)
        if function is None or isinstance(function, type):
            return None if function is None else test is not is_shape
        given = self.given_to(function, call, is_method, names)
        key = function, given, test
        if key not in self.sure:
            self.sure[key] = False  # of one that calls itself
            if (node := function_node(function)) is not None:
                inner = Resolver(self.made)
                inner.sure, inner.function_seen, inner.locals = self.sure, function, set(function.__code__.co_varnames)
                parameters = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
                inner.me, inner.given = parameters[0] if is_method and parameters else "", given
                own = names_of(node, set(parameters[is_method:]), given, inner.me, inner)
                results = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
                self.sure[key] = all(one is None or test(one, own) for one in results)
        return self.sure[key]

    def somebodys(self, called: ast.expr) -> tuple[Any, bool]:
        """The function or class that is called, unless it is NumPy's or built in; whether it is a method of the object."""
        found: Any = None
        if self.numpy_name(called) is not None:
            return None, False
        if isinstance(called, ast.Name) and called.id not in self.locals:
            found = self.function_seen.__globals__.get(called.id)
        elif (path := self.path(called)) is not None:
            name = self.mangled(path.removeprefix("self."))
            found = vars(next((one for one in self.made.__mro__ if name in vars(one)), object)).get(name)
            if isinstance(found, FunctionType):
                return found, True
        elif isinstance(called, ast.Attribute) and (helper := self.module_function(called)) is not None:
            found = helper.function
        found = getattr(found, "__func__", found)
        found = own_of(found)
        return (found, False) if isinstance(found, FunctionType | type) else (None, False)

    def given_to(self, function: FunctionType, call: ast.Call, is_method: bool, names: Names | None = None) -> Given:
        """What a call gives the parameters of a function, from among these names."""
        known = self.shapes if names is None else names
        code = function.__code__
        parameters = code.co_varnames[is_method : code.co_argcount]
        plain = list(itertools.takewhile(lambda one: not isinstance(one, ast.Starred), call.args))
        values: dict[str, ast.expr | None] = dict(zip(parameters, plain, strict=False))
        values.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None})
        if len(plain) < len(call.args) or any(keyword.arg is None for keyword in call.keywords):
            values = {**dict.fromkeys(parameters), **values}  # any of them may be given anything

        def those(test: Test, is_so: bool) -> frozenset[str]:
            found = {name for name, one in values.items() if (one is not None and test(one, known)) == is_so}
            return frozenset(found)

        is_flag: Test = lambda one, names: isinstance(one, ast.Name) and one.id in names.flags  # noqa: E731
        defaults = frozenset(name for name in parameters if name not in values)
        settings = defaults | those(self.is_given_setting, True)
        return Given(
            settings, those(is_shape, True), those(is_flag, True), those(has_sure_shape, False),
            those(has_sure_dimensions, False), those(is_no_list, False), those(is_no_mask, False),
        )  # fmt: skip

    def is_given_setting(self, value: ast.expr, names: Names) -> bool:
        """A constant, a parameter that is given a setting, or an attribute, but for those that the function itself sets."""
        is_one = isinstance(value, ast.Name) and value.id in self.given.settings
        is_own = isinstance(value, ast.Attribute) and f"{self.me}.{value.attr}" in names.own - names.shapes
        return is_one or isinstance(value, ast.Constant) or (self.path(value) is not None and not is_own)
