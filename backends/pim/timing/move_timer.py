"""When moves between units and base die issue: a queue of its own, which overlaps with computing.

Moves issue in order. Commands of the units have right of way on the column bus, so a move's cycle
is fixed only when a command that waits for it comes: by then all commands that may be before it
have their cycles. It knows nothing of rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from tokenloom.backends.pim.streams.commands import FIELDS, UNITS, Op
from tokenloom.backends.pim.timing.constraints import Constraints

NEVER = -(1 << 40)
_SRC, _DST, _ADDRESS, _SIZE, _BYTES, _FLAGS = (
    FIELDS.index(name) for name in ("src", "dst", "address", "size", "size_bytes", "flags")
)
_INTO = (Op.WR_GB, Op.MV_GB)
_ON_PATH = (Op.WR_GB, Op.MV_GB, Op.MV_SB)


def uses_register(record: tuple[int, ...]) -> bool:
    """Return whether a move reads or fills a register, not an operand entry."""
    fills = record[0] == Op.MV_GB and record[_FLAGS] & UNITS
    return record[0] == Op.MV_SB or bool(fills)


@dataclass(slots=True)
class _Move:
    number: int
    index: int
    op: int
    record: tuple[int, ...]
    earliest: int


@dataclass(slots=True)
class _Softmax:
    start: int
    stop: int
    done: int


class MoveTimer:
    """Times of the moves of one channel.

    `written` holds for each operand entry, `read` for each register the cycle from which a unit may
    use it; `issue` is called with the index and the cycle of each move.
    """

    def __init__(self, rules: Constraints, columns: set[int], issue: Callable[[int, int], None]):
        self.rules, self.columns, self.issue = rules, columns, issue
        self.pending: deque[_Move] = deque()
        self.waits_entry: dict[int, int] = {}
        self.waits_register: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.softmaxes: list[_Softmax] = []
        self.number = self.issued = self.busy = 0
        self.last, self.path_free, self.arrived, self.done = -1, 0, 0, 0
        self.intervals: dict[int, int] = {
            Op.WR_GB: rules.operand_write,
            Op.MV_GB: rules.probability,
            Op.MV_SB: rules.move,
        }
        self.last_of: dict[int, int] = dict.fromkeys(_ON_PATH, NEVER)

    def add(self, index: int, record: tuple[int, ...], earliest: int) -> None:
        """Queue a move that may issue from `earliest` on."""
        self.number += 1
        op = record[0]
        self.pending.append(_Move(self.number, index, op, record, earliest))
        if uses_register(record):
            self.waits_register[record[_DST]] = self.number
        elif op in _INTO:
            self.waits_entry[record[_SRC]] = self.number

    def entry_ready(self, entry: int) -> int:
        """Return the cycle from which units may read an operand entry."""
        if self.waits_entry.get(entry, 0) > self.issued:
            self.flush(self.waits_entry[entry])
        return self.written.get(entry, NEVER)

    def register_free(self, register: int) -> int:
        """Return the cycle from which units may write a register."""
        if self.waits_register.get(register, 0) > self.issued:
            self.flush(self.waits_register[register])
        return self.read.get(register, NEVER)

    def flush(self, number: int | None = None) -> None:
        """Issue what is queued, up to a move's number."""
        while self.pending and (number is None or self.pending[0].number <= number):
            move = self.pending.popleft()
            self.issued = move.number
            cycle = max(move.earliest, self.last + 1, self._after_last(move))
            while cycle in self.columns:
                cycle += 1
            self.columns.add(cycle)
            self.last = cycle
            self._finish(move, cycle)
            self.issue(move.index, cycle)

    def _after_last(self, move: _Move) -> int:
        """Return the cycle from which the path and the base die's memory allow a move."""
        cycle = NEVER
        if move.op in _ON_PATH:
            cycle = max(self.path_free, self.last_of[move.op] + self.intervals[move.op])
        elif move.op in (Op.DMA, Op.GATHER, Op.BCAST):
            cycle = self.path_free
        if move.op == Op.SFM:
            cycle = self.arrived
        if move.op in (*_INTO, Op.SFM):
            cycle = max(cycle, self._softmax_done(move))
        return cycle

    def _softmax_done(self, move: _Move) -> int:
        """Return when the last softmax is done whose result a move reads, or for one, at all."""
        rules, address = self.rules, move.record[_ADDRESS]
        size = rules.operand_elements if move.op == Op.WR_GB else rules.slot_elements
        for softmax in reversed(self.softmaxes):
            if move.op == Op.SFM or (softmax.start < address + size and address < softmax.stop):
                return softmax.done
        return NEVER

    def _finish(self, move: _Move, cycle: int) -> None:
        """Take the path, and note from when on what was moved can be used."""
        rules, record, taken = self.rules, move.record, 0
        if move.op in _ON_PATH:
            taken = rules.move
            self.last_of[move.op] = cycle
            if uses_register(record):
                self.read[record[_DST]] = cycle + 1
            else:
                self.written[record[_SRC]] = cycle + 1
            if move.op == Op.MV_SB:
                self.arrived = cycle + taken
        elif move.op == Op.SFM:
            done = cycle + 1 + ceil(record[_SIZE] * rules.softmax_per_token)
            start = record[_ADDRESS]
            self.softmaxes.append(_Softmax(start, start + record[_SIZE], done))
            self.done = max(self.done, done - 1)
        elif move.op != Op.ROT:
            taken = rules.duration(record[_BYTES], dma=move.op == Op.DMA)
            self.done = max(self.done, cycle + taken - 1)
        if taken:
            self.path_free = cycle + taken
            self.busy += taken
        self.done = max(self.done, cycle)
