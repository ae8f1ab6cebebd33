"""What forward and backward really did, recorded and drawn."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..layers._base import Layer
from ._nodes import AddLayer, MulLayer, Node, Square

FORMATS = (".svg", ".png", ".pdf")


@dataclass(eq=False)
class Value:
    """A number or array on an edge: a copy, and, after backward, its gradient.

    Attributes:
        value: the number or array.
        gradient: of the same shape, or None.
        name: of a parameter, such as W.

    Examples:
        >>> from fastbp.graph import Square, trace
        >>> with trace() as graph:
        ...     _ = Square().forward(3)
        >>> graph.operations[0].output.value
        9
    """

    value: Any
    gradient: Any = None
    name: str = ""


@dataclass(eq=False)
class Operation:
    """One call of forward, and of backward where there was one.

    Attributes:
        label: the node's symbol, or the layer's class.
        inputs: the values that go in, parameters last.
        output: the value that comes out.
        owner: the node or layer.

    Examples:
        >>> from fastbp.graph import Square, trace
        >>> with trace() as graph:
        ...     _ = Square().forward(3)
        >>> graph.operations[0].label, graph.operations[0].inputs[0].value
        ('^2', 3)
    """

    label: str
    inputs: list[Value]
    output: Value
    owner: Any = None


@dataclass(repr=False)
class Graph:
    """What a `trace` recorded, in the order of the forward calls. A notebook shows it as a drawing.

    Attributes:
        operations: one for each call of forward.

    Examples:
        >>> from fastbp.graph import square_sum
        >>> graph = square_sum()
        >>> [operation.label for operation in graph.operations]
        ['^2', '×', '^2', '+']
        >>> graph.to_dot().splitlines()[0]
        'digraph {'
        >>> graph.draw("graph.svg").name
        'graph.svg'
    """

    operations: list[Operation] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Graph({' '.join(operation.label for operation in self.operations)})"

    @property
    def values(self) -> list[Value]:
        """Every value once: first those that go into an operation, then its result."""
        found = {id(v): v for operation in self.operations for v in (*operation.inputs, operation.output)}
        return list(found.values())

    def to_dot(self) -> str:
        """The graph in Graphviz's language: left to right, values above gradients on each edge."""
        lines = [
            "digraph {",
            "  rankdir=LR",
            '  node [fontname="Helvetica"]',
            '  edge [fontname="Helvetica", fontsize=11]',
        ]
        producers = {id(operation.output): f"o{i}" for i, operation in enumerate(self.operations)}
        used = {id(value) for operation in self.operations for value in operation.inputs}
        for i, operation in enumerate(self.operations):
            lines.append(f"  o{i} [label={_quoted(operation.label)}, shape={_shape(operation.label)}]")
        for i, value in enumerate(self.values):
            source = producers.get(id(value))
            if source is None:
                source = f"v{i}"
                lines.append(
                    f"  {source} [label={_quoted(value.name)}, shape={'plaintext' if value.name else 'point'}]"
                )
            targets = [f"o{j}" for j, o in enumerate(self.operations) for v in o.inputs if v is value]
            if id(value) not in used:
                targets = [f"e{i}"]
                lines.append(f'  e{i} [label="", shape=point]')
            lines += [f"  {source} -> {target} [label={_edge_label(value)}]" for target in targets]
        return "\n".join([*lines, "}", ""])

    def draw(self, path: str | Path) -> Path:
        """Draw the graph.

        Args:
            path: ending in .svg, .png or .pdf.

        Returns:
            The path.

        Raises:
            ValueError: for another ending.
            RuntimeError: where pygraphviz (extra `graph`) is missing.
        """
        path = Path(path)
        if path.suffix.lower() not in FORMATS:
            raise ValueError(f"path must end in {', '.join(FORMATS)}, got {path}")
        path.write_bytes(self._rendered(path.suffix.lower()[1:]))
        return path

    def _rendered(self, kind: str) -> bytes:
        try:
            import pygraphviz  # its wheels bring Graphviz with them
        except ImportError:
            raise RuntimeError("drawing graphs needs pygraphviz: pip install 'fastbp[graph]'") from None
        return pygraphviz.AGraph(string=self.to_dot()).draw(format=kind, prog="dot")

    def _repr_svg_(self) -> str | None:
        """For notebooks; without pygraphviz they show the repr instead."""
        try:
            return self._rendered("svg").decode()
        except RuntimeError:
            return None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shape(label: str) -> str:
    return "circle" if len(label) <= 3 else "box"


def _edge_label(value: Value) -> str:
    above = html.escape(describe(value.value))
    below = "" if value.gradient is None else html.escape(describe(value.gradient))
    return f'<<font color="black">{above}</font><br/><font color="#c44e52">{below or " "}</font>>'


def describe(value: Any) -> str:
    """A number to five digits, an array by its shape and its norm."""
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array.item():.5g}" if array.dtype.kind == "f" else str(array.item())
    norm = float(np.sqrt(np.sum(np.square(array, dtype=np.float64))))
    return f"{'×'.join(map(str, array.shape))} ‖{norm:.3g}‖"


