"""im2col and col2im as people type them: tried, and accelerated where they give what the book's do."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import assert_same, define, normal, outcome, taken

from fastbp.dropin.acceleration import start_accelerating, stop_accelerating
from fastbp.dropin.beginning.calls import Counter

IM2COL = """
import numpy as np

EXTRA = 0


def out_size(size, filter_size, stride, pad):
    return (size + 2 * pad - filter_size) // stride + 1


def im2col(images, fh, fw, stride=1, pad=0):
    N, C, H, W = images.shape
    OH, OW = out_size(H, fh, stride, pad), out_size(W, fw, stride, pad)
    img = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    col = np.zeros((N, C, fh, fw, OH, OW))
    for y in range(fh):
        for x in range(fw):
            col[:, :, y, x, :, :] = img[:, :, y : y + stride * OH : stride, x : x + stride * OW : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * OH * OW, C * fh * fw)
"""
STRIDES = """
import numpy as np


def im2col(x, h, w, stride, pad):
    if pad > 0:
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * h * w).astype(float)
"""
COL2IM = """
import numpy as np


def col2im(cols, x_shape, fh, fw, stride=1, pad=0):
    N, C, H, W = x_shape
    OH = 1 + (H + 2 * pad - fh) // stride
    OW = 1 + (W + 2 * pad - fw) // stride
    cols = cols.reshape(N, OH, OW, C, fh, fw).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((N, C, H + 2 * pad + stride - 1, W + 2 * pad + stride - 1))
    for x in range(fw):
        for y in range(fh):
            img[:, :, y : y + stride * OH : stride, x : x + stride * OW : stride] += cols[:, :, y, x]
    return img[:, :, pad : H + pad, pad : W + pad]
