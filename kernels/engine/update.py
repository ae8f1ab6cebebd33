"""How gradients change parameters: one device function for each rule, used alone and inside training steps.

SGD                    p -= rate * g
momentum               v = momentum * v - rate * g; p += v
Nesterov               p += momentum^2 * v - (1 + momentum) * rate * g; v = momentum * v - rate * g    (Bengio et al. 2012)
AdaGrad                h += g^2; p -= rate * g / (sqrt(h) + epsilon)                                   (Duchi et al. 2011)
RMSprop                h = decay * h + (1 - decay) * g^2; p -= rate * g / (sqrt(h) + epsilon)         (Tieleman, Hinton 2012)
Adam, AdamW            m += (1 - beta1) * (g - m); v += (1 - beta2) * (g^2 - v);
                       p -= rate * weight_decay * p + rate_t * m / (sqrt(v) + epsilon),
                       rate_t = rate * sqrt(1 - beta2^t) / (1 - beta1^t)     (Kingma, Ba 2015; Loshchilov, Hutter 2019)

They are the book's (common/optimizer.py), where epsilon is 1e-7. Each is stated once, and compiled twice: for training
steps, where a * b + c may be rounded once, and exactly as array code rounds, for exact_update.py. Until
2020 the book had another Nesterov, which changed v first: p += momentum^2 * v - (1 + momentum) * rate * g, with the new v.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..gemm.matrices import Span
from ..runtime.arrays import flat
from ..runtime.compiler import device, kernel
from ..runtime.pointers import address_of
from ..runtime.simd import load_scalar, store_scalar

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, NO_UPDATE, NESTEROV_UNTIL_2020 = range(8)
CODES = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "adagrad": ADAGRAD, "rmsprop": RMSPROP, "adam": ADAM}
EXACT_CODES = {**CODES, "nesterov until 2020": NESTEROV_UNTIL_2020}
RATE, DECAY, DECAY2, EPSILON, WEIGHT_DECAY = range(5)  # places in a rule's settings
NO_SETTINGS = np.zeros(5)


class Rule(NamedTuple):
    """code: one of CODES; settings: see above; step: how many updates there are with this one."""

    code: int
    settings: Any
    step: int


class Update(NamedTuple):
    """A Rule for training steps, and where `_update` is, if it is needed."""

    address: int
    rule: Rule


class State(NamedTuple):
    """An optimizer's state beside parameters: slot i of parameter j is array[start + i * slot + j]."""

    array: Any
    start: int
    slot: int


def optimizer_update(rule, parameters, gradients, state):
    """One update in place: parameters (any shape, C-contiguous), gradients (the same), state (slots, the same).

    rule.name: a key of CODES; rule.settings: (learning rate, momentum or decay or beta1, beta2, epsilon, weight decay);
    rule.steps: how many updates were made before. Slots: none for "sgd", m and v for "adam", else one.
    """
    settings = np.array(rule.settings, np.float64)
    count = parameters.size
    one, other, of_state = (flat(parameters), 0), (flat(gradients), 0), (flat(state), 0, count)
    _update(one, of_state, other, count, (CODES[rule.name], settings, rule.steps + 1))


@cache
def update_address(dtype):
    """Where `_update` is, for numbers of this dtype; compiled, unless it was."""
    numbers = np.empty(0, dtype)
    return address_of(_update, (numbers, 0), (numbers, 0, 0), (numbers, 0), 0, (0, np.empty(0), 0))


def _sgd_range(p, g, count, rate):
    for i in range(count):
        store_scalar(p.array, p.start + i, load_scalar(p.array, p.start + i) - rate * load_scalar(g.array, g.start + i))


sgd_range, sgd_range_exact = device(_sgd_range), device(_sgd_range, exact=True)


def _adam_range(p, m, v, g, count, settings):
    """p, m, v, g: Span; settings: the rate with its corrections, 1 - beta1, 1 - beta2, epsilon."""
    rate, rest1, rest2, epsilon = settings
    for i in range(count):
        gradient = load_scalar(g.array, g.start + i)
        mean, square = load_scalar(m.array, m.start + i), load_scalar(v.array, v.start + i)
        mean += rest1 * (gradient - mean)
        square += rest2 * (gradient * gradient - square)
        store_scalar(m.array, m.start + i, mean)
        store_scalar(v.array, v.start + i, square)
        number = load_scalar(p.array, p.start + i) - rate * mean / (math.sqrt(square) + epsilon)
        store_scalar(p.array, p.start + i, number)


adam_range, adam_range_exact = device(_adam_range), device(_adam_range, exact=True)


@kernel
def _update(parameters, state, gradients, count, rule):
    """`count` parameters; the arguments are the fields of a Span, a State, a Span and a Rule. Training steps call it by its
    address."""
    p, state, g, rule = Span(*parameters), State(*state), Span(*gradients), Rule(*rule)
    kind, settings = p.array.dtype.type, rule.settings
    rate = kind(settings[RATE])
    if rule.code == SGD:
        sgd_range(p, g, count, rate)
    elif rule.code == ADAM:
        correction = math.sqrt(1 - settings[DECAY2] ** rule.step) / (1 - settings[DECAY] ** rule.step)
        rests = kind(1) - kind(settings[DECAY]), kind(1) - kind(settings[DECAY2])
        if settings[WEIGHT_DECAY] != 0:
            shrink(p, count, kind(1) - kind(settings[RATE] * settings[WEIGHT_DECAY]))
        m, v = Span(state.array, state.start), Span(state.array, state.start + state.slot)
        adam_range(p, m, v, g, count, (kind(settings[RATE] * correction), *rests, kind(settings[EPSILON])))
    else:
        one_slot_range(p, Span(state.array, state.start), g, count, rule)


@device
def shrink(p, count, factor):
    """Weight decay: p *= factor."""
    for i in range(count):
        store_scalar(p.array, p.start + i, factor * load_scalar(p.array, p.start + i))


def _one_slot_range(p, s, g, count, rule):
    """The rules with one number of state for each parameter, in the Span s."""
    kind, settings = p.array.dtype.type, rule.settings
    rate, decay, epsilon, one = kind(settings[RATE]), kind(settings[DECAY]), kind(settings[EPSILON]), kind(1)
    for i in range(count):
        parameter, gradient = load_scalar(p.array, p.start + i), load_scalar(g.array, g.start + i)
        before = load_scalar(s.array, s.start + i)
        if rule.code == MOMENTUM:
            after = decay * before - rate * gradient
            parameter += after
        elif rule.code == NESTEROV:
            after = decay * before - rate * gradient
            parameter += decay * decay * before
            parameter -= (one + decay) * rate * gradient
        elif rule.code == NESTEROV_UNTIL_2020:
            after = decay * before - rate * gradient
            parameter += decay * decay * after
            parameter -= (one + decay) * rate * gradient
        elif rule.code == ADAGRAD:
            after = before + gradient * gradient
            parameter -= rate * gradient / (math.sqrt(after) + epsilon)
        else:
            after = decay * before + (one - decay) * gradient * gradient
            parameter -= rate * gradient / (math.sqrt(after) + epsilon)
        store_scalar(s.array, s.start + i, after)
        store_scalar(p.array, p.start + i, parameter)


one_slot_range, one_slot_range_exact = device(_one_slot_range), device(_one_slot_range, exact=True)
