"""What property tests draw from, and what they compare: any arrays, memory that is watched, outcomes of two backends.

Arrays of 0 to 70 in every axis, of all of NumPy's dtypes, in every layout, with every special value; kernels run in one
thread and shared by three; the bytes before and after each array that they make are watched.
"""

import contextlib
import sys
import warnings

import numpy as np
import pytest
from conftest import LAYOUTS, TOLERANCE, assert_parity, in_layout
from hypothesis import strategies as st

from fastbp.kernels.runtime import arrays as kernel_arrays

FLOATS = ("float32", "float64", "float16", "longdouble")
DTYPES = (
    *FLOATS, ">f4", ">f8", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4",
    "complex64", "complex128", "O", "S3", "U3", "datetime64[s]", "timedelta64[s]",
)  # fmt: skip
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-310]
LARGE = [3e38, -1e300, 88.8, -745.2, 709.8]  # not in sums, where it depends on their order what is left of them
GUARD, PATTERN = 64, 0xA5


class Guarded:
    """Arrays with watched bytes on both sides."""

    def __init__(self):
        self.buffers = []

    def empty(self, shape, dtype=float, order="C"):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or size == 0:
            return ORIGINAL["empty"](shape, dtype, order)
        buffer = ORIGINAL["empty"](size + 2 * GUARD, np.uint8)
        buffer[:] = PATTERN
        self.buffers.append(buffer)
        return buffer[GUARD:-GUARD].view(dtype).reshape(shape, order=order)

    def zeros(self, shape, dtype=float, order="C"):
        array = self.empty(shape, dtype, order)
        array[...] = ORIGINAL["zeros"]((), dtype)
        return array

    def empty_like(self, like, dtype=None, **_):
        like = np.asarray(like)
        return self.empty(like.shape, like.dtype if dtype is None else dtype)

    def check(self):
        for buffer in self.buffers:
            assert (buffer[:GUARD] == PATTERN).all(), "written before an array"
            assert (buffer[-GUARD:] == PATTERN).all(), "written after an array"


ORIGINAL = {name: getattr(np, name) for name in ("empty", "zeros", "empty_like")}


@contextlib.contextmanager
def guarded(threads=1):
    """Whatever NumPy allocates within is watched, and all kernels that know of threads use so many, for any work."""
    guard = Guarded()
    with pytest.MonkeyPatch.context() as patch:
        for name in ORIGINAL:
            patch.setattr(np, name, getattr(guard, name))
        for name, module in list(sys.modules.items()):
            if name.startswith("fastbp.kernels.") and hasattr(module, "threads_for"):
                patch.setattr(module, "threads_for", lambda work, least: threads)
        patch.setattr(kernel_arrays._workspace, "kept", {})
        yield guard
    guard.check()


def numbers(rng, shape, dtype, special, large):
    """Random numbers of any dtype; one in five of them special."""
    values = rng.standard_normal(shape) * 3
    if special:
        values = np.where(rng.random(shape) < 0.2, rng.choice([*SPECIAL, *(LARGE if large else [])], shape), values)
    with np.errstate(all="ignore"):
        kind = np.dtype(dtype).kind
        if kind in "mM":
            return np.nan_to_num(values, nan=0, posinf=9, neginf=-9).astype(np.int64).astype(dtype)
        if kind in "iub":
            return np.nan_to_num(values * 40, nan=0, posinf=99, neginf=-99).astype(np.int64).astype(dtype)
        return np.asarray(values).astype(dtype)


@st.composite
def arrays(draw, shape, dtypes=DTYPES, large=False, layouts=(*LAYOUTS, "broadcast")):
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = numbers(rng, shape, draw(st.sampled_from(dtypes)), draw(st.booleans()), large)
    layout = draw(st.sampled_from(layouts))
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape) if array.size and array.ndim else array
    return array if array.dtype.hasobject or not array.size else in_layout(array, layout)


def outcome(work):
    """The arrays that work() returns, or the type of its error, and the warnings. What is not ours to raise is raised on."""
    with warnings.catch_warnings(record=True) as warned, np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("always")
        try:
            result = work()
        except (TypeError, ValueError, RuntimeError, KeyError, OverflowError, FloatingPointError) as error:
            result = type(error), str(error)
    return result, {(one.category, str(one.message)) for one in warned}


def largest(array):
    """The largest finite magnitude."""
    return float(np.max(np.abs(array[np.isfinite(array)].astype(float)), initial=0)) if plain(array) else 0.0


def assert_alike(work, *given_arrays, signs=False):
    """The same outcome on both backends. Errors are small beside the numbers of given_arrays, too; signs: those of zeros."""
    floor = max([1.0, *map(largest, given_arrays)])
    expected, warned = outcome(lambda: work("numpy"))
    for threads in (1, 3):
        with guarded(threads):
            found, warned_too = outcome(lambda: work("numba"))
        compare(found, expected, floor)
        assert warned_too <= warned
        if signs and not isinstance(expected[0], type):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(np.signbit(one[other == 0]), np.signbit(other[other == 0]))


def plain(array):
    return array.dtype.kind in "fiub"


def compare(found, expected, floor=1.0):
    kinds = [one[0] if one and isinstance(one[0], type) else None for one in (found, expected)]
    assert kinds[0] == kinds[1], (found, expected)
    if kinds[0] is not None:
        assert found[1] == expected[1]
        return
    kinds = {np.asarray(one).dtype.name for one in expected if one is not None}
    coarsest = next((kind for kind in ("float16", "float32") if kind in kinds), None)  # what some of it was computed in
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one is None or other is None:
            assert one is other
            continue
        assert_sums_alike(one, other, f"result {number}", coarsest, floor)


def assert_sums_alike(one, other, name, coarsest, floor):
    """Parity, where numbers near the largest may become infinite in one order of a sum and not in another."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind == "f" and one.shape == other.shape:
        limit = np.finfo(np.float32 if other.dtype == np.float32 else np.float64).max / 1e6
        if not (np.abs(other[np.isfinite(other)]) < limit).all() or not (np.abs(one[np.isfinite(one)]) < limit).all():
            assert one.dtype == other.dtype
            return
        tiny = np.finfo(one.dtype).tiny  # what is smaller than the smallest normal number may be 0
        one, other = (np.where(np.abs(a) < tiny, a.dtype.type(0), a) for a in (one, other))
    assert_parity(one, other, name, floor=floor, tolerance=TOLERANCE.get(coarsest))


SIDE = st.integers(0, 70)


def one_long(*others):
    """A shape with one axis of up to 70, anywhere, and others of up to so many."""
    return st.tuples(SIDE, *(st.integers(0, most) for most in others)).flatmap(st.permutations).map(tuple)


ANY_SHAPE = st.one_of(st.just(()), st.tuples(SIDE), st.tuples(SIDE, SIDE), one_long(9, 9), one_long(5, 5, 9))
