"""Programs of elementwise operations: the kernel's numbers are NumPy's to the last bit, and what is not finite is left."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import kernels, reference

ADD, SUBTRACT, MULTIPLY, DIVIDE, SQUARE_ROOT = range(5)
UFUNCS = {ADD: np.add, SUBTRACT: np.subtract, MULTIPLY: np.multiply, DIVIDE: np.divide}


@st.composite
def programs(draw):
    """A program, how many inputs and constants it has, and which inputs are outputs."""
    inputs, constants = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    operations, rows = [], inputs + constants
    for _ in range(draw(st.integers(1, 12))):
        row = draw(st.integers(inputs + constants, rows))  # a new one, or one that is used again
        a, b = draw(st.integers(0, rows - 1)), draw(st.integers(0, rows - 1))
        operations.append((draw(st.integers(0, 4)), row, a, b))
        rows = max(rows, row + 1)
    outputs = draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=min(4, inputs)))
    return (np.array(operations, np.int64), np.array(outputs, np.int64), rows), inputs, constants


def expected_rows(program, inputs, constants):
    """All rows as NumPy makes them, one operation after the other, and where a divisor is not finite."""
    rows = dict(enumerate([*inputs, *(np.full_like(inputs[0], one) for one in constants)]))
    finite = np.ones(inputs[0].shape, bool)
    with np.errstate(all="ignore"):
        for code, row, a, b in program[0].tolist():
            if code == DIVIDE:
                finite &= np.isfinite(rows[b])
            rows[row] = np.sqrt(rows[a]) if code == SQUARE_ROOT else UFUNCS[code](rows[a], rows[b])
    return rows, finite


@pytest.mark.parametrize("module", ["numba", "numpy"])
@examples(40)
@given(
    programs(),
    st.sampled_from([np.float64, np.float32]),
    st.sampled_from([1, 127, 128, 129, 1000, 40_000]),
    st.integers(0, 9),
)
def test_a_program_gives_numpys_bits(module, case, dtype, size, seed):
    program, count, constant_count = case
    module = kernels if module == "numba" else reference
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(size).astype(dtype) for _ in range(count)]
    if seed % 3 == 0:
        inputs[0][rng.integers(0, size, 3)] = (np.inf, np.nan, -np.inf)
    constants = rng.standard_normal(constant_count).tolist()
    rows, finite = expected_rows(program, inputs, constants)
    wanted = [rows[row].copy() for row in program[1].tolist()]
    for one in wanted:
        finite &= np.isfinite(one)
    left = ~np.logical_and.reduceat(finite, np.arange(0, size, 128))
    before = [one.copy() for one in inputs]
    outputs = inputs[: len(wanted)]  # in place
    result = module.run_program(program, inputs, constants, outputs)
    np.testing.assert_array_equal(np.zeros_like(left) if result is None else result, left)
    stored = ~np.repeat(left, 128)[:size]
    for output, one, was in zip(outputs, wanted, before, strict=False):
        np.testing.assert_array_equal(output, np.where(stored, one, was))


@pytest.mark.parametrize("module", [kernels, reference])
def test_an_infinite_divisor_is_left_although_the_result_is_finite(module):
    x, y = np.ones(300), np.full(300, 7.0)
    x[200] = 1e200
    program = np.array([[MULTIPLY, 1, 0, 0], [DIVIDE, 2, 0, 1]], np.int64), np.array([2], np.int64), 3
    assert module.run_program(program, [x], (), [y]).tolist() == [False, True, False]
    assert (y[128:256] == 7).all()
    assert (np.delete(y, np.s_[128:256]) == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_blocks(threads):
    """An odd count of numbers, more than a chunk for each thread."""
    x, y = np.arange(1.0, 100_004.0), np.empty(100_003)
    program = np.array([[MULTIPLY, 1, 0, 0], [SQUARE_ROOT, 2, 1, 1]], np.int64), np.array([2], np.int64), 3
    fastbp.set_num_threads(threads)
    try:
        assert kernels.run_program(program, [x], (), [y]) is None
    finally:
        fastbp.set_num_threads(None)
    np.testing.assert_array_equal(y, x)
