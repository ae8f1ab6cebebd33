"""Methods of networks, compiled anew with calls of kernels: for loops through layers (see `stacking`), and expressions.

    weight_decay += 0.5 * self.weight_decay_lambda * np.sum(W ** 2)
    a1 = np.dot(x, W1) + b1
    grads["W1"] = np.dot(x.T, da1)

The sum is made without the array of the squares: with it, a step of a network of five or six hidden layers of 100 takes 3 to
10 % longer. The product is made without a copy of x in the dtype of W, and without its zeros, where x is of another dtype
than W, as data sets are: in half of NumPy's time for MNIST. Others are NumPy's. Where the operands are not what the kernel
takes, the call computes the expression as it stood (see `recompiling`).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ..beginning import calls
from ..beginning.estimates import seconds_of_product
from ..beginning.idling import Idling
from ..objects.arguments import LEAST_ELEMENTWISE, LEAST_PRODUCT, PASS, are_mixed, is_array
from ..objects.marks import mark
from ..operations.kernel_calls import is_silent, is_tame, kernels
from ..reading.network_methods import Loss, method_of
from ..reading.recognition import copied_tree, function_node
from .recompiling import LOOKING, is_installed, recompiled
from .stacking import stack_loops
from .steps import Called, network_calls

OF_NETWORKS = {"forward", "backward", "layers", "params", "W", "weights", "w"}  # names in a method that is looked into
NUMPYS = {"sum": np.sum, "dot": np.dot}
NAME = "_fastbp_expression"
_A, _B = (
    ast.Name("a", ast.Load()),
    ast.Name("b", ast.Load()),
)  # the operands, as an expression's own function names them


def with_kernels(method: FunctionType, owner: str, wrap: calls.Wrapper, idling: Idling) -> FunctionType | None:
    """The method of a class of that name, with calls for such expressions and loops; None if it has none.

    wrap: how the calls are made, see `calls`; idling: what notes their sizes.
    """
    code = method.__code__
    if OF_NETWORKS.isdisjoint(code.co_names) or code.co_freevars or is_installed(code):
        return None
    node = function_node(method)
    if node is None or node.decorator_list:
        return None
    node = copied_tree(node)
    stacked, network, called = dict[str, Any](), None, Called({}, [])
    if LOOKING.isdisjoint(code.co_names):
        network = method_of(node)
        stacked = stack_loops(node, owner, wrap)
        called = network_calls(node, network, owner, wrap)
        stacked.update(called.names)
    rewriting = _Rewriting(method, node)
    rewritten = rewriting.visit(node)
    names: dict[str, Any] = {**stacked}
    for place, one in enumerate(rewriting.found):
        fast = _Expression(one, idling, method.__name__, method.__globals__)
        names[f"{NAME}{place}"] = wrap(one.shown, fast, one.own)
    if not (rewriting.found or stacked):
        return None
    made = recompiled(method, owner, rewritten, names)
    if isinstance(network, Loss) and called.aside:
        node.body = called.aside
        network = network._replace(aside=recompiled(method, owner, node, names))
    mark(made, network=network)
    return made


def mixed_product(a: Any, b: Any) -> Any:
    """np.dot(x, W) or np.dot(x.T, dout), where x, of a data set, is of another dtype than the other, float64."""
    if not are_mixed(a, b) or a.size * b.shape[1] < LEAST_PRODUCT:
        return PASS
    if a.flags.c_contiguous:
        out = kernels.affine_forward(a, b, np.zeros(b.shape[1]))
    else:
        out = kernels.affine_backward(b, a.T, np.empty((len(a), b.shape[1])), False)[1]  # W, which it does not read
    return out if is_tame(out) or is_silent(b, a) else PASS


def sum_of_squares(x: Any) -> Any:
    """np.sum(x ** 2), of weights."""
    if not is_array(x) or x.size < LEAST_ELEMENTWISE or not x.flags.c_contiguous:
        return PASS
    total = kernels.sum_of_squares(x)
    return np.float64(total) if math.isfinite(total) else PASS


class _Found(NamedTuple):
    """How an expression is shown, the kernel's function, the expression as it stood, as a function of its operands, and
    the names of a module and of the function of it that it calls, if it does."""

    shown: str
    kernel: Callable[..., Any]
    own: FunctionType
    calls_numpy: tuple[str, str] | None


class _Expression:
    """One of the two functions above, of which `idling` notes whether the method of that name has large arrays.

    are_used: whether any took a call, in this process.
    """

    are_used = False

    def __init__(self, found: _Found, idling: Idling, name: str, names: Mapping[str, Any]):
        self.idling, self._kernel, self._name = idling, found.kernel, name
        self._calls_numpy, self._names = found.calls_numpy, names

    def __call__(self, *operands: Any) -> Any:
        result = self._kernel(*operands) if self._is_numpys() else PASS
        if result is PASS:
            self.idling.small(self._name)
        else:
            self.idling.large()
            _Expression.are_used = True
        return result

    def _is_numpys(self) -> bool:
        """Whether the function that the expression calls is NumPy's: it may be CuPy's, or somebody's own."""
        if self._calls_numpy is None:
            return True
        module, name = self._calls_numpy
        return getattr(self._names.get(module), name, None) is NUMPYS[name]

    def weigh(self, seconds: float, operands: tuple[Any, ...], result: Any) -> float | None:
        """How much of a call counts towards the beginning of the kernels; None for a product that is left to NumPy."""
        if self._kernel is sum_of_squares:
            return seconds
        return seconds_of_product(*operands) if are_mixed(*operands) else None


