"""The backend "numpy", layer by layer; see reference.py."""

from __future__ import annotations

import math

import numpy as np

from . import _losses as losses
from ._activations import ACTIVATIONS


def affine_forward(x, W, b):
    """x (N, D), W (D, M), b (M,) -> out = x @ W + b, (N, M), in the dtype of W and b."""
    return x.astype(W.dtype, copy=False) @ W + b


def affine_backward(dout, x, W, needs_dx=True):
    """dout (N, M), x (N, D), W (D, M) -> dx = dout @ W.T (N, D), dW = x.T @ dout (D, M), db = dout summed (M,).

    dx is None if it is not needed.
    """
    return dout @ W.T if needs_dx else None, x.astype(W.dtype, copy=False).T @ dout, dout.sum(axis=0)


def relu_forward(x, strict=False):
    """x (any shape) -> out, mask, like x: out is 0 where x <= 0, mask is True there; strict: where x < 0. NaN passes."""
    mask = x < 0 if strict else x <= 0
    out = x.copy()
    out[mask] = 0
    return out, mask


def relu_backward(dout, mask, out=None):
    """dout (any shape), mask (the same) -> dx: dout, and 0 where the mask is True; `out`, which may be dout, or new."""
    dx = np.empty_like(dout) if out is None else out
    dx[...] = dout
    dx[mask] = 0
    return dx


def sigmoid_forward(x):
    """x (any shape, float32 or float64) -> out, like x: 1 / (1 + exp(-x)), exactly 0 and 1 at the ends."""
    e = np.exp(-np.abs(x))  # never overflows; for x < 0, 1 / (1 + exp(-x)) = exp(x) / (1 + exp(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def sigmoid_backward(dout, out):
    """dout (any shape), out = sigmoid(x) (the same) -> dx = dout * (1 - out) * out."""
    return dout * (1 - out) * out


def softmax_cross_entropy_forward(x, t):
    """x (N, C), t: indices (N,) or one-hot (N, C) -> loss, y: the mean of -log(y[label] + 1e-7), softmax(x) (N, C).

    The label of a one-hot row is its first maximum. The loss of no rows is NaN.
    """
    labels = t if t.ndim == 1 else t.argmax(axis=1)
    row_losses, y = losses.cross_entropies(x, labels)
    return float(row_losses.sum(dtype=np.float64) / len(x)) if len(x) else float("nan"), y


def softmax_cross_entropy_backward(y, t):
    """y = softmax(x) (N, C), t: indices (N,) or one-hot (N, C) -> dx = (y - one-hot t) / N, (N, C)."""
    if t.ndim == 2:
        return (y - t) / y.dtype.type(len(y) or 1)
    dx = y.copy()
    dx[np.arange(len(y)), t] -= 1
    return dx / y.dtype.type(len(y) or 1)


def tanh_forward(x):
    """x (any shape, float32 or float64) -> out, like x: tanh(x)."""
    return np.tanh(x)


def tanh_backward(dout, out):
    """dout (any shape), out = tanh(x) (the same) -> dx = dout * (1 - out²)."""
    return dout * (1 - out * out)


def lstm_forward(of_x, of_h, c):
    """of_x, of_h (N, 4 H): their sum is z; c (N, H) -> h_next, c_next, f, g, i, o, each (N, H)."""
    z_f, z_g, z_i, z_o = np.split(of_x + of_h, 4, axis=1)
    f, g, i, o = sigmoid_forward(z_f), np.tanh(z_g), sigmoid_forward(z_i), sigmoid_forward(z_o)
    c_next = f * c + g * i
    return o * np.tanh(c_next), c_next, f, g, i, o


def lstm_backward(dh, dc, c, kept):
    """dh, dc, c (N, H): gradients of h_next and c_next; kept: c_next, f, g, i, o -> dz (N, 4 H), dc (N, H), that of c."""
    c_next, f, g, i, o = kept
    squashed = np.tanh(c_next)
    ds = dc + dh * o * (1 - squashed**2)
    dz = ds * c * f * (1 - f), ds * i * (1 - g**2), ds * g * i * (1 - i), dh * squashed * o * (1 - o)
    return np.hstack(dz), ds * f