"""
RANDOM_ORDER = (".transpose(0, 4, 5, 1, 2, 3)", ".transpose(0, 4, 5, 2, 3, 1)")
WINDOWS = [(3, 3, 1, 1), (5, 2, 2, 0), (1, 1, 1, 0), (2, 4, 3, 2)]


def both(source, folder):
    """The module, plain and accelerated, what was found of its function, and the counts."""
    plain, counter = define(source, folder), Counter()
    found = start_accelerating(counter)
    before = len(found)
    try:
        fast = define(source, folder)
    finally:
        stop_accelerating()
    return plain, fast, found[before], counter.counts


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("source", [IM2COL, STRIDES])
def test_im2col_in_other_words_is_accelerated(source, dtype, tmp_path):
    plain, fast, found, counts = both(source, tmp_path)
    for window in WINDOWS:
        x = normal(3, 2, 9, 8, dtype=dtype)
        x[0, 0, 0, 0] = np.nan
        expected, actual = plain.im2col(x, *window), fast.im2col(x, *window)
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == expected.dtype
    assert taken(counts, "im2col") == len(WINDOWS)
    assert (found.accelerated, found.how) == (True, "im2col, tried on 24 inputs")


def test_col2im_in_other_words_is_accelerated(tmp_path):
    plain, fast, found, counts = both(COL2IM, tmp_path)
    shape = 3, 2, 9, 8
    for fh, fw, stride, pad in WINDOWS:
        places = ((9 + 2 * pad - fh) // stride + 1) * ((8 + 2 * pad - fw) // stride + 1)
        cols = normal(3 * places, 2 * fh * fw)
        assert_same(
            fast.col2im(cols, shape, fh, fw, stride, pad), plain.col2im(cols, shape, fh, fw, stride, pad), "images"
        )
    assert taken(counts, "col2im") == len(WINDOWS)
    assert found.accelerated


def test_what_is_no_array_or_of_another_dtype_is_its_own(tmp_path):
    plain, fast, _, _ = both(IM2COL.replace("OH, OW))", "OH, OW), images.dtype)"), tmp_path)
    x = normal(2, 1, 6, 6)
    for given in (x.astype(np.float32), (100 * x).astype(np.int64), x.tolist(), None, x[0]):
        assert_same(outcome(fast.im2col, given, 3, 3), outcome(plain.im2col, given, 3, 3), "patches")
    assert_same(outcome(fast.im2col), outcome(plain.im2col), "no arguments")
    assert_same(fast.im2col(x, fw=2, fh=3), plain.im2col(x, fw=2, fh=3), "by name")


def test_the_function_s_own_defaults_count(tmp_path):
    plain, fast, _, counts = both(IM2COL.replace("stride=1, pad=0", "stride=2, pad=1"), tmp_path)
    x = normal(2, 1, 7, 6)
    for window in ((3, 2), (3, 2, 1), (3, 2, 1, 0)):
        np.testing.assert_array_equal(fast.im2col(x, *window), plain.im2col(x, *window))
    assert taken(counts, "im2col") == 3


NO_REST = "    assert (H + 2 * pad - fh) % stride == 0\n    assert (W + 2 * pad - fw) % stride == 0\n"
ONLY = {
    "windows without a rest": (
        ("    col = np", NO_REST + "    col = np"),
        [(3, 3, 2, 1), (3, 4, 1, 0), (3, 3, 2, 0), (2, 4, 2, 0)],
        3,
    ),
    "windows of stride 1": (
        ("x + stride * OW : stride", "x + stride * OW"),
        [(3, 3, 1, 1), (1, 1, 1, 0), (2, 2, 2, 0)],
        2,
    ),
}


@pytest.mark.parametrize("name", ONLY)
def test_what_is_right_for_some_windows_is_accelerated_for_these(name, tmp_path):
    edit, windows, expected = ONLY[name]
    plain, fast, found, counts = both(IM2COL.replace(*edit), tmp_path)
    x = normal(2, 3, 9, 7)
    for window in windows:
        assert_same(outcome(fast.im2col, x, *window), outcome(plain.im2col, x, *window), f"{window}")
    assert found.how == f"im2col, tried on 24 {name}"
    assert taken(counts, "im2col") == expected


OTHERS = {
    "another order": (IM2COL, *RANDOM_ORDER),
    "another frame": (IM2COL, '"constant"', '"edge"'),
    "another number of rows": (IM2COL, "out_size(H, fh, stride, pad), ", "out_size(H, fh, stride, 0), "),
    "a global": (IM2COL, "return col", "global EXTRA\n    EXTRA += 1\n    return col"),
    "the images changed": (IM2COL, "    col = np", "    images[0] = 0\n    col = np"),
    "one size alone": (IM2COL, "    col = np", "    if fh == 7:\n        return 0\n    col = np"),
    "by the numbers": (IM2COL, "    col = np", "    if images.max() > 1e9:\n        return 0\n    col = np"),
    "random numbers": (IM2COL, "    col = np", "    np.random.rand()\n    col = np"),
    "a mean": (COL2IM, "+= cols", "+= 0.5 * cols"),
    "the last one": (COL2IM, "+= cols", "= cols"),
    "a view": (STRIDES, ".reshape(-1, x.shape[1] * h * w).astype(float)", ""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_gives_something_else_is_left(name, tmp_path):
    source, old, new = OTHERS[name]
    assert old in source
    plain, fast, found, counts = both(source.replace(old, new), tmp_path)
    function = "col2im" if source is COL2IM else "im2col"
    given = (normal(98, 18), (2, 2, 7, 7), 3, 3, 1, 1) if source is COL2IM else (normal(2, 2, 7, 7), 3, 3, 1, 1)
    np.random.seed(1)
    getattr(fast, function)(*map(np.copy, given[:1]), *given[1:])
    after = np.random.get_state()[1:3]
    np.random.seed(1)
    getattr(plain, function)(*map(np.copy, given[:1]), *given[1:])
    assert_same(after[0], np.random.get_state()[1], "the random state")
    assert after[1] == np.random.get_state()[2]
    for _ in range(2):
        assert_same(
            outcome(getattr(fast, function), *map(np.copy, given[:1]), *given[1:]),
            outcome(getattr(plain, function), *map(np.copy, given[:1]), *given[1:]),
            name,
        )
    assert taken(counts, function) == 0
    assert not found.accelerated
    assert found.reason
    assert fast.EXTRA == plain.EXTRA if source is IM2COL else True


def test_a_helper_that_changes_later_is_seen(tmp_path):
    plain, fast, _, counts = both(IM2COL, tmp_path)
    x = normal(2, 1, 6, 6)
    assert_same(fast.im2col(x, 3, 3), plain.im2col(x, 3, 3), "before")
    for module in (plain, fast):
        module.out_size = lambda size, filter_size, stride, pad: 2
    assert_same(fast.im2col(x, 3, 3), plain.im2col(x, 3, 3), "after")
    assert taken(counts, "im2col") == 1
