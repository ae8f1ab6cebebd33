"""What dropout draws where it is accelerated: NumPy's global generator goes on as if np.random.rand had been called."""

import numpy as np
import pytest

from fastbp import kernels, reference
from fastbp.dropin.objects import global_random
from fastbp.dropin.objects.global_random import uniform

BACKENDS = pytest.mark.parametrize("backend", [kernels, reference], ids=["numba", "numpy"])


@pytest.fixture(autouse=True)
def generator_as_it_was():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@BACKENDS
def test_the_global_generator_goes_on(backend):
    np.random.seed(3)
    expected = [np.random.rand(7, 90), np.random.randint(0, 9, 5), np.random.rand(3), np.random.randn(4)]
    np.random.seed(3)
    actual = [uniform((7, 90), backend), np.random.randint(0, 9, 5), uniform((3,), backend), np.random.randn(4)]
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


class _NotCalled:
    def random_doubles(self, state, count):
        raise AssertionError("the kernel was called")


def test_a_function_that_somebody_has_put_in_its_place_is_called(monkeypatch):
    monkeypatch.setattr(np.random, "rand", lambda *shape: np.full(shape, 0.25))
    np.testing.assert_array_equal(uniform((2, 3), _NotCalled()), np.full((2, 3), 0.25))


@pytest.mark.skipif(not hasattr(np.random, "set_bit_generator"), reason="this NumPy has one global generator only")
def test_another_global_generator_is_asked():
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        draws = uniform((4,), _NotCalled())
        np.random.set_bit_generator(np.random.PCG64(5))
        np.testing.assert_array_equal(draws, np.random.rand(4))
        np.random.set_bit_generator(np.random.MT19937(5))
        draws = uniform((4,), kernels)
        np.random.set_bit_generator(np.random.MT19937(5))
        np.testing.assert_array_equal(draws, np.random.rand(4))
    finally:
        np.random.set_bit_generator(before)


def test_a_state_that_lies_elsewhere_is_not_touched(monkeypatch):
    """Should another version of NumPy have it in another form."""
    monkeypatch.setattr(global_random, "WORDS", 626)
    global_random._state.cache_clear()
    try:
        np.random.seed(8)
        draws = uniform((5,), _NotCalled())
        np.random.seed(8)
        np.testing.assert_array_equal(draws, np.random.rand(5))
    finally:
        global_random._state.cache_clear()
