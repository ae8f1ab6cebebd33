"""The book's optimizers on the compiled kernels: the same numbers to the last bit, in one pass instead of up to ten.

They are known by the text of `update` alone (see `recognition`), so that other defaults do not count; those of the second
volume take lists instead of dicts.

All parameters are one call: of a network with 22, a call for each took longer than the arithmetic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..objects.arguments import FLOAT, PASS, SCALE, TAME, Method, is_array
from ..objects.plain_attributes import hold_values
from .kernel_calls import kernels

EPSILON = 1e-7  # the book's
# Of all parameters; below, NumPy takes less time. Of SGD, NumPy makes two passes of one array as fast as a call.
LEAST_NUMBERS, LEAST_NUMBERS_OF_SGD = 5_000 * SCALE, 60_000 * SCALE


class Rule(NamedTuple):
    """name: as kernels have it; slots: the attributes that hold its state, and settings: those of its numbers.

    container: of the parameters.
    """

    name: str
    slots: tuple[str, ...]
    settings: tuple[str, ...]
    container: type


_SGD = Rule("sgd", (), ("lr",), dict)
_MOMENTUM = Rule("momentum", ("v",), ("lr", "momentum"), dict)
_NESTEROV = Rule("nesterov", ("v",), ("lr", "momentum"), dict)
_NESTEROV_UNTIL_2020 = Rule("nesterov until 2020", ("v",), ("lr", "momentum"), dict)
_ADAGRAD = Rule("adagrad", ("h",), ("lr",), dict)
_RMSPROP = Rule("rmsprop", ("h",), ("lr", "decay_rate"), dict)
_ADAM = Rule("adam", ("m", "v"), ("lr", "beta1", "beta2"), dict)

UPDATES = {  # by the digest of `update`
    "37c9beea407b33abbd5f69a3": _SGD,
    "ae16b1ca4a6a0d1e7bc5d906": _MOMENTUM,
    "7445da6a51da8c4c23cdbaf1": _NESTEROV,
    "967dff56c4664d6e40a7c5c2": _NESTEROV_UNTIL_2020,
    "857047952a8af7e30f97d4db": _ADAGRAD,
    "84d38869abb3c1b2f3e0bc3e": _RMSPROP,
    "e170634eb4a2aa13c56d2cf6": _ADAM,
    # fastbp.compat's
    "467d7ede767bf8269f5ec0f4": _SGD,
    "79e216f7e3ba0b554a90437d": _MOMENTUM,
    "c7ea3c337dfb8aca161be290": _NESTEROV,
    "af69f68c5a230a9beed7bead": _ADAGRAD,
    "6c1d897c84582da0191b2955": _RMSPROP,
    "73f1ff3e7a1ea8e1e7e83db9": _ADAM,
    # the second volume's, oreilly-japan/deep-learning-from-scratch-2
    "78c8703a3b40e0c8bef9a9ee": _SGD._replace(container=list),
    "878f81561af849d2845f34f7": _MOMENTUM._replace(container=list),
    "4e6fc2520e1869e9fb73de1d": _NESTEROV_UNTIL_2020._replace(container=list),
    "aec844e23fbb1cdb6b8f8ead": _ADAGRAD._replace(container=list),
    "88807c0f0b352077d6aa4bb7": _RMSPROP._replace(container=list),
    "7c33c11b9edb511d3da7a3c0": _ADAM._replace(container=list),
}
RULES = {
    "SGD": _SGD,
    "Momentum": _MOMENTUM,
    "Nesterov": _NESTEROV,
    "AdaGrad": _ADAGRAD,
    "RMSprop": _RMSPROP,
    "Adam": _ADAM,
}


def updating(rule: Rule) -> Method:
    """What takes the place of `update`: for arrays that the kernels take, all of them other ones; else PASS."""

    attributes = (*rule.slots, *rule.settings, "iter")

    def update(self: Any, params: Any, grads: Any) -> Any:
        if type(params) is not rule.container or type(grads) is not rule.container:
            return PASS
        if not hold_values(self, attributes):
            return PASS
        slots = [getattr(self, name, None) for name in rule.slots]
        settings = [getattr(self, name, None) for name in rule.settings]
        if not all(isinstance(value, int | float) for value in settings):
            return PASS
        least = LEAST_NUMBERS_OF_SGD if rule.name == "sgd" else LEAST_NUMBERS
        arrays = _arrays(params, grads, slots, least)
        if arrays is None:
            return PASS
        if rule.name == "adam":
            rate, beta1, beta2 = settings
            step = self.iter + 1
            settings[0] = rate * np.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
        if rule.name != "sgd":
            settings = [*settings, EPSILON] if len(settings) > 1 else [*settings, 0.0, EPSILON]
        parameters, gradients, *state = arrays
        if not kernels.exact_update(rule.name, parameters, gradients, state, settings, TAME[FLOAT.itemsize]):
            return PASS  # from gradients that are tame, nothing overflows that NumPy would warn of
        if rule.name == "adam":
            self.iter = step
        return None

    return update


def _arrays(params: Any, grads: Any, slots: list[Any], least: float) -> list[list[Any]] | None:
    """The parameters, the gradients, made contiguous, and a list of each slot; None if one is not for the kernels."""
    keys = list(params) if isinstance(params, dict) else range(len(params))
    try:
        parameters, gradients = [params[key] for key in keys], [grads[key] for key in keys]
        state = [[slot[key] for key in keys] for slot in slots]
    except (LookupError, TypeError):
        return None
    if not parameters or sum(getattr(one, "size", 0) for one in parameters) < least:
        return None
    for arrays in (gradients, *state):
        for parameter, array in zip(parameters, arrays, strict=True):
            if not is_array(array) or array.shape != parameter.shape:
                return None
    for arrays in (parameters, *state):
        for array in arrays:
            if not is_array(array) or not array.flags.carray:
                return None
    found = [parameters, gradients, *state]
    owners = {id(one if one.base is None else one.base) for arrays in found for one in arrays}
    if len(owners) < len(parameters) * len(found):
        return None  # threads might change at once what is one after the other here
    found[1] = [one if one.flags.carray else np.ascontiguousarray(one) for one in gradients]
    return found
