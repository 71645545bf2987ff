"""The types of values that agents exchange: text, lists, records, agents and their histories.

Integers are `i64`, floats `f64`, booleans `i1`; a union of literals is text.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, FlatSymbolRefAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class TextType(ParametrizedAttribute, TypeAttribute):
    """Text: `!flow.text`."""

    name = "flow.text"


@irdl_attr_definition
class SegmentType(ParametrizedAttribute, TypeAttribute):
    """A fixed piece of a prompt, tokenized at compile time: `!flow.segment`."""

    name = "flow.segment"


@irdl_attr_definition
class HistoryType(ParametrizedAttribute, TypeAttribute):
    """What an agent was told and has said, as a value: `!flow.history`.

    An ask takes a history and gives the next one; nothing changes a history in place.
    """

    name = "flow.history"


@irdl_attr_definition
class TokenType(ParametrizedAttribute, TypeAttribute):
    """The order of `effect` tools, as a value that each takes and gives on: `!flow.token`."""

    name = "flow.token"


@irdl_attr_definition
class NoneType(ParametrizedAttribute, TypeAttribute):
    """The type of `none` where nothing else is known: `!flow.none`."""

    name = "flow.none"


@irdl_attr_definition
class ListType(ParametrizedAttribute, TypeAttribute):
    """A list whose length is known at run time: `!flow.list<!flow.text>`."""

    name = "flow.list"
    item: Attribute


@irdl_attr_definition
class OptionalType(ParametrizedAttribute, TypeAttribute):
    """A value or `none`: `!flow.optional<i64>`."""

    name = "flow.optional"
    item: Attribute


@irdl_attr_definition
class RecordType(ParametrizedAttribute, TypeAttribute):
    """Named fields in declaration order: `!flow.record<"winner": !flow.text, "score": i64>`."""

    name = "flow.record"
    names: ArrayAttr[StringAttr]
    types: ArrayAttr[Attribute]

    @classmethod
    def of(cls, fields: Sequence[tuple[str, Attribute]]) -> RecordType:
        """Make the type from `(name, type)` pairs."""
        return cls(
            ArrayAttr([StringAttr(name) for name, _ in fields]),
            ArrayAttr([kind for _, kind in fields]),
        )

    def field(self, name: str) -> Attribute | None:
        """Return the type of field `name`, or None."""
        for key, kind in zip(self.names, self.types, strict=True):
            if key.data == name:
                return kind
        return None

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse `<"name": type, …>`."""

        def field() -> tuple[StringAttr, Attribute]:
            name = StringAttr(parser.parse_str_literal())
            parser.parse_punctuation(":")
            return name, parser.parse_type()

        fields = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, field)
        return [ArrayAttr([name for name, _ in fields]), ArrayAttr([kind for _, kind in fields])]

    def print_parameters(self, printer: Printer) -> None:
        """Print `<"name": type, …>`."""

        def field(pair: tuple[StringAttr, Attribute]) -> None:
            printer.print_string_literal(pair[0].data)
            printer.print_string(": ")
            printer.print_attribute(pair[1])

        with printer.in_angle_brackets():
            printer.print_list(list(zip(self.names, self.types, strict=True)), field)

    def verify(self) -> None:
        """Check that names and types pair up and that no name occurs twice."""
        names = [name.data for name in self.names]
        if len(names) != len(self.types):
            raise VerifyException(f"{len(names)} field names but {len(self.types)} types")
        if len(set(names)) != len(names):
            raise VerifyException(f"a field name occurs twice in {names}")


@irdl_attr_definition
class AgentType(ParametrizedAttribute, TypeAttribute):
    """An agent of one of the classes named: `!flow.agent<@Debater>`."""

    name = "flow.agent"
    classes: ArrayAttr[FlatSymbolRefAttr]

    @classmethod
    def of(cls, *names: str) -> AgentType:
        """Make the type from class names; order and repetition do not matter."""
        return cls(ArrayAttr([SymbolRefAttr(name) for name in sorted(set(names))]))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse `<@A, @B>`."""
        names = parser.parse_comma_separated_list(parser.Delimiter.ANGLE, parser.parse_symbol_name)
        return [ArrayAttr([SymbolRefAttr(name) for name in names])]

    def print_parameters(self, printer: Printer) -> None:
        """Print `<@A, @B>`."""
        with printer.in_angle_brackets():
            printer.print_list(self.classes, printer.print_attribute)

    def verify(self) -> None:
        """Check that at least one class is named."""
        if not self.classes.data:
            raise VerifyException("an agent type names at least one class")
