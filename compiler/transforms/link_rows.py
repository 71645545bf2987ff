"""Let the members of a gather link a run instead of computing it each: what plan-reuse rewrites."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.rewriter import Rewriter

from tokenloom.compiler.analysis.shared_rows import SharedRow
from tokenloom.ir.declarations import YieldOp
from tokenloom.ir.kv import ExtendOp, LinkOp, RunType, SliceOp, Source, SourceAttr
from tokenloom.ir.text import TextAttr


def link_row(extend: ExtendOp, row: SharedRow, decision: str) -> None:
    """Split an extension at a shared row, which becomes a run of the first member's context."""
    _share(extend, row, decision)
    body = row.gather.body.block
    run = body.insert_arg(RunType(), len(body.args))
    run.name_hint = "run"
    parts = list(extend.parts)
    new: list[Operation] = []
    context = extend.context
    if row.first:
        new.append(_extend(context, parts[: row.first], Source.PREFIX, decision, "head"))
        context = new[-1].results[0]
    new.append(LinkOp(context, run, decision))
    new[-1].results[0].name_hint = "linked"
    rest = _extend(new[-1].results[0], parts[row.end :], Source.DENSE, decision, "prompt")
    _place([*new, rest], extend.location)
    Rewriter.replace_op(extend, [*new, rest], rest.results)


def _share(extend: ExtendOp, row: SharedRow, decision: str) -> None:
    """Give the gather a region that computes the run behind the first member's head."""
    body = row.gather.body.block
    block = Block(arg_types=[argument.type for argument in body.args])
    mapping: dict[SSAValue, SSAValue] = dict(zip(body.args, block.args, strict=True))
    for old, new in mapping.items():
        new.name_hint = old.name_hint
    for op in row.needed:
        block.add_op(op.clone(mapping))
    context = mapping.get(extend.context, extend.context)
    parts = [mapping.get(part, part) for part in extend.parts]
    made: list[Operation] = []
    if row.first:
        made.append(_extend(context, parts[: row.first], Source.PREFIX, decision, "head"))
        context = made[-1].results[0]
    read = _extend(context, parts[row.first : row.end], Source.DENSE, decision, "read")
    run = SliceOp(read.extended, context)
    run.run.name_hint = "run"
    made += [read, run, YieldOp(run.run)]
    _place(made, extend.location)
    block.add_ops(made)
    row.gather.add_region(Region(block))


def _extend(
    context: SSAValue, parts: Sequence[SSAValue], source: Source, decision: str, name: str
) -> ExtendOp:
    made = ExtendOp(context, list(parts))
    made.source, made.decision = SourceAttr(source), TextAttr(decision)
    made.extended.name_hint = name
    return made


def _place(ops: Sequence[Operation], location: LocationAttr) -> None:
    for op in ops:
        op.location = location
