"""Methods whose elementwise statements, those of an optimizer above all, run as programs of one pass.

A method with such statements (see `statements`) is compiled anew, with a call in their place; all else in it, its loops and
conditions, stays. The call runs a program (see `programs`) where the values are arrays of one shape and dtype, and numbers;
for anything else, the statements themselves.
"""

from __future__ import annotations

import ast
import itertools
import re
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from ...backends import new_tuning
from ..beginning import calls
from ..beginning.idling import Idling, NeverIdling
from ..objects.arguments import FLOAT, PASS, SCALE
from ..objects.kept import Kept
from ..objects.plain_attributes import hold_values
from ..operations.kernel_calls import kernels
from ..reading.programs import BLOCK, NotAProgram, Plan, plan_of
from ..reading.recognition import copied_tree, function_node
from ..reading.statements import Run, operations_in, own_function, runs_in, split
from .recompiling import LOOKING, is_installed, recompiled, statements_at

LEAST_NUMBERS = 35_000 * SCALE  # of an array; below, NumPy takes as long
# The same of runs of fewer operations than FEW, SGD's above all. NumPy makes its two passes as fast, but in one thread, and
# has half of the gradient to fetch from another core's cache. A script's step of 784-256-10, batch 100, took 1,360 to 1,620
# us, now 1,210 to 1,260, of 784-100-10 720 to 890 and 660 to 690: by how much depends on where malloc puts the arrays. (An
# older version, on another Xeon, took 95 us for 78,000 numbers, NumPy 70.) Measured and rejected: for all sizes (784-50-10,
# whose gradient one thread makes, 525 and 560).
FEW, LEAST_NUMBERS_OF_FEW = 4, 60_000 * SCALE
MOST_SHAPES = 64  # of the arrays of a run, that are kept
NUMBERS = (int, float, np.float64)
WEAK = (int, float)  # which leave a float32 array what it is
RUN, VALUES, HOLD = "_fastbp_run", "_fastbp_values", "_fastbp_hold_values"
# Names, one of which an optimizer has.
RATES = {"lr", "learning_rate", "lr_t", "eta", "alpha", "learningRate", "learn_rate"}
_SINGLE = np.dtype(np.float32)


def with_programs(method: FunctionType, owner: str, wrap: calls.Wrapper, idling: Idling) -> FunctionType | None:
    """The method of a class of that name, with calls for its elementwise statements; None if it has none.

    wrap: how the calls are made, see `calls`; idling: what notes their sizes.
    """
    code = method.__code__
    names = {*code.co_names, *code.co_varnames}
    if RATES.isdisjoint(names) or is_installed(code):
        return None
    if not LOOKING.isdisjoint(names) or code.co_freevars or code.co_flags & 0x2A0:
        return None  # a closure, or a generator or coroutine
    node = function_node(method)
    if node is None or node.decorator_list:
        return None
    node = copied_tree(node)
    made: dict[str, Any] = {}
    me = next((one.arg for one in (*node.args.posonlyargs, *node.args.args)), "")
    for body, run in list(runs_in(node, method)):
        name = f"{RUN}{len(made)}"
        own = own_function(run, method)
        fused = _Fused(run, own, idling, is_tuned=SCALE > 0 and not hasattr(wrap, "watches"))
        made[name] = wrap(f"{owner}.{method.__name__}", fused, own if hasattr(wrap, "watches") else _leaving(own))
        place = next(i for i, statement in enumerate(body) if statement is run.statements[0])
        body[place : place + len(run.statements)] = _call(run, name, me)
    return recompiled(method, owner, ast.fix_missing_locations(node), {**made, HOLD: hold_values}) if made else None


def _leaving(own: FunctionType) -> Any:
    """A function of the same parameters that says: the statements are to run where they stand."""
    parameters = ", ".join(own.__code__.co_varnames[: own.__code__.co_argcount])
    names: dict[str, Any] = {}
    exec(f"def {own.__name__}({parameters}):\n    return None", names)
    return names[own.__name__]


