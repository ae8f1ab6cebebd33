"""Arrays by name in safetensors files, with a checksum of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._checks import Array
from .._files import write_atomically

CHECKSUM = "sha256"  # in the metadata: of all that is beside it


class SavedFileError(ValueError):
    """A saved network or checkpoint that cannot be used: damaged, of another program, or not fitting. Names the file.

    Examples:
        >>> import fastbp
        >>> open("broken.safetensors", "wb").close()
        >>> fastbp.load("broken.safetensors")
        Traceback (most recent call last):
        fastbp.networks._tensor_files.SavedFileError: broken.safetensors: is not a complete safetensors file: ...
    """


def write_tensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """One safetensors file, in one step. Raises ModuleNotFoundError without safetensors, OSError as the disk does."""
    from safetensors.numpy import save

    whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    write_atomically(path, save(whole, {**metadata, CHECKSUM: _checksum(whole, metadata)}))


def read_tensors(path: Path, kinds: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors and the metadata of a file that write_tensors wrote, whose format is one of `kinds`.

    Raises FileNotFoundError and SavedFileError.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with safe_open(path, "numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise SavedFileError(f"{path}: is not a complete safetensors file: {error}") from error
    if metadata.get("format") not in kinds:
        found, known = metadata.get("format", "no format of fastbp's"), " or ".join(map(repr, kinds))
        raise SavedFileError(f"{path}: it names {found}, expected {known} of this version of fastbp")
    if metadata.pop(CHECKSUM, None) != _checksum(tensors, metadata):
        raise SavedFileError(f"{path}: is damaged, or was changed: its checksum is not that of its content")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    described = {key: [value.dtype.str, *value.shape] for key, value in tensors.items()}
    digest = hashlib.sha256(json.dumps([described, dict(metadata)], sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(tensors[key].tobytes())
    return digest.hexdigest()
