"""How long units work on columns in order, row after row: the part of the closed form with rows.

A step a row, not a step a command. It knows the cost of opening rows and of refreshes, and nothing
of operands or moves.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.timing.constraints import ACTIVATE_SLOTS, Compat, Constraints

NEVER = -(1 << 40)


@dataclass(frozen=True)
class Phase:
    """When the commands of a phase issue: from each of `indices` on at a constant interval."""

    indices: list[int]
    cycles: list[int]
    interval: int
    count: int

    def cycle(self, index: int) -> int:
        """Return the cycle of a command, counted from 0."""
        run = bisect_right(self.indices, index) - 1
        return self.cycles[run] + (index - self.indices[run]) * self.interval

    def switched(self, index: int) -> bool:
        """Whether a row was opened in the phase before the command, after the first command."""
        return index >= self.indices[1] if len(self.indices) > 1 else False

    @property
    def first(self) -> int:
        """The cycle of the first command."""
        return self.cycles[0]

    @property
    def last(self) -> int:
        """The cycle of the last command."""
        return self.cycle(self.count - 1)


class RowModel:
    """The rows of one channel as phases follow each other, units in lock step.

    At bank level all banks open a row together, at bank-group level one bank of each group after
    the other, the next one early; at buffer level columns go around all banks, which then open
    their rows one by one. Commands that stay in a bank (not `in_turn`) are slower there.
    """

    def __init__(
        self,
        stack: PimStack,
        compat: Compat | None = None,
        refresh: bool = True,
        in_turn: bool = True,
    ):
        rules = Constraints.of(stack, compat, refresh)
        alone = stack.level == "buffer" and not in_turn
        unit = max(rules.unit, rules.column_group) if alone else rules.unit
        self.rules = replace(rules, unit=unit)
        self.columns = stack.columns
        self.groups = stack.pim_sids * stack.bank_groups if stack.level == "buffer" else 1
        self.bank_groups = stack.bank_groups
        self.turns = 1 if stack.level == "bank" else stack.banks
        banks = self.groups * self.turns
        self.opened, self.closed = [NEVER] * banks, [NEVER] * banks
        self.now, self.last_act, self.refreshed = NEVER, NEVER, NEVER
        self.acts = [[NEVER] * 4 for _ in range(max(1, self.groups // stack.bank_groups))]
        self.opened_in_group = [NEVER] * self.groups
        self.busy: set[int] = set()
        self.due = self.rules.refresh_every or 1 << 60
        self.wrote = False
        self.indices: list[int] = []
        self.cycles: list[int] = []

    def phase(self, gate: int, columns: int, repeats: int, again: bool = False) -> Phase:
        """Run `repeats` commands on each of `columns`, not before `gate`.

        They are in rows of their own; with `again` in those of the phase before.
        """
        self.indices, self.cycles = [], []
        if again and columns <= self.columns * self.groups * self.turns:
            self._run(0, max(gate, self.now + self.rules.unit), columns * repeats, [0])
        elif self.groups == 1:
            self._rows(gate, columns, repeats)
        else:
            self._sets(gate, columns, repeats)
        return Phase(self.indices, self.cycles, self.rules.unit, columns * repeats)

    def visit(self, commands: int, write: bool = False, bank: int = 0) -> int:
        """Open another row and run commands on it, reads or writes; return the last cycle."""
        rules = self.rules
        self._open(bank)
        opened = self.opened[bank] + (rules.to_write_column if write else rules.to_read)
        turn = rules.read_to_write if write else rules.write_to_read_group
        apart = rules.unit if write == self.wrote else turn
        self._run(0, max(opened, self.now + apart, rules.first_mac), commands, [bank])
        if write:
            self.closed[bank] = self.now + rules.write_to_precharge
        self.wrote = write
        return self.now

    def _rows(self, gate: int, columns: int, repeats: int) -> None:
        for start in range(0, columns, self.columns):
            bank = start // self.columns % self.turns
            self._open(bank)
            count = min(self.columns, columns - start) * repeats
            cycle = max(self.opened[bank] + self.rules.to_read, self.now + self.rules.unit, gate)
            self._run(start * repeats, cycle, count, [bank])

    def _sets(self, gate: int, columns: int, repeats: int) -> None:
        """Columns go around all banks; a set is a row in each."""
        banks, rules = self.groups * self.turns, self.rules
        for start in range(0, columns, banks * self.columns):
            count = min(banks * self.columns, columns - start)
            around = min(banks, count)
            for bank in range(around):
                self._open(bank)
                cycle = max(self.opened[bank] + rules.to_read, self.now + rules.unit, gate)
                self._run((start + bank) * repeats, cycle, repeats, [bank])
            rest, opened = count - around, list(range(around))
            if rest:
                index = (start + around) * repeats
                self._run(index, self.now + rules.unit, rest * repeats, opened)
            self._close_set(count, repeats, around)

    def _close_set(self, count: int, repeats: int, around: int) -> None:
        """Close the same bank of all groups once all are done; columns used once are closed."""
        behind = [(count - 1 - bank) % around for bank in range(around)]
        for bank in range(min(around, count - around)):
            alike = bank // self.groups * self.groups
            whole = alike + self.groups <= around
            steps = min(behind[alike : alike + self.groups]) if whole else behind[bank]
            self._close(bank, self.now - steps * repeats * self.rules.unit)

    def _run(self, index: int, cycle: int, count: int, banks: list[int]) -> None:
        """Issue commands at the interval of units, with the refreshes that cannot wait."""
        rules = self.rules
        self._mark(index, cycle)
        done = 0
        while cycle + (count - done - 1) * rules.unit >= self.due + rules.refresh_wait:
            before = max(0, -(-(self.due + rules.refresh_wait - cycle) // rules.unit))
            if before:
                self.now = cycle + (before - 1) * rules.unit
                for bank in banks:
                    self._close(bank, self.now)
            done += before
            self._refresh()
            for bank in banks:
                self._open(bank)
            cycle = max(self.opened[banks[0]] + rules.to_read, cycle + before * rules.unit)
            ramp = self.opened[banks[-1]] - self.opened[banks[0]]
            cycle += max(0, ramp - (len(banks) - 1) * rules.unit)
            self._mark(index + done, cycle)
        self.now = cycle + (count - done - 1) * rules.unit
        for bank in banks:
            self._close(bank, self.now)

    def _mark(self, index: int, cycle: int) -> None:
        if self.indices and self.indices[-1] == index:
            self.cycles[-1] = cycle
            return
        self.indices.append(index)
        self.cycles.append(cycle)

    def _close(self, bank: int, last: int) -> None:
        rules = self.rules
        self.closed[bank] = max(last + rules.read_to_precharge, self.opened[bank] + rules.row_open)

    def _open(self, bank: int) -> None:
        cycle = self._earliest(bank)
        while self.due <= max(cycle, self.now):
            self._refresh()
            cycle = self._earliest(bank)
        self.opened[bank] = self.last_act = self.opened_in_group[bank % self.groups] = cycle
        self.busy.update(range(cycle, cycle + ACTIVATE_SLOTS))
        sid = bank % self.groups // self.bank_groups
        self.acts[sid] = [*self.acts[sid][1:], cycle]

    def _earliest(self, bank: int) -> int:
        rules = self.rules
        cycle = max(
            1,
            self.refreshed,
            self.closed[bank] + rules.precharge,
            self.opened[bank] + rules.row_cycle,
        )
        if self.groups == 1:
            return max(cycle, self.last_act + max(rules.activate_group, ACTIVATE_SLOTS))
        acts = self.acts[bank % self.groups // self.bank_groups]
        within = max(acts[-1] + rules.activate_sid, acts[0] + rules.four_activates)
        cycle = max(cycle, self.opened_in_group[bank % self.groups] + rules.activate_group, within)
        while cycle in self.busy or cycle + ACTIVATE_SLOTS - 1 in self.busy:
            cycle += 1
        return cycle

    def _refresh(self) -> None:
        rules = self.rules
        cycle = max(self.due, self.refreshed, max(self.closed) + rules.precharge_to_refresh)
        self.refreshed = cycle + rules.refresh
        self.due += rules.refresh_every
