"""`python -m bench.scripts`: what it says of scripts that are right, and of some that are not."""

from __future__ import annotations

import pytest

from fastbp.bench import scripts
from fastbp.bench.dropin import write_common

TRAIN = """import numpy as np
from common.layers import *
affine, last = Affine(np.random.randn(30, 4), np.zeros(4)), SoftmaxWithLoss()
rate = 0.1
for step in range(20):
    x, t = np.random.randn(50, 30), np.random.randint(0, 4, 50)
    print("loss", last.forward(affine.forward(x), t))
    affine.backward(last.backward())
    affine.W -= rate * affine.dW
{last}
"""


@pytest.fixture
def checkout(tmp_path):
    def write(last=""):
        (tmp_path / "ch05").mkdir(exist_ok=True)
        (tmp_path / "ch05" / "train.py").write_text(
            "import sys, os\nsys.path.append(os.pardir)\n" + TRAIN.replace("{last}", last), "utf-8"
        )
        return tmp_path

    write_common(tmp_path)
    return write


def test_a_script_is_run_every_way_and_its_file_stays_as_it_was(checkout):
    folder = checkout("print(object())")  # whose address is another in every run
    before = (folder / "ch05" / "train.py").read_text()
    (one,) = scripts.examine_all(folder, [], rounds=1, limit=100)
    assert (one.script, one.same_text, one.same_warnings, one.identical_runs) == ("ch05/train.py", True, True, True)
    assert one.audit.startswith("same, ")
    assert one.seconds > 0 < one.fast_seconds
    assert (folder / "ch05" / "train.py").read_text() == before
    assert "| ch05/train.py | " in scripts.row(one)


def test_what_differs_is_said(checkout):
    differs = (
        'import random, sys\nif "fastbp" in sys.modules:\n    print("hello", random.random())\n    import warnings\n'
    )
    (one,) = scripts.examine_all(
        checkout(differs + '    warnings.warn("ours")'), ["ch05/train.py"], rounds=1, limit=100
    )
    assert (one.same_text, one.same_warnings, one.identical_runs) == (False, False, False)


@pytest.mark.slow
def test_statuses_and_time_limits_are_said(checkout):
    (one,) = scripts.examine_all(checkout("raise KeyError(3)"), ["ch05/train.py"], rounds=1, limit=100)
    assert one.note == "status 1 under Python: KeyError: 3"
    assert one.same_text
    assert one.audit.startswith("same, ")
    (one,) = scripts.examine_all(checkout("while True: pass"), ["ch05/train.py"], rounds=1, limit=1)
    assert "not done in 1 s" in one.note


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("loss 0.25", "loss 0.2500000001", True),
        ("loss 0.25", "loss 0.26", False),
        ("loss nan", "loss nan", True),
        ("loss 1e-16 a", "loss 2e-17 a", True),
        ("loss 0.25", "lose 0.25", False),
        ("1 2", "1", False),
    ],
)
def test_numbers_may_differ_in_their_last_digits(one, other, same):
    assert scripts.same_text(one, other) is same


def test_an_edit_that_finds_nothing_is_an_error(checkout):
    with pytest.raises(ValueError, match="there is no 'epochs = 9' to replace"):
        scripts.edit(checkout() / "ch05" / "train.py", [("epochs = 9", "epochs = 1")])


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""\nfrom __future__ import annotations\n',
        "#\nfrom __future__ import (\n    division,\n)  # 2\n",
        "",
        "x = 1\n",
    ],
)
def test_imports_from_the_future_stay_first(tmp_path, source):
    file = tmp_path / "one.py"
    file.write_text(source, "utf-8")
    scripts.edit(file, [])
    edited = file.read_text("utf-8")
    compile(edited, file.name, "exec")
    assert edited.count("numpy.random.seed(0)") == 1
