"""The expressions of the syntax tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenloom.compiler.frontend.syntax_nodes import Identifier, Node

if TYPE_CHECKING:
    from tokenloom.compiler.frontend.syntax_statements import Block
    from tokenloom.compiler.frontend.syntax_types import TypeExpr


@dataclass(frozen=True, eq=False, slots=True)
class TextPiece(Node):
    """Fixed text between interpolations: escapes applied, common indent taken off."""

    text: str


@dataclass(frozen=True, eq=False, slots=True)
class Interpolation(Node):
    """`{value}` in a text; a segment boundary even where the value is constant."""

    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Text(Node):
    """`"..."` or `\"\"\"...\"\"\"`: its pieces in order; no piece is empty."""

    pieces: tuple[TextPiece | Interpolation, ...]
    multiline: bool

    @property
    def constant(self) -> str | None:
        """The whole text if nothing is interpolated."""
        if any(isinstance(piece, Interpolation) for piece in self.pieces):
            return None
        return "".join(piece.text for piece in self.pieces if isinstance(piece, TextPiece))


@dataclass(frozen=True, eq=False, slots=True)
class IntLiteral(Node):
    """`42`."""

    value: int


@dataclass(frozen=True, eq=False, slots=True)
class FloatLiteral(Node):
    """`0.5`, `1e-3`."""

    value: float


@dataclass(frozen=True, eq=False, slots=True)
class BoolLiteral(Node):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, eq=False, slots=True)
class NoneLiteral(Node):
    """`none`."""


@dataclass(frozen=True, eq=False, slots=True)
class Duration(Node):
    """`500ms`, `2s`, `3min`: only in settings, attributes and the `timeout` of a gather."""

    nanoseconds: int


@dataclass(frozen=True, eq=False, slots=True)
class Percentage(Node):
    """`15%`: only in settings; the value is the fraction, 0.15."""

    fraction: float


@dataclass(frozen=True, eq=False, slots=True)
class Name(Node):
    """A name that is used; `Checked.names` says what it is bound to."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class ListExpr(Node):
    """`[a, b]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RecordField(Node):
    """`name: value` of a record expression."""

    name: Identifier
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class RecordExpr(Node):
    """`{a: 1, b: "x"}`."""

    fields: tuple[RecordField, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Field(Node):
    """`value.name`: a field of a record, a parameter of an agent, or a name of an import."""

    value: Expr
    name: Identifier


@dataclass(frozen=True, eq=False, slots=True)
class Index(Node):
    """`value[index]`."""

    value: Expr
    index: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Argument(Node):
    """`value` or `name = value` in a call."""

    name: Identifier | None
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class AnswerArgument(Node):
    """`as = T` of an ask: the one argument that is a type."""

    type: TypeExpr


@dataclass(frozen=True, eq=False, slots=True)
class Call(Node):
    """`callee(arguments)`: agent constructor, tool, workflow or builtin (`Checked.calls`)."""

    callee: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Attribute(Node):
    """`@deadline(2s)`, `@critical`."""

    name: Identifier
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Ask(Node):
    """`agent.ask(arguments, as = answer)`; every call of a field named `ask` is one."""

    agent: Expr
    arguments: tuple[Argument, ...]
    answer: TypeExpr | None
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Unary(Node):
    """`not x`, `-x`, `+x`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Binary(Node):
    """`+ - * / // %`, `and`, `or`."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Comparison(Node):
    """`a < b <= c`, as in Python: len(operands) == len(operators) + 1.

    Operators: `== != < <= > >=`, `in`, `not in`.
    """

    operands: tuple[Expr, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Gather(Node):
    """`gather member in agents for rounds until c max n timeout t { body }`."""

    member: Identifier
    agents: Expr
    rounds: Expr | None  # `for n`
    until: Expr | None
    max_rounds: Expr | None  # given exactly where `until` is
    timeout: Expr | None
    body: Block


@dataclass(frozen=True, eq=False, slots=True)
class Map(Node):
    """`map variable in items { body }`."""

    variable: Identifier
    items: Expr
    body: Block


@dataclass(frozen=True, eq=False, slots=True)
class Race(Node):
    """`race { a, b }`."""

    branches: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class First(Node):
    """`first count of { a, b, c }`."""

    count: Expr
    branches: tuple[Expr, ...]


Literal = Text | IntLiteral | FloatLiteral | BoolLiteral | NoneLiteral
Expr = (
    Literal
    | Duration
    | Percentage
    | Name
    | ListExpr
    | RecordExpr
    | Field
    | Index
    | Call
    | Ask
    | Unary
    | Binary
    | Comparison
    | Gather
    | Map
    | Race
    | First
)