def leaky_relu_forward(x, slope):
    """x (any shape), slope -> out, mask, like x: out is slope * x where x <= 0, mask is True there. NaN passes."""
    mask = x <= 0
    return np.where(mask, x.dtype.type(slope) * x, x), mask


def leaky_relu_backward(dout, mask, slope):
    """dout (any shape), mask (the same), slope -> dx: dout, and slope * dout where the mask is True."""
    return np.where(mask, dout.dtype.type(slope) * dout, dout)


def sigmoid_cross_entropy_forward(x, t):
    """x (any shape), t (the same) -> loss, y: the sum of -t log y - (1 - t) log(1 - y), a float, and y = sigmoid(x)."""
    return target_loss_forward(x, t, "binary_cross_entropy")


def target_loss_forward(x, t, name):
    """x, t (any shape, the same), name: one of the losses of targets -> the summed loss, a float, and y, like x."""
    loss = losses.TARGET_LOSSES[name]
    return float(np.sum(loss.value(x, t), dtype=np.float64)), np.array(loss.output(x))


def target_loss_backward(y, t, name):
    """y as forward gave it, t (the same shape) -> the derivative of the summed loss by x, like y."""
    return losses.TARGET_LOSSES[name].derivative(y, t)


def dropout_forward(x, draws, ratio, scale):
    """x (any shape), draws (the same, float64) -> out, mask: mask = draws > ratio, out = x * mask * scale."""
    mask = draws > ratio
    return x * mask * x.dtype.type(scale), mask


def random_doubles(state, count):
    """As kernels/layers/random_draws.py: by a generator of NumPy's own that is put into the state."""
    generator = np.random.RandomState()
    generator.set_state(("MT19937", state[:-1], int(state[-1]), 0, 0.0))
    draws = generator.random_sample(count)
    state[:-1], state[-1] = generator.get_state(legacy=True)[1:3]  # type: ignore[index]
    return draws


def sum_of_squares(x):
    """x (any shape) -> the sum of its numbers' squares, a float."""
    return float(np.sum(np.square(x)))


def run_program(program, inputs, constants, outputs):
    """inputs, outputs: arrays of one dtype and size, C-contiguous; an output may be an input, which is then changed.

    program: operations (n, 4): code, row of the result, row of a, row of b; the rows that are outputs; how many rows there
    are. Rows: first the inputs, then the constants, then what operations give. Returns the blocks of 128 numbers that were
    left, as a mask, or None: those with a result or a divisor that is not finite.
    """
    operations, results, _ = program
    dtype, size = inputs[0].dtype, inputs[0].size
    rows = dict(enumerate([*(one.reshape(-1) for one in inputs), *(np.full(size, one, dtype) for one in constants)]))
    is_finite = np.ones(size, bool)
    with np.errstate(all="ignore"):
        for code, row, a, b in operations.tolist():
            is_finite &= (code != _DIVIDE) | np.isfinite(rows[b])
            rows[row] = _PROGRAM_OPERATIONS[code](rows[a], rows[b])
    made = [rows[row] for row in results.tolist()]
    for one in made:
        is_finite &= np.isfinite(one)
    starts = np.arange(0, size, 128)
    is_left = ~np.logical_and.reduceat(is_finite, starts)
    stored = ~np.repeat(is_left, 128)[:size]
    for output, one in zip(outputs, [one.copy() for one in made], strict=True):
        output.reshape(-1)[stored] = one[stored]
    return is_left if is_left.any() else None


_DIVIDE = 3
_PROGRAM_OPERATIONS = (np.add, np.subtract, np.multiply, np.divide, lambda a, b: np.sqrt(a))  # by their codes


