from __future__ import annotations

from tokenloom.bench.pim_speed import BAR, speeds, table


def test_compiled_kernels_compute_the_interpreted_values_far_quicker():
    """A fifth of the bar, which holds on a quiet machine: `tokenloom bench pim` shows it."""
    for speed in speeds(repeats=1):
        assert speed.differ == 0
        assert speed.ratio > BAR / 5


def test_the_table_states_its_bar():
    assert table(quick=True).remarks == ["Bar: at least 50 times; no value differs."]
