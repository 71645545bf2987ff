"""Forecasts of all workflows of a module, with the costs of the models that it declares."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from tokenloom.backends.machine import load_machine
from tokenloom.compiler.analysis.forecast import Forecast, forecast
from tokenloom.compiler.analysis.model_costs import ModelCosts
from tokenloom.compiler.context import CompileContext
from tokenloom.ir.declarations import ModelOp, WorkflowOp


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
