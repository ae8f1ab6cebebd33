"""The backend "numpy": every kernel stated in plain NumPy. It is the oracle that the compiled kernels are held to.

Names, arguments and results are those of fastbp.kernels, function for function. As there, arguments are already
checked: shapes fit, W and b share one floating dtype, labels are in range.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from . import _losses as losses
from ._activations import ACTIVATIONS


def affine_stack(widths, activations, dtype):
    """An AffineStack, which keeps what does not change from call to call.

    widths: of the input and of each layer's output; activations: "identity", "relu" or "sigmoid" after each layer.
    """
    from ._reference_stack import AffineStack

    return AffineStack(widths, activations, dtype)


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
    mask = _dropout_mask(draw.seed, draw.step, draw.layer, draw.rows, 1 - float(ratio), x.shape[1])
    return np.where(mask, x * x.dtype.type(scale), x.dtype.type(0)), mask


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


def largest_magnitude(x):
    """x (any shape) -> the largest |x|; 0 where there are no numbers, inf where one is infinite or NaN."""
    largest = float(np.max(np.abs(x), initial=0))
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


def optimizer_update(rule, parameters, gradients, state):
    """One update in place: parameters (any shape, C-contiguous), gradients (the same), state (slots, the same).

    rule.name: a key of CODES; rule.settings: (learning rate, momentum or decay or beta1, beta2, epsilon, weight decay);
    rule.steps: how many updates were made before. Slots: none for "sgd", m and v for "adam", else one.
    """
    _RULES[rule.name](parameters, gradients, state, rule.steps + 1, *map(parameters.dtype.type, rule.settings))


def adam_update(parameters, gradients, m, v, rate, beta1, beta2, epsilon):
    """Adam in place (any shape, C-contiguous), the corrections in `rate`, to the last bit as array code does it:

    m += (1 - beta1) * (gradients - m); v += (1 - beta2) * (gradients² - v); parameters -= rate * m / (sqrt(v) + epsilon).
    """
    number = parameters.dtype.type
    m += number(1 - beta1) * (gradients - m)
    v += number(1 - beta2) * (gradients**2 - v)
    parameters -= number(rate) * m / (np.sqrt(v) + number(epsilon))


def rule_update(name, parameters, gradients, slot, settings):
    """A rule with one slot, in place (any shape, C-contiguous), to the last bit as array code does it.

    name: "momentum", "nesterov", "nesterov until 2020", "adagrad" or "rmsprop"; settings: rate, momentum or decay, epsilon.
    """
    rate, decay, epsilon = map(parameters.dtype.type, settings)
    if name == "nesterov until 2020":
        slot *= decay
        slot -= rate * gradients
        parameters += decay * decay * slot
        parameters -= (1 + decay) * rate * gradients
    else:
        _RULES[name](parameters, gradients, [slot], 0, rate, decay, None, epsilon)


def _sgd(p, g, state, step, rate, *_):
    p -= rate * g


def _momentum(p, g, state, step, rate, momentum, *_):
    v = state[0]
    v *= momentum
    v -= rate * g
    p += v


def _nesterov(p, g, state, step, rate, momentum, *_):
    v = state[0]
    p += momentum * momentum * v
    p -= (1 + momentum) * rate * g
    v *= momentum
    v -= rate * g


def _adagrad(p, g, state, step, rate, decay, decay2, epsilon, *_):
    h = state[0]
    h += g * g
    p -= rate * g / (np.sqrt(h) + epsilon)


def _rmsprop(p, g, state, step, rate, decay, decay2, epsilon, *_):
    h = state[0]
    h *= decay
    h += (1 - decay) * g * g
    p -= rate * g / (np.sqrt(h) + epsilon)


def _adam(p, g, state, step, rate, *settings):
    (m, v), (beta1, beta2, epsilon, weight_decay) = state, settings
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    correction = np.sqrt(1 - float(beta2) ** step) / (1 - float(beta1) ** step)
    p *= 1 - rate * weight_decay
    p -= rate * p.dtype.type(correction) * m / (np.sqrt(v) + epsilon)


_RULES = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
}


def prepare_data(x, divisor=None):
    """x (N, features), C-contiguous -> what train_steps and count_correct read fastest.

    x: floating or uint8; with a divisor, uint8, and the numbers are np.float32(x) / np.float32(divisor).
    """
    return x if divisor is None else x.astype(np.float32) / np.float32(divisor)


def count_correct(parameters, architecture, x, t):
    """parameters (P,), x = prepare_data(N, inputs), t (N,) -> for how many rows the first largest score is t's."""
    layers, hits = _matrices(parameters, architecture.sizes), 0
    for first in range(0, len(x), 1000):  # in pieces that stay in the cache
        rows = slice(first, first + 1000)
        hits += int(np.sum(_forward(layers, architecture.activations, x[rows])[0][-1].argmax(axis=1) == t[rows]))
    return hits


