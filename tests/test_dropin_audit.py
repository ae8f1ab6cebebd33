"""`fastbp audit`: what it compares, how it measures rounding, and what it says."""

from __future__ import annotations

import ast
import json
import sys

import numpy as np
import pytest
from dropin_cases import CONVNET, TRAIN, run, write

import fastbp
from fastbp.bench.dropin import write_common
from fastbp.dropin import acceleration, command
from fastbp.dropin.auditing import Auditor, DifferenceFound
from fastbp.dropin.beginning.calls import PASS
from fastbp.dropin.operations.methods import FORMS
from fastbp.dropin.reading.known_versions import KNOWN_VERSIONS, KnownVersion
from fastbp.dropin.reading.recognition import digest
from fastbp.dropin.rounding import terms_of


@pytest.fixture
def folder(tmp_path):
    write_common(tmp_path)
    return tmp_path


def test_audit_passes_and_reports(folder):
    script = write(folder, "script.py", CONVNET.replace("range(100)", "range(3)"))
    result = run(folder, "-m", "fastbp", "audit", "--json", "audit.json", script)
    assert result.returncode == 0, result.stderr
    report = json.loads((folder / "audit.json").read_text())
    assert report["difference"] is None
    calls = report["calls"]["Convolution.backward"]
    assert (calls["calls"], calls["passed"]) == (3, 0)
    assert 0 < calls["relative"] < 1e-12
    assert calls["own_seconds"] > 0 < calls["seconds"]
    row = next(line for line in result.stderr.splitlines() if line.startswith("Convolution.backward"))
    assert row.split()[1:3] == ["3", "0"]


DROPPING = """
import numpy as np
from common.layers import *

class Network:
    def __init__(self):
        self.params = {"W": 0.1 * np.random.randn(20, 8), "b": np.zeros(8)}
        self.layers = [Affine(self.params["W"], self.params["b"]), BatchNormalization(np.ones(8), np.zeros(8)), Relu()]

    def gradient(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        dout = x - 1
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return {"W": self.layers[0].dW, "b": self.layers[0].db}

np.random.seed(0)
network = Network()
for _ in range(20):
    network.gradient(np.random.randn(50, 20))
"""


def test_audit_leaves_out_what_the_network_drops_and_says_so(folder, monkeypatch, capsys):
    """The gradient of the images is not computed; the bias before batch normalisation has a gradient of 0 and rounding."""
    write(folder, "script.py", DROPPING)
    (gradient,) = (
        node for node in ast.walk(ast.parse(DROPPING)) if isinstance(node, ast.FunctionDef) and node.name == "gradient"
    )
    monkeypatch.setitem(KNOWN_VERSIONS, digest(gradient), KnownVersion("gradient"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(folder)
    with fastbp.accelerated():
        command.audit([str(folder / "script.py")])
    acceleration.stop_accelerating()
    for name in [name for name in sys.modules if name.partition(".")[0] == "common"]:
        del sys.modules[name]
    report = capsys.readouterr().err
    assert (
        "Affine.backward: in 20 calls the gradient of the network's input was neither computed nor compared" in report
    )
    assert "Different" not in report


def test_audit_keeps_the_random_state_and_the_results(folder):
    script = write(folder, "script.py", TRAIN.replace("epochs=20", "epochs=2"))
    plain, audited = run(folder, script), run(folder, "-m", "fastbp", "audit", script)
    assert audited.returncode == 0, audited.stderr
    assert audited.stdout.splitlines()[-3:] == plain.stdout.splitlines()[-3:]


class Layer:
    def __init__(self):
        self.kept = np.zeros(3)

    def forward(self, x):
        self.kept = 2 * x
        return x + 1


def wrong(change):
    def forward(self, x):
        self.kept, result = 2 * x, x + 1
        return change(self, result)

    return forward


def change_result(self, result):
    result[1] += 1e-6
    return result


def change_attribute(self, result):
    self.kept[2] = np.nan
    return result


def draw(self, result):
    np.random.rand()
    return result


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_result, r"call 2: result\[1\] is .*3.0.* by your code, .*3.000001.* by fastbp"),
        (change_attribute, r"call 2: kept\[2\] is .*6.0.* by your code, .*nan.* by fastbp"),
        (draw, r"call 2: random state"),
        (lambda self, result: result.astype(np.float32), r"call 2: result is float64 .* float32"),
    ],
)
def test_audit_finds_the_first_difference(change, message):
    auditor, layer = Auditor(), Layer()
    exact = auditor("Layer.forward", wrong(lambda self, result: result), Layer.forward)
    exact(layer, np.array([1.0, 2.0, 3.0]))
    faulty = auditor("Layer.forward", wrong(change), Layer.forward)
    with pytest.raises(DifferenceFound, match=message):
        faulty(layer, np.array([1.0, 2.0, 3.0]))


