"""Arrays that kernels find by their addresses."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import QUICK_TO_COMPILE

from fastbp.kernels.runtime.compiler import kernel
from fastbp.kernels.runtime.simd import load_scalar, store_scalar
from fastbp.kernels.runtime.tables import Table, addresses_of, at


@kernel
def _copied(addresses, first, sizes, out):
    """What the arrays from `first` on hold, one after the other."""
    table, place = Table(addresses, first, out), 0
    for i in range(len(sizes)):
        for j in range(sizes[i]):
            store_scalar(out, place, load_scalar(at(table, i), j))
            place += 1


@kernel
def _filled(addresses, sizes, like):
    """Counts through the numbers of all arrays."""
    place = 0
    for i in range(len(sizes)):
        for j in range(sizes[i]):
            store_scalar(at(Table(addresses, 0, like), i), j, place)
            place += 1


@kernel
def _last(addresses, count):
    return load_scalar(at(Table(addresses, 0, np.bool_), 0), count - 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_a_kernel_reads_the_arrays_of_a_table(dtype):
    arrays = [np.arange(6, dtype=dtype).reshape(2, 3), np.zeros((0, 4), dtype), np.ones((), dtype)]
    out, sizes = np.zeros(7, dtype), np.array([one.size for one in arrays])
    _copied(addresses_of([None, np.ones(3)], arrays), 2, sizes, out)
    np.testing.assert_array_equal(out, np.concatenate([one.ravel() for one in arrays]))


def test_a_kernel_writes_to_them():
    arrays = [np.zeros((2, 2)), np.zeros(3)]
    _filled(addresses_of(arrays), np.array([4, 3]), np.zeros(0))
    np.testing.assert_array_equal(np.concatenate([one.ravel() for one in arrays]), np.arange(7.0))


@pytest.mark.parametrize("last", [True, False])
def test_masks_are_of_a_dtype_of_their_own(last):
    mask = np.array([not last, last])
    assert _last(addresses_of([mask]), 2) is last


WITHOUT = """
import numpy as np
from fastbp.kernels.runtime import tables
assert tables._PLACE is not None  # where this is not so, the interface of arrays is asked, which takes longer
tables._PLACE, tables._address = None, tables._data_of
from fastbp import kernels, reference
x, dout = np.random.default_rng(0).standard_normal((2, 8, 3))
results = []
for module in (kernels, reference):
    stack = module.affine_stack((3, 4, 3), ("relu", "identity"), np.dtype(float))
    W, b = [np.ones((3, 4)), np.ones((4, 3))], [np.ones(4), np.ones(3)]
    zs, outs, masks, _ = stack.forward(x, W, b)
    results.append([*outs, *stack.backward(dout, [x, outs[0]], W, masks, False)[1]])
for one, other in zip(*results):
    np.testing.assert_allclose(one, other, rtol=1e-12)
"""


def test_addresses_are_asked_for_where_array_objects_are_not_as_in_cpython(tmp_path):
    environment = {**os.environ, **QUICK_TO_COMPILE, "FASTBP_CACHE_DIR": str(tmp_path / "kernels")}
    subprocess.run([sys.executable, "-c", WITHOUT], env=environment, check=True, timeout=300)
