from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.backends.device import DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.geometry import (
    LEVELS,
    AddressMap,
    StackGeometry,
    interleaved_map,
    tile_local_map,
)
from tokenloom.backends.pim.stack import PimStack

SIZES = st.tuples(*[st.integers(1, 4) for _ in LEVELS[:-1]], st.sampled_from([1, 2, 3, 4, 8, 32]))
GEOMETRIES = SIZES.map(lambda sizes: StackGeometry(sizes, sizes[3], 32, 16))
MAPS = [interleaved_map, tile_local_map]
POWERS = st.tuples(
    *[st.integers(1, 3) for _ in LEVELS[:4]],
    *[st.sampled_from([1, 2, 4, 8]) for _ in ("bank_group", "bank")],
    st.integers(1, 40),
    st.sampled_from([1, 3, 4, 8]),
)
KINDS = [
    ("hbm4-het-1of4", 1, 8192, 3, 16384),
    ("hbm4-het-2of4", 2, 8192, 2, 16384),
]


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


def het(part: Callable[[PimStack], StackGeometry]) -> StackGeometry:
    stack = load_machine("hbm4-het-1of4").pim
    assert stack is not None
    return part(replace(stack, stacks=2, channels=2, rows=8, pim_rows=4))


@settings(deadline=None, max_examples=50)
@given(sizes=POWERS)
def test_rows_spread_over_banks_are_a_bijection_too(sizes: tuple[int, ...]) -> None:
    geometry = StackGeometry(sizes, sizes[3], 32, 16)
    mapping = interleaved_map(geometry, spread_rows=True)
    addresses = np.arange(0, geometry.capacity_bytes, 32)
    place, byte = mapping.decode(addresses)
    assert not byte.any()
    assert np.array_equal(mapping.encode(place), addresses)
    assert len({*zip(*(level.tolist() for level in place), strict=True)}) == len(addresses)
    for level, values in zip(LEVELS, place, strict=True):
        assert values.max() < geometry.size(level)
    # A row index stays a range of addresses, whatever banks its parts are in.
    assert np.array_equal(place.row, addresses // geometry.row_bytes)


def test_rows_that_follow_each_other_fall_on_other_banks() -> None:
    geometry = het(StackGeometry.dense)
    plain, spread = (interleaved_map(geometry, spread_rows=spread) for spread in (False, True))
    addresses = np.arange(8) * geometry.row_bytes
    assert plain.decode(addresses)[0].bank.tolist() == [0] * 8
    assert spread.decode(addresses)[0].bank.tolist() == list(range(8))
    tall = interleaved_map(replace(geometry, sizes=(*geometry.sizes[:6], 32, 32)), spread_rows=True)
    groups = tall.decode(np.arange(0, 32, 8) * tall.geometry.row_bytes)[0].bank_group
    assert groups.tolist() == [0, 1, 0, 1]


def test_rows_spread_over_an_odd_number_of_banks_are_refused() -> None:
    geometry = StackGeometry((1, 1, 1, 1, 2, 3, 4, 4), 1, 32, 16)
    with pytest.raises(DeviceError, match="bank has 3 values; XOR with the row needs a power"):
        interleaved_map(geometry, spread_rows=True)


def test_hbm4_addresses_are_split_as_in_the_notes() -> None:
    # Most significant first: row, bank, SID, column (high), bank group, pseudo channel, channel,
    # two bits of column, five of byte.
    stack = load_machine("hbm4-dense").pim
    assert stack is not None
    mapping = interleaved_map(StackGeometry.dense(replace(stack, stacks=1)))
    bits = {"column": 5, "channel": 7, "pseudo_channel": 12, "bank_group": 13, "sid": 17}
    bits |= {"bank": 19, "row": 22}
    for level, bit in bits.items():
        place, _ = mapping.decode(np.array([1 << bit]))
        moved = {name: int(value[0]) for name, value in zip(LEVELS, place, strict=True)}
        assert {name for name, value in moved.items() if value} == {level}
        assert moved[level] == 1
    place, _ = mapping.decode(np.array([1 << 14]))
    assert int(place.column[0]) == 4


@pytest.mark.parametrize(("name", "sids", "pim_rows", "dense_sids", "rows"), KINDS)
def test_computing_and_dense_sids_are_geometries_of_their_own(
    name: str, sids: int, pim_rows: int, dense_sids: int, rows: int
) -> None:
    stack = load_machine(name).pim
    assert stack is not None
    computing, dense = StackGeometry.computing(stack), StackGeometry.dense(stack)
    assert (computing.size("sid"), computing.size("row"), computing.pim_sids) == (
        sids,
        pim_rows,
        sids,
    )
    assert (dense.size("sid"), dense.size("row"), dense.pim_sids) == (dense_sids, rows, 0)
    assert computing.capacity_bytes == stack.pim_bytes
    assert dense.capacity_bytes == stack.dense_bytes
    assert computing.slots == 2 * sids * 2
    assert dense.slots == 0
    assert StackGeometry.of(stack) == computing


@pytest.mark.parametrize(
    ("name", "part", "reason"),
    [
        ("hbm4-dense", StackGeometry.computing, "none of the 4 SIDs of the stack is computing"),
        ("hbm4-uniform", StackGeometry.dense, "none of the 4 SIDs of the stack is dense"),
    ],
)
def test_a_part_that_is_not_there_is_said(
    name: str, part: Callable[[PimStack], StackGeometry], reason: str
) -> None:
    stack = load_machine(name).pim
    assert stack is not None
    with pytest.raises(DeviceError, match=reason):
        part(stack)


@pytest.mark.parametrize("part", [StackGeometry.computing, StackGeometry.dense])
@pytest.mark.parametrize("make", MAPS)
def test_both_parts_of_a_stack_are_mapped_whole(
    make: Callable[[StackGeometry], AddressMap], part: Callable[[PimStack], StackGeometry]
) -> None:
    mapping = make(het(part))
    addresses = np.arange(0, mapping.geometry.capacity_bytes, 32)
    place, _ = mapping.decode(addresses)
    assert np.array_equal(mapping.encode(place), addresses)
    assert place.row.max() == mapping.geometry.size("row") - 1
    assert place.sid.max() == mapping.geometry.size("sid") - 1


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
