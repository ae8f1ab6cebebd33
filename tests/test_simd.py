"""The vector layer, operation by operation, against NumPy on the same lanes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fastbp.kernels.gemm.matrices import Span
from fastbp.kernels.gemm.transposing import copy_transposed
from fastbp.kernels.runtime import simd
from fastbp.kernels.runtime.compiler import kernel
from fastbp.kernels.runtime.processors import VECTOR_BYTES

DTYPES = ("float32", "float64")
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -3.0, 2.0]


@kernel
def _width(like):
    return simd.lanes(like)


@kernel
def _arithmetic(a, b, c, out):
    width = simd.lanes(a)
    x, y, z = simd.load(a, 1), simd.load(b, 1), simd.load(c, 1)
    simd.store(out, 0, simd.add(x, y))
    simd.store(out, width, simd.multiply(x, y))
    simd.store(out, 2 * width, simd.fma(x, y, z))
    simd.store(out, 3 * width, simd.maximum(x, y))
    simd.store(out, 4 * width, simd.where_positive(x, y))
    simd.store(out, 5 * width, simd.zeros(a))
    simd.store(out, 6 * width, simd.fill(a, a[2]))
    simd.store(out, 7 * width, simd.broadcast(a, b, 2))


@kernel
def _lanes_together(a):
    return simd.reduce_add(simd.load(a, 0)), simd.reduce_max(simd.load(a, 0))


@kernel
def _converted(like, array, out):
    simd.store(out, 0, simd.load_converted(like, array, 1))
    simd.store(out, simd.lanes(like), simd.broadcast(like, array, 2))


@kernel
def _elements(array, out):
    simd.prefetch(array, 0)
    for i in range(len(array)):
        simd.store_scalar(out, i, simd.load_scalar(array, i))


@kernel
def _transposed(out, out_step, a, a_step, sizes):
    copy_transposed(Span(out, 3), out_step, Span(a, 2), a_step, sizes[0], sizes[1])


def vectors(dtype, count=3):
    """Arrays one longer than a vector: loads begin at 1, where no vector is aligned."""
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    rng = np.random.default_rng(0)
    return width, [rng.standard_normal(width + 1).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_has_the_machines_width(dtype):
    assert _width(np.empty(0, dtype)) * np.dtype(dtype).itemsize == VECTOR_BYTES


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype):
    width, (a, b, c) = vectors(dtype)
    out = np.full(8 * width, np.nan, dtype)
    _arithmetic(a, b, c, out)
    x, y, z = a[1:], b[1:], c[1:]
    expected = [x + y, x * y, x * y + z, np.maximum(x, y), np.where(x > 0, y, 0), 0 * x, 0 * x + a[2], 0 * x + b[2]]
    np.testing.assert_allclose(out.reshape(8, width), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", SPECIAL)
def test_special_values(dtype, value):
    """As NumPy has them; maximum gives b where one is NaN, and only what is <= 0 is not positive."""
    width, (a, b, c) = vectors(dtype)
    a[:] = value
    out = np.empty(8 * width, dtype)
    _arithmetic(a, b, c, out)
    sums, products, _, largest, kept, *_ = out.reshape(8, width)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(sums, a[1:] + b[1:])
        np.testing.assert_array_equal(products, a[1:] * b[1:])
    np.testing.assert_array_equal(largest, b[1:] if np.isnan(value) else np.maximum(a[1:], b[1:]))
    np.testing.assert_array_equal(kept, np.where(a[1:] <= 0, 0, b[1:]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_together(dtype):
    _, (a,) = vectors(dtype, 1)
    total, largest = _lanes_together(a[:-1])
    np.testing.assert_allclose(total, a[:-1].sum(), rtol=1e-5)
    assert largest == a[:-1].max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
def test_numbers_of_other_dtypes_are_converted(dtype, source):
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    array, out = (np.arange(width + 2) * 7 % 256).astype(source), np.empty(2 * width, dtype)
    _converted(np.empty(0, dtype), array, out)
    np.testing.assert_array_equal(out[:width], array[1 : width + 1])
    np.testing.assert_array_equal(out[width:], array[2])


@pytest.mark.parametrize(("source", "target"), [("uint8", "float32"), ("float64", "float32"), ("bool", "bool")])
def test_elements(source, target):
    array, out = np.array([0, 1, 1, 0, 1], source), np.empty(5, target)
    _elements(array, out)
    np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize(
    "dtypes", [(d, d) for d in DTYPES] + [("float64", "float32"), ("float32", "uint8"), ("float64", "bool")]
)
@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (3, 40), (40, 3), (16, 16), (17, 33), (35, 50)])
def test_a_transposed_copy_has_every_number_where_it_belongs_and_touches_nothing_else(dtypes, rows, columns):
    out_step, a_step = rows + 2, columns + 1
    a = (np.arange(2 + rows * a_step + 1) % 251).astype(dtypes[1])
    out = np.full(3 + columns * out_step + 1, -1, dtypes[0])
    expected = out.copy()
    for i in range(rows):
        for j in range(columns):
            expected[3 + j * out_step + i] = a[2 + i * a_step + j]
    _transposed(out, out_step, a, a_step, (rows, columns))
    np.testing.assert_array_equal(out, expected)


CHECKED = """
import numpy as np
from fastbp.kernels.runtime import chunks, simd, threads
from fastbp.kernels.runtime.tables import Table, addresses_of, at
from fastbp.kernels.runtime.arrays import strided
from fastbp.kernels.runtime.compiler import kernel

