"""The statements of the syntax tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenloom.compiler.frontend.syntax_nodes import Identifier, Node

if TYPE_CHECKING:
    from tokenloom.compiler.frontend.syntax_expressions import Expr, Name


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
