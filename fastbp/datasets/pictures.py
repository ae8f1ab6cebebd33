"""Pictures of single digits, brought to the form of MNIST's images. Needs Pillow (extra `cli`)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE, BOX = 28, 20
CENTRE = 14.5  # the middle of pixel 14: measured, it is where the images of MNIST have their centre of mass, +- 0.5
FAINTEST = 0.15  # of the darkest ink: fainter than that is paper, not a stroke
LEAST_CONTRAST = 8  # of 255 between ink and paper


class PictureError(ValueError):
    """A picture that cannot be read, or shows nothing: the message names the file."""


def read_digit(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """A picture file of one digit, of any size, dark on light or light on dark -> (28, 28), 0 to 255, light on dark.

    As the authors describe the data set (LeCun, Cortes, Burges): the ink is scaled to fit a box of 20 x 20 pixels, its
    shape kept, and moved so that its centre of mass is pixel 14 of 28 x 28. What is transparent counts as white paper.
    Raises FileNotFoundError, and PictureError for what is no picture or shows nothing.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            rgba = picture.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: cannot be read as a picture: {error}") from error
    paper = Image.new("RGBA", rgba.size, "white")
    paper.alpha_composite(rgba)
    try:
        return to_mnist(np.asarray(paper.convert("L"), np.float64))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from None


def to_mnist(gray: NDArray[Any]) -> NDArray[np.uint8]:
    """Gray values (height, width), 0 to 255, of ink on paper -> (28, 28) as read_digit has it. Raises PictureError."""
    from PIL import Image

    edge = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    paper = float(np.median(edge))
    ink = np.maximum(gray - paper, 0) if gray.max() - paper > paper - gray.min() else np.maximum(paper - gray, 0)
    darkest = ink.max()
    if darkest < LEAST_CONTRAST:
        raise PictureError("shows nothing: all of it has nearly the same colour")
    rows, columns = (np.flatnonzero((ink > FAINTEST * darkest).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / darkest
    scale = BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return _centred(np.clip(np.asarray(small, np.float64), 0, 1))


def _centred(ink: NDArray[Any]) -> NDArray[np.uint8]:
    """(height, width), at most 20 each, 0 to 1 -> (28, 28), 0 to 255, the centre of mass at pixel 14."""
    image = np.zeros((SIDE, SIDE))
    starts = []
    for axis, side in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        centre = (mass * (np.arange(side) + 0.5)).sum() / mass.sum()
        starts.append(int(np.clip(round(CENTRE - centre), 0, SIDE - side)))
    image[starts[0] : starts[0] + ink.shape[0], starts[1] : starts[1] + ink.shape[1]] = ink
    return np.round(255 * image / image.max()).astype(np.uint8)
