"""A run of a workflow with sizes in place of values: what it asks, prefills, shares and waits for.

It follows the dataflow of `kv` IR: constants are known, texts are token counts, contexts paths of a
prefix tree, asks and tools events of a timeline. Nothing is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from xdsl.dialects.builtin import ModuleOp

from tokenloom.backends.machine import load_machine
from tokenloom.compiler.analysis.estimates import of_input
from tokenloom.compiler.analysis.forecast_asks import ASKS
from tokenloom.compiler.analysis.forecast_control import CONTROL
from tokenloom.compiler.analysis.forecast_values import VALUES
from tokenloom.compiler.analysis.forecast_walk import Forecast, Walk
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.context import CompileContext
from tokenloom.ir.declarations import ModelOp, WorkflowOp

_HANDLERS = {**VALUES, **CONTROL, **ASKS}


def forecast(module: ModuleOp, workflow: WorkflowOp, costs: Mapping[str, ModelCosts]) -> Forecast:
    """Return what one run of `workflow` does; `costs` by the symbol of the model."""
    walk = Walk(module, costs, _HANDLERS)
    inputs = [of_input(declared) for declared in json.loads(workflow.inputs.data)]
    walk.block(workflow.body.block, inputs)
    walk.result.critical_path_ns = walk.result.timeline.finish()
    return walk.result


def model_costs(
    module: ModuleOp, ctx: CompileContext, machine: str, device: str
) -> dict[str, ModelCosts]:
    """Return the costs of each declared model, by symbol."""
    described = load_machine(machine)
    return {
        op.sym_name.data: ModelCosts(described, ctx.model(op.source.data).config, device)
        for op in module.ops
        if isinstance(op, ModelOp)
    }


def forecasts(module: ModuleOp, costs: dict[str, ModelCosts]) -> dict[str, Forecast]:
    """Return what one run of each workflow does, by symbol."""
    return {
        op.sym_name.data: forecast(module, op, costs)
        for op in module.ops
        if isinstance(op, WorkflowOp)
    }
