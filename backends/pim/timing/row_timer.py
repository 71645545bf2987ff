"""When rows of a channel open and close: bank state, the row bus, and refresh.

Each command issues as early as its banks allow, ahead of columns that wait. It knows nothing of
operands, registers or moves.
"""

from __future__ import annotations

from tokenloom.backends.pim.streams.commands import ALL, FIELDS, Op
from tokenloom.backends.pim.timing.constraints import ACTIVATE_SLOTS, Constraints
from tokenloom.backends.pim.timing.partition import Partition, Place

NEVER = -(1 << 40)
"""A cycle before all others."""
_EVERYWHERE = (ALL, ALL, ALL, ALL)


class RowTimer:
    """Times of the rows of one channel.

    `inserted` collects the commands that the timer adds: (index of the command that they precede,
    record, cycle). `refresh_at` is the cycle at which the next refresh is due; it is done when a
    row opens next, so that open rows are used up first, or at `force_at` if that comes before.
    """

    def __init__(self, rules: Constraints, partition: Partition):
        self.rules = rules
        banks, _, sids, _ = partition.num_parts
        self.activated, self.precharged = [NEVER] * banks, [NEVER] * banks
        self.read, self.written = [NEVER] * banks, [NEVER] * banks
        self.open = [False] * banks
        self.opened_by: list[tuple[Place, tuple[int, ...]] | None] = [None] * banks
        self.to_reopen: dict[int, tuple[Place, tuple[int, ...]]] = {}
        self.last_in_group = [NEVER] * partition.num_parts[1]
        self.activates = [[NEVER] * 4 for _ in range(sids)]
        self.inserted: list[tuple[int, tuple[int, ...], int]] = []
        self.floor, self.last, self.refreshed, self.last_refresh = 1, -1, NEVER, NEVER
        self.busy: set[int] = set()
        self.refresh_at = rules.refresh_every or 1 << 60
        self.force_at = self.refresh_at + rules.refresh_wait
        self.num_refreshes = self.slots = 0

    def precharge(self, place: Place) -> int:
        """Close the banks and return the cycle."""
        for bank in place.banks:
            self.to_reopen.pop(bank, None)
        return self._precharge(place.banks)

    def activate(self, index: int, place: Place, record: tuple[int, ...], column: int) -> int:
        """Open a row and return the cycle; `column` is that of the last column command so far."""
        cycle = self._earliest_activate(place)
        while self.refresh_at <= max(cycle, column):
            self.refresh(index)
            cycle = self._earliest_activate(place)
        cycle = self._slot(cycle, ACTIVATE_SLOTS)
        for bank in place.banks:
            self.activated[bank] = cycle
            self.open[bank] = True
            self.opened_by[bank] = place, record
            self.to_reopen.pop(bank, None)
        for group in place.groups:
            self.last_in_group[group] = cycle
        for sid in place.sids:
            if place.one_bank:
                self.activates[sid] = [*self.activates[sid][1:], cycle]
            else:
                self.activates[sid][-1] = cycle
        return cycle

    def reopen(self, index: int, place: Place, column: int) -> bool:
        """Open again what a refresh closed of the banks; False: they never were open."""
        for bank in place.banks:
            if self.open[bank]:
                continue
            if bank not in self.to_reopen:
                return False
            where, record = self.to_reopen[bank]
            self.inserted.append((index, record, self.activate(index, where, record, column)))
        return True

    def refresh(self, index: int) -> None:
        """Close what is open and refresh all banks, before command `index`."""
        opened = [bank for bank, is_open in enumerate(self.open) if is_open]
        if opened:
            for bank in opened:
                by = self.opened_by[bank]
                if by is not None:
                    self.to_reopen[bank] = by
            cycle = self._precharge(tuple(range(len(self.open))))  # it closes all, so waits for all
            self.inserted.append((index, row_record(Op.PRE), cycle))
        self.inserted.append((index, row_record(Op.REF), self._refresh(self.refresh_at)))

    def refresh_now(self) -> int:
        """Refresh for a REF that the stream itself has, all rows closed; return the cycle."""
        return self._refresh(self.floor)

    def _refresh(self, earliest: int) -> int:
        """Refresh from a cycle on; it is the one that was due next, where refreshes are due."""
        cycle = max(earliest, self.refreshed, self.floor)
        cycle = max(cycle, max(self.precharged) + self.rules.precharge_to_refresh)
        cycle = self._slot(cycle, 1)
        self.refreshed = cycle + self.rules.refresh
        self.refresh_at += self.rules.refresh_every
        self.force_at += self.rules.refresh_every
        self.num_refreshes += 1
        return cycle

    def _precharge(self, banks: tuple[int, ...]) -> int:
        rules, cycle = self.rules, self.floor
        for bank in banks:
            cycle = max(
                cycle,
                self.activated[bank] + rules.row_open,
                self.read[bank] + rules.read_to_precharge,
                self.written[bank] + rules.write_to_precharge,
                self.refreshed,
            )
        cycle = self._slot(cycle, 1)
        for bank in banks:
            self.precharged[bank] = cycle
            self.open[bank] = False
        return cycle

    def _earliest_activate(self, place: Place) -> int:
        rules = self.rules
        cycle = max(self.floor, self.refreshed)
        for bank in place.banks:
            cycle = max(
                cycle,
                self.precharged[bank] + rules.precharge,
                self.activated[bank] + rules.row_cycle,
            )
        for group in place.groups:
            cycle = max(cycle, self.last_in_group[group] + rules.activate_group)
        for sid in place.sids:
            cycle = max(cycle, self.activates[sid][-1] + rules.activate_sid)
            if place.one_bank:
                cycle = max(cycle, self.activates[sid][0] + rules.four_activates)
        return cycle

    def _slot(self, cycle: int, slots: int) -> int:
        """Return the first cycle from `cycle` on in which the row bus is free, and take it."""
        while any(cycle + slot in self.busy for slot in range(slots)):
            cycle += 1
        self.busy.update(range(cycle, cycle + slots))
        self.last = max(self.last, cycle)
        self.slots += slots
        return cycle


def row_record(op: Op, scope: tuple[int, int, int, int] = _EVERYWHERE) -> tuple[int, ...]:
    """Return the record of a row command of channel 0 without a row."""
    return (int(op), 0, *scope, *(0,) * (len(FIELDS) - 7), -1)