def test_audit_ends_with_status_1(folder):
    script = write(folder, "script.py", CONVNET)
    start = write(
        folder,
        "start.py",
        """
        import sys
        from fastbp.dropin import command
        from fastbp.dropin.operations import layers
        right = layers.relu_forward
        def wrong(x):
            out, mask = right(x)
            out[0, 0, 0, 1] = 9
            return out, mask
        layers.relu_forward = wrong
        command.audit(["script.py"])
        """,
    )
    result = run(folder, start)
    assert script
    assert result.returncode == 1
    assert "Different: Relu.forward, call 1: result[0, 0, 0, 1] is " in result.stderr
    assert "9.0" in result.stderr


@pytest.mark.parametrize(("faulty", "found"), [(1e-16, False), (1e-9, True)])
def test_a_sum_that_cancelled_is_compared_with_its_terms(faulty, found):
    """dout's columns add up to 0 but for rounding: as much again is no difference, and 1e-9 of the terms is one."""

    class Affine:
        def __init__(self):
            self.W, self.b, self.x = np.ones((2, 2)), np.zeros(2), np.ones((4, 2))
            self.original_x_shape = self.x.shape

        def backward(self, dout):
            self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
            return dout @ self.W.T

    def fast(layer, dout):
        result = Affine.backward(layer, dout)
        layer.db = layer.db + faulty
        return result

    fast.forms = FORMS["Affine"].backward
    audited = Auditor()("Affine.backward", fast, Affine.backward)
    dout = np.array([[0.1, 2.0], [0.2, -2.0], [-0.3, 0.5], [0.0, -0.5]])
    assert 0 < abs(dout.sum(axis=0)[0]) < 1e-15
    if found:
        with pytest.raises(DifferenceFound, match=r"db\[0\]"):
            audited(Affine(), dout)
    else:
        audited(Affine(), dout)


@pytest.mark.parametrize("kept", [list, tuple, dict])
@pytest.mark.parametrize(("faulty", "found"), [(1e-16, False), (1e-9, True)])
def test_terms_are_those_of_each_part_of_a_list_whatever_is_written_into_it(kept, faulty, found):
    """The terms of dW are a million times those of db, and the layer writes both into arrays that it was given."""

    class Affine:
        def __init__(self):
            self.W, self.b, self.x = np.ones((2, 2)), np.zeros(2), np.full((4, 2), 1e6)
            self.original_x_shape = self.x.shape
            both = np.zeros((2, 2)), np.zeros(2)
            self.grads = dict(enumerate(both)) if kept is dict else kept(both)

        def backward(self, dout):
            self.grads[0][...], self.grads[1][...] = self.x.T @ dout, dout.sum(axis=0)
            return dout @ self.W.T

    def fast(layer, dout):
        result = Affine.backward(layer, dout)
        layer.grads[1][...] += faulty
        return result

    fast.forms = FORMS["Affine"].backward
    dout = np.array([[0.1, 2.0], [0.2, -2.0], [-0.3, 0.5], [0.0, -0.5]])
    audited = Auditor()("Affine.backward", fast, Affine.backward)
    layer = Affine()
    if found:
        with pytest.raises(DifferenceFound, match=r"grads\[1\]\[0\] is .*5.5.*e-17.* by your code, .*e-09.* by fastbp"):
            audited(layer, dout)
    else:
        audited(layer, dout)
        assert (layer.grads[1] == dout.sum(axis=0) + faulty).all()


