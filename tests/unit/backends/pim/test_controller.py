from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.heterogeneous import HeterogeneousStack
from tokenloom.backends.pim.controller.kv_shape import FORMATS, BlockId, Format, KvShape, Tier
from tokenloom.backends.pim.controller.quantize import dequantize, quantize
from tokenloom.backends.pim.controller.transfer import ENDS, Transfer
from tokenloom.backends.pim.paths import array_pj_per_byte
from tokenloom.backends.pim.streams.commands import ALL, Op
from tokenloom.backends.pim.streams.limits import check_fields

from .heterogeneous import small_hbm4, small_stack

Half = NDArray[np.float16]
SHAPE = KvShape(layers=2, kv_heads=2, head_dim=128)
FP16, INT8 = SHAPE.block_bytes("fp16"), SHAPE.block_bytes("int8")
TIERS: tuple[Tier, ...] = ("pim", "dense")


def ids(count: int, layer: int = 0) -> list[BlockId]:
    return [BlockId(layer, index % 2, index // 2) for index in range(count)]


def numbers(count: int, seed: int = 0) -> tuple[Half, Half]:
    random = np.random.default_rng(seed)
    data = random.standard_normal((2, count, 16, SHAPE.head_dim)).astype(np.float16)
    return data[0], data[1]


def filled(
    blocks: Sequence[BlockId], tier: Tier = "dense", form: Format = "fp16", rows: int = 16
) -> HeterogeneousStack:
    controller = HeterogeneousStack(small_stack(rows, channels=4), SHAPE)
    controller.allocate(blocks, tier, form)
    controller.write(blocks, *numbers(len(blocks)))
    return controller


def energy_of(controller: HeterogeneousStack, transfer: Transfer) -> float:
    """The energy of migrations, from the commands alone."""
    energy, total = controller.stack.energy, 0.0
    for command in transfer.stream:
        (_, before), (_, after) = ENDS[command.src], ENDS[command.dst]
        written = SHAPE.block_bytes(after)
        assert command.size_bytes == SHAPE.block_bytes(before)
        total += (command.size_bytes + written) * array_pj_per_byte(energy, "buffer")
        total += command.size * energy.quantize_pj_per_element * (before != after)
    return total


@pytest.mark.parametrize("source", [(tier, form) for tier in TIERS for form in FORMATS])
@pytest.mark.parametrize("target", [(tier, form) for tier in TIERS for form in FORMATS])
def test_migration_moves_values_bytes_and_energy(
    source: tuple[Tier, Format], target: tuple[Tier, Format]
) -> None:
    blocks = ids(6)
    controller = filled(blocks, *source)
    before = controller.read(blocks)
    moved = controller.migrate(blocks, *target)
    after = controller.read(blocks)
    entries = [controller.table.lookup(block) for block in blocks]
    assert {(entry.tier, entry.format) for entry in entries} == {target}
    if source[1] == "fp16" and target[1] == "int8":
        wanted = dequantize(quantize(before[0], "keys")), dequantize(quantize(before[1], "values"))
    else:
        wanted = before
    assert all(np.array_equal(a, b) for a, b in zip(after, wanted, strict=True))
    count = 0 if source == target else len(blocks)
    assert moved.stream.counts() == ({"DMA": count} if count else {})
    assert moved.read_bytes == count * SHAPE.block_bytes(source[1])
    assert moved.written_bytes == count * SHAPE.block_bytes(target[1])
    coded = count * SHAPE.block_elements if source[1] != target[1] else 0
    assert moved.coded_elements == coded
    assert moved.energy_pj == pytest.approx(energy_of(controller, moved), abs=1e-6)
    check_fields(moved.stream, controller.stack)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 19), min_size=1, unique=True),
            st.sampled_from(TIERS),
            st.sampled_from(FORMATS),
        ),
        max_size=8,
    )
)
def test_any_migrations_keep_values_to_their_coarsest_format(
    steps: list[tuple[list[int], Tier, Format]],
) -> None:
    blocks = ids(20)
    controller = filled(blocks)
    wanted = numbers(20)
    keys, values = wanted[0].copy(), wanted[1].copy()
    coded = [False] * 20
    for chosen, tier, form in steps:
        moved = controller.migrate([blocks[index] for index in chosen], tier, form)
        assert moved.energy_pj == pytest.approx(energy_of(controller, moved))
        for index in chosen:
            if form == "int8" and not coded[index]:
                keys[index] = dequantize(quantize(keys[index], "keys"))
                values[index] = dequantize(quantize(values[index], "values"))
            coded[index] = form == "int8"
    got = controller.read(blocks)
    assert np.array_equal(got[0], keys)
    assert np.array_equal(got[1], values)


