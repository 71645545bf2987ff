"""Following the ops of a workflow with estimates in place of values.

What each op does is in the tables of `forecast_values`, `forecast_control` and `forecast_asks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects import scf
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from tokenloom.compiler.analysis.estimates import ASSUMPTIONS, AT_START, LIST_LENGTH, Estimate
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.analysis.prefix_tree import PrefixNode
from tokenloom.compiler.analysis.timeline import Timeline
from tokenloom.ir.declarations import AgentOp, ReturnOp, ToolOp, YieldOp

MAX_EVENTS = 50_000
"""Loops are cut short once a workflow has as many events in sight."""


@dataclass
class Extension:
    """One time that a `kv.extend` is reached.

    `found` is the longest beginning of its context that was computed by then; `linkable_tokens`
    belong to texts that were put into another context before, at another place. `parts` are those
    that were added; in a gather, `round` is what was said in the round before.
    """

    end: PrefixNode
    base: PrefixNode
    found: PrefixNode
    linkable_tokens: int
    parts: tuple[Estimate, ...] = ()
    round: Estimate | None = None


@dataclass
class Ask:
    """One time that a `kv.decode` is reached."""

    event: int
    prefill_tokens: int
    reused_tokens: int
    linked_tokens: int
    linkable_tokens: int


@dataclass
class Forecast:
    """All that one run of a workflow does, by op, in order."""

    timeline: Timeline = field(default_factory=Timeline)
    extensions: dict[Operation, list[Extension]] = field(
        default_factory=dict[Operation, list[Extension]]
    )
    asks: dict[Operation, list[Ask]] = field(default_factory=dict[Operation, list[Ask]])
    critical_path_ns: float = 0.0
    assumptions: list[str] = field(default_factory=lambda: list(ASSUMPTIONS))


Handler = Callable[["Walk", Operation], Sequence[Estimate]]


class Walk:
    """The state of one run: estimates of all values, the prefix tree, and what was found so far.

    `control` is the event after which the ops in hand may start.
    """

    def __init__(
        self,
        module: ModuleOp,
        costs: Mapping[str, ModelCosts],
        handlers: Mapping[type[Operation], Handler],
    ):
        self.costs = costs
        self.agents = {op.sym_name.data: op for op in module.ops if isinstance(op, AgentOp)}
        self.tools = {op.sym_name.data: op for op in module.ops if isinstance(op, ToolOp)}
        self.result = Forecast()
        self.timeline = self.result.timeline
        self.known: dict[SSAValue, Estimate] = {}
        self.roots: dict[str, PrefixNode] = {}
        self.fixed: dict[Operation, Estimate] = {}
        self.placed: dict[Estimate, PrefixNode] = {}
        self.linkable: dict[PrefixNode, int] = {}
        self.control = AT_START
        self._handlers = handlers

    def block(self, block: Block, arguments: Sequence[Estimate]) -> list[Estimate]:
        """Follow the ops of a block; return what its terminator gives."""
        self.known.update(zip(block.args, arguments, strict=True))
        for op in block.ops:
            if isinstance(op, YieldOp | ReturnOp | scf.YieldOp | scf.ConditionOp):
                return self.operands(op)
            handler = self._handlers.get(type(op), _unknown)
            self._set(op, handler(self, op))
        return []

    def operands(self, op: Operation) -> list[Estimate]:
        """Return the estimates of what an op reads."""
        return [self.known[operand] for operand in op.operands]

    def _set(self, op: Operation, results: Sequence[Estimate]) -> None:
        for result, estimate in zip(op.results, results, strict=True):
            self.known[result] = estimate

    def when(self, *estimates: Estimate) -> int:
        """Return the event after which all of these are ready."""
        return self.timeline.join(estimate.event for estimate in estimates)

    def may_go_on(self) -> bool:
        """Return whether loops are followed further, and say so once if not."""
        if len(self.timeline.events) < MAX_EVENTS:
            return True
        cut = f"only the first {MAX_EVENTS} asks and tool calls of a workflow are followed"
        if cut not in self.result.assumptions:
            self.result.assumptions.append(cut)
        return False

    def items(self, value: Estimate, length: int = LIST_LENGTH) -> list[Estimate]:
        """Return the elements of a list; those of an unknown one share its tokens."""
        if value.items is not None:
            return list(value.items)
        one = value.ready_after(value.event)
        one.tokens = value.tokens // length
        return [one] * length


def _unknown(walk: Walk, op: Operation) -> list[Estimate]:
    """Follow any other op: its results have the tokens of its operands, and wait for them."""
    operands = walk.operands(op)
    event = walk.when(*operands)
    tokens = sum(operand.tokens for operand in operands)
    return [Estimate(tokens, event) for _ in op.results]