def train_steps(parameters, architecture, data, batches, rule, state, record, terms=None):
    """Updates in place, one for each row of `batches` (steps, batch size): row numbers of x = prepare_data(...) and t.

    A batch may end in numbers of -1: it is so much shorter.

    data: (x, t), t being class indices (n,), int64, or targets (n, outputs), in the parameters' dtype. rule, state: see
    optimizer_update. record: losses (steps,), float64, which takes each batch's loss before its update, and done (1,),
    int64, which is increased by the steps that were made. terms: None, or what else belongs to the loss, see networks.Terms.
    """
    (x, t), (losses, done), gradient = data, record, np.empty_like(parameters)
    for step, rows in enumerate(batches):
        rows = rows[rows >= 0]
        loss, divisor = _gradient(parameters, architecture, x, t, rows, gradient, terms, rule.steps + step)
        if terms is not None and terms.l2:
            l2 = terms.l2 / divisor if terms.l2_divided else terms.l2
            pairs = zip(_matrices(parameters, architecture.sizes), _matrices(gradient, architecture.sizes), strict=True)
            for (W, _), (dW, _) in pairs:
                dW += dW.dtype.type(l2) * W
                loss += l2 / 2 * float(np.sum(W * W, dtype=np.float64))
        losses[step] = loss
        optimizer_update(rule._replace(steps=rule.steps + step), parameters, gradient, state)
        done[0] += 1


def batch_gradient(parameters, architecture, x, t, batch, gradient, terms=None, step=0):
    """The loss of one batch (batch size,), row numbers of x = prepare_data(...) and t; `gradient` (P,) takes its derivative.

    t, terms: as for train_steps; but l2 is left out. step: how many updates were made before, for dropout.
    """
    return _gradient(parameters, architecture, x, t, batch, gradient, terms, step)[0]


def _gradient(parameters, architecture, x, t, rows, gradient, terms, step):
    """The loss of one batch, and what it was divided by."""
    sizes, activations = architecture.sizes, architecture.activations
    layers, slots = _matrices(parameters, sizes), _matrices(gradient, sizes)
    keep = 1.0 if terms is None else 1 - terms.dropout
    masks = [None] * (len(layers) - 1)
    if keep < 1:
        numbers = rows + terms.first_row
        masks = [_dropout_mask(terms.seed, step, layer, numbers, keep, sizes[layer + 1]) for layer in range(len(masks))]
    outs, inputs = _forward(layers, activations, x[rows], masks, keep)
    row_losses, delta = losses.row_losses(architecture.loss, outs[-1], t[rows])
    if terms is not None and terms.log_floor and architecture.loss == "cross_entropy":
        y = losses.cross_entropies(outs[-1], t[rows])[1]
        row_losses = -np.log(np.maximum(y[np.arange(len(y)), t[rows]], terms.log_floor))
    weights = np.ones(len(rows)) if terms is None or terms.weights is None else terms.weights[rows]
    divisor = float(weights.sum(dtype=np.float64)) if architecture.mean else 1.0
    divisor = divisor or 1.0  # of a batch without weight there is nothing to learn
    delta *= (weights / divisor).astype(delta.dtype)[:, None]
    for layer in reversed(range(len(layers))):
        delta_before, slots[layer][0][...], slots[layer][1][...] = affine_backward(delta, outs[layer], layers[layer][0])
        if layer > 0:
            saved, mask, name = outs[layer], masks[layer - 1], activations[layer - 1]
            saved = saved if mask is None else saved * saved.dtype.type(keep)
            delta = activation_backward(
                delta_before, inputs[layer - 1] if ACTIVATIONS[name].needs_input else saved, name
            )
            if mask is not None:
                delta = _dropped(delta, mask, keep)
    loss_parts = 1 if terms is None else terms.loss_parts
    return float(np.sum(weights * row_losses, dtype=np.float64)) / divisor / loss_parts, divisor


def _dropout_mask(seed, step, layer, rows, keep, columns):
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


def _dropped(numbers, mask, keep):
    """numbers / keep where they are kept; what is left out is 0, even NaN."""
    return np.where(mask, numbers * numbers.dtype.type(1 / keep), numbers.dtype.type(0))


def _matrices(parameters, sizes):
    """The flat vector -> [(W1, b1), (W2, b2), ...], views of it."""
    views, at = [], 0
    for rows, columns in itertools.pairwise(sizes):
        W = parameters[at : at + rows * columns].reshape(rows, columns)
        at += W.size + columns
        views.append((W, parameters[at - columns : at]))
    return views


def _forward(layers, activations, x, masks=(), keep=1.0):
    """The input of every layer and the scores; and what each activation was given."""
    outs, inputs = [x], []
    for (W, b), activation, mask in itertools.zip_longest(layers, activations, masks):
        inputs.append(affine_forward(outs[-1], W, b))
        out = activation_forward(inputs[-1], activation)
        outs.append(out if mask is None else _dropped(out, mask, keep))
    return outs, inputs
