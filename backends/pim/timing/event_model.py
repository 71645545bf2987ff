"""The event model: at which cycle each command of a stream issues, under all constraints.

For each channel: columns in order; rows ahead of them as early as their banks allow; moves between
units and base die in a queue of their own. One row command and one column command or move a cycle.
A command waits for its data: a MAC for its operand, a move out for its MACs, a softmax for the
scores, what follows a BARRIER for what precedes it. MODE acts in cycle 0 and time counts
from cycle 1: `cycles` is the last cycle in which something issues or is under way.

Row commands of several banks at once are not bound by tFAW: what bounds their power is the interval
between commands of the units, capped or not, as in AttAcc. A refresh that is due waits for the next
row to be opened, but no longer than a refresh takes; then it closes rows and opens them again.

`compat="attacc"` is the published AttAcc simulator where it differs from a memory that works:

- REF follows PRE after 1 cycle, not tRP (its refresh checks that banks are closed, not since when):
  each refresh takes rp - 1 cycles less.
- tRRD and tFAW do not bind activates of units, not even those of single banks (buffer level).
- At buffer level all MV_GB address one bank group, so they are ccd_l apart, not a move's interval.
- At bank-group and buffer level a refresh closes rows at once: its all-bank precharge waits for
  all-bank MACs, which those levels do not use. That it does so without tRTP is not followed (4
  cycles for each refresh).
- Its second head of a pair reads V where the first did, so a short context finds its row open;
  that is in the stream, see `attacc_stream`.

"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.channels import ChannelGroup, join, split
from tokenloom.backends.pim.streams.commands import (
    ALL,
    COLUMN_OPS,
    FIELDS,
    ON,
    RECORD,
    UNIT_OPS,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.streams.limits import check_fields
from tokenloom.backends.pim.timing.attention_shape import at_level
from tokenloom.backends.pim.timing.constraints import Compat, Constraints
from tokenloom.backends.pim.timing.move_timer import MoveTimer, uses_register
from tokenloom.backends.pim.timing.partition import Partition, Place, Scope
from tokenloom.backends.pim.timing.row_timer import NEVER, RowTimer

__all__ = ["TimedStream", "time_stream"]

_PSEUDO_CHANNEL, _BANK, _DST, _SRC, _ADDRESS, _FLAGS = (
    FIELDS.index(name) for name in ("pseudo_channel", "bank", "dst", "src", "address", "flags")
)
_MULTIPLY = (Op.MAC_TREE, Op.MAC_LANES, Op.MAC)
_WRITES = (Op.WR, Op.STORE)
_ROW_OPS = (Op.ACT, Op.PRE, Op.REF)
_MOVES = (Op.WR_GB, Op.MV_GB, Op.MV_SB, Op.SFM, Op.ROT, Op.DMA, Op.GATHER, Op.BCAST)
_IN_FLIGHT = 32
"""More RDs than can be on their way at once: a read latency over the shortest column spacing."""
Record = tuple[int, ...]


@dataclass(frozen=True)
class TimedStream:
    """A stream whose commands have their cycles, in program order, with the refreshes.

    `cycles` is how long it takes; `busy_cycles` how long each resource is in use, over all
    `channels`: `units`, `rows` (the row bus), `moves`, `refresh` and `bus` (outside columns).
    """

    stream: CommandStream
    cycles: int
    busy_cycles: Mapping[str, int]
    channels: int


def time_stream(
    stream: CommandStream, stack: PimStack, *, compat: Compat | None = None, refresh: bool = True
) -> TimedStream:
    """Return the stream timed on the stack; channels that get the same commands are timed once.

    StreamError: a command names what the stack does not have, or needs a row that is not open;
    `rows.with_rows` opens them.
    """
    check_fields(stream, at_level(stack), element_bytes=1)
    rules = Constraints.of(stack, compat, refresh)
    cycles, channels, busy = 0, 0, dict[str, int]()
    timed: list[ChannelGroup] = []
    for group in split(stream, stack):
        timer = _ChannelTimer(stream.name, group, rules, stack)
        timed.append(timer.run())
        cycles = max(cycles, timer.end)
        channels += len(group.channels)
        for name, value in timer.busy_cycles().items():
            busy[name] = busy.get(name, 0) + value * len(group.channels)
    return TimedStream(join(stream.name, stream.machine, timed), cycles, busy, channels)


class _ChannelTimer:
    """One pass over one channel's commands."""

    def __init__(self, name: str, group: ChannelGroup, rules: Constraints, stack: PimStack):
        self.name, self.group, self.rules = name, group, rules
        self.records: list[Record] = group.records.tolist()
        self.cycle = [0] * len(self.records)
        partition = Partition(_scopes(self.records), stack)
        self.places = partition.places
        self.rows = RowTimer(rules, partition)
        self.columns: set[int] = set()
        self.moves = MoveTimer(rules, self.columns, self.cycle.__setitem__)
        _, groups, sids, pseudo_channels = partition.num_parts
        self.last_in_group = [NEVER] * groups
        self.last_in_sid = [NEVER] * sids
        self.last_in_pc = [NEVER] * pseudo_channels
        self.write_in_group = [NEVER] * groups
        self.write_in_pc, self.read_in_pc = [NEVER] * pseudo_channels, [NEVER] * pseudo_channels
        self.register_ready: dict[int, int] = {}
        self.entry_read: dict[int, int] = {}
        self.arriving: deque[tuple[int, int]] = deque(maxlen=_IN_FLIGHT)
        self.floor, self.unit_ready, self.last_column, self.end = 1, 1, -1, 0
        self.computing = self.switched = False
        self.num_units = self.num_bursts = 0

    def run(self) -> ChannelGroup:
        """Return the group's commands with their cycles."""
        handlers: dict[int, Callable[[int, Record], None]] = {
            **dict.fromkeys(UNIT_OPS, self.unit),
            **dict.fromkeys((Op.RD, Op.WR), self.burst),
            **dict.fromkeys(_MOVES, self.move),
            Op.ACT: self.activate,
            Op.PRE: self.precharge,
            Op.REF: self.refresh,
            Op.MODE: self.mode,
            Op.BARRIER: self.barrier,
        }
        for index, record in enumerate(self.records):
            handlers[record[0]](index, record)
        self.moves.flush()
        self.end = max(self.end, self.moves.done, self.rows.last)
        return self._merged()

    def busy_cycles(self) -> dict[str, int]:
        """Return for how many cycles each resource is in use in one channel."""
        rules = self.rules
        return {
            "units": self.num_units * rules.unit,
            "rows": self.rows.slots,
            "moves": self.moves.busy,
            "refresh": self.rows.num_refreshes * rules.refresh,
            "bus": self.num_bursts * rules.burst,
        }

    def activate(self, index: int, record: Record) -> None:
        self.switched |= self.computing
        place = self._place(record)
        self.cycle[index] = self.rows.activate(index, place, record, self.last_column)

    def precharge(self, index: int, record: Record) -> None:
        self.cycle[index] = self.rows.precharge(self._place(record))

    def refresh(self, index: int, record: Record) -> None:
        del record
        if any(self.rows.open):
            raise StreamError(
                f"{self.name}: command {int(self.group.order[index])} (REF): a row is open; close"
                " all banks of the channel with PRE first"
            )
        self.cycle[index] = self.rows.refresh_now()

    def mode(self, index: int, record: Record) -> None:
        """Turn on once all is done; off in the cycle of the last command."""
        self.moves.flush()
        last = max(self.last_column, self.moves.last, 0)
        if not record[_FLAGS] & ON:
            self.cycle[index] = last
            return
        started = last > 0 or self.end > 0
        cycle = max(last, self.end, self.moves.done) + 1 if started else 0
        self.cycle[index] = cycle
        self.floor = self.rows.floor = cycle + 1
        self.unit_ready = cycle + self.rules.first_mac

    def barrier(self, index: int, record: Record) -> None:
        del record
        self.moves.flush()
        self.floor = max(self.floor, self.end + 1, self.moves.done + 1)
        self.cycle[index] = self.floor
        self.computing = self.switched = False

    def move(self, index: int, record: Record) -> None:
        op, earliest = record[0], self.floor
        if uses_register(record):
            earliest = max(earliest, self.register_ready.get(record[_DST], NEVER))
        elif op in (Op.WR_GB, Op.MV_GB):
            earliest = max(earliest, self.entry_read.get(record[_SRC], NEVER))
        self.moves.add(index, record, earliest)

    def unit(self, index: int, record: Record) -> None:
        op, place = record[0], self._place(record)
        cycle = max(self._earliest(index, place, op in _WRITES), self.unit_ready)
        if op in _MULTIPLY:
            cycle = max(cycle, self.moves.entry_ready(record[_SRC]))
        if op != Op.STORE:
            cycle = max(cycle, self.moves.register_free(record[_DST]))
        cycle = self._take(index, place, cycle, op in _WRITES)
        self.unit_ready = cycle + self.rules.unit
        if op in _MULTIPLY:
            self.entry_read[record[_SRC]] = cycle + 1
        after = self.rules.move_after_switch if self.switched else self.rules.move_after_mac
        self.register_ready[record[_DST]] = cycle + after
        self.computing = True
        self.num_units += 1
        self.end = max(self.end, cycle)

    def burst(self, index: int, record: Record) -> None:
        """Time a column over the external bus, in order with the moves, which share it."""
        self.moves.flush()
        op, place = record[0], self._place(record)
        cycle = max(self._earliest(index, place, op == Op.WR), self.moves.path_free)
        if op == Op.WR:
            cycle = max(cycle, self.moves.done + 1, self._read_by(record[_ADDRESS]))
        cycle = self._take(index, place, cycle, op == Op.WR)
        latency = self.rules.write_latency if op == Op.WR else self.rules.read_latency
        self.moves.path_free = cycle + self.rules.burst
        known = cycle if op == Op.WR else cycle + latency
        self.moves.last = max(self.moves.last, known)
        if op == Op.RD:
            self.arriving.append((record[_ADDRESS], cycle + latency))
        self.num_bursts += 1
        self.end = max(self.end, cycle + latency)

    def _read_by(self, address: int) -> int:
        """Return when what the last RDs bring is there, if a WR of `address` sends it on."""
        size = self.rules.operand_elements
        ready = [done for start, done in self.arriving if abs(start - address) < size]
        return max(ready, default=NEVER)

    def _earliest(self, index: int, place: Place, write: bool) -> int:
        """Return the cycle from which order, barriers, rows and column spacing allow a column."""
        if not self.rows.reopen(index, place, self.last_column):
            raise StreamError(
                f"{self.name}: command {int(self.group.order[index])}"
                f" ({Op(self.records[index][0]).name}): no row is open; rows.with_rows opens them"
            )
        rules, cycle = self.rules, max(self.floor, self.last_column + 1)
        opened = rules.to_write_column if write else rules.to_read
        for bank in place.banks:
            cycle = max(cycle, self.rows.activated[bank] + opened)
        for group in place.groups:
            cycle = max(cycle, self.last_in_group[group] + rules.column_group)
        for sid in place.sids:
            cycle = max(cycle, self.last_in_sid[sid] + rules.column_sid)
        for pc in place.pseudo_channels:
            cycle = max(cycle, self.last_in_pc[pc] + rules.column_any)
        return max(cycle, self._after_turn(place, write))

    def _after_turn(self, place: Place, write: bool) -> int:
        """Return the cycle from which reading after writing, or the reverse, is allowed."""
        rules, cycle = self.rules, NEVER
        for pc in place.pseudo_channels:
            if write:
                cycle = max(cycle, self.read_in_pc[pc] + rules.read_to_write)
            else:
                cycle = max(cycle, self.write_in_pc[pc] + rules.write_to_read)
        if not write:
            for group in place.groups:
                cycle = max(cycle, self.write_in_group[group] + rules.write_to_read_group)
        return cycle

    def _take(self, index: int, place: Place, cycle: int, write: bool) -> int:
        """Issue a column command in the first cycle that is free and return that."""
        if cycle >= self.rows.force_at:
            self.rows.refresh(index)
            cycle = max(cycle, self._earliest(index, place, write))
        while cycle in self.columns:
            cycle += 1
        self.columns.add(cycle)
        self.cycle[index] = self.last_column = cycle
        used = self.rows.written if write else self.rows.read
        for bank in place.banks:
            used[bank] = cycle
        for group in place.groups:
            self.last_in_group[group] = cycle
            if write:
                self.write_in_group[group] = cycle
        for sid in place.sids:
            self.last_in_sid[sid] = cycle
        turn = self.write_in_pc if write else self.read_in_pc
        for pc in place.pseudo_channels:
            self.last_in_pc[pc] = turn[pc] = cycle
        return cycle

    def _place(self, record: Record) -> Place:
        return self.places[record[_PSEUDO_CHANNEL : _BANK + 1], record[0] in UNIT_OPS]

    def _merged(self) -> ChannelGroup:
        """Return the group with the cycles set and the commands that were added in their places."""
        records = self.group.records.copy()
        records["cycle"] = self.cycle
        if not self.rows.inserted:
            return self.group.replaced(records, self.group.order)
        places = [index for index, _, _ in self.rows.inserted]
        added = np.array([record for _, record, _ in self.rows.inserted], RECORD)
        added["cycle"] = [cycle for _, _, cycle in self.rows.inserted]
        added["channel"] = ALL if self.group.every else 0
        order: NDArray[np.int64] = np.insert(self.group.order, places, self.group.order[places])
        return self.group.replaced(np.insert(records, places, added), order)


def _scopes(records: list[Record]) -> set[tuple[Scope, bool]]:
    """Return the scopes of the commands that name banks, and that of refreshes."""
    scopes: set[tuple[Scope, bool]] = {((ALL, ALL, ALL, ALL), False)}
    for record in records:
        if record[0] in _WITH_BANKS:
            pseudo_channel, sid, group, bank = record[_PSEUDO_CHANNEL : _BANK + 1]
            scopes.add(((pseudo_channel, sid, group, bank), record[0] in UNIT_OPS))
    return scopes


_WITH_BANKS = frozenset({*COLUMN_OPS, *_ROW_OPS})
