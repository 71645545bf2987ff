"""Decide where each extension's KV comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from tokenloom.compiler.analysis.documents import Readings, readings
from tokenloom.compiler.analysis.forecast import forecasts, model_costs
from tokenloom.compiler.analysis.forecast_walk import Extension
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.analysis.places import place_of
from tokenloom.compiler.analysis.shared_rows import shared_row
from tokenloom.compiler.context import compile_context
from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.compiler.plan import Alternative, Decision, ReuseRow
from tokenloom.compiler.transforms.link_documents import DocumentLinker
from tokenloom.compiler.transforms.link_rows import link_row
from tokenloom.ir.declarations import AgentOp, Reuse, WorkflowOp
from tokenloom.ir.flow import SegmentOp
from tokenloom.ir.kv import DecodeOp, ExtendOp, Source, SourceAttr
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import AgentType


@dataclass(frozen=True)
class PlanReuse(ModulePass):
    """Set `source` on every extension, or split it at a run to link; say in the plan what it saves.

    `prefix` where the context goes on from one that an earlier request left, or is known to begin
    with a page or more of tokens as another does; it is exact, and found by content when it runs.
    `dense` where nothing can be found. `linked` for a row of parts that all members of a gather
    read, where their classes allow it and it saves tokens: the row is computed once a round, behind
    the head of the first member in list order, and each member links it. `linked` also for a long
    value that several contexts read at different places, where there is no gather: it is computed
    once, behind the first tokens of the chat template.

    ```mlir
    %h = kv.extend %0 with (%system : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
    ```
    becomes
    ```mlir
    %h = kv.extend %0 with (%system : !flow.segment) {source = #kv<source prefix>,
        decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
    ```
    and in the body of a `flow.gather`
    ```mlir
    ^bb0(%d, %h, %others, %round):
      %prompt = kv.extend %h with (%open, %others, %close)
    ```
    becomes
    ```mlir
    ^bb0(%d, %h, %others, %round, %run: !kv.run):
      %head = kv.extend %h with (%open)
      %linked = kv.link %head, %run
      %prompt = kv.extend %linked with (%close)
    sharing
    ^bb0(%d, %h, %others, %round):
      %head = kv.extend %h with (%open)
      %read = kv.extend %head with (%others)
      %run = kv.slice %read behind %head
    ```
    What is decided already stays.
    """

    name = "plan-reuse"
    machine: str = "this-host"
    device: str = "host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Decide for every extension of every workflow."""
        shared = compile_context(ctx)
        costs = model_costs(op, shared, self.machine, self.device)
        reached = {
            extension: times
            for result in forecasts(op, costs).values()
            for extension, times in result.extensions.items()
        }
        agents = {a.sym_name.data: a for a in op.ops if isinstance(a, AgentOp)}
        extensions = [
            inner
            for workflow in op.ops
            if isinstance(workflow, WorkflowOp)
            for inner in workflow.walk()
            if isinstance(inner, ExtendOp) and inner.decision is None
        ]
        all_options = [_Options(one, reached.get(one, []), costs, agents) for one in extensions]
        alone = [one for one in all_options if one.may_link and one.row is None]
        read = readings({one.op: one.times for one in alone})
        for one in alone:
            one.link_documents(read)
        linker = DocumentLinker()
        for number, (extension, options) in enumerate(zip(extensions, all_options, strict=True)):
            decision = options.decide(f"reuse.{number}")
            shared.plan.add(decision)
            if options.times and options.classes:
                shared.plan.reuse[decision.id] = options.summary(decision)
            if decision.chosen == Source.LINKED and options.row is not None:
                link_row(extension, options.row, decision.id)
                continue
            if decision.chosen == Source.LINKED:
                agent = agents[options.classes[0]]
                linker.link(extension, options.documents, agent, decision.id)
                continue
            extension.source = SourceAttr(Source(decision.chosen))
            extension.decision = TextAttr(decision.id)


