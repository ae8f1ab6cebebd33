"""How a class's forward and backward are made of operations: which attributes are read, which are set, and to what.

A `Form` says it for one method, in Python expressions; `written` writes the method out, as dataclasses write `__init__`, so
that a call costs no more than one written by hand. FORMS has those of the book's layers; `trials` finds them for others.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from . import arguments, operations
from .arguments import PASS, WASTED, Method, Rows
from .dropped_gradient import dropped
from .idling import Idling, NeverIdling
from .known_versions import CHANNELS, NO_EPSILON
from .lazy import LAZY, PATCHES

NEEDS_DX = "self is not dropped.layer"
TRAIN = "train"  # a parameter that is a flag, whatever the script calls it
KEPT_PATCHES = f"vars(self).get({LAZY[PATCHES][1]!r})"


# What the expressions of forms may call: images as rows of their channels, and rows as images again.
NAMES = {"np": np, "by_channel": Rows(True).of, "as_images": Rows(True).back}
_COMPUTES = re.compile(r"np\.|by_channel| [-+*/] ")  # of what is read: more than a look at an attribute


class Operation(NamedTuple):
    """A function of `operations` by its name, what it takes, and what it gives; `settings` if the name makes it.

    work: an expression of its inputs; where it is below the number of that name in `arguments`, `least`, NumPy takes less
    time.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: tuple[Any, ...] = ()
    work: str = ""
    least: str = ""

    def function(self, module: Any = operations) -> Method:
        named: Method = getattr(module, self.name)
        return named(*self.settings) if self.settings else named


class Tried(NamedTuple):
    """What must be as it was when a form was tried: the class of the object, the functions that its code calls, each with
    the dict and the name where it is found, and the names of its own methods that it calls."""

    made: type
    helpers: tuple[tuple[Mapping[str, Any], str, Any], ...]
    methods: frozenset[str]


class Form(NamedTuple):
    """One method of a class, or one branch of it.

    reads: what the operation takes, expressions of `self` and the method's parameters. sets: attributes of `self`, with
    expressions of inputs and outputs; `[...]` after one says that its array is written into. returns: likewise.
    train: the value for which the branch is, of the expression `flag`: the parameter `train`, or an attribute. kinds: dtypes
    and numbers of dimensions of `measured` that it is for (see `kind_of`); without `measured`, whatever the operation takes.
    where: a condition of the operation's inputs and of attributes, if it is not for all. tried: where it was tried.
    """

    operation: Operation
    reads: tuple[str, ...]
    sets: tuple[tuple[str, str], ...]
    returns: str
    train: bool | None = None
    measured: tuple[str, ...] = ()
    kinds: frozenset[Any] = frozenset()
    where: str = ""
    tried: Tried | None = None
    flag: str = TRAIN

    def only_where(self, *conditions: str) -> Form:
        return self._replace(where=" and ".join(filter(None, (self.where, *conditions))))


class Forms(NamedTuple):
    """What a class is: a form, or one for each value of `train`, for its forward and for its backward; none: its own."""

    forward: tuple[Form, ...]
    backward: tuple[Form, ...]

    def only_for(self, tried: Tried) -> Forms:
        return Forms(*(tuple(form._replace(tried=tried) for form in forms) for forms in self))


def names_in(expression: str) -> set[str]:
    """The words of an expression, inputs and outputs of an operation among them."""
    return set(re.findall(r"\w+", expression))


def kind_of(*arrays: Any) -> tuple[Any, ...]:
    """What must be as it was when a form was tried: dtypes, or that they are integers, and how many dimensions."""
    return tuple(
        (array.dtype if array.dtype.kind == "f" else array.dtype.kind, array.ndim)
        if isinstance(array, np.ndarray)
        else type(array)
        for array in arrays
    )


def _numbered(kinds: frozenset[Any]) -> frozenset[tuple[int, ...]]:
    """Kinds of arrays by the numbers that NumPy has for dtypes, which take a tenth of the time to look at."""
    numbered = set()
    for kind in kinds:
        if all(isinstance(one, tuple) for one in kind):
            dtypes = [_NUMBERS.get(dtype) or (dtype.num,) for dtype, _ in kind]
            for numbers in itertools.product(*dtypes):
                pairs = zip(numbers, (ndim for _, ndim in kind), strict=True)
                numbered.add(tuple(itertools.chain.from_iterable(pairs)))
    return frozenset(numbered)


