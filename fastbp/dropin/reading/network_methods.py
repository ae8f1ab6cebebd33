"""Which of a network's methods go through its layers and its loss, read from their syntax: see `networks.steps`."""

from __future__ import annotations

import ast
from types import FunctionType
from typing import NamedTuple

from .dropped_gradient import backward_loop, reversed_attribute, through_attribute
from .loops import is_read_in, loop_of


class Predict(NamedTuple):
    """A method that goes through the layers of an attribute, and returns what the last gives.

    are_values: whether the attribute is a dict, of which they are the values.
    """

    layers: str
    are_values: bool


class Loss(NamedTuple):
    """A method of x and t: the last layer's loss of what other layers, or the method `predict`, give for x, and maybe more.

    after: how many statements come after the layers' part, the one that returns the sum among them; aside: what of these
    only computes, a weight decay, as a function of the same parameters; None if there is nothing.
    """

    last: str
    through: Predict | None
    predict: str
    after: int
    aside: FunctionType | None = None


class Gradient(NamedTuple):
    """A method of x and t whose first statements call `loss`, and go back through the last layer and the layers.

    given: how many arguments the last layer's backward has; first, after: the statements, and how many come after them.
    """

    loss: str
    last: str
    layers: str
    given: int
    first: int
    after: int


NetworkMethod = Predict | Loss | Gradient


def method_of(node: ast.FunctionDef) -> NetworkMethod | None:
    """Which of these a method is."""
    parameters = node.args
    names = [one.arg for one in parameters.args]
    if parameters.posonlyargs or parameters.vararg or parameters.kwonlyargs or parameters.kwarg or parameters.defaults:
        return None
    start = 1 if is_text(node.body[0]) else 0
    if len(names) == 2:
        return _predict(node.body[start:], *names)
    return _loss(node.body[start:], *names) or _gradient(node.body, start, *names) if len(names) == 3 else None


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _predict(body: list[ast.stmt], me: str, x: str) -> Predict | None:
    match body:
        case [ast.For() as loop, ast.Return(value=ast.Name(id=name))] if name == x:
            return _through(loop, me, x)
    return None


def _through(statement: ast.stmt, me: str, x: str) -> Predict | None:
    """What `for layer in self.layers: x = layer.forward(x)` does; None for any other statement."""
    loop = loop_of(statement, "forward")
    if loop is None or loop.value != x or loop.key or loop.other is not None or loop.flag is not None:
        return None
    layers = through_attribute(loop.statement.iter, me)
    if not layers or loop.layer in (me, x):
        return None
    return Predict(layers, ".values()" in ast.unparse(loop.statement.iter))


def _loss(body: list[ast.stmt], me: str, x: str, t: str) -> Loss | None:
    if not isinstance(body[-1], ast.Return) or (call := _loss_call(body, me)) is None:
        return None
    scores, labels, last = call
    first, aside = (None, body[: -end_of(body)]) if isinstance(scores, ast.Call) else (body[0], body[1 : -end_of(body)])
    through, predict, y = None, "", x
    match first, scores:
        case None, ast.Call():
            predict = _own_call(scores, me, x)
        case ast.For(), ast.Name(id=name) if name == x:
            through = _through(first, me, x)
        case ast.Assign(targets=[ast.Name(id=y)], value=value), ast.Name(id=name) if name == y:
            predict = _own_call(value, me, x)
    rest = [*aside, *body[-end_of(body) :]]
    if (through is None and not predict) or getattr(labels, "id", "") != t or y in (me, t):
        return None
    if not _only_computes(aside, {me, x, y, t}) or any(is_read_in([part], y) for part in aside):
        return None
    return Loss(last, through, predict, len(rest))


def end_of(body: list[ast.stmt]) -> int:
    """How many statements compute the loss and return it: `return ...`, or `loss = ...` and `return loss`."""
    return 2 if len(body) > 1 and isinstance(body[-2], ast.Assign) and _call_in(body[-2].value) is not None else 1


class _LossCall(NamedTuple):
    """The arguments of `self.last_layer.forward(y, t)`, and the attribute."""

    scores: ast.expr
    labels: ast.expr
    last: str


def _loss_call(body: list[ast.stmt], me: str) -> _LossCall | None:
    """The call in the end of a method, where its result is returned, alone or as a part of a sum."""
    returned = body[-1]
    assert isinstance(returned, ast.Return)
    whole = returned.value
    if end_of(body) == 2:
        assigned = body[-2]
        assert isinstance(assigned, ast.Assign)
        names = [one.id for one in assigned.targets if isinstance(one, ast.Name)]
        if len(names) != 1 or len(assigned.targets) != 1 or whole is None or not _is_sum(whole, names[0]):
            return None
        whole = assigned.value
    call = None if whole is None else _call_in(whole)
    if call is None:
        return None
    match call:
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=owner), attr=last)),
            args=[scores, labels],
            keywords=[],
        ) if owner == me:
            return _LossCall(scores, labels, last)
    return None


