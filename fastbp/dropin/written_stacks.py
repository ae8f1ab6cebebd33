"""Functions that do for a stack of layers what their methods would, written from the forms of these, see `methods`.

    forward(layers, x)        read all parameters; one call of `Stack.forward`; set all attributes
    backward(layers, dout)    likewise

As the methods that `written` makes, they return PASS where a condition is not met, and nothing has been set then.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from .arguments import PASS
from .dropped_gradient import dropped
from .methods import NAMES, Form, names_in
from .stacks import MOST_LAYERS, Stack
from .writing import COMPUTES, numbered, of_tried_object, required_beside

AFFINE, RELU, SIGMOID = "identity", "relu", "sigmoid"
KINDS = {
    "affine_forward": AFFINE, "relu_forward": RELU, "relu_forward_of_tame": RELU, "sigmoid_forward": SIGMOID,
    "affine_backward": AFFINE, "relu_backward": RELU, "relu_backward_in_place": RELU, "relu_backward_of_tame": RELU,
    "sigmoid_backward": SIGMOID,
}  # fmt: skip
PASS_ON = "return PASS"


class NotAStack(Exception):
    """The layers are others, in another order, or do something beside."""


class Accelerated(Protocol):
    """A class whose methods are patched, see `acceleration`."""

    own: Any

    @property
    def is_decided(self) -> bool:
        """Whether it is known what its methods are."""

    def is_decided_by_text(self) -> bool:
        """The same, where the class has the book's text and nothing needs to be tried: it is decided now."""

    def is_ours(self, layer: Any, *arguments: Any) -> bool:
        """Whether kernels are known to take the calls of forward, or are likely to: here is one that is to be made."""

    def forms_of(self, name: str) -> tuple[Form, ...]:
        """What the method of that name has been found to be; none where it is the class's own."""

    def methods_of(self, name: str) -> tuple[Any, ...]:
        """The functions that may stand in the class under that name."""


class Written(NamedTuple):
    """A function for layers of some classes; the functions that may be their methods; the forms that it was made of."""

    function: Callable[[list[Any], Any], Any]
    methods: tuple[tuple[type, tuple[Any, ...]], ...]
    forms: tuple[Form, ...]


class _Layer(NamedTuple):
    """A layer at its place in the loop; affine: how many affine layers were before it."""

    place: int
    affine: int
    kind: str
    form: Form
    method: Any


def written_stack(classes: list[tuple[type, Accelerated]], name: str) -> Written:
    """The function for the method `name` of layers of these classes, in the order of the loop. Raises NotAStack."""
    layers = list(_layers(classes, name))
    write = _forward if name == "forward" else _backward
    names: dict[str, Any] = {"PASS": PASS, "dropped": dropped, **NAMES}
    exec("\n".join([f"def {name}(layers, value):", *(f"    {line}" for line in write(layers, names))]), names)
    methods = {made: accelerated.methods_of(name) for made, accelerated in classes}
    return Written(names[name], tuple(methods.items()), tuple(layer.form for layer in layers))


def _layers(classes: list[tuple[type, Accelerated]], name: str) -> Iterator[_Layer]:
    affine, before = 0, RELU
    for place, (_, accelerated) in enumerate(classes):
        forms, method = accelerated.forms_of(name), accelerated.own[name]
        kind = KINDS.get(forms[0].operation.name, "") if len(forms) == 1 and forms[0].train is None else ""
        if not kind or (kind != AFFINE and before != AFFINE) or any(map(COMPUTES.search, forms[0].reads)):
            raise NotAStack
        if required_beside(method) or not _is_plain(forms[0], name):
            raise NotAStack
        yield _Layer(place, affine, kind, forms[0], method)
        affine += kind == AFFINE
        before = kind
    if affine > MOST_LAYERS or (name == "backward" and before != AFFINE):
        raise NotAStack


def _is_plain(form: Form, name: str) -> bool:
    """Whether the method gives its result alone, and sets nothing that has another value in a stack, which does not make
    the gradients between layers one by one."""
    values = {word for _, value in form.sets for word in names_in(value)}
    if name == "forward":
        return form.returns == "out" and form.reads[0] == "x"
    return form.returns == "dx" and form.reads[0] == "dout" and values.isdisjoint({"dx", "dout"})


