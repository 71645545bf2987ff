"""User text as an attribute.

xDSL's own string attribute survives a round trip for ASCII only; this one does so for any text.
"""

from __future__ import annotations

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer


@irdl_attr_definition
class TextAttr(Data[str]):
    """Unicode text: `#flow.string<"…">`."""

    name = "flow.string"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        """Parse the quoted text; bytes that are no UTF-8 are a parse error."""
        with parser.in_angle_brackets():
            text = parser.parse_optional_str_literal()
            if text is not None:
                return text
            raw = parser.expect(parser.parse_optional_bytes_literal, "string literal expected")
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError:
                parser.raise_error("text is not UTF-8")

    def print_parameter(self, printer: Printer) -> None:
        """Print the text quoted, with escapes."""
        with printer.in_angle_brackets():
            printer.print_string_literal(self.data)
