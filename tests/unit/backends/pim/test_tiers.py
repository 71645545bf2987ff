from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.blocks import Blocks
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape, Tier
from tokenloom.backends.pim.controller.tiers import StackLayers
from tokenloom.backends.pim.controller.translation import Tile, TranslationTable
from tokenloom.backends.pim.layout import KvLayout
from tokenloom.backends.pim.stack import PimStack

from .heterogeneous import small_hbm4, small_stack

STACKS = {"hbm3": small_stack(), "1of4": small_hbm4(), "2of4": small_hbm4("hbm4-het-2of4")}


def numbers(count: int, dims: int, seed: int = 0) -> NDArray[np.float16]:
    return np.random.default_rng(seed).standard_normal((count, 16, dims)).astype(np.float16)


@pytest.mark.parametrize("stack", STACKS.values(), ids=list(STACKS))
@pytest.mark.parametrize("tier", ["pim", "dense"])
@pytest.mark.parametrize("form", ["fp16", "int8"])
@pytest.mark.parametrize("dims", [16, 64, 72, 80, 128, 160])
def test_what_is_written_is_read_and_nothing_else_changes(
    stack: PimStack, tier: Tier, form: Format, dims: int
) -> None:
    shape = KvShape(1, 2, dims)
    layers = StackLayers(stack, shape)
    table = TranslationTable(shape, layers.layers)
    fill = min(6, table.room(tier, form) // 2)
    entries = [
        table.allocate(BlockId(0, head, block), tier, form)
        for head in (0, 1)
        for block in range(fill)
    ]
    blocks = Blocks(numbers(2 * fill, dims), numbers(2 * fill, dims, 1)).to(form, shape)
    layers.write(entries, blocks)
    got = layers.read(entries)
    assert np.array_equal(got.codes(), blocks.codes())
    scales, wanted = got.scales(), blocks.scales()
    assert (scales is None) == (wanted is None) == (form == "fp16")
    assert scales is None or np.array_equal(scales, np.asarray(wanted))
    other = Blocks(numbers(1, dims, 2), numbers(1, dims, 3)).to(form, shape)
    layers.write(entries[1:2], other)
    again = layers.read(entries)
    assert np.array_equal(again.codes()[1:2], other.codes())
    assert np.array_equal(np.delete(again.codes(), 1, 0), np.delete(blocks.codes(), 1, 0))


def test_a_tile_lies_as_the_units_expect_it() -> None:
    stack, shape = small_stack(), KvShape(1, 2, 128)
    layers = StackLayers(stack, shape)
    tile = TranslationTable(shape, layers.layers).allocate(BlockId(0, 0, 0), "pim", channel=1)
    keys, values = numbers(1, 128), numbers(1, 128, 1)
    layers.write([tile], Blocks(keys, values))
    geometry = layers.computing.geometry
    half = geometry.size("row") // 2
    layout = KvLayout(geometry, 8 * half, geometry.channels, 128, 0)
    pages = np.array([0])
    for rows, wanted in ((slice(0, half), keys), (slice(half, None), values)):
        assert np.array_equal(layout.gather(layers.computing.lanes[rows], pages)[0, 1], wanted[0])


def test_a_copy_shares_the_scales() -> None:
    shape = KvShape(1, 1, 64)
    layers = StackLayers(small_stack(), shape)
    table = TranslationTable(shape, layers.layers)
    block = BlockId(0, 0, 0)
    table.allocate(block, "pim", "int8")
    data = Blocks(numbers(1, 64), numbers(1, 64, 1)).to("int8", shape)
    layers.write([table.lookup(block)], data)
    tile = table.replicate(block)
    layers.write_copy(tile, "int8", data)
    entry = table.lookup(block)
    assert entry.replicas == (tile,)
    banks = layers.computing.lanes[:, 0]
    own, copy = (banks[:, t.channel] for t in entry.tiles)
    assert np.array_equal(own.view(np.uint16), copy.view(np.uint16))
    layers.write([entry], Blocks(numbers(1, 64, 5), numbers(1, 64, 6)).to("int8", shape))
    assert np.array_equal(own.view(np.uint16), copy.view(np.uint16))
    assert not np.array_equal(layers.read([entry]).codes(), data.codes())
    assert isinstance(tile, Tile)


def test_stacks_of_one_kind_of_layers_and_single_rows_are_refused() -> None:
    shape = KvShape(1, 1, 64)
    with pytest.raises(DeviceError, match="none of the 4 SIDs of the stack is computing"):
        StackLayers(small_hbm4("hbm4-dense"), shape)
    with pytest.raises(DeviceError, match="none of the 4 SIDs of the stack is dense"):
        StackLayers(small_hbm4("hbm4-uniform"), shape)
    with pytest.raises(DeviceError, match="of one row cannot hold keys and values"):
        StackLayers(small_stack(rows=2), shape)
