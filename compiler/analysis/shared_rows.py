"""Which parts of a prompt all members of a gather read alike: a run that one of them can compute.

It knows nothing of whether that is allowed, or worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.traits import Pure

from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.ir.flow import GatherOp, SegmentOp
from tokenloom.ir.kv import ExtendOp, WindowOp

MEMBER, HISTORY, OTHERS = range(3)
"""Arguments of a gather's body."""


@dataclass(frozen=True)
class SharedRow:
    """Parts `first` to `end`, exclusive, of a prompt in the body of `gather`.

    `needed` are the ops of the body that make the context and the parts up to `end`, in order.
    """

    gather: GatherOp
    first: int
    end: int
    needed: tuple[Operation, ...]


def shared_row(extend: ExtendOp, size_of: Callable[[Sequence[SSAValue]], int]) -> SharedRow | None:
    """Return the largest row of parts that no member has for itself, by `size_of` in tokens.

    A row begins and ends with a value, or a fixed piece of a page or more; fixed text around it is
    computed by each member. None where there is no row, or where what stands before it is not known
    when the round begins.
    """
    gather = extend.parent_op()
    if not isinstance(gather, GatherOp) or extend.parent is not gather.body.block:
        return None
    body = gather.body.block
    parts = list(extend.parts)
    rows = [row for row in _rows(parts, body) if row[1] < len(parts)]
    if not rows:
        return None
    first, end = max(rows, key=lambda row: size_of(parts[row[0] : row[1]]))
    needed = _needed([extend.context, *parts[:end]], body)
    known = all(op.has_trait(Pure) and not op.regions for op in needed)
    if not known or not _is_history(extend.context, body):
        return None
    return SharedRow(gather, first, end, needed)


def _is_history(context: SSAValue, body: Block) -> bool:
    """Say whether the context is what the round begins with, or a window of it."""
    while isinstance(context.owner, WindowOp):
        context = context.owner.context
    return context is body.args[HISTORY]


def _rows(parts: Sequence[SSAValue], body: Block) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    marked = enumerate(_is_shared(part, body) for part in parts)
    for is_shared, group in groupby(marked, key=lambda pair: pair[1]):
        anchors = [index for index, _ in group if is_shared and _is_anchor(parts[index])]
        if anchors:
            rows.append((anchors[0], anchors[-1] + 1))
    return rows


def _is_anchor(part: SSAValue) -> bool:
    return not isinstance(part.owner, SegmentOp) or len(part.owner.tokens) >= PAGE_TOKENS


def _is_shared(part: SSAValue, body: Block) -> bool:
    """Say whether a value is the same for all members."""
    needed = _needed([part], body)
    private = (body.args[MEMBER], body.args[HISTORY])
    read = [part, *(operand for op in needed for operand in op.operands)]
    return all(op.has_trait(Pure) for op in needed) and not any(p in read for p in private)


def _needed(values: Sequence[SSAValue], body: Block) -> tuple[Operation, ...]:
    """Return the ops of the body that values depend on, in order."""
    found: set[Operation] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, BlockArgument):
            continue
        owner = value.owner
        if isinstance(owner, Operation) and owner.parent is body and owner not in found:
            found.add(owner)
            pending += owner.operands
    return tuple(op for op in body.ops if op in found)
