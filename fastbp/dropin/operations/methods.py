"""How a class's forward and backward are made of operations: which attributes are read, which are set, and to what.

A `Form` says it for one method, in Python expressions; `writing` makes methods of them. FORMS has those of the book's
layers; `trials` finds them for others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..objects.arguments import Method, Rows
from ..objects.cells import cell_of
from ..objects.lazy import LAZY, PATCHES, STEPS
from ..reading.known_versions import CHANNELS, NO_EPSILON
from . import images, layers, recurrent

OPERATIONS = layers, images, recurrent
NEEDS_DX = "self is not dropped.layer"
TRAIN = "train"  # a parameter that is a flag, whatever the script calls it
KEPT_PATCHES, KEPT_STEPS = (f"vars(self).get({LAZY[one][1]!r})" for one in (PATCHES, STEPS))


# What the expressions of forms may call: images as rows of their channels, and rows as images again; the class of steps.
NAMES = {"np": np, "by_channel": Rows(True).of, "as_images": Rows(True).back, "cell_of": cell_of}


class Operation(NamedTuple):
    """A function of OPERATIONS by its name, what it takes, and what it gives; `settings` if the name makes it.

    work: an expression of its inputs; where it is below the number of that name in `arguments`, `least`, NumPy takes less
    time.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: tuple[Any, ...] = ()
    work: str = ""
    least: str = ""

    def function(self, modules: tuple[ModuleType, ...] = OPERATIONS) -> Method:
        named: Method = next(getattr(one, self.name) for one in modules if hasattr(one, self.name))
        return named(*self.settings) if self.settings else named


Helpers = tuple[tuple[Mapping[str, Any], str, Any], ...]  # functions, flags and numbers; the dict and name of each


class Tried(NamedTuple):
    """What must be as it was when a form was tried: the class of the object, and the names of the own methods that its code
    calls."""

    made: type
    methods: frozenset[str]


class Form(NamedTuple):
    """One method of a class, or one branch of it.

    reads: what the operation takes, expressions of `self` and the method's parameters. sets: attributes of `self`, with
    expressions of inputs and outputs; `[...]` after one says that its array is written into. returns: likewise.
    train: the value for which the branch is, of the expression `flag`: the parameter `train`, or an attribute. kinds: dtypes
    and numbers of dimensions of `measured` that it is for (see `kind_of`); without `measured`, whatever the operation takes.
    where: a condition of the operation's inputs and of attributes, if it is not for all. tried: where it was tried.
    helpers: what its code calls and reads, which must be what it was.
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
    helpers: Helpers = ()

    def only_where(self, *conditions: str) -> Form:
        return self._replace(where=" and ".join(filter(None, (self.where, *conditions))))


class Forms(NamedTuple):
    """What a class is: a form, or one for each value of `train`, for its forward and for its backward; none: its own."""

    forward: tuple[Form, ...]
    backward: tuple[Form, ...]

    def only_for(self, tried: Tried | None, helpers: Helpers) -> Forms:
        return Forms(*(tuple(form._replace(tried=tried, helpers=helpers) for form in forms) for forms in self))


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


AFFINE = Operation("affine_forward", ("x", "W", "b"), ("out", "rows"), (), "len(x) * W.size", "LEAST_PRODUCT")
AFFINE_BACKWARD = Operation(
    "affine_backward", ("dout", "rows", "W", "shape", "needs_dx"), ("dx", "dW", "db"), (),
    "len(rows) * W.size", "LEAST_PRODUCT",
)  # fmt: skip
# OpenBLAS makes other products as fast, and its threads and ours are in each other's way where calls alternate.
OF_OTHER_DTYPE = "x.dtype is not W.dtype"
MEANS = ("dW / len(dout)", "db / len(dout)", "(db / len(dout)).reshape(1, -1)")  # what some keep: means over the rows
PRODUCT = Operation("product_forward", ("x", "W"), ("out", "rows"), (), AFFINE.work, AFFINE.least)
PRODUCT_BACKWARD = AFFINE_BACKWARD._replace(name="product_backward", outputs=("dx", "dW"))
_NUMBERS_OF_X, _NUMBERS_OF_DOUT = ("x.size", "LEAST_ELEMENTWISE"), ("dout.size", "LEAST_ELEMENTWISE")
RELU = Operation("relu_forward", ("x",), ("out", "mask"), (), *_NUMBERS_OF_X)
RELU_OF_TAME = RELU._replace(name="relu_forward_of_tame")
RELU_STRICT = RELU._replace(name="relu_forward_strict")
RELU_STRICT_OF_TAME = RELU._replace(name="relu_forward_strict_of_tame")
RELU_IN_PLACE = RELU._replace(name="relu_forward_in_place")
RELU_STRICT_IN_PLACE = RELU._replace(name="relu_forward_strict_in_place")
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
DROPOUT_APPLY = DROPOUT._replace(name="dropout_apply", outputs=("out",))
DROPOUT_OFF = DROPOUT_APPLY._replace(name="dropout_off")
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
LSTM = Operation(
    "lstm_forward", ("x", "h", "c", "Wx", "Wh", "b"), recurrent.OF_STEP, (),
    "len(x) * (Wx.size + Wh.size)", "LEAST_CELL",
)  # fmt: skip
LSTM_BACKWARD = Operation(
    "lstm_backward", ("dh", "dc", "x", "h", "c", *recurrent.OF_STEP[1:], "Wx", "Wh"),
    ("dx", "dh_prev", "dc_prev", "dWx", "dWh", "db"), (), LSTM.work, LSTM.least,
)  # fmt: skip
TIME_LSTM_BACKWARD = Operation(
    "time_lstm_gradient", ("dout", "steps", "Wx", "Wh"), ("dx", "dh", "dWx", "dWh", "db", "steps"), ("f",)
)
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


def time_lstm(dtype: str, is_afresh: bool = False) -> Operation:
    """dtype: of what it gives, whatever that of its weights is."""
    outputs = ("out", "h_next", "c_next", "steps")
    return Operation("time_lstm", (*LSTM.inputs, "cell"), outputs, (dtype, is_afresh), LSTM.work, LSTM.least)


def time_lstm_afresh(forward: Operation) -> tuple[Operation, ...]:
    """Where each call begins with zeros for h and c."""
    return (time_lstm(forward.settings[0], is_afresh=True),)


def time_lstm_gradients(forward: Operation) -> tuple[Operation, ...]:
    return (TIME_LSTM_BACKWARD._replace(settings=forward.settings[:1]),)


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
        (
            _form(DROPOUT, "out", {"mask": "mask"}, train=True, ratio="self.dropout_ratio"),
            _form(DROPOUT_APPLY, "out", {}, train=False, ratio="self.dropout_ratio"),
        ),
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
