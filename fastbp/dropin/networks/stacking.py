"""A network's loop through its layers as one call of a kernel, where all are affine with ReLU or sigmoid between them,
batch normalisation before these, and dropout after ReLU.

    for layer in self.layers.values():              for layer in layers:
        x = layer.forward(x)                            dout = layer.backward(dout)

    for key, layer in self.layers.items():          for key, layer in self.layers.items():
        x = layer.forward(x)                            if "Dropout" in key: x = layer.forward(x, train_flg)
                                                        else: x = layer.forward(x)

or with a test of the layer's class, as isinstance(layer, Dropout).

A method with such a loop is compiled anew, with a call before it; the loop stays, for whatever the kernel does not take.
The call leaves in every layer what its own methods would: it is made of their forms (see `methods`), written out for the
classes that the layers have. A step of a small network spends half of its time between kernels otherwise.
"""

from __future__ import annotations

import ast
import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ..beginning import calls
from ..objects.arguments import PASS, WASTED, Method
from ..objects.kept import Kept
from ..objects.patched_classes import Accelerated, accelerated_of
from ..operations.methods import Form
from ..operations.stacks import MOST_LAYERS
from ..operations.writing import Waste
from ..reading.loops import Loop, loops_in
from ..reading.recognition import function_node
from .recompiling import statements_at
from .written_stacks import NotAStack, Written, written_stack

MOST_KINDS = 16  # of rows of classes that a loop keeps what it knows of
MOST_IN_BLOCK = 4  # layers: an affine one, its normalisation, its activation, dropout
# Loops whose results are for NumPy to make, as a network has diverged, that the layers' own methods take: kernels for single
# layers are compiled for more of them. Of the networks of the book's batch_norm_test.py some overflow after a while: a first
# run compiles 5 s less so.
MOST_DIVERGED = 1000
NAME, VALUE, LAYERS = "_fastbp_stack", "_fastbp_value", "_fastbp_layers"
_DICT, _ORDERED = dict[str, Any](), OrderedDict[str, Any]()
VIEWS = frozenset([tuple, type(_DICT.values()), type(_ORDERED.values())])
ITEMS = frozenset([type(_DICT.items()), type(_ORDERED.items())])
ITERATORS = frozenset(
    type(one) for one in (iter([]), reversed([]), reversed(()), reversed(_DICT.values()), reversed(_ORDERED.values()))
)


def decide_layers(layers: Any, classes: list[Accelerated], value: Any, others: list[tuple[Any, ...]]) -> None:
    """Find out what the methods of layers are, which go one after the other, with a few rows of what the first is given.

    others: what the forward of each is given beside.
    """
    from ..trials.prospects import NotMade, first_rows, result_of_copy

    value = first_rows(value)
    for layer, one, given in zip(layers, classes, others, strict=True):
        arguments = (value, *given)
        try:
            value = result_of_copy(layer, arguments, one.own["forward"])
        except NotMade:
            return
        one.decide(layer, arguments)


def are_decided(classes: Iterable[Accelerated | None]) -> bool:
    """Whether it is known, of those that are patched, what their methods are: by their text, if nothing has tried them."""
    return all(one is None or one.is_decided or one.is_decided_by_text() for one in classes)


def goes_through_layers(method: Any) -> bool:
    """Whether a method has such a loop: its class is a network, even if the method is called forward or backward."""
    if not isinstance(method, FunctionType) or {"forward", "backward"}.isdisjoint(method.__code__.co_names):
        return False
    node = function_node(method)
    return node is not None and any(True for _ in loops_in(node))


def stack_loops(node: ast.FunctionDef, owner: str, wrap: calls.Wrapper) -> dict[str, Any]:
    """Put calls before the loops of a method, in its syntax tree; what they call, by name."""
    made: dict[str, Any] = {}
    for loop in list(loops_in(node)):
        name = f"{NAME}{len(made)}"
        stacked = _Stacked(loop.method, "" if loop.flag is None else loop.flag.keyword)
        made[name] = _wrapped(stacked, _listing(loop), f"{owner}.{node.name}: layers", wrap)
        place = node.body.index(loop.statement)
        node.body[place : place + 1] = _call(loop, name)
    return made


