"""What an operator of two known values gives; None where it is not known, or would fail."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from tokenloom.ir.values import Binary, Unary

Constant = bool | int | float | str

_BINARY: Mapping[Binary, Callable[[Any, Any], Constant]] = {
    Binary.ADD: operator.add,
    Binary.SUB: operator.sub,
    Binary.MUL: operator.mul,
    Binary.DIV: operator.truediv,
    Binary.FLOORDIV: operator.floordiv,
    Binary.MOD: operator.mod,
    Binary.EQ: operator.eq,
    Binary.NE: operator.ne,
    Binary.LT: operator.lt,
    Binary.LE: operator.le,
    Binary.GT: operator.gt,
    Binary.GE: operator.ge,
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