def _forward(layers: list[_Layer], names: dict[str, Any]) -> Iterator[str]:
    affine = [layer for layer in layers if layer.kind == AFFINE]
    activations = [AFFINE] * len(affine)
    for layer in layers:
        if layer.kind != AFFINE:
            activations[layer.affine - 1] = layer.kind
    names["stack"] = Stack(tuple(activations))
    yield from _beginning(layers, names, "forward", "x")
    yield f"results = stack.forward(x_0, {_each('W', affine)}, {_each('b', affine)})"
    yield f"if results is PASS: {PASS_ON}"
    yield "rows_0, zs, outs, masks = results"
    for layer in layers:
        lines, number = [], layer.affine if layer.kind == AFFINE else layer.affine - 1
        if layer.place:
            yield f"x_{layer.place} = out_{layer.place - 1}"
        if layer.place and layer.kind == AFFINE:
            lines.append("rows = x.reshape(len(x), -1)")
        lines.append(f"out = {'zs' if layer.kind == AFFINE else 'outs'}[{number}]")
        if layer.kind == RELU:
            lines.append(f"mask = masks[{number}]")
        yield from _of_layer(layer, [*lines, *_settings(layer)], names)
    yield f"return out_{layers[-1].place}"


def _backward(layers: list[_Layer], names: dict[str, Any]) -> Iterator[str]:
    affine = [layer for layer in reversed(layers) if layer.kind == AFFINE]
    activations, saved = [AFFINE] * len(affine), ["None"] * (len(affine) - 1)
    for layer in layers:
        if layer.kind != AFFINE:
            number = len(affine) - 1 - layer.affine
            activations[number] = layer.kind
            saved[number] = f"{'mask' if layer.kind == RELU else 'out'}_{layer.place}"
    names["stack"] = Stack(tuple(activations))
    yield from _beginning(layers, names, "backward", "dout")
    for layer in affine[1:]:
        yield f"if not needs_dx_{layer.place}: {PASS_ON}"
    inputs = (
        _each("rows", affine),
        _each("W", affine),
        f"({', '.join(saved)},)" if saved else "()",
        _each("shape", affine),
    )
    yield f"results = stack.backward(dout_0, {', '.join(inputs)}, needs_dx_{affine[0].place})"
    yield f"if results is PASS: {PASS_ON}"
    yield "dx, dWs, dbs = results"
    for layer in layers:
        number = len(affine) - 1 - layer.affine
        lines = [f"dW = dWs[{number}]", f"db = dbs[{number}]"] if layer.kind == AFFINE else []
        yield from _of_layer(layer, [*lines, *_settings(layer)], names)
    yield "return dx"


def _beginning(layers: list[_Layer], names: dict[str, Any], name: str, given: str) -> Iterator[str]:
    """The conditions of all layers, and what they read, for the method `name` of the parameter `given`."""
    yield f"({', '.join(f'self_{layer.place}' for layer in layers)},), {given}_0 = layers, value"
    for layer in layers:
        form, own = layer.form, dict[str, Any]()
        lines = [f"if {name!r} in vars(self): {PASS_ON}"]
        if form.tried is not None:
            lines += of_tried_object(form.tried, own, PASS_ON)
        pairs = zip(form.operation.inputs[1:], form.reads[1:], strict=True)
        reads = [f"{role} = {read}" for role, read in pairs]
        if not layer.place:
            reads.append("number = W.dtype.num")
        if form.kinds:
            own["kinds"] = numbered(form.kinds)
            between = "number, 2"  # of what comes from the layer before
            of_roles = {one: f"{one}.dtype.num, {one}.ndim" for one in form.measured}
            kinds = {**of_roles, given: between}.values() if layer.place and given in of_roles else of_roles.values()
            reads.append(f"is_other = ({', '.join(kinds)}) not in kinds")
        if form.where:
            if layer.place and given in names_in(form.where):
                raise NotAStack
            reads.append(f"is_outside = not ({form.where})")
        lines += ["try:", *(f"    {read}" for read in reads or ["pass"])]
        lines += [f"except (AttributeError, LookupError, TypeError): {PASS_ON}"]
        lines += [f"if is_other: {PASS_ON}"] if form.kinds else []
        lines += [f"if is_outside: {PASS_ON}"] if form.where else []
        names.update({f"{constant}_{layer.place}": value for constant, value in own.items()})
        yield from _of_layer(layer, lines, own)


def _each(role: str, layers: list[_Layer]) -> str:
    return f"({', '.join(f'{role}_{layer.place}' for layer in layers)},)"


def _settings(layer: _Layer) -> list[str]:
    return [f"{target} = {value}" for target, value in layer.form.sets]


def _of_layer(layer: _Layer, lines: list[str], names: dict[str, Any]) -> list[str]:
    """The lines with the layer's place after each of its own names."""
    operation = layer.form.operation
    own = {"self", "is_other", "is_outside", *operation.inputs, *operation.outputs, *names}
    return ast.unparse(_Placed(own - _SHARED, layer.place).visit(ast.parse("\n".join(lines)))).splitlines()


_SHARED = {"PASS", "dropped", "stack", *NAMES}


class _Placed(ast.NodeTransformer):
    def __init__(self, own: set[str], place: int):
        self.own, self.place = own, place

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"{node.id}_{self.place}", node.ctx) if node.id in self.own else node
