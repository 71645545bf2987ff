"""Energy of a timed command stream, command by command, and of attention in closed form.

Every byte pays for the parts of its way that it goes: rows opened, cells, the wires of the array,
TSVs, interposer; units for their arithmetic and operand buffers; dies for standing by. Rows pay
when they open, as much as if all their columns were used: columns used often share it, columns not
used waste it. It knows no timing but the cycles of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.paths import array_pj_per_byte, units_pj_per_byte
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, UNIT_OPS, CommandStream, Op
from tokenloom.backends.pim.timing.attention_shape import attention_counts, dealt, shared_queries
from tokenloom.backends.pim.timing.closed_form import attention_cycles
from tokenloom.backends.pim.timing.event_model import TimedStream

REFRESHES_PER_WINDOW = 8192
"""All-bank refreshes in which every row is refreshed once (JEDEC: 32 ms at tREFI 3.9 us)."""
COMPONENTS = (
    *("activate", "cell", "path", "tsv", "interposer"),
    *("mac", "buffer", "softmax", "refresh", "static"),
)
"""The parts of an energy report, see there."""
_MULTIPLY = (Op.MAC_TREE, Op.MAC_LANES, Op.MAC)
_ARITHMETIC = (*_MULTIPLY, Op.ADD, Op.MUL)
_BITS = 8
_J = 1e-12
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class EnergyReport:
    """Joules by component.

    `activate`: rows opened and closed. `cell`: columns read or written. `path`: wires from banks to
    the TSVs. `tsv`, `interposer`. `mac`: arithmetic of units. `buffer`: their operand buffers.
    `softmax`. `refresh`: with the rows that it opens again. `static`: dies of the stacks in use.
    """

    components: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum of all components."""
        return sum(self.components.values())

    @property
    def dynamic(self) -> float:
        """What does not depend on how long it takes: all but `refresh` and `static`."""
        return sum(v for k, v in self.components.items() if k not in ("refresh", "static"))


