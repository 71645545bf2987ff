"""What an operator of two known values gives; None where it is not known, or would fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenloom.compiler.analysis.estimates import Constant
from tokenloom.ir.values import Binary, Unary

_BINARY: Mapping[Binary, Callable[[Any, Any], Constant]] = {
    Binary.ADD: lambda a, b: a + b,
    Binary.SUB: lambda a, b: a - b,
    Binary.MUL: lambda a, b: a * b,
    Binary.DIV: lambda a, b: a / b,
    Binary.FLOORDIV: lambda a, b: a // b,
    Binary.MOD: lambda a, b: a % b,
    Binary.EQ: lambda a, b: a == b,
    Binary.NE: lambda a, b: a != b,
    Binary.LT: lambda a, b: a < b,
    Binary.LE: lambda a, b: a <= b,
    Binary.GT: lambda a, b: a > b,
    Binary.GE: lambda a, b: a >= b,
}
_DIVISIONS = (Binary.DIV, Binary.FLOORDIV, Binary.MOD)


def binary(kind: Binary, left: Constant | None, right: Constant | None) -> Constant | None:
    """Return the result of a binary operator, if both sides are known and of one kind."""
    if left is None or right is None or kind not in _BINARY:
        return None
    if isinstance(left, str) != isinstance(right, str) or (kind in _DIVISIONS and not right):
        return None
    if isinstance(left, str) and kind in (Binary.SUB, Binary.MUL, *_DIVISIONS):
        return None
    return _BINARY[kind](left, right)


def unary(kind: Unary, value: Constant | None) -> Constant | None:
    """Return the result of a unary operator."""
    if value is None or isinstance(value, str):
        return None
    return not value if kind is Unary.NOT else -value
