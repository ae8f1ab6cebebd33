"""Functions that do for a network what its layers' methods and those of its loss would, written from their forms.

    loss(layers, last, value, target)        read all parameters; one call of `NetworkStack`; set all attributes
    gradient(layers, last, value, target)    likewise, and all gradients; both give the loss

As what `written_stacks` writes, they return PASS where a condition is not met, or WASTED. What backward would read is
looked at once forward has set it: where that is not what the kernel went on with, they return PASS, and the methods
themselves set all of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..objects.arguments import PASS, WASTED
from ..objects.marks import signature_of
from ..objects.patched_classes import Accelerated
from ..operations.layers import other_loss
from ..operations.methods import NAMES, Form, Operation, names_in
from ..operations.network_stacks import NetworkStack
from ..operations.writing import COMPUTES, as_it_was, numbered, required_beside
from ..reading.dropped_gradient import dropped
from .written_stacks import (
    AFFINE,
    PASS_ON,
    RELU,
    SIGMOID,
    Layer,
    NotAStack,
    conditions,
    each,
    layers_in_loop,
    of_layer,
    parts_of,
    settings,
    settings_of_backward,
    settings_of_forward,
)

LOSS = "loss"
LOSSES = {"softmax_with_loss_forward", "softmax_with_other_loss"}
OF_LOSSES = {"softmax_with_loss_backward", "softmax_with_loss_backward_times"}


class WrittenNetwork(NamedTuple):
    """A function for layers of some classes and a last one; and of each class and method, what may be there."""

    function: Callable[[list[Any], Any, Any, Any], Any]
    methods: tuple[tuple[type, str, tuple[Any, ...]], ...]


def written_network(
    classes: list[tuple[type, Accelerated]], last: tuple[type, Accelerated], is_step: bool, given: int
) -> WrittenNetwork:
    """The function for layers of these classes, in the order of the loop, and a last one. Raises NotAStack.

    given: how many arguments, each 1, the last one's backward has.
    """
    there = list(layers_in_loop(classes, "forward", [None] * len(classes), ""))
    parts = parts_of(there, [layer.affine - 1 for layer in there])
    if any(parts.norms) or any(parts.dropouts) or parts.activations[-1] != AFFINE:
        raise NotAStack
    name = "gradient" if is_step else "loss"
    names: dict[str, Any] = {"PASS": PASS, "WASTED": WASTED, "dropped": dropped, **NAMES}
    loss = Layer(len(there), 0, LOSS, _form_of(last, "forward", LOSSES), last[1].own["forward"])
    names["stack"] = NetworkStack(parts.activations, _other_loss(loss.form.operation))
    lines = [f"({', '.join(f'self_{layer.place}' for layer in there)},), x_0 = layers, value"]
    lines += [f"self_{loss.place}, t_{loss.place} = last, target", *conditions(there, names, "forward", "x")]
    lines += _conditions_of_loss(loss, names, "forward")
    lines.append(f"results = stack.{name}(x_0, target, {each('W', parts.affine)}, {each('b', parts.affine)})")
    lines.append("if results is PASS or results is WASTED: return results")
    computed = [f"{name}_{loss.place}" for name in ("loss", "y", "labels")]
    lines.append(f"rows_0, zs, outs, masks, {', '.join(computed)}{', dWs, dbs' if is_step else ''} = results")
    lines += [*settings_of_forward(there), f"x_{loss.place} = out_{there[-1].place}"]
    lines += of_layer(loss, settings(loss), {})
    if is_step:
        if not _takes(last[1].own["backward"], given):
            raise NotAStack
        lines += _way_back(there, loss, classes, last, names)
    lines.append(f"return {computed[0]}")
    exec("\n".join([f"def {name}(layers, last, value, target):", *(f"    {line}" for line in lines)]), names)
    both = ("forward", "backward") if is_step else ("forward",)
    methods = tuple((made, one, accelerated.methods_of(one)) for made, accelerated in {*classes, last} for one in both)
    return WrittenNetwork(names[name], methods)


def _other_loss(operation: Operation) -> Any:
    """What gives the loss, where that is not the kernel's."""
    return other_loss(*operation.settings) if operation.settings else None


