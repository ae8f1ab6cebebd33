"""The book's optimizers on the compiled kernels: the same numbers to the last bit, in one pass instead of up to ten.

They are known by the text of `update` alone (see `recognition`), so that other defaults do not count; those of the second
volume take lists instead of dicts.

Measured and rejected: SGD, whose two passes NumPy makes in half the time of a call (40,000 numbers: 15 us against 31). Of
large arrays, it is one of the rules that run in one pass (see `fusing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .arguments import PASS, SCALE, Method, is_array
from .operations import is_tame, kernels

EPSILON = 1e-7  # the book's
LEAST_NUMBERS = 5_000 * SCALE  # of all parameters; below, NumPy takes less time


class Rule(NamedTuple):
    """name: as kernels have it; slots: the attributes that hold its state, and settings: those of its numbers.

    container: of the parameters.
    """

    name: str
    slots: tuple[str, ...]
    settings: tuple[str, ...]
    container: type


_MOMENTUM = Rule("momentum", ("v",), ("lr", "momentum"), dict)
_NESTEROV = Rule("nesterov", ("v",), ("lr", "momentum"), dict)
_NESTEROV_UNTIL_2020 = Rule("nesterov until 2020", ("v",), ("lr", "momentum"), dict)
_ADAGRAD = Rule("adagrad", ("h",), ("lr",), dict)
_RMSPROP = Rule("rmsprop", ("h",), ("lr", "decay_rate"), dict)
_ADAM = Rule("adam", ("m", "v"), ("lr", "beta1", "beta2"), dict)

UPDATES = {  # by the digest of `update`
    "ae16b1ca4a6a0d1e7bc5d906": _MOMENTUM,
    "7445da6a51da8c4c23cdbaf1": _NESTEROV,
    "967dff56c4664d6e40a7c5c2": _NESTEROV_UNTIL_2020,
    "857047952a8af7e30f97d4db": _ADAGRAD,
    "84d38869abb3c1b2f3e0bc3e": _RMSPROP,
    "e170634eb4a2aa13c56d2cf6": _ADAM,
    # fastbp.compat's
    "79e216f7e3ba0b554a90437d": _MOMENTUM,
    "c7ea3c337dfb8aca161be290": _NESTEROV,
    "af69f68c5a230a9beed7bead": _ADAGRAD,
    "6c1d897c84582da0191b2955": _RMSPROP,
    "73f1ff3e7a1ea8e1e7e83db9": _ADAM,
    # the second volume's, oreilly-japan/deep-learning-from-scratch-2
    "878f81561af849d2845f34f7": _MOMENTUM._replace(container=list),
    "4e6fc2520e1869e9fb73de1d": _NESTEROV_UNTIL_2020._replace(container=list),
    "aec844e23fbb1cdb6b8f8ead": _ADAGRAD._replace(container=list),
    "88807c0f0b352077d6aa4bb7": _RMSPROP._replace(container=list),
    "7c33c11b9edb511d3da7a3c0": _ADAM._replace(container=list),
}
RULES = {"Momentum": _MOMENTUM, "Nesterov": _NESTEROV, "AdaGrad": _ADAGRAD, "RMSprop": _RMSPROP, "Adam": _ADAM}


def updating(rule: Rule) -> Method:
    """What takes the place of `update`: for arrays that the kernels take, all of them other ones; else PASS."""

    def update(self: Any, params: Any, grads: Any) -> Any:
        if type(params) is not rule.container or type(grads) is not rule.container:
            return PASS
        slots = [getattr(self, name, None) for name in rule.slots]
        settings = [getattr(self, name, None) for name in rule.settings]
        if not all(isinstance(value, int | float) for value in settings):
            return PASS
        updates = _updates(params, grads, slots)
        if updates is None:
            return PASS
        if rule.name == "adam":
            self.iter += 1
            rate, beta1, beta2 = settings
            rate = rate * np.sqrt(1.0 - beta2**self.iter) / (1.0 - beta1**self.iter)
            for parameter, gradient, m, v in updates:
                kernels.adam_update(parameter, gradient, m, v, rate, beta1, beta2, EPSILON)
            return None
        rate, decay = (*settings, 0.0)[:2]
        for parameter, gradient, slot in updates:
            kernels.rule_update(rule.name, parameter, gradient, slot, (rate, decay, EPSILON))
        return None

    return update


def _updates(params: Any, grads: Any, slots: list[Any]) -> list[tuple[Any, ...]] | None:
    """Each parameter with its gradient, made contiguous, and its state; None if one of them is not for the kernels."""
    keys: Iterable[Any] = params if isinstance(params, dict) else range(len(params))
    if sum(getattr(params[key], "size", 0) for key in keys) < LEAST_NUMBERS:
        return None
    seen: set[int] = set()
    found, count = [], 0
    for key in keys:
        try:
            arrays = [params[key], grads[key], *(slot[key] for slot in slots)]
        except (LookupError, TypeError):
            return None
        parameter, gradient, *state = arrays
        if not all(is_array(array) and array.shape == parameter.shape for array in arrays):
            return None
        if not all(array.flags.carray for array in (parameter, *state)) or not is_tame(gradient):
            return None  # from gradients that are tame, nothing overflows that NumPy would warn of
        seen.update(map(id, arrays))
        count += len(arrays)
        found.append((parameter, np.ascontiguousarray(gradient), *state))
    return found if len(seen) == count else None  # an array that is there twice would be updated from what was updated
