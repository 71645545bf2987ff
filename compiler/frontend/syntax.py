"""The syntax tree of Loom: what a file says, with the place of every piece.

Nodes compare and hash by identity, so a node is a key of the checker's tables. The tree knows no
types and no bindings: those are in `checked.py`.
"""

from __future__ import annotations

from tokenloom.compiler.frontend.syntax_declarations import (
    AgentDecl,
    Comment,
    ConstDecl,
    Declaration,
    Import,
    ModelDecl,
    Module,
    Parameter,
    Setting,
    TestDecl,
    ToolDecl,
    TypeDecl,
    WorkflowDecl,
)
from tokenloom.compiler.frontend.syntax_expressions import (
    AnswerArgument,
    Argument,
    Ask,
    Attribute,
    Binary,
    BoolLiteral,
    Call,
    Comparison,
    Duration,
    Expr,
    Field,
    First,
    FloatLiteral,
    Gather,
    Index,
    Interpolation,
    IntLiteral,
    ListExpr,
    Literal,
    Map,
    Name,
    NoneLiteral,
    Percentage,
    Race,
    RecordExpr,
    RecordField,
    Text,
    TextPiece,
    Unary,
)
from tokenloom.compiler.frontend.syntax_nodes import (
    Identifier,
    Node,
    Span,
)
from tokenloom.compiler.frontend.syntax_statements import (
    Assert,
    Assign,
    Block,
    ExprStatement,
    Fail,
    For,
    If,
    Let,
    Match,
    MatchArm,
    Repeat,
    Reply,
    Return,
    Statement,
    Try,
    Var,
)
from tokenloom.compiler.frontend.syntax_types import (
    LimitedType,
    ListTypeExpr,
    NamedType,
    OptionalTypeExpr,
    PatternType,
    RangeType,
    RecordTypeExpr,
    RecordTypeField,
    SecretType,
    TypeExpr,
    UnionType,
)

__all__ = [
    "AgentDecl", "AnswerArgument", "Argument", "Ask", "Assert", "Assign", "Attribute", "Binary",
    "Block", "BoolLiteral", "Call", "Comment", "Comparison", "ConstDecl", "Declaration",
    "Duration", "Expr", "ExprStatement", "Fail", "Field", "First", "FloatLiteral", "For", "Gather",
    "Identifier", "If", "Import", "Index", "IntLiteral", "Interpolation", "Let", "LimitedType",
    "ListExpr", "ListTypeExpr", "Literal", "Map", "Match", "MatchArm", "ModelDecl", "Module",
    "Name", "NamedType", "Node", "NoneLiteral", "OptionalTypeExpr", "Parameter", "PatternType",
    "Percentage", "Race", "RangeType", "RecordExpr", "RecordField", "RecordTypeExpr",
    "RecordTypeField", "Repeat", "Reply", "Return", "SecretType", "Setting", "Span", "Statement",
    "TestDecl", "Text", "TextPiece", "ToolDecl", "Try", "TypeDecl", "TypeExpr", "Unary",
    "UnionType", "Var", "WorkflowDecl",
]  # fmt: skip
