# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false
"""Expressions on 16 float32 lanes, for use inside TIR functions.

Products that are added use one explicit fused multiply-add, so that the compiler has nothing to
contract and equal expressions give equal bits wherever they stand. It knows no operation.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

Expr = Any

LANES = 16
NEGATIVE = -3.0e38
"""Stands for minus infinity where a difference of two of them must not be NaN."""

_LOG2_E = 1.44269504088896341
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.12194440e-4
_EXP_MIN = -87.33
_EXP_COEFFICIENTS = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
"""Cephes `expf` (S. Moshier): reduction by ln 2 in two parts and a degree 5 polynomial."""


def lanes(start: Expr) -> Expr:
    """Return the index of the 16 elements from `start`."""
    return T.ramp(start, 1, LANES)


def spread(value: Expr) -> Expr:
    """Return 16 lanes of `value`."""
    return T.broadcast(value, LANES)


def constant(value: float) -> Expr:
    """Return 16 lanes of the float32 `value`."""
    return T.broadcast(T.float32(value), LANES)


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """Return a * b + c, rounded once, on 16 lanes."""
    return _intrinsic("llvm.fma", "float32x16", a, b, c)


def fma_scalar(a: Expr, b: Expr, c: Expr) -> Expr:
    """Return a * b + c, rounded once, on scalars."""
    return _intrinsic("llvm.fma", "float32", a, b, c)


def lane_max(a: Expr) -> Expr:
    """Return the largest of 16 lanes."""
    return _intrinsic("llvm.vector.reduce.fmax", "float32", a)


def exp(x: Expr) -> Expr:
    """Return e to the power of each lane, about 1 ulp, for x up to 88; below -87 about 1e-38."""
    x = T.max(x, constant(_EXP_MIN))
    power = _intrinsic("llvm.floor", "float32x16", fma(x, constant(_LOG2_E), constant(0.5)))
    rest = fma(power, constant(-_LN2_HIGH), x)
    rest = fma(power, constant(-_LN2_LOW), rest)
    result = constant(_EXP_COEFFICIENTS[0])
    for coefficient in _EXP_COEFFICIENTS[1:]:
        result = fma(result, rest, constant(coefficient))
    result = fma(result, rest * rest, rest + constant(1.0))
    exponent = (T.Cast("int32x16", power) + T.broadcast(T.int32(127), LANES)) << T.broadcast(
        T.int32(23), LANES
    )
    return result * T.reinterpret("float32x16", exponent)


def _intrinsic(name: str, dtype: str, *arguments: Expr) -> Expr:
    return T.call_llvm_pure_intrin(dtype, T.llvm_lookup_intrinsic_id(name), *arguments)
