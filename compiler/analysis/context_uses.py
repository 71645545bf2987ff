"""Who reads a context in its block: until when, and which requests must be over before it can go.

Extensions are computed with the first request that needs them, so a request reads every context
that its own was made of. Knows the ops of `exec` workflows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from tokenloom.ir.exec import (
    AwaitOp,
    ExtendOp,
    LinkOp,
    MoveOp,
    ReleaseOp,
    RootOp,
    SubmitOp,
    WindowOp,
)
from tokenloom.ir.kv import ContextType

LAZY = (ExtendOp, LinkOp, WindowOp)
"""Ops whose context is made when a request needs it."""

MAKERS = (*LAZY, AwaitOp, MoveOp, RootOp)
"""Ops whose context is a new one."""


@dataclass
class ContextUse:
    """What is known of one context: `last_index` counts the ops of its block.

    `events` are those of the requests that read it, in order. `escapes` where it is read inside a
    region, stored in a list, or leaves the block: then others may hold it longer.
    """

    last_index: int
    events: dict[SSAValue, None] = field(default_factory=dict[SSAValue, None])
    escapes: bool = False


def context_uses(block: Block) -> dict[SSAValue, ContextUse]:
    """Return the uses of every context that an op of `block` makes.

    What another op hands on, such as an element of a list, may be held by others: left out.
    """
    ops = list(block.ops)
    index = {op: position for position, op in enumerate(ops)}
    found: dict[SSAValue, ContextUse] = {}
    for op in reversed(ops):
        if isinstance(op, MAKERS):
            for result in op.results:
                if isinstance(result.type, ContextType):
                    found[result] = _use_of(result, index, found)
    return found


def _use_of(
    context: SSAValue, index: dict[Operation, int], found: dict[SSAValue, ContextUse]
) -> ContextUse:
    owner = context.owner
    assert isinstance(owner, Operation)
    total = ContextUse(index[owner])
    for use in context.uses:
        user = use.operation
        if isinstance(user, ReleaseOp):
            continue
        if user not in index:
            total.escapes = True
            continue
        total.last_index = max(total.last_index, index[user])
        if isinstance(user, SubmitOp):
            _add_event(total, _waits(user), index)
        elif isinstance(user, MoveOp):
            _add_event(total, user.done, index)
        elif isinstance(user, LAZY):
            derived = found[user.results[0]]
            total.escapes |= derived.escapes
            total.events.update(derived.events)
            total.last_index = max(total.last_index, derived.last_index)
        else:
            total.escapes = True
    return total


def _waits(submit: SubmitOp) -> SSAValue | None:
    for use in submit.ticket.uses:
        if isinstance(use.operation, AwaitOp):
            return use.operation.done
    return None


def _add_event(total: ContextUse, event: SSAValue | None, index: dict[Operation, int]) -> None:
    """Count a request's event; one that is waited for elsewhere cannot be named in this block."""
    owner = event.owner if event is not None else None
    if event is None or not isinstance(owner, Operation) or owner not in index:
        total.escapes = True
        return
    total.events[event] = None
    total.last_index = max(total.last_index, index[owner])