_NUMBERS = {  # of dtypes that are one kind
    kind: tuple(np.dtype(code).num for code in codes)
    for kind, codes in {"i": "bhilq", "u": "BHILQ", "b": "?", "c": "FDG"}.items()
}


class Waste:
    """How often in a row a method's results were for NumPy to make, as they were not finite: a network has diverged, say."""

    MOST, AGAIN = 8, 64

    def __init__(self) -> None:
        self.calls = 0

    def is_likely(self) -> bool:
        """After a few, kernels are tried now and then only."""
        if self.calls < self.MOST:
            return False
        self.calls += 1
        return self.calls % self.AGAIN != 0


def written(
    own: FunctionType, forms: tuple[Form, ...], module: Any = operations, idling: Idling | None = None
) -> Method:
    """The method that takes the place of one of somebody's own: does what the forms say, or returns PASS.

    module: where operations are, for a trial another one. A form with no kinds yet is for any. idling: what notes the
    sizes of calls; with it the method stands alone: it runs `own` itself where it would return PASS, and has its parameters
    by name, so that it can be put into the class as it is.
    """
    alone = idling is not None
    parameters, rest = _parameters(own)
    roles = _roles(len(parameters), forms)
    shown = [*parameters, *rest] if alone else roles
    names: dict[str, Any] = {
        "PASS": PASS,
        "WASTED": WASTED,
        "waste": Waste(),
        "dropped": dropped,
        **NAMES,
    }
    names.update(own=own, name=own.__name__, idling=idling or NeverIdling())
    pass_on = f"return own({', '.join(('self', *shown))})" if alone else "return PASS"
    lines = [f"def {own.__name__}({', '.join(('self', *shown))}):"]
    lines += [f"    {role} = {name}" for role, name in zip(roles, parameters, strict=True) if alone and role != name]
    if forms and forms[0].tried is not None:
        lines += [f"    {line}" for line in _as_tried(own, roles, forms, names, pass_on)]
    for place, form in enumerate(forms):
        names[f"operation{place}"] = form.operation.function(module)
        names[f"kinds{place}"] = _numbered(form.kinds)
        names[f"least{place}"] = getattr(arguments, form.operation.least, 0) if module is operations else 0
        indent = "    "
        if form.train is not None:
            lines.append(f"    if {'' if form.train else 'not '}{form.flag}:")
            indent += "    "
        lines += [indent + line for line in _body(form, place, pass_on)]
    exec("\n".join([*lines, f"    {pass_on}"]), names)
    method: Method = names[own.__name__]
    method.__defaults__ = own.__defaults__
    method.forms = forms  # type: ignore[attr-defined]
    return functools.update_wrapper(method, own) if alone else method


def _as_tried(
    own: FunctionType, roles: list[str], forms: tuple[Form, ...], names: dict[str, Any], pass_on: str
) -> Iterator[str]:
    """Conditions: an object of the very class that was tried, and of parameters beside arrays what was tried."""
    tried = forms[0].tried
    assert tried is not None
    names.update({"tried": tried.made, "methods": tried.methods})
    yield f"if type(self) is not tried: {pass_on}"
    for place, (module, name, function) in enumerate(tried.helpers):
        names.update({f"module{place}": module, f"helper{place}": function})
        yield f"if module{place}.get({name!r}) is not helper{place}: {pass_on}"
    if tried.methods:
        yield f"if not methods.isdisjoint(vars(self)): {pass_on}"
    defaults = dict(zip(reversed(roles), reversed(own.__defaults__ or ()), strict=False))
    for role in roles:
        default = defaults.get(role)
        if role == TRAIN or (
            role.startswith("unused") and isinstance(default, bool | None) and own.__name__ == "forward"
        ):
            names[f"default_{role}"] = default
            also = "" if default is None and role in defaults else f" and type({role}) is not bool"
            yield f"if {role} is not default_{role}{also}: {pass_on}"
        elif role.startswith("unused"):
            names[f"default_{role}"] = default
            is_loss = own.__name__ == "backward" and role == "unused0" and "dout" not in roles  # tried with numbers
            numbers = f" and type({role}) not in (int, float)" if is_loss else ""
            yield f"if {role} is not default_{role}{numbers}: {pass_on}"


