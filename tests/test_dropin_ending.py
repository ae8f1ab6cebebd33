"""How `fastbp run` ends a process: what a script leaves to Python's last collection of garbage still happens."""

from __future__ import annotations

import pytest
from dropin_cases import run, write

HEAD = """
import atexit, gc, os, sys, weakref
from numba import njit

def say(text, write=os.write):  # standard output may be gone by then
    write(1, text)

class Watched:
    def __init__(self):
        self.me = self

kept = Watched()

def tell(_, say=say, frozen=gc.get_freeze_count):
    say(b"left out" if frozen() else b"collected")

class Last:
    pass

last = Last()
sys.last_words = weakref.ref(last, tell)  # as the script's variables go, after all that atexit has called
"""

ACTING = {
    "__del__ in a cycle": "Watched.__del__ = lambda self, say=say: say(b'deleted')",
    "a file in a cycle": "kept.file = open('text', 'w'); kept.file.write('all of it')",
    "a generator in a cycle": """
def steps(say=say):
    try:
        yield
    finally:
        say(b'closed')
kept.steps = steps()
next(kept.steps)""",
    "made by atexit": """
def late():
    kept.file = open('text', 'w')
    kept.file.write('all of it')
atexit.register(late)""",
}


@pytest.mark.parametrize("acting", ACTING.values(), ids=ACTING)
def test_what_acts_when_it_is_collected_acts(tmp_path, acting):
    script, text = write(tmp_path, "script.py", HEAD + acting), tmp_path / "text"
    results = []
    for way in ((), ("-m", "fastbp", "run")):
        text.unlink(missing_ok=True)
        result = run(tmp_path, *way, script)
        assert result.returncode == 0
        results.append((result.stdout, text.read_text() if text.exists() else None))
    assert "collected" in results[1][0]
    assert any(word in repr(results[0]) for word in ("deleted", "closed", "all of it"))
    assert results[0][0].replace("collected", "") == results[1][0].replace("collected", "")
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("more", ["", "kept.file = open('text', 'w'); kept.file.close()"], ids=["", "a closed file"])
def test_else_numbas_objects_are_left_out(tmp_path, more):
    result = run(tmp_path, "-m", "fastbp", "run", write(tmp_path, "script.py", HEAD + more))
    assert result.stdout == "left out", result.stderr
