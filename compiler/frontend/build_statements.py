"""Statements in order, and `return` as data flow.

`flow` has no jumps. After an `if` that returns in one branch, the rest of the block is built in
the other; where that does not say it all (a `return` deeper inside, or in a loop), a flag does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects.builtin import i1
from xdsl.ir import SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_core import AgentRef, Core, name
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_scope import Cell
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.compiler.frontend.checked import Local
from tokenloom.ir.flow import AssertOp, FailOp
from tokenloom.ir.values import NoneOp

Tail = Callable[[], None]
_Jumping = (syntax.If, syntax.Repeat, syntax.For)


class Statements:
    """Builds statements; loops are in `build_loops`."""

    def __init__(self, core: Core, expressions: Expressions) -> None:
        self.core = core
        self.checked = core.checked
        self.expressions = expressions
        self.result: types.Type = types.NEVER
        self.result_cell = Cell(None, i1)
        self.returned = Cell(None, i1)
        self._returns: dict[syntax.Block, bool] = {}
        core.add_steps(
            {
                syntax.Let: self._let,
                syntax.Var: self._var,
                syntax.Assign: self._assign,
                syntax.If: self._if,
                syntax.Return: self._return,
                syntax.Assert: self._assert,
                syntax.Fail: self._fail,
                syntax.ExprStatement: lambda node: core.value(node.value),
                syntax.Match: self._unsupported("`match`"),
                syntax.Try: self._unsupported("`try`"),
                syntax.Reply: self._unsupported("`reply` outside of a test"),
            }
        )

    def start(self, result: types.Type, node: syntax.Node) -> None:
        """Begin a workflow that returns a value of type `result`."""
        self.result = result
        self.result_cell = Cell("result", ir_type(result))
        self.returned = Cell("returned", i1)
        core = self.core

        def placeholder() -> SSAValue:
            return core.emit_first(NoneOp(self.result_cell.type), node).value

        core.root.declare_lazily(self.result_cell, placeholder, kept=True)
        core.root.declare_lazily(self.returned, lambda: core.boolean_first(False, node))

    def returns(self, node: syntax.Statement) -> bool:
        """Whether a statement has a `return` in it."""
        if isinstance(node, syntax.If):
            otherwise = node.otherwise is not None and self._block_returns(node.otherwise)
            return otherwise or self._block_returns(node.then)
        if isinstance(node, syntax.Repeat | syntax.For):
            return self._block_returns(node.body)
        return isinstance(node, syntax.Return)

    def _block_returns(self, block: syntax.Block) -> bool:
        found = self._returns.get(block)
        if found is None:
            found = any(self.returns(statement) for statement in block.statements)
            self._returns[block] = found
        return found

    def sequence(self, statements: Sequence[syntax.Statement], tail: Tail | None = None) -> None:
        """Build statements, then `tail` unless one of them returned."""
        for index, statement in enumerate(statements):
            self.core.require_shallow(statement)
            if isinstance(statement, _Jumping) and self.returns(statement):
                self._split(statement, statements[index + 1 :], tail)
                return
            self.core.statement(statement)
        if tail is not None:
            tail()

    def _split(
        self,
        node: syntax.If | syntax.Repeat | syntax.For,
        rest: Sequence[syntax.Statement],
        tail: Tail | None,
    ) -> None:
        """Build a statement that may return, and the rest for the case that it does not."""
        if isinstance(node, syntax.If):
            otherwise = node.otherwise.statements if node.otherwise is not None else ()
            if _ends(node.then.statements) or not (rest or tail):
                self._if_final(node, node.then.statements, (*otherwise, *rest), None, tail)
                return
            if _ends(otherwise):
                self._if_final(node, (*node.then.statements, *rest), otherwise, tail, None)
                return
        self.core.statement(node)
        if rest or tail:
            self.unless_returned(lambda: self.sequence(rest, tail), node)

    def unless_returned(self, build: Callable[[], None], node: syntax.Node) -> None:
        """Build what follows, for the case that no `return` was met; nothing follows it."""
        returned = self.core.scope.read(self.returned)
        self.core.branch(returned, lambda: None, build, node, is_final=True)

    def _if_final(
        self,
        node: syntax.If,
        then: Sequence[syntax.Statement],
        otherwise: Sequence[syntax.Statement],
        then_tail: Tail | None,
        otherwise_tail: Tail | None,
    ) -> None:
        self.core.branch(
            self.core.plain(node.condition),
            lambda: self.sequence(then, then_tail),
            lambda: self.sequence(otherwise, otherwise_tail),
            node,
            is_final=True,
        )

    def _if(self, node: syntax.If) -> None:
        otherwise = node.otherwise.statements if node.otherwise is not None else ()
        self.core.branch(
            self.core.plain(node.condition),
            lambda: self.sequence(node.then.statements),
            lambda: self.sequence(otherwise),
            node,
        )

    def _return(self, node: syntax.Return) -> None:
        if types.contains_agent(self.result):
            raise unsupported(node, "a workflow that returns agents")
        self.core.scope.write(self.result_cell, self.expressions.typed(node.value, self.result))
        if not self.core.scope.ends_program():
            self.core.scope.write(self.returned, self.core.boolean(True, node))

    def _let(self, node: syntax.Let) -> None:
        local = self.checked.variables[node]
        value = self.expressions.typed_value(node.value, local.type)
        if isinstance(value, SSAValue):
            name(value, local.name)
        elif isinstance(value, AgentRef) and isinstance(node.value, syntax.Call):
            name(value.agent, local.name)
        self.core.bindings[local] = value

    def _var(self, node: syntax.Var) -> None:
        local = self.checked.variables[node]
        value = self.expressions.typed_value(node.value, local.type)
        if not isinstance(value, SSAValue):
            raise unsupported(node, "a `var` that holds agents")
        self._require_known(local, node)
        cell = Cell(local.name, ir_type(local.type))
        if value.name_hint is None:
            name(value, local.name)
        self.core.scope.declare(cell, value)
        self.core.bindings[local] = cell

    def _require_known(self, local: Local, node: syntax.Node) -> None:
        if isinstance(local.type, types.NoneType):
            raise unsupported(node, "a `var` that starts as `none`")

    def _assign(self, node: syntax.Assign) -> None:
        local = self.checked.names[node.name]
        assert isinstance(local, Local)
        cell = self.core.bindings[local]
        assert isinstance(cell, Cell)
        value = self.expressions.typed(node.value, local.type)
        if value.name_hint is None:
            name(value, local.name)
        self.core.scope.write(cell, value)

    def _assert(self, node: syntax.Assert) -> None:
        """Build a check; a message that must be computed is computed only where it fails."""
        condition = self.core.plain(node.condition)
        message = node.message
        if message is None:
            text = self.core.text("assertion failed", node)
        elif isinstance(message, syntax.Text) and message.constant is not None:
            text = self.core.plain(message)
        else:
            self.core.branch(condition, lambda: None, lambda: self._fail_with(message, node), node)
            return
        op = AssertOp.build(operands=[condition, text], properties={"place": self.core.place(node)})
        self.core.emit(op, node)

    def _fail(self, node: syntax.Fail) -> None:
        self._fail_with(node.message, node)

    def _fail_with(self, message: syntax.Expr, node: syntax.Statement) -> None:
        operands = [self.core.plain(message)]
        op = FailOp.build(operands=operands, properties={"place": self.core.place(node)})
        self.core.emit(op, node)

    def _unsupported(self, what: str) -> Any:
        def refuse(node: syntax.Statement) -> None:
            raise unsupported(node, what)

        return refuse


def _ends(statements: Sequence[syntax.Statement]) -> bool:
    """Whether control never passes the end of these statements."""
    if not statements:
        return False
    last = statements[-1]
    if isinstance(last, syntax.If):
        otherwise = () if last.otherwise is None else last.otherwise.statements
        return _ends(last.then.statements) and _ends(otherwise)
    return isinstance(last, syntax.Return | syntax.Fail)
