"""Expressions that have nothing to do with agents: texts, numbers, lists, records, names."""

from __future__ import annotations

from typing import Any

from xdsl.ir import Attribute, SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_agents import AgentValues
from tokenloom.compiler.frontend.build_coercion import Coercion
from tokenloom.compiler.frontend.build_core import AgentList, AgentVector, Core, Value
from tokenloom.compiler.frontend.build_scope import Cell
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.checked import AgentSymbol, ConstSymbol, Local
from tokenloom.ir import types as ir
from tokenloom.ir.values import ConcatOp, FieldOp, IndexOp, JoinOp, LenOp, ListOp, RecordOp, SomeOp


class Expressions:
    """Builds values; the operators are in `build_operators`, agents in `build_agents`."""

    def __init__(self, core: Core, agents: AgentValues) -> None:
        self.core = core
        self.agents = agents
        self.checked = core.checked
        self.coerce = Coercion(core).coerce
        core.forms |= {
            syntax.Text: self._text,
            syntax.IntLiteral: lambda node: core.integer(node.value, node),
            syntax.FloatLiteral: lambda node: core.constant(node.value, node),
            syntax.BoolLiteral: lambda node: core.boolean(node.value, node),
            syntax.NoneLiteral: lambda node: core.constant(None, node),
            syntax.Name: self._name,
            syntax.ListExpr: self._list,
            syntax.RecordExpr: self._record,
            syntax.Field: self._field,
            syntax.Index: self._index,
            syntax.Race: self._unsupported("`race`"),
            syntax.First: self._unsupported("`first k of`"),
        }

    def typed(self, node: syntax.Expr, want: types.Type) -> SSAValue:
        """Build an expression and see its value under type `want`."""
        if isinstance(node, syntax.ListExpr) and isinstance(want, types.ListType):
            return self._list_of(node, want.item)
        return self.coerce(self.core.plain(node), self.checked.types[node], want, node)

    def typed_value(self, node: syntax.Expr, want: types.Type) -> Value:
        """Build an expression that may be an agent or a list of agents."""
        if types.contains_agent(self.checked.types[node]):
            return self.core.value(node)
        if types.contains_agent(want) and isinstance(want, types.ListType):
            return AgentList(())  # nothing else is of agents and has none in its type
        return self.typed(node, want)

    def parts(self, node: syntax.Expr) -> list[SSAValue]:
        """Build a prompt: one value for each piece of a written text, else the text alone."""
        if not isinstance(node, syntax.Text):
            return [self.core.plain(node)]
        return [self._piece(piece) for piece in node.pieces]

    def see_as(self, value: SSAValue, kind: Attribute, node: syntax.Node) -> SSAValue:
        """See an equal value under another IR type."""
        return self.core.emit(SomeOp(value, kind), node).result

    def _unsupported(self, what: str) -> Any:
        def refuse(node: syntax.Expr) -> Value:
            raise unsupported(node, what)

        return refuse

    def _piece(self, piece: syntax.TextPiece | syntax.Interpolation) -> SSAValue:
        if isinstance(piece, syntax.TextPiece):
            return self.core.text(piece.text, piece)
        return self.core.plain(piece.value)

    def _text(self, node: syntax.Text) -> SSAValue:
        constant = node.constant
        if constant is not None:
            return self.core.text(constant, node)
        return self.core.emit(ConcatOp(self.parts(node)), node).result

    def _name(self, node: syntax.Name) -> Value:
        binding = self.checked.names[node]
        if isinstance(binding, Local):
            return self._local(node, binding)
        return self._global(node, binding)

    def _local(self, node: syntax.Name, local: Local) -> Value:
        value = self.core.bindings[local]
        if isinstance(value, Cell):
            value = self.core.scope.read(value)
        if not isinstance(value, SSAValue):
            return value
        return self.coerce(value, local.type, self.checked.types[node], node)

    def _global(self, node: syntax.Name | syntax.Field, symbol: object) -> Value:
        if isinstance(symbol, ConstSymbol):
            value = self.core.constant(symbol.value, node)
            have = types.NONE if symbol.value is None else self.checked.types[node]
            return self.coerce(value, have, self.checked.types[node], node)
        assert isinstance(symbol, AgentSymbol)
        return self.agents.bare(symbol, node)

    def _list(self, node: syntax.ListExpr) -> Value:
        kind = self.checked.types[node]
        assert isinstance(kind, types.ListType)
        if types.contains_agent(kind):
            return self._agent_list(node)
        return self._list_of(node, kind.item)

    def _list_of(self, node: syntax.ListExpr, item: types.Type) -> SSAValue:
        items = [self.typed(child, item) for child in node.items]
        return self.core.emit(ListOp(items, ir_type(item)), node).result

    def _agent_list(self, node: syntax.ListExpr) -> AgentList:
        return AgentList(tuple(self.agents.single(item) for item in node.items))

    def _record(self, node: syntax.RecordExpr) -> SSAValue:
        kind = self.checked.types[node]
        assert isinstance(kind, types.RecordType)
        if types.contains_agent(kind):
            raise unsupported(node, "a record that holds agents")
        given = {field.name.name: field.value for field in node.fields}
        values = {name: self.typed(value, _field(kind, name)) for name, value in given.items()}
        target = ir_type(kind)
        assert isinstance(target, ir.RecordType)
        ordered = [values[name] for name, _ in kind.fields]
        return self.core.emit(RecordOp(ordered, target), node).result

    def _field(self, node: syntax.Field) -> Value:
        symbol = self.checked.fields.get(node)
        if symbol is not None:
            return self._global(node, symbol)
        if isinstance(self.checked.types[node.value], types.AgentType):
            return self.agents.parameter(node)
        record = self.core.plain(node.value)
        assert isinstance(record.type, ir.RecordType)
        declared = record.type.field(node.name.name)
        assert declared is not None
        read = self.core.emit(FieldOp(record, node.name.name, declared), node, node.name.name)
        return read.result

    def _index(self, node: syntax.Index) -> Value:
        items = self.core.value(node.value)
        if isinstance(items, AgentList | AgentVector):
            return self.agents.member(items, node)
        assert isinstance(items, SSAValue)
        position = self.core.plain(node.index)
        kind = ir_type(self.checked.types[node])
        return self.core.emit(IndexOp(items, position, kind), node).result

    def length(self, node: syntax.Expr, call: syntax.Node) -> SSAValue:
        """Build `len` of a text or list."""
        value = self.core.value(node)
        if isinstance(value, AgentList):
            return self.core.integer(len(value.items), call)
        if isinstance(value, AgentVector):
            value = value.agents
        assert isinstance(value, SSAValue)
        return self.core.emit(LenOp(value), call).result

    def join(self, items: syntax.Expr, separator: syntax.Expr, call: syntax.Node) -> SSAValue:
        """Build `join(items, separator)`."""
        op = JoinOp(self.core.plain(items), self.core.plain(separator))
        return self.core.emit(op, call).result


def _field(kind: types.RecordType, name: str) -> types.Type:
    found = kind.field(name)
    assert found is not None
    return found
