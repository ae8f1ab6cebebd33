"""Data to train on: MNIST, which ships with fastbp, and any folder of files in its form."""

from .idx import read_idx
from .mnist import load_mnist

__all__ = ["load_mnist", "read_idx"]
