"""What a backend is: its functions, and their types. reference.py says what each does; kernels/ has them compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Backend(Protocol):
    """The functions over clean arrays that layers, networks and training call."""

    def activation_backward(self, dout: Array, saved: Array, name: str) -> Array: ...

    def activation_forward(self, x: Array, name: str) -> Array: ...

    def affine_backward(
        self, dout: Array, x: Array, W: Array, needs_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...

    def affine_forward(self, x: Array, W: Array, b: Array) -> Array: ...

    def affine_network(self, widths: Sequence[int], activations: Sequence[str], dtype: DTypeLike) -> Any: ...

    def affine_stack(self, widths: Sequence[int], activations: Sequence[str], dtype: DTypeLike) -> Any: ...

    def average_pooling_backward(
        self, dout: Array, x_shape: Sequence[int], pool_h: int, pool_w: int, stride: int, pad: int
    ) -> Array: ...

    def average_pooling_forward(self, x: Array, pool_h: int, pool_w: int, stride: int, pad: int) -> Array: ...

    def batch_gradient(
        self,
        parameters: Array,
        architecture: Any,
        x: Any,
        t: Array,
        batch: Array,
        gradient: Array,
        terms: Any = None,
        step: int = 0,
    ) -> float: ...

    def batch_normalization_apply(
        self, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
    ) -> Array: ...

    def batch_normalization_backward(
        self, dout: Array, gamma: Array, xc: Array, xn: Array, std: Array
    ) -> tuple[Array, Array, Array]: ...

    def batch_normalization_forward(
        self, x: Array, gamma: Array, beta: Array, epsilon: float
    ) -> tuple[Array, Array, Array, Array, Array, Array]: ...

    def col2im(
        self, col: Array, x_shape: Sequence[int], filter_h: int, filter_w: int, stride: int, pad: int
    ) -> Array: ...

    def convolution_backward(
        self, dout: Array, padded: Array, W: Array, stride: int, pad: int, needs_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...

    def convolution_forward(self, x: Array, W: Array, b: Array, stride: int, pad: int) -> tuple[Array, Array]: ...

    def count_correct(self, parameters: Array, architecture: Any, x: Any, t: Array) -> int: ...

    def dropout_backward(self, dout: Array, mask: Array, scale: float) -> Array: ...

    def dropout_forward(self, x: Array, draws: Array, ratio: float, scale: float) -> tuple[Array, Array]: ...

    def exact_update(
        self,
        name: str,
        parameters: Sequence[Array],
        gradients: Sequence[Array],
        state: Sequence[Sequence[Array]],
        settings: Sequence[float],
        tame: float,
    ) -> bool: ...

    def im2col(self, x: Array, filter_h: int, filter_w: int, stride: int, pad: int, dtype: DTypeLike) -> Array: ...

    def largest_magnitude(self, x: Array, ignore_nan: bool = False) -> float: ...

    def leaky_relu_backward(self, dout: Array, mask: Array, slope: float) -> Array: ...

    def leaky_relu_forward(self, x: Array, slope: float) -> tuple[Array, Array]: ...

    def lstm_backward(self, dh: Array, dc: Array, c: Array, kept: Sequence[Array]) -> tuple[Array, Array]: ...

    def lstm_forward(self, of_x: Array, of_h: Array, c: Array) -> tuple[Array, Array, Array, Array, Array, Array]: ...

    def normalized_stack(
        self, widths: Sequence[int], activations: Sequence[str], epsilons: Sequence[float | None], dtype: DTypeLike
    ) -> Any: ...

    def optimizer_update(self, rule: Any, parameters: Array, gradients: Array, state: Array) -> None: ...

    def pooling_backward(
        self, dout: Array, arg_max: Array, x_shape: Sequence[int], pool_h: int, pool_w: int, stride: int, pad: int
    ) -> Array: ...

    def pooling_forward(self, x: Array, pool_h: int, pool_w: int, stride: int, pad: int) -> tuple[Array, Array]: ...

    def prepare_data(self, x: Array, divisor: float | None = None) -> Any: ...

    def random_doubles(self, state: Array, count: int) -> Array: ...

    def relu_backward(self, dout: Array, mask: Array, out: Array | None = None) -> Array: ...

    def relu_forward(self, x: Array, strict: bool = False) -> tuple[Array, Array]: ...

    def run_program(
        self, program: Any, inputs: Sequence[Array], constants: Sequence[float], outputs: Sequence[Array]
    ) -> Array | None: ...

    def seeded_dropout_forward(self, x: Array, draw: Any, ratio: float, scale: float) -> tuple[Array, Array]: ...

    def sigmoid_backward(self, dout: Array, out: Array) -> Array: ...

    def sigmoid_cross_entropy_forward(self, x: Array, t: Array) -> tuple[float, Array]: ...

    def sigmoid_forward(self, x: Array) -> Array: ...

    def softmax_cross_entropy_backward(self, y: Array, t: Array) -> Array: ...

    def softmax_cross_entropy_forward(self, x: Array, t: Array) -> tuple[float, Array]: ...

    def sum_of_squares(self, x: Array) -> float: ...

    def tanh_backward(self, dout: Array, out: Array) -> Array: ...

    def tanh_forward(self, x: Array) -> Array: ...

    def target_loss_backward(self, y: Array, t: Array, name: str) -> Array: ...

    def target_loss_forward(self, x: Array, t: Array, name: str) -> tuple[float, Array]: ...

    def train_steps(
        self,
        parameters: Array,
        architecture: Any,
        data: Any,
        batches: Array,
        rule: Any,
        state: Array,
        record: Any,
        terms: Any = None,
    ) -> None: ...
