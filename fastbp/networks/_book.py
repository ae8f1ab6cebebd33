"""The book's networks of chapters 6 to 8, with its arguments, its initial weights and its names of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import _checks as checks
from .._activations import ACTIVATIONS
from .._checks import Array
from ..nn import Activation, Affine, BatchNorm, Conv, Dropout, LayerSpec, MaxPool, Relu
from ._planning import Settings
from ._sequential import Sequential

CONV_PARAM = {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1}
STANDARD_DEVIATIONS = {"relu": "he", "he": "he", "sigmoid": "xavier", "xavier": "xavier"}  # the book's words for them
DEEP_CONV_PARAMS = tuple(
    {"filter_num": filters, "filter_size": 3, "pad": pad, "stride": 1}
    for filters, pad in ((16, 1), (16, 1), (32, 1), (32, 2), (64, 1), (64, 1))
)


class SimpleConvNet(Sequential):
    """The book's network of chapter 7: convolution, ReLU, 2x2 max pooling, Affine, ReLU, Affine, softmax with loss.

    Args:
        input_dim: the channels, height and width of an image.
        conv_param: filter_num, filter_size, pad and stride of the convolution.
        hidden_size: the number of hidden units.
        output_size: the number of classes.
        weight_init_std: the standard deviation of the initial weights, or "he" or "xavier".
        dtype: "float64", the book's, or "float32", which is twice as fast.
        backend: "numba" or "numpy"; None for the default.
        seed: for numpy.random.default_rng; None draws from NumPy's global random state, as the book does.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range, and sizes that do not fit.

    Examples:
        >>> import fastbp
        >>> network = fastbp.SimpleConvNet(seed=0)
        >>> list(network.layers)
        ['Convolution1', 'Relu1', 'Pooling1', 'Affine1', 'Relu2', 'Affine2']
        >>> list(network.params)
        ['W1', 'b1', 'W2', 'b2', 'W3', 'b3']
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param: Mapping[str, int] = CONV_PARAM,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float | str = 0.01,
        *,
        dtype: str | type | np.dtype[Any] = "float64",
        backend: str | None = None,
        seed: int | None = None,
    ):
        layers = [_conv(conv_param, "conv_param"), Relu(), MaxPool(2), Affine(hidden_size), Relu(), Affine(output_size)]
        self._build(input_dim, layers, Settings(_draws(seed), weight_init_std, dtype, backend, seed))


