"""How a forecast follows branches, loops, gathers and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from xdsl.dialects import scf
from xdsl.ir import Operation

from tokenloom.compiler.analysis.estimates import (
    AT_START,
    LIST_LENGTH,
    Estimate,
    of_constant,
    of_list,
)
from tokenloom.compiler.analysis.forecast_walk import Handler, Walk
from tokenloom.ir import flow


def _if(walk: Walk, op: Operation) -> list[Estimate]:
    branch = cast("scf.IfOp", op)
    condition = walk.known[branch.cond]
    if isinstance(condition.constant, bool):
        region = branch.true_region if condition.constant else branch.false_region
        return walk.block(region.block, []) if region.blocks else []
    outer = walk.control
    walk.control = walk.timeline.join([outer, condition.event])
    sides = [
        walk.block(region.block, [])
        for region in (branch.true_region, branch.false_region)
        if region.blocks
    ]
    results = [_either(walk, *pair) for pair in zip(*sides, strict=True)] if op.results else []
    walk.control = outer
    return results


def _either(walk: Walk, one: Estimate, other: Estimate) -> Estimate:
    """Return the larger of two values that one of two branches gives."""
    larger = max(one, other, key=lambda e: (e.node.tokens if e.node else 0, e.tokens))
    event = walk.timeline.join([one.event, other.event, walk.control])
    merged = larger.ready_after(event)
    merged.constant = one.constant if one.constant == other.constant else None
    merged.content = one.content if one.content == other.content else None
    return merged


def _for(walk: Walk, op: Operation) -> list[Estimate]:
    loop = cast("scf.ForOp", op)
    bounds = [walk.known[value].constant for value in (loop.lb, loop.ub, loop.step)]
    first, last, step = (b if isinstance(b, int) else None for b in bounds)
    steps = range(LIST_LENGTH)
    if first is not None and last is not None and step:
        steps = range(first, last, step)
    carried = [walk.known[value] for value in loop.iter_args]
    event = walk.known[loop.ub].event
    for index in steps:
        carried = walk.block(loop.body.block, [of_constant(index, event), *carried])
        if not walk.may_go_on():
            break
    return carried


def _while(walk: Walk, op: Operation) -> list[Estimate]:
    """Follow a loop until its condition is known to fail; an unknown one goes on."""
    loop = cast("scf.WhileOp", op)
    carried = [walk.known[value] for value in loop.arguments]
    outer = walk.control
    while True:
        condition, *carried = walk.block(loop.before_region.block, carried)
        walk.control = walk.timeline.join([walk.control, condition.event])
        if condition.constant is False or not walk.may_go_on():
            break
        carried = walk.block(loop.after_region.block, carried)
    walk.control = outer
    return carried


def _gather(walk: Walk, op: Operation) -> list[Estimate]:
    gather = cast("flow.GatherOp", op)
    members = walk.items(walk.known[gather.members])
    histories = walk.items(walk.known[gather.histories], len(members))
    rounds = walk.known[gather.rounds].constant
    others, outer = of_list([], AT_START), walk.control
    for number in range(rounds if isinstance(rounds, int) else LIST_LENGTH):
        outputs: list[Estimate] = []
        shared: Sequence[Estimate] = ()
        if gather.shared is not None and members:
            first = [members[0], histories[0], others, of_constant(number + 1)]
            shared = walk.block(gather.shared.block, first)
        for index, member in enumerate(members):
            arguments = [member, histories[index], others, of_constant(number + 1), *shared]
            output, histories[index] = walk.block(gather.body.block, arguments)
            outputs.append(output)
        walk.control = walk.when(*outputs, *histories)
        others = of_list(outputs, walk.control)
        if not walk.may_go_on():
            break
    event, walk.control = walk.control, outer
    return [others, of_list(histories, event)]


def _map(walk: Walk, op: Operation) -> list[Estimate]:
    mapped = cast("flow.MapOp", op)
    carried = [walk.known[value] for value in mapped.carried]
    columns: list[list[Estimate]] = [[] for _ in mapped.lists]
    for index, item in enumerate(walk.items(walk.known[mapped.items])):
        results = walk.block(mapped.body.block, [item, of_constant(index), *carried])
        for column, result in zip(columns, results, strict=False):
            column.append(result)
        carried = results[len(columns) :]
        if not walk.may_go_on():
            break
    return [*(of_list(column, walk.when(*column)) for column in columns), *carried]


CONTROL: Mapping[type[Operation], Handler] = {
    scf.IfOp: _if,
    scf.ForOp: _for,
    scf.WhileOp: _while,
    flow.GatherOp: _gather,
    flow.MapOp: _map,
}
"""What is done for ops with regions."""
