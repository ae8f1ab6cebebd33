"""Nodes on numbers and arrays, and what a trace records of them, of layers, and of the user's own classes."""

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from fastbp import (
    MLP,
    Affine,
    BatchNormalization,
    Convolution,
    Relu,
    Sequential,
    SoftmaxWithLoss,
    nn,
    numerical_gradient,
)
from fastbp.cli._app import app
from fastbp.graph import (
    AddLayer,
    DivLayer,
    Dot,
    Exp,
    Log,
    MulLayer,
    Sin,
    Square,
    SubLayer,
    describe,
    network_batch,
    square_sum,
    trace,
)

NODES = [AddLayer, SubLayer, MulLayer, DivLayer, Dot, Square, Exp, Log, Sin]


def test_the_apples_of_the_book():
    apples, tax = MulLayer(), MulLayer()
    assert tax.forward(apples.forward(100, 2), 1.1) == pytest.approx(220)
    dapples, dtax = tax.backward(1)
    assert apples.backward(dapples) == (pytest.approx(2.2), pytest.approx(110))
    assert (dtax, tax.dx, tax.dy, tax.x, tax.y) == (200, dapples, 200, 200, 1.1)


@pytest.mark.parametrize("make", NODES)
@pytest.mark.parametrize("shapes", [((), ()), ((3, 3), (3, 3)), ((3, 3), (3,)), ((3, 1), (1, 3)), ((), (2, 3))])
def test_derivatives(make, shapes):
    if make is Dot and shapes != ((3, 3), (3, 3)):
        shapes = {(): ((4,), (4,)), (3, 3): ((2, 3), (3,)), (3, 1): ((3,), (3, 2))}[shapes[0]]
    rng, node = np.random.default_rng(0), make()
    operands = [np.asarray(rng.random(shape) + 0.5) for shape in shapes][: node.operands]
    out = node.forward(*operands)
    dout = rng.standard_normal(np.shape(out))
    derivatives = node.backward(dout)
    derivatives = derivatives if isinstance(derivatives, tuple) else (derivatives,)
    for operand, derivative in zip(operands, derivatives, strict=True):
        numeric = numerical_gradient(lambda _: np.sum(make().forward(*operands) * dout), operand)
        assert np.shape(derivative) == operand.shape
        np.testing.assert_allclose(derivative, numeric, rtol=1e-6, atol=1e-8)


def test_python_integers_are_taken():
    square = Square()
    assert square.forward(3) == 9
    assert square.backward(1) == square.dx == 6


def test_the_example_of_the_source():
    """z = x²/20 + y² by hand from (8, 1), step 0.9: the first four z, and where 100 steps end."""
    x, y, z = 8, 1, []
    for _ in range(100):
        squares, scale, add = (Square(), Square()), MulLayer(), AddLayer()
        z.append(add.forward(scale.forward(squares[0].forward(x), 1 / 20), squares[1].forward(y)))
        left, right = add.backward(1)
        dx, dy = squares[0].backward(scale.backward(left)[0]), squares[1].backward(right)
        x, y = x - 0.9 * dx, y - 0.9 * dy
    np.testing.assert_allclose(z[:4], [4.2, 3.28992, 2.603998752, 2.0793256065312], rtol=1e-12)
    np.testing.assert_allclose([x, y], [6.41548094072586e-4, 2.03703597633e-10], rtol=1e-11)


def test_a_trace_knows_every_value_and_gradient():
    graph = square_sum()
    assert [operation.label for operation in graph.operations] == ["^2", "×", "^2", "+"]
    values = {(value.value, value.gradient) for value in graph.values}
    assert values == {(8, 0.8), (64, 0.05), (0.05, 64), (3.2, 1), (1, 2), (1, 1), (4.2, 1)}
    add = graph.operations[-1]
    assert add.inputs == [graph.operations[1].output, graph.operations[2].output]


def test_layers_are_traced_by_the_parameters_that_they_declare():
    images = np.random.default_rng(0).standard_normal((2, 1, 5, 5))
    convolution = Convolution(np.ones((3, 1, 2, 2)), np.zeros(3))
    normalization = BatchNormalization(np.ones(48), np.zeros(48))
    with trace() as graph:
        out = normalization.forward(convolution.forward(images).reshape(2, -1))
        dout = normalization.backward(np.cos(out))
        convolution.backward(dout.reshape(2, 3, 4, 4))
    names = [[value.name for value in operation.inputs] for operation in graph.operations]
    assert names == [["", "W", "b"], ["", "gamma", "beta"]]
    for operation, layer in zip(graph.operations, (convolution, normalization), strict=True):
        for value in operation.inputs[1:]:
            np.testing.assert_array_equal(value.gradient, getattr(layer, f"d{value.name}"))


def test_a_class_of_ones_own_may_have_parameters_of_another_kind():
    class Own:
        parameters = np.ones(3)

        def forward(self, x):
            return 2 * x

        def backward(self, dout):
            return 2 * dout

    own = Own()
    with trace(Own) as graph:
        own.backward(own.forward(np.ones(2)))
    assert len(graph.operations[0].inputs) == 1


