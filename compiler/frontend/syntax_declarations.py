"""The declarations of the syntax tree, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenloom.compiler.frontend.syntax_nodes import Identifier, Node

if TYPE_CHECKING:
    from tokenloom.compiler.frontend.syntax_expressions import Attribute, Expr, Text
    from tokenloom.compiler.frontend.syntax_statements import Block
    from tokenloom.compiler.frontend.syntax_types import TypeExpr


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
