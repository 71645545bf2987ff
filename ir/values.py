"""Value ops of the `flow` dialect: pure functions of texts, numbers, lists and records."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr, i64
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Attribute, SpacedOpaqueSyntaxAttribute, SSAValue
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from tokenloom.ir.text import TextAttr
from tokenloom.ir.types import ListType, NoneType, RecordType, TextType


class Binary(StrEnum):
    """A two-operand operator, as in Python. `and` and `or` are `scf.if`: they short-circuit."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    FLOORDIV = "floordiv"
    MOD = "mod"
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"


@irdl_attr_definition
class BinaryAttr(EnumAttribute[Binary], SpacedOpaqueSyntaxAttribute):
    """Which operator a `flow.binary` is."""

    name = "flow.operator"


class Unary(StrEnum):
    """A one-operand operator."""

    NEG = "neg"
    NOT = "not"


@irdl_attr_definition
class UnaryAttr(EnumAttribute[Unary], SpacedOpaqueSyntaxAttribute):
    """Which operator a `flow.unary` is."""

    name = "flow.unary_operator"


@irdl_op_definition
class TextOp(IRDLOperation):
    """A constant text.

    ```mlir
    %0 = flow.text <"Who won?">
    ```
    """

    name = "flow.text"
    value = prop_def(TextAttr)
    text = result_def(TextType())
    traits = traits_def(Pure())
    assembly_format = "$value attr-dict"

    def __init__(self, value: str):
        super().__init__(properties={"value": TextAttr(value)}, result_types=[TextType()])


@irdl_op_definition
class NoneOp(IRDLOperation):
    """The value `none`."""

    name = "flow.none"
    value = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($value)"

    def __init__(self, kind: Attribute | None = None):
        super().__init__(result_types=[kind or NoneType()])


@irdl_op_definition
class SomeOp(IRDLOperation):
    """A value seen as an optional, or an equal value under a wider type (`text` of a literal)."""

    name = "flow.some"
    value = operand_def(AnyAttr())
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "$value attr-dict `:` type($value) `->` type($result)"

    def __init__(self, value: SSAValue, kind: Attribute):
        super().__init__(operands=[value], result_types=[kind])


@irdl_op_definition
class ListOp(IRDLOperation):
    """A list of the operands, in order."""

    name = "flow.list"
    items = var_operand_def(AnyAttr())
    result = result_def(ListType)
    traits = traits_def(Pure())
    assembly_format = "(`(` $items^ `:` type($items) `)`)? attr-dict `->` type($result)"

    def __init__(self, items: Sequence[SSAValue], item: Attribute):
        super().__init__(operands=[items], result_types=[ListType(item)])


@irdl_op_definition
class RecordOp(IRDLOperation):
    """A record; the operands are the fields in the order of the type."""

    name = "flow.record"
    fields = var_operand_def(AnyAttr())
    result = result_def(RecordType)
    traits = traits_def(Pure())
    assembly_format = "(`(` $fields^ `:` type($fields) `)`)? attr-dict `->` type($result)"

    def __init__(self, fields: Sequence[SSAValue], kind: RecordType):
        super().__init__(operands=[fields], result_types=[kind])

    def verify_(self) -> None:
        assert isinstance(self.result.type, RecordType)
        if len(self.fields) != len(self.result.type.names):
            raise VerifyException(
                f"flow.record has {len(self.fields)} values for "
                f"{len(self.result.type.names)} fields"
            )


@irdl_op_definition
class FieldOp(IRDLOperation):
    """One field of a record; reading a missing optional gives none."""

    name = "flow.field"
    record = operand_def(RecordType)
    field = prop_def(StringAttr)
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "$record $field attr-dict `:` type($record) `->` type($result)"

    def __init__(self, record: SSAValue, field: str, kind: Attribute):
        super().__init__(
            operands=[record], properties={"field": StringAttr(field)}, result_types=[kind]
        )

    def verify_(self) -> None:
        assert isinstance(self.record.type, RecordType)
        if self.record.type.field(self.field.data) is None:
            names = ", ".join(name.data for name in self.record.type.names)
            raise VerifyException(f"no field {self.field.data!r}; the record has {names}")


