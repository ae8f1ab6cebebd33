import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.runtime.compiler import kernel
from fastbp.kernels.runtime.exponential import exponential


@kernel
def exponentials(x, out):
    for i in range(x.size):
        out[i] = exponential(x[i])


def compiled(x):
    out = np.empty_like(x)
    exponentials(x, out)
    return out


@pytest.mark.parametrize(
    ("dtype", "ends", "tolerance"), [("float32", (-87.3, 88.7), 2e-7), ("float64", (-708, 709.7), 4e-16)]
)
def test_accuracy_over_the_whole_range(dtype, ends, tolerance):
    x = np.linspace(*ends, 1_000_003).astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(compiled(x) - exact) / exact) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ends_are_exact(dtype):
    x = np.array([np.inf, 1e30, -np.inf, -1e30, 0.0, -0.0, np.nan, -np.nan], dtype)
    np.testing.assert_array_equal(compiled(x), np.array([np.inf, np.inf, 0, 0, 1, 1, np.nan, np.nan], dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_nan_stays_nan(dtype):
    bits = np.uint32 if dtype == "float32" else np.uint64
    payloads = np.arange(1, 2000, dtype=bits)
    assert np.isnan(compiled((np.array([np.inf], dtype).view(bits) + payloads).view(dtype))).all()


@given(st.floats(width=32))
def test_any_float32(value):
    x = np.array([value], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(compiled(x), expected, rtol=3e-7, atol=1.2e-38)
