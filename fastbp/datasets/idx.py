"""The IDX format of the MNIST files: a magic number, the sizes, then unsigned bytes (LeCun, THE MNIST DATABASE)."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE = 8
_GZIP = 31  # zlib's number for: a gzip header and the largest window


class DatasetError(ValueError):
    """A data file that is missing, damaged or not what its name says."""


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if it is gzip. Raises DatasetError, naming the file, where that fails."""
    try:
        content = path.read_bytes()
        return zlib.decompress(content, _GZIP, 1 << 20) if content[:2] == b"\x1f\x8b" else content
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file") from None
    except (OSError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def parse_idx(content: bytes, dimensions: int, path: Path) -> NDArray[np.uint8]:
    """IDX content of unsigned bytes with that many dimensions -> a read-only array.

    Raises DatasetError, naming the file, for another magic number, another length, or no samples.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise DatasetError(
            f"{path}: is not an IDX file of unsigned bytes in {dimensions} dimensions: "
            f"it begins with {content[:4].hex() or 'nothing'}, expected {magic.hex()}"
        )
    if len(content) < header:
        raise DatasetError(f"{path}: is truncated: {len(content)} bytes, the header alone has {header}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        word = "is truncated" if len(content) < expected else "is too long"
        raise DatasetError(f"{path}: {word}: {len(content)} bytes, expected {expected} for shape {shape}")
    if not math.prod(shape):
        raise DatasetError(f"{path}: holds no samples: shape {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx(path: str | Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file, gzip or not.
        dimensions: how many it must have: 3 for MNIST's images, 1 for its labels.

    Returns:
        An array of uint8, read-only.

    Raises:
        DatasetError: naming the file, where it is missing, damaged, or not of that kind. It is a ValueError.

    Examples:
        >>> from fastbp.datasets import read_idx
        >>> with open("two-labels", "wb") as file:
        ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read_idx("two-labels", dimensions=1)
        array([7, 9], dtype=uint8)
    """
    path = Path(path)
    return parse_idx(read_bytes(path), dimensions, path)