def test_a_balanced_migration_crosses_the_bus_twice() -> None:
    controller = filled(blocks := ids(4, layer=0) + ids(4, layer=1))
    moved = controller.migrate(blocks, "pim")
    dma_s = moved.read_bytes / controller.stack.dma_bandwidth_bytes_per_s
    assert moved.time_ns == pytest.approx(dma_s * 1e9)
    assert {command.channel for command in moved.stream} == {0, 1, 2, 3}


def test_a_migration_into_one_channel_waits_for_its_share_of_the_bus() -> None:
    controller = filled(blocks := ids(8))
    moved = controller.migrate(blocks, "pim", channel=2)
    share = 2 * controller.stack.dma_bandwidth_bytes_per_s / 4
    busiest = moved.written_bytes + moved.read_bytes / 4
    assert moved.time_ns == pytest.approx(busiest / share * 1e9)
    assert {command.channel for command in moved.stream} == {2}


def test_dense_to_pim_costs_what_the_table_of_paths_says() -> None:
    controller = HeterogeneousStack(small_hbm4(rows=16), SHAPE)
    controller.allocate(blocks := ids(2))
    controller.write(blocks, *numbers(2))
    moved = controller.migrate(blocks, "pim")
    assert moved.energy_pj / moved.read_bytes == pytest.approx(52.64)


