"""Values seen under another type: optionals, wider numbers, records with more fields.

Does not decide what fits into what: the checker has.
"""

from __future__ import annotations

from xdsl.dialects.builtin import i64
from xdsl.ir import Block, Region, SSAValue

from tokenloom.compiler.frontend import types
from tokenloom.compiler.frontend.build_core import Core
from tokenloom.compiler.frontend.build_scope import Scope
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.syntax import Node
from tokenloom.ir import types as ir
from tokenloom.ir.declarations import YieldOp
from tokenloom.ir.flow import MapOp
from tokenloom.ir.values import FieldOp, ListOp, NoneOp, RecordOp, SomeOp


class Coercion:
    """Makes a value of one type into the equal value of another."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def coerce(self, value: SSAValue, have: types.Type, want: types.Type, node: Node) -> SSAValue:
        """Return the value under type `want`, which `have` fits into or is narrowed to."""
        target = ir_type(want)
        if value.type == target:
            return value
        match have, want:
            case types.NoneType(), _:
                return self.core.emit(NoneOp(target), node).value
            case types.RecordType(), types.RecordType():
                return self._record(value, have, want, node)
            case types.RecordType(), types.OptionalType(types.RecordType() as inner):
                value = self._record(value, have, inner, node)
            case types.ListType(types.NeverType()), types.ListType():
                return self.core.emit(ListOp([], ir_type(want.item)), node).result
            case types.ListType(), types.ListType() if _needs_change(have.item, want.item):
                return self._list(value, have.item, want, node)
            case _:
                pass
        return self.core.emit(SomeOp(value, target), node).result

    def _record(
        self, value: SSAValue, have: types.RecordType, want: types.RecordType, node: Node
    ) -> SSAValue:
        target = ir_type(want)
        assert isinstance(target, ir.RecordType)
        if value.type == target:
            return value
        fields: list[SSAValue] = []
        for field, kind in want.fields:
            given = have.field(field)
            if given is None:
                fields.append(self.core.emit(NoneOp(ir_type(kind)), node).value)
                continue
            read = self.core.emit(FieldOp(value, field, ir_type(given)), node).result
            fields.append(self.coerce(read, given, kind, node))
        return self.core.emit(RecordOp(fields, target), node).result

    def _list(
        self, value: SSAValue, have: types.Type, want: types.ListType, node: Node
    ) -> SSAValue:
        block = Block(arg_types=[ir_type(have), i64])
        around, self.core.scope = self.core.scope, Scope(block, self.core.scope)
        item = self.coerce(block.args[0], have, want.item, node)
        self.core.emit(YieldOp(item), node)
        self.core.scope = around
        op = MapOp.build(
            operands=[value, []], result_types=[[ir_type(want)], []], regions=[Region(block)]
        )
        return self.core.emit(op, node).results[0]


def _needs_change(have: types.Type, want: types.Type) -> bool:
    """Whether values differ in more than the type: an int as float, a record's fields."""
    match have, want:
        case types.IntType(), types.FloatType():
            return True
        case types.RecordType(), types.RecordType():
            return ir_type(have) != ir_type(want)
        case types.ListType(item), types.ListType(wanted):
            return _needs_change(item, wanted)
        case types.OptionalType(item), types.OptionalType(wanted):
            return _needs_change(item, wanted)
        case _, types.OptionalType(wanted):
            return _needs_change(have, wanted)
        case _:
            return False