def _call(run: Run, name: str, me: str) -> list[ast.stmt]:
    """Statements that read the values, call, and set the results; where there are none, or no values, the run's own.

    Where reading an attribute of `me` runs code, the values are not read: the run's own statements would read them again.
    """
    values = "".join(f"{place}, " for place in run.reads)
    attributes = tuple(sorted({found[1] for place in run.reads if (found := re.match(rf"{me}\.(\w+)", place))}))
    if me and attributes:
        values = f"({values}) if {HOLD}({me}, {attributes!r}) else None"
    targets = "".join(f"{place}, " for place in run.sets)
    setting = f"{targets}{VALUES}, = {VALUES}" if run.returns else f"{targets.rstrip()} = {VALUES}"
    source = f"""
try:
    {VALUES} = {values}
except Exception:
    {VALUES} = None
else:
    {VALUES} = {VALUES} and {name}(*{VALUES})
if {VALUES} is not None:
    {setting}
    {f"return {VALUES}" if run.returns else "pass"}
else:
    pass
"""
    made = statements_at(source, run.statements[0])
    assert isinstance(made[1], ast.If)
    made[1].orelse = list(run.statements)
    return made


class _Fused:
    """A run as a program: called with the values of `reads`, gives those of `sets` and what it returns, or PASS.

    is_tuned: whether the statements stay where the script takes less time so, which is found by trying: what they give is
    the same to the last bit. A program in two threads holds up OpenBLAS's threads for a while, of a script's products that
    are NumPy's: one with momentum for 784-50-20-10 took 6.5 s so, 4.3 under Python.
    """

    def __init__(self, run: Run, own: FunctionType, idling: Idling | NeverIdling, is_tuned: bool = False):
        self.run, self.own, self.idling, self._is_tuned = run, own, idling, is_tuned
        self._tuning: Any = None
        self._least = LEAST_NUMBERS if operations_in(run.statements) >= FEW else LEAST_NUMBERS_OF_FEW
        self._plans: dict[tuple[int, ...], Plan | None] = {}
        self._parts: Kept[tuple[Any, ...], list[_Part]] = Kept(MOST_SHAPES)

    def __call__(self, *values: Any) -> Any:
        arrays = _arrays_in(values)
        if max([values[place].size for place in arrays], default=0) < self._least:
            self.idling.small(self.own.__name__)
            return PASS
        self.idling.large()
        if self._is_tuned and not self._is_faster():
            return PASS
        plan = self.plan_for(values)
        return self._in_parts(self._parts_of(values), values) if plan is None else self._made(plan, values)

    def _is_faster(self) -> bool:
        """Whether this call is to be a program's."""
        self._tuning = self._tuning or new_tuning()
        return bool(self._tuning.next_call())

    def weigh(self, seconds: float, values: tuple[Any, ...], result: Any) -> float | None:
        """How much of a call counts towards the beginning of the kernels; None where there is no program for it."""
        return seconds if self.plan_for(values) is not None or self._parts_of(values) else None

    def plan_for(self, values: tuple[Any, ...]) -> Plan | None:
        """The one program for values of these kinds, if there is one."""
        arrays = _arrays_in(values)
        if arrays not in self._plans:
            self._plans[arrays] = self._plan(arrays)
        plan = self._plans[arrays]
        return plan if plan is not None and _fit(plan, values) else None

    def _parts_of(self, values: tuple[Any, ...]) -> list[_Part]:
        """Where W and b are updated by statements next to each other: a run for each shape, that of the most numbers first.

        Empty where the arrays have one shape, or are not apart.
        """
        arrays = _arrays_in(values)
        shapes = tuple([values[place].shape for place in arrays])
        if len(set(shapes)) < 2:
            return []
        if (arrays, shapes) not in self._parts:
            numbers = {place for number, place in enumerate(self.run.reads) if number not in arrays}
            parts = [_part(self.run, one, self.own) for one in split(self.run, numbers)]
            parts.sort(
                key=lambda part: -max([values[place].size for place in part.reads if place in arrays], default=0)
            )
            self._parts[arrays, shapes] = parts
        return self._parts[arrays, shapes]

    def _in_parts(self, parts: list[_Part], values: tuple[Any, ...]) -> Any:
        """The parts one after the other. None of them may raise an error once another has changed arrays."""
        given = [tuple([values[place] for place in part.reads]) for part in parts]
        owners = [{id(_owner(values_of[place])) for place in _arrays_in(values_of)} for values_of in given]
        are_apart = len(set().union(*owners)) == sum(map(len, owners))
        are_programs = all(part.fused.plan_for(one) is not None for part, one in zip(parts, given, strict=True))
        if not parts or not are_apart or not are_programs:
            return PASS
        results: dict[int, Any] = {}
        for part, values_of in zip(parts, given, strict=True):
            made = part.fused(*values_of)
            if made is PASS:
                if part is parts[0]:
                    return PASS
                made = part.fused.own(*values_of)
            results.update(zip(part.sets, made, strict=True))
        return tuple([results[place] for place in range(len(self.run.sets))])

    def _plan(self, arrays: tuple[int, ...]) -> Plan | None:
        try:
            return plan_of(self.run, self.own, arrays)
        except NotAProgram:
            return None

    def _made(self, plan: Plan, values: tuple[Any, ...]) -> Any:
        try:
            constants, numbers, _ = plan.numbers(*values)
        except Exception:  # the statements will raise it themselves
            return PASS
        if values[plan.arrays[0]].dtype == _SINGLE and not all(type(one) in WEAK for one in constants):
            return PASS
        inputs = [np.ascontiguousarray(values[place]) for place in plan.arrays]
        fresh = [np.empty(inputs[0].shape, inputs[0].dtype) for _ in range(plan.made)]
        outputs = [*(inputs[place] for place in plan.changed), *fresh]
        left = kernels.run_program((plan.operations, plan.outputs, plan.rows), inputs, constants, outputs)
        results = {"number": numbers, "made": fresh, "input": [values[place] for place in plan.arrays]}
        if left is not None:
            if left.all():
                return PASS
            self._finish(plan, values, fresh, left)
        return tuple([results[kind][place] for kind, place in plan.results])

    def _finish(self, plan: Plan, values: tuple[Any, ...], fresh: list[Any], left: Any) -> None:
        """What the kernel has left, by the statements themselves, which warn as they do: blocks that are not finite."""
        flat = {place: np.ascontiguousarray(values[place]).reshape(-1) for place in plan.arrays}
        for is_left, group in itertools.groupby(range(len(left)), left.__getitem__):
            if is_left:
                blocks = list(group)
                part = slice(blocks[0] * BLOCK, (blocks[-1] + 1) * BLOCK)
                given = [flat[place][part] if place in flat else value for place, value in enumerate(values)]
                for (kind, place), result in zip(plan.results, self.own(*given), strict=True):
                    if kind == "made":
                        fresh[place].reshape(-1)[part] = result


