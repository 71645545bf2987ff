"""Let contexts link long values that others read too: what plan-reuse does outside of gathers."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from tokenloom.ir.declarations import AgentOp, YieldOp
from tokenloom.ir.flow import SegmentOp
from tokenloom.ir.kv import ExtendOp, LinkOp, RootOp, SliceOp, Source, SourceAttr
from tokenloom.ir.text import TextAttr


class DocumentLinker:
    """Makes one run for each value and model, where the value is made."""

    def __init__(self) -> None:
        self._runs: dict[tuple[SSAValue, str], SSAValue] = {}

    def link(
        self, extend: ExtendOp, documents: Sequence[int], agent: AgentOp, decision: str
    ) -> None:
        """Split an extension at the parts `documents`, each a run behind the template's start."""
        parts = list(extend.parts)
        new: list[Operation] = []
        context, first = extend.context, 0
        for index in documents:
            if index > first:
                new.append(_extend(context, parts[first:index], Source.PREFIX, decision))
                context = new[-1].results[0]
            new.append(LinkOp(context, self._run(extend, parts[index], agent, decision), decision))
            context, first = new[-1].results[0], index + 1
            context.name_hint = "linked"
        rest = _extend(context, parts[first:], Source.DENSE, decision)
        rest.extended.name_hint = extend.extended.name_hint
        for op in (*new, rest):
            op.location = extend.location
        Rewriter.replace_op(extend, [*new, rest], rest.results)

    def _run(self, extend: ExtendOp, document: SSAValue, agent: AgentOp, decision: str) -> SSAValue:
        model = agent.model.root_reference.data
        key = document, model
        if key not in self._runs:
            ops = _run_ops(extend, document, agent, decision)
            owner = document.owner
            if isinstance(owner, Operation):
                block = owner.parent
                assert block is not None
                block.insert_ops_after(ops, owner)
            else:
                block = owner
                assert block.first_op is not None
                block.insert_ops_before(ops, block.first_op)
            self._runs[key] = ops[-1].results[0]
        return self._runs[key]


def _run_ops(
    extend: ExtendOp, document: SSAValue, agent: AgentOp, decision: str
) -> list[Operation]:
    """Return the ops that compute a document behind the first tokens of the chat template.

    Never alone: a text that begins at position 0 grows an attention sink of its own there.
    """
    root = RootOp(agent.model.root_reference.data)
    Rewriter.replace_value_with_new_type(root.context, extend.context.type)
    start = _first_segment(agent, extend)
    head: list[Operation] = [root]
    if start is not None:
        segment = start.clone()
        head += [segment, _extend(root.context, [segment.segment], Source.PREFIX, decision)]
    read = _extend(head[-1].results[0], [document], Source.DENSE, decision)
    run = SliceOp(read.extended, head[-1].results[0])
    run.run.name_hint = "run"
    ops = [*head, read, run]
    for op in ops:
        op.location = extend.location
    return ops


def _first_segment(agent: AgentOp, extend: ExtendOp) -> SegmentOp | None:
    """Return what every conversation of the class begins with, as far as that is fixed."""
    last = agent.body.block.last_op
    parts = [*(last.values if isinstance(last, YieldOp) else ()), extend.parts[0]]
    first = parts[0].owner
    return first if isinstance(first, SegmentOp) else None


def _extend(
    context: SSAValue, parts: Sequence[SSAValue], source: Source, decision: str
) -> ExtendOp:
    made = ExtendOp(context, list(parts))
    made.source, made.decision = SourceAttr(source), TextAttr(decision)
    return made
