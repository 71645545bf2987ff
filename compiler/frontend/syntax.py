"""The syntax tree of Loom: what a file says, with the place of every piece.

Nodes compare and hash by identity, so a node is a key of the checker's tables. The tree knows no
types and no bindings: those are in `checked.py`.
"""

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


# --- expressions ------------------------------------------------------------------------------


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


# --- statements -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Block(Node):
    """`{ statements }`; a body of `map` or `gather` has the value of its last statement."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Let(Node):
    """`let name = value`."""

    name: Identifier
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Var(Node):
    """`var name = value`."""

    name: Identifier
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Assign(Node):
    """`name = value`."""

    name: Name
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class If(Node):
    """`if c { } else { }`; `else if` is an `otherwise` that holds one `If`."""

    condition: Expr
    then: Block
    otherwise: Block | None


@dataclass(frozen=True, eq=False, slots=True)
class MatchArm(Node):
    """`pattern => { body }`; `_` is the pattern None."""

    pattern: Expr | None
    body: Block


@dataclass(frozen=True, eq=False, slots=True)
class Match(Node):
    """`match subject { arms }`."""

    subject: Expr
    arms: tuple[MatchArm, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Repeat(Node):
    """`repeat count { body }`, or `repeat max count { body until condition }`.

    `until` is evaluated after the statements of the body and sees their names.
    """

    count: Expr
    body: Block
    is_max: bool
    until: Expr | None


@dataclass(frozen=True, eq=False, slots=True)
class For(Node):
    """`for variable in items { body }`."""

    variable: Identifier
    items: Expr
    body: Block


@dataclass(frozen=True, eq=False, slots=True)
class Try(Node):
    """`try { body } else error { handler }`; `error` is the message, a text."""

    body: Block
    error: Identifier
    handler: Block


@dataclass(frozen=True, eq=False, slots=True)
class Return(Node):
    """`return value`."""

    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Assert(Node):
    """`assert condition else message`; in a test the message may be left out."""

    condition: Expr
    message: Expr | None


@dataclass(frozen=True, eq=False, slots=True)
class Fail(Node):
    """`fail message`."""

    message: Expr


@dataclass(frozen=True, eq=False, slots=True)
class ExprStatement(Node):
    """An expression as a statement."""

    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Reply(Node):
    """`reply "..." to Agent`: one line of a test's scripted model."""

    text: Expr
    agent: Expr


Statement = (
    Let
    | Var
    | Assign
    | If
    | Match
    | Repeat
    | For
    | Try
    | Return
    | Assert
    | Fail
    | ExprStatement
    | Reply
)


# --- types ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class NamedType(Node):
    """`text`, `int`, `float`, `bool`, `Verdict`, `lib.Verdict`, `Judge` (an agent)."""

    qualifier: Identifier | None
    name: Identifier


@dataclass(frozen=True, eq=False, slots=True)
class LimitedType(Node):
    """`text(max = n)`: a named type with arguments."""

    base: NamedType
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RangeType(Node):
    """`int(low..high)`."""

    base: NamedType
    low: Expr
    high: Expr


@dataclass(frozen=True, eq=False, slots=True)
class PatternType(Node):
    """`text ~ /regex/`; `regex` is what stands between the slashes, an escaped slash a slash."""

    base: TypeExpr
    regex: str


@dataclass(frozen=True, eq=False, slots=True)
class SecretType(Node):
    """`secret text`."""

    base: TypeExpr


@dataclass(frozen=True, eq=False, slots=True)
class UnionType(Node):
    """`"for" | "against"`."""

    values: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RecordTypeField(Node):
    """`name: type` of a record type."""

    name: Identifier
    type: TypeExpr


@dataclass(frozen=True, eq=False, slots=True)
class RecordTypeExpr(Node):
    """`{a: T, b: T}`."""

    fields: tuple[RecordTypeField, ...]


@dataclass(frozen=True, eq=False, slots=True)
class ListTypeExpr(Node):
    """`[T]`."""

    item: TypeExpr


@dataclass(frozen=True, eq=False, slots=True)
class OptionalTypeExpr(Node):
    """`T?`."""

    item: TypeExpr


TypeExpr = (
    NamedType
    | LimitedType
    | RangeType
    | PatternType
    | SecretType
    | UnionType
    | RecordTypeExpr
    | ListTypeExpr
    | OptionalTypeExpr
)


# --- declarations -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Parameter(Node):
    """`name: type = default`."""

    name: Identifier
    type: TypeExpr
    default: Expr | None


@dataclass(frozen=True, eq=False, slots=True)
class Setting(Node):
    """`name = value` in the braces of a declaration; a flag (`effect`) has no value."""

    name: Identifier
    value: Expr | None


@dataclass(frozen=True, eq=False, slots=True)
class Import(Node):
    """`import "lib.loom" as lib`."""

    source: Text
    alias: Identifier


@dataclass(frozen=True, eq=False, slots=True)
class ModelDecl(Node):
    """`model name = "id-or-path" { settings }`."""

    name: Identifier
    source: Text
    settings: tuple[Setting, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class ToolDecl(Node):
    """`tool name(parameters) -> result { settings }`."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    result: TypeExpr
    settings: tuple[Setting, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class TypeDecl(Node):
    """`type name = type`."""

    name: Identifier
    type: TypeExpr
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class AgentDecl(Node):
    """`agent name(parameters) { settings }`."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    settings: tuple[Setting, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class WorkflowDecl(Node):
    """`workflow name(parameters) -> result { body }`."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    result: TypeExpr
    body: Block
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class TestDecl(Node):
    """`test "name" { body }`."""

    name: Text
    body: Block
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, slots=True)
class ConstDecl(Node):
    """`const name = literal`."""

    name: Identifier
    value: Expr
    attributes: tuple[Attribute, ...]


Declaration = (
    ModelDecl | ToolDecl | TypeDecl | AgentDecl | WorkflowDecl | TestDecl | ConstDecl | Import
)


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Comment(Node):
    """`# text`, without the `#`; `own_line` if nothing stands before it on its line."""

    text: str
    own_line: bool


@dataclass(frozen=True, eq=False, slots=True)
class Module(Node):
    """One file: its declarations and comments, each in source order, and its text."""

    source: str
    declarations: tuple[Declaration, ...]
    comments: tuple[Comment, ...]
