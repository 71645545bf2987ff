from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.pim.controller.merge import PartialAttention, merge, merge_all

Floats = NDArray[Any]
QUERIES, DIMS = 3, 8


def part(scores: Floats, values: Floats) -> PartialAttention:
    """Attention of scores [queries, tokens] over values [tokens, dims], in float32."""
    if not scores.shape[1]:
        return PartialAttention.empty((len(scores),), values.shape[1])
    maximum = scores.max(1)
    weights = np.exp(scores - maximum[:, None])
    return PartialAttention(maximum, weights.sum(1), weights @ values)


def whole(scores: Floats, values: Floats) -> Floats:
    scores = scores.astype(np.float64)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights @ values / weights.sum(1, keepdims=True)


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.lists(st.integers(0, 300), max_size=5),
    st.sampled_from([0.1, 3.0, 80.0]),
)
def test_any_split_gives_the_attention_of_the_whole(
    seed: int, tokens: int, cuts: list[int], spread: float
) -> None:
    random = np.random.default_rng(seed)
    scores = (random.standard_normal((QUERIES, tokens)) * spread).astype(np.float32)
    values = random.standard_normal((tokens, DIMS)).astype(np.float32)
    edges = [0, *sorted(min(cut, tokens) for cut in cuts), tokens]
    parts = [part(scores[:, start:stop], values[start:stop]) for start, stop in pairwise(edges)]
    random.shuffle(parts)
    got = merge_all(parts).normalized()
    assert got.dtype == np.float32
    assert np.abs(got - whole(scores, values)).max() <= 4e-6 * np.abs(values).max()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 3.0, 80.0]))
def test_merging_is_associative_and_commutative_to_rounding(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    a, b, c = (
        part(
            (random.standard_normal((QUERIES, n)) * spread).astype(np.float32),
            random.standard_normal((n, DIMS)).astype(np.float32),
        )
        for n in random.integers(1, 40, 3)
    )
    left, right, turned = merge(merge(a, b), c), merge(a, merge(b, c)), merge(c, merge(b, a))
    for other in (right, turned):
        assert np.array_equal(left.maximum, other.maximum)
        assert np.allclose(left.total, other.total, rtol=2e-6, atol=0)
        assert np.abs(left.normalized() - other.normalized()).max() <= 4e-6


def test_a_part_without_tokens_changes_nothing() -> None:
    random = np.random.default_rng(1)
    full = part(random.standard_normal((QUERIES, 5)).astype(np.float32), np.ones((5, DIMS), "f4"))
    empty = PartialAttention.empty((QUERIES,), DIMS)
    for merged in (merge(full, empty), merge(empty, full)):
        assert np.array_equal(merged.maximum, full.maximum)
        assert np.array_equal(merged.total, full.total)
        assert np.array_equal(merged.output, full.output)


def test_attention_over_no_tokens_has_no_value() -> None:
    empty = PartialAttention.empty((QUERIES,), DIMS)
    with pytest.raises(ValueError, match="no tokens"):
        merge(empty, empty).normalized()


def test_a_normalized_part_is_taken_back_to_its_sum() -> None:
    random = np.random.default_rng(2)
    one = part(random.standard_normal((QUERIES, 5)).astype(np.float32), np.ones((5, DIMS), "f4"))
    again = PartialAttention.of_normalized(one.maximum, one.total, one.normalized())
    assert np.allclose(again.output, one.output, rtol=1e-6)
