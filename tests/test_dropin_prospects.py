"""Whether a class may be a kernel's at all, by one call: what is none of theirs does not bring the kernels to begin."""

from __future__ import annotations

import numpy as np
import pytest
from dropin_cases import define, outcome, run, write
from test_dropin_attributes import FLAGS, KEPT, OF_IMAGES
from test_dropin_variants import CASES
from variants import REWRITINGS, variant

from fastbp.dropin.trials.prospects import may_be_ours, may_be_ours_to_make

RECURRENT = """
import numpy as np


class RNN:
    def __init__(self, Wx, Wh, b):
        self.params, self.cache = [Wx, Wh, b], None

    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        h_next = np.tanh(np.dot(h_prev, Wh) + np.dot(x, Wx) + b)
        self.cache = (x, h_prev, h_next)
        return h_next

    def backward(self, dh_next):
        return dh_next


class Scaled:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        return 2 * np.dot(x, self.W) + self.b

    def backward(self, dout):
        return dout


class Printing(Scaled):
    def forward(self, x):
        print("forward")
        return np.dot(x, self.W) + self.b
"""


def looked_at(module, name, made_of, given):
    made = getattr(module, name)
    layer = made(*made_of)
    result = layer.forward(*given)
    return may_be_ours(made, layer, given, result, made.forward)


def test_what_is_none_of_theirs(tmp_path):
    module = define(RECURRENT, tmp_path)
    square, x = np.ones((4, 4)), np.random.default_rng(0).random((5, 4))
    assert not looked_at(module, "RNN", (square, square, np.zeros(4)), (x, x))
    assert not looked_at(module, "Scaled", (square, np.zeros(4)), (x,))
    assert not looked_at(module, "Printing", (square, np.zeros(4)), (x,))


class Drawing:
    def __init__(self):
        self.kept = np.zeros(3)

    def forward(self, x):
        self.kept[...] = np.random.rand(3)
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dout):
        return dout


def test_a_look_before_a_call_leaves_the_object_and_the_random_stream_as_they_are(tmp_path):
    module = define(RECURRENT.replace("2 * np.dot", "np.dot"), tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 4))
    scaled = module.Scaled(np.ones((4, 4)), np.zeros(4))
    assert may_be_ours_to_make(module.Scaled, scaled, (x,), module.Scaled.forward)
    printing = module.Printing(np.ones((4, 4)), np.zeros(4))
    assert not may_be_ours_to_make(module.Printing, printing, (x,), module.Printing.forward)
    assert not may_be_ours_to_make(module.Scaled, scaled, (x[0, 0],), module.Scaled.forward)  # it would raise
    np.random.seed(5)
    layer, before = Drawing(), np.random.get_state()[1].copy()
    may_be_ours_to_make(Drawing, layer, (x,), Drawing.forward)
    assert not layer.kept.any()
    assert vars(layer).keys() == {"kept"}
    assert np.array_equal(np.random.get_state()[1], before)
    assert np.random.get_state()[2] == 624  # nothing drawn


DROPPING = """
import numpy as np

class DropoutLayer:
    def __init__(self, dropout_ratio):
        self.mask, self.dropout_ratio = None, dropout_ratio

    def forward(self, x):
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask
"""


@pytest.mark.parametrize(("source", "name"), [(DROPPING, "DropoutLayer"), (FLAGS, "Dropout")])
def test_a_look_at_dropout_draws_nothing(source, name, tmp_path):
    """Neither do the operations that the look compares it with."""
    made, x = getattr(define(source, tmp_path), name), np.ones((9, 4))
    layer = made(0.3)
    result = layer.forward(x)
    before = np.random.get_state()
    assert may_be_ours(made, layer, (x,), result, made.forward)
    assert may_be_ours_to_make(made, layer, (x,), made.forward)
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert np.random.get_state()[2] == before[2]


class Row(list):
    def forward(self, x):
        return x

    def backward(self, dout):
        return dout


def test_objects_that_are_not_plain_are_none_of_theirs():
    assert not may_be_ours_to_make(Row, Row(), (np.ones((5, 4)),), Row.forward)


