"""How a forecast follows values: constants, texts, lists, records and agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, i1
from xdsl.ir import Operation

from tokenloom.compiler.analysis.constants import binary, unary
from tokenloom.compiler.analysis.estimates import (
    LIST_LENGTH,
    SCALAR_TOKENS,
    Estimate,
    of_constant,
    of_list,
)
from tokenloom.compiler.analysis.forecast_walk import Handler, Walk
from tokenloom.ir import flow, kv, values
from tokenloom.ir.types import ListType, RecordType


def _constant(walk: Walk, op: Operation) -> list[Estimate]:
    value = cast("arith.ConstantOp", op).value
    assert isinstance(value, IntegerAttr | FloatAttr)
    number = value.value.data
    is_bool = isinstance(value, IntegerAttr) and value.type == i1
    return [of_constant(bool(number) if is_bool else number)]


def _text(walk: Walk, op: Operation) -> list[Estimate]:
    if op not in walk.fixed:
        walk.fixed[op] = of_constant(cast("values.TextOp", op).value.data)
    return [walk.fixed[op]]


def _segment(walk: Walk, op: Operation) -> list[Estimate]:
    if op not in walk.fixed:
        segment = cast("flow.SegmentOp", op)
        content = ("segment", segment.tokens.data)
        walk.fixed[op] = Estimate(len(segment.tokens), content=content)
    return [walk.fixed[op]]


def _spawn(walk: Walk, op: Operation) -> list[Estimate]:
    spawn = cast("flow.SpawnOp", op)
    name, arguments = spawn.callee.root_reference.data, walk.operands(op)
    names = [param.data for param in walk.agents[name].params]
    fields = dict(zip(names, arguments, strict=True))
    return [Estimate(event=walk.when(*arguments), fields=fields, classes=(name,))]


def _param(walk: Walk, op: Operation) -> list[Estimate]:
    param = cast("flow.ParamOp", op)
    return [_field_of(walk.known[param.agent], param.param.data)]


def _field(walk: Walk, op: Operation) -> list[Estimate]:
    read = cast("values.FieldOp", op)
    return [_field_of(walk.known[read.record], read.field.data)]


def _list(walk: Walk, op: Operation) -> list[Estimate]:
    items = walk.operands(op)
    return [of_list(items, walk.when(*items))]


def _record(walk: Walk, op: Operation) -> list[Estimate]:
    fields = walk.operands(op)
    names = cast("RecordType", op.results[0].type).names
    known = {name.data: value for name, value in zip(names, fields, strict=True)}
    tokens = sum(value.tokens + SCALAR_TOKENS for value in fields)
    return [Estimate(tokens, walk.when(*fields), fields=known)]


def _same(walk: Walk, op: Operation) -> list[Estimate]:
    """Follow an op that hands its first operand on."""
    rest = [Estimate() for _ in op.results[1:]]
    return [walk.known[op.operands[0]], *rest]


def _index(walk: Walk, op: Operation) -> list[Estimate]:
    read = cast("values.IndexOp", op)
    items, position = walk.known[read.items], walk.known[read.position].constant
    found = walk.items(items)
    if isinstance(position, int) and -len(found) <= position < len(found):
        return [found[position]]
    return [found[0] if found else Estimate(event=items.event)]


def _update(walk: Walk, op: Operation) -> list[Estimate]:
    changed = cast("values.UpdateOp", op)
    items = walk.items(walk.known[changed.items])
    position = walk.known[changed.position].constant
    if isinstance(position, int) and -len(items) <= position < len(items):
        items[position] = walk.known[changed.value]
    return [of_list(items, walk.when(*walk.operands(op)))]


def _length(walk: Walk, op: Operation) -> list[Estimate]:
    value = walk.known[op.operands[0]]
    size = len(value.items) if value.items is not None else None
    if size is None and isinstance(op.operands[0].type, ListType):
        size = LIST_LENGTH
    return [Estimate(SCALAR_TOKENS, value.event, size)]


def _binary(walk: Walk, op: Operation) -> list[Estimate]:
    left, right = walk.operands(op)
    kind = cast("values.BinaryOp", op).operator.data
    known = binary(kind, left.constant, right.constant)
    return [Estimate(left.tokens + right.tokens, walk.when(left, right), known)]


def _unary(walk: Walk, op: Operation) -> list[Estimate]:
    value = walk.known[op.operands[0]]
    known = unary(cast("values.UnaryOp", op).operator.data, value.constant)
    return [Estimate(value.tokens, value.event, known)]


def _field_of(whole: Estimate, name: str) -> Estimate:
    if whole.fields is not None and name in whole.fields:
        return whole.fields[name]
    return Estimate(whole.tokens, whole.event)


VALUES: Mapping[type[Operation], Handler] = {
    arith.ConstantOp: _constant,
    flow.SegmentOp: _segment,
    flow.SpawnOp: _spawn,
    flow.ParamOp: _param,
    kv.MoveOp: _same,
    values.TextOp: _text,
    values.SomeOp: _same,
    values.ListOp: _list,
    values.RecordOp: _record,
    values.FieldOp: _field,
    values.IndexOp: _index,
    values.UpdateOp: _update,
    values.LenOp: _length,
    values.BinaryOp: _binary,
    values.UnaryOp: _unary,
}
"""What is done for ops on values."""
