"""The layers that a class of somebody's own may turn out to be: which operations, and what they are tried on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..objects.cells import classes_of_steps
from ..objects.lazy import GRADIENTS, PATCHES, PATCHES_AS_GIVEN, STEPS
from ..operations import methods
from ..operations.label_losses import LOSSES
from ..operations.methods import Operation
from .drawing import (
    SCALES,
    Shape,
    Values,
    draw_affine,
    draw_cell,
    draw_convolution,
    draw_dropout,
    draw_elementwise,
    draw_input,
    draw_normalization,
    draw_pooling,
    draw_sequence,
    draw_softmax,
)
from .restrictions import NONE, OF_CONVOLUTION, OF_NORMALIZATION, OF_POOLING, Restriction

Draw = Callable[[Any, int, Values, tuple[Any, ...]], Values]
WINDOW = ("pool_h", "pool_w", "stride", "pad")  # the settings of a window, in the order in which operations take them
NAMES = {
    "gamma": ("gam", "scale", "weight"), "beta": ("bet", "shift", "bias"), "running_mean": ("mean", "mu", "avg"),
    "running_var": ("var", "sig", "std"), "momentum": ("mom", "decay", "rho"), "W": ("w", "kernel", "filter"), "b": ("b",),
    "h": ("h",), "c": ("c",), "Wx": ("wx", "params[0]"), "Wh": ("wh", "params[1]"),
}  # fmt: skip
MATRICES = ("W", "Wx", "Wh")
STATES = ("h", "c")  # of a recurrent layer, a row for each of x
OF_WINDOWS = (PATCHES, PATCHES_AS_GIVEN, GRADIENTS)
MOST_CHOICES, MOST_BINDINGS = 4096, 24
ALL = 64  # dimensions, as many as an array may have


def small(shape: Shape) -> Shape:
    """A smaller shape: long sides are 8 to 14, those that were equal still are."""
    return tuple(side if side <= 16 else 8 + 2 * (side % 4) for side in shape)


def _small_shapes(shapes: dict[str, Shape]) -> dict[str, Shape]:
    return {role: small(shape) for role, shape in shapes.items()}


def _small_cells(shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Smaller shapes for Wx (D, 4 H), Wh (H, 4 H), b (4 H,), and for h and c (N, H), which are drawn anew."""
    (inputs, _), (units, columns) = shapes["Wx"], shapes["Wh"]
    if columns != 4 * units:
        return _small_shapes(shapes)
    inputs, units = small((inputs, units))
    return {**_small_shapes(shapes), "Wx": (inputs, 4 * units), "Wh": (units, 4 * units), "b": (4 * units,)}