_OF_WRITTEN = {
    "tried",
    "methods",
    "results",
    "own",
    "waste",
    "dropped",
    *NAMES,
    "is_small",
    "is_other",
    "is_outside",
    "idling",
}


def can_stand_alone(own: FunctionType, forms: tuple[Form, ...]) -> bool:
    """Whether none of the method's parameters has a name that the written one gives to something else."""
    parameters, rest = _parameters(own)
    roles = _roles(len(parameters), forms)
    used = {"self", "name", *roles, *_OF_WRITTEN}
    used.update(name for form in forms for name in (*form.operation.inputs, *form.operation.outputs))
    return all(
        name == role or name not in used for name, role in zip(parameters, roles, strict=True)
    ) and used.isdisjoint(one.lstrip("*") for one in rest)


def _parameters(own: FunctionType) -> tuple[list[str], list[str]]:
    """The names of a method's parameters beside self, and "**named" if it takes any."""
    parameters = list(inspect.signature(own).parameters.values())[1:]
    rest = [f"**{one.name}" for one in parameters if one.kind is one.VAR_KEYWORD]
    return [one.name for one in parameters if one.kind is not one.VAR_KEYWORD], rest


def _roles(count: int, forms: tuple[Form, ...]) -> list[str]:
    """What a method's parameters are to the operation; `train` is a flag that is used."""
    inputs = [role for role in ("x", "t", "dout") if any(role in form.reads for form in forms)]
    rest = [f"unused{place}" for place in range(count - len(inputs))]
    if rest and any(form.train is not None and form.flag == TRAIN for form in forms):
        rest[0] = TRAIN
    return [*inputs, *rest]


def _body(form: Form, place: int, pass_on: str) -> list[str]:
    inputs, outputs = form.operation.inputs, form.operation.outputs
    reads = [f"{role} = {read}" for role, read in zip(inputs, form.reads, strict=True) if role != read]
    assigned, conditions = reads, []
    if form.operation.work:  # the first condition: of small calls, looking at them is most of the time
        assigned.append(f"is_small = {form.operation.work} < least{place}")
        conditions += ["if is_small:", "    idling.small(name)", f"    {pass_on}"]
    if form.kinds:
        kind = ", ".join(f"{role}.dtype.num, {role}.ndim" for role in form.measured)
        assigned.append(f"is_other = ({kind}) not in kinds{place}")
        conditions.append(f"if is_other: {pass_on}")
    if form.where:
        assigned.append(f"is_outside = not ({form.where})")
        conditions.append(f"if is_outside: {pass_on}")
    lines = []
    if assigned:  # an attribute that is not there yet is for the user's own method to miss
        quiet = "with np.errstate(all='ignore'): " if any(map(_COMPUTES.search, form.reads)) else ""
        lines = [
            "try:",
            f"    {quiet}{'; '.join(assigned)}",
            f"except (AttributeError, LookupError, TypeError): {pass_on}",
        ]
    lines += [
        *conditions,
        f"if waste.calls and waste.is_likely(): {pass_on}",
        f"results = operation{place}({', '.join(inputs)})",
        f"if results is PASS: {pass_on}",
        "if results is WASTED:",
        "    waste.calls += 1",
        f"    {pass_on}",
        "waste.calls = 0",
        "idling.large()",
        f"{', '.join(outputs)}, = results",
    ]
    for target, value in form.sets:
        if value in LAZY:
            lines.append(f"vars(self).pop({target.removeprefix('self.')!r}, None)")
        else:
            lines.append(f"{target} = {value}")
    lines += [f"vars(self)[{kept!r}] = {role}" for role, kept in dict(LAZY.values()).items() if role in outputs]
    return [*lines, f"return {form.returns}"]