@kernel
def number(a, i):
    return simd.load_scalar(a, i)

@kernel
def change(a, i):
    simd.store_scalar(a, i, 1)

@kernel
def vector(a, i):
    simd.store(a, i, simd.load(a, i))

@kernel
def lane(a, b, i):
    simd.store(b, 0, simd.broadcast(b, a, i))

@kernel
def converted(a, b, i):
    simd.store(b, 0, simd.load_converted(b, a, i))

@kernel
def plain(a, i):
    return a[i]

@kernel
def of_a_table(addresses, like, i):
    return simd.load_scalar(at(Table(addresses, 1, like), 0), i)

a, b, whole = np.arange(40.0), np.zeros(64), np.arange(40)
arrays = a.reshape(5, 8), a.reshape(2, 1, 5, 4), a.reshape(2, 1, 5, 2, 2)
of_matrix, of_images, of_volumes = ((of_a_table, addresses_of([None], [array]), a, 39) for array in arrays)
width = simd.VECTOR_BYTES // 8
right = [(number, a, 39), (change, a, 0), (vector, a, 40 - width), (lane, a, b, 39), (converted, whole, b, 40 - width),
         of_matrix, of_images, of_volumes]
wrong = [(number, a, 40), (change, a, -1), (vector, a, 41 - width), (vector, a, -1), (lane, a, b, 40),
         (converted, whole, b, 41 - width), (plain, a, 40), (*of_matrix[:-1], 40), (*of_images[:-1], -1)]
for function, *arguments in right:
    function(*arguments)
for function, *arguments in wrong:
    try:
        function(*arguments)
    except IndexError:
        continue
    raise SystemExit(f"{function.__name__}{arguments} passed")
assert number(strided(a[::2])[0], 38) == 38  # where the length is not known, nothing is checked

@threads.parallel_kernel
def apart(work, a, place):
    for chunk in chunks.claimed(work, 1, 2):
        if work[0] == 1:
            simd.store_scalar(a, place, 1)
        # the first thread leaves it its chunk
        while place == len(a) and chunks.atomic_load(work[2], chunks.CLAIMED + chunks.LINE) == 0:
            chunks.yield_processor()

threads.run(apart, 2, a, 0)  # compiled: the worker falls asleep meanwhile
print("checked", flush=True)
threads.run(apart, 2, a, len(a))  # in a worker: the process ends, instead of waiting for it for ever
"""


def test_offsets_are_checked_where_numba_is_asked_to(tmp_path):
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "FASTBP_CACHE_DIR": str(tmp_path / "kernels")}
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "checked\n", done.stderr
    assert done.returncode != 0
    assert "IndexError: index is out of bounds" in done.stderr