def test_quantizing_on_the_way_in_halves_what_is_written() -> None:
    plain, coded = (filled(ids(8)).migrate(ids(8), "pim", form) for form in FORMATS)
    assert coded.read_bytes == plain.read_bytes
    assert coded.written_bytes == 8 * (FP16 // 2 + SHAPE.scale_bytes)
    assert coded.energy_pj < 0.8 * plain.energy_pj
    assert coded.time_ns < plain.time_ns


def test_a_command_names_both_ends() -> None:
    controller = filled([block := BlockId(1, 1, 3)])
    home = controller.table.home(block)
    moved = controller.migrate([block], "pim", "int8", channel=1)
    (command,) = moved.stream
    tile = controller.table.lookup(block).tiles[0]
    assert (command.op, command.channel) == (Op.DMA, 1)
    assert (command.row, command.column) == (tile.row, tile.column)
    assert command.address * controller.stack.column_bytes == home
    assert (ENDS[command.src], ENDS[command.dst]) == (("dense", "fp16"), ("pim", "int8"))


def test_channels_of_the_second_stack_are_counted_over_all() -> None:
    stack = replace(small_stack(16, channels=2), stacks=3)
    controller = HeterogeneousStack(stack, SHAPE, index=2)
    controller.allocate(blocks := ids(2))
    moved = controller.migrate(blocks, "pim")
    assert [command.channel for command in moved.stream] == [4, 5]
    assert controller.table.lookup(blocks[0]).stack == 2
    per_stack = stack.dma_bandwidth_bytes_per_s / 3
    assert moved.time_ns == pytest.approx(moved.read_bytes / per_stack * 1e9)
    check_fields(moved.stream, stack)


def test_a_full_tier_moves_nothing() -> None:
    controller = HeterogeneousStack(small_stack(4, channels=2), SHAPE)
    controller.allocate(blocks := ids(17))
    controller.write(blocks, *numbers(17))
    before = controller.read(blocks)
    message = "tier pim of stack 0 is full: of blocks in fp16, 17 asked, 16 free"
    with pytest.raises(DeviceError, match=message):
        controller.migrate(blocks, "pim")
    after = controller.read(blocks)
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
    assert {controller.table.lookup(block).tier for block in blocks} == {"dense"}


def test_allocation_of_too_many_takes_none() -> None:
    controller = HeterogeneousStack(small_stack(4, channels=2), SHAPE)
    with pytest.raises(DeviceError, match="1 asked, 0 free"):
        controller.allocate(ids(17), "pim")
    assert len(controller.table) == 0
    controller.allocate(ids(16), "pim")


def test_a_number_that_is_not_finite_stays_where_it_is() -> None:
    controller = filled(blocks := ids(2))
    keys, values = numbers(2)
    keys[1, 4, 9] = np.inf
    controller.write(blocks, keys, values)
    with pytest.raises(DeviceError, match="keys cannot be quantized: inf at token 4"):
        controller.migrate(blocks, "pim", "int8")
    assert {controller.table.lookup(block).tier for block in blocks} == {"dense"}
    assert np.array_equal(controller.read(blocks)[0], keys)


def test_gather_collects_from_both_kinds_of_layers() -> None:
    controller = filled(blocks := ids(8))
    controller.migrate(blocks[:2], "pim", channel=3)
    controller.migrate(blocks[2:3], "pim", "int8", channel=1)
    keys, values, moved = controller.gather(blocks)
    wanted = controller.read(blocks)
    assert np.array_equal(keys, wanted[0])
    assert np.array_equal(values, wanted[1])
    sizes = {command.channel: command.size_bytes for command in moved.stream}
    assert sizes == {ALL: 5 * FP16 // 4, 1: INT8, 3: 2 * FP16}
    assert moved.stream.counts() == {"GATHER": 3}
    assert moved.read_bytes == sum(sizes.values()) + 3 * sizes[ALL]  # of each of 4 channels
    assert moved.written_bytes == 8 * FP16
    assert moved.coded_elements == SHAPE.block_elements
    share = 2 * controller.stack.dma_bandwidth_bytes_per_s / 4
    assert moved.time_ns == pytest.approx((2 * FP16 + 5 * FP16 / 4) / share * 1e9)
    energy = controller.stack.energy
    wanted_pj = (
        moved.read_bytes * array_pj_per_byte(energy, "buffer")
        + moved.written_bytes * energy.buffer_pj_per_byte
        + moved.coded_elements * energy.quantize_pj_per_element
    )
    assert moved.energy_pj == pytest.approx(wanted_pj)
    check_fields(moved.stream, controller.stack)


def test_broadcast_reaches_each_channel_at_once() -> None:
    controller = filled(ids(2))
    data = np.arange(128, dtype=np.float16)
    one, two = (controller.broadcast(data, channels) for channels in ([1], [0, 3]))
    assert set(controller.operands) == {0, 1, 3}
    data[:] = 0
    assert all(operands[5] == 5 for operands in controller.operands.values())
    assert (one.read_bytes, one.written_bytes) == (256, 256)
    assert (two.read_bytes, two.written_bytes) == (256, 512)
    assert two.time_ns == one.time_ns
    assert one.energy_pj < two.energy_pj < 2 * one.energy_pj
    assert two.stream.counts() == {"BCAST": 2}
    check_fields(two.stream, controller.stack)


def test_operands_that_cannot_be_spread_are_refused() -> None:
    controller = filled(ids(2))
    with pytest.raises(DeviceError, match=r"16,384 bytes of operands .* its buffers hold 8,192"):
        controller.broadcast(np.zeros(8192, np.float16), [0])
    for channels in ([4], [0, 0], [-1]):
        with pytest.raises(DeviceError, match="each must be one of 0 to 3, once"):
            controller.broadcast(np.zeros(16, np.float16), channels)


@pytest.mark.parametrize("form", FORMATS)
def test_a_replica_has_the_numbers_and_goes_with_its_block(form: Format) -> None:
    controller = filled(blocks := ids(2), "pim", form)
    room = controller.table.room("pim", form)
    moved = controller.replicate(blocks[0], channel=3)
    entry = controller.table.lookup(blocks[0])
    assert [tile.channel for tile in entry.replicas] == [3]
    assert moved.read_bytes == moved.written_bytes == SHAPE.code_bytes(form)
    banks = controller.layers.computing.lanes.view(np.uint16)[:, 0]
    own, copy = (banks[:, tile.channel] for tile in entry.tiles)
    assert own.any()
    assert np.array_equal(own, copy)
    controller.migrate(blocks[:1], "dense", form)
    assert controller.table.room("pim", form) == room + 1


def test_wrong_data_and_stacks_are_refused() -> None:
    controller = filled(blocks := ids(2))
    keys, values = numbers(2)
    with pytest.raises(DeviceError, match=r"values of 2 blocks are float16 .* got float32"):
        controller.write(blocks, keys, values.astype(np.float32))  # pyright: ignore[reportArgumentType]
    with pytest.raises(DeviceError, match="keys of 1 blocks"):
        controller.write(blocks[:1], keys, values)
    with pytest.raises(DeviceError, match="no stack 1; there are 1"):
        HeterogeneousStack(small_stack(), SHAPE, index=1)
    with pytest.raises(DeviceError, match="none of the 4 SIDs of the stack is dense"):
        HeterogeneousStack(small_hbm4("hbm4-uniform"), SHAPE)
