"""A network's loss, or its loss and all gradients, as one call of a kernel, where its methods are of these forms:

    def predict(self, x):                     def gradient(self, x, t):
        for layer in self.layers.values():        self.loss(x, t)
            x = layer.forward(x)                  dout = self.last_layer.backward(1)
        return x                                  for layer in reversed(list(self.layers.values())):
                                                      dout = layer.backward(dout)
    def loss(self, x, t):                         ...
        y = self.predict(x)
        return self.last_layer.forward(y, t)

or with the first loop in `loss` itself, or with a weight decay in it, whatever they and the attributes are called, and the
layers are what `written_networks` knows. A call is put before the statements that go through the layers, which stay, for
whatever the kernel does not take. It leaves in every layer what its own methods would.

Of a step of 784-50-10, batch 100, by `fastbp run`, Python's part, between kernels, was 40 %.
"""

from __future__ import annotations

import ast
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..beginning import calls
from ..beginning.ahead import ahead
from ..objects.arguments import PASS, WASTED
from ..objects.kept import Kept
from ..objects.marks import mark_of
from ..objects.patched_classes import accelerated_of
from ..operations.writing import Waste
from ..reading.network_methods import Gradient, Loss, NetworkMethod, Predict, end_of, is_text
from ..trials.subjects import first_rows
from .recompiling import statements_at
from .stacking import are_decided, decide_layers
from .written_networks import WrittenNetwork, written_network
from .written_stacks import NotAStack

MOST_KINDS = 16  # of rows of classes, that are kept
NAME, VALUE = "_fastbp_network", "_fastbp_loss"


class Called(NamedTuple):
    """A call that was put into a method: what it calls, by name, and the statements that only compute, as they are now."""

    names: dict[str, Any]
    aside: list[ast.stmt]


def network_calls(node: ast.FunctionDef, found: NetworkMethod | None, owner: str, wrap: calls.Wrapper) -> Called:
    """Put a call into a method, in its syntax tree, in which loops have their calls already."""
    if found is None or isinstance(found, Predict):
        return Called({}, [])
    made = _Network(found, f"{owner}.{node.name}: network", wrap)
    me, x, t = (one.arg for one in node.args.args)
    start = 1 if is_text(node.body[0]) else 0
    end, aside = len(node.body) - found.after, list[ast.stmt]()
    calling, choice = statements_at(f"{VALUE} = {NAME}({me}, {x}, {t})\nif {VALUE} is None: pass", node.body[start])
    assert isinstance(choice, ast.If)
    if isinstance(found, Loss):
        of_end = node.body[len(node.body) - end_of(node.body) :]
        aside = node.body[end : len(node.body) - len(of_end)]
        call = next(one for part in of_end for one in ast.walk(part) if isinstance(one, ast.Call))
        value = ast.parse(f"{VALUE} if {VALUE} is not None else None", mode="eval").body
        assert isinstance(value, ast.IfExp)
        value.orelse = call
        of_end[0] = ast.fix_missing_locations(_Instead(call, ast.copy_location(value, call)).visit(of_end[0]))
        node.body[-len(of_end) :] = of_end
    choice.body = node.body[start:end] or choice.body
    node.body[start:end] = [calling, choice]
    return Called({NAME: made.call}, aside)


class _Instead(ast.NodeTransformer):
    """One call becomes another expression."""

    def __init__(self, old: ast.Call, new: ast.expr):
        self.old, self.new = old, new

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return self.new if node is self.old else node


class _Objects(NamedTuple):
    """The layers, the last one, and what the loss computes beside, see Loss."""

    layers: list[Any]
    last: Any
    aside: Callable[..., Any] | None