def lazy_attributes(forms: Forms) -> dict[str, str] | None:
    """The attributes that are made when somebody asks for them, and their values; None where an object keeps nothing."""
    both = (*forms.forward, *forms.backward)
    if not any(role in form.operation.outputs for form in both for role, _ in LAZY.values()):
        return None
    return {target.removeprefix("self."): value for form in both for target, value in form.sets if value in LAZY}


AFFINE = Operation("affine_forward", ("x", "W", "b"), ("out", "rows"), (), "len(x) * W.size", "LEAST_PRODUCT")
AFFINE_BACKWARD = Operation(
    "affine_backward", ("dout", "rows", "W", "shape", "needs_dx"), ("dx", "dW", "db"), (),
    "len(rows) * W.size", "LEAST_PRODUCT",
)  # fmt: skip
PRODUCT = Operation("product_forward", ("x", "W"), ("out", "rows"), (), AFFINE.work, AFFINE.least)
PRODUCT_BACKWARD = AFFINE_BACKWARD._replace(name="product_backward", outputs=("dx", "dW"))
_NUMBERS_OF_X, _NUMBERS_OF_DOUT = ("x.size", "LEAST_ELEMENTWISE"), ("dout.size", "LEAST_ELEMENTWISE")
RELU = Operation("relu_forward", ("x",), ("out", "mask"), (), *_NUMBERS_OF_X)
RELU_OF_TAME = RELU._replace(name="relu_forward_of_tame")
RELU_STRICT = RELU._replace(name="relu_forward_strict")
RELU_STRICT_OF_TAME = RELU._replace(name="relu_forward_strict_of_tame")
RELU_BACKWARD = Operation("relu_backward", ("dout", "mask"), ("dx",), (), *_NUMBERS_OF_DOUT)
RELU_BACKWARD_IN_PLACE = RELU_BACKWARD._replace(name="relu_backward_in_place")
RELU_BACKWARD_OF_TAME = RELU_BACKWARD._replace(name="relu_backward_of_tame")
SIGMOID = Operation("sigmoid_forward", ("x",), ("out",), (), *_NUMBERS_OF_X)
SIGMOID_BACKWARD = Operation("sigmoid_backward", ("dout", "out"), ("dx",), (), *_NUMBERS_OF_DOUT)
TANH = SIGMOID._replace(name="tanh_forward")
TANH_BACKWARD = SIGMOID_BACKWARD._replace(name="tanh_backward")
_SCORES = ("x.size", "LEAST_SOFTMAX")
SOFTMAX = Operation("softmax_with_loss_forward", ("x", "t"), ("loss", "y", "labels"), (), *_SCORES)
SOFTMAX_BACKWARD = Operation("softmax_with_loss_backward", ("y", "t"), ("dx",), (), "y.size", "LEAST_SOFTMAX")
SOFTMAX_BACKWARD_TIMES = SOFTMAX_BACKWARD._replace(name="softmax_with_loss_backward_times", inputs=("y", "t", "dout"))
DROPOUT = Operation("dropout_forward", ("x", "ratio"), ("out", "mask"), (), "x.size", "LEAST_DROPOUT")
DROPOUT_BACKWARD = Operation("dropout_backward", ("dout", "mask"), ("dx",), (), "dout.size", "LEAST_DROPOUT")
DROPOUT_INVERTED = DROPOUT._replace(name="dropout_forward_inverted")
DROPOUT_BACKWARD_INVERTED = DROPOUT_BACKWARD._replace(
    name="dropout_backward_inverted", inputs=("dout", "mask", "ratio")
)
_VECTORS = ("gamma", "beta", "running_mean", "running_var")
_NORMALIZED = ("x.size", "LEAST_NORMALIZATION")
NORMALIZATION_BACKWARD = Operation(
    "normalization_gradient",
    ("dout", "gamma", "std", "xc", "xn", "count", "shape"),
    ("dx", "dgamma", "dbeta"),
    (False,),
)
CONVOLUTION = Operation("convolution_forward", ("x", "W", "b", "stride", "pad"), ("out", "patches", "col_W"))
CONVOLUTION_BACKWARD = Operation(
    "convolution_backward", ("dout", "patches", "col_W", "W", "shape", "window", "needs_dx"), ("dx", "dW", "db")
)
CONVOLUTION_BACKWARD_BY_WEIGHTS = Operation(
    "convolution_backward_by_weights", ("dout", "patches", "W", "shape", "window", "needs_dx"), ("dx", "dW", "db")
)
CONVOLUTION_PLAIN = CONVOLUTION._replace(name="convolution_forward_plain", inputs=("x", "W", "stride", "pad"))
CONVOLUTION_BACKWARD_PLAIN = CONVOLUTION_BACKWARD._replace(name="convolution_backward_plain", outputs=("dx", "dW"))
CONVOLUTION_BACKWARD_BY_WEIGHTS_PLAIN = CONVOLUTION_BACKWARD_BY_WEIGHTS._replace(
    name="convolution_backward_by_weights_plain", outputs=("dx", "dW")
)
CONVOLUTION_BACKWARD_KEPT = CONVOLUTION_BACKWARD._replace(
    name="convolution_backward_kept", outputs=("dx", "dW", "db", "gradients")
)
POOLING = Operation("pooling", ("x", "pool_h", "pool_w", "stride", "pad"), ("out", "arg_max"), (None, False))
POOLING_BACKWARD = Operation("pooling_gradient", ("dout", "shape", "arg_max", "window"), ("dx",), (False, False))
FRAMES = (None, 0.0, -np.inf)  # what poolings put around images; None: nothing, whatever `pad` is


