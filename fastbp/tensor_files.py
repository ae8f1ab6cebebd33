"""Arrays by name in safetensors files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .checks import Array
from .files import write_atomically


class SavedFileError(ValueError):
    """A file that is not what it should be: the message names the file and what is wrong with it."""


def write_tensors(path: Path, tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    """One safetensors file, in one step. Raises ModuleNotFoundError without safetensors, OSError as the disk does."""
    from safetensors.numpy import save

    content = save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata)
    write_atomically(path, content)


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises FileNotFoundError and SavedFileError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with safe_open(path, "numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise SavedFileError(f"{path}: is no whole safetensors file: {error}") from error
