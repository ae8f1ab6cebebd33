"""How gradients change parameters: one loop for each rule, over flat vectors, used alone and inside training steps.

SGD                    p -= rate * g
momentum               v = momentum * v - rate * g; p += v
Nesterov               p += momentum^2 * v - (1 + momentum) * rate * g; v = momentum * v - rate * g    (Bengio et al. 2012)
AdaGrad                h += g^2; p -= rate * g / (sqrt(h) + epsilon)                                   (Duchi et al. 2011)
RMSprop                h = decay * h + (1 - decay) * g^2; p -= rate * g / (sqrt(h) + epsilon)         (Tieleman, Hinton 2012)
Adam, AdamW            m += (1 - beta1) * (g - m); v += (1 - beta2) * (g^2 - v);
                       p -= rate * weight_decay * p + rate_t * m / (sqrt(v) + epsilon),
                       rate_t = rate * sqrt(1 - beta2^t) / (1 - beta1^t)     (Kingma, Ba 2015; Loshchilov, Hutter 2019)

They are the book's (common/optimizer.py), where epsilon is 1e-7.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import flat
from .compiler import kernel
from .simd import at, kept_apart, put
from .threads import next_part, run, share, threads_for

WORTH_A_THREAD = 100_000  # numbers; below, a second thread costs more than it brings

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, NO_UPDATE = range(7)
CODES = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "adagrad": ADAGRAD, "rmsprop": RMSPROP, "adam": ADAM}
RATE, DECAY, DECAY2, EPSILON, WEIGHT_DECAY = range(5)  # places in a rule's settings


def optimizer_update(rule, parameters, gradients, state):
    """One update in place: parameters (any shape, C-contiguous), gradients (the same), state (slots, the same).

    rule.name: a key of CODES; rule.settings: (learning rate, momentum or decay or beta1, beta2, epsilon, weight decay);
    rule.steps: how many updates were made before. Slots: none for "sgd", m and v for "adam", else one.
    """
    settings = np.array(rule.settings, np.float64)
    _update(CODES[rule.name], settings, rule.steps + 1, flat(parameters), flat(gradients), flat(state))


def sgd_update(parameters, gradients, rate):
    """parameters -= rate * gradients, in place (any shape, C-contiguous), to the last bit as array code does it."""
    threads = threads_for(parameters.size, WORTH_A_THREAD)
    run(_sgd, threads, flat(parameters), flat(gradients), parameters.dtype.type(rate))


def adam_update(parameters, gradients, m, v, rate, beta1, beta2, epsilon):
    """Adam in place (any shape, C-contiguous), the corrections in `rate`, to the last bit as array code does it:

    m += (1 - beta1) * (gradients - m); v += (1 - beta2) * (gradients² - v); parameters -= rate * m / (sqrt(v) + epsilon).
    """
    number = parameters.dtype.type
    run(
        _adam, threads_for(parameters.size, WORTH_A_THREAD), flat(parameters), flat(gradients), flat(m), flat(v),
        number(rate), number(1 - beta1), number(1 - beta2), number(epsilon),
    )  # fmt: skip


@kernel(exact=True)
def _sgd(thread, threads, control, p, g, rate):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(p.size, part, threads)
        for i in range(first, end):
            put(p, i, at(p, i) - rate * at(g, i))
        part = next_part(control, thread, threads, part)


@kernel(exact=True)
def _adam(thread, threads, control, p, g, m, v, rate, rest1, rest2, epsilon):
    part = next_part(control, thread, threads, -1)
    while part >= 0:
        first, end = share(p.size, part, threads)
        for i in range(first, end):
            gradient = at(g, i)
            mean, square = at(m, i), at(v, i)
            mean += rest1 * (gradient - mean)
            square += rest2 * (gradient * gradient - square)
            put(m, i, mean)
            put(v, i, square)
            put(p, i, at(p, i) - rate * mean / (math.sqrt(square) + epsilon))
        part = next_part(control, thread, threads, part)


@kernel
def _update(code, settings, step, parameters, gradients, state):
    count = parameters.size
    update_numbers(code, settings, step, parameters, 0, gradients, 0, state, 0, count, count)


@kernel(part=True)
def update_numbers(code, settings, step, p, p0, g, g0, s, s0, slot, count):
    """`count` parameters from p[p0], their gradients from g[g0], their state from s[s0] and s[s0 + slot]."""
    kept_apart()
    rate, decay, decay2 = p.dtype.type(settings[RATE]), p.dtype.type(settings[DECAY]), p.dtype.type(settings[DECAY2])
    epsilon, one = p.dtype.type(settings[EPSILON]), p.dtype.type(1)
    if code == SGD:
        for i in range(count):
            put(p, p0 + i, at(p, p0 + i) - rate * at(g, g0 + i))
    elif code == MOMENTUM:
        for i in range(count):
            v = decay * at(s, s0 + i) - rate * at(g, g0 + i)
            put(s, s0 + i, v)
            put(p, p0 + i, at(p, p0 + i) + v)
    elif code == NESTEROV:
        for i in range(count):
            v, step_down = at(s, s0 + i), rate * at(g, g0 + i)
            put(p, p0 + i, at(p, p0 + i) + decay * decay * v - (one + decay) * step_down)
            put(s, s0 + i, decay * v - step_down)
    elif code == ADAGRAD:
        for i in range(count):
            h = at(s, s0 + i) + at(g, g0 + i) * at(g, g0 + i)
            put(s, s0 + i, h)
            put(p, p0 + i, at(p, p0 + i) - rate * at(g, g0 + i) / (math.sqrt(h) + epsilon))
    elif code == RMSPROP:
        for i in range(count):
            h = decay * at(s, s0 + i) + (one - decay) * at(g, g0 + i) * at(g, g0 + i)
            put(s, s0 + i, h)
            put(p, p0 + i, at(p, p0 + i) - rate * at(g, g0 + i) / (math.sqrt(h) + epsilon))
    elif code == ADAM:
        shrink = one - p.dtype.type(settings[RATE] * settings[WEIGHT_DECAY])
        correction = math.sqrt(1 - settings[DECAY2] ** step) / (1 - settings[DECAY] ** step)
        rate = p.dtype.type(settings[RATE] * correction)
        for i in range(count):
            m = at(s, s0 + i) + (one - decay) * (at(g, g0 + i) - at(s, s0 + i))
            v = at(s, s0 + slot + i)
            v += (one - decay2) * (at(g, g0 + i) * at(g, g0 + i) - v)
            put(s, s0 + i, m)
            put(s, s0 + slot + i, v)
            put(p, p0 + i, shrink * at(p, p0 + i) - rate * m / (math.sqrt(v) + epsilon))
