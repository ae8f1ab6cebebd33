"""What a training run needs to go on after it was killed: one file, written in one step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import Array
from ..networks._tensor_files import SavedFileError, read_tensors, write_tensors

FORMAT = "fastbp checkpoint 3"


@dataclass
class Checkpoint:
    """A run at one moment.

    settings: what the run was asked to do; it must be the same to go on. random: the state of the generator of the
    batches as the run began. evaluations: rows of dicts. seconds: training, evaluating. stopped: why it ended early, or
    None. callbacks: what each of them keeps.
    """

    settings: dict[str, Any]
    parameters: Array
    statistics: Array
    state: Array
    optimizer_steps: int
    losses: Array
    evaluations: list[dict[str, Any]]
    seconds: tuple[float, float]
    random: tuple[Any, ...]
    stopped: str | None
    callbacks: list[dict[str, Array]]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Raises ModuleNotFoundError without safetensors (extra `save`), OSError as the disk does."""
    kind, keys, position, has_gauss, gauss = checkpoint.random
    tensors = {
        "parameters": checkpoint.parameters,
        "statistics": checkpoint.statistics,
        "state": checkpoint.state,
        "losses": checkpoint.losses,
        "random": np.asarray(keys),
    }
    for number, state in enumerate(checkpoint.callbacks):
        tensors.update({f"callback {number} {name}": array for name, array in state.items()})
    rest = {
        "settings": checkpoint.settings,
        "optimizer_steps": checkpoint.optimizer_steps,
        "evaluations": checkpoint.evaluations,
        "seconds": checkpoint.seconds,
        "random": [kind, position, has_gauss, gauss],
        "stopped": checkpoint.stopped,
        "callbacks": [list(state) for state in checkpoint.callbacks],
    }
    write_tensors(path, tensors, {"format": FORMAT, "run": json.dumps(rest)})


def read_checkpoint(path: Path, settings: dict[str, Any]) -> Checkpoint:
    """The checkpoint of a run with these settings.

    Raises SavedFileError for a file that is damaged, from another program, or of a run with other settings, which it
    names.
    """
    tensors, metadata = read_tensors(path, (FORMAT,))
    try:
        rest = json.loads(metadata["run"])
        saved, (kind, position, has_gauss, gauss) = rest["settings"], rest["random"]
        checkpoint = Checkpoint(
            saved,
            tensors["parameters"],
            tensors["statistics"],
            tensors["state"],
            rest["optimizer_steps"],
            tensors["losses"],
            rest["evaluations"],
            tuple(rest["seconds"]),
            (kind, tensors["random"], position, has_gauss, gauss),
            rest["stopped"],
            [
                {name: tensors[f"callback {number} {name}"] for name in names}
                for number, names in enumerate(rest["callbacks"])
            ],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SavedFileError(f"{path}: is damaged: {error!r}") from error
    wanted = json.loads(json.dumps(settings))
    for name, value in wanted.items():
        if saved.get(name) != value:
            raise SavedFileError(f"{path}: is of a run with {name}={saved.get(name)!r}, this one has {name}={value!r}")
    return checkpoint
