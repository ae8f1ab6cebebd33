"""Networks that are written out, without layers: their products of images and weights, of two dtypes, are kernels'."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from dropin_cases import assert_same, run, write

WRITTEN_OUT = """
import numpy as np


class Network:
    def __init__(self, rng):
        self.params = {"W1": rng.standard_normal((40, 6)), "W2": rng.standard_normal((6, 3))}

    def predict(self, x):
        W1, W2 = self.params["W1"], self.params["W2"]
        return np.dot(np.tanh(DOT), W2)

    def gradient(self, x, t):
        W1, W2 = self.params["W1"], self.params["W2"]
        z = np.tanh(DOT)
        dy = np.dot(z, W2) - t
        dz = (1 - z * z) * np.dot(dy, W2.T)
        return {"W1": TRANSPOSED, "W2": np.dot(z.T, dy)}
"""
FORMS = {
    "np.dot": ("np.dot(x, W1)", "np.dot(x.T, dz)", "np.dot(x, W)"),
    "method": ("x.dot(W1)", "x.T.dot(dz)", "x.dot(W)"),
    "operator": ("x @ W1", "x.T @ dz", "x @ W"),
}


def sparse(rng, rows, dtype):
    x = rng.integers(1, 200, (rows, 40)) * (rng.random((rows, 40)) < 0.3)
    return x.astype(dtype) if np.dtype(dtype).kind == "u" else (x / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("form", FORMS)
def test_products_of_two_dtypes_are_kernels(both, form, dtype):
    forward, transposed, shown = FORMS[form]
    source = WRITTEN_OUT.replace("DOT", forward).replace("TRANSPOSED", transposed)
    plain, fast, counts = both(source)
    rng = np.random.default_rng(0)
    networks = [module.Network(np.random.default_rng(1)) for module in (plain, fast)]
    for rows in (1, 5, 70):
        x, t = sparse(rng, rows, dtype), rng.random((rows, 3))
        expected, actual = (network.predict(x) for network in networks)
        assert_same(actual, expected, "y")
        expected, actual = (network.gradient(x, t) for network in networks)
        for key in expected:
            assert_same(actual[key], expected[key], key)
            assert actual[key].flags.c_contiguous
    assert counts[shown].calls - counts[shown].passed == 9
    assert counts["np.dot(x, W)"].calls >= 9


@pytest.mark.parametrize(
    ("x", "W"),
    [
        (np.ones((5, 40)), None), (np.ones((5, 40), np.float32), np.ones((40, 6), np.float32)),
        (np.ones(40, np.float32), None), (np.ones((2, 5, 40), np.float32), None), (np.ones((5, 40), complex), None),
        (np.ones((5, 40), np.float16), None), (np.ones((5, 80), np.float32)[:, ::2], None), ([[1.0] * 40], None),
        (np.ones((5, 40), np.float32), np.ones((6, 40)).T), (np.rec.array(np.ones((5, 40), np.float32)), None),
        (np.ma.masked_less(np.ones((5, 40), np.float32), 2), None), (np.ones((5, 39), np.float32), None),
        (np.ones((0, 40), np.float32), None), (np.full((5, 40), np.nan, np.float32), None),
        (np.full((5, 40), 1e38, np.float32), np.full((40, 6), 1e300)),
    ],
)  # fmt: skip
def test_other_products_stay_what_they_are(both, x, W):
    plain, fast, counts = both(WRITTEN_OUT.replace("DOT", "np.dot(x, W1)").replace("TRANSPOSED", "0"))
    outcomes = []
    for module in (plain, fast):
        network = module.Network(np.random.default_rng(1))
        if W is not None:
            network.params["W1"] = W
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = network.predict(x)
            except Exception as error:
                result = type(error), str(error)
        outcomes.append((result, [(str(one.message), one.lineno, one.category) for one in caught]))
    (expected, warned), (actual, also) = outcomes
    assert type(actual) is type(expected)
    assert also == warned
    if isinstance(expected, tuple):
        assert actual == expected
    else:
        np.testing.assert_array_equal(actual, expected)
        assert counts["np.dot(x, W)"].passed >= 1


def test_a_warning_shows_the_line_of_the_script(both):
    plain, fast, _ = both(WRITTEN_OUT.replace("DOT", "np.dot(x, W1)").replace("TRANSPOSED", "0"))
    for module in (plain, fast):
        network = module.Network(np.random.default_rng(1))
        network.params["W1"] = np.full((40, 6), 1e300)
        with pytest.warns(RuntimeWarning, match="overflow") as caught:
            network.predict(np.full((5, 40), 1e38, np.float32))
        (line,) = {one.lineno for one in caught if "overflow" in str(one.message)}
        assert "np.dot(x, W1)" in inspect.getsource(module).splitlines()[line - 1]
        assert caught[0].filename == module.__file__


def test_a_dot_that_is_not_numpys_is_called(both, tmp_path):
    source = WRITTEN_OUT.replace("DOT", "np.dot(x, W1)").replace("TRANSPOSED", "0")
    source = source.replace("import numpy as np", "from types import SimpleNamespace as S\nimport numpy\n") + (
        "\nnp = S(dot=lambda a, b: 2 * numpy.dot(a, b), tanh=numpy.tanh)\n"
    )
    plain, fast, counts = both(source)
    x = sparse(np.random.default_rng(0), 5, np.float32)
    results = [module.Network(np.random.default_rng(1)).predict(x) for module in (plain, fast)]
    np.testing.assert_array_equal(*results)
    assert counts["np.dot(x, W)"].calls == counts["np.dot(x, W)"].passed > 0


@pytest.mark.parametrize("own", ["import numpy as np", "np = numpy", "np, _ = numpy, 0"])
def test_a_numpy_that_the_method_has_to_itself(both, own):
    source = (
        WRITTEN_OUT.replace("DOT", "np.dot(x, W1)")
        .replace("TRANSPOSED", "0")
        .replace("import numpy as np", "import numpy")
    )
    source = source.replace("        W1, W2 = self", f"        {own}\n        W1, W2 = self")
    plain, fast, _ = both(source)
    x = sparse(np.random.default_rng(0), 5, np.float32)
    results = [module.Network(np.random.default_rng(1)).predict(x) for module in (plain, fast)]
    np.testing.assert_array_equal(*results)


SCRIPT = """
import numpy as np
from own import Network

