from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.backends.pim.controller.hotness import Hotness
from tokenloom.backends.pim.controller.kv_shape import BlockId

BLOCK, OTHER = BlockId(0, 0, 1), BlockId(0, 0, 2)


@given(st.floats(0, 0.9), st.floats(0.1, 100))
def test_a_steady_rate_is_found(decay: float, reads: float) -> None:
    hotness = Hotness(decay)
    for _ in range(200):
        hotness.observe({BLOCK: reads})
    assert hotness.rate(BLOCK) == pytest.approx(reads)
    assert hotness.expected_reads(BLOCK, 7) == pytest.approx(7 * reads)
    assert hotness.reuse_probability(BLOCK) == pytest.approx(1 - exp(-reads))


def test_what_is_not_read_cools_and_is_forgotten() -> None:
    hotness = Hotness(0.5)
    hotness.observe({BLOCK: 4, OTHER: 1})
    rates: list[float] = []
    for _ in range(3):
        hotness.observe({OTHER: 1})
        rates.append(hotness.rate(BLOCK))
    assert rates == [1, 0.5, 0.25]
    for _ in range(30):
        hotness.observe({})
    assert not hotness.blocks


def test_a_finished_request_is_expected_back_by_its_half_life() -> None:
    hotness = Hotness(0)
    hotness.observe({BLOCK: 8, OTHER: 8})
    hotness.finish([BLOCK], 1)
    assert hotness.expected_reads(BLOCK, 1) == 4
    assert hotness.expected_reads(BLOCK, 3) == 4 + 2 + 1
    assert hotness.expected_reads(OTHER, 3) == 24
    hotness.observe({BLOCK: 8})
    assert hotness.expected_reads(BLOCK, 3) == 24


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        Hotness(1)
    with pytest.raises(ValueError, match="half_life_windows must be positive"):
        Hotness(0.5).finish([BLOCK], 0)
