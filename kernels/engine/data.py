"""Data sets as the engine reads them."""

from __future__ import annotations

import numpy as np

from ..gemm.sparse_rows import dense_rows, prepare_rows


def prepare_data(x, divisor=None):
    """x (N, features), C-contiguous -> what train_steps and count_correct read fastest.

    x: floating or uint8; with a divisor, uint8, and the numbers are np.float32(x) / np.float32(divisor).
    """
    if x.dtype != np.uint8:
        return Data(x, None)
    return Data(x, np.arange(256, dtype=np.float32) / np.float32(1 if divisor is None else divisor))


class Data:
    """A data set, sparse where that is faster. Once W is not finite, 0 * w is not 0, and the dense rows are read."""

    def __init__(self, x, codebook):
        self.rows = prepare_rows(x, codebook)
        self.dense_rows = dense_rows(x, codebook)

    def rows_for(self, parameters, sizes):
        return self.rows if first_layer_is_finite(parameters, sizes) else self.dense_rows


def first_layer_is_finite(parameters, sizes):
    return bool(np.isfinite(parameters[: sizes[0] * sizes[1]]).all())
