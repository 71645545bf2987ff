"""What one run of the checker collects: the tables of `Checked`, errors and warnings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tokenloom.compiler.diagnostics import CompileError, Diagnostic, Note
from tokenloom.compiler.frontend.checked import (
    AskInfo,
    BodyInfo,
    CallInfo,
    Constant,
    GatherInfo,
    GlobalSymbol,
    Local,
    LoopInfo,
)
from tokenloom.compiler.frontend.syntax import (
    Ask,
    Block,
    Call,
    Expr,
    Field,
    For,
    Gather,
    Name,
    Node,
    Repeat,
    TypeExpr,
)
from tokenloom.compiler.frontend.types import Type


@dataclass
class Tables:
    """The tables of `Checked`, while they are filled."""

    types: dict[Expr, Type] = field(default_factory=dict[Expr, Type])
    type_exprs: dict[TypeExpr, Type] = field(default_factory=dict[TypeExpr, Type])
    names: dict[Name, Any] = field(default_factory=dict[Name, Any])
    fields: dict[Field, GlobalSymbol] = field(default_factory=dict[Field, GlobalSymbol])
    constants: dict[Expr, Constant] = field(default_factory=dict[Expr, Constant])
    asks: dict[Ask, AskInfo] = field(default_factory=dict[Ask, AskInfo])
    calls: dict[Call, CallInfo] = field(default_factory=dict[Call, CallInfo])
    bodies: dict[Block, BodyInfo] = field(default_factory=dict[Block, BodyInfo])
    loops: dict[For | Repeat, LoopInfo] = field(default_factory=dict[For | Repeat, LoopInfo])
    gathers: dict[Gather, GatherInfo] = field(default_factory=dict[Gather, GatherInfo])
    variables: dict[object, Local] = field(default_factory=dict[object, Local])
    value_types: dict[Block, Type] = field(default_factory=dict[Block, Type])


class Session:
    """Collects what is found out; a mark allows to take back what a first look reported."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.errors: list[CompileError] = []
        self.warnings: list[Diagnostic] = []

    def error(self, message: str, node: Node, notes: Iterable[Note] = ()) -> None:
        """Report an error at a node."""
        self.errors.append(CompileError(message, node.span, notes))

    def warn(self, message: str, node: Node, notes: Iterable[Note] = ()) -> None:
        """Report a warning at a node."""
        self.warnings.append(Diagnostic(message, node.span, tuple(notes), "warning"))

    def mark(self) -> tuple[int, int]:
        """Return the state of the reports, for `reset`."""
        return len(self.errors), len(self.warnings)

    def reset(self, mark: tuple[int, int]) -> None:
        """Take back every report since `mark`."""
        del self.errors[mark[0] :]
        del self.warnings[mark[1] :]


def help_note(message: str) -> tuple[Note, ...]:
    """Return one `help:` line."""
    return (Note(message, kind="help"),)
