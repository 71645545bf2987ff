"""Prompts that cannot fit the model's context, found before anything runs.

A length counts what the text of the program makes certain: fixed pieces, markers, and the budgets
of answers that are in the history or in the prompt. Values of unknown length count nothing, a loop
runs as often as it must, and of two branches the shorter counts. So what is reported is too long
in the worst case whatever the inputs are. Does not change the IR.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import IntegerAttr
from xdsl.dialects.scf import ConditionOp, ForOp, IfOp, WhileOp, YieldOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from tokenloom.ir.declarations import AgentOp, WorkflowOp
from tokenloom.ir.declarations import YieldOp as FlowYieldOp
from tokenloom.ir.flow import AskOp, GatherOp, HistoryOp, MapOp, SegmentOp
from tokenloom.ir.types import AgentType, HistoryType
from tokenloom.ir.values import IndexOp, LenOp, ListOp, UpdateOp

KEEP_ALL = -1


@dataclass(frozen=True)
class Overflow:
    """An ask whose history, prompt and budget exceed the context; all lengths in tokens."""

    ask: AskOp
    history: int
    prompt: int
    budget: int
    context: int

    @property
    def total(self) -> int:
        """The tokens that the context would have to hold."""
        return self.history + self.prompt + self.budget


def find_overflows(
    workflow: WorkflowOp, agents: Mapping[str, AgentOp], contexts: Mapping[str, int]
) -> list[Overflow]:
    """Return the asks of a workflow that cannot fit, in program order.

    `contexts` is the length of the context of each agent class, in tokens. Prompts must have
    been made into segments.
    """
    lengths = _Lengths(workflow, agents, contexts)
    lengths.block(workflow.body.block)
    return list(lengths.found.values())


class _Lengths:
    """Lengths of histories, and of lists of them (that of the shortest), by value."""

    def __init__(
        self, workflow: WorkflowOp, agents: Mapping[str, AgentOp], contexts: Mapping[str, int]
    ) -> None:
        self.workflow = workflow
        self.agents = agents
        self.contexts = contexts
        self.found: dict[AskOp, Overflow] = {}
        self.reports = True
        self._lengths: dict[SSAValue, int] = {}
        self._visitors: dict[type[Operation], Callable[[Any], None]] = {
            AskOp: self._ask,
            ForOp: self._for,
            GatherOp: self._gather,
            HistoryOp: self._history,
            IfOp: self._if,
            IndexOp: lambda op: self._set(op.result, self._get(op.items)),
            ListOp: self._list,
            MapOp: self._map,
            UpdateOp: lambda op: self._set(op.result, self._shortest([op.items, op.value])),
            WhileOp: self._while,
        }

    def block(self, block: Block) -> None:
        """Visit all ops of a block in order."""
        for op in block.ops:
            visit = self._visitors.get(type(op))
            if visit is not None:
                visit(op)

    def _get(self, value: SSAValue) -> int:
        return self._lengths.get(value, 0)

    def _set(self, value: SSAValue, length: int) -> None:
        if length:
            self._lengths[value] = length
        else:
            self._lengths.pop(value, None)

    def _shortest(self, values: Iterable[SSAValue]) -> int:
        return min(map(self._get, values), default=0)

    def _history(self, op: HistoryOp) -> None:
        self._set(op.history, min(map(_system_length, self._classes(op.agent))))

    def _classes(self, agent: SSAValue) -> list[AgentOp]:
        kind = agent.type
        assert isinstance(kind, AgentType)
        return [self.agents[name.root_reference.data] for name in kind.classes]

    def _ask(self, op: AskOp) -> None:
        classes = self._classes(op.agent)
        history = self._get(op.history)
        prompt, budget = sum(map(_part_length, op.parts)), op.max_tokens.value.data
        context = max(self.contexts[agent.sym_name.data] for agent in classes)
        overflow = Overflow(op, history, prompt, budget, context)
        if self.reports and overflow.total > context:
            self.found.setdefault(op, overflow)
        keeps = all(agent.history.value.data == KEEP_ALL for agent in classes)
        closing = 0 if op.close_tokens is None else len(op.close_tokens)
        self._set(op.next, overflow.total + closing if keeps else history)

    def _list(self, op: ListOp) -> None:
        self._set(op.result, self._shortest(op.items))

    def _if(self, op: IfOp) -> None:
        branches: list[Sequence[SSAValue]] = []
        for region in op.regions:
            if region.blocks:
                self.block(region.block)
                branches.append(_yielded(region.block))
        for index, result in enumerate(op.output):
            self._set(result, self._shortest(branch[index] for branch in branches))

    def _for(self, op: ForOp) -> None:
        trips = self._least(op.ub) - self._least(op.lb)
        initial = [self._get(value) for value in op.iter_args]
        body = op.body.block
        can_extend = all(
            isinstance(value.type, HistoryType) for value in op.iter_args if self._get(value)
        )
        last = self._iterate(body, body.args[1:], initial, trips, can_extend=can_extend)
        for result, length in zip(op.res, last, strict=True):
            self._set(result, length)

    def _gather(self, op: GatherOp) -> None:
        body = op.body.block
        initial = [self._get(op.histories)]

        def yielded(block: Block) -> Sequence[SSAValue]:
            return _yielded(block)[1:]

        (last,) = self._iterate(
            body, [body.args[1]], initial, self._least(op.rounds), yielded=yielded
        )
        self._set(op.next, last)

    def _map(self, op: MapOp) -> None:
        self.block(op.body.block)
        for result, value in zip(op.results, _yielded(op.body.block), strict=True):
            self._set(result, self._get(value))

    def _while(self, op: WhileOp) -> None:
        body = op.before_region.block
        for argument, value in zip(body.args, op.arguments, strict=True):
            self._set(argument, self._get(value))
        self.block(body)
        for result, value in zip(op.res, _yielded(body), strict=True):
            self._set(result, self._get(value))

    def _iterate(
        self,
        body: Block,
        arguments: Sequence[BlockArgument],
        initial: list[int],
        trips: int,
        *,
        yielded: Callable[[Block], Sequence[SSAValue]] | None = None,
        can_extend: bool = True,
    ) -> list[int]:
        """Return the lengths after `trips` iterations, at least; report those of the last one.

        Each iteration adds the same, so the first tells what the others add; a list says only
        what its shortest member has, so there (not `can_extend`) one iteration is all we know.
        """

        def once(lengths: list[int], *, reports: bool) -> list[int]:
            before, self.reports = self.reports, self.reports and reports
            for argument, length in zip(arguments, lengths, strict=True):
                self._set(argument, length)
            self.block(body)
            self.reports = before
            return [self._get(value) for value in (yielded or _yielded)(body)]

        if trips <= 1 or not can_extend:
            after = once(initial, reports=True)
            return after if trips >= 1 else initial
        after = once(initial, reports=False)
        steps = [new - old for old, new in zip(initial, after, strict=True)]
        last = [old + step * (trips - 1) for old, step in zip(initial, steps, strict=True)]
        return once(last, reports=True)

    def _least(self, value: SSAValue) -> int:
        """Return what an integer is at least."""
        if isinstance(value, BlockArgument):
            return self._least_input(value)
        match value.owner:
            case ConstantOp() as op if isinstance(op.value, IntegerAttr):
                return op.value.value.data
            case LenOp() as op if isinstance(op.value.owner, ListOp):
                return len(op.value.owner.items)
            case _:
                return 0

    def _least_input(self, value: BlockArgument) -> int:
        inputs: list[dict[str, Any]] = json.loads(self.workflow.inputs.data)
        arguments = self.workflow.body.block.args
        if value.block is not self.workflow.body.block or len(inputs) != len(arguments):
            return 0
        return int(inputs[value.index]["type"].get("min", 0))


def _yielded(block: Block) -> Sequence[SSAValue]:
    """Return what the end of a block hands on."""
    match block.last_op:
        case YieldOp() as op:
            return op.arguments
        case ConditionOp() as op:
            return op.args
        case FlowYieldOp() as op:
            return op.values
        case _:
            return ()


def _system_length(agent: AgentOp) -> int:
    return sum(map(_part_length, _yielded(agent.body.block)))


def _part_length(part: SSAValue) -> int:
    """Return the tokens of a part of a prompt as far as they are known."""
    match part.owner:
        case SegmentOp() as op:
            return len(op.tokens)
        case AskOp() as op:
            return op.max_tokens.value.data
        case _:
            return 0
