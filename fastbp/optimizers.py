"""Moved: this import path goes with the next release. Import from fastbp.training instead."""

from ._moved import moved

__getattr__ = moved(__name__, "fastbp.training._optimizers")
