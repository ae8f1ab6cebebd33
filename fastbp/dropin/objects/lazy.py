"""Attributes that are made when somebody asks for them: the matrices of patches that a convolution or a pooling keeps, and
the objects of a recurrent layer's steps.

The matrices have 9 to 25 times as many numbers as the images, and hardly anybody looks at them. In their place an object
keeps what they can be made of, under a name of its own that begins with `_fastbp`.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np

PATCHES, PATCHES_AS_GIVEN, GRADIENTS = "patches.col()", "patches.col_as_given()", "gradients.col()"
STEPS = "steps.layers()"
# An attribute's value: the operation's output that makes it, and where an object keeps that.
LAZY = {
    PATCHES: ("patches", "_fastbp_patches"),
    PATCHES_AS_GIVEN: ("patches", "_fastbp_patches"),
    GRADIENTS: ("gradients", "_fastbp_gradients"),
    STEPS: ("steps", "_fastbp_steps"),
}
_NONE: Any = object()  # of a class that has no such attribute
OURS = "_fastbp"  # what the names of attributes begin with that no script sets


def made_of(kept: Any, value: str) -> Any:
    """The matrix or the list, from what an object keeps in its place."""
    return getattr(kept, value.partition(".")[2].removesuffix("()"))()


class LazyAttribute:
    """An attribute that has such a matrix, `col` in the book, or a list of such objects. of_class: what the class has."""

    def __init__(self, name: str, value: str, of_class: Any = _NONE):
        self.name, self.value, self.kept, self.of_class = name, value, LAZY[value][1], of_class

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self if self.of_class is _NONE else self.of_class
        state = vars(layer)
        if self.kept in state and self.name not in state:
            state[self.name] = made_of(
                state.pop(self.kept), self.value
            )  # whoever has it may change it: it counts from now on
        value = state.get(self.name, self.of_class)
        if value is _NONE:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute {self.name!r}")
        return value

    def __set__(self, layer: Any, value: Any) -> None:
        vars(layer).pop(self.kept, None)
        vars(layer)[self.name] = value

    def __delete__(self, layer: Any) -> None:
        was_kept = vars(layer).pop(self.kept, _NONE) is not _NONE
        if vars(layer).pop(self.name, _NONE) is _NONE and not was_kept:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute {self.name!r}")


def make_lazy(made: type, attributes: dict[str, str]) -> None:
    """Give a class lazy attributes, by name with their values; pickles and copies hold them as the class's own do."""

    def state(self: Any) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if not name.startswith(OURS)}
        made_now = {name: getattr(self, name) for name, value in attributes.items() if LAZY[value][1] in vars(self)}
        return {**own, **made_now}

    for name, value in attributes.items():
        of_class = inspect.getattr_static(made, name, _NONE)
        of_class = of_class.of_class if isinstance(of_class, LazyAttribute) else of_class
        setattr(made, name, LazyAttribute(name, value, of_class))
    made.__getstate__ = state  # type: ignore[attr-defined]


class ConvolutionGradients(NamedTuple):
    """What a convolution's backward leaves for the gradient of the matrix of patches."""

    dout: Any
    W: Any

    def col(self) -> Any:
        filters = len(self.W)
        return np.dot(self.dout.transpose(0, 2, 3, 1).reshape(-1, filters), self.W.reshape(filters, -1))


class PoolingGradients(NamedTuple):
    """What a pooling's backward leaves for the gradient of that matrix: 0 but where the maximum was."""

    dout: Any
    arg_max: Any
    size: int

    def col(self) -> Any:
        gradient = np.zeros((self.dout.size, self.size))
        gradient[np.arange(self.dout.size), self.arg_max] = self.dout.transpose(0, 2, 3, 1).reshape(-1)
        return gradient
