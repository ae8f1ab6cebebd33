"""Functions that do for a stack of layers what their methods would, written from the forms of these, see `methods`.

    forward(layers, x)        read all parameters; one call of `Stack.forward`; set all attributes
    backward(layers, dout)    likewise

As the methods that `written` makes, they return PASS where a condition is not met, or WASTED, and nothing has been set then.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..objects.arguments import PASS, WASTED
from ..objects.marks import signature_of
from ..objects.patched_classes import Accelerated
from ..operations.methods import NAMES, RUNNING, TRAIN, Form, names_in
from ..operations.normalized_stacks import BY_RUNNING, NormalizedStack
from ..operations.stacks import MOST_LAYERS, Dropped, Stack
from ..operations.writing import COMPUTES, as_it_was, numbered, required_beside
from ..reading.dropped_gradient import dropped

AFFINE, NORM, RELU, SIGMOID, DROPOUT, ACTIVATION = "identity", "norm", "relu", "sigmoid", "dropout", "activation"
KINDS = {
    "affine_forward": AFFINE, "relu_forward": RELU, "relu_forward_of_tame": RELU, "sigmoid_forward": SIGMOID,
    "relu_forward_strict": RELU, "relu_forward_strict_of_tame": RELU, "relu_forward_in_place": RELU,
    "relu_forward_strict_in_place": RELU,
    "affine_backward": AFFINE, "relu_backward": RELU, "relu_backward_in_place": RELU, "relu_backward_of_tame": RELU,
    "sigmoid_backward": SIGMOID, "normalization_forward": NORM, "normalization_apply": NORM, "normalization_gradient": NORM,
    "dropout_forward": DROPOUT, "dropout_forward_inverted": DROPOUT, "dropout_apply": DROPOUT,
    "dropout_off": DROPOUT, "dropout_backward": DROPOUT, "dropout_backward_inverted": DROPOUT,
}  # fmt: skip
COMPUTED = {value: f"new_{name.removeprefix('running_')}" for name, value in RUNNING.items()}  # by the kernel
PASS_ON = "return PASS"


class NotAStack(Exception):
    """The layers are others, in another order, or do something beside."""


class Written(NamedTuple):
    """A function for layers of some classes; the functions that may be their methods; the forms that it was made of."""

    function: Callable[[list[Any], Any], Any]
    methods: tuple[tuple[type, tuple[Any, ...]], ...]
    forms: tuple[Form, ...]


class Layer(NamedTuple):
    """A layer at its place in the loop; affine: how many affine layers were before it, in forward with itself; needs: what
    must be true."""

    place: int
    affine: int
    kind: str
    form: Form
    method: Any
    needs: str = ""


def written_stack(
    classes: list[tuple[type, Accelerated]], name: str, flags: list[bool | None], keyword: str = ""
) -> Written:
    """The function for the method `name` of layers of these classes, in the order of the loop. Raises NotAStack.

    flags: what each is called with beside its input, None: nothing; keyword: the name that it is given by, if it is.
    """
    layers = list(layers_in_loop(classes, name, flags, keyword))
    write = _forward if name == "forward" else _backward
    names: dict[str, Any] = {"PASS": PASS, "WASTED": WASTED, "dropped": dropped, "BY_RUNNING": BY_RUNNING, **NAMES}
    exec("\n".join([f"def {name}(layers, value):", *(f"    {line}" for line in write(layers, names))]), names)
    methods = {made: accelerated.methods_of(name) for made, accelerated in classes}
    return Written(names[name], tuple(methods.items()), tuple(layer.form for layer in layers))


def layers_in_loop(
    classes: list[tuple[type, Accelerated]], name: str, flags: list[bool | None], keyword: str
) -> Iterator[Layer]:
    affine, before, given = 0, "", set[str]()
    for place, ((_, accelerated), flag) in enumerate(zip(classes, flags, strict=True)):
        method = accelerated.own[name]
        form, needs = _form_for(accelerated.forms_of(name), method, flag, keyword)
        kind = KINDS.get(form.operation.name, "")
        if not _may_follow(kind, before, name) or any(map(COMPUTES.search, form.reads)) or not _is_plain(form, name):
            raise NotAStack
        values = {word for _, value in form.sets for word in names_in(value)}
        changes_x = kind == DROPOUT or form.operation.name.endswith("in_place")
        if name == "forward" and changes_x and ("out" in given or "x" in values):
            raise NotAStack  # what was before dropout is not kept, what is changed in place was the layer's before
        given = values
        if kind == AFFINE and name == "forward":
            affine += 1
        yield Layer(place, affine, kind, form, method, needs)
        if kind == AFFINE and name == "backward":
            affine += 1
        before = kind
    if affine > MOST_LAYERS or (name == "backward" and before != AFFINE):
        raise NotAStack


def _may_follow(kind: str, before: str, name: str) -> bool:
    """Whether a layer may follow another in the loop: forward, an affine one, its normalisation, its activation, dropout."""
    if kind == AFFINE:
        return True
    if name == "forward":
        order = {NORM: (AFFINE,), RELU: (AFFINE, NORM), SIGMOID: (AFFINE, NORM), DROPOUT: (RELU,)}
    else:
        order = {NORM: (RELU, SIGMOID, AFFINE), RELU: (AFFINE, DROPOUT), SIGMOID: (AFFINE,), DROPOUT: (AFFINE,)}
    return before in order.get(kind, ())


def _form_for(forms: tuple[Form, ...], method: Any, flag: bool | None, keyword: str) -> tuple[Form, str]:
    """The form of a method that is called so, and what must be true of the object then."""
    parameters = list(signature_of(method).parameters.values())[2:]
    if not forms or required_beside(method)[flag is not None :]:
        raise NotAStack
    if flag is not None and (not parameters or keyword not in ("", parameters[0].name)):
        raise NotAStack
    first = forms[0]
    if first.flag == TRAIN and first.train is not None:
        value = parameters[0].default if flag is None else flag
        for form in forms:
            if form.train is value:
                return form, ""
        raise NotAStack
    if flag is not None and (first.tried is None or not isinstance(parameters[0].default, bool | None)):
        raise NotAStack  # tried with its default, or any flag where that is one
    if first.train is None and len(forms) > 1:
        raise NotAStack
    return first, "" if first.train is None else first.flag if first.train else f"not {first.flag}"


def _is_plain(form: Form, name: str) -> bool:
    """Whether the method gives its result alone, and sets nothing that has another value in a stack, which does not make
    the gradients between layers one by one."""
    if name == "forward":
        return form.returns == "out" and form.reads[0] == "x"
    values = {word for _, value in form.sets for word in names_in(_in_stack(value))}
    return form.returns == "dx" and form.reads[0] == "dout" and values.isdisjoint({"dx", "dout"})


def _forward(layers: list[Layer], names: dict[str, Any]) -> Iterator[str]:
    parts = parts_of(layers, [layer.affine - 1 for layer in layers])
    affine, norms, dropouts, names["stack"] = parts.affine, parts.norms, parts.dropouts, _stack_of(parts)
    yield f"({', '.join(f'self_{layer.place}' for layer in layers)},), x_0 = layers, value"
    yield from conditions(layers, names, "forward", "x")
    objects = [f"id(self_{layer.place})" for layer in norms if layer is not None]
    if len(objects) > 1:  # of one that is there twice, the second call goes on from the running means of the first
        yield f"if len({{{', '.join(objects)}}}) < {len(objects)}: {PASS_ON}"
    of_norms = _of(norms, ("gamma", "beta", "running_mean", "running_var", "momentum"), ", norms=")
    ratios = _of(dropouts, ("ratio",), ", ratios=")
    yield f"results = stack.forward(x_0, {each('W', affine)}, {each('b', affine)}{ratios}{of_norms})"
    yield "if results is PASS or results is WASTED: return results"
    yield f"rows_0, zs, outs, masks, keeps{', ys, kept' if of_norms else ''} = results"
    yield from settings_of_forward(layers)
    yield f"return out_{layers[-1].place}"


def settings_of_forward(layers: list[Layer]) -> Iterator[str]:
    """What the layers' methods set, of rows_0, zs, outs, masks, and keeps, ys, kept where there are such layers."""
    for layer in layers:
        lines, number = [], layer.affine - 1
        if layer.place:
            yield f"x_{layer.place} = out_{layer.place - 1}"
        if layer.place and layer.kind == AFFINE:
            lines.append("rows = x.reshape(len(x), -1)")
        lines.append(f"out = {({AFFINE: 'zs', NORM: 'ys'}).get(layer.kind, 'outs')}[{number}]")
        if layer.kind in (RELU, DROPOUT):
            lines.append(f"mask = {'masks' if layer.kind == RELU else 'keeps'}[{number}]")
        if layer.kind == NORM:
            lines.append(f"{', '.join(KEPT)} = kept[{number}]")
        yield from of_layer(layer, [*lines, *settings(layer)], dict.fromkeys(KEPT))