def test_a_whole_network_is_traced():
    rng = np.random.default_rng(0)
    network = MLP((6, 5, 4, 3), dtype="float64", seed=0)
    x, t = rng.random((7, 6)), rng.integers(0, 3, 7)
    with trace() as graph:
        gradient = network.gradient(x, t)
    assert [o.label for o in graph.operations] == ["Affine", "Relu", "Affine", "Relu", "Affine", "SoftmaxWithLoss"]
    for before, after in zip(graph.operations, graph.operations[1:], strict=False):
        assert after.inputs[0] is before.output
    np.testing.assert_array_equal(graph.operations[0].inputs[0].value, x)
    np.testing.assert_array_equal(graph.operations[0].inputs[1].gradient, gradient["W1"])
    np.testing.assert_array_equal(graph.operations[4].inputs[2].gradient, gradient["b3"])
    network.params["W1"][...] = 0
    assert np.any(graph.operations[0].inputs[1].value)  # a copy


def test_a_value_used_twice_has_the_sum_of_its_gradients():
    x, double, square = 3.5, MulLayer(), Square()
    with trace() as graph:
        double.forward(2.0, x)
        square.forward(x)
        double.backward(1)
        square.backward(1)
    (value,) = {id(v): v for o in graph.operations for v in o.inputs if v.value == x}.values()
    assert value.gradient == 2 + 7


def test_classes_of_ones_own_and_reshaped_values():
    class Half:
        def forward(self, x):
            return x / 2

        def backward(self, dout):
            return dout / 2

    class Twice(Relu):
        def forward(self, x):
            return 2 * super().forward(x)

    half, twice, last = Half(), Twice(), SoftmaxWithLoss()
    with trace(Half) as graph:
        out = half.forward(np.ones((2, 3)))
        last.forward(twice.forward(out.reshape(3, 2)), [0, 1, 0])
        half.backward(twice.backward(last.backward()).reshape(2, 3))
    assert [o.label for o in graph.operations] == ["Half", "Twice", "SoftmaxWithLoss"]
    assert graph.operations[1].inputs[0] is graph.operations[0].output
    half.forward(1.0)
    assert len(graph.operations) == 3
    assert "forward" in Half.__dict__


def test_the_classes_are_as_before_when_the_block_raises():
    before = Affine.forward
    with pytest.raises(ZeroDivisionError), trace():
        DivLayer().forward(1, 0)
    assert Affine.forward is before


def test_the_language_of_graphviz():
    dot = square_sum().to_dot()
    assert dot.startswith("digraph {\n  rankdir=LR")
    assert dot.count("->") == 7
    assert ">4.2</font>" in dot
    labels = network_batch().to_dot()
    assert "784×50 ‖" in labels
    assert 'label="W"' in labels


def test_descriptions():
    assert [describe(value) for value in (3, 0.123456789, np.float32(2.5))] == ["3", "0.12346", "2.5"]
    assert describe(np.array([[3.0], [4.0]])) == "2×1 ‖5‖"


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_drawing(ending, tmp_path):
    path = square_sum().draw(tmp_path / f"graph.{ending}")
    assert path.read_bytes()[:4] in (b"<?xm", b"\x89PNG", b"%PDF")
    assert "<svg" in square_sum()._repr_svg_()


def test_without_the_package_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(RuntimeError, match=r"needs pygraphviz: pip install 'fastbp\[graph\]'"):
        square_sum().draw(tmp_path / "graph.svg")
    assert square_sum()._repr_svg_() is None
    result = CliRunner().invoke(app, ["graph", "--plot", str(tmp_path / "graph.svg")])
    assert result.exit_code == 2
    assert "needs pygraphviz" in result.output


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MulLayer().forward(1), TypeError, "MulLayer.forward takes 2 values, got 1"),
        (lambda: AddLayer().forward("a", 1), TypeError, "x must be a number or an array of numbers, got 'a'"),
        (lambda: Square().backward(1), RuntimeError, "Square.backward needs a forward before it"),
        (lambda: square_sum().draw("graph.txt"), ValueError, "path must end in .svg, .png, .pdf"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_to_trace.py").write_text(
        "from fastbp.graph import *\ndef f():\n    Square().forward(3)\ndef g():\n    pass\n"
    )
    run = lambda *arguments: CliRunner().invoke(app, ["graph", *arguments])  # noqa: E731
    assert run().stdout == square_sum().to_dot()
    assert 'label="^2"' in run("mine_to_trace:f").stdout
    for arguments, message in (
        (("mine_to_trace:g",), "called no node or layer"),
        (("mine_to_trace:h",), "mine_to_trace:h: module 'mine_to_trace' has no attribute 'h'"),
        (("circle",), "must be one of square-sum, network or MODULE:FUNCTION, got 'circle'"),
        (("network", "--plot", "x.gif"), "--plot must end in .svg, .png, .pdf"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.output.replace("\n", "")


def test_a_convolutional_network_is_traced():
    layers = [nn.Conv(2, 3), nn.BatchNorm(), nn.Relu(), nn.MaxPool(2), nn.Dropout(0.2), nn.Affine(3)]
    network = Sequential((1, 6, 6), layers, dtype="float64", seed=0)
    with trace() as graph:
        gradients = network.gradient(np.random.default_rng(0).random((4, 1, 6, 6)), [0, 1, 2, 0])
    kinds = ["Convolution", "BatchNormalization", "Relu", "Pooling", "SeededDropout", "Affine", "SoftmaxWithLoss"]
    assert [operation.label for operation in graph.operations] == kinds
    assert [len(operation.inputs) for operation in graph.operations] == [3, 3, 1, 1, 1, 3, 2]  # parameters, too
    np.testing.assert_array_equal(graph.operations[0].inputs[1].gradient, gradients["W1"])
    assert graph.operations[0].inputs[0].gradient.shape == (4, 1, 6, 6)
