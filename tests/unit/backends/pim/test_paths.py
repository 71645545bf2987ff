from __future__ import annotations

import pytest

from tokenloom.backends.pim.paths import (
    array_pj_per_byte,
    bus_bytes_per_s,
    one_stack,
    units_pj_per_byte,
)

from .heterogeneous import small_hbm4, small_stack


@pytest.mark.parametrize(
    ("end", "wanted"), [("bank", 4.4), ("bank-group", 12.48), ("buffer", 26.32)]
)
def test_a_byte_costs_more_the_further_its_reader_sits(end: str, wanted: float) -> None:
    energy = small_stack().energy
    assert array_pj_per_byte(energy, end) == pytest.approx(wanted)
    assert array_pj_per_byte(energy, "processor") == pytest.approx(28.72)
    rest = units_pj_per_byte(energy, end)
    assert array_pj_per_byte(energy, end) + rest == pytest.approx(26.32)


def test_the_bus_is_crossed_twice_and_shared_by_stacks() -> None:
    stack = small_hbm4(channels=32)
    assert bus_bytes_per_s(stack) == pytest.approx(2.048e12)
    assert one_stack(stack) == stack
