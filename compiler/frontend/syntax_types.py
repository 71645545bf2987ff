"""The type expressions of the syntax tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenloom.compiler.frontend.syntax_nodes import Identifier, Node

if TYPE_CHECKING:
    from tokenloom.compiler.frontend.syntax_expressions import Argument, Expr


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