class DeepConvNet(Sequential):
    """The book's network of chapter 8: six convolutions of 3x3 in pairs, each pair with pooling behind it, and dropout.

    Conv, ReLU, conv, ReLU, pooling, three times; then Affine, ReLU, dropout, Affine, dropout, softmax with loss. Initial
    weights are He's, of the inputs that the book counts. Its dropout is the book's, which scales when predicting.

    Args:
        input_dim: the channels, height and width of an image.
        conv_param_1: filter_num, filter_size, pad and stride of the first convolution.
        conv_param_2: of the second.
        conv_param_3: of the third.
        conv_param_4: of the fourth.
        conv_param_5: of the fifth.
        conv_param_6: of the sixth.
        hidden_size: the number of hidden units.
        output_size: the number of classes.
        dtype: "float64", the book's, or "float32", which is twice as fast.
        backend: "numba" or "numpy"; None for the default.
        seed: for numpy.random.default_rng; None draws from NumPy's global random state, as the book does.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range, and sizes that do not fit.

    Examples:
        >>> import fastbp
        >>> network = fastbp.DeepConvNet(seed=0)
        >>> network.params["W6"].shape, network.params["W7"].shape, network.params["W8"].shape
        ((64, 64, 3, 3), (1024, 50), (50, 10))
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param_1: Mapping[str, int] = DEEP_CONV_PARAMS[0],
        conv_param_2: Mapping[str, int] = DEEP_CONV_PARAMS[1],
        conv_param_3: Mapping[str, int] = DEEP_CONV_PARAMS[2],
        conv_param_4: Mapping[str, int] = DEEP_CONV_PARAMS[3],
        conv_param_5: Mapping[str, int] = DEEP_CONV_PARAMS[4],
        conv_param_6: Mapping[str, int] = DEEP_CONV_PARAMS[5],
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        dtype: str | type | np.dtype[Any] = "float64",
        backend: str | None = None,
        seed: int | None = None,
    ):
        params = conv_param_1, conv_param_2, conv_param_3, conv_param_4, conv_param_5, conv_param_6
        convolutions = [_conv(param, f"conv_param_{number}") for number, param in enumerate(params, 1)]
        layers: list[Any] = []
        for first, second in zip(convolutions[::2], convolutions[1::2], strict=True):
            layers += [first, Relu(), second, Relu(), MaxPool(2)]
        layers += [Affine(hidden_size), Relu(), Dropout(0.5, inverted=False)]
        layers += [Affine(output_size), Dropout(0.5, inverted=False)]
        self._build(input_dim, layers, Settings(_draws(seed), "he", dtype, backend, seed))


class MultiLayerNet(Sequential):
    """The book's networks of chapter 6: fully connected, with weight decay, batch normalisation and dropout if wanted.

    Args:
        input_size: the number of features.
        hidden_size_list: the widths of the hidden layers.
        output_size: the number of classes.
        activation: as MLP takes it.
        weight_init_std: the standard deviation of the initial weights, or "he" or "relu", "xavier" or "sigmoid".
        weight_decay_lambda: adds weight_decay_lambda / 2 * (the sum of all squared weights) to the loss.
        use_dropout: whether there is dropout behind each activation.
        dropout_ration: the probability that a number is left out.
        use_batchnorm: whether there is batch normalisation before each activation.
        dtype: "float64", the book's, or "float32", which is twice as fast.
        backend: "numba" or "numpy"; None for the default.
        seed: for numpy.random.default_rng; None draws from NumPy's global random state, as the book does.

    Raises:
        TypeError: for arguments of another type.
        ValueError: for numbers out of range and unknown names.

    Examples:
        >>> import fastbp
        >>> network = fastbp.MultiLayerNet(784, [100, 100], 10, use_batchnorm=True, seed=0)
        >>> list(network.params)
        ['W1', 'b1', 'gamma1', 'beta1', 'W2', 'b2', 'gamma2', 'beta2', 'W3', 'b3']
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0.0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        *,
        dtype: str | type | np.dtype[Any] = "float64",
        backend: str | None = None,
        seed: int | None = None,
    ):
        if isinstance(hidden_size_list, str) or not hasattr(hidden_size_list, "__iter__"):
            raise TypeError(f"hidden_size_list must be a list of widths such as [100, 100], got {hidden_size_list!r}")
        checks.one_of("activation", activation, ACTIVATIONS)
        use_dropout = checks.boolean("use_dropout", use_dropout)
        use_batchnorm = checks.boolean("use_batchnorm", use_batchnorm)
        std = STANDARD_DEVIATIONS.get(str(weight_init_std).lower(), weight_init_std)
        layers: list[LayerSpec] = []
        for width in hidden_size_list:
            layers += [Affine(width), *([BatchNorm()] if use_batchnorm else []), Activation(activation)]
            layers += [Dropout(dropout_ration, inverted=False)] if use_dropout else []
        layers.append(Affine(output_size))
        shape = (checks.whole_number("input_size", input_size, at_least=1),)
        l2 = checks.not_negative("weight_decay_lambda", weight_decay_lambda)
        self._build(shape, layers, Settings(_draws(seed), std, dtype, backend, seed, l2=l2))


def _draws(seed: int | None) -> Callable[[tuple[int, ...]], Array]:
    """Standard normal numbers: from NumPy's global random state, as the book draws them, unless there is a seed."""
    if seed is None:
        return lambda shape: np.random.randn(*shape)
    return np.random.default_rng(seed).standard_normal


def _conv(param: Mapping[str, int], name: str) -> Conv:
    if not isinstance(param, Mapping):
        raise TypeError(f"{name} must be a dict such as {CONV_PARAM}, got {param!r}")
    missing = sorted(set(CONV_PARAM) - set(param))
    if missing:
        raise ValueError(f"{name} must have {', '.join(CONV_PARAM)}, got none for {', '.join(missing)}")
    return Conv(param["filter_num"], param["filter_size"], param["stride"], param["pad"])
