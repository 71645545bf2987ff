"""Agents as values, and where the history of each is kept.

An agent's history is a cell, so asks in branches and loops thread it as they thread a `var`. A
list that is written out keeps the cells of its members; a list made at run time has one cell that
holds the list of histories.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from tokenloom.compiler.diagnostics import CompileError, Note, unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_core import (
    AgentList,
    AgentRef,
    Agents,
    AgentVector,
    Core,
    Value,
)
from tokenloom.compiler.frontend.build_scope import Cell
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.checked import AgentSymbol
from tokenloom.ir.flow import HistoryOp, ParamOp, SpawnOp
from tokenloom.ir.types import AgentType, HistoryType, ListType
from tokenloom.ir.values import IndexOp, ListOp, UpdateOp

HISTORY = HistoryType()
HISTORIES = ListType(HISTORY)


class AgentValues:
    """Makes agents, reads and writes their histories."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._bare: dict[AgentSymbol, AgentRef] = {}

    def start(self) -> None:
        """Forget the bare agents of the workflow before: each has its own."""
        self._bare = {}

    def spawn(self, symbol: AgentSymbol, arguments: Sequence[SSAValue], node: syntax.Node) -> Value:
        """Make an agent with an empty history."""
        op = SpawnOp(symbol.qualified_name, arguments)
        agent = self.core.emit(op, node, symbol.name).agent
        return self.hold(agent, self.core.emit(HistoryOp(agent), node).history)

    def hold(self, agent: SSAValue, history: SSAValue, *, kept: bool = False) -> AgentRef:
        """Start the cell of an agent in this scope."""
        cell = Cell(_history_name(agent), HISTORY)
        self.core.scope.declare(cell, history, kept=kept)
        return AgentRef(agent, cell)

    def bare(self, symbol: AgentSymbol, node: syntax.Node) -> AgentRef:
        """Return the workflow's one instance of an agent without parameters."""
        found = self._bare.get(symbol)
        if found is None:
            op = SpawnOp(symbol.qualified_name, [])
            agent = self.core.emit_first(op, node, symbol.name).agent
            history = self.core.emit_first(HistoryOp(agent), node).history
            found = AgentRef(agent, Cell(_history_name(agent), HISTORY))
            self.core.root.declare(found.history, history)
            self._bare[symbol] = found
        return found

    def single(self, node: syntax.Expr) -> AgentRef:
        """Build an expression that is one agent."""
        value = self.core.value(node)
        if not isinstance(value, AgentRef):
            raise unsupported(node, "an agent inside of another value")
        return value

    def history(self, agent: AgentRef, node: syntax.Node) -> SSAValue:
        """Return what an agent remembers at this point."""
        value = self.core.scope.read(agent.history)
        if agent.element is None:
            return value
        return self.core.emit(IndexOp(value, agent.element, HISTORY), node).result

    def remember(self, agent: AgentRef, history: SSAValue, node: syntax.Node) -> None:
        """Let an agent remember `history` from this point on."""
        if agent.element is not None:
            before = self.core.scope.read(agent.history)
            history = self.core.emit(UpdateOp(before, agent.element, history), node).result
        if history.name_hint is None:
            history.name_hint = agent.history.hint
        self.core.scope.write(agent.history, history)

    def parameter(self, node: syntax.Field) -> SSAValue:
        """Build `agent.name`: what the agent was made with."""
        agent = self.single(node.value).agent
        name = node.name.name
        kind = ir_type(self.core.checked.types[node])
        return self.core.emit(ParamOp(agent, name, kind), node, name).result

    def member(self, agents: Agents, node: syntax.Index) -> AgentRef:
        """Build `agents[constant]`."""
        index = self.core.checked.constants.get(node.index)
        if not isinstance(index, int):
            raise unsupported(node, "an agent chosen at run time")
        if isinstance(agents, AgentList):
            return self._written(agents, index, node)
        assert isinstance(agents, AgentVector)
        assert isinstance(agents.agents.type, ListType)
        position = self.core.integer(index, node.index)
        op = IndexOp(agents.agents, position, agents.agents.type.item)
        return AgentRef(self.core.emit(op, node).result, agents.histories, position)

    def _written(self, agents: AgentList, index: int, node: syntax.Index) -> AgentRef:
        if not -len(agents.items) <= index < len(agents.items):
            count = len(agents.items)
            raise CompileError(
                f"index {index} is out of range: the list has {count} agents", node.span
            )
        return agents.items[index]

    def vector(self, agents: Agents, kind: types.Type, node: syntax.Node) -> AgentVector:
        """Return a list of agents as a list at run time, with a cell of its own in this scope.

        `give_back` hands the histories on to where they came from.
        """
        if isinstance(agents, AgentVector):
            return agents
        assert isinstance(agents, AgentList)
        assert isinstance(kind, types.ListType)
        members = [item.agent for item in agents.items]
        values = self.core.emit(ListOp(members, ir_type(kind.item)), node).result
        histories = [self.history(item, node) for item in agents.items]
        listed = self.core.emit(ListOp(histories, HISTORY), node).result
        cell = Cell("histories", HISTORIES)
        self.core.scope.declare(cell, listed)
        return AgentVector(values, cell)

    def give_back(self, agents: Agents, vector: AgentVector, node: syntax.Node) -> None:
        """Let the members of a list have the histories of the vector made from it."""
        if not isinstance(agents, AgentList):
            return
        histories = self.core.scope.read(vector.histories)
        for index, item in enumerate(agents.items):
            position = self.core.integer(index, node)
            op = IndexOp(histories, position, HISTORY)
            self.remember(item, self.core.emit(op, node).result, node)

    def require_distinct(self, agents: Sequence[AgentRef], node: syntax.Node, what: str) -> None:
        """Raise CompileError where one agent occurs twice: its asks would have no order."""
        seen: set[tuple[Cell, SSAValue | None]] = set()
        for agent in agents:
            if (key := (agent.history, agent.element)) in seen:
                note = Note("make a second instance if you want two", kind="help")
                raise CompileError(f"{what} holds the same agent twice", node.span, [note])
            seen.add(key)


def _history_name(agent: SSAValue) -> str:
    kind = agent.type
    assert isinstance(kind, AgentType)
    first = kind.classes.data[0].string_value().rpartition(".")[2]
    return f"{first}_history" if len(kind.classes) == 1 else "history"