class _Recorder:
    """Links calls by the very objects that one returns and another takes; keeps them alive, so that an id stays theirs."""

    def __init__(self) -> None:
        self.graph, self._known, self._alive = Graph(), {}, []  # type: ignore[var-annotated]

    def _value_of(self, thing: Any, name: str = "") -> Value:
        value = self._known.get(id(thing))
        if value is None and isinstance(thing, np.ndarray) and thing.base is not None:
            whole = self._known.get(id(thing.base))  # the same numbers in another shape
            value = whole if whole is not None and np.size(whole.value) == thing.size else None
        return value or self._new(thing, name)

    def _new(self, thing: Any, name: str = "") -> Value:
        value = self._known[id(thing)] = Value(np.array(thing) if isinstance(thing, np.ndarray) else thing, name=name)
        self._alive.append(thing)
        return value

    def forward(self, owner: Any, operands: tuple[Any, ...], result: Any) -> None:
        inputs = [self._value_of(operand) for operand in operands]
        inputs += [self._value_of(getattr(owner, name), name) for name in _parameters(owner)]
        label = getattr(owner, "symbol", "") or type(owner).__name__
        self.graph.operations.append(Operation(label, inputs, self._new(result), owner))

    def backward(self, owner: Any, dout: Any, result: Any) -> None:
        for operation in reversed(self.graph.operations):
            if operation.owner is owner:
                break
        else:
            return
        if operation.output.gradient is None:
            operation.output.gradient = _copied(dout)
        gradients = list(result) if isinstance(result, tuple) else [result]
        gradients += [owner.gradient_of(name) for name in _parameters(owner)]
        for value, gradient in zip(operation.inputs, gradients, strict=False):
            value.gradient = _copied(gradient) if value.gradient is None else value.gradient + gradient


def _parameters(owner: Any) -> tuple[str, ...]:
    """What a layer of fastbp declares; a user's own class may mean something else by the word."""
    return owner.parameters if isinstance(owner, Layer) else ()


def _copied(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray) else value


def _subclasses(cls: Any) -> Iterator[Any]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


@contextmanager
def trace(*more: type) -> Iterator[Graph]:
    """Record every forward and backward call of nodes and layers inside the `with` block.

    Recorded are this module's nodes, fastbp's layers, networks made of them and subclasses of them all. A value is
    recognised where the very object that one forward returned goes into another. Values are copies: what is changed in place
    later is not seen. Where backward is called several times for one value, its gradients add up.

    Args:
        more: further classes with forward and backward, the user's own.

    Returns:
        A context manager that gives the Graph.

    Examples:
        >>> import numpy as np
        >>> import fastbp
        >>> from fastbp.graph import trace
        >>> network = fastbp.MLP((4, 5, 3), seed=0)
        >>> with trace() as graph:
        ...     _ = network.gradient(np.ones((2, 4)), [0, 1])
        >>> [operation.label for operation in graph.operations]
        ['Affine', 'Relu', 'Affine', 'SoftmaxWithLoss']
    """
    recorder = _Recorder()
    classes = dict.fromkeys(cls for base in (Node, Layer, *more) for cls in _subclasses(base))
    originals = [
        (cls, name, cls.__dict__[name]) for cls in classes for name in ("forward", "backward") if name in cls.__dict__
    ]
    depth = [0]
    for cls, name, original in originals:
        setattr(cls, name, _recording(original, name, recorder, depth))
    try:
        yield recorder.graph
    finally:
        for cls, name, original in originals:
            setattr(cls, name, original)


def _recording(original: Any, name: str, recorder: _Recorder, depth: list[int]) -> Any:
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        depth[0] += 1
        try:
            result = original(self, *arguments, **named)
        finally:
            depth[0] -= 1
        if depth[0] == 0:  # a method that calls its parent's is one call
            operands = (*arguments, *(value for key, value in named.items() if key != "train_flg"))
            if name == "forward":
                recorder.forward(self, operands, result)
            else:
                recorder.backward(self, operands[0] if operands else 1, result)
        return result

    return call


def square_sum(x: Any = 8, y: Any = 1) -> Graph:
    """z = x² / 20 + y² at (8, 1), forward and backward."""
    squares, scale, add = (Square(), Square()), MulLayer(), AddLayer()
    with trace() as graph:
        add.forward(scale.forward(squares[0].forward(x), 1 / 20), squares[1].forward(y))
        dx, dy = add.backward(1)
        squares[0].backward(scale.backward(dx)[0])
        squares[1].backward(dy)
    return graph


def network_batch() -> Graph:
    """The MNIST network of the book, 784-50-10, on one batch of 100 random images."""
    from ..networks._mlp import MLP

    rng = np.random.default_rng(0)
    network = MLP((784, 50, 10), dtype="float64", backend="numpy", seed=0)
    with trace() as graph:
        network.gradient(rng.random((100, 784)), rng.integers(0, 10, 100))
    return graph


EXAMPLES = {"square-sum": square_sum, "network": network_batch}
