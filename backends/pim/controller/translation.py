"""The layered translation table of a base die: where each KV block of a stack lies, in what format.

Two levels: a directory by layer and head, then entries by block. A block in FP16 in the dense
layers that lies at its *home*, the address that follows from its number, needs no entry: a miss
falls to that address. No two blocks share a place; copies of one block have places of their own.
TokenStack's abstract names such a table; its form here is ours. It holds no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape, Tier
from tokenloom.backends.pim.controller.slabs import SlabPool
from tokenloom.backends.pim.geometry import StackGeometry, interleaved_map


@dataclass(frozen=True)
class Tile:
    """Columns from (row, column) on in all banks of a computing channel: a block's keys.

    Its values lie in the same columns, half the rows further.
    """

    channel: int
    row: int
    column: int


@dataclass(frozen=True)
class Span:
    """Bytes of the dense layers from an interleaved address on."""

    address: int


@dataclass(frozen=True)
class Entry:
    """Where a block lies. `sid_mask` has a bit for each SID of the stack that holds a part of it.

    `scales` is where the scales of an INT8 block lie, always in the dense layers; `replicas` are
    further tiles with the same numbers.
    """

    format: Format
    stack: int
    sid_mask: int
    place: Tile | Span
    scales: Span | None = None
    replicas: tuple[Tile, ...] = ()

    @property
    def tier(self) -> Tier:
        """The tier of the place."""
        return "pim" if isinstance(self.place, Tile) else "dense"

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, the block's own first."""
        return (self.place, *self.replicas) if isinstance(self.place, Tile) else ()


@dataclass(frozen=True)
class Layers:
    """The two parts of a stack: geometries, and the columns and SIDs of a tile by format.

    The first `reserved_bytes` of the dense layers are the processor's (weights, activations).
    """

    computing: StackGeometry
    dense: StackGeometry
    tile_columns: Mapping[Format, int]
    tile_sids: Mapping[Format, int]
    reserved_bytes: int = 0