class _Part(NamedTuple):
    """A part of a run as a program: which of the run's values it reads, and which of its results it sets."""

    fused: _Fused
    reads: tuple[int, ...]
    sets: tuple[int, ...]


def _part(whole: Run, part: Run, own: FunctionType) -> _Part:
    fused = _Fused(part, own_function(part, own), NeverIdling())
    return _Part(fused, tuple(map(whole.reads.index, part.reads)), tuple(map(whole.sets.index, part.sets)))


def _arrays_in(values: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple([place for place, value in enumerate(values) if type(value) is np.ndarray])


def _fit(plan: Plan, values: tuple[Any, ...]) -> bool:
    """Whether the arrays are of one kind, apart in memory where they are changed, and the numbers ordinary ones."""
    first = values[plan.arrays[0]]
    if first.dtype != FLOAT and first.dtype != _SINGLE:
        return False
    for place in plan.arrays:
        array = values[place]
        if array.dtype != first.dtype or array.shape != first.shape:
            return False
    owners = [id(_owner(values[place])) for place in plan.arrays]
    if not all(values[plan.arrays[one]].flags.carray and owners.count(owners[one]) == 1 for one in plan.changed):
        return False
    return all(type(value) in NUMBERS for place, value in enumerate(values) if place not in plan.arrays)


def _owner(array: Any) -> Any:
    """The object whose memory an array shows."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array
