"""Several operations on each number of some arrays, in one pass: a script's own optimizer, say, whatever its rule.

NumPy goes over all numbers once for each operation: Adam of 400,000 parameters is 12 times through 3 MB. Here the operations
are a program, which is run on blocks of 128 numbers, in the first cache: an operation costs little more than its
arithmetic, and nothing is compiled for a new rule. Each is NumPy's, rounded as NumPy rounds it.

    operations   (code, row of the result, row of a, row of b), in the order in which they are made
    rows         first the inputs, then the constants, then what operations give

Where a result is not finite, a block is left as it was, and said: NumPy may warn there, and is to do it.
"""

from __future__ import annotations

import numpy as np

from ..runtime.arrays import flat, workspace
from ..runtime.chunks import chunks
from ..runtime.compiler import device
from ..runtime.processors import threads_for
from ..runtime.simd import (
    add,
    divide,
    fill,
    lanes,
    load,
    load_scalar,
    multiply,
    noinline,
    reduce_add,
    square_root,
    store,
    store_scalar,
    subtract,
    zeros,
)
from ..runtime.threads import parallel_kernel, run

BLOCK = 128  # numbers
ROW = BLOCK + 16  # from one row to the next: rows a power of two apart would share the cache's places
MOST_INPUTS, MOST_OUTPUTS = 5, 4
PARALLEL_THRESHOLD = 30_000  # numbers
ADD, SUBTRACT, MULTIPLY, DIVIDE, SQUARE_ROOT = range(5)


def run_program(program, inputs, constants, outputs):
    """inputs, outputs: arrays of one dtype and size, C-contiguous; an output may be an input, which is then changed.

    constants: numbers. program: operations (n, 4), see above, and the rows that are outputs (m,), both int64; how many rows
    there are. Returns the blocks that were left, as a mask, or None.
    """
    operations, results, rows = program
    size, dtype = inputs[0].size, inputs[0].dtype
    threads, is_left = threads_for(size, PARALLEL_THRESHOLD), np.zeros(-(-size // BLOCK), np.bool_)
    given, made = [flat(one) for one in inputs], [flat(one) for one in outputs]
    counts = len(given), len(made), len(constants)
    given += given[:1] * (MOST_INPUTS - len(given))  # as many as the kernel was compiled for
    made += made[:1] * (MOST_OUTPUTS - len(made))
    scratch, numbers = workspace(threads * rows * ROW, dtype), np.array([*constants, 0], dtype)
    run(_run, threads, tuple(made), tuple(given), is_left, numbers, counts, (operations, results, rows), scratch)
    return is_left if is_left.any() else None


@parallel_kernel(exact=True)
def _run(work, outputs, inputs, is_left, constants, counts, program, scratch):
    (operations, results), own = program[:2], work[0] * program[2] * ROW
    for i in range(counts[2]):
        fill_row(scratch, own + (counts[0] + i) * ROW, constants[i])
    size = inputs[0].size
    for first, end in chunks(work, 1, len(is_left)):
        for block in range(first, end):
            at, count = block * BLOCK, min(BLOCK, size - block * BLOCK)
            for i in range(counts[0]):
                copy_row(scratch, own + i * ROW, inputs[i], at, count)
            finite = run_block(scratch, own, operations)
            for i in range(counts[1]):
                finite = finite and is_finite(scratch, own + results[i] * ROW)
            if not finite:
                is_left[block] = True
                continue
            for i in range(counts[1]):
                put_row(outputs[i], at, scratch, own + results[i] * ROW, count)


@device
def fill_row(scratch, row, number):
    vector = fill(scratch, number)
    for i in range(0, BLOCK, lanes(scratch)):
        store(scratch, row + i, vector)


@device
def copy_row(scratch, row, x, at, count):
    """x[at : at + count], and the last of these numbers to the end of the row."""
    noinline()
    if count == BLOCK:
        for i in range(0, BLOCK, lanes(scratch)):
            store(scratch, row + i, load(x, at + i))
    else:
        for i in range(BLOCK):
            store_scalar(scratch, row + i, load_scalar(x, at + min(i, count - 1)))


@device
def put_row(out, at, scratch, row, count):
    noinline()
    if count == BLOCK:
        for i in range(0, BLOCK, lanes(scratch)):
            store(out, at + i, load(scratch, row + i))
    else:
        for i in range(count):
            store_scalar(out, at + i, load_scalar(scratch, row + i))


@device
def run_block(scratch, own, operations):
    """Whether no divisor was infinite: what else is not finite shows in the results."""
    noinline()
    width, finite = lanes(scratch), True
    for place in range(len(operations)):
        code, row = operations[place, 0], own + operations[place, 1] * ROW
        a, b = own + operations[place, 2] * ROW, own + operations[place, 3] * ROW
        if code == ADD:
            for i in range(0, BLOCK, width):
                store(scratch, row + i, add(load(scratch, a + i), load(scratch, b + i)))
        elif code == SUBTRACT:
            for i in range(0, BLOCK, width):
                store(scratch, row + i, subtract(load(scratch, a + i), load(scratch, b + i)))
        elif code == MULTIPLY:
            for i in range(0, BLOCK, width):
                store(scratch, row + i, multiply(load(scratch, a + i), load(scratch, b + i)))
        elif code == DIVIDE:
            finite = finite and is_finite(scratch, b)
            for i in range(0, BLOCK, width):
                store(scratch, row + i, divide(load(scratch, a + i), load(scratch, b + i)))
        else:
            for i in range(0, BLOCK, width):
                store(scratch, row + i, square_root(load(scratch, a + i)))
    return finite


@device
def is_finite(scratch, row):
    """Whether a row has no NaN and no infinity: times 0, all of it is 0."""
    width, zero = lanes(scratch), zeros(scratch)
    first = second = zero
    for i in range(0, BLOCK, 2 * width):
        first = add(first, multiply(load(scratch, row + i), zero))
        second = add(second, multiply(load(scratch, row + i + width), zero))
    return reduce_add(add(first, second)) == 0
