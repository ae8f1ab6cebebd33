"""How gradients change parameters: SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam and AdamW, in one interface."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import numpy as np

from .. import _checks as checks
from .._checks import Array
from ..backends import get_backend


class Rule(NamedTuple):
    """An update as the backends take it: see kernels/engine/update.py for the formulas."""

    name: str
    settings: tuple[float, float, float, float, float]
    steps: int


class Optimizer:
    """What all optimizers share.

    An optimizer's state (velocities, squares) belongs to the array it was for, or, where there are only numbers, to
    the key; single values share one state. An optimizer that is given another network's arrays under the keys of one that
    still exists would mix their states, and raises ValueError instead: make one for each network.

    Args:
        learning_rate: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Attributes:
        learning_rate: may be changed at any time.
        steps: how many updates there were.

    Raises:
        TypeError: for a learning rate that is not a number.
        ValueError: for one that is below 0 or not finite.

    Examples:
        >>> import numpy as np
        >>> from fastbp import SGD
        >>> params = {"W": np.array([1.0, 2.0])}
        >>> optimizer = SGD(0.1)
        >>> optimizer.update(params, {"W": np.array([5.0, 0.0])})
        >>> params["W"], optimizer.steps
        (array([0.5, 2. ]), 1)
    """

    name = ""
    slots = 0

    def __init__(self, learning_rate: float = 0.01, backend: str | None = None):
        self.learning_rate = checks.not_negative("learning_rate", learning_rate)
        self.backend, self._kernels = get_backend(backend)
        self.steps = 0
        self._memories: dict[Any, Array] = {}
        self._owners: dict[Any, weakref.ref[Array]] = {}

    def update(self, params: Any, grads: Any) -> Any:
        """Move parameters against their gradients.

        Args:
            params: a dict of arrays, changed in place by the gradients under the same keys; a dict of Python numbers, into
                which the new ones are put; or one array or number.
            grads: of the same form and shapes.

        Returns:
            None for dicts; else the new value, a new array or a float.

        Raises:
            KeyError: for a missing gradient.
            TypeError: for other dtypes.
            ValueError: for other shapes and read-only parameters. All are checked before the first one is changed.
        """
        if isinstance(params, Mapping):
            self._update_all(params, grads)
            return None
        single = isinstance(params, np.ndarray)
        value = checks.real_array("params", params)
        gradient = checks.real_array("grads", grads)
        checks.same_shape("grads", gradient, value.shape, "params")
        new = value.astype(value.dtype if value.dtype.kind == "f" else np.float64)
        self._change([(None, new, gradient)])
        return new if single else float(new)

    def _update_all(self, params: Mapping[Any, Any], grads: Mapping[Any, Any]) -> None:
        checked, numbers = [], {}
        for key, parameter in params.items():
            name, gradient = f"params[{key!r}]", grads[key]
            if isinstance(parameter, np.ndarray):
                checks.floating_array(name, parameter)
                if not parameter.flags.writeable:
                    raise ValueError(f"{name} must be writable, got a read-only array")
            else:
                if not isinstance(params, MutableMapping) or np.ndim(checks.real_array(name, parameter)):
                    raise TypeError(f"{name} must be an array or a number, got {type(parameter).__name__}")
                parameter = numbers[key] = np.array(parameter, np.float64)
            gradient = checks.real_array(f"grads[{key!r}]", gradient)
            checks.same_shape(f"grads[{key!r}]", gradient, parameter.shape, name)
            checked.append((key, parameter, gradient))
        for key, parameter, _ in checked:
            self._memory(key, parameter, owned=key not in numbers)
        self._change(checked)
        for key, value in numbers.items():
            params[key] = float(value)  # type: ignore[index]

    def _change(self, items: list[tuple[Any, Array, Array]]) -> None:
        rule = self.rule
        for key, parameter, gradient in items:
            memory = self._memory(key, parameter, owned=False)
            dtype = checks.compute_dtype(parameter.dtype)
            work = np.ascontiguousarray(parameter, dtype=dtype)  # of one dimension at least
            gradient = np.ascontiguousarray(gradient, dtype=dtype)
            self._kernels.optimizer_update(rule, work, gradient, memory.reshape(self.slots, *work.shape))
            if work is not parameter:
                parameter[...] = work.reshape(parameter.shape)
        self.steps += 1

    def memory_of(self, parameters: Array) -> Array:
        """What is remembered for one flat vector, (slots, P), in its dtype: zeros at first. Raises ValueError, see above."""
        return self._memory("parameters", parameters, owned=True)

    def _memory(self, key: Any, parameter: Array, *, owned: bool) -> Array:
        shape = (self.slots, *parameter.shape)
        if owned and self.slots:
            owner = self._owners.get(key, lambda: None)()
            if owner is not None and owner is not parameter:
                raise ValueError(
                    f"this {type(self).__name__} already updates another array as {key!r}, of a network that still "
                    "exists; make one optimizer for each network"
                )
            if owner is None:
                self._owners[key] = weakref.ref(parameter)
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = np.zeros(shape, checks.compute_dtype(parameter.dtype))
        elif memory.shape != shape:
            what = "params" if key is None else f"params[{key!r}]"
            raise ValueError(
                f"{what} has shape {parameter.shape}, but this {type(self).__name__} has updated one of shape "
                f"{memory.shape[1:]} before; make one optimizer for each"
            )
        return memory

    @property
    def rule(self) -> Rule:
        """The next update, for the backends."""
        first, second, epsilon, weight_decay = self._settings()
        rate = checks.not_negative("learning_rate", self.learning_rate)
        return Rule(self.name, (rate, first, second, epsilon, weight_decay), self.steps)

    def _settings(self) -> tuple[float, float, float, float]:
        """Momentum, decay or beta1; beta2; epsilon; weight decay."""
        return 0.0, 0.0, 0.0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"_kernels", "_owners"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._owners = {}
        self.backend, self._kernels = get_backend(self.backend)


class SGD(Optimizer):
    """Plain gradient descent: parameter -= learning_rate * gradient.

    Args:
        learning_rate: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import SGD
        >>> SGD(learning_rate=0.1).update(1.0, 2.0)
        0.8
    """

    name = "sgd"

    def __init__(self, learning_rate: float = 0.01, backend: str | None = None):
        super().__init__(learning_rate, backend)


class Momentum(Optimizer):
    """v = momentum * v - learning_rate * gradient; parameter += v.

    Args:
        learning_rate: 0 or more.
        momentum: from 0 to below 1.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import Momentum
        >>> optimizer = Momentum(learning_rate=0.1, momentum=0.5)
        >>> optimizer.update(optimizer.update(1.0, 2.0), 2.0)
        0.5
    """

    name = "momentum"
    slots = 1

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.9, backend: str | None = None):
        super().__init__(learning_rate, backend)
        self.momentum = checks.below_one("momentum", momentum)

    def _settings(self) -> tuple[float, float, float, float]:
        return self.momentum, 0.0, 0.0, 0.0


class Nesterov(Momentum):
    """Nesterov's accelerated gradient, in the form of Bengio et al. 2012, as in the book's current version.

    Args:
        learning_rate: 0 or more.
        momentum: from 0 to below 1.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import Nesterov
        >>> round(Nesterov(learning_rate=0.1, momentum=0.5).update(1.0, 2.0), 12)
        0.7
    """

    name = "nesterov"


class AdaGrad(Optimizer):
    """h += gradient²; parameter -= learning_rate * gradient / (sqrt(h) + epsilon) (Duchi, Hazan, Singer 2011).

    Args:
        learning_rate: 0 or more.
        epsilon: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import AdaGrad
        >>> round(AdaGrad(learning_rate=0.1).update(1.0, 2.0), 6)
        0.9
    """

    name = "adagrad"
    slots = 1

    def __init__(self, learning_rate: float = 0.01, epsilon: float = 1e-7, backend: str | None = None):
        super().__init__(learning_rate, backend)
        self.epsilon = checks.not_negative("epsilon", epsilon)

    def _settings(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, self.epsilon, 0.0


class RMSprop(Optimizer):
    """h = decay_rate * h + (1 - decay_rate) * gradient²; parameter -= learning_rate * gradient / (sqrt(h) + epsilon).

    Args:
        learning_rate: 0 or more.
        decay_rate: from 0 to below 1.
        epsilon: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import RMSprop
        >>> round(RMSprop(learning_rate=0.1, decay_rate=0.75).update(1.0, 2.0), 6)
        0.8
    """

    name = "rmsprop"
    slots = 1

    def __init__(
        self,
        learning_rate: float = 0.01,
        decay_rate: float = 0.99,
        epsilon: float = 1e-7,
        backend: str | None = None,
    ):
        super().__init__(learning_rate, backend)
        self.decay_rate = checks.below_one("decay_rate", decay_rate)
        self.epsilon = checks.not_negative("epsilon", epsilon)

    def _settings(self) -> tuple[float, float, float, float]:
        return self.decay_rate, 0.0, self.epsilon, 0.0


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), in the book's form: learning_rate_t * m / (sqrt(v) + epsilon).

    Args:
        learning_rate: 0 or more.
        beta1: of the mean of the gradients, from 0 to below 1.
        beta2: of the mean of their squares, from 0 to below 1.
        epsilon: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import Adam
        >>> round(Adam(learning_rate=0.1).update(1.0, 2.0), 5)
        0.9
    """

    name = "adam"
    slots = 2

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
        backend: str | None = None,
    ):
        super().__init__(learning_rate, backend)
        self.beta1 = checks.below_one("beta1", beta1)
        self.beta2 = checks.below_one("beta2", beta2)
        self.epsilon = checks.not_negative("epsilon", epsilon)

    def _settings(self) -> tuple[float, float, float, float]:
        return self.beta1, self.beta2, self.epsilon, 0.0


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): also parameter *= 1 - learning_rate * weight_decay.

    Args:
        learning_rate: 0 or more.
        beta1: of the mean of the gradients, from 0 to below 1.
        beta2: of the mean of their squares, from 0 to below 1.
        epsilon: 0 or more.
        weight_decay: 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Examples:
        >>> from fastbp import AdamW
        >>> round(AdamW(learning_rate=0.1, weight_decay=0.5).update(1.0, 2.0), 5)
        0.85
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.01,
        backend: str | None = None,
    ):
        super().__init__(learning_rate, beta1, beta2, epsilon, backend)
        self.weight_decay = checks.not_negative("weight_decay", weight_decay)

    def _settings(self) -> tuple[float, float, float, float]:
        return self.beta1, self.beta2, self.epsilon, self.weight_decay


OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW)
}
