"""Layers that go through time, whose steps are objects of another class: that class, and what is kept of the objects."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .marks import own_of
from .patched_classes import accelerated_of
from .trying import undisturbed

Settings = tuple[tuple[str, str], ...]


class Cell(NamedTuple):
    """The class of a step, and what its methods set, as expressions of an LSTM's inputs and outputs."""

    made: type
    forward: Settings
    backward: Settings


def cell_of(layer: Any, name: str) -> Cell | None:
    """The class that a layer's forward calls by that name, if kernels take its forward and its backward."""
    own = own_of(vars(type(layer))["forward"])
    made = own.__globals__.get(name)
    accelerated = accelerated_of(made) if isinstance(made, type) else None
    if accelerated is None or made is None:
        return None
    forms = [accelerated.forms_of(name) for name in ("forward", "backward")]
    if [[one.operation.name for one in form] for form in forms] != [["lstm_forward"], ["lstm_backward"]]:
        return None
    if not all(vars(made).get(name) in accelerated.methods_of(name) for name in ("forward", "backward")):
        return None  # somebody has put others there
    if own_of(made.__init__) is not _constructors.get(made):
        return None
    if any(form[0].where for form in forms) or any("." in value for _, value in forms[0][0].sets):
        return None  # it is an LSTM under conditions, or keeps copies of what may be changed
    return Cell(made, *(form[0].sets for form in forms))


_constructors: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()  # of classes of steps, as they were


def classes_of_steps(layer: Any) -> list[str]:
    """The names by which a layer's forward may call the classes of its steps."""
    own = own_of(vars(type(layer))["forward"])
    return [name for name in own.__code__.co_names if isinstance(own.__globals__.get(name), type)]


def decide_cells(classes: Iterable[type], layer: Any, x: Any) -> None:
    """Decide what classes of steps are, before a layer's first step; not of those that are no LSTM's to make or to call."""
    for made in classes:
        accelerated, parameters = accelerated_of(made), parameters_of_cell(layer)
        _constructors.setdefault(made, own_of(made.__init__))  # type: ignore[misc]
        if accelerated is None or accelerated.is_decided or len(parameters) != 3:
            continue
        with undisturbed():
            try:
                parameters = [one.copy() for one in parameters]
                step, another = made(*parameters), made(*parameters)
                state = np.zeros((len(x), len(parameters[1])), parameters[1].dtype)
                accelerated.own["forward"](step, x[:, 0].copy(), state, state.copy())
            except Exception:
                continue
        accelerated.decide(another, (x[:, 0], state, state.copy()))


def parameters_of_cell(layer: Any) -> list[Any]:
    """What a recurrent layer has, by the names that they mostly have: the book's second volume keeps them in a list."""
    held = getattr(layer, "__dict__", {})  # nothing of the script's runs, as a property would
    parameters = held.get("params")
    return parameters if type(parameters) is list else [held.get(name) for name in ("Wx", "Wh", "b")]


class Steps(NamedTuple):
    """What a layer's forward leaves for its backward, in the place of the objects of its steps.

    weights: Wx, Wh, b; made: of each step, what an LSTM takes and gives, but for x; gradients: likewise, of its backward,
    and x and h as they were then.
    """

    cell: Cell
    x: Any
    weights: tuple[Any, ...]
    made: list[dict[str, Any]]
    gradients: list[dict[str, Any]]

    def layers(self) -> list[Any]:
        """The objects, as the layer itself would have made them."""
        return [self._layer(time) for time in range(len(self.made))]

    def _layer(self, time: int) -> Any:
        x, (Wx, Wh, _) = self.x[:, time, :], self.weights
        layer, values = self.cell.made(*self.weights), {"Wx": Wx, "Wh": Wh, "x": x, **self.made[time]}
        _set(layer, self.cell.forward, values)
        if self.gradients:
            dz, (rows, before) = (self.gradients[time][name] for name in ("dz", "given"))
            products = {"dWx": np.dot(rows.T, dz), "dWh": np.dot(before.T, dz), "db": dz.sum(axis=0)}
            _set(layer, self.cell.backward, {**values, **self.gradients[time], **products})
        return layer


def _set(layer: Any, settings: Settings, values: dict[str, Any]) -> None:
    for target, value in settings:
        exec(f"{target} = {value}", {"np": np, "self": layer, **values})