def _call(loop: Loop, name: str) -> list[ast.stmt]:
    """What the loop goes through; a call; and the loop, where the call gives nothing."""
    flag = "" if loop.flag is None else f", {ast.unparse(loop.flag.value)}"
    if loop.other is not None:
        flag = f"{flag or ', None'}, lambda {loop.layer if loop.by_class else loop.key}: {ast.unparse(loop.other)}"
    source = f"""
{LAYERS} = {ast.unparse(loop.statement.iter)}
{VALUE} = {name}({LAYERS}, {loop.value}{flag})
if {VALUE} is None:
    pass
else:
    {loop.value} = {VALUE}
"""
    made = statements_at(source, loop.statement)
    assert isinstance(made[-1], ast.If)
    loop.statement.iter = ast.copy_location(ast.Name(LAYERS, ast.Load()), loop.statement.iter)
    made[-1].body = [loop.statement]
    return made


class _Listed(NamedTuple):
    """The layers that a loop goes through; which of them are called with its flag, empty if none is."""

    layers: list[Any]
    flagged: tuple[bool, ...]


Test = Callable[[Any], Any]
Listing = Callable[[Any, Test | None], _Listed | None]


def _wrapped(stacked: _Stacked, listed: Listing, name: str, wrap: calls.Wrapper) -> Method:
    """What gives the last layer's result; None where the loop is to run. Loops that are no stack are not counted.

    listed: gives the layers of what the loop goes through, by a test of these if the loop has one, or None.
    """
    if wrap is not calls.plain:
        counted = wrap(name, stacked, stacked.loop if hasattr(wrap, "watches") else stacked.left)

        def call_counted(iterable: Any, value: Any, flag: Any = None, test: Test | None = None) -> Any:
            found = listed(iterable, test)
            if found is None:
                return None
            stacked.decide(*found, flag, value)
            if not stacked.takes(*found, flag):
                return None
            return _used_up(iterable, counted(found.layers, value, found.flagged, flag))

        return call_counted

    def call(iterable: Any, value: Any, flag: Any = None, test: Test | None = None) -> Any:
        has_begun = calls.loop_begins() if stacked.method == "forward" else calls.has_begun()
        if not has_begun and not calls.is_huge(value):
            return None
        found = listed(iterable, test)
        if found is None or not (has_begun or stacked.begins_with(found.layers, value)):
            return None
        stacked.decide(*found, flag, value)
        result = stacked(found.layers, value, found.flagged, flag)
        if result is PASS:
            result = stacked.left(found.layers, value, found.flagged, flag)
        return _used_up(iterable, result)

    return call


def _listing(loop: Loop) -> Listing:
    """The layers of a list, or of what goes through one or a dict, as they are now; None of anything else, which may do
    more when it is asked for the next, and where the test cannot be made, or the loop calls some layer in another way."""
    has_flag = loop.flag is not None

    def listed(iterable: Any, test: Test | None = None) -> _Listed | None:
        kind, keys = type(iterable), list[Any]()
        if loop.key:
            layers = [layer for _, layer in iterable] if kind in ITEMS else None
            keys = [key for key, _ in iterable] if kind in ITEMS and not loop.by_class else keys
        elif kind is list:
            layers = iterable
        elif kind in VIEWS:
            layers = list(iterable)
        elif kind in ITERATORS:
            layers = list(copy.copy(iterable))
        else:
            layers = None
        if layers is None:
            return None
        if test is None:
            return _Listed(layers, (True,) * len(layers) if has_flag else ())
        if any(type(one) not in (str, int) for one in keys):
            return None
        return _tested(layers, test, layers if loop.by_class else keys, has_flag)

    return listed


def _tested(layers: list[Any], test: Test, given: Iterable[Any], has_flag: bool) -> _Listed | None:
    """The layers, with the test of what is `given` for each; None where it raises, or where it is true of one that the loop
    calls in another way than with a flag."""
    try:
        flagged = tuple([bool(test(one)) for one in given])
    except Exception:  # the loop will raise it where it stands
        return None
    if not any(flagged):
        return _Listed(layers, ())
    return _Listed(layers, flagged) if has_flag else None


def _used_up(iterable: Any, result: Any) -> Any:
    """The result; where there is one, an iterator is then at its end, as after the loop."""
    if result is not None and type(iterable) in ITERATORS:
        deque(iterable, maxlen=0)
    return result


