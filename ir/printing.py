"""Modules as text that reads back as the same module.

xDSL's own printer writes the place of an `scf.while` twice, and escapes the bytes of characters
outside of ASCII, which its parser then takes in few attributes only; places and names need more.
Texts always read back; a path or name does unless it has both such a character and a quote,
backslash or control character.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import TextIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.printer import Printer

_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')


class ModulePrinter(Printer):
    """xDSL's printer without those two faults."""

    def print_string_literal(self, string: str) -> None:
        """Print text as it is but for quotes, backslashes and control characters."""
        self.print_string(f'"{_ESCAPED.sub(_escape, string)}"')

    def print_operation_type(self, op: Operation) -> None:
        """Print the function type; a custom form is followed by its place anyway."""
        if self.print_generic_format or type(op).print is Operation.print:
            super().print_operation_type(op)
        else:
            self.print_function_type(op.operand_types, op.result_types)


def print_module(module: ModuleOp, stream: TextIO, *, locations: bool = False) -> None:
    """Write a module, with its places in the source if asked for."""
    ModulePrinter(stream, print_debuginfo=locations).print_op(module)
    stream.write("\n")


def module_text(module: ModuleOp, *, locations: bool = False) -> str:
    """Return a module as text, with its places in the source if asked for."""
    stream = StringIO()
    print_module(module, stream, locations=locations)
    return stream.getvalue()


def _escape(match: re.Match[str]) -> str:
    return "\\\\" if match[0] == "\\" else f"\\{ord(match[0]):02X}"
