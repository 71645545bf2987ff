"""The base-die controller of a heterogeneous stack: moves KV blocks, with values, between layers.

Some SIDs of the stack compute, the others are dense (TokenStack). The controller keeps the
translation table, moves blocks from layer to layer (quantizing or dequantizing them on the way),
gathers blocks for the processor and broadcasts operands to channels, without a processor's help.
Each request returns its commands, bytes, time and energy. Layouts, costs and policy are ours, not
the paper's. When a block should move is decided elsewhere (`placement`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import Half
from tokenloom.backends.pim.controller.blocks import Blocks
from tokenloom.backends.pim.controller.kv_shape import BlockId, Format, KvShape, Tier
from tokenloom.backends.pim.controller.tiers import StackLayers
from tokenloom.backends.pim.controller.transfer import Transfer, TransferLog
from tokenloom.backends.pim.controller.translation import Entry, TranslationTable
from tokenloom.backends.pim.layout import PAGE_TOKENS
from tokenloom.backends.pim.paths import one_stack
from tokenloom.backends.pim.stack import PimStack


class HeterogeneousStack:
    """One stack with its controller; `index` is its number among the stacks of the description.

    The first `reserved_bytes` of the dense layers are left to the processor. `operands` has what
    was broadcast last to each channel. DeviceError: all SIDs compute or none does, a block does not
    fit a row, or this machine has no room for the banks.
    """

    def __init__(
        self,
        stack: PimStack,
        shape: KvShape,
        *,
        machine: str = "",
        index: int = 0,
        reserved_bytes: int = 0,
    ):
        if not 0 <= index < stack.stacks:
            raise DeviceError(f"pim: no stack {index}; there are {stack.stacks}")
        self.stack = one_stack(stack)
        self.shape = shape
        self.machine = machine
        self.index = index
        self.layers = StackLayers(self.stack, shape, reserved_bytes)
        self.table = TranslationTable(shape, self.layers.layers, index)
        self.operands: dict[int, Half] = {}

    def allocate(
        self,
        blocks: Sequence[BlockId],
        tier: Tier = "dense",
        form: Format = "fp16",
        channel: int | None = None,
    ) -> None:
        """Take places for new blocks, all or none; what lies there is undefined until written.

        DeviceError: see `TranslationTable.allocate`.
        """
        done: list[BlockId] = []
        try:
            for block in blocks:
                self.table.allocate(block, tier, form, channel)
                done.append(block)
        except DeviceError:
            self.free(done)
            raise

    def free(self, blocks: Sequence[BlockId]) -> None:
        """Give blocks back, with their copies."""
        for block in blocks:
            self.table.free(block)

    def write(self, blocks: Sequence[BlockId], keys: Half, values: Half) -> None:
        """Replace blocks, [n, 16, dims] each, in the format and in all places that they have.

        DeviceError: shapes or types are wrong, or a number to be quantized is not finite.
        """
        shape = (len(blocks), PAGE_TOKENS, self.shape.head_dim)
        for name, data in (("keys", keys), ("values", values)):
            if data.shape != shape or data.dtype != np.float16:
                raise DeviceError(
                    f"pim: {name} of {len(blocks)} blocks are float16 {shape},"
                    f" got {data.dtype} {data.shape}"
                )
        parts = self._parts(blocks)
        coded = [Blocks(keys[at], values[at]).to(e[0].format, self.shape) for at, e in parts]
        for (_, entries), part in zip(parts, coded, strict=True):
            self.layers.write(entries, part)

    def read(self, blocks: Sequence[BlockId]) -> tuple[Half, Half]:
        """Return keys and values [n, 16, dims] of blocks, wherever they lie."""
        shape = (len(blocks), PAGE_TOKENS, self.shape.head_dim)
        keys, values = np.empty(shape, np.float16), np.empty(shape, np.float16)
        for at, entries in self._parts(blocks):
            keys[at], values[at] = self.layers.read(entries).numbers()
        return keys, values

    def migrate(
        self,
        blocks: Sequence[BlockId],
        tier: Tier,
        form: Format = "fp16",
        channel: int | None = None,
    ) -> Transfer:
        """Move blocks to a tier and format, by `channel` if given; all of them, or none.

        A block that is there already stays, wherever in the tier; its numbers change only where
        its format does. Copies of a block that moves are given up. DeviceError: the tier is full,
        a block is not allocated or listed twice, or a number that is to be quantized is not finite.
        """
        log = TransferLog(self.stack, self.shape, self.index)
        wanted = (tier, form)
        moving = [block for block in blocks if self._state(self.table.lookup(block)) != wanted]
        parts = self._parts(moving)
        data = [self.layers.read(entries).to(form, self.shape) for _, entries in parts]
        places = self.table.move(moving, tier, form, channel)
        for (at, sources), part in zip(parts, data, strict=True):
            targets = [places[index] for index in at]
            self.layers.write(targets, part)
            for source, target in zip(sources, targets, strict=True):
                log.migrate(source, target)
        return log.finish(f"migrate to {tier} {form}", self.machine)

    def replicate(self, block: BlockId, channel: int | None = None) -> Transfer:
        """Copy a block of the computing layers to a further channel.

        DeviceError: it lies in the dense layers, or no other channel has room.
        """
        entry = self.table.lookup(block)
        tile = self.table.replicate(block, channel)
        self.layers.write_copy(tile, entry.format, self.layers.read([entry]))
        log = TransferLog(self.stack, self.shape, self.index)
        log.replicate(entry, tile)
        return log.finish("replicate", self.machine)

    def gather(self, blocks: Sequence[BlockId]) -> tuple[Half, Half, Transfer]:
        """Collect blocks in the base die as FP16: keys and values [n, 16, dims], and the cost."""
        log = TransferLog(self.stack, self.shape, self.index)
        log.gather(self.table.lookup(block) for block in blocks)
        return *self.read(blocks), log.finish("gather", self.machine)

    def broadcast(self, data: Half, channels: Sequence[int]) -> Transfer:
        """Spread operands to the units of channels.

        DeviceError: no such channel, one listed twice, or more than operand buffers hold.
        """
        unit, count = self.stack.unit, self.stack.channels
        units = self.stack.banks // unit.banks_per_unit
        limit = unit.operand_entries * self.stack.column_bytes * units
        if data.nbytes > limit:
            raise DeviceError(
                f"pim: {data.nbytes:,} bytes of operands for a channel; its buffers hold {limit:,}"
            )
        if len(set(channels)) < len(channels) or not set(channels) <= set(range(count)):
            raise DeviceError(
                f"pim: channels {list(channels)}: each must be one of 0 to {count - 1}, once"
            )
        log = TransferLog(self.stack, self.shape, self.index)
        log.broadcast(channels, data.nbytes)
        self.operands.update((channel, data.copy()) for channel in channels)
        return log.finish("broadcast", self.machine)

    def _parts(self, blocks: Sequence[BlockId]) -> list[tuple[list[int], list[Entry]]]:
        """Return blocks by tier and format: their indices and their entries."""
        parts: dict[tuple[Tier, Format], tuple[list[int], list[Entry]]] = {}
        for index, block in enumerate(blocks):
            entry = self.table.lookup(block)
            at, entries = parts.setdefault(self._state(entry), ([], []))
            at.append(index)
            entries.append(entry)
        return list(parts.values())

    @staticmethod
    def _state(entry: Entry) -> tuple[Tier, Format]:
        return entry.tier, entry.format