@irdl_op_definition
class IndexOp(IRDLOperation):
    """One element of a list. Negative indices count from the end; out of range fails the run."""

    name = "flow.index"
    items = operand_def(AnyAttr())
    position = operand_def(i64)
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "$items `[` $position `]` attr-dict `:` type($items) `->` type($result)"

    def __init__(self, items: SSAValue, position: SSAValue, kind: Attribute):
        super().__init__(operands=[items, position], result_types=[kind])


@irdl_op_definition
class UpdateOp(IRDLOperation):
    """The list with one element replaced; out of range fails the run."""

    name = "flow.update"
    items = operand_def(ListType)
    position = operand_def(i64)
    value = operand_def(AnyAttr())
    result = result_def(ListType)
    traits = traits_def(Pure())
    assembly_format = (
        "$items `[` $position `]` `=` $value attr-dict "
        "`:` type($items) `,` type($value) `->` type($result)"
    )

    def __init__(self, items: SSAValue, position: SSAValue, value: SSAValue):
        super().__init__(operands=[items, position, value], result_types=[items.type])


@irdl_op_definition
class LenOp(IRDLOperation):
    """The number of elements of a list, or of code points of a text."""

    name = "flow.len"
    value = operand_def(AnyAttr())
    result = result_def(i64)
    traits = traits_def(Pure())
    assembly_format = "$value attr-dict `:` type($value)"

    def __init__(self, value: SSAValue):
        super().__init__(operands=[value], result_types=[i64])


@irdl_op_definition
class JoinOp(IRDLOperation):
    """The elements of a list as text, with a separator between them."""

    name = "flow.join"
    items = operand_def(ListType)
    separator = operand_def(TextType())
    result = result_def(TextType())
    traits = traits_def(Pure())
    assembly_format = "$items `,` $separator attr-dict `:` type($items)"

    def __init__(self, items: SSAValue, separator: SSAValue):
        super().__init__(operands=[items, separator], result_types=[TextType()])


@irdl_op_definition
class ConcatOp(IRDLOperation):
    """A text made of parts, each printed as an interpolation prints it."""

    name = "flow.concat"
    parts = var_operand_def(AnyAttr())
    result = result_def(TextType())
    traits = traits_def(Pure())
    assembly_format = "(`(` $parts^ `:` type($parts) `)`)? attr-dict"

    def __init__(self, parts: Sequence[SSAValue]):
        super().__init__(operands=[parts], result_types=[TextType()])


@irdl_op_definition
class BinaryOp(IRDLOperation):
    """An operator of two values, as in Python.

    ```mlir
    %a = arith.constant 1 : i64
    %s = flow.binary add %a, %a : i64, i64 -> i64
    ```
    """

    name = "flow.binary"
    operator = prop_def(BinaryAttr)
    left = operand_def(AnyAttr())
    right = operand_def(AnyAttr())
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = (
        "$operator $left `,` $right attr-dict `:` type($left) `,` type($right) `->` type($result)"
    )

    def __init__(self, operator: Binary, left: SSAValue, right: SSAValue, kind: Attribute):
        super().__init__(
            operands=[left, right],
            properties={"operator": BinaryAttr(operator)},
            result_types=[kind],
        )


@irdl_op_definition
class UnaryOp(IRDLOperation):
    """An operator of one value."""

    name = "flow.unary"
    operator = prop_def(UnaryAttr)
    value = operand_def(AnyAttr())
    result = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "$operator $value attr-dict `:` type($value) `->` type($result)"

    def __init__(self, operator: Unary, value: SSAValue, kind: Attribute):
        super().__init__(
            operands=[value], properties={"operator": UnaryAttr(operator)}, result_types=[kind]
        )


VALUE_OPS = [
    BinaryOp,
    ConcatOp,
    FieldOp,
    IndexOp,
    JoinOp,
    LenOp,
    ListOp,
    NoneOp,
    RecordOp,
    SomeOp,
    TextOp,
    UnaryOp,
    UpdateOp,
]
