from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.geometry import (
    LEVELS,
    AddressMap,
    StackGeometry,
    interleaved_map,
    tile_local_map,
)

SIZES = st.tuples(*[st.integers(1, 4) for _ in LEVELS[:-1]], st.sampled_from([1, 2, 3, 4, 8, 32]))
GEOMETRIES = SIZES.map(lambda sizes: StackGeometry(sizes, sizes[3], 32, 16))
MAPS = [interleaved_map, tile_local_map]


def attacc() -> StackGeometry:
    stack = load_machine("attacc-hbm3").pim
    assert stack is not None
    return StackGeometry.of(stack)


@pytest.mark.parametrize("make", MAPS)
@settings(deadline=None)
@given(geometry=GEOMETRIES)
def test_every_column_has_one_address_and_every_address_one_column(
    make: Callable[[StackGeometry], AddressMap], geometry: StackGeometry
) -> None:
    mapping = make(geometry)
    addresses = np.arange(0, geometry.capacity_bytes, 32)
    place, byte = mapping.decode(addresses)
    assert not byte.any()
    assert np.array_equal(mapping.encode(place), addresses)
    for level, values in zip(LEVELS, place, strict=True):
        assert values.min() >= 0
        assert values.max() < geometry.size(level)
    assert len({*zip(*(level.tolist() for level in place), strict=True)}) == len(addresses)


@pytest.mark.parametrize("make", MAPS)
@settings(deadline=None)
@given(data=st.data())
def test_addresses_of_a_large_stack_come_back(
    make: Callable[[StackGeometry], AddressMap], data: st.DataObject
) -> None:
    geometry = attacc()
    mapping = make(geometry)
    address = np.array([data.draw(st.integers(0, geometry.capacity_bytes - 1))])
    place, byte = mapping.decode(address)
    assert np.array_equal(mapping.encode(place) + byte, address)


def test_neighbours_spread_over_channels_or_stay_in_a_row() -> None:
    geometry = attacc()
    first_kilobyte = np.arange(0, 1024, 32)
    spread, _ = interleaved_map(geometry).decode(first_kilobyte)
    assert spread.channel.tolist() == [index // 4 for index in range(32)]
    local, _ = tile_local_map(geometry).decode(first_kilobyte)
    assert local.column.tolist() == list(range(32))
    assert not local.channel.any()
    assert not local.row.any()


def test_a_row_of_all_banks_is_a_range_of_interleaved_addresses() -> None:
    geometry = attacc()
    place, _ = interleaved_map(geometry).decode(
        np.array([0, geometry.row_bytes - 1, geometry.row_bytes])
    )
    assert place.row.tolist() == [0, 0, 1]


def test_sizes_of_attacc() -> None:
    geometry = attacc()
    assert geometry.capacity_bytes == 5 * 16 << 30
    assert (geometry.channels, geometry.slots) == (80, 16)
