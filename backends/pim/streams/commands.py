"""The command stream of a memory stack that computes: what a kernel tells the base die to do.

A stream is one array of records, a command each, in program order. Channels take their commands
independently: where one reads from the base die what another left there, time does not follow it. A
command whose channel is ALL goes to every channel. Addresses are
(row, column) of the banks, registers and operand entries of the units, and elements of the base
die's memory. The encoding is our own. It executes nothing and knows no time (`timing` sets
`cycle`).

State that commands work on, for each channel:

- `banks`: columns of 16 FP16 lanes, by pseudo channel, SID, bank group, bank, row, column;
- `operands[pseudo channel, SID, bank group, bank, entry, lane]` FP16: the units' operand buffers;
- `registers[pseudo channel, SID, bank group, bank, register, lane]` FP16: their accumulators;
- base die memory, shared by all channels: float32 elements.

Where a unit serves several banks, operands and registers are the unit's. A command of the units
works on all units of its bank groups, and its `bank` says which of a unit's banks they read: 0, 1
and so on, never ALL; in WR_GB, MV_GB and MV_SB `bank` counts the units of a bank group. What is
said of the 16 lanes of FP16 holds for the 32 of INT8, with INT32 products, sums and registers.

A *slot* is one bank group of the computing SIDs of a channel, numbered
`(pseudo channel * computing SIDs + SID) * bank groups + bank group`, as the banks lie in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

ALL = -1
"""In a unit field: every one of that level."""


class Op(IntEnum):
    """What a command does. "Units" are those its channel, SID, bank group and bank fields select.

    - MODE: units of the channel on (`flags` ON) or off.
    - ACT, PRE: open and close `row` in the selected banks, with SID ALL those of dense SIDs too.
    - REF: refresh the selected banks, of which no row is open.
    - RD, WR: one column over the external bus, to and from base die memory at `address`; RD of one
      bank.
    - MAC_TREE: `registers[dst, lane] (+)= tree(column * operands[src])`: products rounded to FP16,
      added in a tree (l with l+8, l+4, l+2, l+1) of FP16 additions, the sum added in FP16.
    - MAC_LANES: `registers[dst, :] (+)= column * operands[src, lane]`, both roundings.
    - MAC: `registers[dst, :] (+)= column * operands[src, :]`, both roundings.
    - ADD, MUL, RELU: `registers[dst] = registers[dst] op column`; RELU of the column alone, where a
      lane with its sign bit set becomes +0.
    - LOAD: `registers[dst] = column`. STORE: `column = registers[dst]`.
    - WR_GB: base die memory at `address` (16 elements, rounded to FP16) to `operands[src]` of the
      selected units.
    - MV_GB: base die memory, rounded to FP16, to `operands[src]` of the selected units, alike in
      all units of a slot: lane i of slot j takes element `address + i * slots + j`. With flag
      UNITS: to `registers[dst]` instead, as MV_SB with UNITS took them.
    - MV_SB: `registers[dst]` of one channel to base die memory. Without flag LANES: lane i of slot
      j, added over the slot's selected units in order in float32 from 0, replaces element
      `address + i * slots + j`. With LANES: element `address + 16 * bank + lane`, or 0 with flag
      START, plus that lane of the selected slots, one slot after the other in float32. Of the
      first form, `size` lanes from `lane` on move, all where it is 0. With UNITS: all lanes of the
      selected units, unit after unit as they are counted, to elements from `address` on.
    - SFM: softmax in the base die over `size` elements at `address`, without its division: each
      becomes exp(x - largest), rounded to FP16; the largest goes to element `dst` and the sum of
      the rounded to `dst + 1`, so that partial results merge. Elements behind them up to a multiple
      of 16 become 0.
    - ROT: the base die makes a query: rotate, scale, round to FP16; to `address`. By what angles
      is not in the stream.
    - DMA: `size_bytes` from tier to tier through the base die; its other fields: see `transfer`.
    - GATHER, BCAST: `size_bytes` collected from, or spread to, the channels by the base die.
    - BARRIER: columns and moves that follow in the channel start after what precedes it is done;
      rows may open before.

    `(+)=` replaces where flag START is set (0 is added to, so that both roundings stay) and adds
    otherwise.
    """

    MODE = 0
    ACT = 1
    PRE = 2
    REF = 3
    RD = 4
    WR = 5
    MAC_TREE = 6
    MAC_LANES = 7
    MAC = 8
    ADD = 9
    MUL = 10
    RELU = 11
    LOAD = 12
    STORE = 13
    WR_GB = 14
    MV_GB = 15
    MV_SB = 16
    SFM = 17
    ROT = 18
    DMA = 19
    GATHER = 20
    BCAST = 21
    BARRIER = 22


UNIT_OPS = frozenset(
    {Op.MAC_TREE, Op.MAC_LANES, Op.MAC, Op.ADD, Op.MUL, Op.RELU, Op.LOAD, Op.STORE}
)
"""Commands of the units that read or write a column of an open row."""
COLUMN_OPS = UNIT_OPS | {Op.RD, Op.WR}
"""Commands that need a row open."""

START = 1
LANES = 2
ON = 4
UNITS = 8
FLAGS = {"start": START, "lanes": LANES, "on": ON, "units": UNITS}


@dataclass(frozen=True)
class Command:
    """One command. Unused fields are 0; unit fields are ALL or an index; `cycle` is -1 untimed.

    `channel` counts over all stacks, `bank` is the bank within its group. `size` counts elements,
    `size_bytes` what the command moves in all selected units of one channel together.
    """

    op: Op
    channel: int = ALL
    pseudo_channel: int = ALL
    sid: int = ALL
    bank_group: int = ALL
    bank: int = ALL
    row: int = 0
    column: int = 0
    dst: int = 0
    src: int = 0
    lane: int = 0
    address: int = 0
    size: int = 0
    size_bytes: int = 0
    flags: int = 0
    cycle: int = -1

    @property
    def scope(self) -> tuple[int, int, int, int]:
        """The unit fields below the channel."""
        return self.pseudo_channel, self.sid, self.bank_group, self.bank


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Command))
RECORD = np.dtype([(name, np.int64 if name == "cycle" else np.int32) for name in FIELDS])
"""One command as a record; kernels write all fields but the cycle, as int32, in this order."""
WORDS = len(FIELDS) - 1
"""int32 words that a kernel writes for a command."""


@dataclass(frozen=True)
class CommandStream:
    """Commands in program order for a machine's stack; `name` says what they compute."""

    name: str
    machine: str
    records: NDArray[Any]

    @classmethod
    def of(cls, name: str, machine: str, commands: Iterable[Command]) -> CommandStream:
        """Make a stream of single commands."""
        rows = [tuple(int(getattr(c, field)) for field in FIELDS) for c in commands]
        return cls(name, machine, np.array(rows, RECORD))

    @classmethod
    def of_words(cls, name: str, machine: str, words: NDArray[np.int32]) -> CommandStream:
        """Make a stream of what a kernel wrote: [n, WORDS]."""
        records = np.zeros(len(words), RECORD)
        for index, field in enumerate(FIELDS[:WORDS]):
            records[field] = words[:, index]
        records["cycle"] = -1
        return cls(name, machine, records)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Command]:
        for record in self.records.tolist():
            values = cast("tuple[int, ...]", record)
            yield Command(Op(values[0]), *values[1:])

    def counts(self) -> dict[str, int]:
        """Return how many commands of each kind there are, by name."""
        ops, counts = np.unique(self.records["op"], return_counts=True)
        return {Op(int(op)).name: int(n) for op, n in zip(ops, counts, strict=True)}

    def timed(self, cycles: NDArray[np.int64]) -> CommandStream:
        """Return the stream with the cycle at which each command issues."""
        records = self.records.copy()
        records["cycle"] = cycles
        return CommandStream(self.name, self.machine, records)

    def of_channel(self, channel: int) -> CommandStream:
        """Return what one channel sees, in order."""
        mine = (self.records["channel"] == channel) | (self.records["channel"] == ALL)
        return CommandStream(self.name, self.machine, self.records[mine])