EVALUATION = """
import sys
import numpy as np
from own import Scaled

layer = Scaled(np.ones((784, 50)), np.zeros(50))
layer.forward(np.ones((60_000, 784), np.float32))
assert ("numba" in sys.modules) == (sys.argv[1:] == ["taken"])
"""


def test_the_first_call_of_a_retyped_layer_is_made_by_kernels_if_it_is_huge(tmp_path):
    script = write(tmp_path, "script.py", EVALUATION)
    for source, *arguments in ((RECURRENT,), (RECURRENT.replace("2 * np.dot", "np.dot"), "taken")):
        write(tmp_path, "own.py", source)
        done = run(tmp_path, "-m", "fastbp", "run", script, *arguments, env={"FASTBP_LEAST_WORK": "1"})
        assert done.returncode == 0, done.stderr


def test_what_takes_the_statistics_of_all_rows_is_looked_at_by_its_shape(tmp_path):
    source = OF_IMAGES.replace("KEEPS", KEPT["a tuple"][0]).replace("TAKES", KEPT["a tuple"][1])
    images = np.random.default_rng(0).random((6, 3, 4, 5))
    assert looked_at(define(source, tmp_path), "BatchNorm2d", (np.ones(3), np.zeros(3)), (images,))
    assert looked_at(define(FLAGS, tmp_path), "Dropout", (0.3,), (np.ones((9, 4)),))


@pytest.mark.parametrize("place", range(len(REWRITINGS)))
def test_no_layer_that_kernels_take_is_given_up(place, tmp_path):
    layer, *edits = REWRITINGS[place]
    module, (arguments, calls) = define(variant(layer, *edits), tmp_path), CASES[layer]
    made = getattr(module, layer)
    seen = []
    for method, *given in calls:
        one = made(*arguments)
        with np.errstate(all="ignore"):
            result = outcome(one.forward, *(np.copy(part) if isinstance(part, np.ndarray) else part for part in given))
        if method == "forward" and not isinstance(result, type):
            seen.append(may_be_ours(made, one, tuple(given), result, made.forward))
    assert any(seen)


SCRIPT = """
import sys

import numpy as np
from fastbp.dropin.beginning import calls
from own import RNN, Scaled

calls._Beginning.RATE = calls._Beginning.LONG = 0  # or it would not begin beside busy processes, or for short calls
weights = np.ones((300, 300)), np.ones((300, 300)), np.zeros(300)
x, layer, scaled = np.ones((100, 300)) * (np.arange(300) % 5 == 0), RNN(*weights), Scaled(*weights[1:])
for _ in range(200):
    layer.forward(x, x)
    scaled.backward(scaled.forward(x))
assert ("numba" in sys.modules) == (sys.argv[1:] == ["counted"])
"""


def test_a_script_of_other_layers_is_over_without_numba(tmp_path):
    write(tmp_path, "own.py", RECURRENT)
    script = write(tmp_path, "script.py", SCRIPT)
    done = run(tmp_path, "-m", "fastbp", "run", script, env={"FASTBP_LEAST_WORK": "1"})
    assert done.returncode == 0, done.stderr
    write(tmp_path, "own.py", RECURRENT.replace("2 * np.dot", "np.dot"))
    done = run(tmp_path, "-m", "fastbp", "run", script, "counted", env={"FASTBP_LEAST_WORK": "1"})
    assert done.returncode == 0, done.stderr


CHANNELS_LAST = """
class MaxPool:
    def __init__(self, size, stride, pad):
        self.size, self.stride, self.pad, self.mask = size, stride, pad, None

    def forward(self, x):
        n, h, w, c = x.shape
        out = x.reshape(n, h // self.size, self.size, w // self.size, self.size, c).max(axis=(2, 4))
        self.mask = out.repeat(self.size, axis=1).repeat(self.size, axis=2) != x
        return out

    def backward(self, dout):
        return dout
"""


def test_pooling_of_images_whose_channels_come_last(tmp_path):
    """Which of its numbers is the size, the stride and the padding there are more ways to try than are looked at."""
    module = define(CHANNELS_LAST, tmp_path)
    assert not looked_at(module, "MaxPool", (2, 2, 0), (np.random.default_rng(0).random((5, 8, 8, 3)),))