def seeded_dropout_forward(x, draw, ratio, scale):
    """x (N, D), draw: seed, step, layer, rows (N,) -> out, mask: out = x * scale where mask is set, 0 elsewhere."""
    mask = dropout_mask(draw.seed, draw.step, draw.layer, draw.rows, 1 - float(ratio), x.shape[1])
    return np.where(mask, x * x.dtype.type(scale), x.dtype.type(0)), mask


def dropout_mask(seed, step, layer, rows, keep, columns):
    """Which numbers are kept: (rows, columns) from splitmix64, as kernels/layers/dropout.py has it."""

    def splitmix64(state):
        state = state * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return state ^ state >> np.uint64(31)

    start = splitmix64(splitmix64(np.array([seed], np.uint64)) + np.uint64(step)) + np.uint64(layer)
    state = splitmix64(splitmix64(start) + rows.astype(np.uint64))
    numbers = splitmix64(state[:, None] + np.arange(columns, dtype=np.uint64))
    return numbers >> np.uint64(11) < np.uint64(keep * 2.0**53)


def dropout_backward(dout, mask, scale):
    """dout (any shape), mask (the same) -> dx = dout * mask * scale."""
    return dout * mask * dout.dtype.type(scale)


def batch_normalization_forward(x, gamma, beta, epsilon):
    """x (N, D), gamma, beta (D,) -> out = gamma * xn + beta (N, D), xc, xn (N, D), std, mean, variance (D,).

    xc = x - mean, std = sqrt(variance + epsilon), xn = xc / std; mean and (biased) variance are those of the columns.
    """
    mean = x.mean(axis=0)
    xc = x - mean
    variance = np.mean(xc * xc, axis=0)
    std = np.sqrt(variance + x.dtype.type(epsilon))
    xn = xc / std
    return gamma * xn + beta, xc, xn, std, mean, variance


def batch_normalization_apply(x, gamma, beta, mean, variance, epsilon):
    """x (N, D), the rest (D,) -> gamma * (x - mean) / sqrt(variance + epsilon) + beta, (N, D)."""
    return gamma * ((x - mean) / np.sqrt(variance + x.dtype.type(epsilon))) + beta


def batch_normalization_backward(dout, gamma, xc, xn, std):
    """dout (N, D), gamma (D,), the rest from forward -> dx (N, D), dgamma, dbeta (D,)."""
    rows = dout.dtype.type(len(dout) or 1)
    dxn = gamma * dout
    dstd = -np.sum(dxn * xc / (std * std), axis=0)
    dxc = dxn / std + 2 / rows * xc * (dstd / (2 * std))
    return dxc - dxc.sum(axis=0) / rows, np.sum(xn * dout, axis=0), dout.sum(axis=0)


def im2col(x, filter_h, filter_w, stride, pad, dtype):
    """x (N, C, H, W) -> (N * OH * OW, C * filter_h * filter_w) in `dtype`: a row for each patch of x, zeros around it.

    OH = (H + 2 pad - filter_h) // stride + 1.
    """
    patches = _windows(_with_zeros(x, pad), (filter_h, filter_w), stride)  # (N, C, OH, OW, filter_h, filter_w)
    return patches.transpose(0, 2, 3, 1, 4, 5).astype(dtype).reshape(-1, x.shape[1] * filter_h * filter_w)


def col2im(col, x_shape, filter_h, filter_w, stride, pad):
    """col, as im2col gives it -> (x_shape): the numbers of all patches added where they came from, in col's dtype."""
    count, channels, height, width = x_shape
    x = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), col.dtype)
    rows = (height + 2 * pad - filter_h) // stride + 1, (width + 2 * pad - filter_w) // stride + 1
    patches = col.reshape(count, *rows, channels, filter_h, filter_w).transpose(0, 3, 1, 2, 4, 5)
    for y, i in np.ndindex(filter_h, filter_w):
        x[:, :, y : y + stride * rows[0] : stride, i : i + stride * rows[1] : stride] += patches[..., y, i]
    return x[:, :, pad : pad + height, pad : pad + width]


def activation_forward(x, name):
    """x (any shape), name: one of the activations -> out, like x."""
    return ACTIVATIONS[name].forward(x).astype(x.dtype, copy=False)


