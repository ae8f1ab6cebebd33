"""A network's loop through its layers as one call of a kernel, where all are affine with ReLU or sigmoid between them.

    for layer in self.layers.values():              for layer in layers:
        x = layer.forward(x)                            dout = layer.backward(dout)

    for key, layer in self.layers.items():          for key, layer in self.layers.items():
        x = layer.forward(x)                            if "Dropout" in key: x = layer.forward(x, train_flg)
                                                        else: x = layer.forward(x)

A method with such a loop is compiled anew, with a call before it; the loop stays, for whatever the kernel does not take.
The call leaves in every layer what its own methods would: it is made of their forms (see `methods`), written out for the
classes that the layers have. A step of a small network spends half of its time between kernels otherwise.
"""

from __future__ import annotations

import ast
import copy
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from . import calls
from .arguments import PASS, Method
from .loops import Loop, loops_in
from .methods import Form
from .stacks import MOST_LAYERS
from .writing import Waste
from .written_stacks import Accelerated, NotAStack, Written, written_stack

MOST_KINDS = 16  # of rows of classes that a loop keeps what it knows of
NAME, VALUE, LAYERS = "_fastbp_stack", "_fastbp_value", "_fastbp_layers"
_DICT, _ORDERED = dict[str, Any](), OrderedDict[str, Any]()
VIEWS = frozenset([tuple, type(_DICT.values()), type(_ORDERED.values())])
ITEMS = frozenset([type(_DICT.items()), type(_ORDERED.items())])
ITERATORS = frozenset(
    type(one) for one in (iter([]), reversed([]), reversed(()), reversed(_DICT.values()), reversed(_ORDERED.values()))
)

_accelerated: weakref.WeakKeyDictionary[type, weakref.ref[Accelerated]] = weakref.WeakKeyDictionary()


def note(made: type, accelerated: Accelerated) -> None:
    """That a class's methods are patched. They keep `accelerated`, and that keeps the class: here nothing may."""
    _accelerated[made] = weakref.ref(accelerated)


def _accelerated_of(made: type) -> Accelerated | None:
    reference = _accelerated.get(made)
    return None if reference is None else reference()


def stack_loops(node: ast.FunctionDef, owner: str, wrap: calls.Wrapper) -> dict[str, Any]:
    """Put calls before the loops of a method, in its syntax tree; what they call, by name."""
    made: dict[str, Any] = {}
    for loop in list(loops_in(node)):
        name = f"{NAME}{len(made)}"
        listed = _listed_items(loop) if loop.key else _listed
        made[name] = _wrapped(_Stacked(loop.method), listed, f"{owner}.{node.name}: layers", wrap)
        place = node.body.index(loop.statement)
        node.body[place : place + 1] = _call(loop, name)
    return made


def _call(loop: Loop, name: str) -> list[ast.stmt]:
    """What the loop goes through; a call; and the loop, where the call gives nothing."""
    source = f"""
{LAYERS} = {ast.unparse(loop.statement.iter)}
{VALUE} = {name}({LAYERS}, {loop.value})
if {VALUE} is None:
    pass
else:
    {loop.value} = {VALUE}
"""
    made = ast.parse(source).body
    for statement in made:
        for part in ast.walk(statement):
            if isinstance(part, ast.expr | ast.stmt):
                ast.copy_location(part, loop.statement)
    assert isinstance(made[-1], ast.If)
    loop.statement.iter = ast.copy_location(ast.Name(LAYERS, ast.Load()), loop.statement.iter)
    made[-1].body = [loop.statement]
    return made


def _wrapped(stacked: _Stacked, listed: Callable[[Any], Any], name: str, wrap: calls.Wrapper) -> Method:
    """What gives the last layer's result; None where the loop is to run. Loops that are no stack are not counted.

    listed: gives the layers of what the loop goes through, or None.
    """
    if wrap is not calls.plain:
        counted = wrap(name, stacked, stacked.loop if hasattr(wrap, "watches") else _left)

        def call_counted(iterable: Any, value: Any) -> Any:
            layers = listed(iterable)
            result = counted(layers, value) if layers is not None and stacked.takes(layers) else None
            return _used_up(iterable, result)

        return call_counted

    def call(iterable: Any, value: Any) -> Any:
        if not calls.has_begun() and not calls.is_huge(value):
            return None
        layers = listed(iterable)
        if layers is None or not (calls.has_begun() or stacked.begins_with(layers, value)):
            return None
        result = stacked(layers, value)
        return None if result is PASS else _used_up(iterable, result)

    return call


