"""The update of all parameters of a script's optimizer in one call, to the last bit as array code makes it.

A step of the book's MultiLayerNetExtend updates 22 arrays, of which NumPy makes 44 passes, and a call for each array takes
longer than all arithmetic. The rules are those of update.py.
"""

from __future__ import annotations

import numpy as np

from ..gemm.matrices import Span
from ..runtime.arrays import flat
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.magnitude import largest_in
from ..runtime.processors import threads_for
from ..runtime.threads import parallel_kernel, run
from .update import EXACT_CODES, Rule, adam_range_exact, one_slot_range_exact, sgd_range_exact

PARALLEL_THRESHOLD = 30_000  # numbers; from here on two threads take 0.65 to 0.9 of the time, in a script's step too
FEW_ARRAYS, MOST_ARRAYS = (
    8,
    24,
)  # of a call; a kernel is compiled for so many, and looks at those too that are not there
SMALL = 2048  # numbers, which one chunk has
LINE = 8  # numbers of a thread's own, a cache line of them


def exact_update(name, parameters, gradients, state, settings, tame):
    """One update in place -> whether it was made: where some |gradient| is not below `tame`, nothing is changed.

    name: a key of EXACT_CODES. parameters, gradients: as many arrays, at least one (any shape, C-contiguous, of one dtype);
    state: a list of such arrays for each slot of the rule. settings: for "sgd" the rate; for "adam" the rate with its
    corrections, beta1, beta2 and epsilon: m += (1 - beta1) * (g - m), v += (1 - beta2) * (g^2 - v),
    p -= rate * m / (sqrt(v) + epsilon); for the others the rate, momentum or decay, and epsilon.
    """
    number = parameters[0].dtype.type
    threads = threads_for(sum(one.size for one in parameters), PARALLEL_THRESHOLD)
    if name == "sgd":
        kernel, rule = _sgd, (number(settings[0]),)
    elif name == "adam":
        rate, beta1, beta2, epsilon = settings
        kernel, rule = _adam, (number(rate), number(1 - beta1), number(1 - beta2), number(epsilon))
    else:
        rate, decay, epsilon = settings
        kernel, rule = _one_slot, (EXACT_CODES[name], np.array([rate, decay, 0, epsilon, 0]), 0)
    lists = [parameters, gradients, *state]
    groups = [[one[i : i + MOST_ARRAYS] for one in lists] for i in range(0, len(parameters), MOST_ARRAYS)]
    passes = [(True, True)] if len(groups) == 1 else [(True, False), (False, True)]
    for checks, updates in passes:
        for group in groups:
            largest, arrays = np.zeros(threads * LINE, parameters[0].dtype), tuple(map(_slots, group))
            run(kernel, threads, *arrays, rule, (len(group[0]), number(tame), checks, updates), largest)
            if checks and not largest.max() < tame:
                return False
    return True


def _slots(arrays):
    """The arrays, flat, and the first again for each that is not there."""
    found = [flat(one) for one in arrays]
    count = FEW_ARRAYS if len(found) <= FEW_ARRAYS else MOST_ARRAYS
    return tuple(found + found[:1] * (count - len(found)))


@parallel_kernel(exact=True)
def _sgd(work, parameters, gradients, rule, how, largest):
    """how: arrays, what gradients must be below, whether that is looked at, whether they are used."""
    if are_tame(work, gradients, how, largest) and how[3]:
        for chunk in claimed(work, 1 + how[2], work[1]):
            for i in range(how[0]):
                first, end = part_of(parameters[i].size, chunk, work[1])
                sgd_range_exact(Span(parameters[i], first), Span(gradients[i], first), end - first, rule[0])


@parallel_kernel(exact=True)
def _one_slot(work, parameters, gradients, slots, rule, how, largest):
    if are_tame(work, gradients, how, largest) and how[3]:
        for chunk in claimed(work, 1 + how[2], work[1]):
            for i in range(how[0]):
                first, end = part_of(parameters[i].size, chunk, work[1])
                p, s, g = Span(parameters[i], first), Span(slots[i], first), Span(gradients[i], first)
                one_slot_range_exact(p, s, g, end - first, Rule(*rule))


@parallel_kernel(exact=True)
def _adam(work, parameters, gradients, means, squares, rule, how, largest):
    if are_tame(work, gradients, how, largest) and how[3]:
        for chunk in claimed(work, 1 + how[2], work[1]):
            for i in range(how[0]):
                first, end = part_of(parameters[i].size, chunk, work[1])
                p, m, v = Span(parameters[i], first), Span(means[i], first), Span(squares[i], first)
                adam_range_exact(p, m, v, Span(gradients[i], first), end - first, rule)


@device
def are_tame(work, gradients, how, largest):
    """Whether all |gradients| are below what they must be, or need not be looked at: the first phase, if they must."""
    count, tame, checks, _ = how
    if checks:
        for chunk in claimed(work, 1, work[1]):
            for i in range(count):
                first, end = part_of(gradients[i].size, chunk, work[1])
                place = work[0] * LINE
                largest[place] = max(largest[place], largest_in(gradients[i], first, end))
        for thread in range(work[1]):
            if not largest[thread * LINE] < tame:
                return False
    return True


@device
def part_of(size, chunk, chunk_count):
    """A chunk's numbers of an array: first, end. Small arrays are the first chunk's."""
    if size > SMALL:
        return chunk_bounds(size, chunk, chunk_count)
    return 0, size if chunk == 0 else 0
