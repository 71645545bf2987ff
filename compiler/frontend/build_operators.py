"""Operators: arithmetic, comparison, `in`. `and`, `or` are branches: they short-circuit."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import i1
from xdsl.ir import SSAValue

from tokenloom.compiler.diagnostics import unsupported
from tokenloom.compiler.frontend import syntax, types
from tokenloom.compiler.frontend.build_core import AgentList, Core, Value
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_types import ir_type
from tokenloom.ir.values import Binary, BinaryOp, ConcatOp, Unary, UnaryOp

_ARITHMETIC = {
    "+": Binary.ADD,
    "-": Binary.SUB,
    "*": Binary.MUL,
    "/": Binary.DIV,
    "//": Binary.FLOORDIV,
    "%": Binary.MOD,
}
_COMPARISON = {
    "==": Binary.EQ,
    "!=": Binary.NE,
    "<": Binary.LT,
    "<=": Binary.LE,
    ">": Binary.GT,
    ">=": Binary.GE,
    "in": Binary.IN,
    "not in": Binary.IN,
}


class Operators:
    """Builds unary, binary and comparison expressions."""

    def __init__(self, core: Core, expressions: Expressions) -> None:
        self.core = core
        self.checked = core.checked
        self.expressions = expressions
        core.forms |= {
            syntax.Unary: self._unary,
            syntax.Binary: self._binary,
            syntax.Comparison: self._comparison,
        }

    def _unary(self, node: syntax.Unary) -> SSAValue:
        value = self.core.plain(node.operand)
        if node.operator == "+":
            return value
        operator = Unary.NOT if node.operator == "not" else Unary.NEG
        return self.core.emit(UnaryOp(operator, value, value.type), node).result

    def _binary(self, node: syntax.Binary) -> Value:
        if node.operator in ("and", "or"):
            return self._logical(node)
        left, right = self.core.value(node.left), self.core.value(node.right)
        if isinstance(left, AgentList) and isinstance(right, AgentList):
            return AgentList(left.items + right.items)
        if not isinstance(left, SSAValue) or not isinstance(right, SSAValue):
            raise unsupported(node, "this operator on agents made at run time")
        kind = self.checked.types[node]
        if types.is_textual(kind):
            return self.core.emit(ConcatOp([left, right]), node).result
        if isinstance(kind, types.ListType):
            coerce, known = self.expressions.coerce, self.checked.types
            left = coerce(left, known[node.left], kind, node.left)
            right = coerce(right, known[node.right], kind, node.right)
        operator = _ARITHMETIC[node.operator]
        return self.core.emit(BinaryOp(operator, left, right, ir_type(kind)), node).result

    def _logical(self, node: syntax.Binary) -> SSAValue:
        left = self.core.plain(node.left)
        right: Callable[[], SSAValue] = lambda: self.core.plain(node.right)  # noqa: E731
        if node.operator == "and":
            return self.both(left, right, node)
        return self.core.choose(left, lambda: self.core.boolean(True, node), right, i1, node)

    def both(self, left: SSAValue, right: Callable[[], SSAValue], node: syntax.Node) -> SSAValue:
        """Build `left and right`."""
        return self.core.choose(left, right, lambda: self.core.boolean(False, node), i1, node)

    def _comparison(self, node: syntax.Comparison) -> SSAValue:
        return self._chain(node, 0, self.core.plain(node.operands[0]))

    def _chain(self, node: syntax.Comparison, index: int, left: SSAValue) -> SSAValue:
        right = self.core.plain(node.operands[index + 1])
        operator = node.operators[index]
        result = self.core.emit(BinaryOp(_COMPARISON[operator], left, right, i1), node).result
        if operator == "not in":
            result = self.core.emit(UnaryOp(Unary.NOT, result, i1), node).result
        if index + 1 == len(node.operators):
            return result
        return self.both(result, lambda: self._chain(node, index + 1, right), node)
