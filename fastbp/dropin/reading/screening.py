"""Whether a method does nothing but compute: read from its code, before it is tried on drawn inputs (see `trials`).

What passes takes arrays, calls functions of NumPy that depend on their arguments alone, helpers of which the same is
true, and reads and sets attributes of its own object. Where it branches, it does so by shapes, flags and None, never by
the numbers in an array, so that what was tried goes for all numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np

from ..objects.marks import own_of
from ..objects.unforeseen import text_of
from .allowed import BUILTINS, EXCEPTIONS, METHODS, NUMPY, OF_ARRAYS, RANDOM
from .lists import own_lists
from .recognition import function_node
from .resolving import Helper, Resolver
from .shapes import is_equation, is_of_shapes
from .sizes import (
    SHAPES,
    Given,
    expressions,
    has_sure_shape,
    is_no_list,
    is_shape,
    is_sure_index,
    names_of,
)

_STATEMENTS = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Expr,
    ast.For,
    ast.If,
    ast.Pass,
    ast.Return,
    ast.Raise,
    ast.Assert,
)
_EXPRESSIONS = (
    ast.Attribute, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.IfExp, ast.List, ast.ListComp, ast.Name,
    ast.Slice, ast.Starred, ast.Subscript, ast.Tuple, ast.UnaryOp, ast.GeneratorExp,
)  # fmt: skip


class NotPlain(Exception):
    """The code does something else than computing; the message says what, and where."""


class Screened:
    """What a method touches: `reads` and `sets`, expressions such as "self.W" or "self.params[0]"; its numbers.

    helpers: the functions it calls, where each was found; methods: the names of those of its own object; formulas: what
    attributes are assigned, with the name that the object has there; made: the classes of which it makes objects, whose
    methods it calls.
    """

    def __init__(self, made: Iterable[type] = ()) -> None:
        self.made = dict.fromkeys(made)
        self.reads: dict[str, None] = {}
        self.sets: dict[str, None] = {}
        self.numbers: dict[float, None] = {}
        self.helpers: list[Helper] = []
        self.methods: set[str] = set()
        self.formulas: list[tuple[ast.expr, str]] = []


def screen(made: type, method: FunctionType, of_steps: Iterable[type] = ()) -> Screened:
    """Look through a method of an object of a class, and all that it calls. Raises NotPlain.

    of_steps: classes of objects that another of its methods has made.
    """
    found = Screened(of_steps)
    _Walk(found, made, set()).function(method, is_method=True)
    return found


def screen_function(function: FunctionType) -> Screened:
    """Look through a function of arrays, of whose parameters the others are settings or shapes. Raises NotPlain."""
    found = Screened()
    rest = frozenset(function.__code__.co_varnames[1 : function.__code__.co_argcount])
    _Walk(found, object, set()).function(function, is_method=False, given=Given(rest, rest))
    return found


def looked_into(look: Callable[..., Screened], *arguments: Any) -> Screened | NotPlain:
    """What one of the two finds, or why the code is left: what else somebody's code may be is not ours to foresee either."""
    try:
        return look(*arguments)
    except NotPlain as error:
        return error
    except Exception as error:
        return NotPlain(text_of(error))