@pytest.mark.parametrize("faulty", [0, 1e-6])
def test_what_is_written_into_an_attribute_is_written_once_and_compared(faulty):
    """The gradient is an attribute and an entry of a list; the user's own way must not have written into the layer's own."""

    class Affine:
        def __init__(self):
            self.W, self.x, self.dW = np.ones((3, 2)), np.arange(12.0).reshape(4, 3), np.zeros((3, 2))
            self.grads = [self.dW]

        def backward(self, dout):
            self.dW += self.x.T @ dout
            return dout @ self.W.T

    def fast(layer, dout):
        result = Affine.backward(layer, dout)
        layer.dW += faulty
        return result

    layer, dout = Affine(), np.ones((4, 2))
    audited = Auditor()("Affine.backward", fast, Affine.backward)
    if faulty:
        with pytest.raises(DifferenceFound, match=r"dW\[0, 0\] is .*18.0.* by your code, .*18.000001.* by fastbp"):
            audited(layer, dout)
    else:
        audited(layer, dout)
        assert layer.grads[0] is layer.dW
        assert (layer.dW == layer.x.T @ dout).all()


CONFIDENT = """
import numpy as np

class SoftmaxWithLoss:
    def forward(self, x, t):
        self.t = t
        e = np.exp(x)
        self.y = e / np.sum(e, axis=1, keepdims=True)
        return -np.sum(np.log(self.y[np.arange(len(t)), t])) / len(t)

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)

layer = SoftmaxWithLoss()
for right in np.arange(20.0, 36.0, 0.05):
    layer.forward(np.array([[right, 0.1, 0.3], [0.2, 0.1, right + 1]]), np.array([0, 2]))
"""


def test_the_loss_of_a_prediction_that_is_nearly_sure_is_rounding(folder):
    """The logarithm of 1 - 2e-11 has five right digits, whoever computes it."""
    script = write(folder, "script.py", CONFIDENT)
    result = run(folder, "-m", "fastbp", "audit", "--json", "audit.json", script)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "audit.json").read_text())["calls"]["SoftmaxWithLoss.forward"]["passed"] == 0


def test_the_terms_of_a_prediction_are_those_of_the_running_statistics():
    """One row has no variance of its own, by which everything would be rounding."""
    layer = type("BatchNormalization", (), {})()
    vectors = {name: np.ones(3) for name in ("gamma", "beta", "running_mean", "running_var")}
    vars(layer).update(vectors, momentum=0.9)

    def fast(*arguments):
        raise NotImplementedError

    fast.forms = FORMS["BatchNormalization"].forward
    x = np.array([[1.0, 2.0, 3.0]])
    predicted = terms_of(fast, fast, (layer, x, False))["result"]
    assert 3 < predicted < 100
    assert terms_of(fast, fast, (layer, x, True))["result"] > 100 * predicted


def test_tolerance_of_an_audit():
    def slightly(self, x):
        self.kept = 2 * x
        return (x + 1) * (1 + 1e-6)

    with pytest.raises(DifferenceFound):
        Auditor()("f", slightly, Layer.forward)(Layer(), np.ones(3))
    Auditor(1e-5)("f", slightly, Layer.forward)(Layer(), np.ones(3))
    assert Auditor()("f", lambda self, x: PASS, Layer.forward)(Layer(), np.ones(3)).tolist() == [2, 2, 2]