class _Network:
    """What is called with a network, x and t, and gives the loss, or None where the method's own statements are to run."""

    is_network = True  # for an audit, see `rounding`

    def __init__(self, found: Loss | Gradient, name: str, wrap: calls.Wrapper):
        self._found, self._is_step = found, isinstance(found, Gradient)
        ahead.has_network |= self._is_step
        self._written: Kept[Any, WrittenNetwork | None] = Kept(MOST_KINDS)
        self._looked_at: Kept[Any, None] = Kept(MOST_KINDS)
        self._waste = Waste()
        self.call = self._call
        if wrap is not calls.plain:
            self._wrapped = wrap(name, self, self.own if hasattr(wrap, "watches") else _left)
            self.call = self._wrapped_call

    def _call(self, network: Any, x: Any, t: Any) -> Any:
        if not calls.loop_begins() or (self._waste.calls and self._waste.is_likely()):
            return None
        if (objects := self._objects(network)) is None:
            return None
        self._decide(objects, x, t)
        result = self._result(objects.layers, objects.last, x, t)
        return None if result is PASS else self._with_aside(objects, network, x, t, result)

    def _wrapped_call(self, network: Any, x: Any, t: Any) -> Any:
        """`_call` where calls are counted or compared: those that are certainly no network's are left out."""
        if (objects := self._objects(network)) is None:
            return None
        self._decide(objects, x, t)
        if self._written_for(objects.layers, objects.last) is None:
            return None
        result = self._wrapped([*objects.layers, objects.last], x, t)
        return None if result is PASS or result is None else self._with_aside(objects, network, x, t, result)

    def _decide(self, objects: _Objects, x: Any, t: Any) -> None:
        """Find out what the methods of the layers are, where that is not known, see `stacking`."""
        key = (type(objects.last), *map(type, objects.layers))
        if key in self._looked_at or any(type(one) is not np.ndarray or not one.ndim for one in (x, t)):
            return
        self._looked_at[key] = None
        classes = [one for one in map(accelerated_of, (*key[1:], key[0])) if one is not None]
        if len(classes) == len(key) and len(x) == len(t) and not are_decided(classes):
            others = [*[()] * len(objects.layers), (first_rows(t),)]
            decide_layers([*objects.layers, objects.last], classes, x, others)

    def _with_aside(self, objects: _Objects, network: Any, x: Any, t: Any, loss: Any) -> Any:
        """The loss, once what `gradient` has a method compute beside it is computed, too: it may warn, or fail."""
        if self._is_step and objects.aside is not None:
            objects.aside(network, x, t)
        return loss

    def __call__(self, objects: list[Any], x: Any, t: Any) -> Any:
        """By the kernel; objects: the layers, and the last one."""
        return self._result(objects[:-1], objects[-1], x, t)

    def _result(self, layers: list[Any], last: Any, x: Any, t: Any) -> Any:
        written = self._written_for(layers, last)
        result = PASS if written is None else written.function(layers, last, x, t)
        is_left = result is PASS or result is WASTED
        self._waste.calls = self._waste.calls + 1 if is_left else 0
        return PASS if is_left else result

    def own(self, objects: list[Any], x: Any, t: Any) -> Any:
        """By the layers' own methods, for an audit."""
        for layer in objects[:-1]:
            x = layer.forward(x)
        loss = objects[-1].forward(x, t)
        if isinstance(self._found, Gradient):
            dout = objects[-1].backward(*[1] * self._found.given)
            for layer in reversed(objects[:-1]):
                dout = layer.backward(dout)
        return loss

    def _objects(self, network: Any) -> _Objects | None:
        """The layers, and the last one; None where a method that is not called any more is another than it was."""
        made, found = type(network), self._found
        own: dict[str, Any] = getattr(network, "__dict__", {})
        if isinstance(found, Gradient):
            loss = mark_of(getattr(made, found.loss, None)).network
            if not isinstance(loss, Loss) or loss.last != found.last or found.loss in own:
                return None
        else:
            loss = found
        through = loss.through
        if loss.predict:
            through = mark_of(getattr(made, loss.predict, None)).network
        if not isinstance(through, Predict) or loss.predict in own:
            return None
        if isinstance(found, Gradient) and through.layers != found.layers:
            return None
        kept: Any = own.get(through.layers)
        last = own.get(loss.last)
        if through.are_values:
            kept = list(kept.values()) if type(kept) in (dict, OrderedDict) else None
        return _Objects(kept, last, loss.aside) if type(kept) is list and last is not None else None

    def _written_for(self, layers: list[Any], last: Any) -> WrittenNetwork | None:
        """The function for objects of these classes; None where there is none, or where it is not known yet."""
        key = (type(last), *map(type, layers))
        if key not in self._written:
            accelerated = [accelerated_of(one) for one in key]
            if not all(accelerated) or not are_decided(accelerated):
                return None
            (of_last, *of_layers) = zip(key, accelerated, strict=True)
            given = self._found.given if isinstance(self._found, Gradient) else 0
            try:
                self._written[key] = written_network(of_layers, of_last, self._is_step, given)  # type: ignore[arg-type]
            except NotAStack:
                self._written[key] = None
        written = self._written[key]
        if written is not None:
            for made, name, functions in written.methods:
                if made.__dict__.get(name) not in functions:
                    return None  # somebody has put another method there
        return written


def _left(objects: list[Any], x: Any, t: Any) -> Any:
    """The method's own statements are to run."""
    return None
