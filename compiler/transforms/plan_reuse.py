"""Decide where each extension's KV comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from tokenloom.compiler.analysis.forecast import forecasts, model_costs
from tokenloom.compiler.analysis.forecast_walk import Extension
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.analysis.places import place_of
from tokenloom.compiler.context import compile_context
from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.compiler.plan import Alternative, Decision
from tokenloom.ir.declarations import AgentOp, Reuse, WorkflowOp
from tokenloom.ir.kv import DecodeOp, ExtendOp, Source, SourceAttr
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import AgentType


@dataclass(frozen=True)
class PlanReuse(ModulePass):
    """Set `source` on every extension, and say in the plan what it saves.

    `prefix` where the context goes on from one that an earlier request left, or is known to begin
    with a page or more of tokens as another does; it is exact, and found by content when it runs.
    `dense` where nothing can be found. What `linked` would save is told for agents that allow it.

    ```mlir
    %h = kv.extend %0 with (%system : !flow.segment) : !kv.context<dense> -> !kv.context<dense>
    ```
    becomes
    ```mlir
    %h = kv.extend %0 with (%system : !flow.segment) {source = #kv<source prefix>,
        decision = #flow.string<"reuse.0">} : !kv.context<dense> -> !kv.context<dense>
    ```
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
            if isinstance(inner, ExtendOp)
        ]
        for number, extension in enumerate(extensions):
            options = _Options(extension, reached.get(extension, []), costs, agents)
            decision = options.decide(f"reuse.{number}")
            extension.source = SourceAttr(Source(decision.chosen))
            extension.decision = TextAttr(decision.id)
            shared.plan.add(decision)


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
        if times:
            *_, root = times[0].end.path()
            self.costs = costs[str(root.key)]

    def decide(self, decision_id: str) -> Decision:
        chosen, reason = self._choose()
        return Decision(
            id=decision_id,
            kind="reuse",
            subject=f"prompt of {', '.join(self.classes)}" if self.classes else "system prompt",
            place=place_of(self.op.location),
            chosen=chosen.value,
            alternatives=tuple(self._alternatives()) if self.times else (),
            reason=reason,
        )

    def _choose(self) -> tuple[Source, str]:
        if not self.times:
            return Source.PREFIX, "not reached with the inputs assumed; looking it up is exact"
        found = max(_available(one) for one in self.times)
        shared = max(_shared(one) for one in self.times)
        told = self._linked_reason()
        if found >= PAGE_TOKENS and any(one.found.answer for one in self.times):
            return Source.PREFIX, f"goes on from an earlier request: {found} tokens are there{told}"
        if max(found, shared) >= PAGE_TOKENS:
            tokens = max(found, shared)
            return Source.PREFIX, f"begins as another context does, for {tokens} tokens{told}"
        return (
            Source.DENSE,
            f"no other context is known to begin with the same {PAGE_TOKENS} tokens{told}",
        )

    def _linked_reason(self) -> str:
        if not self.may_link:
            return ""
        tokens = sum(one.linkable_tokens for one in self.times)
        return (
            f"; linked reuse is allowed and would save {tokens} tokens more, "
            "but this version does not link"
        )

    def _alternatives(self) -> list[Alternative]:
        tokens = [(one.end.tokens, _available(one), one.linkable_tokens) for one in self.times]
        prefill = self.costs.prefill_ns
        options = [
            Alternative(
                "dense", sum(prefill(n, 0) for n, _, _ in tokens), sum(n for n, _, _ in tokens)
            ),
            Alternative(
                "prefix",
                sum(prefill(n - found, found) for n, found, _ in tokens),
                sum(n - found for n, found, _ in tokens),
            ),
        ]
        if self.may_link:
            options.append(
                Alternative(
                    "linked",
                    sum(prefill(n - found - link, found + link) for n, found, link in tokens),
                    sum(n - found - link for n, found, link in tokens),
                )
            )
        return options


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