def _takes(method: Any, count: int) -> bool:
    """Whether a method can be called with so many arguments beside self."""
    try:
        signature_of(method).bind(*[None] * (1 + count))
    except TypeError:
        return False
    return True


def _form_of(last: tuple[type, Accelerated], name: str, operations: set[str]) -> Form:
    """The form of a method of the last layer, which is called with scores and labels, or with 1 or nothing."""
    forms = last[1].forms_of(name)
    if len(forms) != 1 or forms[0].train is not None or any(map(COMPUTES.search, forms[0].reads)):
        raise NotAStack
    form = forms[0]
    if form.operation.name not in operations or form.returns != form.operation.outputs[0]:
        raise NotAStack
    if name == "forward" and (form.reads != ("x", "t") or len(required_beside(last[1].own[name])) != 1):
        raise NotAStack
    if name == "backward" and any(names_in(value) & {"dx", "dout"} for _, value in form.sets):
        raise NotAStack
    return form


def _conditions_of_loss(loss: Layer, names: dict[str, Any], name: str) -> Iterator[str]:
    """That the last layer's method is what its form says, for such arguments."""
    form, own = loss.form, dict[str, Any]()
    lines = [f"if {name!r} in vars(self): {PASS_ON}"]
    lines += as_it_was(form, own, PASS_ON)
    if form.kinds:
        own["kinds"] = numbered(form.kinds)
        scores = {"forward": "x", "backward": "y"}[name]
        kinds = ("number, 2" if one == scores else f"{one}.dtype.num, {one}.ndim" for one in form.measured)
        lines += [f"try: is_other = ({', '.join(kinds)}) not in kinds", f"except AttributeError: {PASS_ON}"]
        lines.append(f"if is_other: {PASS_ON}")
    if form.where:
        raise NotAStack
    names.update({f"{constant}_{loss.place}": value for constant, value in own.items()})
    yield from of_layer(loss, lines, own)


def _way_back(
    there: list[Layer], loss: Layer, classes: list[tuple[type, Accelerated]], last: tuple[type, Accelerated],
    names: dict[str, Any],
) -> Iterator[str]:  # fmt: skip
    """The conditions of backward, whose layers have the numbers from that of the loss on, and what it sets."""
    first = loss.place + 1
    back = Layer(first, 0, LOSS, _form_of(last, "backward", OF_LOSSES), last[1].own["backward"])
    _check_factor(back)
    yield f"self_{first} = last"
    reads = zip(back.form.operation.inputs, back.form.reads, strict=True)
    read = [f"{role} = {value}" for role, value in reads if role != "dout"]
    lines = ["try:", *(f"    {one}" for one in read), f"except (AttributeError, LookupError, TypeError): {PASS_ON}"]
    yield from of_layer(back, lines, {})
    yield f"if y_{first} is not y_{loss.place} or t_{first} is not target: {PASS_ON}"
    yield from _conditions_of_loss(back, names, "backward")
    layers = [
        layer._replace(place=first + 1 + layer.place)
        for layer in layers_in_loop(classes[::-1], "backward", [None] * len(classes), "")
    ]
    numbers = [there[-1].affine - 1 - layer.affine for layer in layers]
    yield f"({', '.join(f'self_{layer.place}' for layer in layers)},) = layers[::-1]"
    yield from conditions(layers, names, "backward", "dout")
    for one, other in zip(layers, reversed(there), strict=True):
        a, b = one.place, other.place
        if one.kind == AFFINE:
            yield f"if not (rows_{a} is rows_{b} or (rows_{a} is x_{b} and x_{b}.shape == rows_{b}.shape)): {PASS_ON}"
            yield f"if W_{a} is not W_{b} or needs_dx_{a} is {other.place == 0}: {PASS_ON}"
        elif one.kind in (RELU, SIGMOID):
            kept = "mask" if one.kind == RELU else "out"
            yield f"if {kept}_{a} is not {kept}_{b}: {PASS_ON}"
    yield from of_layer(back, settings(back), {})
    yield from settings_of_backward(layers, numbers)


def _check_factor(back: Layer) -> None:
    """That what the gradient is multiplied with, if the method reads it, is 1 where nothing is given."""
    if "dout" in back.form.reads:
        parameters = list(signature_of(back.method).parameters.values())[1:]
        if not parameters or parameters[0].default != 1:
            raise NotAStack
