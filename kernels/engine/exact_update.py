"""The update of all parameters of a script's optimizer in one call, to the last bit as array code makes it.

A step of the book's MultiLayerNetExtend updates 22 arrays, of which NumPy makes 44 passes, and a call for each array takes
longer than all arithmetic. The rules are those of update.py.
"""

from __future__ import annotations

import numpy as np

from ..gemm.matrices import Span
from ..runtime.chunks import chunk_bounds, claimed
from ..runtime.compiler import device
from ..runtime.magnitude import largest_in
from ..runtime.processors import threads_for
from ..runtime.tables import Table, addresses_of, at
from ..runtime.threads import parallel_kernel, run
from .update import EXACT_CODES, Rule, adam_range_exact, one_slot_range_exact, sgd_range_exact

PARALLEL_THRESHOLD = 30_000  # numbers; from here on two threads take 0.65 to 0.9 of the time, in a script's step too
# Measured and rejected: finding out by time which of one thread and two repays. On an EPYC (Zen 3) a step of 784-100-10 and
# of 784-100-100-100-100-10 took 0.91 to 1.02 of the time with two, SGD and Adam, and once 1.19.
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
    largest, sizes = np.zeros(threads * LINE, parameters[0].dtype), np.array([one.size for one in parameters])
    arrays = parameters, gradients, *state
    run(kernel, threads, addresses_of(*arrays), sizes, rule, number(tame), largest, kept=arrays)
    return bool(largest.max() < tame)


@parallel_kernel(exact=True)
def _sgd(work, addresses, sizes, rule, tame, largest):
    """addresses: of parameters, gradients; sizes: of these; tame: what gradients must be below."""
    count = len(sizes)
    parameters, gradients = Table(addresses, 0, largest), Table(addresses, count, largest)
    if are_tame(work, gradients, sizes, tame, largest):
        for chunk in claimed(work, 2, work[1]):
            for i in range(count):
                first, end = part_of(sizes[i], chunk, work[1])
                sgd_range_exact(Span(at(parameters, i), first), Span(at(gradients, i), first), end - first, rule[0])


@parallel_kernel(exact=True)
def _one_slot(work, addresses, sizes, rule, tame, largest):
    """addresses: of parameters, gradients, slots."""
    count = len(sizes)
    parameters, gradients = Table(addresses, 0, largest), Table(addresses, count, largest)
    slots = Table(addresses, 2 * count, largest)
    if are_tame(work, gradients, sizes, tame, largest):
        for chunk in claimed(work, 2, work[1]):
            for i in range(count):
                first, end = part_of(sizes[i], chunk, work[1])
                p, s, g = Span(at(parameters, i), first), Span(at(slots, i), first), Span(at(gradients, i), first)
                one_slot_range_exact(p, s, g, end - first, Rule(*rule))


@parallel_kernel(exact=True)
def _adam(work, addresses, sizes, rule, tame, largest):
    """addresses: of parameters, gradients, means, squares."""
    count = len(sizes)
    parameters, gradients = Table(addresses, 0, largest), Table(addresses, count, largest)
    means, squares = Table(addresses, 2 * count, largest), Table(addresses, 3 * count, largest)
    if are_tame(work, gradients, sizes, tame, largest):
        for chunk in claimed(work, 2, work[1]):
            for i in range(count):
                first, end = part_of(sizes[i], chunk, work[1])
                p, m, v = Span(at(parameters, i), first), Span(at(means, i), first), Span(at(squares, i), first)
                adam_range_exact(p, m, v, Span(at(gradients, i), first), end - first, rule)


@device
def are_tame(work, gradients, sizes, tame, largest):
    """Whether all |gradients| of the Table are below `tame`: the first phase."""
    for chunk in claimed(work, 1, work[1]):
        for i in range(len(sizes)):
            first, end = part_of(sizes[i], chunk, work[1])
            place = work[0] * LINE
            largest[place] = max(largest[place], largest_in(at(gradients, i), first, end))
    is_tame = True
    for thread in range(work[1]):
        is_tame = is_tame and largest[thread * LINE] < tame
    return is_tame


@device
def part_of(size, chunk, chunk_count):
    """A chunk's numbers of an array: first, end. Small arrays are the first chunk's."""
    if size > SMALL:
        return chunk_bounds(size, chunk, chunk_count)
    return 0, size if chunk == 0 else 0