def kept_too(operation: Operation, role: str) -> Operation:
    """The operation of layers that keep their windows, too, or the gradient of these."""
    return operation._replace(outputs=(*operation.outputs, role), settings=(*operation.settings[:-1], True))


def poolings() -> list[Operation]:
    framed = [POOLING._replace(settings=(fill, False)) for fill in FRAMES]
    return [*framed, *(kept_too(one, "patches") for one in framed)]


def pooling_gradients(forward: Operation) -> tuple[Operation, ...]:
    gradient = POOLING_BACKWARD._replace(settings=(forward.settings[0] is not None, False))
    return gradient, kept_too(gradient, "gradients")


def normalization(epsilon: float, by_channel: bool = False) -> Operation:
    outputs = ("out", "xc", "xn", "std", "batch_mean", "batch_var", "old_mean", "old_var")
    settings = (epsilon, by_channel)
    return Operation("normalization_forward", ("x", *_VECTORS, "momentum"), outputs, settings, *_NORMALIZED)


def normalization_apply(epsilon: float, by_channel: bool = False) -> Operation:
    settings = (epsilon, by_channel)
    return Operation("normalization_apply", ("x", *_VECTORS), ("out", "old_mean", "old_var"), settings, *_NORMALIZED)


def convolution_gradients(forward: Operation) -> tuple[Operation, ...]:
    """Those of a convolution's forward, with a bias or without one."""
    if forward == CONVOLUTION_PLAIN:
        return CONVOLUTION_BACKWARD_PLAIN, CONVOLUTION_BACKWARD_BY_WEIGHTS_PLAIN
    return CONVOLUTION_BACKWARD, CONVOLUTION_BACKWARD_BY_WEIGHTS, CONVOLUTION_BACKWARD_KEPT


def normalization_gradients(forward: Operation) -> tuple[Operation, ...]:
    return (NORMALIZATION_BACKWARD._replace(settings=forward.settings[1:]),)


def softmax_with(loss: str, epsilon: float) -> Operation:
    return Operation("softmax_with_other_loss", ("x", "t"), ("loss", "y", "labels"), (loss, epsilon), *_SCORES)


RUNNING = {
    "running_mean": "momentum * old_mean + (1 - momentum) * batch_mean",
    "running_var": "momentum * old_var + (1 - momentum) * batch_var",
}

KEPT_BY_CHANNEL = (
    *(f"as_images({one}, x.shape)" for one in ("xc", "xn")),
    *(f"({one}).reshape(1, -1, 1, 1)" for one in ("1 / std", *RUNNING.values())),
)


def _form(operation: Operation, returns: str, sets: dict[str, str], train: bool | None = None, **reads: str) -> Form:
    """The book's: attributes have the names of what they hold, unless `reads` and `sets` say another."""
    given = {"x", "dout", "t"}
    expressions = (reads.get(role, role if role in given else f"self.{role}") for role in operation.inputs)
    targets = tuple((f"self.{name}", value) for name, value in sets.items())
    return Form(operation, tuple(expressions), targets, returns, train)


