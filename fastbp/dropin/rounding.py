"""How large the numbers are that a result was summed from: rounding is in proportion to them, not to the result.

The gradient of a bias before batch normalisation is 0. Computed, it is 5.5e-16 in one order of additions and -1.4e-16 in
another: a sum that cancelled, not a difference. So differences are measured against the sum of the terms' magnitudes
(N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .objects.arguments import Rows
from .objects.lazy import OURS, LazyAttribute
from .operations import functions
from .operations.methods import NAMES, Form, Operation, names_in

# By what is compared, "result", an attribute, or "grads[1]" of a list: the largest sum of its terms' magnitudes.
Terms = dict[str, float]
NOISE = 1e-5  # far above the rounding of float32, and small enough for what it does to be in proportion to it


def terms_of(fast: Any, own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    """The terms of what one call gives; none where nothing is summed.

    fast, own: the kernels' method and the user's; arguments: copies of the call's, as the user's method left them.
    """
    if hasattr(fast, "forms_of_layers"):
        return _of_layers(fast.method, fast.forms_of_layers(*arguments), arguments)
    with np.errstate(all="ignore"):
        if getattr(fast, "is_network", False):
            return _of_noise(own, arguments)
        if fast is functions.col2im or getattr(fast, "adds", False):
            return _of_products(own, arguments)
        return _of_forms(getattr(fast, "forms", ()), own, arguments)


def _of_layers(method: str, forms: tuple[Form, ...], arguments: tuple[Any, ...]) -> Terms:
    """The terms of a loop through layers: those of each by itself, with what the layers before it gave.

    Where such a result is small for its terms, its rounding is large for what comes after it, and counts there.
    """
    (layers, value, *rest), found, magnified = copy.deepcopy(arguments), {}, 1.0
    flagged, flag = (*rest, (), None)[:2]
    for place, (layer, form) in enumerate(zip(layers, forms, strict=True)):
        given = (layer, value, flag) if flagged and flagged[place] else (layer, value)
        with np.errstate(all="ignore"):
            terms = _of_forms((form,), lambda layer, *rest: getattr(layer, method)(*rest), copy.deepcopy(given))
        before, value = largest(value), getattr(layer, method)(*given[1:])
        here = largest(value)
        terms = terms or dict.fromkeys(("result", *vars(layer)), max(before, here))  # of an activation
        found.update({f"{layer_name(place)}.{name}": magnified * size for name, size in terms.items()})
        found["result"] = magnified * terms["result"]
        magnified = max(magnified, terms["result"] / (here or 1.0))
    return found


def _of_forms(forms: tuple[Form, ...], own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    names = {form.operation.name for form in forms}
    if names & _PRODUCTS:
        return _of_products(own, arguments)
    if names & _RECURRENT:
        return _of_noise(own, arguments)
    train = next((bool(one) for one in arguments[2:] if isinstance(one, int | np.bool_)), True)
    form = next((form for form in forms if form.train in (None, train)), None)
    if form is None or form.operation.name not in _OTHERS:
        return {}
    sizes = _OTHERS[form.operation.name](form.operation, _inputs(form, arguments))
    by_role = {role: largest(value) for role, value in sizes.items()}
    targets = {target.removeprefix("self.").removesuffix("[...]"): value for target, value in form.sets}
    values = {"result": form.returns, **targets}
    sums = {name: [by_role[role] for role in by_role.keys() & names_in(value)] for name, value in values.items()}
    return {name: max(found, default=0.0) for name, found in sums.items()}


def _inputs(form: Form, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """What the operation takes, read again."""
    given = dict(zip(("x", "t") if "x" in form.reads else ("dout",), arguments[1:], strict=False))
    reads = zip(form.operation.inputs, form.reads, strict=True)
    return {role: eval(read, dict(NAMES), {"self": arguments[0], **given}) for role, read in reads}


def largest(array: Any) -> float:
    """The largest finite magnitude in an array of numbers; 0 for anything else."""
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "biuf":
        return 0.0
    numbers = np.abs(array.astype(np.float64))
    return float(np.max(numbers, where=np.isfinite(numbers), initial=0.0))


def _of_products(own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    """The terms of sums of products: the same sums of the absolute values, made by the user's own method."""
    absolute = _changed(arguments, np.abs, {})
    results = {"result": own(*absolute)}
    if hasattr(absolute[0], "__dict__"):
        results.update(vars(absolute[0]))
    return {name: largest(part) for key, value in results.items() for name, part in parts_of(key, value)}


