"""The order of `effect` tools: a token that each call takes and gives on."""

from __future__ import annotations

from xdsl.ir import SSAValue

from tokenloom.compiler.frontend.build_core import Core
from tokenloom.compiler.frontend.build_scope import Cell
from tokenloom.compiler.frontend.syntax import Node
from tokenloom.ir.flow import TokenOp
from tokenloom.ir.types import TokenType


class EffectOrder:
    """The cell of the token; the workflow's first effect starts from `flow.token`."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.cell = Cell("effects", TokenType())

    def start(self, node: Node, *, has_effects: bool) -> None:
        """Begin a workflow; if it has effects, its last token is a result."""
        self.cell = Cell("effects", TokenType())
        self.core.root.declare_lazily(
            self.cell,
            lambda: self.core.emit_first(TokenOp(), node, "effects").token,
            kept=has_effects,
        )

    def read(self) -> SSAValue:
        """Return the token of the effect before."""
        return self.core.scope.read(self.cell)

    def write(self, token: SSAValue) -> None:
        """Let the next effect wait for this token."""
        self.core.scope.write(self.cell, token)
