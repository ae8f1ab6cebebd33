"""The backend "numba": compiled kernels over clean arrays, function for function those of fastbp.reference.

Arguments are already checked: shapes fit, W and b share one floating dtype, labels are in range. Compiled loops do not
look at bounds, so nothing else may reach them; people call fastbp.layers and fastbp.networks, which check.
"""

from .affine import affine_backward, affine_forward
from .batch_normalization import (
    batch_normalization_apply,
    batch_normalization_backward,
    batch_normalization_forward,
)
from .convolution import convolution_backward, convolution_forward
from .dropout import dropout_backward, dropout_forward
from .im2col import col2im, im2col
from .leaky_relu import leaky_relu_backward, leaky_relu_forward
from .magnitude import largest_magnitude
from .optimizers import adam_update, optimizer_update, sgd_update
from .pooling import pooling_backward, pooling_forward
from .relu import relu_backward, relu_forward
from .sigmoid import sigmoid_backward, sigmoid_forward
from .sigmoid_cross_entropy import sigmoid_cross_entropy_forward
from .softmax_cross_entropy import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from .tanh import tanh_backward, tanh_forward
from .training_step import batch_gradient, count_correct, prepare_data, train_steps

__all__ = [
    "adam_update",
    "affine_backward",
    "affine_forward",
    "batch_gradient",
    "batch_normalization_apply",
    "batch_normalization_backward",
    "batch_normalization_forward",
    "col2im",
    "convolution_backward",
    "convolution_forward",
    "count_correct",
    "dropout_backward",
    "dropout_forward",
    "im2col",
    "largest_magnitude",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "optimizer_update",
    "pooling_backward",
    "pooling_forward",
    "prepare_data",
    "relu_backward",
    "relu_forward",
    "sgd_update",
    "sigmoid_backward",
    "sigmoid_cross_entropy_forward",
    "sigmoid_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "tanh_backward",
    "tanh_forward",
    "train_steps",
]
