"""The kernels of an LSTM cell: the reference's numbers in every layout and number of threads, and numerical gradients."""

import numpy as np
import pytest
from conftest import LAYOUTS, assert_parity, in_layout, numerical

from fastbp import kernels, reference, set_num_threads

SHAPES = [(1, 1), (3, 5), (20, 16), (130, 128), (0, 4), (7, 33)]


def drawn(rows, units, dtype, scale=1.0):
    rng = np.random.default_rng(0)
    return [
        (scale * rng.standard_normal((rows, columns))).astype(dtype)
        for columns in (4 * units, 4 * units, units, units, units)
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_agree_with_the_reference(shape, dtype, threads):
    of_x, of_h, c, dh, dc = drawn(*shape, dtype)
    set_num_threads(threads)
    try:
        results = kernels.lstm_forward(of_x, of_h, c)
        expected = reference.lstm_forward(of_x, of_h, c)
        gradients = kernels.lstm_backward(dh, dc, c, expected[1:])
    finally:
        set_num_threads(None)
    for name, one, other in zip(("h", "c", "f", "g", "i", "o"), results, expected, strict=True):
        assert_parity(one, other, name)
    for name, one, other in zip(("dz", "dc"), gradients, reference.lstm_backward(dh, dc, c, expected[1:]), strict=True):
        assert_parity(one, other, name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arguments_in_any_layout_stay_as_they_are(layout):
    given = [in_layout(one, layout) for one in drawn(9, 7, "float64")]
    before = [one.copy() for one in given]
    of_x, of_h, c, dh, dc = given
    kept = tuple(in_layout(one, layout) for one in reference.lstm_forward(of_x, of_h, c)[1:])
    for one, other in zip(kernels.lstm_forward(of_x, of_h, c), reference.lstm_forward(of_x, of_h, c), strict=True):
        assert_parity(one, other)
    for one, other in zip(
        kernels.lstm_backward(dh, dc, c, kept), reference.lstm_backward(dh, dc, c, kept), strict=True
    ):
        assert_parity(one, other)
    for one, other in zip(given, before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 30.0, 1e4, np.nan, np.inf])
def test_gates_are_shut_open_or_nan_as_the_references_are(scale):
    of_x, of_h, c, _, _ = drawn(5, 9, "float64", scale if np.isfinite(scale) else 1.0)
    if not np.isfinite(scale):
        of_x[2, 3] = of_x[3, 30] = scale
    with np.errstate(invalid="ignore"):
        expected = reference.lstm_forward(of_x, of_h, c)
    for one, other in zip(kernels.lstm_forward(of_x, of_h, c), expected, strict=True):
        assert_parity(one, other)


def test_gradients_are_numerical_ones():
    of_x, of_h, c, dh, dc = drawn(3, 4, "float64")

    def value(z, cell):
        h_next, c_next, *_ = kernels.lstm_forward(z, of_h, cell)
        return np.sum(h_next * dh) + np.sum(c_next * dc)

    kept = kernels.lstm_forward(of_x, of_h, c)[1:]
    dz, dc_prev = kernels.lstm_backward(dh, dc, c, kept)
    slopes = numerical(lambda z: value(z.reshape(of_x.shape), c), of_x.reshape(-1))
    np.testing.assert_allclose(dz.reshape(-1), slopes, atol=1e-8)
    slopes = numerical(lambda cell: value(of_x, cell.reshape(c.shape)), c.reshape(-1))
    np.testing.assert_allclose(dc_prev.reshape(-1), slopes, atol=1e-8)
