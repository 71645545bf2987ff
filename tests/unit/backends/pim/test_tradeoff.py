from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.backends.pim.controller.tradeoff import (
    Step,
    dedicated_time,
    heterogeneous_time,
    speedup,
)

SHARES = st.floats(0.05, 0.95)
BYTES = st.floats(0.01, 100)


@pytest.mark.parametrize(
    ("kv", "layers", "hits", "wanted"),
    [
        (0.5, 0.25, 1.0, 1.73),
        (1, 0.25, 1.0, 1.54),
        (2, 0.25, 1.0, 1.29),
        (4, 0.25, 1.0, 1.04),
        (1, 0.25, 0.9, 1.48),
        (1, 0.5, 1.0, 1.82),
        (1, 0.5, 0.9, 1.71),
    ],
)
def test_half_dedicated_stacks_against_layers(
    kv: float, layers: float, hits: float, wanted: float
) -> None:
    assert speedup(Step(1, kv), 0.5, 9, layers, hits) == pytest.approx(wanted, abs=0.005)


@given(BYTES, st.floats(1.01, 4), st.floats(0, 1))
def test_the_gain_falls_as_kv_grows(kv: float, factor: float, hits: float) -> None:
    less = speedup(Step(1, kv), 0.5, 9, 0.25, hits)
    assert speedup(Step(1, kv * factor), 0.5, 9, 0.25, hits) < less


@given(BYTES, SHARES, st.floats(0, 0.9), st.floats(0.01, 0.1))
def test_the_gain_rises_with_hits(kv: float, layers: float, hits: float, more: float) -> None:
    low, high = (speedup(Step(1, kv), 0.5, 21, layers, h) for h in (hits, hits + more))
    assert high > low


@given(SHARES, st.floats(2, 20))
def test_without_kv_only_the_lost_bandwidth_counts(share: float, gain: float) -> None:
    assert speedup(Step(1, 0), share, gain, 0.5) == pytest.approx(1 / (1 - share))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_shares_that_leave_one_kind_without_stacks_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="pim_share must lie between 0 and 1"):
        dedicated_time(Step(1, 1), share, 9)


def test_layers_and_hits_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="pim_layers must lie in"):
        heterogeneous_time(Step(1, 1), 0, 9)
    with pytest.raises(ValueError, match="hits must lie in"):
        heterogeneous_time(Step(1, 1), 1, 9, 1.5)
