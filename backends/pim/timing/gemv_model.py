"""Cycles of a matrix-vector product by its schedule, in closed form: a step a run of columns.

A run is what one command after the other reads in one row. It agrees with `timing` within a few
percent and needs no commands; it chooses nothing (that is `search`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import prod

from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, GemvSchedule
from tokenloom.backends.pim.timing.constraints import Constraints

Run = tuple[int, int]
"""A row, and how many columns of it follow each other."""


def gemv_cycles(layout: GemvLayout, schedule: GemvSchedule, refresh: bool = True) -> int:
    """Return the cycles of an FP16 product, results stored to the banks, on one stack."""
    stack = layout.stack.at(schedule.level)
    channel = _Channel(layout, schedule, Constraints.of(stack))
    end = channel.run()
    if not refresh:
        return end
    rules, timing = channel.rules, stack.timing
    hidden = channel.to_other_row if schedule.level == "bank" else rules.unit
    cost = rules.precharge_to_refresh + rules.refresh + rules.read_to_precharge + rules.to_read
    cost -= hidden
    return with_refreshes(end, cost, timing.refi_cycles)


def with_refreshes(end: int, cost: int, every: int) -> int:
    """Return an end moved by the refreshes that are due before it, the n-th at n * `every`."""
    return end + cost * max(0, (end - cost) // (every - cost))


@dataclass
class _Channel:
    """One channel: when its units are free, and which row each bank they turn to has open."""

    layout: GemvLayout
    schedule: GemvSchedule
    rules: Constraints
    now: int = 0
    last_bank: int = -1
    rows: dict[int, int] = field(default_factory=dict[int, int])
    free: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def to_other_row(self) -> int:
        """From a read in one row to a read in the next of the same bank."""
        return self.rules.read_to_precharge + self.rules.precharge + self.rules.to_read

    def run(self) -> int:
        """Return the cycle of the last command."""
        layout, rules = self.layout, self.rules
        turns, per_visit = self.turns, self.commands_of_column
        writes = layout.operands * rules.operand_write
        self.now = max(rules.first_mac, 1 + rules.operand_write) - rules.unit
        for tile in range(layout.output_tiles):
            for _ in range(layout.stack.unit.banks_per_unit):
                for turn in range(layout.input_tiles):
                    began, runs = self.now, list(self.runs(tile, turn))
                    for bank in range(turns):
                        for row, count in runs:
                            self.read(bank, row, count * per_visit)
                    self.now = max(self.now, began + writes)
            for bank in range(turns):
                self.store(bank, tile)
        return self.now

    @property
    def interval(self) -> int:
        """Between two commands of units; single banks of one bank group are slower."""
        rules, alone = self.rules, self.schedule.level == "buffer"
        apart = self.schedule.banks_inner and self.layout.units[3] > 1
        return max(rules.unit, rules.column_group) if alone and not apart else rules.unit

    @property
    def turns(self) -> int:
        """Banks that a tile is worked on in, one after the other."""
        return 1 if self.schedule.banks_inner else self.selected

    @property
    def commands_of_column(self) -> int:
        """Commands on a column before the next column's."""
        return self.selected if self.schedule.banks_inner else 1

    @property
    def selected(self) -> int:
        """Banks, or groups of them, that commands select one of."""
        units = self.layout.units
        return {"bank": 1, "bank-group": units[4], "buffer": prod(units[2:])}[self.schedule.level]

    def runs(self, tile: int, turn: int) -> Iterator[Run]:
        """Yield the runs of a tile of outputs and a tile of inputs."""
        layout, columns = self.layout, self.layout.stack.columns
        operands, registers = layout.operands, layout.registers
        first = (tile * layout.input_tiles + turn) * operands * registers
        places = range(operands * registers)
        if self.schedule.operand_inner:
            order = [e * registers + r for r in range(registers) for e in range(operands)]
        else:
            order = list(places)
        for row, group in groupby((first + place) // columns for place in order):
            yield row, len(list(group))

    def read(self, bank: int, row: int, commands: int) -> None:
        """Multiply `commands` columns of a row; it opens as soon as the bank is free."""
        start = self.now + (self.interval if bank == self.last_bank else self.rules.unit)
        self.last_bank = bank
        if self.rows.get(bank) != row:
            if bank in self.free:
                start = max(start, self.free[bank] + self.rules.to_read)
            self.rows[bank] = row
        self.now = start + (commands - 1) * self.interval
        self.free[bank] = self.now + self.rules.read_to_precharge + self.rules.precharge

    def store(self, bank: int, tile: int) -> None:
        """Store the accumulators of a tile."""
        rules, layout = self.rules, self.layout
        row = layout.weight_rows + tile * layout.registers // layout.stack.columns
        start = max(self.now + rules.unit, self.now + rules.read_to_write)
        if self.rows.get(bank) != row:
            start = max(start, self.free[bank] + rules.to_write_column)
            self.rows[bank] = row
        self.now = start + (layout.registers * self.commands_of_column - 1) * rules.unit
        self.free[bank] = self.now + rules.write_to_precharge + rules.precharge
