from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape, Tier
from tokenloom.backends.pim.controller.tiers import StackLayers
from tokenloom.backends.pim.controller.translation import Entry, Span, Tile, TranslationTable

from .heterogeneous import small_stack

SHAPE = KvShape(layers=2, kv_heads=2, head_dim=128)
LAYERS = StackLayers(small_stack(rows=4), SHAPE).layers
CHANNEL_TILES = 32 // LAYERS.tile_columns["fp16"]


def table(shape: KvShape = SHAPE, rows: int = 4, reserved: int = 0) -> TranslationTable:
    return TranslationTable(shape, StackLayers(small_stack(rows), shape, reserved).layers)


BLOCKS = st.builds(BlockId, st.integers(0, 1), st.integers(0, 1), st.integers(0, 40))
TIERS: st.SearchStrategy[Tier] = st.sampled_from(["pim", "dense"])
FORMATS: st.SearchStrategy[Format] = st.sampled_from(["fp16", "int8"])


def columns(entry: Entry) -> list[tuple[object, ...]]:
    """Everything that an entry occupies, in columns of a row or of dense memory."""
    taken: list[tuple[object, ...]] = [
        ("pim", tile.channel, tile.row, column)
        for tile in entry.tiles
        for column in range(tile.column, tile.column + LAYERS.tile_columns[entry.format])
    ]
    spans = [(entry.scales, SHAPE.scale_bytes)]
    if isinstance(entry.place, Span):
        spans.append((entry.place, SHAPE.code_bytes(entry.format)))
    for span, size in spans:
        if span is not None:
            taken += [("dense", at) for at in range(span.address, span.address + size, 32)]
    return taken