KEPT = ("xc", "xn", "std", "batch_mean", "batch_var", "new_mean", "new_var", "old_mean", "old_var")


class Parts(NamedTuple):
    """The affine layers, from the first to the last; what comes after each; the normalisation and dropout of each."""

    affine: list[Layer]
    activations: tuple[str, ...]
    norms: list[Layer | None]
    dropouts: list[Layer | None]


def parts_of(layers: list[Layer], numbers: list[int]) -> Parts:
    """numbers: of each layer, which affine one it is or belongs to."""
    of_kinds = dict[str, dict[int, Layer]]()
    for number, layer in zip(numbers, layers, strict=True):
        of_kinds.setdefault(ACTIVATION if layer.kind in (RELU, SIGMOID) else layer.kind, {})[number] = layer
    affine, activations = of_kinds[AFFINE], of_kinds.get(ACTIVATION, {})
    places = range(len(affine))
    kinds = tuple(_activation(activations[place]) if place in activations else AFFINE for place in places)
    norms, dropouts = ([of_kinds.get(kind, {}).get(place) for place in places] for kind in (NORM, DROPOUT))
    return Parts([affine[place] for place in places], kinds, norms, dropouts)


def _stack_of(parts: Parts) -> Stack:
    """What does the work of these layers."""
    if parts.norms[-1] is not None:
        raise NotAStack  # nothing comes after it, where its result would be used
    dropped = tuple(None if one is None else Dropped(one.form.operation.name) for one in parts.dropouts)
    if not any(parts.norms):
        return Stack(parts.activations, dropped)
    epsilons = tuple(None if one is None else one.form.operation.settings[0] for one in parts.norms)
    return NormalizedStack(parts.activations, epsilons, dropped)