def are_used() -> bool:
    """Whether a kernel has taken any expression, in this process."""
    return _Expression.are_used


class _Rewriting(ast.NodeTransformer):
    """Makes calls of the expressions."""

    def __init__(self, method: FunctionType, node: ast.FunctionDef):
        self.method, self.bound = method, set(_bound(node))
        self.found: list[_Found] = []

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=module), attr="sum") as function,
                args=[ast.BinOp(left=squared, op=ast.Pow(), right=ast.Constant(value=2) as two) as squares],
                keywords=[],
            ) if module not in self.bound:
                power = ast.copy_location(ast.BinOp(_A, ast.Pow(), two), squares)
                own = ast.Call(function, [power], [])
                return self._call("np.sum(W ** 2)", sum_of_squares, node, [squared], own, (module, "sum"))
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=module), attr="dot") as function, args=[_, _], keywords=[]
            ) if module not in self.bound:
                own = ast.Call(function, [_A, _B], [])
                return self._call("np.dot(x, W)", mixed_product, node, node.args, own, (module, "dot"))
            case ast.Call(func=ast.Attribute(value=operand, attr="dot"), args=[other], keywords=[]):
                own = ast.Call(ast.Attribute(_A, "dot", ast.Load()), [_B], [])
                return self._call("x.dot(W)", mixed_product, node, [operand, other], own)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        own = ast.BinOp(_A, ast.MatMult(), _B)
        return self._call("x @ W", mixed_product, node, [node.left, node.right], own)

    def _call(
        self, shown: str, kernel: Callable[..., Any], node: ast.expr, operands: list[ast.expr], own: ast.expr,
        calls_numpy: tuple[str, str] | None = None,
    ) -> ast.expr:  # fmt: skip
        """own: the expression as it stands, of operands a and b; calls_numpy: see _Found."""
        call = ast.Call(ast.Name(f"{NAME}{len(self.found)}", ast.Load()), operands, [])
        self.found.append(_Found(shown, kernel, self._function(node, own, len(operands)), calls_numpy))
        return ast.fix_missing_locations(ast.copy_location(call, node))

    def _function(self, node: ast.expr, own: ast.expr, count: int) -> FunctionType:
        """An expression, a function of its operands, where `node` stands: NumPy's warnings name and show that line."""
        arguments = ast.arguments([], [ast.arg(one.id) for one in (_A, _B)[:count]], None, [], [], None, [])
        function = ast.Expression(ast.copy_location(ast.Lambda(arguments, ast.copy_location(own, node)), node))
        whole = ast.fix_missing_locations(copied_tree(function))
        made: FunctionType = eval(compile(whole, self.method.__code__.co_filename, "eval"), self.method.__globals__)
        made.__name__ = self.method.__name__
        return made


def _bound(node: ast.FunctionDef) -> Iterator[str]:
    """The names that a method, or a function in it, gives a value: their `np` is not the module's."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load):
            yield one.id
        elif isinstance(one, ast.arg):
            yield one.arg
        elif isinstance(one, ast.alias):
            yield (one.asname or one.name).partition(".")[0]
