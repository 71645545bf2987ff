"""Exact merge of attention over parts of a sequence (online softmax).

Each part keeps its largest score, the sum of its weights relative to that score, and the weighted
sum of its values. Parts merge in any order to what the whole sequence gives, up to float32
rounding. It knows nothing of where a part was computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]


@dataclass(frozen=True)
class PartialAttention:
    """Attention of queries [...] over some tokens, in float32.

    `maximum` [...] is the largest score, `total` [...] the sum of exp(score - maximum), `output`
    [..., dims] the sum of exp(score - maximum) * value, not divided by the total.
    """

    maximum: Single
    total: Single
    output: Single

    @classmethod
    def empty(cls, queries: tuple[int, ...], dims: int) -> PartialAttention:
        """Return attention over no token: merging it changes nothing."""
        return cls(
            np.full(queries, -np.inf, np.float32),
            np.zeros(queries, np.float32),
            np.zeros((*queries, dims), np.float32),
        )

    @classmethod
    def of_normalized(cls, maximum: Single, total: Single, output: Single) -> PartialAttention:
        """Take a part whose output was divided by its total already."""
        return cls(maximum, total, output * total[..., None])

    def normalized(self) -> Single:
        """Return the output over the total. ValueError: a query saw no token."""
        if not self.total.all():
            raise ValueError("attention over no tokens has no value")
        return self.output / self.total[..., None]


def merge(first: PartialAttention, second: PartialAttention) -> PartialAttention:
    """Return attention over the tokens of both parts."""
    maximum: Single = np.maximum(first.maximum, second.maximum)
    one, other = (_weight(part.maximum, maximum) for part in (first, second))
    total: Single = np.add(first.total * one, second.total * other, dtype=np.float32)
    output: Single = np.add(
        first.output * one[..., None], second.output * other[..., None], dtype=np.float32
    )
    return PartialAttention(maximum, total, output)


def merge_all(parts: Iterable[PartialAttention]) -> PartialAttention:
    """Return attention over the tokens of all parts, merged in order; at least one."""
    return reduce(merge, parts)


def _weight(part: Single, whole: Single) -> Single:
    """Return exp(part - whole); 1 where neither part has tokens, whose sums are 0 anyway."""
    shift = np.subtract(part, whole, out=np.zeros_like(part), where=whole > -np.inf)
    return np.exp(shift)