def _activation(layer: Layer) -> str:
    return "strict relu" if "relu_forward_strict" in layer.form.operation.name else layer.kind


def _of(layers: list[Layer | None], roles: tuple[str, ...], name: str) -> str:
    """What some layers read, as an argument more; nothing where there are none."""
    if not any(layers):
        return ""
    read = ("None" if one is None else _read(one, roles) for one in layers)
    return f"{name}({', '.join(read)},)"


def _read(layer: Layer, roles: tuple[str, ...]) -> str:
    missing = {"momentum": "BY_RUNNING", "ratio": "0.0"}
    inputs = layer.form.operation.inputs
    read = [f"{role}_{layer.place}" if role in inputs else missing[role] for role in roles]
    return read[0] if len(roles) == 1 else f"({', '.join(read)})"


def _backward(layers: list[Layer], names: dict[str, Any]) -> Iterator[str]:
    count = sum(layer.kind == AFFINE for layer in layers)
    numbers = [count - 1 - layer.affine for layer in layers]
    parts = parts_of(layers, numbers)
    affine, norms, dropouts, names["stack"] = parts.affine, parts.norms, parts.dropouts, _stack_of(parts)
    saved = ["None"] * (count - 1)
    for number, layer in zip(numbers, layers, strict=True):
        if layer.kind in (RELU, SIGMOID):
            saved[number] = f"{'mask' if layer.kind == RELU else 'out'}_{layer.place}"
    yield f"({', '.join(f'self_{layer.place}' for layer in layers)},), dout_0 = layers, value"
    yield from conditions(layers, names, "backward", "dout")
    for layer in affine[1:]:
        yield f"if not needs_dx_{layer.place}: {PASS_ON}"
    inputs = (
        each("rows", affine),
        each("W", affine),
        f"({', '.join(saved)},)" if saved else "()",
        each("shape", affine),
    )
    of_norms = _of(norms, ("gamma", "std", "xc", "xn", "count", "shape"), ", norms=")
    dropped = _of(dropouts, ("mask", "ratio"), ", dropped=")
    yield f"results = stack.backward(dout_0, {', '.join(inputs)}, needs_dx_{affine[0].place}{dropped}{of_norms})"
    yield "if results is PASS or results is WASTED: return results"
    yield f"dx, dWs, dbs{', of_norms' if of_norms else ''} = results"
    yield from settings_of_backward(layers, numbers)
    yield "return dx"


