"""The backend "numba": compiled kernels over clean arrays, function for function those of fastbp.reference.

Arguments are already checked: shapes fit, W and b share one floating dtype, labels are in range. Compiled loops do not
look at bounds, so nothing else may reach them; people call fastbp.layers and fastbp.networks, which check.

The packages; each imports from those below it only:

    engine/    many training steps in one call: layout of the arena, how threads share a step, a layer's forward, backward
               and update, loss, dropout, optimizers' rules, evaluation
    layers/    a file for each layer, forward beside backward
    gemm/      products of matrices: packing, the micro-kernel, rows that are mostly zeros
    runtime/   the compiler and its cache, vectors, arrays, processors, threads; it knows no networks

The words:

    kernel, device function    compiled code that Python calls; compiled code that kernels call
    address                    where a kernel is in memory: others call it there, and it is compiled only where one does
                               (runtime/pointers.py)
    work, phase, chunk         what a kernel is to do; a step of it that begins when the one before it is done; a part of a
                               phase, done by the thread that claims it (runtime/chunks.py)
    worker, mailbox            a thread that takes part in calls; the line of memory in which it finds them
    lanes                      the numbers of one vector register
    panel, micro-panel         two vectors' width of columns of a right-hand side; six rows of a left-hand side
    KC, MC                     depth and rows of a block, as in BLIS
    arena, layout              the array that a network lies in, and where its matrices are in it
    workspace                  memory that a thread uses again from call to call
    region                     the panels and rows of a layer that a chunk has
    entries, indptr, codebook  sparse rows: packed columns and codes; where each row begins; the numbers of the codes

Arguments come in one order: outputs, inputs, sizes, options; arrays that travel together are a NamedTuple.
"""

from .engine.data import prepare_data
from .engine.exact_update import exact_update
from .engine.step import batch_gradient, count_correct, train_steps
from .engine.update import optimizer_update
from .layers.activations import activation_backward, activation_forward
from .layers.affine import affine_backward, affine_forward
from .layers.affine_network import affine_network
from .layers.affine_stack import affine_stack
from .layers.batch_normalization import (
    batch_normalization_apply,
    batch_normalization_backward,
    batch_normalization_forward,
)
from .layers.convolution import convolution_backward, convolution_forward
from .layers.dropout import dropout_backward, dropout_forward, seeded_dropout_forward
from .layers.elementwise import run_program
from .layers.im2col import col2im, im2col
from .layers.leaky_relu import leaky_relu_backward, leaky_relu_forward
from .layers.lstm import lstm_backward, lstm_forward
from .layers.normalized_stack import normalized_stack
from .layers.pooling import average_pooling_backward, average_pooling_forward, pooling_backward, pooling_forward
from .layers.random_draws import random_doubles
from .layers.relu import relu_backward, relu_forward
from .layers.sigmoid import sigmoid_backward, sigmoid_forward
from .layers.sigmoid_cross_entropy import sigmoid_cross_entropy_forward
from .layers.softmax_cross_entropy import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from .layers.tanh import tanh_backward, tanh_forward
from .layers.target_losses import target_loss_backward, target_loss_forward
from .layers.weight_decay import sum_of_squares
from .runtime.magnitude import largest_magnitude

__all__ = [
    "activation_backward",
    "activation_forward",
    "affine_backward",
    "affine_forward",
    "affine_network",
    "affine_stack",
    "average_pooling_backward",
    "average_pooling_forward",
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
    "exact_update",
    "im2col",
    "largest_magnitude",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "lstm_backward",
    "lstm_forward",
    "normalized_stack",
    "optimizer_update",
    "pooling_backward",
    "pooling_forward",
    "prepare_data",
    "random_doubles",
    "relu_backward",
    "relu_forward",
    "run_program",
    "seeded_dropout_forward",
    "sigmoid_backward",
    "sigmoid_cross_entropy_forward",
    "sigmoid_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "sum_of_squares",
    "tanh_backward",
    "tanh_forward",
    "target_loss_backward",
    "target_loss_forward",
    "train_steps",
]
