"""A network as functions on the tuple (layers, weights, biases), W being (outputs, inputs): backpropagation from scratch.

The style of from-scratch tutorials: `layers` are the widths, such as [2, 3, 1]; weights[l] is (layers[l + 1], layers[l]),
biases[l] (layers[l + 1],), as lists or arrays. Hidden layers have a sigmoid, the output is the identity, the loss of a
sample is half the squared error, ½ Σ (y - t)². A sample is x (inputs,); a batch (N, inputs) is computed as one matrix, and
its gradients are the sums over its samples. Nothing that is passed in is changed; new arrays are float64.

`deltas` is the delta rule in its general form: any depth, any differentiable hidden function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _checks as checks
from ._checks import Array
from ._progress import progress_bar
from .backends import get_backend

Model = tuple[Sequence[int], Sequence[ArrayLike], Sequence[ArrayLike]]
Function = Callable[[Array], Array]
HiddenFunction = str | tuple[Function, Function]  # a name, or f and its derivative, both of u


def _checked(
    layers: Sequence[int], weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]
) -> list[tuple[Array, Array]]:
    """[(W, b), ...] in float64. Raises TypeError and ValueError, naming the one that does not fit."""
    if len(layers) < 2:
        raise ValueError(f"layers must hold at least two widths, got {list(layers)}")
    for i, width in enumerate(layers):
        checks.whole_number(f"layers[{i}]", width, at_least=1)
    for name, values in (("weights", weights), ("biases", biases)):
        if len(values) != len(layers) - 1:
            raise ValueError(f"{name} must have one entry for each of the {len(layers) - 1} layers, got {len(values)}")
    pairs = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(layers)):
        W, b = checks.real_array(f"weights[{i}]", weights[i]), checks.real_array(f"biases[{i}]", biases[i])
        if W.shape != (outputs, inputs):
            hint = "; it seems to be transposed: here W is (outputs, inputs)" if W.shape == (inputs, outputs) else ""
            raise ValueError(f"weights[{i}] must have shape ({outputs}, {inputs}), got {W.shape}{hint}")
        checks.same_shape(f"biases[{i}]", b, (outputs,), f"layer {i + 1}'s outputs")
        pairs.append((W.astype(np.float64), b.astype(np.float64)))
    return pairs


def _rows(name: str, value: ArrayLike, width: int) -> Array:
    """(width,) or (N, width) as (N, width), float64."""
    array = checks.real_array(name, value)
    if array.ndim not in (1, 2) or array.shape[-1] != width:
        raise ValueError(f"{name} must have shape ({width},), or (N, {width}) for a batch, got {array.shape}")
    return np.atleast_2d(array).astype(np.float64)


def forward_prop(
    layers: Sequence[int],
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    x: ArrayLike,
    cache_mode: bool = False,
    backend: str | None = None,
) -> Any:
    """The output of a network for one sample or for a batch.

    Args:
        layers: the widths, such as [2, 3, 1].
        weights: one array (layers[l + 1], layers[l]) for each layer.
        biases: one array (layers[l + 1],) for each layer.
        x: (inputs,) or (N, inputs).
        cache_mode: return what back_prop needs, too.
        backend: "numba" or "numpy"; None for the default.

    Returns:
        y (outputs,) or (N, outputs), float64; with cache_mode (y, outs, sums): the input and each layer's output, and each
        layer's W x + b, lists of arrays shaped like x and y.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes that do not fit.

    Examples:
        >>> from fastbp.functional import forward_prop
        >>> forward_prop([2, 1], [[[1.0, 2.0]]], [[0.5]], [3.0, 4.0])
        array([11.5])
    """
    pairs, kernels = _checked(layers, weights, biases), get_backend(backend)[1]
    outs, sums = [_rows("x", x, layers[0])], []
    for W, b in pairs:
        sums.append(kernels.affine_forward(outs[-1], W.T, b))
        outs.append(kernels.sigmoid_forward(sums[-1]) if len(sums) < len(pairs) else sums[-1].copy())
    if np.ndim(x) == 1:
        outs, sums = [out[0] for out in outs], [total[0] for total in sums]
    return (outs[-1], outs, sums) if cache_mode else outs[-1]


def back_prop(
    layers: Sequence[int],
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    y_true: ArrayLike,
    cached_outs: Sequence[ArrayLike],
    cached_sums: Sequence[ArrayLike],
    backend: str | None = None,
) -> tuple[list[Array], list[Array]]:
    """The gradients of half the squared error with respect to all weights and biases.

    Args:
        layers: the widths.
        weights: as forward_prop takes them.
        biases: as forward_prop takes them.
        y_true: the targets (outputs,) or (N, outputs).
        cached_outs: of forward_prop(..., cache_mode=True).
        cached_sums: likewise.
        backend: "numba" or "numpy"; None for the default.

    Returns:
        grads_w, grads_b: shaped like weights and biases, float64; for a batch, the sums over its samples.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes that do not fit.

    Examples:
        >>> from fastbp.functional import back_prop, forward_prop
        >>> layers, weights, biases = [2, 1], [[[1.0, 2.0]]], [[0.5]]
        >>> y, outs, sums = forward_prop(layers, weights, biases, [3.0, 4.0], cache_mode=True)
        >>> back_prop(layers, weights, biases, [10.5], outs, sums)
        ([array([[3., 4.]])], [array([1.])])
    """
    pairs, kernels = _checked(layers, weights, biases), get_backend(backend)[1]
    for name, cached, count in (("cached_outs", cached_outs, len(layers)), ("cached_sums", cached_sums, len(pairs))):
        if len(cached) != count:
            raise ValueError(f"{name} must have {count} entries, as forward_prop returns them, got {len(cached)}")
    outs = [
        _rows(f"cached_outs[{i}]", out, width) for i, (out, width) in enumerate(zip(cached_outs, layers, strict=True))
    ]
    target = _rows("y_true", y_true, layers[-1])
    checks.same_shape("y_true", target, outs[-1].shape, "the output")
    delta = outs[-1] - target
    grads_w: list[Array] = []
    grads_b: list[Array] = []
    for i in reversed(range(len(pairs))):
        dx, dW, db = kernels.affine_backward(delta, outs[i], pairs[i][0].T)
        grads_w.insert(0, np.ascontiguousarray(dW.T))
        grads_b.insert(0, db)
        if i:
            assert dx is not None  # it is asked for
            delta = kernels.sigmoid_backward(dx, outs[i])
    return grads_w, grads_b


def update_params(
    layers: Sequence[int],
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    grads_w: Sequence[ArrayLike],
    grads_b: Sequence[ArrayLike],
    lr: float = 0.1,
) -> tuple[list[Array], list[Array]]:
    """weights - lr * grads_w and biases - lr * grads_b.

    Args:
        layers: the widths.
        weights: as forward_prop takes them.
        biases: as forward_prop takes them.
        grads_w: as back_prop returns them.
        grads_b: as back_prop returns them.
        lr: the learning rate, 0 or more.

    Returns:
        The new weights and biases, new arrays.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes that do not fit, and lr below 0.

    Examples:
        >>> from fastbp.functional import update_params
        >>> update_params([2, 1], [[[1.0, 2.0]]], [[0.5]], [[[10.0, 0.0]]], [[5.0]], lr=0.1)
        ([array([[0., 2.]])], [array([0.])])
    """
    lr = checks.not_negative("lr", lr)
    pairs, gradients = _checked(layers, weights, biases), _checked(layers, grads_w, grads_b)
    moved = [(W - lr * dW, b - lr * db) for (W, b), (dW, db) in zip(pairs, gradients, strict=True)]
    return [W for W, _ in moved], [b for _, b in moved]


def accumulate(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> list[Array]:
    """The sums of two lists of arrays, entry by entry.

    Args:
        first: arrays.
        second: as many, of the same shapes.

    Returns:
        New arrays.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: where they do not match.

    Examples:
        >>> from fastbp.functional import accumulate
        >>> accumulate([[1, 2], [3]], [[10, 20], [30]])
        [array([11, 22]), array([33])]
    """
    if len(first) != len(second):
        raise ValueError(f"second must have {len(first)} entries, as first has, got {len(second)}")
    sums = []
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        a, b = checks.real_array(f"first[{i}]", a), checks.real_array(f"second[{i}]", b)
        checks.same_shape(f"second[{i}]", b, a.shape, f"first[{i}]")
        sums.append(np.asarray(a + b))
    return sums


def mean_element(values: Sequence[ArrayLike], count: float) -> list[Array]:
    """A list of arrays, each divided by a number.

    Args:
        values: arrays.
        count: above 0.

    Returns:
        New arrays.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: unless count is above 0.

    Examples:
        >>> from fastbp.functional import mean_element
        >>> mean_element([[2, 4]], 2)
        [array([1., 2.])]
    """
    count = checks.positive("count", count)
    return [np.asarray(checks.real_array(f"values[{i}]", value) / count) for i, value in enumerate(values)]


def sseloss(y_pred: ArrayLike, y_true: ArrayLike) -> float:
    """Half the sum of squared errors, ½ Σ (y_pred - y_true)².

    Args:
        y_pred: the outputs, of any shape.
        y_true: the targets, of the same shape.

    Returns:
        A float.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes that differ.

    Examples:
        >>> from fastbp.functional import sseloss
        >>> sseloss([1.0, 3.0], [0.0, 0.0])
        5.0
    """
    y, t = checks.real_array("y_pred", y_pred), checks.real_array("y_true", y_true)
    checks.same_shape("y_true", t, y.shape, "y_pred")
    return float(np.sum((y.astype(np.float64) - t) ** 2) / 2)


def optimize(
    model: Model, x: ArrayLike, y: ArrayLike, lr: float = 0.1, backend: str | None = None
) -> tuple[tuple[Sequence[int], list[Array], list[Array]], float]:
    """One update with the mean gradient of a batch.

    Gradients and loss, summed over the batch, are divided by the batch size times the number of outputs.

    Args:
        model: (layers, weights, biases).
        x: (N, inputs) or (inputs,).
        y: the targets (N, outputs) or (outputs,).
        lr: the learning rate, 0 or more.
        backend: "numba" or "numpy"; None for the default.

    Returns:
        The new model, and the batch's loss before the update.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes that do not fit, and lr below 0.

    Examples:
        >>> from fastbp.functional import optimize
        >>> model, loss = optimize(([1, 1], [[[1.0]]], [[0.0]]), [[2.0]], [[0.0]], lr=0.1)
        >>> model, loss
        (([1, 1], [array([[0.6]])], [array([-0.2])]), 2.0)
    """
    layers, weights, biases = model
    x, y = _rows("x", x, layers[0]), _rows("y", y, layers[-1])
    if not len(x):
        raise ValueError("x must have at least one row, got none")
    checks.same_shape("y", y, (len(x), layers[-1]), "x's rows and the outputs")
    y_pred, outs, sums = forward_prop(layers, weights, biases, x, True, backend)
    grads_w, grads_b = back_prop(layers, weights, biases, y, outs, sums, backend)
    count = len(x) * layers[-1]
    new = update_params(layers, weights, biases, mean_element(grads_w, count), mean_element(grads_b, count), lr)
    return (layers, *new), sseloss(y_pred, y) / count


def train(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    batch_size: int = 32,
    epochs: int = 10,
    lr: float = 0.1,
    verbose: int = 10,
    *,
    seed: int | None = None,
    backend: str | None = None,
) -> tuple[tuple[Sequence[int], list[Array], list[Array]], list[float]]:
    """Train for some passes over the data.

    Every epoch takes the samples in the order in which they are or, with a seed, in a new random order; its last batch is
    what is left.

    Args:
        model: (layers, weights, biases).
        x: (N, inputs).
        y: the targets (N, outputs).
        batch_size: from 1 to N.
        epochs: at least 1.
        lr: the learning rate, 0 or more.
        verbose: print the loss of every so many epochs; 0 prints nothing.
        seed: for numpy.random.default_rng; None leaves the order as it is.
        backend: "numba" or "numpy"; None for the default.

    Returns:
        The new model, and the mean loss of each epoch.

    Raises:
        TypeError: for dtypes that are not real numbers.
        ValueError: for shapes and numbers that do not fit.
        FloatingPointError: where the loss stops being finite.

    Examples:
        >>> from fastbp.functional import train
        >>> start = ([1, 1], [[[1.0]]], [[0.0]])
        >>> model, losses = train(start, [[1.0], [2.0]], [[2.0], [4.0]], batch_size=2, epochs=20, verbose=0)
        >>> len(losses), round(losses[-1], 6)
        (20, 0.007633)
    """
    layers = model[0]
    _checked(*model)
    x, y = _rows("x", x, layers[0]), _rows("y", y, layers[-1])
    batch_size = checks.whole_number("batch_size", batch_size, at_least=1)
    epochs, verbose = (
        checks.whole_number("epochs", epochs, at_least=1),
        checks.whole_number("verbose", verbose, at_least=0),
    )
    if not len(x):
        raise ValueError("x must have at least one row, got none")
    checks.same_shape("y", y, (len(x), layers[-1]), "x's rows and the outputs")
    if batch_size > len(x):
        raise ValueError(f"batch_size must be at most the number of samples, {len(x)}, got {batch_size}")
    random = None if seed is None else np.random.default_rng(seed)
    losses: list[float] = []
    current: Any = model
    with progress_bar("training", epochs, shown=not verbose and epochs > 100) as advance:
        for epoch in range(epochs):
            order = np.arange(len(x)) if random is None else random.permutation(len(x))
            total = 0.0
            for start in range(0, len(x), batch_size):
                rows = order[start : start + batch_size]
                current, loss = optimize(current, x[rows], y[rows], lr, backend)
                total += loss * len(rows)
            losses.append(total / len(x))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss of epoch {epoch + 1} is {losses[-1]}; lr={lr} is probably too large"
                )
            if verbose and (epoch + 1) % verbose == 0:
                print(f"epoch {epoch + 1}: loss {losses[-1]}")
            advance(epoch + 1, f"loss {losses[-1]:.6f}")
    return current, losses


HIDDEN: dict[str, tuple[Function, Function]] = {
    "sigmoid": (
        lambda u: 1 / (1 + np.exp(-u)),
        lambda u: np.exp(-np.abs(u)) / (1 + np.exp(-np.abs(u))) ** 2,
    ),
    "tanh": (np.tanh, lambda u: 1 - np.tanh(u) ** 2),
    "relu": (lambda u: np.maximum(u, 0), lambda u: (u > 0).astype(u.dtype)),
    "leaky_relu": (lambda u: np.where(u > 0, u, 0.01 * u), lambda u: np.where(u > 0, 1.0, 0.01)),
    "identity": (lambda u: u, np.ones_like),
}


def deltas(
    layers: Sequence[int],
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    x: ArrayLike,
    d: ArrayLike,
    f: HiddenFunction = "sigmoid",
    reduction: str = "sum",
) -> tuple[list[Array], list[Array], list[Array]]:
    """The delta rule: every δ of the network, and the gradients made of them.

        u^l = W^l z^(l-1) + b^l,  z^l = f(u^l),  z^L = u^L,  E = ½ Σ (z^L - d)²
        δ^L = u^L - d,  δ^l = f'(u^l) * (W^(l+1)ᵀ δ^(l+1)),  ∂E/∂W^l = Σ δ^l z^(l-1)ᵀ,  ∂E/∂b^l = Σ δ^l

    Args:
        layers: the widths, any number of them.
        weights: as forward_prop takes them.
        biases: as forward_prop takes them.
        x: (inputs,) or (N, inputs).
        d: the targets (outputs,) or (N, outputs).
        f: the hidden function: "sigmoid", "tanh", "relu", "leaky_relu" or "identity", or the pair (f, f') of functions of u.
        reduction: the gradients are the "sum" over the samples, or their "mean".

    Returns:
        The δ of layers 1 to L, shaped like the layers' outputs, each sample's own; then ∂E/∂W and ∂E/∂b, lists.

    Raises:
        TypeError: for dtypes that are not real numbers, and other f.
        ValueError: for shapes and names that do not fit.

    Examples:
        >>> from fastbp.functional import deltas
        >>> found, grads_w, grads_b = deltas([1, 1, 1], [[[2.0]], [[3.0]]], [[0.0], [0.0]], [1.0], [5.0], f="identity")
        >>> found
        [array([3.]), array([1.])]
        >>> grads_w
        [array([[3.]]), array([[2.]])]
    """
    pairs = _checked(layers, weights, biases)
    function, derivative = _hidden(f)
    checks.one_of("reduction", reduction, ("sum", "mean"))
    z, sums = [_rows("x", x, layers[0])], []
    target = _rows("d", d, layers[-1])
    checks.same_shape("d", target, (len(z[0]), layers[-1]), "x's rows and the outputs")
    for W, b in pairs:
        sums.append(z[-1] @ W.T + b)
        z.append(function(sums[-1]) if len(sums) < len(pairs) else sums[-1])
    found = [sums[-1] - target]
    for (W, _), u in zip(pairs[:0:-1], sums[-2::-1], strict=True):
        found.insert(0, derivative(u) * (found[0] @ W))
    scale = 1 / max(1, len(target)) if reduction == "mean" else 1.0
    grads_w = [scale * (delta.T @ before) for delta, before in zip(found, z[:-1], strict=True)]
    grads_b = [scale * delta.sum(axis=0) for delta in found]
    return [delta[0] for delta in found] if np.ndim(x) == 1 else found, grads_w, grads_b


def _hidden(f: HiddenFunction) -> tuple[Function, Function]:
    if isinstance(f, str):
        return HIDDEN[checks.one_of("f", f, HIDDEN)]
    if not (isinstance(f, tuple) and len(f) == 2 and all(map(callable, f))):
        raise TypeError(f"f must be one of {', '.join(map(repr, HIDDEN))} or a pair of functions, f and its derivative")
    return f
