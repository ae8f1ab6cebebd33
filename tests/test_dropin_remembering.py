"""What trials have found is kept for the next run: for the same class, object and call, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from dropin_cases import define

import fastbp
from fastbp.dropin.patching import LAYER
from fastbp.dropin.trials import classes, remembering

SOURCE = """
import numpy as np


def product(a, b, scale=1):
    return np.dot(a, b) * scale


class Affine:
    factor = 1

    def __init__(self, W, b):
        self.W, self.b, self.places = W, b, np.arange(3)

    def forward(self, x):
        self.x = x
        return product(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = product(self.x.T, dout), np.sum(dout, axis=0)
        return product(dout, self.W.T)
"""


@pytest.fixture
def cache(monkeypatch):
    """What is kept, by name, in place of files."""
    entries = {}
    monkeypatch.setattr(remembering, "read_cache_entry", entries.get)
    monkeypatch.setattr(remembering, "write_cache_entry", entries.__setitem__)
    return entries


def tried(source, folder, x, change=lambda layer: None):
    """The verdict on a class, for a call with x."""
    module = define(source, folder)
    layer = module.Affine(np.ones((4, 3)), np.zeros(3))
    change(layer)
    own = {name: vars(module.Affine)[name] for name in LAYER}
    return classes.try_class(module.Affine, layer, (x,), own)


def test_what_was_found_is_not_tried_again(cache, tmp_path, monkeypatch):
    x, source = np.ones((5, 4)), SOURCE + "\n# of its own\n"
    monkeypatch.setattr("dropin_cases.NUMBERS", iter([7] * 9))  # a module of the same name
    first = tried(source, tmp_path, x)
    assert len(cache) == 1
    monkeypatch.setattr(classes, "_try_families", None)
    again = tried(source, tmp_path, 2 * x, lambda layer: layer.W.fill(7))
    assert again._replace(forms=again.forms.only_for(None, ())) == first._replace(forms=first.forms.only_for(None, ()))
    assert again.forms.forward[0].tried.made is not first.forms.forward[0].tried.made


CHANGES = {
    "code of the class": (SOURCE.replace("+ self.b", "+ 1 * self.b"), np.ones((5, 4)), None),
    "a function's code": (SOURCE.replace("* scale", "* 1 * scale"), np.ones((5, 4)), None),
    "a function's default": (SOURCE.replace("scale=1", "scale=2"), np.ones((5, 4)), None),
    "where it stands, for the reason that is given": ("\n" + SOURCE, np.ones((5, 4)), None),
    "an attribute of the class": (SOURCE.replace("factor = 1", "factor = 2"), np.ones((5, 4)), None),
    "dtype of the argument": (SOURCE, np.ones((5, 4), np.float32), None),
    "shape of the argument": (SOURCE, np.ones((5, 2, 2)), None),
    "dtype of a weight": (SOURCE, np.ones((5, 4)), lambda layer: setattr(layer, "b", np.zeros(3, np.float32))),
    "an integer of an array": (SOURCE, np.ones((5, 4)), lambda layer: layer.places.fill(1)),
    "another attribute": (SOURCE, np.ones((5, 4)), lambda layer: setattr(layer, "flag", True)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_verdict_depends_on_has_another_name(change, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("dropin_cases.NUMBERS", iter([7] * 9))
    tried(SOURCE, tmp_path, np.ones((5, 4)))
    source, x, of_layer = CHANGES[change]
    tried(source, tmp_path, x, of_layer or (lambda layer: None))
    assert len(cache) == 2


def test_what_cannot_be_read_is_tried_again(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("dropin_cases.NUMBERS", iter([7] * 9))
    first = tried(SOURCE, tmp_path, np.ones((5, 4)))
    (name,) = cache
    cache[name] = b"no pickle"
    again = tried(SOURCE, tmp_path, np.ones((5, 4)))
    assert again.how == first.how
    assert cache[name] != b"no pickle"


SCRIPT = """
import sys

import numpy as np

import fastbp
from fastbp.dropin.beginning import calls
from fastbp.dropin.trials import classes

calls._beginning.over = True
if sys.argv[1] == "again":
    classes._try_families = None
found = fastbp.accelerate()
import own

layer = own.Affine(np.ones((4, 3)), np.zeros(3))
assert (layer.forward(np.ones((5, 4))) == 4).all()
assert found[-1].accelerated, found[-1]
"""


def test_the_next_process_finds_it(tmp_path):
    (tmp_path / "own.py").write_text(SOURCE)
    environment = {**os.environ, "FASTBP_CACHE_DIR": str(tmp_path / "cache")}
    for time in ("first", "again"):
        command = [sys.executable, "-c", SCRIPT, time]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (entry,) = tmp_path.glob("cache/*/*.trial")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", SCRIPT, "first"], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0
    assert entry.read_bytes() != content


def test_clearing_the_cache_deletes_it(tmp_path, monkeypatch):
    from fastbp._kernel_cache import clear_cache
    from fastbp.kernels.runtime import cache

    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path))
    cache.cache_directory.cache_clear()
    try:
        fastbp.backends.write_cache_entry("a.trial", b"1")
        assert fastbp.backends.read_cache_entry("a.trial") == b"1"
        clear_cache()
        assert fastbp.backends.read_cache_entry("a.trial") is None
    finally:
        cache.cache_directory.cache_clear()
