from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import BankArrays, RowRange
from tokenloom.backends.pim.geometry import StackGeometry, interleaved_map
from tokenloom.backends.pim.stack import PimStack

SMALL = StackGeometry((1, 2, 1, 1, 2, 2, 8, 4), 1, 32, 16)


def test_what_is_written_at_a_place_is_read_there(stack: PimStack) -> None:
    banks = BankArrays(StackGeometry.of(stack))
    place, _ = interleaved_map(banks.geometry).decode(np.arange(64, 64 + 320, 32))
    data = np.arange(320, dtype=np.int32).astype(np.uint8).reshape(10, 32)
    banks.write_columns(place, data)
    assert np.array_equal(banks.read_columns(place), data)
    assert np.count_nonzero(banks.lanes.view(np.uint8)) == np.count_nonzero(data)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=40))
def test_rows_are_never_handed_out_twice(steps: list[tuple[bool, int]]) -> None:
    banks = BankArrays(SMALL)
    held: list[RowRange] = []
    for take, size in steps:
        if take:
            try:
                rows = banks.allocate(size)
            except DeviceError:
                continue
            assert rows.stop - rows.start == size
            assert not banks.lanes[rows.start : rows.stop].any()
            banks.lanes[rows.start : rows.stop] = 1
            held.append(rows)
        elif held:
            banks.free(held.pop(size % len(held)))
    used = [row for rows in held for row in range(rows.start, rows.stop)]
    assert len(used) == len(set(used))
    for rows in held:
        banks.free(rows)
    assert banks.allocate(8) == RowRange(0, 8)


def test_too_many_rows_are_refused_with_the_longest_run() -> None:
    banks = BankArrays(SMALL)
    rows = [banks.allocate(2) for _ in range(4)]
    banks.free(rows[0])
    banks.free(rows[2])
    with pytest.raises(DeviceError, match="3 rows asked in all banks, the longest free run has 2"):
        banks.allocate(3)
