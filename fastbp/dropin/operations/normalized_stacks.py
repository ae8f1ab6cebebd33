"""What all layers of a stack do at once where batch normalisation stands before some of the activations: see `stacks`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..beginning.ahead import ahead
from ..objects.arguments import FLOAT, INPUTS, LARGEST_EXPONENT, PASS, TAME, WASTED, fits, is_array, no_gradient
from .kernel_calls import kernels
from .stacks import Dropped, Stack, is_matrix, is_worth_it

BY_RUNNING = object()  # in the place of a momentum: a prediction normalises by running means and variances
NOTHING_KEPT = (None,) * 7


class NormalizedStack(Stack):
    """Layers with these activations, in float64. epsilons: what normalising a layer adds to the variance, or None."""

    def __init__(
        self, activations: tuple[str, ...], epsilons: tuple[float | None, ...], dropped: tuple[Dropped | None, ...] = ()
    ):
        super().__init__(activations, dropped)
        self._epsilons = epsilons

    def forward(
        self, x: Any, weights: tuple[Any, ...], biases: tuple[Any, ...], ratios: tuple[Any, ...] = (),
        norms: tuple[Any, ...] = (),
    ) -> Any:  # fmt: skip
        """-> as Stack.forward, and for each layer what normalising gave (N, M), and what it keeps.

        norms: of each layer gamma, beta, running mean and variance, momentum, or BY_RUNNING for a prediction; or None. Kept
        are xc, xn (N, M), std, mean, variance, the new running mean and variance, of a prediction None, and the old ones
        (M,).
        """
        known = self._known(weights, biases)
        if known is None or weights[0].dtype != FLOAT or not fits(x, weights[0]) or x.dtype not in INPUTS:
            return PASS
        rows = x.reshape(len(x), -1)
        if not is_worth_it(rows, known.products):
            return PASS
        given: list[Any] = []
        for norm, b in zip(norms, biases, strict=True):
            if norm is not None:
                gamma, beta, mean, variance, momentum = norm
                if mean is None and variance is None:
                    mean, variance = np.zeros(b.shape), np.zeros(b.shape)
                if momentum is BY_RUNNING:
                    momentum = None
                elif not isinstance(momentum, int | float):
                    return PASS
                if not _are_vectors((gamma, beta, mean, variance), b.shape):
                    return PASS
                norm = gamma, beta, mean, variance, momentum
            given.append(norm)
        ahead.compile_meanwhile("normalized_stack", FLOAT, x.dtype)
        if (drawn := self._drawn(ratios, len(rows), weights)) is None:
            return PASS
        zs, ys, outs, masks, kept, sizes = known.kernel.forward(rows, weights, biases, drawn.drops, given)
        if not self._are_tame(sizes[0], sizes[1], given):
            drawn.undo()
            return WASTED
        kept = [
            None if norm is None else (*(one or NOTHING_KEPT), *norm[2:4])
            for one, norm in zip(kept, given, strict=True)
        ]
        return rows, zs, outs, masks, drawn.keeps, ys, kept

    def _are_tame(self, largest: list[float], before: list[float], norms: list[Any]) -> bool:
        if not max(largest) < TAME[FLOAT.itemsize] or max(before) > LARGEST_EXPONENT[FLOAT.itemsize]:
            return False
        return not any(
            name == "sigmoid" and norm is None and size > LARGEST_EXPONENT[FLOAT.itemsize]
            for size, name, norm in zip(largest, self._activations, norms, strict=True)
        )

    def backward(
        self, dout: Any, inputs: tuple[Any, ...], weights: tuple[Any, ...], saved: tuple[Any, ...],
        shapes: tuple[Any, ...], needs_dx: bool, dropped: tuple[Any, ...] = (), norms: tuple[Any, ...] = (),
    ) -> Any:  # fmt: skip
        """-> as Stack.backward, and dgamma and dbeta of each layer that is normalised, else None.

        norms: of each layer gamma, std (M,), xc, xn (N, M), how many rows its input had, and the shape of that, or None.
        """
        known = self._known(weights, ())
        if known is None or weights[0].dtype != FLOAT:
            return PASS
        if not self._are_fitting(dout, inputs, weights, shapes, known.products):
            return PASS
        masks, drops, given = self._masks(saved, inputs), self._drops(dropped, inputs), list[Any]()
        for norm, W in zip(norms, weights, strict=True):
            if norm is not None:
                gamma, std, xc, xn, count, shape = norm
                expected = len(dout), W.shape[1]
                if count != len(dout) or shape != expected or not _are_vectors((gamma, std), expected[1:]):
                    return PASS
                if not is_matrix(xc, FLOAT, expected) or not is_matrix(xn, FLOAT, expected):
                    return PASS
                norm = gamma, xc, xn, std
            given.append(norm)
        if masks is None or drops is None:
            return PASS
        results = known.kernel.backward(dout, inputs, weights, masks, needs_dx, drops or None, given)
        dx, dWs, dbs, dnorms, largest = results
        if not largest < TAME[FLOAT.itemsize]:
            return WASTED  # a mask may hide what is not finite
        return no_gradient(shapes[0]) if dx is None else dx.reshape(shapes[0]), dWs, dbs, dnorms

    def _kernel(self, widths: tuple[int, ...], dtype: Any) -> Any:
        return kernels.normalized_stack(widths, self._activations, self._epsilons, dtype)


def _are_vectors(values: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    return all(is_array(one) and one.shape == shape for one in values)