def stream_energy(timed: TimedStream, stack: PimStack, element_bytes: int = 2) -> EnergyReport:
    """Return the energy of a timed stream; elements tell how many multiply at once in a unit."""
    sums = _Sums(timed.stream, stack)
    meter = _Meter(stack)
    meter.rows(sums.opened_banks)
    meter.units(sums.of(UNIT_OPS, sums.unit_bytes))
    meter.macs(sums.of(_ARITHMETIC, sums.unit_bytes), element_bytes)
    sizes = sums.size_bytes
    queries = sums.of((Op.WR_GB,), sizes)
    meter.moves(queries + sums.of((Op.MV_GB, Op.MV_SB, Op.GATHER, Op.BCAST), sizes), queries)
    meter.bus(sums.of((Op.RD, Op.WR), sums.bank_bytes))
    meter.migrated(sums.of((Op.DMA,), sizes))
    meter.softmax(sums.of((Op.SFM,), sums.elements))
    meter.refreshes(sums.of((Op.REF,), sums.channels), sums.reopened_banks)
    meter.standing(timed.cycles, -(-timed.channels // stack.channels))
    return EnergyReport(meter.pj_to_j())


def attention_energy(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    element_bytes: int = 2,
    heads_per_kv: int = 1,
) -> EnergyReport:
    """Return the energy of attention on one stack, from counts and closed-form cycles.

    Equal to that of the stream but for the number of refreshes. StreamError: as `attention_cycles`.
    """
    shape = (stack, heads, length, head_dim, element_bytes)
    counts = attention_counts(*shape, heads_per_kv)
    cycles = attention_cycles(*shape, heads_per_kv=heads_per_kv)
    sums = CommandSums(
        opened_banks=counts.opened_banks,
        unit_bytes=counts.unit_bytes,
        moved_bytes=counts.moved_bytes,
        query_bytes=counts.query_bytes,
        bus_bytes=0,
        softmax_tokens=counts.tokens,
        refreshes=_refreshes(*shape, heads_per_kv),
        cycles=cycles,
        stacks=1 if cycles else 0,
    )
    return energy_of(stack, sums, element_bytes)


@dataclass(frozen=True)
class CommandSums:
    """What a launch's commands come to.

    Banks opened, bytes by way, tokens of softmaxes, refreshes of a channel, and how long `stacks`
    were in use. `query_bytes` are of `moved_bytes`.
    """

    opened_banks: int
    unit_bytes: int
    moved_bytes: int
    query_bytes: int
    bus_bytes: int
    softmax_tokens: int
    refreshes: int
    cycles: int
    stacks: int


def energy_of(stack: PimStack, sums: CommandSums, element_bytes: int = 2) -> EnergyReport:
    """Return the energy of what was added up without a stream; `refresh` without reopened rows."""
    meter = _Meter(stack)
    meter.rows(sums.opened_banks)
    meter.units(sums.unit_bytes)
    meter.macs(sums.unit_bytes, element_bytes)
    meter.moves(sums.moved_bytes, sums.query_bytes)
    meter.bus(sums.bus_bytes)
    meter.softmax(sums.softmax_tokens)
    meter.refreshes(sums.refreshes, 0)
    meter.standing(sums.cycles, sums.stacks)
    return EnergyReport(meter.pj_to_j())


def _refreshes(
    stack: PimStack, heads: int, length: int, head_dim: int, element_bytes: int, heads_per_kv: int
) -> int:
    """Return the refreshes of all channels: some have a head more than others."""
    queries = shared_queries(stack, head_dim, element_bytes, heads_per_kv)
    most, full = dealt(stack, heads, heads_per_kv, queries)
    fewer = most - heads_per_kv // queries
    total = 0
    for count, channels in ((most, full), (fewer, stack.channels - full)):
        all_heads = count * queries * stack.channels if channels else 0
        cycles = attention_cycles(
            stack, all_heads, length, head_dim, element_bytes, heads_per_kv=heads_per_kv
        )
        total += cycles // stack.timing.refi_cycles * channels
    return total


class _Meter:
    """Adds up picojoules by component."""

    def __init__(self, stack: PimStack):
        self.stack, self.energy = stack, stack.energy
        self.pj = dict.fromkeys(COMPONENTS, 0.0)

    def pj_to_j(self) -> dict[str, float]:
        """Return joules by component."""
        return {name: pj * _J for name, pj in self.pj.items()}

    def rows(self, banks: int) -> None:
        self.pj["activate"] += banks * self._row_pj

    def units(self, size_bytes: int) -> None:
        """Count columns between cells and the units of the level in use."""
        self._cells(size_bytes)
        level, energy = self.stack.level, self.energy
        whole = array_pj_per_byte(energy, level) - array_pj_per_byte(energy, "bank")
        tsv = energy.tsv_pj_per_bit * _BITS if level == "buffer" else 0.0
        self.pj["path"] += size_bytes * (whole - tsv)
        self.pj["tsv"] += size_bytes * tsv
        self.pj["buffer"] += size_bytes * energy.buffer_pj_per_byte

    def macs(self, size_bytes: int, element_bytes: int) -> None:
        self.pj["mac"] += size_bytes / element_bytes * self.energy.mac_pj

    def moves(self, size_bytes: int, from_outside: int) -> None:
        """Count moves between units and base die; queries come over the interposer before that."""
        energy, level = self.energy, self.stack.level
        tsv = energy.tsv_pj_per_bit * _BITS if level != "buffer" else 0.0
        self.pj["path"] += size_bytes * (units_pj_per_byte(energy, level) - tsv)
        self.pj["tsv"] += size_bytes * tsv
        self.pj["interposer"] += from_outside * energy.interposer_pj_per_bit * _BITS
        self.pj["buffer"] += size_bytes * energy.buffer_pj_per_byte

    def bus(self, size_bytes: int) -> None:
        """Count columns over the external bus."""
        self._whole_way(size_bytes)
        self.pj["interposer"] += size_bytes * self.energy.interposer_pj_per_bit * _BITS

    def migrated(self, size_bytes: int) -> None:
        """Count bytes that leave one row for another through the base die."""
        self._whole_way(2 * size_bytes)
        self.pj["activate"] += 2 * size_bytes * self.energy.activate_pj_per_bit * _BITS

    def softmax(self, tokens: int) -> None:
        self.pj["softmax"] += tokens * self.energy.softmax_pj_per_token

    def refreshes(self, count: int, reopened_banks: int) -> None:
        stack = self.stack
        banks = stack.pseudo_channels * stack.sids * stack.bank_groups * stack.banks
        rows = -(-stack.rows // REFRESHES_PER_WINDOW)
        self.pj["refresh"] += (count * banks * rows + reopened_banks) * self._row_pj

    def standing(self, cycles: int, stacks: int) -> None:
        seconds = cycles * self.stack.timing.cycle_ns * 1e-9
        power_w = self.energy.static_w_per_die * self.stack.dies * stacks
        self.pj["static"] += power_w * seconds / _J

    def _cells(self, size_bytes: int) -> None:
        self.pj["cell"] += size_bytes * self.energy.cell_pj_per_bit * _BITS

    def _whole_way(self, size_bytes: int) -> None:
        energy = self.energy
        self._cells(size_bytes)
        wires = energy.bank_to_group_pj_per_bit + energy.group_to_io_pj_per_bit
        self.pj["path"] += size_bytes * wires * _BITS
        self.pj["tsv"] += size_bytes * energy.tsv_pj_per_bit * _BITS

    @property
    def _row_pj(self) -> float:
        stack = self.stack
        return stack.columns * stack.column_bytes * _BITS * stack.energy.activate_pj_per_bit


class _Sums:
    """What each command of a stream touches, in all channels that get it."""

    def __init__(self, stream: CommandStream, stack: PimStack):
        self.records: NDArray[Any] = stream.records
        self.stack = stack
        every = self.records["channel"] == ALL
        self.channels: Counts = np.where(every, stack.stacks * stack.channels, 1).astype(np.int64)
        banks = self._banks()
        self.bank_bytes = banks * stack.column_bytes
        self.unit_bytes = self.bank_bytes * self._units_per_bank()
        self.size_bytes: Counts = self.records["size_bytes"] * self.channels
        self.elements: Counts = self.records["size"] * self.channels
        opens = self.records["op"] == Op.ACT
        again = self._opened_again(opens)
        self.opened_banks = int(banks[opens & ~again].sum())
        self.reopened_banks = int(banks[again].sum())

    def of(self, ops: frozenset[Op] | tuple[Op, ...], values: Counts) -> int:
        """Return the sum of `values` over the commands of some kinds."""
        return int(values[np.isin(self.records["op"], [int(op) for op in ops])].sum())

    def _banks(self) -> Counts:
        """Return how many banks each command names; of SIDs without a number those that compute."""
        stack, banks = self.stack, self.channels.copy()
        sizes = {
            "pseudo_channel": stack.pseudo_channels,
            "sid": stack.pim_sids,
            "bank_group": stack.bank_groups,
            "bank": stack.banks,
        }
        for name, size in sizes.items():
            banks *= np.where(self.records[name] == ALL, size, 1)
        return banks

    def _units_per_bank(self) -> int | Counts:
        """Return how many units a bank number stands for: of a group's units, all read that one."""
        if self.stack.unit.banks_per_unit == 1:
            return 1
        units = self.stack.banks // self.stack.unit.banks_per_unit
        return np.where(self.records["bank"] == ALL, 1, units)

    def _opened_again(self, opens: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which ACTs open what the same banks had open before: a refresh closed it."""
        again = np.zeros(len(self.records), bool)
        fields = ["channel", "pseudo_channel", "sid", "bank_group", "bank", "row"]
        rows: dict[tuple[int, ...], int] = {}
        for index in np.flatnonzero(opens).tolist():
            *scope, row = (int(self.records[name][index]) for name in fields)
            again[index] = rows.get(tuple(scope)) == row
            rows[tuple(scope)] = row
        return again