class TranslationTable:
    """The blocks of one stack, number `stack` of a machine. DeviceError: see each method."""

    def __init__(self, shape: KvShape, layers: Layers, stack: int = 0):
        self.shape = shape
        self.layers = layers
        self.stack = stack
        self._directory: dict[tuple[int, int], dict[int, Entry]] = {}
        self._homes: set[BlockId] = set()
        rows, columns = (layers.computing.size(level) for level in ("row", "column"))
        self._rows = [SlabPool(rows // 2, columns) for _ in range(layers.computing.channels)]
        self._frame_bytes = shape.code_bytes("fp16")
        self._start = -(-layers.reserved_bytes // self._frame_bytes) * self._frame_bytes
        frames = max(0, layers.dense.capacity_bytes - self._start) // self._frame_bytes
        self._frames = SlabPool(frames, self._frame_bytes)
        self._map = interleaved_map(layers.dense)

    def __contains__(self, block: BlockId) -> bool:
        return block in self._homes or self._entry(block) is not None

    def __len__(self) -> int:
        return len(self._homes) + self.num_entries

    @property
    def num_entries(self) -> int:
        """Blocks that need an entry: those that are not at home."""
        return sum(len(entries) for entries in self._directory.values())

    def home(self, block: BlockId) -> int:
        """Return the address that a block without an entry has."""
        shape = self.shape
        index = (block.block * shape.layers + block.layer) * shape.kv_heads + block.head
        return self._start + index * self._frame_bytes

    def lookup(self, block: BlockId) -> Entry:
        """Return where a block lies; a miss is at home. DeviceError: it was never allocated."""
        entry = self._entry(block)
        if entry is not None:
            return entry
        if block not in self._homes:
            raise DeviceError(f"pim: {block} is not allocated in stack {self.stack}")
        return self._at("fp16", Span(self.home(block)), None)

    def allocate(
        self, block: BlockId, tier: Tier, form: Format = "fp16", channel: int | None = None
    ) -> Entry:
        """Take a place for a new block.

        In `pim` that is in `channel`, by default one that follows from layer and head; a head that
        outgrows its channel goes on in the next. DeviceError: the block exists, or the tier is
        full (which, asked, free).
        """
        self._check(block, channel)
        if block in self:
            raise DeviceError(f"pim: {block} is allocated already, in {self.lookup(block).tier}")
        entry = self._reserve(block, tier, form, channel)
        if entry is None:
            raise self._full(tier, form, 1)
        self._store(block, entry)
        return entry

    def move(
        self, blocks: Sequence[BlockId], tier: Tier, form: Format, channel: int | None = None
    ) -> list[Entry]:
        """Give blocks new places and their old ones back; replicas go. All of them, or none.

        DeviceError: the tier has no room beside the old places, a block is not allocated or is
        listed twice.
        """
        for block in blocks:
            self._check(block, channel)
        if len(set(blocks)) < len(blocks):
            raise DeviceError("pim: a block is listed twice in one move; list each once")
        old = [self.lookup(block) for block in blocks]
        new: list[Entry] = []
        for block in blocks:
            entry = self._reserve(block, tier, form, channel)
            if entry is None:
                error = self._full(tier, form, len(blocks), len(new))
                for taken in new:
                    self._release(taken)
                raise error
            new.append(entry)
        for block, before, after in zip(blocks, old, new, strict=True):
            self._forget(block)
            self._release(before)
            self._store(block, after)
        return new

    def free(self, block: BlockId) -> None:
        """Give a block's places back. DeviceError: it is not allocated."""
        entry = self.lookup(block)
        self._forget(block)
        self._release(entry)

    def replicate(self, block: BlockId, channel: int | None = None) -> Tile:
        """Take a tile for a copy of a block, in a channel that has none of it yet.

        DeviceError: the block is not in the computing layers, or no other channel has room.
        """
        self._check(block, channel)
        entry = self.lookup(block)
        if entry.tier != "pim":
            raise DeviceError(f"pim: {block} lies in {entry.tier}; replicas are of pim only")
        used = frozenset(tile.channel for tile in entry.tiles)
        tile = self._tile(block, entry.format, channel, used)
        if tile is None:
            raise self._full("pim", entry.format, 1)
        self._store(block, replace(entry, replicas=(*entry.replicas, tile)))
        return tile

    def drop_replicas(self, block: BlockId) -> None:
        """Give the copies of a block back, all but its own place."""
        entry = self.lookup(block)
        for tile in entry.replicas:
            self._rows[tile.channel].free(tile.row, tile.column)
        if entry.replicas:
            self._store(block, replace(entry, replicas=()))

    def room(self, tier: Tier, form: Format) -> int:
        """Return how many more blocks of a format a tier holds."""
        if tier == "pim":
            return sum(pool.room(self.layers.tile_columns[form]) for pool in self._rows)
        return self._frames.room(self.shape.code_bytes(form))

    def _check(self, block: BlockId, channel: int | None) -> None:
        self.shape.check(block)
        if channel is not None and not 0 <= channel < len(self._rows):
            raise DeviceError(f"pim: no channel {channel}; there are {len(self._rows)}")

    def _entry(self, block: BlockId) -> Entry | None:
        return self._directory.get((block.layer, block.head), {}).get(block.block)

    def _store(self, block: BlockId, entry: Entry) -> None:
        at_home = entry.place == Span(self.home(block)) and entry.format == "fp16"
        if at_home:
            self._homes.add(block)
        else:
            self._directory.setdefault((block.layer, block.head), {})[block.block] = entry

    def _forget(self, block: BlockId) -> None:
        if block in self._homes:
            self._homes.remove(block)
        else:
            del self._directory[block.layer, block.head][block.block]

    def _reserve(
        self, block: BlockId, tier: Tier, form: Format, channel: int | None
    ) -> Entry | None:
        scales = self._span(self.shape.scale_bytes) if form == "int8" else None
        if form == "int8" and scales is None:
            return None
        place = self._tile(block, form, channel) if tier == "pim" else self._bytes(block, form)
        if place is None:
            self._release_span(scales)
            return None
        return self._at(form, place, scales)

    def _tile(
        self,
        block: BlockId,
        form: Format,
        channel: int | None,
        used: frozenset[int] = frozenset(),
    ) -> Tile | None:
        first = block.layer * self.shape.kv_heads + block.head if channel is None else channel
        for step in range(len(self._rows)):
            at = (first + step) % len(self._rows)
            if at in used:
                continue
            place = self._rows[at].allocate(self.layers.tile_columns[form])
            if place is not None:
                return Tile(at, *place)
        return None

    def _bytes(self, block: BlockId, form: Format) -> Span | None:
        home = self.home(block)
        frame = (home - self._start) // self._frame_bytes
        if form == "fp16" and self._frames.allocate_frame(frame):
            return Span(home)
        return self._span(self.shape.code_bytes(form))

    def _span(self, size_bytes: int) -> Span | None:
        column = self.layers.dense.column_bytes
        place = self._frames.allocate(-(-size_bytes // column) * column)
        return place and Span(self._start + place[0] * self._frame_bytes + place[1])

    def _at(self, form: Format, place: Tile | Span, scales: Span | None) -> Entry:
        if isinstance(place, Tile):
            return Entry(form, self.stack, self.layers.tile_sids[form], place, scales)
        stop = place.address + self.shape.code_bytes(form)
        columns, _ = self._map.decode(
            np.arange(place.address, stop, self._map.geometry.column_bytes)
        )
        sids = np.unique(columns.sid) + self.layers.computing.size("sid")
        return Entry(form, self.stack, sum(1 << int(sid) for sid in sids), place, scales)

    def _release(self, entry: Entry) -> None:
        for tile in entry.tiles:
            self._rows[tile.channel].free(tile.row, tile.column)
        if isinstance(entry.place, Span):
            self._release_span(entry.place)
        self._release_span(entry.scales)

    def _release_span(self, span: Span | None) -> None:
        if span is not None:
            self._frames.free(*divmod(span.address - self._start, self._frame_bytes))

    def _full(self, tier: Tier, form: Format, asked: int, reserved: int = 0) -> DeviceError:
        free = self.room(tier, form) + reserved
        reason = f"of blocks in {form}, {asked} asked, {free} free"
        if form == "int8" and free >= asked:
            reason = f"no room for the scales of {asked} more in int8"
            tier = "dense"
        return DeviceError(f"pim: tier {tier} of stack {self.stack} is full: {reason}")
