"""Loops through a network's layers, read from a method's syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

OF_TEXT = {"startswith", "endswith", "find", "count", "lower", "upper", "split", "rstrip", "strip", "isdigit"}
SEARCHES = {"search", "match", "fullmatch"}  # of the module re


class Flag(NamedTuple):
    """What a layer is called with beside its value, as the book's MultiLayerNetExtend tells its dropout whether it trains: a
    variable or a constant, and the name that it is given by, if it is."""

    value: ast.expr
    keyword: str = ""


class Loop(NamedTuple):
    """`for layer in layers: value = layer.method(value)`, or through a dict's items.

    key: the variable of the dict's keys, if it is through those; other: a test of the key, or, `by_class`, of the layer's
    class, of layers that are called otherwise: with a flag, or in some other way. Without `other`, all layers are called
    with the flag, if there is one.
    """

    statement: ast.For
    layer: str
    value: str
    method: str
    key: str = ""
    other: ast.expr | None = None
    flag: Flag | None = None
    by_class: bool = False

    @property
    def variables(self) -> set[str]:
        return {self.layer, self.key} - {""}


def loops_in(node: ast.FunctionDef) -> Iterator[Loop]:
    """The loops through layers among a method's own statements, where their value is set before them, whose variables
    nothing reads after them."""
    outer = outer_names(node)
    is_set = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    for statement in node.body:
        for method in ("forward", "backward"):
            loop = loop_of(statement, method)
            if loop is None or loop.value in loop.variables or loop.value not in is_set:
                continue
            if outer.isdisjoint({*loop.variables, loop.value}) and not any(
                _is_read_outside(node, name) for name in loop.variables
            ):
                if _is_known(loop.flag, is_set):
                    yield loop
                elif loop.other is not None:
                    yield loop._replace(flag=None)
        if isinstance(statement, ast.Assign):
            is_set.update(target.id for target in statement.targets if isinstance(target, ast.Name))


def outer_names(node: ast.FunctionDef) -> set[str]:
    """The variables of a function, or of one in it, that are not its own."""
    return {name for part in ast.walk(node) if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}


def _is_read_outside(node: ast.AST, name: str) -> bool:
    """Whether a variable is read anywhere but in loops that set it, and after statements that do."""
    if isinstance(node, ast.Name):
        return node.id == name
    if isinstance(node, ast.Assign) and _sets(node, name):
        return _is_read_outside(node.value, name)
    setting: list[ast.For | ast.comprehension] = (
        [node] if isinstance(node, ast.For) else getattr(node, "generators", [])
    )
    targets = [part for one in setting for part in ast.walk(one.target)]
    if any(isinstance(part, ast.Name) and part.id == name for part in targets):
        return _is_read_outside(setting[0].iter, name)
    if isinstance(getattr(node, "body", None), list):
        blocks = [block for _, block in ast.iter_fields(node) if isinstance(block, list)]
        rest = [part for _, part in ast.iter_fields(node) if isinstance(part, ast.AST)]
        return any(is_read_in(block, name) for block in blocks) or any(_is_read_outside(part, name) for part in rest)
    return any(_is_read_outside(part, name) for part in ast.iter_child_nodes(node))


def is_read_in(block: Sequence[ast.AST], name: str) -> bool:
    """Whether statements, one after the other, read it: once one of them has set it, what is read is that value."""
    for statement in block:
        if _is_read_outside(statement, name):
            return True
        if isinstance(statement, ast.Assign) and _sets(statement, name):
            return False
    return False


def _sets(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in statement.targets)


def _is_known(flag: Flag | None, names: set[str]) -> bool:
    """Whether a flag can be read before the loop: it is a constant, or one of the variables that have a value then."""
    return flag is None or isinstance(flag.value, ast.Constant) or getattr(flag.value, "id", None) in names


def loop_of(statement: ast.stmt, method: str) -> Loop | None:
    """The statement as a Loop; None for anything else."""
    key = ""
    match statement:
        case ast.For(target=ast.Name(id=layer), body=[call], orelse=[]):
            pass
        case ast.For(
            target=ast.Tuple(elts=[ast.Name(id=key), ast.Name(id=layer)]),
            iter=ast.Call(func=ast.Attribute(attr="items"), args=[], keywords=[]),
            body=[call],
            orelse=[],
        ) if key != layer:
            pass
        case _:
            return None
    other, flagged, by_class = None, None, False
    if isinstance(call, ast.Assign) and isinstance(call.value, ast.IfExp):
        call = _as_statement(call, call.value)
    if isinstance(call, ast.If) and len(call.orelse) == 1:
        by_class = _is_of_class(call.test, layer)
        if not by_class and not (key and _is_of_key(call.test, key)):
            return None
        other = call.test
        flagged = _call_of(call.body[0], layer, method) if len(call.body) == 1 else None
        call = call.orelse[0]
    plain = _call_of(call, layer, method)
    if plain is None or (plain.flag is not None and (other is not None or method != "forward")):
        return None
    flag = plain.flag if flagged is None or flagged.value != plain.value else flagged.flag
    return Loop(statement, layer, plain.value, method, key, other, flag, by_class)


def _as_statement(assigned: ast.Assign, value: ast.IfExp) -> ast.If:
    """`x = one if test else other`, as a statement."""
    one, other = (ast.Assign(assigned.targets, branch) for branch in (value.body, value.orelse))
    return ast.If(value.test, [one], [other])


class _Call(NamedTuple):
    value: str
    flag: Flag | None


def _call_of(call: ast.stmt, layer: str, method: str) -> _Call | None:
    """What `value = layer.method(value)` is, or `value = layer.method(value, flag)`; None for any other statement."""
    match call:
        case ast.Assign(
            targets=[ast.Name(id=value)],
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=called), attr=name),
                args=[ast.Name(id=given), *rest],
                keywords=named,
            ),
        ) if (called, name, given) == (layer, method, value):
            flags = [*(Flag(one) for one in rest), *(Flag(one.value, one.arg or "**") for one in named)]
            if not flags:
                return _Call(value, None)
            if len(flags) == 1 and isinstance(flags[0].value, ast.Name | ast.Constant) and flags[0].keyword != "**":
                return _Call(value, flags[0])
    return None


def _is_of_class(test: ast.expr, layer: str) -> bool:
    """Whether a test is `isinstance(layer, ...)`, of classes that are named, or made of such tests."""
    match test:
        case ast.BoolOp(values=tests):
            return all(_is_of_class(one, layer) for one in tests)
        case ast.UnaryOp(op=ast.Not(), operand=one):
            return _is_of_class(one, layer)
        case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), classes], keywords=[]) if name == layer:
            parts = ast.walk(classes)
            return all(isinstance(one, ast.Name | ast.Attribute | ast.Tuple | ast.Load) for one in parts)
    return False


def _is_of_key(test: ast.expr, key: str) -> bool:
    """Whether a test is of the key, a text, and constants alone: `"Dropout" in key or key.startswith("BatchNorm")`."""
    match test:
        case ast.Name(id=name):
            return name == key
        case ast.Constant():
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name), args=parts, keywords=[]) if key != "re":
            return name in SEARCHES and all(_is_of_key(one, key) for one in parts)
        case ast.Call(func=ast.Attribute(value=text, attr=name), args=parts, keywords=[]):
            return name in OF_TEXT and all(_is_of_key(one, key) for one in (text, *parts))
        case ast.Call(func=ast.Name(id="len"), args=[text], keywords=[]):
            return _is_of_key(text, key)
        case ast.BoolOp() | ast.Compare() | ast.UnaryOp() | ast.Tuple() | ast.List() | ast.Subscript() | ast.Slice():
            return all(_is_of_key(one, key) for one in ast.iter_child_nodes(test) if isinstance(one, ast.expr))
    return False
