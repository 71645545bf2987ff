"""Types of Loom as types of `flow` IR, and constants as attributes. Knows nothing of syntax."""

from __future__ import annotations

import json
from functools import cache

from xdsl.dialects.builtin import f64, i1, i64
from xdsl.ir import Attribute

from tokenloom.compiler.frontend import types
from tokenloom.ir import types as ir
from tokenloom.ir.text import TextAttr


@cache
def ir_type(value: types.Type) -> Attribute:
    """Return the IR type of a value; bounds, secrecy and patterns are not part of it."""
    match value:
        case types.ListType(item):
            return ir.ListType(ir_type(item))
        case types.OptionalType(item):
            return ir.OptionalType(ir_type(item))
        case types.RecordType(fields):
            return ir.RecordType.of([(name, ir_type(field)) for name, field in fields])
        case types.AgentType(names):
            return ir.AgentType.of(*names)
        case _:
            return _SCALARS[type(value)]


@cache
def answer_type(value: types.Type) -> TextAttr:
    """Return a type as answer-type JSON. Raises ValueError for agents and `none`."""
    return TextAttr(json.dumps(types.to_answer_type(value)))


_SCALARS: dict[type, Attribute] = {
    types.TextType: ir.TextType(),
    types.EnumType: ir.TextType(),
    types.IntType: i64,
    types.FloatType: f64,
    types.BoolType: i1,
    types.NoneType: ir.NoneType(),
    types.NeverType: ir.NoneType(),
}
