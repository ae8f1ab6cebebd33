"""Networks on disk: safetensors files, weights by name, and what the network is in the metadata.

Nothing is pickled; the one pickle that can be read, the book's params.pkl, goes through an unpickler that knows arrays only.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import _checks as checks
from .._checks import Array
from . import _mlp, _sequential
from ._mlp import MLP
from ._network import Network
from ._sequential import Sequential
from ._tensor_files import SavedFileError, read_tensors


def load(
    path: str | os.PathLike[str], backend: str | None = None, own_layers: Mapping[str, Callable[[], Any]] | None = None
) -> Network:
    """Read the network that `save` wrote.

    Args:
        path: a .safetensors file.
        backend: "numba" or "numpy"; None for the default.
        own_layers: for networks with layers of your own classes, {"Name": what makes one, the class or a lambda}; where
            several of a class differ, {"Name1": ..., "Name2": ...}. A file keeps their parameters and statistics, and
            nothing in it is ever executed.

    Returns:
        The network, with the dtype that it had: an MLP, or a Sequential.

    Raises:
        FileNotFoundError: where there is no such file.
        SavedFileError: for a file that is damaged, from another program, of a newer version, or whose weights do not fit
            or are not finite. It is a ValueError.
        ModuleNotFoundError: without safetensors (extra `save`).
        TypeError: for own_layers that is no mapping of names to what can be called.

    Examples:
        >>> import fastbp
        >>> fastbp.MLP((4, 3), seed=0).save("small.safetensors")
        >>> fastbp.load("small.safetensors")
        MLP((4, 3), activation=(), loss='cross_entropy', dtype='float32', backend='numba')
    """
    own_layers = {} if own_layers is None else own_layers
    if not isinstance(own_layers, Mapping) or not all(map(callable, own_layers.values())):
        raise TypeError(
            f"own_layers must be a dict of names and what makes a layer, {{'Scale': Scale}}, got {own_layers!r}"
        )
    tensors, metadata = read_tensors(Path(path), (MLP.file_format, Sequential.file_format))
    try:
        description = json.loads(metadata["architecture"])
        network: Network
        if metadata["format"] == MLP.file_format:
            network = _mlp.described(description, backend)
        else:
            network = _sequential.described(description, backend, own_layers)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SavedFileError(f"{path}: describes no network that exists: {error}") from error
    for key, array in {**network.params, **network._statistic_views}.items():
        array[...] = _fitting(path, key, tensors, array)
    return network


def _fitting(path: Any, key: str, tensors: dict[str, Array], parameter: Array) -> Array:
    if key not in tensors:
        raise SavedFileError(f"{path}: {key} is missing")
    value = tensors[key]
    if value.shape != parameter.shape or value.dtype != parameter.dtype:
        expected = f"{parameter.dtype} of shape {parameter.shape}"
        raise SavedFileError(f"{path}: {key} must be {expected}, found {value.dtype} of shape {value.shape}")
    if not np.isfinite(value).all():
        raise SavedFileError(f"{path}: {key} holds NaN or infinity")
    return value


class _ArraysOnly(pickle.Unpickler):
    """Finds what NumPy needs to rebuild an array, and nothing else."""

    ALLOWED: ClassVar = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_book_params(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the dict of arrays in a params.pkl as the book's scripts write it.

    Put them into a network with `network.params[key][...] = array`. Only arrays are unpickled: a file that asks for
    anything else is refused before any of it is called.

    Args:
        path: a file that pickle.dump wrote.

    Returns:
        {"W1": ..., "b1": ..., ...}.

    Raises:
        FileNotFoundError: where there is no such file.
        SavedFileError: for a file that is damaged or holds anything but a dict of arrays. It is a ValueError.
        TypeError: for arrays that are not of floating point numbers.

    Examples:
        >>> import pickle
        >>> import numpy as np
        >>> from fastbp import load_book_params
        >>> with open("params.pkl", "wb") as file:
        ...     pickle.dump({"b1": np.zeros(3)}, file)
        >>> load_book_params("params.pkl")
        {'b1': array([0., 0., 0.])}
    """
    try:
        with open(path, "rb") as file:
            params = _ArraysOnly(file).load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except Exception as error:
        raise SavedFileError(f"{path}: is not a dict of arrays as the book's scripts pickle it: {error}") from error
    if not isinstance(params, dict) or not all(isinstance(value, np.ndarray) for value in params.values()):
        raise SavedFileError(f"{path}: is not a dict of arrays, but {type(params).__name__}")
    for key, value in params.items():
        checks.floating_array(f"{path}: {key!r}", value)
    return params