class _Walk(Resolver):
    """Goes through the functions, one after the other."""

    def __init__(self, found: Screened, made: type, seen: set[Any]):
        super().__init__(made)
        self.found, self.seen = found, seen
        self.lists: set[str] = set()

    def function(self, function: FunctionType, is_method: bool, given: Given = Given()) -> None:  # noqa: B008
        if (function.__code__, given) in self.seen:
            return
        self.seen.add((function.__code__, given))
        node = function_node(function)
        code = function.__code__
        if node is None:
            raise NotPlain(f"the source of {function.__name__} is not there")
        is_decorated = [ast.unparse(one) for one in node.decorator_list] not in ([], ["staticmethod"])
        if code.co_freevars or is_decorated or code.co_flags & (0x04 | 0x20) or _reads_named(node):
            raise NotPlain(f"{function.__name__} is a closure, a generator, decorated or reads any number of arguments")
        inner = _Walk(self.found, self.made, self.seen)
        inner.sure = self.sure
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        inner.me = names[0] if is_method and names else ""
        inner.locals = set(code.co_varnames) | set(code.co_cellvars)
        inner.lists = own_lists(node)
        inner.function_seen, inner.given = function, given
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            if not isinstance(default, ast.Constant | ast.UnaryOp):
                raise NotPlain(f"a default of {function.__name__} is not a constant")
            self.found.numbers.update(
                (one.value, None)
                for one in ast.walk(default)
                if isinstance(one, ast.Constant) and isinstance(one.value, float)
            )
        inner.shapes = names_of(node, set(names[1:] if is_method else names), given, inner.me, inner)
        any(map(inner.statement, node.body))

    def fail(self, node: Any, what: str) -> NotPlain:
        file = self.function_seen.__code__.co_filename.replace("\\", "/").rpartition("/")[2]
        return NotPlain(f"{file}:{getattr(node, 'lineno', '?')} {what}")

    def statement(self, node: ast.stmt) -> bool:
        """Look into a statement. Whether what comes after it is never reached, as far as is seen here."""
        if isinstance(node, ast.Try):
            self.attempt(node)
            return False
        if not isinstance(node, _STATEMENTS):
            raise self.fail(node, f"has a statement that is not looked into ({type(node).__name__.lower()})")
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            self.assignment(node)
            return False
        if isinstance(node, ast.If) and (flag := self.flag(node.test)) is not None:
            return any(map(self.statement, node.body if flag else node.orelse))
        if isinstance(node, ast.If) or (isinstance(node, ast.Assert) and not is_equation(node.test, self.shapes)):
            self.test(node.test)
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.For):
            self.loop(node.iter)
            self.target(node.target, read=False)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child)
            elif isinstance(child, ast.expr) and child is not getattr(node, "target", None):
                self.expression(child)
        return isinstance(node, ast.Return)

    def assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value is not None:
            self._unpacking(targets, node.value)
            if isinstance(node, ast.Assign) and self.path(targets[0]) is not None:
                self.found.formulas.append((node.value, self.me))
        for target in targets:
            self.target(target, read=isinstance(node, ast.AugAssign))

    def flag(self, test: ast.expr) -> bool | None:
        """What a test of a global flag gives, as `if DEBUG:` has one; None for other tests.

        That the flag stays as it is, is seen to in each call, as for helpers.
        """
        is_negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        name, names = test.operand if isinstance(test, ast.UnaryOp) else test, self.function_seen.__globals__
        if not isinstance(name, ast.Name) or name.id in self.locals or type(names.get(name.id)) is not bool:
            return None
        if isinstance(test, ast.UnaryOp) and not is_negated:
            return None
        self.found.helpers.append(Helper(names, name.id, names[name.id]))
        return names[name.id] is not is_negated

    def attempt(self, node: ast.Try) -> None:
        """try: which arrays do not fit is to show in their shapes, and it is tried with many."""
        for handler in node.handlers:
            if not isinstance(handler.type, ast.Name) or handler.type.id not in EXCEPTIONS:
                raise self.fail(node, "catches other exceptions than those of arrays that do not fit")
        for one in (
            *node.body,
            *(one for handler in node.handlers for one in handler.body),
            *node.orelse,
            *node.finalbody,
        ):
            self.statement(one)
        for part in (part for one in node.body for part in ast.walk(one)):
            value = part.value if isinstance(part, ast.Assign | ast.AugAssign | ast.Expr | ast.Return) else None
            is_number = isinstance(part, ast.Call) and ast.unparse(part.func) in ("int", "float", "bool", "round")
            if (value is not None and not has_sure_shape(value, self.shapes)) or (
                isinstance(part, ast.Call) and is_number and not is_shape(part, self.shapes)
            ):
                raise self.fail(part, f"tries {ast.unparse(part)}, which may fail for some numbers")
            if isinstance(part, ast.If) and not is_shape(part.test, self.shapes):
                raise self.fail(part, f"tries a test of {ast.unparse(part.test)}")

    def _unpacking(self, targets: list[ast.expr], value: ast.expr) -> None:
        """`W, b = self.params` reads self.params[0] and self.params[1]."""
        if len(targets) == 1 and isinstance(targets[0], ast.Tuple) and (path := self.path(value)) is not None:
            if isinstance(value, ast.Attribute) and value.attr in SHAPES:
                self.expression(value)
                return
            if not any(isinstance(one, ast.Starred) for one in targets[0].elts):
                for place in range(len(targets[0].elts)):
                    self.found.reads.setdefault(f"{path}[{place}]")
                return
        self.expression(value)

    def target(self, node: ast.expr, read: bool) -> None:
        if isinstance(node, ast.Tuple | ast.List):
            for part in node.elts:
                self.target(part, read)
        elif isinstance(node, ast.Name):
            if node.id not in self.locals:
                raise self.fail(node, f"assigns the global variable {node.id}")
        elif isinstance(node, ast.Starred):
            self.target(node.value, read)
        elif (path := self.path(node)) is not None:
            self.found.sets.setdefault(path)
            if read:
                self.found.reads.setdefault(path)
        elif isinstance(node, ast.Subscript):
            self.expression(node.slice)
            base = self.path(node.value) or self.list_of(node.value)
            if base is not None:
                self.found.sets.setdefault(base)
                self.found.reads.setdefault(base)
            else:
                self.expression(node.value)
        else:
            raise self.fail(node, f"assigns to {ast.unparse(node)}")

    def list_of(self, node: ast.expr) -> str | None:
        """self.name of self.name[i]: any of the list's arrays may be written into."""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
            self.expression(node.slice)
            return self.path(node.value)
        return None

    def loop(self, node: ast.expr) -> None:
        if not has_sure_shape(node, self.shapes):
            raise self.fail(node, f"goes through {ast.unparse(node)}, as often as numbers say")

    def test(self, node: ast.expr) -> None:
        if not is_of_shapes(node, self.shapes, self.given.settings):
            raise self.fail(node, f"decides by {ast.unparse(node)}")

    def expression(self, node: ast.expr | None) -> None:
        if node is None:
            return
        if not isinstance(node, _EXPRESSIONS):
            raise self.fail(node, f"has an expression that is not looked into ({ast.unparse(node)})")
        if (path := self.path(node)) is not None:
            self.found.reads.setdefault(path)
        elif isinstance(node, ast.Name):
            self.name(node)
        elif isinstance(node, ast.Attribute):
            self.attribute(node)
        elif isinstance(node, ast.Call):
            self.call(node)
        else:
            self.choice(node)
            if isinstance(node, ast.Constant) and isinstance(node.value, float | int):
                self.found.numbers.setdefault(node.value)
            with self.inner_names(node):
                for child in expressions(node):
                    self.expression(child)

    @contextmanager
    def inner_names(self, node: ast.expr) -> Iterator[None]:
        """A comprehension's variables are local within it; up to Python 3.11 the function's code does not say so."""
        parts = node.generators if isinstance(node, ast.ListComp | ast.GeneratorExp) else []
        found = {
            name.id for part in parts for name in ast.walk(part.target) if isinstance(name, ast.Name)
        } - self.locals
        self.locals |= found
        yield
        self.locals -= found

    def choice(self, node: ast.expr) -> None:
        """Where an expression chooses, it must do so by shapes, too."""
        if isinstance(node, ast.IfExp):
            self.test(node.test)
        elif isinstance(node, ast.BoolOp):
            for value in node.values[:-1]:
                self.test(value)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp):
            for part in node.generators:
                self.loop(part.iter)
                any(map(self.test, part.ifs))
        elif isinstance(node, ast.Subscript) and not self.is_by_shapes(node):
            raise self.fail(node, f"chooses by {ast.unparse(node.slice)}")

    def is_by_shapes(self, node: ast.Subscript) -> bool:
        """Whether numbers do not say which part of a list is taken."""
        if isinstance(node.value, ast.Tuple | ast.List | ast.ListComp):
            return False
        return is_no_list(node.value, self.shapes) or is_sure_index(node.slice, self.shapes)

    def name(self, node: ast.Name) -> None:
        if node.id == self.me:
            raise self.fail(node, "hands itself on")
        if node.id in self.locals or (node.id in BUILTINS and node.id not in self.function_seen.__globals__):
            return
        value = self.function_seen.__globals__.get(node.id, self)
        if value is np:
            raise self.fail(node, "hands NumPy itself on")
        if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
            return
        if type(value) in (int, float):
            self.constant(node.id, value)
            return
        raise self.fail(node, f"reads the global variable {node.id}")

    def constant(self, name: str, value: float) -> None:
        """A number of the module, EPSILON, say: that it stays the same is seen to in each call, as for helpers."""
        self.found.numbers.setdefault(value)
        self.found.helpers.append(Helper(self.function_seen.__globals__, name, value))

    def attribute(self, node: ast.Attribute) -> None:
        if (name := self.numpy_name(node)) is not None:
            if name not in NUMPY:
                raise self.fail(node, f"uses np.{name}")
            return
        if node.attr not in OF_ARRAYS and not self.is_of_step(node):
            raise self.fail(node, f"uses {ast.unparse(node)}")
        self.expression(node.value)

    def call(self, node: ast.Call) -> None:
        self.called(node.func, node)
        for argument in node.args:
            self.expression(argument)
        for keyword in node.keywords:
            self.expression(keyword.value)

    def called(self, function: ast.expr, call: ast.Call) -> None:
        if (name := self.numpy_name(function)) is not None:
            if name not in NUMPY and name not in RANDOM:
                raise self.fail(function, f"calls np.{name}")
        elif isinstance(function, ast.Name):
            self.called_by_name(function, call)
        elif (path := self.path(function)) is not None:
            self.own_method(function, path.removeprefix("self."), call)
        elif isinstance(function, ast.Attribute):
            helper = self.module_function(function)
            if helper is not None:
                self.found.helpers.append(helper)
                self.helper(helper.function, call)
                return
            if function.attr == "append" and self.found.made and (path := self.path(function.value)) is not None:
                self.found.sets.setdefault(path)
            elif function.attr == "append" and isinstance(function.value, ast.Name) and function.value.id in self.lists:
                return
            elif function.attr not in OF_ARRAYS and not (self.is_of_step(function) and function.attr in METHODS[1:]):
                raise self.fail(function, f"calls {ast.unparse(function)}")
            self.expression(function.value)
        else:
            raise self.fail(function, f"calls {ast.unparse(function)}")

    def called_by_name(self, function: ast.Name, call: ast.Call) -> None:
        if function.id in self.locals:
            raise self.fail(function, f"calls {function.id}, which it was given")
        value = self.function_seen.__globals__.get(function.id)
        if isinstance(value, FunctionType):
            self.found.helpers.append(Helper(self.function_seen.__globals__, function.id, value))
            self.helper(value, call)
        elif isinstance(value, type) and {"forward", "backward"} <= vars(value).keys():
            self.object_of(value, function)
        elif value is not None or function.id not in BUILTINS:
            raise self.fail(function, f"calls {function.id}")

    def object_of(self, made: type, called: ast.Name) -> None:
        """An object of a class, whose methods must be plain, too."""
        names = self.function_seen.__globals__
        self.found.helpers.append(Helper(names, called.id, made))
        if made not in self.found.made:
            self.found.made[made] = None
            for name in METHODS:
                method = own_of(getattr(made, name))
                if isinstance(method, FunctionType):
                    self.found.helpers += screen(made, method).helpers
                elif method is not object.__init__:
                    raise self.fail(called, f"calls {called.id}, whose {name} is no function")
            if type(made) is not type or made.__new__ is not object.__new__:
                raise self.fail(called, f"calls {called.id}, which makes its objects in a way of its own")

    def is_of_step(self, node: ast.Attribute) -> bool:
        """An attribute of an object that the method has made, in a variable."""
        return bool(self.found.made) and isinstance(node.value, ast.Name) and node.value.id in self.locals

    def helper(self, function: Any, call: ast.Call) -> None:
        own = own_of(getattr(function, "__func__", function))  # of a static method
        if not isinstance(own, FunctionType):
            raise self.fail(call, f"calls {ast.unparse(call.func)}, whose code is not there to be read")
        self.function(own, is_method=False, given=self.given_to(own, call, is_method=False))

    def own_method(self, node: ast.expr, name: str, call: ast.Call) -> None:
        name = self.mangled(name)
        self.found.methods.add(name)
        owner = next((one for one in self.made.__mro__ if name in vars(one)), object)
        method = vars(owner).get(name)
        self.found.helpers.append(Helper(vars(owner), name, method))
        if isinstance(method, staticmethod) and isinstance(method.__func__, FunctionType):
            self.helper(method.__func__, call)
        elif isinstance(method, FunctionType) and name not in ("forward", "backward"):
            self.function(method, is_method=True, given=self.given_to(method, call, is_method=True))
        else:
            raise self.fail(node, f"calls its {name}")


def _reads_named(function: ast.FunctionDef) -> bool:
    """Whether it takes any named arguments and does something with them."""
    named = function.args.kwarg
    return named is not None and any(isinstance(one, ast.Name) and one.id == named.arg for one in ast.walk(function))