class _Options:
    """What can be done for one extension, over all the times that it is reached."""

    def __init__(
        self,
        op: ExtendOp,
        times: Sequence[Extension],
        costs: dict[str, ModelCosts],
        agents: dict[str, AgentOp],
    ):
        self.op, self.times = op, times
        self.classes = _asked(op)
        self.may_link = bool(self.classes) and all(
            agents[name].reuse.data is Reuse.LINKED for name in self.classes
        )
        self.row = shared_row(op, self._size) if times else None
        if times:
            *_, root = times[0].end.path()
            self.costs = costs[str(root.key)]
        # New tokens and those that are there, for each time and each way.
        self.dense = [(one.end.tokens, 0) for one in times]
        self.prefix = [(one.end.tokens - (n := _available(one)), n) for one in times]
        self.linked = self._linked()
        self.documents: list[int] = []

    def link_documents(self, read: Readings) -> None:
        """Count what it takes to link the long values that others read too."""
        self.documents = read.documents(self.op, self.times)
        for one in self.times if self.documents else ():
            before = sum(part.tokens for part in one.parts[self.documents[0] :])
            there = min(_available(one), one.end.tokens - before)
            values = [one.parts[index] for index in self.documents]
            there += sum(value.tokens for value in values if not read.is_first(value, one))
            self.linked.append((one.end.tokens - there, there))

    def decide(self, decision_id: str) -> Decision:
        chosen, reason = self._choose()
        return Decision(
            id=decision_id,
            kind="reuse",
            subject=f"prompt of {', '.join(self.classes)}" if self.classes else "system prompt",
            place=place_of(self.op.location),
            chosen=chosen.value,
            alternatives=tuple(self._alternatives()),
            reason=reason,
        )

    def summary(self, decision: Decision) -> ReuseRow:
        is_linked = decision.chosen == Source.LINKED
        return ReuseRow(
            place=decision.place,
            agents=tuple(self.classes),
            count=len(self.times),
            dense_tokens=_new(self.dense),
            prefix_tokens=_new(self.prefix),
            linked_tokens=_new(self.linked) if self.may_link and self.linked else None,
            chosen=decision.chosen,
            run=self._run() if is_linked else "",
            master=self._master() if is_linked else "",
        )

    def _choose(self) -> tuple[Source, str]:
        if not self.times:
            return Source.PREFIX, "not reached with the inputs assumed; looking it up is exact"
        saved = _new(self.prefix) - _new(self.linked) if self.linked else 0
        if self.may_link and self.documents and self.linked:
            return Source.LINKED, (
                f"other contexts read {self._run()} too, at other places: computed once behind "
                f"{self._master()} and linked, which saves {saved} tokens here"
            )
        if self.may_link and saved >= PAGE_TOKENS:
            return Source.LINKED, (
                f"all members read {self._run()}: it is computed once a round behind the head of "
                f"the first member and linked by the others, which saves {saved} tokens"
            )
        told = f"; `reuse = linked` would save {saved} tokens more" if saved >= PAGE_TOKENS else ""
        found = max(_available(one) for one in self.times)
        shared = max(_shared(one) for one in self.times)
        if found >= PAGE_TOKENS and any(one.found.answer for one in self.times):
            return Source.PREFIX, f"goes on from an earlier request: {found} tokens are there{told}"
        if max(found, shared) >= PAGE_TOKENS:
            tokens = max(found, shared)
            return Source.PREFIX, f"begins as another context does, for {tokens} tokens{told}"
        return (
            Source.DENSE,
            f"no other context is known to begin with the same {PAGE_TOKENS} tokens{told}",
        )

    def _linked(self) -> list[tuple[int, int]]:
        """Return new tokens and those that are there, if the row is computed once a round."""
        if self.row is None:
            return []
        found: list[tuple[int, int]] = []
        rounds: set[object] = set()
        for one in self.times:
            row = sum(part.tokens for part in one.parts[self.row.first : self.row.end])
            behind = sum(part.tokens for part in one.parts[self.row.end :])
            there = min(_available(one), one.end.tokens - row - behind)
            if one.round in rounds:
                there += row
            rounds.add(one.round)
            found.append((one.end.tokens - there, there))
        return found

    def _size(self, parts: Sequence[SSAValue]) -> int:
        """Return the most tokens that some parts ever have."""
        indices = [list(self.op.parts).index(part) for part in parts]
        return max(sum(one.parts[index].tokens for index in indices) for one in self.times)

    def _run(self) -> str:
        """Return the names of the values that the row is made of."""
        parts = [self.op.parts[index] for index in self.documents]
        if self.row is not None:
            parts = list(self.op.parts)[self.row.first : self.row.end]
        names = [part.name_hint or "a value" for part in parts if not _is_fixed(part)]
        return " ".join(names) or "fixed text"

    def _master(self) -> str:
        return "the first member" if self.row is not None else "the template's first tokens"

    def _alternatives(self) -> list[Alternative]:
        ways = {"dense": self.dense, "prefix": self.prefix}
        if self.linked and self.may_link:
            ways["linked"] = self.linked
        return [
            Alternative(name, sum(self.costs.prefill_ns(*one) for one in way), _new(way))
            for name, way in ways.items()
            if self.times
        ]


def _new(way: Sequence[tuple[int, int]]) -> int:
    return sum(new for new, _ in way)


def _is_fixed(part: SSAValue) -> bool:
    return isinstance(part.owner, SegmentOp)


def _asked(op: ExtendOp) -> list[str]:
    """Return the classes of the agents whose asks read the extension."""
    kinds = [u.operation.agent.type for u in op.extended.uses if isinstance(u.operation, DecodeOp)]
    names = {
        name.root_reference.data
        for kind in kinds
        if isinstance(kind, AgentType)
        for name in kind.classes
    }
    return sorted(names)


def _available(one: Extension) -> int:
    """Return the tokens that are there already: whole pages, but all of one's own history."""
    tokens = one.found.tokens
    return tokens if one.found.answer else tokens - tokens % PAGE_TOKENS


def _shared(one: Extension) -> int:
    """Return the tokens up to the last part that another extension has in common with this."""
    for node in one.end.path():
        if node.shared:
            return node.tokens
        if node is one.base:
            break
    return 0