def _of_noise(own: Callable[..., Any], arguments: tuple[Any, ...]) -> Terms:
    """The terms of many sums in a row, by one object or several in a list: by how much results change where all numbers
    change a little, divided by how little.

    Each number is off by a part of itself, and what that makes of a result is in proportion to the terms that it is of.
    """
    rng = np.random.default_rng(0)

    def noisy(array: Any) -> Any:
        return (array * (1 + NOISE * rng.standard_normal(array.shape))).astype(array.dtype)

    found = []
    for change in (np.copy, noisy):
        given = _changed(arguments, change, {})
        found.append(dict(parts_of("result", own(*given))))
        objects = enumerate(given[0]) if type(given[0]) is list else [(None, given[0])]
        for place, one in objects:
            prefix = "" if place is None else f"{layer_name(place)}."
            found[-1].update(part for name, value in vars(one).items() for part in parts_of(prefix + name, value))
    one, other = found
    numbers = [name for name, part in one.items() if isinstance(part, np.ndarray) and part.dtype.kind == "f"]
    return {name: largest(other[name] - one[name]) / NOISE for name in numbers}


def layer_name(place: int) -> str:
    """What reports call one of several layers."""
    return f"layers[{place}]"


def parts_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value by its name, or all that is in a list, a tuple or a dict, each by a name of its own."""
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts_of(f"{name}[{key!r}]", part)
    else:
        yield name, value


def _changed(argument: Any, change: Callable[[Any], Any], doubles: dict[int, Any]) -> Any:
    """A copy with other numbers, of which nothing is the argument's: the user's method may write into it.

    change: gives a new array of numbers. doubles: of the layers that were met before, by their ids: a network may have one
    twice.
    """
    if isinstance(argument, np.ndarray):
        return change(argument) if argument.dtype.kind == "f" else argument.copy()
    if type(argument) is dict:
        return {key: _changed(one, change, doubles) for key, one in argument.items()}
    if type(argument) in (list, tuple):
        return type(argument)(_changed(one, change, doubles) for one in argument)
    if not hasattr(argument, "__dict__") or isinstance(argument, type):
        return argument
    if id(argument) in doubles:
        return doubles[id(argument)]
    doubles[id(argument)] = layer = object.__new__(type(argument))
    names = [name for name in vars(argument) if not name.startswith(OURS)]
    names += [name for name, value in vars(type(argument)).items() if isinstance(value, LazyAttribute)]
    vars(layer).update({name: _changed(getattr(argument, name, None), change, doubles) for name in names})
    return layer


def _of_softmax(operation: Operation, given: dict[str, Any]) -> dict[str, Any]:
    """exp(x - maximum) has the relative error of the difference."""
    size = np.asarray(1 + largest(given["x"]))
    return {"y": size, "loss": size}


def _of_normalization(operation: Operation, given: dict[str, Any]) -> dict[str, Any]:
    """x - mean cancels, and small standard deviations magnify what is left."""
    x = Rows(operation.settings[1]).of(given["x"])
    rows, old = np.abs(x), given["running_mean"]
    old = np.zeros(rows.shape[1:]) if old is None else np.abs(old)
    is_training = "batch_mean" in operation.outputs
    variance = x.var(axis=0) if is_training else given["running_var"]
    std = np.sqrt(variance + operation.settings[0])
    size = rows.max(axis=0) + rows.mean(axis=0) + old
    scaled = 1 + size / np.maximum(std, 1e-3)
    normal = (1 + rows.max(axis=0) / std) * scaled
    return {
        "out": np.abs(given["gamma"]) * normal + np.abs(given["beta"]),
        **{"xc": size, "xn": normal, "std": std + size, "batch_mean": size, "old_mean": size},
        **{"batch_var": size * size, "old_var": size * size},
    }


def _of_normalization_backward(operation: Operation, given: dict[str, Any]) -> dict[str, Any]:
    dout = np.abs(Rows(operation.settings[0]).of(given["dout"]))
    xc, xn, std = np.abs(given["xc"]), np.abs(given["xn"]), given["std"]
    direct = np.abs(given["gamma"]) * dout / std
    through_variance = xc * (direct * xc).sum(axis=0) / (len(dout) * std * std)
    dx = direct + through_variance
    return {"dx": dx + dx.mean(axis=0), "dgamma": (xn * dout).sum(axis=0), "dbeta": dout.sum(axis=0)}


_PRODUCTS = {
    "affine_forward", "affine_backward", "product_forward", "product_backward", "convolution_forward",
    "convolution_backward", "convolution_backward_by_weights", "convolution_backward_kept", "convolution_forward_plain",
    "convolution_backward_plain", "convolution_backward_by_weights_plain", "pooling_gradient",
}  # fmt: skip
_RECURRENT = {"lstm_forward", "lstm_backward", "time_lstm", "time_lstm_gradient"}
_OTHERS: dict[str, Callable[..., dict[str, Any]]] = {
    "softmax_with_loss_forward": _of_softmax,
    "softmax_with_other_loss": _of_softmax,
    "normalization_forward": _of_normalization,
    "normalization_apply": _of_normalization,
    "normalization_gradient": _of_normalization_backward,
}
