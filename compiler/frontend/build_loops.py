"""`for` and `repeat` as `scf.for`, `repeat max n until c` as `scf.while` in do-while form.

What an iteration changes is carried by the loop. A `for` over agents that is parallel is a
`flow.map`: each iteration gives back its own agent's history.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import i1, i64
from xdsl.dialects.scf import ConditionOp, ForOp, WhileOp, YieldOp
from xdsl.ir import Block, Region, SSAValue

from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_agents import AgentValues
from tokenloom.compiler.frontend.build_collectives import Collectives
from tokenloom.compiler.frontend.build_core import AgentList, AgentRef, Core, name
from tokenloom.compiler.frontend.build_operators import Operators
from tokenloom.compiler.frontend.build_scope import Cell, LoopScope, Scope
from tokenloom.compiler.frontend.build_statements import Statements
from tokenloom.compiler.frontend.checked import Local
from tokenloom.ir.types import ListType
from tokenloom.ir.values import Binary, BinaryOp, IndexOp, LenOp, Unary, UnaryOp


class Loops:
    """Builds the statements that iterate."""

    def __init__(
        self,
        core: Core,
        agents: AgentValues,
        operators: Operators,
        collectives: Collectives,
        statements: Statements,
    ) -> None:
        self.core = core
        self.checked = core.checked
        self.agents = agents
        self.operators = operators
        self.collectives = collectives
        self.statements = statements
        core.steps |= {syntax.For: self._for, syntax.Repeat: self._repeat}

    def _for(self, node: syntax.For) -> None:
        info = self.checked.loops[node]
        assert info.variable is not None
        has_agents = types.contains_agent(self.checked.types[node.items])
        if info.is_parallel and has_agents:
            self.collectives.each(
                node, info.variable, lambda: self.statements.sequence(node.body.statements), []
            )
        elif has_agents:
            self._for_agents(node, info.variable)
        else:
            self._for_values(node, info.variable)

    def _for_values(self, node: syntax.For, local: Local) -> None:
        items = self.core.plain(node.items)
        count = self.core.emit(LenOp(items), node.items).result

        def bind(index: SSAValue) -> None:
            assert isinstance(items.type, ListType)
            op = IndexOp(items, index, items.type.item)
            self.core.bindings[local] = self.core.emit(op, node, local.name).result

        self._count(node, count, bind)

    def _for_agents(self, node: syntax.For, local: Local) -> None:
        """Build a sequential loop over agents: it carries the list of their histories."""
        items = self.core.value(node.items)
        assert not isinstance(items, SSAValue)
        if isinstance(items, AgentList):
            self.agents.require_distinct(items.items, node.items, "this list")
        vector = self.agents.vector(items, self.checked.types[node.items], node.items)
        count = self.core.emit(LenOp(vector.agents), node.items).result

        def bind(index: SSAValue) -> None:
            assert isinstance(vector.agents.type, ListType)
            op = IndexOp(vector.agents, index, vector.agents.type.item)
            agent = self.core.emit(op, node, local.name).result
            self.core.bindings[local] = AgentRef(agent, vector.histories, index)

        self._count(node, count, bind)
        self.agents.give_back(items, vector, node)

    def _repeat(self, node: syntax.Repeat) -> None:
        count = self.core.plain(node.count)
        if not node.is_max or node.until is None:
            self._count(node, count, lambda _: None)
            return
        kind = self.checked.types[node.count]
        if isinstance(kind, types.IntType) and kind.min is not None and kind.min >= 1:
            self._until(node, count)
            return
        some = self.core.emit(
            BinaryOp(Binary.GT, count, self.core.integer(0, node.count), i1), node.count
        )
        self.core.branch(some.result, lambda: self._until(node, count), lambda: None, node)

    def _count(
        self,
        node: syntax.For | syntax.Repeat,
        count: SSAValue,
        bind: Callable[[SSAValue], None],
    ) -> None:
        """Build an `scf.for` from 0 to `count`."""
        core = self.core
        start, step = core.integer(0, node), core.integer(1, node)
        block = Block(arg_types=[i64])
        scope = LoopScope(block, core.scope, core.location(node))
        core.scope = scope

        def body() -> None:
            bind(block.args[0])
            self.statements.sequence(node.body.statements)

        if self.statements.returns(node):
            self.statements.unless_returned(body, node)
        else:
            body()
        carried = scope.settle()
        core.emit(YieldOp(*[scope.read(cell) for cell in carried]), node.body)
        around = core.scope = scope.around
        initial = [around.read(cell) for cell in carried]
        op = core.emit(ForOp(start, count, step, initial, Region(block)), node)
        core.write_results(carried, op.res)

    def _until(self, node: syntax.Repeat, count: SSAValue) -> None:
        """Build an `scf.while` whose body ends with the condition: it runs at least once."""
        core = self.core
        before = Block(arg_types=[i64])
        name(before.args[0], "iteration")
        scope = LoopScope(before, core.scope, core.location(node))
        core.scope = scope
        more = self._iteration(node, count, scope)
        carried = scope.settle()
        following, condition = scope.read(more[0]), scope.read(more[1])
        values = [following, *[scope.read(cell) for cell in carried]]
        core.emit(ConditionOp(condition, *values), node)
        kinds = [value.type for value in values]
        after = Block(arg_types=kinds)
        core.scope = Scope(after, scope.around)
        core.emit(YieldOp(*after.args), node)
        around = core.scope = scope.around
        initial = [core.integer(0, node), *[around.read(cell) for cell in carried]]
        op = core.emit(WhileOp(initial, kinds, Region(before), Region(after)), node)
        core.write_results(carried, op.res[1:])

    def _iteration(
        self, node: syntax.Repeat, count: SSAValue, scope: LoopScope
    ) -> tuple[Cell, Cell]:
        """Build the body; return the cells of the next iteration's number and of the condition."""
        core = self.core
        unfinished, following, more = Cell("unfinished", i1), Cell(None, i64), Cell(None, i1)
        scope.declare(unfinished, core.boolean(False, node), kept=True)

        def condition() -> None:
            assert node.until is not None
            done = core.plain(node.until)
            op = core.emit(UnaryOp(Unary.NOT, done, i1), node.until)
            core.scope.write(unfinished, op.result)

        self.statements.sequence(node.body.statements, condition)
        one = core.integer(1, node)
        number = core.emit(BinaryOp(Binary.ADD, scope.block.args[0], one, i64), node).result
        scope.declare(following, number)

        def within() -> SSAValue:
            return core.emit(BinaryOp(Binary.LT, number, count, i1), node).result

        scope.declare(more, self.operators.both(scope.read(unfinished), within, node))
        return following, more
