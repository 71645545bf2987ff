"""Asks and calls: agents' turns, constructors, tools, workflows, builtin functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xdsl.dialects.builtin import IntegerAttr, SymbolRefAttr, i64
from xdsl.ir import Attribute, SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_agents import HISTORIES, HISTORY, AgentValues
from tokenloom.compiler.frontend.build_core import AgentList, AgentRef, AgentVector, Core, Value
from tokenloom.compiler.frontend.build_effects import EffectOrder
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_types import answer_type, ir_type
from tokenloom.compiler.frontend.checked import (
    AgentSymbol,
    AskInfo,
    Builtin,
    CallInfo,
    Constant,
    ParameterInfo,
    ToolSymbol,
    WorkflowSymbol,
)
from tokenloom.ir.flow import AskOp, CallOp, EffectOp, InvokeOp
from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import TokenType


class Calls:
    """Builds asks and calls."""

    def __init__(
        self, core: Core, agents: AgentValues, expressions: Expressions, effects: EffectOrder
    ) -> None:
        self.core = core
        self.checked = core.checked
        self.agents = agents
        self.expressions = expressions
        self.effects = effects
        core.forms |= {syntax.Ask: self._ask, syntax.Call: self._call}

    def _ask(self, node: syntax.Ask) -> SSAValue:
        info = self.checked.asks[node]
        agent = self.agents.single(node.agent)
        parts = self.expressions.parts(info.prompt)
        properties: dict[str, Attribute] = {
            "max_tokens": IntegerAttr(self._budget(info), i64),
            "answer_type": answer_type(info.answer),
            "place": self.core.place(node),
        }
        options = self._options(info)
        if options:
            properties["options"] = TextAttr(json.dumps(options))
        op = AskOp.create(  # not `build`: it sorts out operands, which takes twice as long
            operands=[agent.agent, self.agents.history(agent, node), *parts],
            result_types=[ir_type(info.answer), HISTORY],
            properties=properties,
        )
        self.core.emit(op, node)
        self.agents.remember(agent, op.next, node)
        return self.expressions.coerce(op.answer, info.answer, self.checked.types[node], node)

    def _budget(self, info: AskInfo) -> int:
        budget = self.checked.constants.get(info.max_tokens)
        if not isinstance(budget, int):
            raise unsupported(info.max_tokens, "a token budget that is computed at run time")
        return budget

    def _options(self, info: AskInfo) -> dict[str, Any]:
        options: dict[str, Any] = {
            "temperature": self._setting(info.temperature),
            "top_p": self._setting(info.top_p),
            "seed": self._setting(info.seed),
            "stop": None if info.stop is None else list(info.stop),
            "deadline_ns": info.deadline_ns,
            "critical": info.is_critical or None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def _setting(self, node: syntax.Expr | None) -> Constant:
        if node is None:
            return None
        if node not in self.checked.constants:
            raise unsupported(node, "a setting of an ask that is computed at run time")
        return self.checked.constants[node]

    def _call(self, node: syntax.Call) -> Value:
        info = self.checked.calls[node]
        target = info.target
        if isinstance(target, Builtin):
            return self._builtin(node, target, info.arguments)
        if isinstance(target, WorkflowSymbol):
            return self._workflow(node, target, info)
        arguments = self._arguments(target.parameters, info)
        values = [value for value in arguments if isinstance(value, SSAValue)]
        if len(values) < len(arguments):
            raise unsupported(node, "an agent as an argument of an agent or tool")
        if isinstance(target, AgentSymbol):
            return self.agents.spawn(target, values, node)
        return self._tool(node, target, values)

    def _builtin(
        self, node: syntax.Call, target: Builtin, arguments: Sequence[syntax.Expr | None]
    ) -> SSAValue:
        given = [argument for argument in arguments if argument is not None]
        if target.name == "len":
            return self.expressions.length(given[0], node)
        assert target.name == "join"
        return self.expressions.join(given[0], given[1], node)

    def _arguments(self, parameters: Sequence[ParameterInfo], info: CallInfo) -> list[Value]:
        """Build the arguments in the order in which they are written, then the defaults."""
        values: dict[str, Value] = {}
        pairs = list(zip(parameters, info.arguments, strict=True))
        given = [(parameter, value) for parameter, value in pairs if value is not None]
        for parameter, value in sorted(given, key=lambda pair: pair[1].span[1:]):
            values[parameter.name] = self.expressions.typed_value(value, parameter.type)
        for parameter, value in pairs:
            if value is None:
                assert parameter.default is not None
                values[parameter.name] = self.expressions.typed(parameter.default, parameter.type)
        return [values[parameter.name] for parameter in parameters]

    def _tool(
        self, node: syntax.Call, target: ToolSymbol, arguments: Sequence[SSAValue]
    ) -> SSAValue:
        properties: dict[str, Attribute] = {
            "callee": SymbolRefAttr(target.qualified_name),
            "place": self.core.place(node),
        }
        kind = ir_type(target.result)
        if not target.settings.is_effect:
            call = CallOp.build(operands=[arguments], result_types=[kind], properties=properties)
            return self.core.emit(call, node, target.name).result
        effect = EffectOp.build(
            operands=[self.effects.read(), arguments],
            result_types=[kind, TokenType()],
            properties=properties,
        )
        self.core.emit(effect, node, target.name)
        self.effects.write(effect.next)
        return effect.result

    def _workflow(self, node: syntax.Call, target: WorkflowSymbol, info: CallInfo) -> SSAValue:
        arguments = self._arguments(target.parameters, info)
        asked = {id(local) for local in target.asked_parameters}
        operands: list[SSAValue] = []
        lent: list[tuple[AgentRef | AgentList | AgentVector, AgentRef | AgentVector]] = []
        for parameter, value in zip(target.parameters, arguments, strict=True):
            if isinstance(value, SSAValue):
                operands.append(value)
                continue
            agents = (
                value
                if isinstance(value, AgentRef)
                else self.agents.vector(value, parameter.type, node)
            )
            operands += self._pair(agents, parameter.type, node)
            if id(parameter.local) in asked:
                lent.append((value, agents))
        self._require_distinct(lent, node)
        kinds = [ir_type(target.result)]
        kinds += [HISTORY if isinstance(a, AgentRef) else HISTORIES for _, a in lent]
        if target.calls_effects:
            operands.append(self.effects.read())
            kinds.append(TokenType())
        op = InvokeOp.build(
            operands=[operands],
            result_types=[kinds],
            properties={
                "callee": SymbolRefAttr(target.qualified_name),
                "place": self.core.place(node),
            },
        )
        self.core.emit(op, node, target.name)
        for (value, agents), history in zip(lent, op.results[1:], strict=False):
            self._give_back(value, agents, history, node)
        if target.calls_effects:
            self.effects.write(op.results[-1])
        return op.results[0]

    def _pair(
        self, agents: AgentRef | AgentVector, kind: types.Type, node: syntax.Node
    ) -> list[SSAValue]:
        """Return an agent, or a list of agents, and its history as operands."""
        if isinstance(agents, AgentVector):
            values, history = agents.agents, self.core.scope.read(agents.histories)
        else:
            values, history = agents.agent, self.agents.history(agents, node)
        if values.type != ir_type(kind):
            values = self.expressions.see_as(values, ir_type(kind), node)
        return [values, history]

    def _give_back(
        self,
        value: AgentRef | AgentList | AgentVector,
        agents: AgentRef | AgentVector,
        history: SSAValue,
        node: syntax.Node,
    ) -> None:
        if isinstance(agents, AgentRef):
            self.agents.remember(agents, history, node)
            return
        self.core.scope.write(agents.histories, history)
        self.agents.give_back(value, agents, node)

    def _require_distinct(
        self,
        lent: Sequence[tuple[AgentRef | AgentList | AgentVector, AgentRef | AgentVector]],
        node: syntax.Node,
    ) -> None:
        singles: list[AgentRef] = []
        for value, _ in lent:
            if isinstance(value, AgentRef):
                singles.append(value)
            elif isinstance(value, AgentList):
                singles += value.items
        self.agents.require_distinct(singles, node, "the call")
