"""Cross-entropies as people write them, of softmax's result y (N, C): few numbers, which NumPy computes.

Each takes y, labels (N,), t as the layer was given it, and the epsilon that keeps the logarithm finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _of_labels(y: Any, labels: Any, t: Any, epsilon: float) -> Any:
    return -np.sum(np.log(y[np.arange(len(labels)), labels] + epsilon)) / len(labels)


def _of_targets(y: Any, labels: Any, t: Any, epsilon: float) -> Any:
    return -np.sum(t * np.log(y + epsilon)) / len(labels)


def _of_clipped_labels(y: Any, labels: Any, t: Any, epsilon: float) -> Any:
    return -np.sum(np.log(np.clip(y[np.arange(len(labels)), labels], epsilon, 1 - epsilon))) / len(labels)


def _of_clipped_targets(y: Any, labels: Any, t: Any, epsilon: float) -> Any:
    return -np.sum(t * np.log(np.clip(y, epsilon, 1 - epsilon))) / len(labels)


def _summed(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda y, labels, t, epsilon: of(y, labels, t, epsilon) * len(labels)


LOSSES: dict[str, Callable[..., Any]] = {
    "log of labels": _of_labels,
    "log times targets": _of_targets,
    "log of clipped labels": _of_clipped_labels,
    "log of clipped targets": _of_clipped_targets,
    "summed log of labels": _summed(_of_labels),
    "summed log times targets": _summed(_of_targets),
}
