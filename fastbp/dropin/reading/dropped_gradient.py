"""The gradient that nobody sees: of a network's input, which its method computes from the last layer back, and drops.

    for layer in reversed(self.layers):
        dout = layer.backward(dout)

and `dout` is never read again. It is as large as the images, so the first layer's backward leaves it out. Whether a method
does that is read from its syntax; whatever is written in another way is computed.
"""

from __future__ import annotations

import ast
import threading
from types import FunctionType
from typing import Any

from ..objects.arguments import Method
from ..objects.marks import in_place_of
from ..objects.patched_classes import accelerated_of
from .loops import loop_of, outer_names
from .recognition import function_node


class _Dropped(threading.local):
    """The layer of which nobody will see the gradient of its input, in this thread and now."""

    layer: Any = None


dropped = _Dropped()


def dropping_first_gradient(method: Method, attribute: str = "layers") -> Method:
    """A network's method, in which the first layer's backward leaves out the gradient of its input."""

    @in_place_of(method)
    def gradient(self: Any, *arguments: Any, **named: Any) -> Any:
        before, dropped.layer = dropped.layer, _first_layer(getattr(self, attribute, None))
        try:
            return method(self, *arguments, **named)
        finally:
            dropped.layer = before

    return gradient


def _first_layer(layers: Any) -> Any:
    """The first of a network's layers, if it is there once: of a layer used twice, the first gradient is used. None where
    another method than the accelerated one is called, as a subclass's own may use the gradient, too."""
    layers = list(layers.values()) if isinstance(layers, dict) else layers
    if not isinstance(layers, list) or not layers or list(map(id, layers)).count(id(layers[0])) != 1:
        return None
    first = layers[0]
    owner = next((one for one in type(first).__mro__ if "backward" in vars(one)), object)
    accelerated = accelerated_of(owner)
    if accelerated is None or "backward" in getattr(first, "__dict__", ()):
        return None
    return first if vars(owner)["backward"] in accelerated.methods_of("backward") else None


def layers_of_dropped(method: FunctionType) -> str | None:
    """The attribute whose layers a method goes through backwards, dropping what the first one gives; None if it does not."""
    node = function_node(method) if "backward" in method.__code__.co_names else None
    if node is None or not node.args.args:
        return None
    loops = [place for place, statement in enumerate(node.body) if backward_loop(statement) is not None]
    if len(loops) != 1:
        return None
    before, loop, after = node.body[: loops[0]], node.body[loops[0]], node.body[loops[0] + 1 :]
    assert isinstance(loop, ast.For)
    gradient = backward_loop(loop)
    if gradient in outer_names(node):
        return None
    inner = [part for part in ast.walk(node) if isinstance(part, ast.Lambda | ast.FunctionDef) and part is not node]
    if any(_reads(part, gradient) or _calls_backward(part) for part in (*after, *inner)):
        return None
    return reversed_attribute(loop.iter, before, node.args.args[0].arg)


def backward_loop(statement: ast.stmt) -> str | None:
    """The variable of `for layer in ...: dout = layer.backward(dout)`; None for anything else."""
    loop = loop_of(statement, "backward")
    return None if loop is None else loop.value


def _reads(node: ast.AST, name: str | None) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _calls_backward(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == "backward" for part in ast.walk(node))


def reversed_attribute(node: ast.expr, before: list[ast.stmt], me: str) -> str | None:
    """The attribute that an expression goes through from the last to the first."""
    if (inner := _reversed(node)) is not None:
        return through_attribute(inner, me) or through_attribute(_only_value(inner, before), me)
    value = _only_value(node, before)
    if value is None or not isinstance(node, ast.Name):
        return None
    turned = [
        statement
        for statement in before
        if isinstance(statement, ast.Expr) and ast.unparse(statement.value) == f"{node.id}.reverse()"
    ]
    others = [statement for statement in before if _reads(statement, node.id)]
    if len(turned) == 1 and len(others) == 2:  # where it gets its value, and where it is reversed
        return through_attribute(value, me)
    if not turned and len(others) == 1 and (inner := _reversed(value)) is not None:
        return through_attribute(inner, me)
    return None


def _only_value(node: ast.expr | None, before: list[ast.stmt]) -> ast.expr | None:
    """What a variable was assigned, if that was once; None for anything else."""
    if not isinstance(node, ast.Name):
        return None
    values = [one for one in before if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == node.id]
    return values[0].value if len(values) == 1 and len(values[0].targets) == 1 else None


def _reversed(node: ast.expr) -> ast.expr | None:
    """What reversed(...), list(reversed(...)) or ...[::-1] is of."""
    match node:
        case ast.Call(func=ast.Name(id="list"), args=[ast.Call(func=ast.Name(id="reversed"), args=[inner])]):
            return inner
        case ast.Call(func=ast.Name(id="reversed"), args=[inner]):
            return inner
        case ast.Subscript(value=inner, slice=ast.Slice(lower=None, upper=None, step=step)) if (
            step is not None and ast.unparse(step) == "-1"
        ):
            return inner
    return None


def through_attribute(node: ast.expr | None, me: str) -> str | None:
    """The attribute of self that this goes through: itself, a copy of it, or its values."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner == me:
            return name
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner]):
            return through_attribute(inner, me)
        case ast.Call(func=ast.Attribute(value=inner, attr="values" | "copy"), args=[]):
            return through_attribute(inner, me)
    return None
