"""Computation graphs with live values: nodes to wire by hand, and a trace of what forward and backward really did.

    from fastbp.graph import AddLayer, MulLayer, Square, trace

    square, scale, add = Square(), MulLayer(), AddLayer()
    with trace() as graph:
        z = add.forward(scale.forward(square.forward(8), 1 / 20), 3)
        da, db = add.backward(1)
        square.backward(scale.backward(da)[0])
    graph.draw("graph.svg")

Nodes take numbers and arrays, keep x (and y) from forward and dx (and dy) from backward, as in the book's chapter 5.
"""

from ._nodes import AddLayer, DivLayer, Dot, Exp, Log, MulLayer, Node, Sin, Square, SubLayer
from ._trace import EXAMPLES as EXAMPLES
from ._trace import FORMATS as FORMATS
from ._trace import Graph, Operation, Value, trace
from ._trace import describe as describe
from ._trace import network_batch as network_batch
from ._trace import square_sum as square_sum

__all__ = [
    "AddLayer",
    "DivLayer",
    "Dot",
    "Exp",
    "Graph",
    "Log",
    "MulLayer",
    "Node",
    "Operation",
    "Sin",
    "Square",
    "SubLayer",
    "Value",
    "trace",
]