def _only_rows(forms: Forms) -> Forms:
    """For the version that takes images in another way: inputs (N, D)."""
    rows = frozenset([kind_of(np.zeros((1, 1)))])
    return Forms(
        tuple(form._replace(measured=("x",), kinds=rows) for form in forms.forward),
        tuple(form._replace(measured=("dout",), kinds=rows) for form in forms.backward),
    )


def _softmax_with_loss(operation: Operation) -> Forms:
    sets = {"t": "t", "y": "y", "loss": "loss"}
    return Forms((_form(operation, "loss", sets),), (_form(SOFTMAX_BACKWARD, "dx", {}, t="self.t"),))


_BOOKS_NORMALIZATION = {
    "input_shape": "x.shape", "batch_size": "x.shape[0]", "xc": "xc", "xn": "xn", "std": "std", **RUNNING,
}  # fmt: skip
_BOOKS_EPSILON = 10e-7
_BOOKS_PREDICTION = {"input_shape": "x.shape", "running_mean": "old_mean", "running_var": "old_var"}
_WINDOW = "(self.pool_h, self.pool_w, self.stride, self.pad)"

FORMS: dict[str, Forms] = {
    "Affine": Forms(
        (_form(AFFINE, "out", {"original_x_shape": "x.shape", "x": "rows"}),),
        (
            _form(
                AFFINE_BACKWARD, "dx", {"dW": "dW", "db": "db"},
                rows="self.x", shape="self.original_x_shape", needs_dx=NEEDS_DX,
            ),
        ),
    ),
    "Relu": Forms((_form(RELU, "out", {"mask": "mask"}),), (_form(RELU_BACKWARD_IN_PLACE, "dx", {}),)),
    "Sigmoid": Forms((_form(SIGMOID, "out", {"out": "out"}),), (_form(SIGMOID_BACKWARD, "dx", {}),)),
    "SoftmaxWithLoss": _softmax_with_loss(SOFTMAX),
    "Dropout": Forms(
        (_form(DROPOUT, "out", {"mask": "mask"}, train=True, ratio="self.dropout_ratio"),),
        (_form(DROPOUT_BACKWARD, "dx", {}),),
    ),
    "BatchNormalization": Forms(
        (
            _form(normalization(_BOOKS_EPSILON), "out", _BOOKS_NORMALIZATION, train=True),
            _form(normalization_apply(_BOOKS_EPSILON), "out", _BOOKS_PREDICTION, train=False),
        ),
        (
            _form(
                NORMALIZATION_BACKWARD, "dx", {"dgamma": "dgamma", "dbeta": "dbeta"},
                count="self.batch_size", shape="self.input_shape",
            ),
        ),
    ),
    "Convolution": Forms(
        (_form(CONVOLUTION, "out", {"x": "x", "col": PATCHES, "col_W": "col_W"}),),
        (
            _form(
                CONVOLUTION_BACKWARD, "dx", {"dW": "dW", "db": "db"},
                patches=KEPT_PATCHES, shape="self.x.shape", window="(self.stride, self.pad)", needs_dx=NEEDS_DX,
            ),
        ),
    ),
    "Pooling": Forms(
        (_form(POOLING, "out", {"arg_max": "arg_max", "x": "x"}),),
        (_form(POOLING_BACKWARD, "dx", {}, shape="self.x.shape", window=_WINDOW),),
    ),
}  # fmt: skip

OTHER_FORMS = {  # by the notes of versions: of a class, or of a function that it calls
    CHANNELS: _only_rows(FORMS["BatchNormalization"]),
    NO_EPSILON: _softmax_with_loss(softmax_with("log of labels", 0.0)),
}
FUNCTIONS_OF: dict[str, tuple[str, ...]] = {  # of a layer's module, which it calls
    "Sigmoid": ("sigmoid",),
    "SoftmaxWithLoss": ("softmax", "cross_entropy_error"),
    "Convolution": ("im2col", "col2im"),
    "Pooling": ("im2col", "col2im"),
}