def _left(layers: Any, value: Any) -> Any:
    return None


def _listed(iterable: Any) -> Any:
    """The layers of a list, or of what goes through one or a dict, as they are now; None of anything else, which may do
    more when it is asked for the next."""
    kind = type(iterable)
    if kind is list:
        return iterable
    if kind in VIEWS:
        return list(iterable)
    return list(copy.copy(iterable)) if kind in ITERATORS else None


def _listed_items(loop: Loop) -> Callable[[Any], Any]:
    """The same of a dict's items; None where some layer is one of the others, which the loop calls otherwise."""
    is_other = None if loop.other is None else _function_of(loop.key, loop.other)

    def listed(iterable: Any) -> Any:
        if type(iterable) not in ITEMS:
            return None
        try:
            if is_other is not None and any(is_other(key) for key, _ in iterable):
                return None
        except Exception:  # the loop will raise it where it stands
            return None
        return [layer for _, layer in iterable]

    return listed


def _function_of(name: str, expression: ast.expr) -> Callable[[Any], Any]:
    arguments = ast.arguments([], [ast.arg(name)], None, [], [], None, [])
    function = ast.Expression(ast.Lambda(arguments, copy.deepcopy(expression)))
    made: Callable[[Any], Any] = eval(compile(ast.fix_missing_locations(function), "<test of a key>", "eval"), {})
    return made


def _used_up(iterable: Any, result: Any) -> Any:
    """The result; where there is one, an iterator is then at its end, as after the loop."""
    if result is not None and type(iterable) in ITERATORS:
        deque(iterable, maxlen=0)
    return result


class _Stacked:
    """A loop that calls a method of all layers: given these and a value, it gives the last result, or PASS."""

    def __init__(self, method: str):
        self.method = method
        self._written: dict[tuple[type, ...], Written | None] = {}
        self._waste = Waste()

    def __call__(self, layers: Any, value: Any) -> Any:
        if self._waste.calls and self._waste.is_likely():
            return PASS
        written = self._written_for(layers)
        if written is None:
            return PASS
        result = written.function(layers, value)
        self._waste.calls = self._waste.calls + 1 if result is PASS else 0
        return result

    def begins_with(self, layers: Any, value: Any) -> bool:
        """Whether the kernels begin with this call, see `calls`."""
        if self.method != "forward" or not layers:
            return False
        first = _accelerated_of(type(layers[0]))
        return first is not None and first.is_ours(layers[0], value) and calls.begins_with(layers[0], value)

    def loop(self, layers: Any, value: Any) -> Any:
        """The user's own way, for an audit."""
        for layer in layers:
            value = getattr(layer, self.method)(value)
        return value

    def takes(self, layers: Any) -> bool:
        """Whether it is for such layers; a method of theirs may still be left to run by itself."""
        return self._written_for(layers) is not None

    @property
    def forms(self) -> tuple[Form, ...]:
        return tuple(form for written in self._written.values() if written is not None for form in written.forms)

    def _written_for(self, layers: Any) -> Written | None:
        """The function for layers of these classes; None where they are not a stack, or where it is not known yet."""
        classes = tuple(map(type, layers))
        if classes not in self._written:
            accelerated = [_accelerated_of(one) for one in classes]
            if not all(one is None or one.is_decided or one.is_decided_by_text() for one in accelerated):
                return None
            if len(self._written) >= MOST_KINDS:  # a notebook may define its layers again and again
                self._written.clear()
            self._written[classes] = self._write(classes, accelerated)
        written = self._written[classes]
        if written is not None:
            for one, own in written.methods:
                if one.__dict__.get(self.method) not in own:
                    return None  # somebody has put another method there
        return written

    def _write(self, classes: tuple[type, ...], accelerated: list[Accelerated | None]) -> Written | None:
        known = [(made, one) for made, one in zip(classes, accelerated, strict=True) if one is not None]
        if len(known) < len(classes) or not 2 <= len(classes) <= 2 * MOST_LAYERS:
            return None
        try:
            return written_stack(known, self.method)
        except NotAStack:
            return None
