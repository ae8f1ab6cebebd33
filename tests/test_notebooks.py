"""The tour runs, in both languages it is the same, and what notebooks show of fastbp's own objects."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import fastbp
from fastbp import _notebook
from fastbp._progress import progress_bar
from fastbp.comparison import Comparison, Recipe, Run, RunSpec

DOCS = Path(__file__).parents[1] / "docs"
TOURS = [DOCS / "tour.ipynb", DOCS / "tour.ja.ipynb"]


def code_of(path):
    return [cell["source"] for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_tours_have_the_same_code_and_keep_their_outputs():
    assert code_of(TOURS[0]) == code_of(TOURS[1])
    for path in TOURS:
        assert path.stat().st_size < 2_000_000
        cells = json.loads(path.read_text("utf-8"))["cells"]
        assert sum(bool(cell.get("outputs")) for cell in cells) >= 10
        assert not [one for cell in cells for one in cell.get("outputs", []) if one["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_tour_runs():
    notebook = nbformat.read(TOURS[0], as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    text = json.dumps(notebook["cells"])
    assert "parity ok" in text
    assert "0 loss 2." in text


def cells_outputs(*sources):
    """What cells of a notebook show, as MIME types and data."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return [output for cell in notebook.cells for output in cell.outputs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_shows_progress_networks_and_histories():
    shown = cells_outputs(
        "import numpy as np, fastbp\nnetwork = fastbp.MLP((2, 3, 2), seed=0)\nnetwork",
        "history = fastbp.Trainer(network, batch_size=2).fit(np.eye(2), [0, 1], iterations=30)\nhistory",
    )
    html = [one["data"]["text/html"] for one in shown if "data" in one]
    assert "17 parameters" in html[0]
    assert '<progress value="30" max="30">' in html[1]
    assert "<polyline" in html[2]
    assert "30 iterations" in html[2]


def test_outside_of_a_notebook_there_is_none():
    assert not _notebook.in_notebook()
    code = """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance()
from fastbp._notebook import in_notebook
print(in_notebook())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    with progress_bar("nothing", 1, shown=False) as advance:
        advance(1, "")


def test_text_in_tables_and_bars_is_escaped():
    assert "<b>" not in _notebook.table("<b>", ["<b>"], [["<b>"]]) + _notebook.bar("<b>", 1, 2, 0.4, "<b>")


@pytest.mark.parametrize(
    "losses", [[], [1.0], [np.nan, np.inf], [2.0, np.nan, 1.0], np.full(1000, 3.0), np.arange(1e4)]
)
def test_curves_of_all_kinds(losses):
    drawn = _notebook.curve(np.array(losses), "loss")
    points = drawn.partition('points="')[2].partition('"')[0].split()
    finite = np.isfinite(losses).sum()
    assert len(points) == (0 if finite < 2 else min(finite, _notebook.CURVE_WIDTH))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_comparison_shows_every_run_and_the_verdict():
    histories = [
        fastbp.History(np.ones(3), [fastbp.Evaluation(0, 0.5, 0.25)], train_seconds=seconds) for seconds in (4.0, 2.0)
    ]
    runs = [
        Run(RunSpec(backend, "float64"), 0.0, history)
        for backend, history in zip(("numpy", "numba"), histories, strict=True)
    ]
    shown = Comparison(Recipe(iterations=3), runs)._repr_html_()
    for expected in ("numpy:float64", "numba:float64", ">2.0<", "0.5000 / 0.2500", "parity ok"):
        assert expected in shown
    assert repr(fastbp.TwoLayerNet(4, 3, 2)).startswith("TwoLayerNet((4, 3, 2), activation='relu'")
