"""OpenBLAS's threads, set up for a process in which kernels have threads, too.

To be imported before NumPy is: it stands beside `dropin`, whose modules import that.
"""

from __future__ import annotations

import os

NAME = "OPENBLAS_THREAD_TIMEOUT"
# 2 ** 20 cycles, 1 ms. After a product, OpenBLAS's threads spin for 2 ** 26, some 100 ms, and hold up whoever needs their
# processor: kernels, or another process. A reader's convolutional network took 21 s beside a busy process, and 13 s
# so; NumPy's products on a quiet machine take what they took. Measured and rejected: 2 ** 16, up to 1.3 times as long.
TIMEOUT = "20"


def import_numpy() -> None:
    """Import NumPy, whose OpenBLAS reads its environment then; the script sees the environment as it was."""
    if NAME in os.environ:
        import numpy

        return
    os.environ[NAME] = TIMEOUT
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[NAME]
