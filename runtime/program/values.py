"""From value operations to the functions that compute them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from xdsl.dialects.builtin import f64
from xdsl.ir import Attribute, Operation

from tokenloom.ir import values as ir
from tokenloom.ir.types import OptionalType
from tokenloom.runtime import values


def value_function(op: Operation) -> tuple[Callable[..., Any], bool] | None:
    """Return what computes an op from its operands, and whether it needs all that is in them.

    None for an op that is no pure function of values.
    """
    maker = _MAKERS.get(type(op))
    return maker(op) if maker is not None else None


def _binary(op: ir.BinaryOp) -> tuple[Callable[..., Any], bool]:
    name = op.operator.data.value
    return values.BINARY[name], name != "add"  # lists are joined as they are


def _some(op: ir.SomeOp) -> tuple[Callable[..., Any], bool]:
    kind: Attribute = op.result.type
    while isinstance(kind, OptionalType):
        kind = kind.item
    if kind == f64:
        return partial(values.widen, answer_type=_OPTIONAL_FLOAT), False
    return _same, False


_OPTIONAL_FLOAT = {"kind": "optional", "item": {"kind": "float"}}


def _same(value: Any) -> Any:
    return value


def _list(*items: Any) -> list[Any]:
    return list(items)


def _record(names: tuple[str, ...], *fields: Any) -> dict[str, Any]:
    return dict(zip(names, fields, strict=True))


def _make_record(op: ir.RecordOp) -> tuple[Callable[..., Any], bool]:
    names = tuple(name.data for name in op.result.type.names)
    return partial(_record, names), False


_MAKERS: dict[type[Operation], Callable[[Any], tuple[Callable[..., Any], bool]]] = {
    ir.BinaryOp: _binary,
    ir.ConcatOp: lambda op: (values.concat, True),
    ir.FieldOp: lambda op: (partial(values.field, name=op.field.data), False),
    ir.IndexOp: lambda op: (values.index, False),
    ir.JoinOp: lambda op: (values.join, True),
    ir.LenOp: lambda op: (values.length, False),
    ir.ListOp: lambda op: (_list, False),
    ir.RecordOp: _make_record,
    ir.SomeOp: _some,
    ir.UnaryOp: lambda op: (values.UNARY[op.operator.data.value], True),
    ir.UpdateOp: lambda op: (values.update, False),
}
