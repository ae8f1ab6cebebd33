"""What a saved network says of pictures, and how well it does on a test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import Array
from ..datasets.pictures import SIDE, read_digit
from ..networks._network import Network


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture: probabilities (classes,), and the (28, 28) image that the network was given."""

    path: Path
    probabilities: Array
    image: Array

    @property
    def label(self) -> int:
        return int(self.probabilities.argmax())

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "label": self.label,
            "probabilities": [float(value) for value in self.probabilities],
        }


def predict_pictures(network: Network, paths: Sequence[Path]) -> list[Prediction]:
    """Raises ValueError for a network that does not classify images of 28 x 28, else what read_digit raises."""
    _check_classifier(network, SIDE * SIDE)
    images = [read_digit(path) for path in paths]
    x = np.stack(images).reshape(len(images), *network.input_shape) / np.float32(255)
    return [
        Prediction(path, probabilities, image)
        for path, probabilities, image in zip(paths, network.predict_proba(x), images, strict=True)
    ]


@dataclass(frozen=True)
class TestResult:
    """On n images: confusion[t, y] counts those of class t that were taken for y; probabilities (n, classes)."""

    confusion: Array
    labels: Array
    probabilities: Array

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def mistakes(self) -> Array:
        """The numbers of the images that were mistaken, the most confident first."""
        predicted = self.probabilities.argmax(axis=1)
        wrong = np.flatnonzero(predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong, predicted[wrong]], kind="stable")]

    def to_json(self) -> dict[str, Any]:
        predicted = self.probabilities.argmax(axis=1)
        return {
            "accuracy": self.accuracy,
            "confusion": self.confusion.tolist(),
            "mistakes": [
                {
                    "image": int(number),
                    "label": int(self.labels[number]),
                    "predicted": int(predicted[number]),
                    "probability": float(self.probabilities[number, predicted[number]]),
                }
                for number in self.mistakes
            ],
        }


def evaluate_on(network: Network, images: Array, labels: Array) -> TestResult:
    """images (n, features), uint8, 0 to 255; labels (n,). Raises ValueError for a network of another kind or size."""
    classes = max(network.outputs, int(labels.max()) + 1)
    _check_classifier(network, images.shape[1])
    x, size = images.reshape(-1, *network.input_shape), network.rows_at_a_time
    parts = [network.predict_proba(x[first : first + size] / np.float32(255)) for first in range(0, len(x), size)]
    probabilities, confusion = np.concatenate(parts), np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    return TestResult(confusion, labels, probabilities)


def _check_classifier(network: Network, features: int) -> None:
    if not network.classifies:
        raise ValueError(f"the network has the loss {network.loss_name!r}; a classifier is needed")
    if math.prod(network.input_shape) != features:
        shape = " x ".join(map(str, network.input_shape))
        raise ValueError(f"the network takes {shape} numbers for each image, the images have {features}")
