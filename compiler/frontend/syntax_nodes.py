"""What every node of the syntax tree has: its place, and an identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of source; lines and columns count from 1, the end column is exclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of `other`."""
        return Span(self.path, self.line, self.column, other.end_line, other.end_column)


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A piece of a program."""

    span: Span


@dataclass(frozen=True, eq=False, slots=True)
class Identifier(Node):
    """A name where it is declared or where it labels something (field, argument, setting)."""

    name: str
