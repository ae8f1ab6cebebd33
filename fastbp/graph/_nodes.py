"""Nodes to wire by hand: an operation on numbers or arrays, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np


class Node:
    """An operation on x, or on x and y, to wire by hand. A base class: see AddLayer.

    Its own `_value` is the result, `_derivatives` those of its operands times dout.

    Attributes:
        x: the first operand of the last `forward`.
        y: the second one.
        dx: the derivative with respect to x, after `backward`.
        dy: the derivative with respect to y.

    Examples:
        >>> from fastbp.graph import Node
        >>> class Cube(Node):
        ...     symbol, operands = "^3", 1
        ...
        ...     def _value(self, x):
        ...         return x**3
        ...
        ...     def _derivatives(self, dout):
        ...         return (dout * 3 * self.x**2,)
        >>> cube = Cube()
        >>> cube.forward(2), cube.backward(1)
        (8, 12)
    """

    symbol = ""
    operands = 2

    def __init__(self) -> None:
        self.x: Any = None
        self.y: Any = None
        self.dx: Any = None
        self.dy: Any = None
        self._called = False

    def forward(self, *operands: Any) -> Any:
        """The result for x, or for x and y. Raises TypeError for another number of operands, or for no numbers."""
        if len(operands) != self.operands:
            raise TypeError(f"{type(self).__name__}.forward takes {self.operands} values, got {len(operands)}")
        for name, value in zip("xy", operands, strict=False):
            if np.asarray(value).dtype.kind not in "biuf":
                raise TypeError(f"{name} must be a number or an array of numbers, got {value!r}")
        self.x, self.y = (*operands, None)[:2]
        self._called = True
        return self._value(*operands)

    def backward(self, dout: Any = 1) -> Any:
        """dout, the derivative with respect to the result -> dx, or dx and dy. Raises RuntimeError before any forward."""
        if not self._called:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        derivatives = [
            _summed_to(value, operand)
            for value, operand in zip(self._derivatives(dout), (self.x, self.y), strict=False)
        ]
        self.dx, self.dy = (*derivatives, None)[:2]
        return derivatives[0] if self.operands == 1 else tuple(derivatives)

    def _value(self, *operands: Any) -> Any:
        raise NotImplementedError

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        raise NotImplementedError


def _summed_to(derivative: Any, operand: Any) -> Any:
    """The derivative by an operand that was broadcast: summed over the axes along which it was repeated."""
    shape = np.shape(operand)
    if np.shape(derivative) == shape:
        return derivative
    array = np.asarray(derivative)
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    stretched = tuple(i for i, (now, then) in enumerate(zip(array.shape, shape, strict=True)) if then == 1 and now != 1)
    return array.sum(axis=stretched, keepdims=True) if stretched else array


class AddLayer(Node):
    """x + y, of numbers or arrays.

    Examples:
        >>> from fastbp.graph import AddLayer
        >>> node = AddLayer()
        >>> node.forward(3, 4), node.backward(1)
        (7, (1, 1))
    """

    symbol = "+"

    def _value(self, x: Any, y: Any) -> Any:
        return x + y

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        shape = np.broadcast_shapes(np.shape(self.x), np.shape(self.y))
        dout = dout if np.shape(dout) == shape else np.broadcast_to(dout, shape)
        return dout * 1, dout * 1


class SubLayer(AddLayer):
    """x - y, of numbers or arrays.

    Examples:
        >>> from fastbp.graph import SubLayer
        >>> node = SubLayer()
        >>> node.forward(3, 4), node.backward(1)
        (-1, (1, -1))
    """

    symbol = "−"

    def _value(self, x: Any, y: Any) -> Any:
        return x - y

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        dx, dy = super()._derivatives(dout)
        return dx, -dy


class MulLayer(Node):
    """x * y, of numbers or arrays.

    Examples:
        >>> from fastbp.graph import MulLayer
        >>> node = MulLayer()
        >>> node.forward(3, 4), node.backward(1)
        (12, (4, 3))
    """

    symbol = "×"

    def _value(self, x: Any, y: Any) -> Any:
        return x * y

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return dout * self.y, dout * self.x


class DivLayer(Node):
    """x / y, of numbers or arrays.

    Examples:
        >>> from fastbp.graph import DivLayer
        >>> node = DivLayer()
        >>> node.forward(3, 4), node.backward(1)
        (0.75, (0.25, -0.1875))
    """

    symbol = "÷"

    def _value(self, x: Any, y: Any) -> Any:
        return x / y

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return dout / self.y, -dout * self.x / self.y**2


class Dot(Node):
    """x @ y, of matrices (N, D) and (D, M) or vectors (D,).

    Examples:
        >>> import numpy as np
        >>> from fastbp.graph import Dot
        >>> node = Dot()
        >>> float(node.forward(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
        11.0
        >>> node.backward(1)
        (array([3., 4.]), array([1., 2.]))
    """

    symbol = "dot"

    def _value(self, x: Any, y: Any) -> Any:
        return np.asarray(x) @ np.asarray(y)

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        x, y, dout = np.asarray(self.x), np.asarray(self.y), np.asarray(dout)
        if x.ndim == 1 and y.ndim == 1:
            return dout * y, dout * x
        if x.ndim == 1:
            return y @ dout, np.outer(x, dout)
        if y.ndim == 1:
            return np.outer(dout, y), x.T @ dout
        return dout @ y.T, x.T @ dout


class _Unary(Node):
    operands = 1


class Square(_Unary):
    """x².

    Examples:
        >>> from fastbp.graph import Square
        >>> node = Square()
        >>> node.forward(3), node.backward(1)
        (9, 6)
    """

    symbol = "^2"

    def _value(self, x: Any) -> Any:
        return x**2

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return (dout * 2 * self.x,)


class Exp(_Unary):
    """e to the power of x.

    Examples:
        >>> from fastbp.graph import Exp
        >>> node = Exp()
        >>> float(node.forward(0)), float(node.backward(1))
        (1.0, 1.0)
    """

    symbol = "exp"

    def _value(self, x: Any) -> Any:
        self.out = np.exp(x)
        return self.out

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return (dout * self.out,)


class Log(_Unary):
    """The natural logarithm of x.

    Examples:
        >>> from fastbp.graph import Log
        >>> node = Log()
        >>> float(node.forward(1)), node.backward(1)
        (0.0, 1.0)
    """

    symbol = "log"

    def _value(self, x: Any) -> Any:
        return np.log(x)

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return (dout / self.x,)


class Sin(_Unary):
    """The sine of x.

    Examples:
        >>> from fastbp.graph import Sin
        >>> node = Sin()
        >>> float(node.forward(0)), float(node.backward(1))
        (0.0, 1.0)
    """

    symbol = "sin"

    def _value(self, x: Any) -> Any:
        return np.sin(x)

    def _derivatives(self, dout: Any) -> tuple[Any, ...]:
        return (dout * np.cos(self.x),)