def activation_backward(dout, saved, name):
    """dout (any shape), saved: x where the activation's derivative needs its input, else out (the same) -> dx."""
    return ACTIVATIONS[name].backward(dout, saved).astype(dout.dtype, copy=False)


def largest_magnitude(x, ignore_nan=False):
    """x (any shape) -> the largest |x|; 0 where there are no numbers, inf where one is infinite or, unless ignored, NaN."""
    largest = float((np.fmax if ignore_nan else np.maximum).reduce(np.abs(x), axis=None, initial=0))
    return largest if math.isfinite(largest) else math.inf


def _with_zeros(x, pad):
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def _windows(x, window, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return windows[:, :, ::stride, ::stride]


def convolution_forward(x, W, b, stride, pad):
    """x (N, C, H, W), W (FN, C, FH, FW), b (FN,) -> out (N, FN, OH, OW), padded (N, C, H + 2 pad, W + 2 pad).

    OH = (H + 2 pad - FH) // stride + 1. Both results have W's dtype; `padded` is what backward wants of x.
    """
    padded = _with_zeros(x, pad).astype(W.dtype, copy=False)
    out = np.tensordot(_windows(padded, W.shape[2:], stride), W, ((1, 4, 5), (1, 2, 3))) + b
    return out.transpose(0, 3, 1, 2), padded


def convolution_backward(dout, padded, W, stride, pad, needs_dx=True):
    """dout (N, FN, OH, OW), padded and W as forward had them -> dx (N, C, H, W), dW (like W), db (FN,).

    dx is None if it is not needed.
    """
    dW, db = np.tensordot(dout, _windows(padded, W.shape[2:], stride), ((0, 2, 3), (0, 2, 3))), dout.sum(axis=(0, 2, 3))
    if not needs_dx:
        return None, dW, db
    dcol = np.tensordot(dout, W, (1, 0)).reshape(-1, W[0].size)  # (N * OH * OW, C * FH * FW)
    count, channels, height, width = padded.shape
    x_shape = count, channels, height - 2 * pad, width - 2 * pad
    return col2im(dcol, x_shape, W.shape[2], W.shape[3], stride, pad), dW, db


def pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW), arg_max (N * OH * OW * C,): the place of the first maximum in its window.

    OH = (H + 2 pad - pool_h) // stride + 1; the padding is zeros. NaN is larger than any number. `arg_max` counts from 0
    to pool_h * pool_w - 1, in the order (N, OH, OW, C).
    """
    windows = _windows(_with_zeros(x, pad), (pool_h, pool_w), stride).transpose(0, 2, 3, 1, 4, 5)
    windows = windows.reshape(*windows.shape[:4], pool_h * pool_w)
    return windows.max(axis=-1).transpose(0, 3, 1, 2), windows.argmax(axis=-1).reshape(-1)


def pooling_backward(dout, arg_max, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW), arg_max as forward gave it -> dx (x_shape): each number of dout where its maximum was."""
    numbers = dout.transpose(0, 2, 3, 1)
    places = np.arange(pool_h * pool_w) == arg_max.reshape(numbers.shape)[..., None]
    col = np.where(places, numbers[..., None], dout.dtype.type(0))
    return col2im(col, x_shape, pool_h, pool_w, stride, pad)


def average_pooling_forward(x, pool_h, pool_w, stride, pad):
    """x (N, C, H, W) -> out (N, C, OH, OW): the mean of each window, with zeros around the images."""
    return _windows(_with_zeros(x, pad), (pool_h, pool_w), stride).mean(axis=(4, 5))


def average_pooling_backward(dout, x_shape, pool_h, pool_w, stride, pad):
    """dout (N, C, OH, OW) -> dx (x_shape): each number of dout shared out to its window."""
    shares = (dout / dout.dtype.type(pool_h * pool_w)).transpose(0, 2, 3, 1)[..., None]
    return col2im(np.repeat(shares, pool_h * pool_w, -1), x_shape, pool_h, pool_w, stride, pad)
