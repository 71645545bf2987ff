"""Decide whose asks go first: those that the end of the workflow waits for longest."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.passes import ModulePass

from tokenloom.compiler.analysis.forecast import forecasts, model_costs
from tokenloom.compiler.analysis.forecast_walk import Ask, Forecast
from tokenloom.compiler.context import compile_context
from tokenloom.compiler.plan import Alternative, AskForecast, Decision, Plan, WorkflowForecast
from tokenloom.ir.declarations import WorkflowOp
from tokenloom.ir.kv import DecodeOp
from tokenloom.ir.types import AgentType


@dataclass(frozen=True)
class RankAgents(ModulePass):
    """Set `priority` and `slack_ns` on every decode, and put the forecast into the plan.

    The rank of an ask is that of the longest path of asks and tools from its start to the end of
    the workflow: the highest for the longest, equal for equal ones. Its slack is how much longer it
    could take before the workflow takes longer. Where an ask is reached often, the most urgent
    time counts.

    ```mlir
    %answer, %next = kv.decode %c for %a {max_tokens = 64 : i64, …} : …
    ```
    becomes
    ```mlir
    %answer, %next = kv.decode %c for %a {max_tokens = 64 : i64, priority = 2 : i64,
        slack_ns = 0 : i64, …} : …
    ```
    """

    name = "rank-agents"
    machine: str = "this-host"
    device: str = "host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rank the asks of each workflow among themselves."""
        shared = compile_context(ctx)
        costs = model_costs(op, shared, self.machine, self.device)
        plan = shared.plan
        plan.asks.clear()
        plan.workflows.clear()
        results = forecasts(op, costs)
        for workflow in op.ops:
            if isinstance(workflow, WorkflowOp):
                _rank(workflow, results[workflow.sym_name.data], plan)


def _rank(workflow: WorkflowOp, result: Forecast, plan: Plan) -> None:
    name = workflow.sym_name.data
    decodes = [op for op in workflow.walk() if isinstance(op, DecodeOp)]
    remaining = {op: _remaining(result.asks.get(op, []), result) for op in decodes}
    ranks = {ns: rank for rank, ns in enumerate(sorted(set(remaining.values())))}
    for number, op in enumerate(decodes):
        asks = result.asks.get(op, [])
        rank, slack_ns = ranks[remaining[op]], _slack(asks, result)
        op.priority = IntegerAttr(rank, i64)
        op.slack_ns = IntegerAttr(slack_ns, i64)
        plan.add(_decision(f"priority.{name}.{number}", op, rank, remaining[op], slack_ns))
        plan.asks.append(_forecast_of(name, op, asks, rank, slack_ns))
    plan.workflows.append(_summary(name, result))
    plan.assumptions = list(dict.fromkeys([*plan.assumptions, *result.assumptions]))


def _remaining(asks: list[Ask], result: Forecast) -> int:
    events = result.timeline.events
    return round(max((events[ask.event].remaining_ns for ask in asks), default=0.0))


def _slack(asks: list[Ask], result: Forecast) -> int:
    """Return the least slack of the times an ask is reached; one never reached has all of it."""
    whole = result.critical_path_ns
    events = [result.timeline.events[ask.event] for ask in asks]
    least = min((whole - event.start_ns - event.remaining_ns for event in events), default=whole)
    return max(0, round(least))


def _decision(
    decision_id: str, op: DecodeOp, rank: int, remaining_ns: int, slack_ns: int
) -> Decision:
    return Decision(
        id=decision_id,
        kind="priority",
        subject=f"ask of {', '.join(_classes(op))}",
        place=op.place.data,
        chosen=str(rank),
        alternatives=(Alternative("path to the end", remaining_ns), Alternative("slack", slack_ns)),
        reason=(
            f"{remaining_ns / 1e6:.1f} ms of asks and tools lie on the longest way to the end; "
            + ("it is on the critical path" if slack_ns == 0 else f"{slack_ns / 1e6:.1f} ms slack")
        ),
    )


def _forecast_of(
    workflow: str, op: DecodeOp, asks: list[Ask], rank: int, slack_ns: int
) -> AskForecast:
    return AskForecast(
        workflow=workflow,
        place=op.place.data,
        agents=_classes(op),
        count=len(asks),
        prefill_tokens=sum(ask.prefill_tokens for ask in asks),
        reused_tokens=sum(ask.reused_tokens for ask in asks),
        linked_tokens=sum(ask.linked_tokens for ask in asks),
        decode_tokens=len(asks) * op.max_tokens.value.data,
        linkable_tokens=sum(ask.linkable_tokens for ask in asks),
        priority=rank,
        slack_ns=slack_ns,
        critical=bool(asks) and slack_ns == 0,
    )


def _summary(name: str, result: Forecast) -> WorkflowForecast:
    asks = [ask for times in result.asks.values() for ask in times]
    events = result.timeline.events
    return WorkflowForecast(
        workflow=name,
        asks=len(asks),
        prefill_tokens=sum(ask.prefill_tokens for ask in asks),
        reused_tokens=sum(ask.reused_tokens for ask in asks),
        linked_tokens=sum(ask.linked_tokens for ask in asks),
        decode_tokens=sum(events[ask.event].decode_tokens for ask in asks),
        linkable_tokens=sum(ask.linkable_tokens for ask in asks),
        critical_path_ns=result.critical_path_ns,
        total_ns=result.timeline.total_ns(),
    )


def _classes(op: DecodeOp) -> tuple[str, ...]:
    assert isinstance(op.agent.type, AgentType)
    return tuple(name.root_reference.data for name in op.agent.type.classes)
