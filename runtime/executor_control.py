"""How the executor does control steps: branches, loops, map and gather.

Bodies are started as soon as it is known that they run, and overlap wherever data allows; only
`gather` has a barrier, between its rounds.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from tokenloom.runtime.asker import Where
from tokenloom.runtime.executor_core import Handler, Run
from tokenloom.runtime.pending import (
    Frame,
    Pending,
    fail,
    forward,
    is_ready,
    settle,
    wait_inside,
    wait_outside,
)
from tokenloom.runtime.steps import Block, ForStep, GatherStep, IfStep, MapStep, Slots, WhileStep
from tokenloom.runtime.values import Value


def _bind(frame: Frame, slots: Slots, values: Sequence[Value]) -> None:
    for slot, value in zip(slots, values, strict=True):
        frame[slot] = value


def _bind_later(
    run: Run, frame: Frame, slots: Slots, work: Coroutine[Any, Any, Sequence[Value]]
) -> None:
    """Bind slots to what `work` will return; each is there as soon as its own value is."""
    targets = [run.future() for _ in slots]
    _bind(frame, slots, targets)
    run.spawn(_deliver(work, targets))


async def _deliver(work: Coroutine[Any, Any, Sequence[Value]], targets: Sequence[Pending]) -> None:
    try:
        values = await work
    except BaseException as error:
        for target in targets:
            if isinstance(error, Exception):
                fail(target, error)
            else:
                target.cancel()
        raise
    for value, target in zip(values, targets, strict=True):
        forward(settle(value), target)


def branch(run: Run, step: IfStep, frame: Frame, where: Where) -> None:
    """Start the block that is chosen."""
    condition = frame[step.condition]

    def chosen(condition: Value) -> list[Value]:
        block = step.then if condition else step.otherwise
        return run.start(block, Frame(frame, (), ()), where)

    async def later() -> list[Value]:
        return chosen(await wait_outside(condition))

    if is_ready(condition, is_deep=False):
        _bind(frame, step.results, chosen(condition))
    else:
        _bind_later(run, frame, step.results, later())


def count(run: Run, step: ForStep, frame: Frame, where: Where) -> None:
    """Start all iterations; what one carries to the next may come later."""
    bounds = frame.many((step.lower, step.upper, step.stride))
    initial = frame.many(step.initial)

    def iterations(bounds: Sequence[int]) -> list[Value]:
        carried = initial
        for index, counter in enumerate(range(*bounds)):
            inner = Frame(frame, step.body.arguments, (counter, *carried))
            carried = run.start(step.body, inner, where.iteration(index))
        return carried

    async def later() -> list[Value]:
        return iterations([await wait_outside(bound) for bound in bounds])

    if all(is_ready(bound, is_deep=False) for bound in bounds):
        _bind(frame, step.results, iterations(bounds))
    else:
        _bind_later(run, frame, step.results, later())


def loop(run: Run, step: WhileStep, frame: Frame, where: Where) -> None:
    """Start an iteration when the condition of the one before is known."""
    _bind_later(run, frame, step.results, _loop(run, step, frame, where))


async def _loop(run: Run, step: WhileStep, frame: Frame, where: Where) -> list[Value]:
    values = frame.many(step.initial)
    index = 0
    while True:
        here = where.iteration(index)
        inner = Frame(frame, step.before.arguments, values)
        condition, *values = run.start(step.before, inner, here)
        if not await wait_outside(condition):
            return values
        inner = Frame(frame, step.after.arguments, values)
        values = run.start(step.after, inner, here.step(len(step.before.steps)))
        index += 1


def each(run: Run, step: MapStep, frame: Frame, where: Where) -> None:
    """Start the body for every item."""
    items = frame[step.items]
    carried = frame.many(step.carried)

    def bodies(items: Sequence[Value]) -> list[Value]:
        last = carried
        rows: list[list[Value]] = []
        for index, item in enumerate(items):
            inner = Frame(frame, step.body.arguments, (item, index, *last))
            results = run.start(step.body, inner, where.iteration(index))
            rows.append(results[: len(step.lists)])
            last = results[len(step.lists) :]
        columns = [[row[column] for row in rows] for column in range(len(step.lists))]
        return [*columns, *last]

    async def later() -> list[Value]:
        return bodies(await wait_outside(items))

    results = (*step.lists, *step.last)
    if is_ready(items, is_deep=False):
        _bind(frame, results, bodies(items))
    else:
        _bind_later(run, frame, results, later())


def gather(run: Run, step: GatherStep, frame: Frame, where: Where) -> None:
    """Do rounds, each when the one before has ended for all members."""
    _bind_later(run, frame, (step.outputs, step.next), _gather(run, step, frame, where))


async def _gather(run: Run, step: GatherStep, frame: Frame, where: Where) -> list[Value]:
    members: Sequence[Value] = await wait_outside(frame[step.members])
    histories: Sequence[Value] = await wait_outside(frame[step.histories])
    outputs: list[Value] = []
    for number in range(1, 1 + await wait_outside(frame[step.rounds])):
        shared: list[Value] = []
        if step.shared is not None and members:
            first = (members[0], histories[0], outputs, number)
            inner = Frame(frame, step.shared.arguments, first)
            shared = run.start(step.shared, inner, where.iteration(number))
        results = [
            _member(run, step.body, frame, where.iteration(number, index), arguments)
            for index, arguments in enumerate(
                (member, history, outputs, number, *shared)
                for member, history in zip(members, histories, strict=True)
            )
        ]
        outputs = [await wait_inside(output) for output, _ in results]
        histories = [await wait_outside(history) for _, history in results]
    return [outputs, list(histories)]


def _member(
    run: Run, body: Block, frame: Frame, where: Where, arguments: Sequence[Value]
) -> tuple[Value, Value]:
    output, history = run.start(body, Frame(frame, body.arguments, arguments), where)
    return output, history


CONTROL: dict[type, Handler] = {
    ForStep: count,
    GatherStep: gather,
    IfStep: branch,
    MapStep: each,
    WhileStep: loop,
}
