"""What the base die moves without a processor: commands, bytes, time and energy of one request.

A DMA moves one block: `src` and `dst` are numbers of ENDS, `size` counts its elements, `size_bytes`
what is read; channel, row and column are those of its tile, `address` that of its dense columns,
counted in columns. GATHER and BCAST move `size_bytes` of a channel, of each where dense blocks lie
over all.

Time: every channel has its share of the TSV bus, and the busiest channel sets the end. Spread
evenly that is (bytes read + bytes written) / bus. It knows nothing of values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokenloom.backends.pim.controller.kv_shape import Format, KvShape, Tier
from tokenloom.backends.pim.controller.translation import Entry, Span, Tile
from tokenloom.backends.pim.paths import array_pj_per_byte, bus_bytes_per_s, units_pj_per_byte
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, Command, CommandStream, Op

ENDS: tuple[tuple[Tier, Format], ...] = (
    ("dense", "fp16"),
    ("dense", "int8"),
    ("pim", "fp16"),
    ("pim", "int8"),
)
"""Ends of a DMA: tier and format by number."""


@dataclass(frozen=True)
class Transfer:
    """What a request moved: `coded_elements` were quantized or dequantized on the way."""

    stream: CommandStream
    read_bytes: int
    written_bytes: int
    coded_elements: int
    time_ns: float
    energy_pj: float


class TransferLog:
    """Collects the commands of one request to a stack, number `index` of a machine."""

    def __init__(self, stack: PimStack, shape: KvShape, index: int = 0):
        self.stack = stack
        self.shape = shape
        self._first = index * stack.channels
        self._commands: list[Command] = []
        self._load = np.zeros(stack.channels)
        self._read_bytes = self._written_bytes = self._coded = 0
        self._energy_pj = 0.0

    def migrate(self, source: Entry, target: Entry) -> None:
        """Add the DMA of one block from its place to another."""
        sizes = self.shape.block_bytes(source.format), self.shape.block_bytes(target.format)
        self._dma(source, target, target.place, sizes)

    def replicate(self, entry: Entry, tile: Tile) -> None:
        """Add the DMA of one block to a further tile. Scales are shared and stay."""
        codes = self.shape.code_bytes(entry.format)
        self._dma(entry, entry, tile, (codes, codes))

    def gather(self, entries: Iterable[Entry]) -> None:
        """Add one command for each channel; blocks arrive in the base die as FP16."""
        collected: dict[int, int] = {}
        for entry in entries:
            size_bytes = self.shape.block_bytes(entry.format)
            channel = _channel(entry.place)
            collected[channel] = collected.get(channel, 0) + size_bytes
            self._charge(entry.place, size_bytes)
            self._count(size_bytes, self.shape.block_bytes("fp16"), entry.format != "fp16")
            written_pj = self.shape.block_bytes("fp16") * self.stack.energy.buffer_pj_per_byte
            self._energy_pj += size_bytes * self._crossing_pj + written_pj
        for channel, total_bytes in sorted(collected.items()):
            size_bytes = total_bytes if channel != ALL else -(-total_bytes // self.stack.channels)
            self._commands.append(Command(Op.GATHER, self._named(channel), size_bytes=size_bytes))

    def broadcast(self, channels: Iterable[int], size_bytes: int) -> None:
        """Add one command for each channel, whose units get `size_bytes` of the base die's."""
        energy = self.stack.energy
        self._read_bytes += size_bytes
        self._energy_pj += size_bytes * energy.buffer_pj_per_byte
        for channel in channels:
            self._load[channel] += size_bytes
            self._written_bytes += size_bytes
            way_pj = units_pj_per_byte(energy, self.stack.level) + energy.buffer_pj_per_byte
            self._energy_pj += size_bytes * way_pj
            self._commands.append(Command(Op.BCAST, self._named(channel), size_bytes=size_bytes))

    def finish(self, name: str, machine: str) -> Transfer:
        """Return the sum of what was added."""
        share = bus_bytes_per_s(self.stack) / self.stack.channels
        return Transfer(
            CommandStream.of(name, machine, self._commands),
            self._read_bytes,
            self._written_bytes,
            self._coded,
            float(self._load.max()) / share * 1e9,
            self._energy_pj,
        )

    def _dma(
        self, source: Entry, target: Entry, place: Tile | Span, sizes: tuple[int, int]
    ) -> None:
        self._charge(source.place, sizes[0])
        self._charge(place, sizes[1])
        self._count(*sizes, source.format != target.format)
        self._energy_pj += sum(sizes) * self._crossing_pj
        ends = [ENDS.index((entry.tier, entry.format)) for entry in (source, target)]
        tiles = [end for end in (source.place, place) if isinstance(end, Tile)]
        spans = [end for end in (source.place, place) if isinstance(end, Span)]
        tile = tiles[-1] if tiles else Tile(ALL, 0, 0)
        address = spans[-1].address // self.stack.column_bytes if spans else 0
        self._commands.append(
            Command(
                Op.DMA,
                self._named(tile.channel),
                row=tile.row,
                column=tile.column,
                src=ends[0],
                dst=ends[1],
                address=address,
                size=self.shape.block_elements,
                size_bytes=sizes[0],
            )
        )

    def _charge(self, place: Tile | Span, size_bytes: int) -> None:
        """Load a tile's channel; dense bytes are interleaved over all of them."""
        if isinstance(place, Tile):
            self._load[place.channel] += size_bytes
        else:
            self._load += size_bytes / self.stack.channels

    def _count(self, read_bytes: int, written_bytes: int, coded: bool) -> None:
        self._read_bytes += read_bytes
        self._written_bytes += written_bytes
        if coded:
            self._coded += self.shape.block_elements
            self._energy_pj += self.shape.block_elements * self.stack.energy.quantize_pj_per_element

    @property
    def _crossing_pj(self) -> float:
        return array_pj_per_byte(self.stack.energy, "buffer")

    def _named(self, channel: int) -> int:
        return ALL if channel == ALL else self._first + channel


def _channel(place: Tile | Span) -> int:
    return place.channel if isinstance(place, Tile) else ALL