class _Stacked:
    """A loop that calls a method of all layers: given these and a value, it gives the last result, or PASS.

    flagged: which of the layers are called with `flag`, by the name `keyword` if there is one.
    """

    def __init__(self, method: str, keyword: str = ""):
        self.method, self.keyword = method, keyword
        self._written: Kept[Any, Written | None] = Kept(MOST_KINDS)
        self._looked_at: Kept[Any, None] = Kept(MOST_KINDS)
        self._waste = Waste()
        self._has_diverged, self._diverged = False, 0  # the last call, and how many loops were left for that

    def __call__(self, layers: Any, value: Any, flagged: tuple[bool, ...] = (), flag: Any = None) -> Any:
        if self._waste.calls and self._waste.is_likely():
            return PASS
        written = self._written_for(layers, flagged, flag)
        if written is None:
            return PASS
        result = written.function(layers, value)
        self._has_diverged = result is WASTED
        is_left = self._has_diverged or result is PASS
        self._waste.calls = self._waste.calls + 1 if is_left else 0
        return PASS if is_left else result

    def left(self, layers: Any, value: Any, flagged: Any = (), flag: Any = None) -> Any:
        """What the layers' own methods give, for a loop that was passed on as it has diverged; else None, and it runs."""
        if not self._has_diverged or self._diverged >= MOST_DIVERGED or not self.takes(layers, flagged, flag):
            return None
        own = [one.own[self.method] for one in map(accelerated_of, map(type, layers)) if one is not None]
        if len(own) < len(layers) or any(self.method in vars(layer) for layer in layers):
            return None
        self._diverged += 1
        return self._through([one.__get__(layer) for one, layer in zip(own, layers, strict=True)], value, flagged, flag)

    def begins_with(self, layers: Any, value: Any) -> bool:
        """Whether the kernels begin with this call, see `calls`."""
        if self.method != "forward" or not layers:
            return False
        first = accelerated_of(type(layers[0]))
        return first is not None and first.is_ours(layers[0], value) and calls.begins_with(layers[0], value)

    def decide(self, layers: Any, flagged: tuple[bool, ...], flag: Any, value: Any) -> None:
        """Find out what the methods of the layers are, where that is not known: with a few rows, from layer to layer.

        The first call would have been the layers' own otherwise, of 60,000 images in many a script, and kernels compiled for
        each layer that the stack then has no use for: a first run of 784-50-10 compiled for 8.0 s, and does for 7.0.
        """
        classes = tuple(map(type, layers))
        if self.method != "forward" or classes in self._looked_at or type(value) is not np.ndarray or not value.ndim:
            return
        self._looked_at[classes] = None
        accelerated = [one for one in map(accelerated_of, classes) if one is not None]
        if len(accelerated) < len(classes) or are_decided(accelerated):
            return
        are_flagged = flagged or (False,) * len(classes)
        decide_layers(layers, accelerated, value, [(flag,) if is_flagged else () for is_flagged in are_flagged])

    def loop(self, layers: Any, value: Any, flagged: Any = (), flag: Any = None) -> Any:
        """The user's own way, for an audit."""
        return self._through([getattr(layer, self.method) for layer in layers], value, flagged, flag)

    def _through(self, methods: list[Method], value: Any, flagged: Any, flag: Any) -> Any:
        """What the last of the layers' methods gives."""
        for place, method in enumerate(methods):
            if not (flagged and flagged[place]):
                value = method(value)
            else:
                value = method(value, **{self.keyword: flag}) if self.keyword else method(value, flag)
        return value

    def takes(self, layers: Any, flagged: tuple[bool, ...], flag: Any) -> bool:
        """Whether it is for such layers; a method of theirs may still be left to run by itself."""
        return self._written_for(layers, flagged, flag) is not None

    def forms_of_layers(
        self, layers: Any, value: Any, flagged: tuple[bool, ...] = (), flag: Any = None
    ) -> tuple[Form, ...]:
        """What the method of each layer has been found to be."""
        written = self._written_for(layers, flagged, flag)
        return () if written is None else written.forms

    def _written_for(self, layers: Any, flagged: tuple[bool, ...], flag: Any) -> Written | None:
        """The function for layers of these classes; None where they are not a stack, or where it is not known yet."""
        classes = tuple(map(type, layers))
        if flagged and type(flag) is not bool:
            return None
        key = (classes, flagged, flag) if flagged else classes
        if key not in self._written:
            accelerated = [accelerated_of(one) for one in classes]
            if not are_decided(accelerated):
                return None
            flags = [flag if is_flagged else None for is_flagged in flagged] or [None] * len(classes)
            self._written[key] = self._write(classes, accelerated, flags)
        written = self._written[key]
        if written is not None:
            for one, own in written.methods:
                if one.__dict__.get(self.method) not in own:
                    return None  # somebody has put another method there
        return written

    def _write(
        self, classes: tuple[type, ...], accelerated: list[Accelerated | None], flags: list[bool | None]
    ) -> Written | None:
        known = [(made, one) for made, one in zip(classes, accelerated, strict=True) if one is not None]
        if len(known) < len(classes) or not 2 <= len(classes) <= MOST_IN_BLOCK * MOST_LAYERS:
            return None
        try:
            return written_stack(known, self.method, flags, self.keyword)
        except NotAStack:
            return None
