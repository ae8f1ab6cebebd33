"""How large the numbers of an array are, on both backends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastbp import kernels, reference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 5, 16, 33, 200])
def test_the_largest_magnitude_is_found_at_every_place(dtype, count):
    x = np.random.default_rng(count).standard_normal(count).astype(dtype)
    assert kernels.largest_magnitude(x) == reference.largest_magnitude(x) == np.abs(x).max(initial=0)
    for place in range(count):
        for number in (7.5, -7.5, np.inf, -np.inf, np.nan):
            changed = x.copy()
            changed[place] = number
            expected = 7.5 if math.isfinite(number) else math.inf
            assert kernels.largest_magnitude(changed) == reference.largest_magnitude(changed) == expected
            expected = np.abs(np.delete(x, place)).max(initial=0) if math.isnan(number) else abs(number)
            of_both = [backend.largest_magnitude(changed, ignore_nan=True) for backend in (kernels, reference)]
            assert of_both == [expected, expected]


@pytest.mark.parametrize("largest", [np.finfo(np.float64).max, 5e-324, -0.0])
def test_the_ends_of_the_range(largest):
    x = np.array([[largest, 0.0], [0.0, -largest]]).T
    assert kernels.largest_magnitude(x) == reference.largest_magnitude(x) == abs(largest)
