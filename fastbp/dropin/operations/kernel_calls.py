"""Kernels as the drop-in calls them, looked up at the first call; and whether what they gave is for NumPy to warn of."""

from __future__ import annotations

import sys
from typing import Any

from ...backends import get_backend, kernel_cache
from ..objects.arguments import TAME


class _Kernels:
    """The default backend's kernels, looked up (and Numba imported) at the first call."""

    announces = False  # whether it is said on stderr that kernels must be compiled

    def __getattr__(self, name: str) -> Any:
        backend, module = get_backend()
        if self.announces and backend == "numba":
            root, own = kernel_cache()
            if not any((root / own).glob("*")):
                print("fastbp: compiling kernels for this processor, once; it takes some seconds", file=sys.stderr)
        for kernel in module.__dict__:
            if callable(module.__dict__[kernel]):
                setattr(self, kernel, module.__dict__[kernel])
        return getattr(module, name)

    def look_up_again(self) -> None:
        """The default backend may be another one by now."""
        announces = self.announces
        vars(self).clear()
        self.announces = announces


kernels = _Kernels()


def is_tame(*arrays: Any) -> bool:
    """Whether no number of these arrays is NaN, infinite, or so large that its square may overflow."""
    return all(kernels.largest_magnitude(array) < TAME[array.itemsize] for array in arrays)


def is_silent(*arrays: Any) -> bool:
    """Whether sums of products of these arrays, not all tame, come without a warning: NaN is passed on in silence.

    A network that has diverged has NaN in all its weights, and many a script goes on with it to its end.
    """
    return all(
        array.dtype.kind != "f" or kernels.largest_magnitude(array, ignore_nan=True) < TAME[array.itemsize]
        for array in arrays
    )