def _is_sum(node: ast.expr, name: str) -> bool:
    """Whether it is a variable, or that plus others."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return all(isinstance(part, ast.Name) for part in (node.left, node.right))
    return isinstance(node, ast.Name) and node.id == name


def _call_in(node: ast.expr) -> ast.Call | None:
    """`self.last_layer.forward(...)`, which it is, or to which it adds a variable."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Attribute(value=ast.Name()), attr="forward")):
            return node
        case (
            ast.BinOp(left=inner, op=ast.Add(), right=ast.Name())
            | ast.BinOp(left=ast.Name(), op=ast.Add(), right=inner)
        ):
            return _call_in(inner)
    return None


# What a weight decay may call.
_COMPUTING = {"range", "len", "str", "float", "int", "abs"}
_OF_NUMPY = {"sum", "square", "abs"}
_OF_DICTS = {"values", "items"}


def _only_computes(statements: list[ast.stmt], given: set[str]) -> bool:
    """Whether statements set nothing but variables of their own, not those that are given, and call nothing unknown."""
    for part in (one for statement in statements for one in ast.walk(statement)):
        match part:
            case ast.Call(func=ast.Name(id=name)) if name in _COMPUTING:
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name)) if name in _OF_NUMPY:
                if part.keywords:
                    return False
            case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=[]) if name in _OF_DICTS:
                pass
            case ast.Attribute(ctx=ast.Load()) | ast.Subscript(ctx=ast.Load()):
                pass
            case ast.Name(ctx=ast.Store(), id=name) if name in given:
                return False
            case ast.Assign() | ast.AugAssign() | ast.For() | ast.Name() | ast.Tuple() | ast.Constant():
                pass
            case ast.BinOp() | ast.UnaryOp() | ast.operator() | ast.unaryop() | ast.expr_context():
                pass
            case _:
                return False
    return True


def _own_call(node: ast.expr, me: str, *arguments: str) -> str:
    """The method that is called with these arguments; "" if it is another call."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name), args=given, keywords=[]) if owner == me:
            are_these = [getattr(one, "id", None) for one in given] == list(arguments)
            return name if are_these else ""
    return ""


def _gradient(body: list[ast.stmt], first: int, me: str, x: str, t: str) -> Gradient | None:
    """The statements from `first` on: the call of `loss`, `dout = 1`, the last layer's, a list of the layers, the loop."""
    loops = [place for place, statement in enumerate(body) if backward_loop(statement) is not None]
    beginning = body[first]
    if len(loops) != 1 or not isinstance(beginning, ast.Expr):
        return None
    loop, after = body[loops[0]], body[loops[0] + 1 :]
    assert isinstance(loop, ast.For)
    loss, dout, between = _own_call(beginning.value, me, x, t), backward_loop(loop) or "", body[first + 1 : loops[0]]
    if between and ast.unparse(between[0]) in (f"{dout} = 1", f"{dout} = 1.0"):
        one, between = dout, between[1:]
    else:
        one = None
    if not between or not loss or dout in (me, x, t):
        return None
    match between[0]:
        case ast.Assign(
            targets=[ast.Name(id=name)],
            value=ast.Call(
                func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=owner), attr=last), attr="backward"),
                args=given,
                keywords=[],
            ),
        ) if (name, owner) == (dout, me) and [ast.unparse(part) for part in given] in ([], ["1"], ["1.0"], [one]):
            pass
        case _:
            return None
    set_names = {dout, *(part.id for part in ast.walk(loop.target) if isinstance(part, ast.Name))}
    gone_through = {part.id for part in ast.walk(loop.iter) if isinstance(part, ast.Name)} - {me}
    for statement in between[1:]:  # a list of the layers, of which `reversed_attribute` sees that it is no more
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) if name in gone_through:
                set_names.add(name)
            case _ if ast.unparse(statement) != f"{ast.unparse(loop.iter)}.reverse()":
                return None
    layers = reversed_attribute(loop.iter, between[1:], me)
    if layers is None or len(between) > 3 or not set_names.isdisjoint({me, x, t}):
        return None
    if any(is_read_in(after, name) for name in set_names):
        return None
    return Gradient(loss, last, layers, len(given), first, len(after))
