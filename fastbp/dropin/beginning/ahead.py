"""On a first run, kernels for backward are compiled by a second process, while this one compiles those for forward.

Numba compiles one function at a time in a process. What the other has compiled comes through the kernel cache, and this
process waits where it needs a kernel that the other is still at (see `KernelCache`): when kernels begin, and what they give,
does not depend on it. Both compile for themselves what kernels have in common, but for products that are kernels of their
own (gemm/shared_product.py), which the other makes first; it goes on with what is wanted next, for which it has compiled
most then.

Seconds of compiling, on two cores of an EPYC: 784-50-10 7.1 with one process and 5.0 with two, before its loss and gradient
were one call. On an older one, with two: 784-50-10 with that call 12.5, and 15.2 where each part of a stack had its own
product (medians of 8 and 11 runs, of 8 to 18 s; 23 and 29 of the processors' time); with batch normalisation 16, and 19.5
so; the book's SimpleConvNet 16, and 23 to 25 with one process and products for each kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...backends import available_threads, expect_kernels, get_backend, kernel_cache

if TYPE_CHECKING:
    import subprocess

_ROOT = Path(__file__).parents[3]  # of the package; a helper must not import modules of the script's folder
_MAIN = f"import sys; sys.path = [sys.argv[1], *filter(None, sys.path)]; from {__name__} import serve; serve()"
_ROWS, _UNITS = 8, 64
_FEATURES = 1024  # so many that zeros are looked for
IDLE = 30.0  # seconds that a helper waits for more work


def _affine_network(dtype: str, x_dtype: str) -> None:
    """Without what zeros in x need: the other process has that done meanwhile."""
    get_backend("numba")[1].affine_stack((_UNITS, 2), ("identity",), dtype).compile_chunks_back(np.dtype(x_dtype))


def _affine_stack(dtype: str, x_dtype: str) -> None:
    _affine_network(dtype, x_dtype)
    _stack(dtype, x_dtype, "affine_stack")


def _normalized_stack(dtype: str, x_dtype: str) -> None:
    one = np.ones(_UNITS, dtype)
    norm = one, np.ones((_ROWS, _UNITS), dtype), np.ones((_ROWS, _UNITS), dtype), one
    _stack(dtype, x_dtype, "normalized_stack", (1e-7, None), norms=(None, [norm, None]))


def _stack(dtype: str, x_dtype: str, name: str, *settings: Any, norms: tuple[Any, ...] = ()) -> None:
    kernel = getattr(get_backend("numba")[1], name)((_FEATURES, _UNITS, 2), ("relu", "identity"), *settings, dtype)
    inputs = [np.zeros((_ROWS, _FEATURES), x_dtype), np.ones((_ROWS, _UNITS), dtype)]
    weights, mask = [np.ones((_FEATURES, _UNITS), dtype), np.ones((_UNITS, 2), dtype)], np.ones((_ROWS, _UNITS), bool)
    kernel.compile_products()
    kernel.backward(np.ones((_ROWS, 2), dtype), inputs, weights, [mask, None], False, *norms)


def _convolution(dtype: str) -> None:
    """What stands before convolutions in a network, in the order of backward."""
    kernels, images = get_backend("numba")[1], np.ones((_ROWS, 2, 4, 4), dtype)
    kernels.affine_backward(np.ones((_ROWS, 64), dtype), np.ones((_ROWS, 512), dtype), np.ones((512, 64), dtype))
    pooled = images[:, :, :2, :2].copy()
    kernels.pooling_backward(pooled, np.zeros(pooled.size, np.int64), images.shape, 2, 2, 2, 0)
    kernels.convolution_backward(images, images, np.ones((2, 2, 1, 1), dtype), 1, 0, False)


def _lstm(dtype: str) -> None:
    kernels, (c, h) = get_backend("numba")[1], np.ones((2, _ROWS, 128), dtype)
    dz, _ = kernels.lstm_backward(h, h, c, (c, h, h, h, h))
    kernels.affine_backward(dz, h, np.ones((128, 512), dtype))


class _Work(NamedTuple):
    """What a helper does, and the kernels that it leaves in the cache, the one that it is done for first."""

    compile_it: Callable[..., None]
    kernels: tuple[str, ...]


OF_ZEROS, PRODUCT = "nonzero_columns._weights_gradient", "shared_product._multiply_chunk"
_WAY_BACK = "stack_chunks._backward_chunk", "stack_chunks._weights", PRODUCT
WORK = {
    "affine_network": _Work(_affine_network, _WAY_BACK),
    "affine_stack": _Work(_affine_stack, (*_WAY_BACK, "affine_stack._backward")),
    "normalized_stack": _Work(_normalized_stack, ("normalized_stack._backward", OF_ZEROS, PRODUCT)),
    "convolution": _Work(
        _convolution, ("affine._backward", PRODUCT, "pooling._backward", "convolution._multiply_patches_transposed")
    ),
    "lstm": _Work(_lstm, ("lstm._backward", "affine._backward", PRODUCT)),
}


def serve() -> None:
    """What a helper does: pieces of work, one after the other, each a line of its name and dtypes, until there is none.

    It ends where one fails, so that nobody waits for its kernels.
    """
    end: threading.Timer | None = None
    for line in iter(sys.stdin.readline, ""):
        if end is not None:
            end.cancel()
        name, *dtypes = line.split()
        WORK[name].compile_it(*dtypes)
        if not all(map(_is_compiled, WORK[name].kernels)):
            break
        end = threading.Timer(IDLE, os._exit, (0,))
        end.daemon = True
        end.start()


def _is_compiled(kernel: str) -> bool:
    """Whether the cache has a kernel, for any types."""
    root, own = kernel_cache()
    return any((root / own).glob(f"{kernel}-*"))


class Ahead:
    """Has a helper do each piece of work at most once, where it repays."""

    def __init__(self) -> None:
        self.is_wanted = False  # only where it is said that kernels are compiled
        self.has_network = False  # whether a class has a gradient that may be one call: a stack's own backward can wait
        self._begun: set[str] = set()
        self._helper: subprocess.Popen[str] | None = None

    def compile_meanwhile(self, name: str, *dtypes: np.dtype[Any]) -> None:
        """Have a piece of WORK done by another process, if a kernel of its has never been compiled for this processor."""
        if not self.is_wanted or name in self._begun:
            return
        self._begun.add(name)
        if get_backend()[0] != "numba" or not sys.executable or available_threads() < 2:
            return
        root, own = kernel_cache()
        names = [one for one in WORK[name].kernels if not _is_compiled(one)]
        if not (root / own).is_dir() or WORK[name].kernels[0] not in names:
            return
        with contextlib.suppress(OSError):
            helper = self._running_helper()
            assert helper.stdin is not None
            helper.stdin.write(" ".join([name, *(one.name for one in dtypes)]) + "\n")
            helper.stdin.flush()
            expect_kernels(names, lambda: helper.poll() is None)

    def _running_helper(self) -> subprocess.Popen[str]:
        """The one that there is, or a new one."""
        if self._helper is None or self._helper.poll() is not None:
            import subprocess  # most runs are no first ones

            self._helper = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(_ROOT)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            atexit.register(_end, self._helper, os.getpid())
        return self._helper


def _end(process: subprocess.Popen[Any], parent: int) -> None:
    """Before the interpreter ends: nobody waits for it any more. A child that was forked leaves it alone."""
    if os.getpid() == parent and process.poll() is None:
        process.terminate()
        process.wait()


ahead = Ahead()