class Family(NamedTuple):
    """A kind of layer. `arguments`: the arrays that forward takes. `draw`: gives values for all that an operation takes.

    operations: those that forward may be, of the numbers in its code; backward: those that backward may be then.
    formulas: what attributes may be set to besides.
    ndims: how many dimensions its first argument may have, any if empty. predicting: what it may be where a flag is False.
    is_exact: whether small numbers of forward's result count as large ones do: somebody may take their logarithm.
    measured: what must be of a dtype and of dimensions that were tried. restrictions: under which it is tried, one after
    the other. has_rivals: whether several operations may give forward's results, so that backward must tell them apart.
    keeps: how many of the first argument's dimensions the result has, from the first on. alone: a condition under which
    forward is taken where backward is left. gradients: the arrays that backward takes, those of forward's results.
    of_gradients: their dtypes in turn, None: those of the results. smaller: the shapes of fewer weights, of those that a
    real layer's have.
    """

    name: str
    words: tuple[str, ...]
    arguments: tuple[str, ...]
    operations: Callable[[list[float]], list[Operation]]
    backward: Callable[[Operation], tuple[Operation, ...]]
    draw: Draw
    measured: tuple[str, ...] = ("x",)
    formulas: tuple[str, ...] = ()
    has_flag: bool = False
    ndims: tuple[int, ...] = ()
    is_exact: bool = False
    predicting: Callable[[Operation], tuple[Operation, ...]] | None = None
    measured_backward: tuple[str, ...] = ("dout",)
    restrictions: tuple[Restriction, ...] = (NONE,)
    has_rivals: bool = False
    keeps: int = 0
    alone: str = ""
    gradients: tuple[str, ...] = ("dout",)
    of_gradients: tuple[Any, Any] = (None, None)
    smaller: Callable[[dict[str, Shape]], dict[str, Shape]] = _small_shapes

    def forward(self, numbers: Iterable[float]) -> list[Operation]:
        return self.operations([number for number in numbers if 0 < number < 0.1])

    def is_named(self, made: type) -> bool:
        return any(word in made.__name__.lower() for word in self.words)

    def may_be(self, arguments: tuple[Any, ...]) -> bool:
        """Whether the call has its arguments."""
        arrays = [one for one in arguments if isinstance(one, np.ndarray)]
        return len(arrays) == len(self.arguments) and (not self.ndims or arrays[0].ndim in self.ndims)

    def may_give(self, result: Any, arguments: tuple[Any, ...]) -> bool:
        """Whether a result may be its, by its shape."""
        first = next(one for one in arguments if isinstance(one, np.ndarray))
        results = result if isinstance(result, tuple) and len(result) == len(self.gradients) else (result,)
        return not self.keeps or all(
            getattr(one, "shape", ())[: self.keeps] == first.shape[: self.keeps] for one in results
        )

    def bindings(self, operation: Operation, layer: Any, reads: list[str]) -> Iterator[dict[str, str]]:
        """Every way in which attributes may be what the operation takes; the one of its own names alone, if it is there."""
        roles = [role for role in operation.inputs if role not in self.arguments]
        if roles and all(f"self.{role}" in _paths(role, layer, reads) for role in roles):
            yield {role: f"self.{role}" for role in roles}
            return
        choices = [sorted(_paths(role, layer, reads), key=lambda path: _strangeness(role, path)) for role in roles]
        ranks = itertools.product(*(range(len(paths)) for paths in choices))
        possible = []
        for chosen in itertools.islice(sorted(ranks, key=sum), MOST_CHOICES):
            binding = {role: paths[rank] for role, paths, rank in zip(roles, choices, chosen, strict=True)}
            arrays = [path for path in binding.values() if path.startswith("self.")]
            if (binding.get("running_mean") == "None") != (binding.get("running_var") == "None"):
                continue
            if len(set(arrays)) == len(arrays) or all(role in WINDOW for role in roles):
                possible.append(binding)
        yield from possible[:MOST_BINDINGS]

    def more(self, known: Values) -> Values:
        """What backward takes that forward knows by another name."""
        found = {"shape": known["x"].shape, "count": len(known["xc" if "xc" in known else "x"])}
        if "rows" in known:
            found["rows_shape"] = known["rows"].shape
        return {**found, "window": tuple(known[one] for one in WINDOW if one in known)}

    def draw_gradients(self, rng: Any, place: int, out: Any) -> Values:
        """Gradients of forward's results; for a loss, what it is multiplied with."""
        if np.ndim(out) == 0:
            return {"dout": (1, 1.0, 2.5)[place % 3]}  # each of them with each of seven kinds of labels
        outs = out if isinstance(out, tuple) else (out,)
        drawn = {
            name: draw_input(rng, one.shape, place + place // len(SCALES), self.of_gradients[place % 2] or one.dtype)
            for name, one in zip(self.gradients, outs, strict=True)
        }
        return {**drawn, "dc": 0} if "dc" in drawn and place % 4 == 1 else drawn  # of the last step nothing comes after


def _strangeness(role: str, path: str) -> int:
    """0 for the role's own name, 1 for one that people give it, else 2: what is likely is tried first."""
    name = path.removeprefix("self.").strip("_").lower()
    return 0 if path == f"self.{role}" else 1 if any(word in name for word in NAMES.get(role, ())) else 2


def _paths(role: str, layer: Any, reads: list[str]) -> Iterator[str]:
    for path in reads:
        try:
            value = eval(path, {"self": layer})
        except Exception:
            continue
        yield from (path + view for view in _views(role, value))
    if role == "pad":
        yield "0"
    elif role == "stride":
        yield "1"
    elif role in ("running_mean", "running_var"):
        yield "None"
    elif role == "momentum":
        yield "0"
    elif role == "cell":
        yield from (f"cell_of(self, {name!r})" for name in classes_of_steps(layer))


def _views(role: str, value: Any) -> Iterator[str]:
    """How a value may be read to be what a role is, if it can be at all."""
    if role in WINDOW:
        yield from [""] if type(value) is int else []
    elif role in ("momentum", "ratio"):
        yield from [""] if isinstance(value, float | int) and not isinstance(value, bool) else []
    elif value is None:
        yield from [""] if role in ("running_mean", "running_var", *STATES) else []
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        if role in STATES:
            yield from [""] if value.ndim == 2 else []
        elif role in MATRICES:
            if value.ndim == 2 or (value.ndim == 4 and role == "W"):
                yield ""
            if value.ndim == 2:
                yield ".T"
        elif value.ndim == 1:
            yield ""
        elif value.ndim in (2, 4) and value.size == max(value.shape):
            yield ".reshape(-1)"


def _softmaxes(numbers: list[float]) -> list[Operation]:
    found = [methods.SOFTMAX]
    for epsilon in (0.0, *numbers):
        found += [methods.softmax_with(loss, epsilon) for loss in LOSSES]
    return found


def _normalizations(numbers: list[float]) -> list[Operation]:
    return [methods.normalization(number, by_channel) for by_channel in (False, True) for number in numbers]


def _always(*operations: Operation) -> Callable[[Operation], tuple[Operation, ...]]:
    return lambda forward: operations


FAMILIES = (
    Family(
        "Affine", ("affine", "linear", "dense", "full", "fc"), ("x",), lambda _: [methods.AFFINE, methods.PRODUCT],
        _always(methods.AFFINE_BACKWARD, methods.PRODUCT_BACKWARD), draw_affine, ("x", "W"),
        formulas=("x if x.ndim == 2 else rows", *methods.MEANS), keeps=1, alone=methods.OF_OTHER_DTYPE,
    ),
    Family(
        "Relu", ("relu",), ("x",),
        lambda _: [
            methods.RELU, methods.RELU_OF_TAME, methods.RELU_STRICT, methods.RELU_STRICT_OF_TAME, methods.RELU_IN_PLACE,
            methods.RELU_STRICT_IN_PLACE,
        ],
        _always(methods.RELU_BACKWARD_IN_PLACE, methods.RELU_BACKWARD, methods.RELU_BACKWARD_OF_TAME), draw_elementwise,
        has_rivals=True, keeps=ALL,
    ),
    Family(
        "Sigmoid", ("sigmoid",), ("x",), lambda _: [methods.SIGMOID], _always(methods.SIGMOID_BACKWARD), draw_elementwise,
        is_exact=True, keeps=ALL,
    ),
    Family(
        "Tanh", ("tanh",), ("x",), lambda _: [methods.TANH], _always(methods.TANH_BACKWARD), draw_elementwise,
        is_exact=True, keeps=ALL,
    ),
    Family(
        "SoftmaxWithLoss", ("softmax", "loss", "entropy"), ("x", "t"), _softmaxes,
        _always(methods.SOFTMAX_BACKWARD, methods.SOFTMAX_BACKWARD_TIMES), draw_softmax, ("x", "t"),
        formulas=("t if t.ndim == 1 else labels", "x - x.max(axis=1, keepdims=True)"), ndims=(2,), measured_backward=("t",),
    ),
    Family(
        "Dropout", ("drop",), ("x",), lambda _: [methods.DROPOUT, methods.DROPOUT_INVERTED],
        _always(methods.DROPOUT_BACKWARD, methods.DROPOUT_BACKWARD_INVERTED), draw_dropout,
        formulas=("mask / (1 - ratio)",), has_flag=True, keeps=ALL,
        predicting=_always(methods.DROPOUT_APPLY, methods.DROPOUT_OFF),
    ),
    Family(
        "BatchNormalization", ("norm", "bn"), ("x",), _normalizations, methods.normalization_gradients,
        draw_normalization, formulas=(
            *methods.RUNNING.values(), *methods.KEPT_BY_CHANNEL, "xc ** 2", "1 / std", "(1 / std).reshape(1, -1)",
            "(1 - momentum) * old_mean + momentum * batch_mean", "(1 - momentum) * old_var + momentum * batch_var",
            "momentum * old_var + (1 - momentum) * (batch_var * x.shape[0] / (x.shape[0] - 1))",
        ),
        has_flag=True, ndims=(2, 4), restrictions=OF_NORMALIZATION, keeps=ALL,
        predicting=lambda operation: (methods.normalization_apply(*operation.settings),),
    ),
    Family(
        "Convolution", ("conv",), ("x",), lambda _: [methods.CONVOLUTION, methods.CONVOLUTION_PLAIN],
        methods.convolution_gradients,
        draw_convolution, formulas=OF_WINDOWS, ndims=(4,), restrictions=OF_CONVOLUTION, keeps=1,
    ),
    Family(
        "Pooling", ("pool",), ("x",), lambda _: methods.poolings(), methods.pooling_gradients, draw_pooling,
        formulas=OF_WINDOWS, ndims=(4,), restrictions=OF_POOLING, keeps=2,
    ),
    Family(
        "TimeLSTM", ("timelstm",), ("x",), lambda _: [methods.time_lstm(dtype) for dtype in "fd"],
        methods.time_lstm_gradients, draw_sequence, ("x", "Wx"), formulas=(STEPS,), has_flag=True, ndims=(3,),
        predicting=methods.time_lstm_afresh, measured_backward=("dout", "Wx"), keeps=2,
        of_gradients=(None, np.float64), smaller=_small_cells,
    ),
    Family(
        "LSTM", ("lstm",), ("x", "h", "c"), lambda _: [methods.LSTM], _always(methods.LSTM_BACKWARD), draw_cell,
        ("x", "h", "c", "Wx"), ndims=(2,), measured_backward=("dh", "x", "h", "c", "Wx"), keeps=1,
        gradients=("dh", "dc"), of_gradients=(None, np.float64), smaller=_small_cells,
    ),
)  # fmt: skip
