"""`gather` and `map`: bodies that run for several members at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import i64
from xdsl.ir import Block, Region, SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_agents import HISTORIES, HISTORY, AgentValues
from tokenloom.compiler.frontend.build_core import (
    AgentList,
    AgentRef,
    Agents,
    AgentVector,
    Core,
    Value,
    name,
)
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_scope import Cell, LoopScope, Scope
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.checked import Local
from tokenloom.ir.declarations import YieldOp
from tokenloom.ir.flow import GatherOp, MapOp
from tokenloom.ir.types import ListType, TokenType
from tokenloom.ir.values import IndexOp, NoneOp


class Collectives:
    """Builds `gather`, `map`, and the value of their bodies."""

    def __init__(self, core: Core, agents: AgentValues, expressions: Expressions) -> None:
        self.core = core
        self.checked = core.checked
        self.agents = agents
        self.expressions = expressions
        core.forms |= {syntax.Gather: self._gather, syntax.Map: self._map}

    def _gather(self, node: syntax.Gather) -> SSAValue:
        info = self.checked.gathers[node]
        if node.until is not None or node.rounds is None:
            raise unsupported(node, "`gather ... until`")
        if node.timeout is not None:
            raise unsupported(node.timeout, "`gather ... timeout`")
        members = self._members(node)
        vector = self.agents.vector(members, self.checked.types[node.agents], node)
        rounds = self.core.plain(node.rounds)
        output = ir_type(info.output)
        assert isinstance(vector.agents.type, ListType)
        block = Block(arg_types=[vector.agents.type.item, HISTORY, ListType(output), i64])
        around = self.core.scope
        scope = self.core.scope = Scope(block, around)
        member = self._open(info.member, block)
        for local, argument in zip((info.others, info.round), block.args[2:], strict=True):
            name(argument, local.name)
            self.core.bindings[local] = argument
        result = self._body(node.body, info.output)
        history = scope.read(member.history)
        self.core.emit(YieldOp(self.core.scope.read(result), history), node.body)
        self.core.scope = around
        if scope.changed():
            raise unsupported(node, "a `gather` whose body changes what is outside of it")
        op = GatherOp.build(
            operands=[vector.agents, around.read(vector.histories), rounds],
            result_types=[ListType(output), HISTORIES],
            properties={"place": self.core.place(node)},
            regions=[Region(block), None],
        )
        self.core.emit(op, node)
        around.write(vector.histories, op.next)
        self.agents.give_back(members, vector, node)
        kind = types.ListType(info.output)
        return self.expressions.coerce(op.outputs, kind, self.checked.types[node], node)

    def _members(self, node: syntax.Gather) -> Agents:
        members = self.core.value(node.agents)
        assert not isinstance(members, SSAValue)
        if isinstance(members, AgentList):
            self.agents.require_distinct(members.items, node.agents, "this `gather`")
        return members

    def _open(self, local: Local, block: Block) -> AgentRef:
        """Bind the member of a gather to the body's first two arguments."""
        agent, history = block.args[:2]
        name(agent, local.name)
        member = self.agents.hold(agent, history, kept=True)
        name(history, member.history.hint)
        self.core.bindings[local] = member
        return member

    def _body(self, block: syntax.Block, kind: types.Type) -> Cell:
        """Build a body; return the cell that holds its value."""
        cell = Cell(None, ir_type(kind))
        self.core.scope.declare(cell, kept=True)
        self._fill(block, cell, kind)
        return cell

    def _fill(self, block: syntax.Block, cell: Cell, kind: types.Type) -> None:
        """Build the statements of a body and write the value of the last one."""
        for statement in block.statements[:-1]:
            self.core.statement(statement)
        last = block.statements[-1] if block.statements else None
        if isinstance(last, syntax.ExprStatement):
            self.core.scope.write(cell, self.expressions.typed(last.value, kind))
        elif isinstance(last, syntax.If):
            self._choose(last, cell, kind)
        else:
            if last is not None:
                self.core.statement(last)
            self._fill_none(cell, last or block)

    def _choose(self, node: syntax.If, cell: Cell, kind: types.Type) -> None:
        """Build an `if` that is the value of a body; `none` where no branch is taken."""

        def otherwise() -> None:
            if node.otherwise is None:
                self._fill_none(cell, node)
            else:
                self._fill(node.otherwise, cell, kind)

        condition = self.core.plain(node.condition)
        self.core.branch(
            condition, lambda: self._fill(node.then, cell, kind), otherwise, node, is_final=True
        )

    def _fill_none(self, cell: Cell, node: syntax.Node) -> None:
        self.core.scope.write(cell, self.core.emit(NoneOp(cell.type), node).value)

    def _map(self, node: syntax.Map) -> Value:
        kind = self.checked.value_types[node.body]
        if types.contains_agent(kind):
            return self._map_agents(node, kind)
        cells: list[Cell] = []
        local = self.checked.variables[node]
        lists = self.each(node, local, lambda: cells.append(self._body(node.body, kind)), cells)
        listed = types.ListType(kind)
        return self.expressions.coerce(lists[0], listed, self.checked.types[node], node)

    def _map_agents(self, node: syntax.Map, kind: types.Type) -> AgentVector:
        """Build a `map` whose body makes an agent for each item."""
        last = node.body.statements[-1]
        if not isinstance(kind, types.AgentType) or not isinstance(last, syntax.ExprStatement):
            raise unsupported(last, "a `map` that gives agents in any form but one for each item")
        cells: list[Cell] = []

        def body() -> None:
            for statement in node.body.statements[:-1]:
                self.core.statement(statement)
            agent = self.agents.single(last.value)
            if not self.core.scope.owns(agent.history) or agent.element is not None:
                raise unsupported(last, "a `map` that gives agents made outside of it")
            made = Cell(None, ir_type(kind))
            self.core.scope.declare(made, agent.agent, kept=True)
            cells.extend([made, agent.history])

        agents, histories = self.each(node, self.checked.variables[node], body, cells)
        held = Cell("histories", HISTORIES)
        self.core.scope.declare(held, histories)
        return AgentVector(agents, held)

    def each(
        self,
        node: syntax.Map | syntax.For,
        local: Local,
        body: Callable[[], None],
        yielded: Sequence[Cell],
    ) -> list[SSAValue]:
        """Build a `flow.map` over the items of a node; return a list for each yielded cell.

        `body` builds the body and adds the cells to yield to `yielded`. Items that are agents
        keep what the body told them.
        """
        items = self.core.value(node.items)
        vector = self._vector(items, node.items)
        values = items if vector is None else vector.agents
        assert isinstance(values, SSAValue)
        assert isinstance(values.type, ListType)
        around = self.core.scope
        block = Block(arg_types=[values.type.item, i64])
        scope = LoopScope(block, around, self.core.location(node))
        self.core.scope = scope
        name(block.args[0], local.name)
        history = self._bind(local, block, vector, node)
        body()
        cells = [*yielded, *([history] if history is not None and scope.rewrote(history) else [])]
        op = self._close(node, values, scope, cells)
        if vector is not None and not isinstance(items, SSAValue) and len(cells) > len(yielded):
            around.write(vector.histories, op.lists[-1])
            self.agents.give_back(items, vector, node)
        return list(op.lists[: len(yielded)])

    def _vector(self, items: Value, node: syntax.Expr) -> AgentVector | None:
        """Return the items as a list made at run time if they are agents."""
        if isinstance(items, SSAValue):
            return None
        if isinstance(items, AgentList):
            self.agents.require_distinct(items.items, node, "this list")
        return self.agents.vector(items, self.checked.types[node], node)

    def _bind(
        self, local: Local, block: Block, vector: AgentVector | None, node: syntax.Node
    ) -> Cell | None:
        """Bind the variable to the item; return the cell of its history if it is an agent."""
        item, index = block.args
        if vector is None:
            self.core.bindings[local] = item
            return None
        op = IndexOp(self.core.scope.read(vector.histories), index, HISTORY)
        member = self.agents.hold(item, self.core.emit(op, node).result, kept=True)
        self.core.bindings[local] = member
        return member.history

    def _close(
        self,
        node: syntax.Map | syntax.For,
        items: SSAValue,
        scope: LoopScope,
        cells: Sequence[Cell],
    ) -> MapOp:
        """End the body and put the op after what is before the loop."""
        carried = scope.settle()
        assert all(cell.type == TokenType() for cell in carried), "the checker refuses this"
        self.core.emit(YieldOp(*[scope.read(cell) for cell in [*cells, *carried]]), node.body)
        around = self.core.scope = scope.around
        op = MapOp.build(
            operands=[items, [around.read(cell) for cell in carried]],
            result_types=[
                [ListType(cell.type) for cell in cells],
                [cell.type for cell in carried],
            ],
            regions=[Region(scope.block)],
        )
        self.core.emit(op, node)
        self.core.write_results(carried, op.last)
        return op
