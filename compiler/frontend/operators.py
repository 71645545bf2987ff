"""Precedence of operators: from a flat row of operands and operators to a tree.

From loose to tight: `or`, `and`, `not`, comparisons (chained as in Python), `+ -`,
`* / // %`, unary `+ -`.
"""

from __future__ import annotations

from tokenloom.compiler.frontend.scan import Token
from tokenloom.compiler.frontend.syntax import Binary, Comparison, Expr, Unary

_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "not in"))
_BINARY = {"or": 1, "and": 2, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6}
_NOT, _COMPARISON, _SIGN = 3, 4, 7


class _Row:
    def __init__(self, items: list[Expr | Token]) -> None:
        self.items = items
        self.at = 0

    def operator(self) -> str:
        """Return the operator at this place, empty at the end."""
        if self.at >= len(self.items):
            return ""
        item = self.items[self.at]
        if not isinstance(item, Token):
            return ""
        following = self.items[self.at + 1]
        negated = item.type == "NOT" and isinstance(following, Token) and following.type == "IN"
        return "not in" if negated else item.value

    def take(self) -> Expr | Token:
        """Return the item at this place and step over it."""
        item = self.items[self.at]
        self.at += 1
        return item


def build_tree(items: list[Expr | Token]) -> Expr:
    """Return the tree of a row as the grammar admits it."""
    return _binary(_Row(items), 1)


def _binary(row: _Row, loosest: int) -> Expr:
    left = _prefixed(row)
    while operator := row.operator():
        if operator in _COMPARISONS:
            if loosest > _COMPARISON:
                break
            left = _comparison(row, left)
            continue
        precedence = _BINARY[operator]
        if precedence < loosest:
            break
        row.take()
        right = _binary(row, precedence + 1)
        left = Binary(left.span.to(right.span), operator, left, right)
    return left


def _comparison(row: _Row, first: Expr) -> Expr:
    operands, operators = [first], list[str]()
    while (operator := row.operator()) in _COMPARISONS:
        row.at += 2 if operator == "not in" else 1
        operators.append(operator)
        operands.append(_binary(row, _COMPARISON + 1))
    return Comparison(first.span.to(operands[-1].span), tuple(operands), tuple(operators))


def _prefixed(row: _Row) -> Expr:
    item = row.take()
    if not isinstance(item, Token):
        return item
    operand = _binary(row, _NOT if item.type == "NOT" else _SIGN)
    return Unary(item.span.to(operand.span), item.value, operand)