class TableMachine(RuleBasedStateMachine):
    """Random use of a table beside a dict of what should lie where."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table()
        self.live: dict[BlockId, tuple[Tier, Format, int]] = {}

    @rule(block=BLOCKS, tier=TIERS, form=FORMATS, channel=st.sampled_from([None, 0, 1]))
    def allocate(self, block: BlockId, tier: Tier, form: Format, channel: int | None) -> None:
        try:
            self.table.allocate(block, tier, form, channel)
        except DeviceError:
            assert block in self.live or not self.fits(1, tier, form)
        else:
            assert block not in self.live
            self.live[block] = (tier, form, 0)

    @rule(blocks=st.lists(BLOCKS, min_size=1, max_size=6, unique=True), tier=TIERS, form=FORMATS)
    def move(self, blocks: list[BlockId], tier: Tier, form: Format) -> None:
        before = {block: self.table.lookup(block) for block in self.live}
        try:
            self.table.move(blocks, tier, form)
        except DeviceError:
            assert {block: self.table.lookup(block) for block in self.live} == before
            assert any(b not in self.live for b in blocks) or not self.fits(6, tier, form)
        else:
            self.live.update(dict.fromkeys(blocks, (tier, form, 0)))

    @rule(block=BLOCKS)
    def replicate(self, block: BlockId) -> None:
        try:
            self.table.replicate(block)
        except DeviceError:
            return
        tier, form, copies = self.live[block]
        assert tier == "pim"
        self.live[block] = (tier, form, copies + 1)

    @rule(block=BLOCKS)
    def drop(self, block: BlockId) -> None:
        if block in self.live:
            self.table.drop_replicas(block)
            self.live[block] = (*self.live[block][:2], 0)

    @rule(block=BLOCKS)
    def free(self, block: BlockId) -> None:
        if block in self.live:
            self.table.free(block)
            del self.live[block]
        else:
            with pytest.raises(DeviceError, match="is not allocated"):
                self.table.free(block)

    @invariant()
    def no_two_blocks_share_a_place(self) -> None:
        taken = [column for block in self.live for column in columns(self.table.lookup(block))]
        assert len(taken) == len(set(taken))

    @invariant()
    def entries_are_as_asked(self) -> None:
        assert len(self.table) == len(self.live)
        for block, (tier, form, copies) in self.live.items():
            entry = self.table.lookup(block)
            assert (entry.tier, entry.format, len(entry.replicas)) == (tier, form, copies)
            assert len({tile.channel for tile in entry.tiles}) == len(entry.tiles)
            assert (entry.scales is None) == (form == "fp16")

    def fits(self, count: int, tier: Tier, form: Format) -> bool:
        """Whether there is certainly room: for the codes, and for scales in frames of their own."""
        room = self.table.room(tier, form) >= count
        return room and (form == "fp16" or self.table.room("dense", "fp16") >= 2 * count)

    def teardown(self) -> None:
        for block in self.live:
            self.table.free(block)
        for tier in ("pim", "dense"):
            for form in ("fp16", "int8"):
                assert self.table.room(tier, form) == table().room(tier, form)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_miss_falls_to_the_address_that_follows_from_the_block() -> None:
    two_level = table()
    block = BlockId(1, 0, 5)
    entry = two_level.allocate(block, "dense")
    assert two_level.num_entries == 0
    assert (
        entry.place == Span((5 * 4 + 2) * SHAPE.code_bytes("fp16")) == Span(two_level.home(block))
    )
    two_level.move([block], "pim", "fp16")
    assert two_level.num_entries == 1
    two_level.move([block], "dense", "fp16")
    assert (two_level.num_entries, two_level.lookup(block)) == (0, entry)


def test_a_block_whose_home_is_taken_lies_elsewhere_with_an_entry() -> None:
    two_level = table()
    far = BlockId(0, 0, 10_000)
    guest = two_level.allocate(far, "dense")
    assert (two_level.num_entries, guest.place) == (1, Span(0))
    at_home = two_level.allocate(BlockId(0, 0, 0), "dense")
    assert at_home.place != guest.place
    assert two_level.num_entries == 2


def test_the_sid_mask_says_which_sids_hold_the_block() -> None:
    two_level = table()
    assert two_level.allocate(BlockId(0, 0, 0), "pim").sid_mask == 0b01
    assert two_level.allocate(BlockId(0, 0, 1), "dense").sid_mask == 0b10


def test_reserved_bytes_of_the_dense_layers_are_never_handed_out() -> None:
    reserved = 100_000
    two_level = table(reserved=reserved)
    room = two_level.room("dense", "fp16")
    for block in range(room):
        place = two_level.allocate(BlockId(0, 0, block), "dense").place
        assert isinstance(place, Span)
        assert place.address >= reserved
    assert room == LAYERS.dense.capacity_bytes // 8192 - 13


@pytest.mark.parametrize("tier", ["pim", "dense"])
def test_a_full_tier_is_named_with_what_was_asked_and_is_free(tier: Tier) -> None:
    two_level = table()
    for block in range(two_level.room(tier, "fp16") - 1):
        two_level.allocate(BlockId(0, 0, block), tier)
    other: Tier = "dense" if tier == "pim" else "pim"
    movers = [BlockId(1, 1, block) for block in (0, 1)]
    for block in movers:
        two_level.allocate(block, other)
    message = f"tier {tier} of stack 0 is full: of blocks in fp16, 2 asked, 1 free"
    with pytest.raises(DeviceError, match=message):
        two_level.move(movers, tier, "fp16")
    assert all(two_level.lookup(block).tier == other for block in movers)
    assert two_level.room(tier, "fp16") == 1
    two_level.move(movers[:1], tier, "fp16")
    with pytest.raises(DeviceError, match="of blocks in fp16, 1 asked, 0 free"):
        two_level.allocate(BlockId(1, 0, 77), tier)


def test_int8_without_room_for_its_scales_says_so() -> None:
    two_level = table()
    for block in range(two_level.room("dense", "fp16")):
        two_level.allocate(BlockId(0, 0, block), "dense")
    with pytest.raises(
        DeviceError, match=r"tier dense .* no room for the scales of 1 more in int8"
    ):
        two_level.allocate(BlockId(1, 0, 0), "pim", "int8")


def test_a_head_stays_in_its_channel_and_goes_on_in_the_next() -> None:
    two_level = table()
    tiles: list[Tile] = []
    for block in range(CHANNEL_TILES * 2):
        tiles += two_level.allocate(BlockId(0, 1, block), "pim").tiles
    per_channel = len(tiles) // 2
    assert [tile.channel for tile in tiles] == [1] * per_channel + [0] * per_channel


def test_what_cannot_be_is_refused() -> None:
    two_level = table()
    block = BlockId(0, 0, 0)
    two_level.allocate(block, "dense")
    with pytest.raises(DeviceError, match="is allocated already, in dense"):
        two_level.allocate(block, "pim")
    with pytest.raises(DeviceError, match="lies in dense; replicas are of pim only"):
        two_level.replicate(block)
    with pytest.raises(DeviceError, match="layer 2 of 2"):
        two_level.allocate(BlockId(2, 0, 0), "pim")
    with pytest.raises(DeviceError, match="number is not negative"):
        two_level.allocate(BlockId(0, 0, -1), "pim")
    with pytest.raises(DeviceError, match="no channel 2; there are 2"):
        two_level.allocate(BlockId(0, 0, 1), "pim", channel=2)
    with pytest.raises(DeviceError, match="listed twice"):
        two_level.move([block, block], "pim", "fp16")
    with pytest.raises(DeviceError, match="not allocated in stack 0"):
        two_level.lookup(BlockId(0, 0, 9))
    with pytest.raises(DeviceError, match="groups of 3 key channels do not divide"):
        KvShape(1, 1, 128, 3)
    with pytest.raises(DeviceError, match="not positive"):
        KvShape(0, 1, 128)
