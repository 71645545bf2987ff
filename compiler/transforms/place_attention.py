"""Choose the device of attention, by predicted time over batch sizes and context lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from tokenloom.backends.cost import AttentionCost, CostModel, ScheduleChoice
from tokenloom.backends.machine import Machine, load_machine
from tokenloom.compiler.analysis.model_costs import model_shape
from tokenloom.compiler.analysis.places import place_of
from tokenloom.compiler.context import compile_context
from tokenloom.compiler.plan import Alternative, Decision, PlacementRow, Plan
from tokenloom.ir.nn import AttentionOp, FunctionOp, Phase, Placement, PlacementAttr
from tokenloom.ir.text import TextAttr
from tokenloom.models.config import ModelConfig

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
TYPICAL = (8, 2048)
"""The batch and the context (tokens) whose cost a decision quotes; cut to the model's context."""
REFEREED = 2
"""Schedules for stacks that are timed command by command; each is compiled once, in seconds."""


@dataclass(frozen=True)
class PlaceAttention(ModulePass):
    """Set where each attention runs, and put the table behind it into the plan.

    Prefill stays with the linear layers. Decode goes to `device`; with `auto` to the device that
    is quickest at the most entries of the table over batch and context. A device that the user
    names is taken, and the table still says what it costs. Where the machine has stacks that
    compute, the plan also says in which order their commands go out.

    ```mlir
    %1 = nn.attention %0 over %c {layer = 0 : i64, …} : tensor<?x960xf32> -> tensor<?x576xf32>
    ```
    becomes
    ```mlir
    %1 = nn.attention %0 over %c {layer = 0 : i64, placement = #nn<placement pim>,
        decision = #flow.string<"placement.smol_decode">, …} : …
    ```
    """

    name = "place-attention"
    machine: str = "this-host"
    device: str = "auto"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Place the attention of every function of the module."""
        machine, plan = load_machine(self.machine), compile_context(ctx).plan
        plan.placements.clear()
        for function in op.ops:
            if isinstance(function, FunctionOp):
                decision = self._decide(function, machine, plan)
                placement = PlacementAttr(Placement(decision.chosen))
                for inner in function.body.block.ops:
                    if isinstance(inner, AttentionOp):
                        inner.placement = placement
                        inner.decision = TextAttr(decision.id)

    def _decide(self, function: FunctionOp, machine: Machine, plan: Plan) -> Decision:
        config = ModelConfig.from_json(json.loads(function.config.data))
        phase, subject = function.phase.data, function.sym_name.data
        model = subject.removesuffix(f"_{phase.value}")
        shape = model_shape(config)
        contexts = [c for c in CONTEXTS if c <= config.max_context] or [config.max_context]
        batches = BATCHES if phase is Phase.DECODE else [min(512, contexts[0])]
        table = CostModel(machine).attention_table(shape, phase.value, batches, contexts)
        plan.placements += [
            PlacementRow(model, phase.value, row.batch, row.context, row.time_ns, row.best)
            for row in table
        ]
        chosen, reason = self._choose(phase, table, machine)
        decision = Decision(
            id=f"placement.{subject}",
            kind="placement",
            subject=f"{phase.value} attention of {model}",
            place=place_of(function.location),
            chosen=chosen,
            alternatives=_alternatives(table),
            reason=reason,
        )
        plan.add(decision)
        if phase is Phase.DECODE and machine.pim is not None:
            near = _typical(table)
            found = CostModel(machine).pim_attention_schedules(
                shape, near.batch, near.context, REFEREED
            )
            plan.add(_schedule(found, model, decision.place))
        return decision

    def _choose(
        self, phase: Phase, table: Sequence[AttentionCost], machine: Machine
    ) -> tuple[str, str]:
        compute = machine.compute_device
        if phase is Phase.PREFILL:
            layers = (
                "cuda" if self.device == "cuda" else "host" if self.device != "auto" else compute
            )
            return layers, "prefill is bound by arithmetic: it stays with the linear layers"
        counts = {device: sum(r.best == device for r in table) for device in table[0].time_ns}
        best = max(counts, key=counts.__getitem__)
        share = f"{counts[best]} of {len(table)} entries of the table are quickest on {best}"
        if self.device == "auto":
            return best, share
        if machine.has_device(self.device):
            return self.device, f"asked for; {share}"
        return self.device, f"asked for, though {machine.name} does not describe it; {share}"


def _schedule(found: ScheduleChoice, model: str, place: str) -> Decision:
    """Return the decision on the order of the stacks' commands, with the runners-up."""
    alternatives = tuple(
        Alternative(cost.name, cost.event_ns, closed_ns=cost.closed_ns) for cost in found.costs
    )
    return Decision(
        id=f"schedule.{model}",
        kind="schedule",
        subject=f"commands of {model}'s decode attention in the stacks, {found.batch} requests of"
        f" {found.context} tokens",
        place=place,
        chosen=found.costs[0].name if found.costs else "none",
        alternatives=alternatives,
        reason=found.reason,
    )


def _typical(table: Sequence[AttentionCost]) -> AttentionCost:
    """Return the entry nearest to the typical batch and context."""
    return min(table, key=lambda row: abs(row.batch - TYPICAL[0]) + abs(row.context - TYPICAL[1]))


def _alternatives(table: Sequence[AttentionCost]) -> tuple[Alternative, ...]:
    """Quote each device at the entry nearest to the typical batch and context."""
    near = _typical(table)
    tokens = near.batch * near.context
    return tuple(Alternative(device, ns, tokens) for device, ns in near.time_ns.items())