network = Network(np.random.default_rng(0))
network.params = {"W1": np.ones((400, 60)), "W2": np.ones((60, 3))}
x = np.ones((300, 400), DTYPE)
for _ in range(1500):
    network.predict(x)
"""


@pytest.mark.parametrize("dtype", ["np.float32", "np.float64"])
def test_the_report_says_whether_any_was_a_kernels(tmp_path, dtype):
    write(tmp_path, "own.py", WRITTEN_OUT.replace("DOT", "np.dot(x, W1)").replace("TRANSPOSED", "0"))
    script = write(tmp_path, "script.py", SCRIPT.replace("DTYPE", dtype))
    done = run(tmp_path, "-m", "fastbp", "run", script, env={"FASTBP_LEAST_WORK": "1"})
    assert done.returncode == 0, done.stderr
    assert ("nothing was accelerated" in done.stderr) == (dtype == "np.float64")


def test_an_audit_compares_them(tmp_path):
    write(tmp_path, "own.py", WRITTEN_OUT.replace("DOT", "np.dot(x, W1)").replace("TRANSPOSED", "0"))
    script = write(tmp_path, "script.py", SCRIPT.replace("DTYPE", "np.float32").replace("1500", "3"))
    done = run(tmp_path, "-m", "fastbp", "audit", "--json", "report.json", script)
    assert done.returncode == 0, done.stderr
    assert "np.dot(x, W)" in done.stderr
