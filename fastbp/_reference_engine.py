"""The backend "numpy": steps of training, and the optimizers' rules; see reference.py."""

from __future__ import annotations

import itertools

import numpy as np

from . import _losses as losses
from ._activations import ACTIVATIONS
from ._reference_layers import (
    activation_backward,
    activation_forward,
    affine_backward,
    affine_forward,
    dropout_mask,
    largest_magnitude,
)


def optimizer_update(rule, parameters, gradients, state):
    """One update in place: parameters (any shape, C-contiguous), gradients (the same), state (slots, the same).

    rule.name: a key of CODES; rule.settings: (learning rate, momentum or decay or beta1, beta2, epsilon, weight decay);
    rule.steps: how many updates were made before. Slots: none for "sgd", m and v for "adam", else one.
    """
    _RULES[rule.name](parameters, gradients, state, rule.steps + 1, *map(parameters.dtype.type, rule.settings))


def exact_update(name, parameters, gradients, state, settings, tame):
    """One update in place -> whether it was made: where some |gradient| is not below `tame`, nothing is changed.

    name: a key of EXACT_CODES. parameters, gradients: as many arrays, at least one (any shape, C-contiguous, of one dtype);
    state: a list of such arrays for each slot of the rule. settings: for "sgd" the rate; for "adam" the rate with its
    corrections, beta1, beta2 and epsilon: m += (1 - beta1) * (g - m), v += (1 - beta2) * (g^2 - v),
    p -= rate * m / (sqrt(v) + epsilon); for the others the rate, momentum or decay, and epsilon.
    """
    if not all(largest_magnitude(one) < tame for one in gradients):
        return False
    for p, g, *slots in zip(parameters, gradients, *state, strict=True):
        number = p.dtype.type
        if name == "adam":
            (rate, beta1, beta2, epsilon), (m, v) = settings, slots
            m += number(1 - beta1) * (g - m)
            v += number(1 - beta2) * (g**2 - v)
            p -= number(rate) * m / (np.sqrt(v) + number(epsilon))
        elif name == "nesterov until 2020":
            (rate, decay, _), (slot,) = map(number, settings), slots
            slot *= decay
            slot -= rate * g
            p += decay * decay * slot
            p -= (1 + decay) * rate * g
        else:
            rate, decay, epsilon = (*map(number, settings), None, None)[:3]
            _RULES[name](p, g, slots, 0, rate, decay, None, epsilon)
    return True


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
        masks = [dropout_mask(terms.seed, step, layer, numbers, keep, sizes[layer + 1]) for layer in range(len(masks))]
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