def settings_of_backward(layers: list[Layer], numbers: list[int]) -> Iterator[str]:
    """What the layers' methods set, of dWs and dbs, and of_norms where there are such layers. numbers: see `parts_of`."""
    for number, layer in zip(numbers, layers, strict=True):
        lines = {
            AFFINE: [f"dW = dWs[{number}]", f"db = dbs[{number}]"],
            NORM: [f"dgamma, dbeta = of_norms[{number}]"],
        }.get(layer.kind, [])
        yield from of_layer(layer, [*lines, *settings(layer)], {})


def conditions(layers: list[Layer], names: dict[str, Any], name: str, given: str) -> Iterator[str]:
    """The conditions of all layers, and what they read, for the method `name` of the parameter `given`: of layer 0 the
    whole call's, of others what comes from the layer before."""
    for layer in layers:
        form, own = layer.form, dict[str, Any]()
        lines = [f"if {name!r} in vars(self): {PASS_ON}"]
        lines += as_it_was(form, own, PASS_ON)
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
        if layer.needs:
            reads.append(f"is_called_otherwise = not ({layer.needs})")
        lines += ["try:", *(f"    {read}" for read in reads or ["pass"])]
        lines += [f"except (AttributeError, LookupError, TypeError): {PASS_ON}"]
        lines += [f"if is_other: {PASS_ON}"] if form.kinds else []
        lines += [f"if is_outside: {PASS_ON}"] if form.where else []
        lines += [f"if is_called_otherwise: {PASS_ON}"] if layer.needs else []
        names.update({f"{constant}_{layer.place}": value for constant, value in own.items()})
        yield from of_layer(layer, lines, own)


def each(role: str, layers: list[Layer]) -> str:
    return f"({', '.join(f'{role}_{layer.place}' for layer in layers)},)"


def settings(layer: Layer) -> list[str]:
    return [f"{target} = {_in_stack(value)}" for target, value in layer.form.sets]


def _in_stack(value: str) -> str:
    """An expression of a form, of what there is in a stack: not of the gradients between layers."""
    return COMPUTED.get(value, value).replace("len(dout)", "len(rows)")


def of_layer(layer: Layer, lines: list[str], names: dict[str, Any]) -> list[str]:
    """The lines with the layer's place after each of its own names."""
    operation = layer.form.operation
    own = {"self", "is_other", "is_outside", "is_called_otherwise", *operation.inputs, *operation.outputs, *names}
    return ast.unparse(_Placed(own - _SHARED, layer.place).visit(ast.parse("\n".join(lines)))).splitlines()


_SHARED = {"PASS", "WASTED", "dropped", "stack", *NAMES}


class _Placed(ast.NodeTransformer):
    def __init__(self, own: set[str], place: int):
        self.own, self.place = own, place

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"{node.id}_{self.place}", node.ctx) if node.id in self.own else node
