"""Workflows as ops of `flow`: inputs, body, results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, Block, Region

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_agents import HISTORIES, HISTORY, AgentValues
from tokenloom.compiler.frontend.build_core import AgentRef, AgentVector, Core, name
from tokenloom.compiler.frontend.build_effects import EffectOrder
from tokenloom.compiler.frontend.build_scope import Cell
from tokenloom.compiler.frontend.build_statements import Statements
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.checked import ParameterInfo, WorkflowSymbol
from tokenloom.ir.declarations import ReturnOp, WorkflowOp
from tokenloom.ir.text import TextAttr


class Workflows:
    """Builds `flow.workflow` ops."""

    def __init__(
        self, core: Core, agents: AgentValues, statements: Statements, effects: EffectOrder
    ) -> None:
        self.core = core
        self.checked = core.checked
        self.agents = agents
        self.statements = statements
        self.effects = effects

    def build(self, symbol: WorkflowSymbol) -> WorkflowOp:
        """Build a workflow; one that cannot be run on its own has `sym_visibility` private."""
        block = Block()
        self.core.start(block)
        self.agents.start()
        self.statements.start(symbol.result, symbol.decl)
        self.effects.start(symbol.decl, has_effects=symbol.calls_effects)
        histories = self._open(symbol, block)
        self.statements.sequence(symbol.decl.body.statements)
        self._return(symbol, histories)
        op = WorkflowOp.build(
            regions=[Region(block)],
            properties={
                "sym_name": StringAttr(symbol.qualified_name),
                "inputs": TextAttr(json.dumps([self._input(p) for p in symbol.parameters])),
                "result": TextAttr(json.dumps(self._result(symbol))),
            },
            attributes=self._visibility(symbol),
        )
        op.location = self.core.location(symbol.decl)
        return op

    def _open(self, symbol: WorkflowSymbol, block: Block) -> list[Cell]:
        """Bind the parameters; return the cells of the histories to give back."""
        given_back: list[Cell] = []
        asked = {id(local) for local in symbol.asked_parameters}
        pairs = zip(symbol.parameters, symbol.decl.parameters, strict=True)
        for parameter, declared in pairs:
            is_asked = id(parameter.local) in asked
            cell = self._parameter(parameter, declared, block, is_asked=is_asked)
            if cell is not None and is_asked:
                given_back.append(cell)
        return given_back

    def _parameter(
        self, parameter: ParameterInfo, declared: syntax.Node, block: Block, *, is_asked: bool
    ) -> Cell | None:
        kind = parameter.type
        location = self.core.location(parameter.local)
        value = block.insert_arg(ir_type(kind), len(block.args), location)
        name(value, parameter.name)
        if not types.contains_agent(kind):
            self.core.bindings[parameter.local] = value
            return None
        is_list = isinstance(kind, types.ListType)
        if not isinstance(kind.item if is_list else kind, types.AgentType):
            raise unsupported(declared, "a parameter that nests agents")
        cell = Cell(f"{parameter.name}_history", HISTORIES if is_list else HISTORY)
        history = block.insert_arg(cell.type, len(block.args), location)
        name(history, cell.hint)
        self.core.root.declare(cell, history, kept=is_asked)
        held = AgentVector(value, cell) if is_list else AgentRef(value, cell)
        self.core.bindings[parameter.local] = held
        return cell

    def _return(self, symbol: WorkflowSymbol, histories: Sequence[Cell]) -> None:
        root = self.core.root
        cells = [self.statements.result_cell, *histories]
        if symbol.calls_effects:
            cells.append(self.effects.cell)
        self.core.emit(ReturnOp(*[root.read(cell) for cell in cells]), symbol.decl)

    def _visibility(self, symbol: WorkflowSymbol) -> dict[str, Attribute]:
        is_callable = not any(types.contains_agent(p.type) for p in symbol.parameters)
        if symbol.module is self.checked.main and is_callable:
            return {}
        return {"sym_visibility": StringAttr("private")}

    def _input(self, parameter: ParameterInfo) -> dict[str, Any]:
        described: dict[str, Any] = {
            "name": parameter.name,
            "type": _described(parameter.type),
        }
        if parameter.default is not None:
            described["default"] = self._literal(parameter.default)
        return described

    def _literal(self, node: syntax.Expr) -> Any:
        """Return the JSON value of a default."""
        if node in self.checked.constants:
            return self.checked.constants[node]
        if isinstance(node, syntax.ListExpr):
            return [self._literal(item) for item in node.items]
        if isinstance(node, syntax.RecordExpr):
            return {field.name.name: self._literal(field.value) for field in node.fields}
        raise unsupported(node, "a default that is computed")

    def _result(self, symbol: WorkflowSymbol) -> dict[str, Any]:
        if types.contains_agent(symbol.result):
            raise unsupported(symbol.decl.result, "a workflow that returns agents")
        return _described(symbol.result)


def _described(kind: types.Type) -> dict[str, Any]:
    """Return a type as JSON; that of agents is no answer type, but callers' code is checked."""
    match kind:
        case types.AgentType(names):
            return {"kind": "agent", "classes": list(names)}
        case types.ListType(item):
            return {"kind": "list", "item": _described(item)}
        case types.NoneType() | types.NeverType():
            return {"kind": "none"}
        case _:
            return types.to_answer_type(kind)
