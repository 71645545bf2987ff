"""The values of number tokens: within what the runtime can hold, exact where it matters."""

from __future__ import annotations

import math
from fractions import Fraction

from tokenloom.compiler.diagnostics import CompileError
from tokenloom.compiler.frontend.scan import Token

MAX_INT = 2**63 - 1
_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9}


def int_value(token: Token) -> int:
    """Return the value of an integer; raises `CompileError` beyond 64 bits."""
    if len(token.value) > 4000 or (value := int(token.value)) > MAX_INT:
        raise CompileError("this integer does not fit into 64 bits", token.span)
    return value


def float_value(token: Token) -> float:
    """Return the value of a float or a percentage; raises `CompileError` for infinity."""
    value = float(token.value.rstrip("%"))
    if math.isinf(value):
        raise CompileError("this number is too large for a float", token.span)
    return value


def duration_ns(token: Token) -> int:
    """Return a duration in nanoseconds, rounded to the nearest."""
    unit = token.value.lstrip("0123456789.")
    number = token.value[: -len(unit)]
    if len(number) > 4000 or (value := round(Fraction(number) * _NS[unit])) > MAX_INT:
        raise CompileError("this duration is longer than 292 years", token.span)
    return value
