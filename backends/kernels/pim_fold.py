# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false
"""Adder trees of 16 units at once on a processor with 16 lanes.

The tree of a unit adds its lanes in halves: l to l + 8, then l + 4, l + 2, l + 1. Two units share a
vector after the first step, four after the next, so each step halves the number of vectors. The
order of additions within a unit is that of its tree. It knows no operation.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.vector import LANES

Expr = Any
WIDTHS = (8, 4, 2, 1)


def halves(width: int) -> tuple[list[int], list[int]]:
    """Return the lanes of two vectors that are added at a step: lower halves and upper halves.

    Lanes of the second vector are counted from 16. A vector holds groups of `2 * width` lanes, a
    group for a unit; of 8 lanes and more the groups of the first vector come first, of fewer they
    alternate within 4 lanes, as processors shuffle cheaply.
    """
    group = 2 * width
    block = LANES if group > 4 else 4
    lower: list[int] = []
    for start in range(0, LANES, block):
        for vector in (0, LANES):
            for first in range(start, start + block, group):
                lower += range(vector + first, vector + first + width)
    return lower, [lane + width for lane in lower]


def order_of_units() -> list[int]:
    """Return which unit's products vector `n` must hold so that unit `l` ends up in lane `l`."""
    vectors = [[unit] * LANES for unit in range(LANES)]
    for width in WIDTHS:
        lower, _ = halves(width)
        half = len(vectors) // 2
        vectors = [[(vectors[n] + vectors[n + half])[lane] for lane in lower] for n in range(half)]
    order = [0] * LANES
    for lane, vector in enumerate(vectors[0]):
        order[vector] = lane
    return order


def rounded(value: Expr) -> Expr:
    """Return 16 float32 lanes rounded to FP16."""
    return T.Cast("float32x16", T.Cast("float16x16", value))


def folded(first: Expr, second: Expr, width: int) -> Expr:
    """Return one step of the trees in two vectors of float32, rounded to FP16."""
    lower, upper = halves(width)
    both = [first, second]
    return rounded(T.Shuffle(both, lower) + T.Shuffle(both, upper))
