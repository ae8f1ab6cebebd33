"""MNIST (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0) and data sets that come as four files of the same names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .idx import DatasetError, parse_idx, read_bytes

OWN_FILES = Path(__file__).parent / "mnist"
CLASSES = 10

Part = tuple[NDArray[Any], NDArray[Any]]


def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Part, Part]:
    """MNIST, which comes with fastbp: 60,000 and 10,000 images of 28 x 28; or another data set in its form.

    Args:
        normalize: x is float32 from 0.0 to 1.0, else uint8 from 0 to 255.
        flatten: x is (N, 784), else (N, 1, 28, 28).
        one_hot_label: t is one-hot (N, 10), float64, else class indices (N,), uint8.
        data_dir: a folder of files of the same names (Fashion-MNIST, KMNIST), gzip or not; without it, the environment
            variable FASTBP_DATA_DIR, and without that MNIST itself, whose files are checked against their SHA-256.

    Returns:
        (x_train, t_train), (x_test, t_test): images and labels.

    Raises:
        DatasetError: naming the file that is missing, truncated, mislabelled or of a wrong size. It is a ValueError.

    Examples:
        >>> from fastbp.datasets import load_mnist
        >>> (x_train, t_train), (x_test, t_test) = load_mnist()
        >>> x_train.shape, x_train.dtype, t_test[:3]
        ((60000, 784), dtype('float32'), array([7, 2, 1], dtype=uint8))
    """
    chosen = data_dir if data_dir is not None else os.environ.get("FASTBP_DATA_DIR") or None
    folder = OWN_FILES if chosen is None else Path(chosen)
    digests = _known_digests() if chosen is None else {}
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    train, test = (_read_part(folder, part, digests) for part in ("train", "t10k"))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DatasetError(f"{folder}: training images are {train[0].shape[1:]}, test images {test[0].shape[1:]}")
    return (
        _converted(*train, normalize, flatten, one_hot_label),
        _converted(*test, normalize, flatten, one_hot_label),
    )


def _known_digests() -> dict[str, str]:
    lines = (OWN_FILES / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def _read_part(folder: Path, part: str, digests: dict[str, str]) -> Part:
    images, image_path = _read(folder, f"{part}-images-idx3-ubyte", 3, digests)
    labels, label_path = _read(folder, f"{part}-labels-idx1-ubyte", 1, digests)
    if len(images) != len(labels):
        raise DatasetError(f"{label_path}: has {len(labels)} labels for the {len(images)} images of {image_path.name}")
    if np.max(labels) >= CLASSES:
        raise DatasetError(f"{label_path}: holds the label {np.max(labels)}, expected 0 to {CLASSES - 1}")
    return images, labels


def _read(folder: Path, name: str, dimensions: int, digests: dict[str, str]) -> tuple[NDArray[np.uint8], Path]:
    packed = folder / f"{name}.gz"
    path = packed if packed.exists() or not (folder / name).exists() else folder / name
    content = read_bytes(path)
    array = parse_idx(content, dimensions, path)
    if name in digests and hashlib.sha256(content).hexdigest() != digests[name]:
        raise DatasetError(f"{path}: is damaged: its SHA-256 is not that of MNIST's {name}")
    return array, path


def _converted(images: NDArray[Any], labels: NDArray[Any], normalize: bool, flatten: bool, one_hot_label: bool) -> Part:
    x = images.reshape(len(images), -1) if flatten else images[:, np.newaxis]
    x = x.astype(np.float32) if normalize else x.copy()
    if normalize:
        x /= np.float32(255)
    t = np.eye(CLASSES)[labels] if one_hot_label else labels.copy()
    return x, t
