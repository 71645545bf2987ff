"""The two kinds of layers of a heterogeneous stack, and how a KV block lies in each.

In the computing layers a block is a tile for its keys and one for its values, as `KvLayout` has
them: in FP16 what the units work on, in INT8 the same with twice the lanes. In the dense layers it
is a run of interleaved addresses: keys [16, dims], then values; scales are a run of their own. It
knows nothing of which block lies where (`translation`) and moves nothing (`controller`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.controller.blocks import Blocks
from tokenloom.backends.pim.controller.kv_shape import ELEMENT_BYTES, FORMATS, Format, KvShape
from tokenloom.backends.pim.controller.translation import Entry, Layers, Span, Tile
from tokenloom.backends.pim.geometry import Index, Place, StackGeometry, interleaved_map
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout
from tokenloom.backends.pim.stack import PimStack

Bytes = NDArray[np.uint8]


class StackLayers:
    """The banks of one stack in two parts, and blocks read and written where entries say.

    DeviceError: all SIDs compute or none does, a block does not fit a row, or this machine has no
    room for the banks.
    """

    def __init__(self, stack: PimStack, shape: KvShape, reserved_bytes: int = 0):
        self.shape = shape
        self.computing = BankArrays(StackGeometry.computing(stack))
        self.dense = BankArrays(StackGeometry.dense(stack))
        self._map = interleaved_map(self.dense.geometry)
        self._tiles: dict[Format, KvLayout] = {
            form: _layout(self.computing.geometry, shape, form) for form in FORMATS
        }
        self.layers = Layers(
            self.computing.geometry,
            self.dense.geometry,
            {form: self._tiles[form].tile_columns for form in FORMATS},
            {form: _sids(self._tiles[form]) for form in FORMATS},
            reserved_bytes,
        )

    def read(self, entries: Sequence[Entry]) -> Blocks:
        """Return blocks of one tier and format, as they lie there."""
        form = entries[0].format
        if entries[0].tier == "pim":
            codes = self._read_tiles([entry.tiles[0] for entry in entries], form)
        else:
            spans = [entry.place for entry in entries if isinstance(entry.place, Span)]
            codes = self._read_spans(spans, self.shape.code_bytes(form))
        codes = codes.reshape(len(entries), 2, PAGE_TOKENS, -1)
        spans = [entry.scales for entry in entries if entry.scales is not None]
        scales = self._read_spans(spans, self.shape.scale_bytes) if spans else None
        return Blocks.of_bytes(codes, scales, self.shape)

    def write(self, entries: Sequence[Entry], blocks: Blocks) -> None:
        """Write blocks of one tier and format, into all their tiles; `blocks` has the format."""
        codes = blocks.codes()
        if entries[0].tier == "pim":
            tiles = [tile for entry in entries for tile in entry.tiles]
            copies = np.repeat(codes, [len(entry.tiles) for entry in entries], 0)
            self._write_tiles(tiles, entries[0].format, copies)
        else:
            spans = [entry.place for entry in entries if isinstance(entry.place, Span)]
            self._write_spans(spans, codes.reshape(len(entries), -1))
        scales = blocks.scales()
        if scales is not None:
            spans = [entry.scales for entry in entries if entry.scales is not None]
            self._write_spans(spans, scales)

    def write_copy(self, tile: Tile, form: Format, block: Blocks) -> None:
        """Write one block into a further tile; the scales of an INT8 block are shared."""
        self._write_tiles([tile], form, block.codes())

    def _read_spans(self, spans: Sequence[Span], size_bytes: int) -> Bytes:
        place = self._span_columns(spans, size_bytes)
        columns = self.dense.read_columns(place).reshape(len(spans), -1)
        return np.ascontiguousarray(columns[:, :size_bytes])

    def _write_spans(self, spans: Sequence[Span], data: Bytes) -> None:
        place = self._span_columns(spans, data.shape[1])
        column = self.dense.geometry.column_bytes
        padded = np.zeros((*place.row.shape, column), np.uint8)
        padded.reshape(len(spans), -1)[:, : data.shape[1]] = data
        self.dense.write_columns(place, padded)

    def _span_columns(self, spans: Sequence[Span], size_bytes: int) -> Place:
        column = self.dense.geometry.column_bytes
        starts = np.array([span.address for span in spans], np.int64)
        steps = np.arange(-(-size_bytes // column), dtype=np.int64) * column
        return self._map.decode(starts[:, None] + steps)[0]

    def _read_tiles(self, tiles: Sequence[Tile], form: Format) -> Bytes:
        place = self._tile_columns(tiles, form)
        columns = self.computing.read_columns(place)
        return np.ascontiguousarray(columns.reshape(len(tiles), 2, PAGE_TOKENS, -1))

    def _write_tiles(self, tiles: Sequence[Tile], form: Format, codes: Bytes) -> None:
        place = self._tile_columns(tiles, form)
        column = self.computing.geometry.column_bytes
        padded = np.zeros((*place.row.shape, column), np.uint8)
        padded.reshape(len(tiles), 2, PAGE_TOKENS, -1)[..., : codes.shape[-1]] = codes
        self.computing.write_columns(place, padded)

    def _tile_columns(self, tiles: Sequence[Tile], form: Format) -> Place:
        """Return the columns [tile, keys or values, token, chunk of dimensions]."""
        layout, lanes = self._tiles[form], self._tiles[form].geometry.lanes
        numbers = [
            tile.row * layout.tiles_per_row + tile.column // layout.tile_columns for tile in tiles
        ]
        place, _ = layout.place(
            _axis(numbers, 0),
            _axis([tile.channel for tile in tiles], 0),
            _axis(range(PAGE_TOKENS), 2),
            _axis(range(0, self.shape.head_dim, lanes), 3),
        )
        half = self.computing.geometry.size("row") // 2
        rows = place.row + _axis([0, half], 1)
        return Place(*np.broadcast_arrays(*replace(place, row=rows)))


def _layout(geometry: StackGeometry, shape: KvShape, form: Format) -> KvLayout:
    """Return the layout of tiles whose "heads" are channels: a page number is a tile of each."""
    lanes = geometry.column_bytes // ELEMENT_BYTES[form]
    half = geometry.size("row") // 2
    if not half:
        raise DeviceError("pim: computing banks of one row cannot hold keys and values; 2 needed")
    pages = half * geometry.size("column")
    return KvLayout(replace(geometry, lanes=lanes), pages, geometry.channels, shape.head_dim, 0)


def _sids(layout: KvLayout) -> int:
    """Return a bit for each SID that a tile touches."""
    tokens, zero = _axis(range(PAGE_TOKENS), 0), _axis([0], 0)
    place, _ = layout.place(zero, zero, tokens, zero)
    return sum(1 << int(sid) for sid in np.unique(place.sid))


def _axis(values: Sequence[int], axis: int) -> Index:
    """Return numbers along one of four axes."""
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return np.array(values, np.int64).reshape(shape)
