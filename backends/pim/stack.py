"""What a memory stack that computes is: geometry, units, timing, levels and energy, as plain data.

Read from `[pim]` of a machine description. It holds no state and computes no times (that is
`timing` and `closed_form`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, cast

from tokenloom.backends.machine_reader import TableReader

LEVELS = ("bank", "bank-group", "buffer")
"""Where the units of a stack sit: at each bank, at each bank group, or in the base die."""


@dataclass(frozen=True)
class Unit:
    """What computes: `lanes` FP16 numbers a column, one unit for `banks_per_unit` banks.

    `registers` accumulators of `lanes` numbers, and `operand_entries` of them in the operand
    buffer, which holds what the banks' data is multiplied with.
    """

    lanes: int
    banks_per_unit: int
    registers: int
    operand_entries: int


@dataclass(frozen=True)
class Timing:
    """Constraints between commands, in cycles of `cycle_ns`, under their JEDEC names.

    `_s` holds between bank groups, `_l` within one, `_r` between SIDs. `rfc_bank` is 0 where the
    stack refreshes all banks at once. `write_interval` separates writes to the operand buffers,
    `move_interval` moves on the path between units and base die, which overlaps with computing.
    `first_mac`: from turning the units on to their first command. `move_after_mac`: from a unit's
    last command to moving its accumulators out; `move_after_switch` where a row was switched in
    that phase. `softmax_per_token` may be a fraction.
    """

    cycle_ns: float
    bl_cycles: int
    cl_cycles: int
    cwl_cycles: int
    rcd_read_cycles: int
    rcd_write_cycles: int
    rp_cycles: int
    ras_cycles: int
    rc_cycles: int
    wr_cycles: int
    rtp_s_cycles: int
    rtp_l_cycles: int
    ccd_s_cycles: int
    ccd_l_cycles: int
    ccd_r_cycles: int
    rrd_s_cycles: int
    rrd_l_cycles: int
    wtr_s_cycles: int
    wtr_l_cycles: int
    rtw_cycles: int
    faw_cycles: int
    rfc_cycles: int
    rfc_bank_cycles: int
    refi_cycles: int
    rrefd_cycles: int
    write_interval_cycles: int
    move_interval_cycles: int
    first_mac_cycles: int
    move_after_mac_cycles: int
    move_after_switch_cycles: int
    softmax_per_token_cycles: float


@dataclass(frozen=True)
class Level:
    """The least cycles between two commands of units at a level, with and without a power cap."""

    capped_cycles: int
    uncapped_cycles: int


@dataclass(frozen=True)
class Energy:
    """Energy of moving a bit over each part of its way, of arithmetic, and of standing still."""

    activate_pj_per_bit: float
    cell_pj_per_bit: float
    bank_to_group_pj_per_bit: float
    group_to_io_pj_per_bit: float
    tsv_pj_per_bit: float
    interposer_pj_per_bit: float
    link_pj_per_bit: float
    mac_pj: float
    buffer_pj_per_byte: float
    softmax_pj_per_token: float
    quantize_pj_per_element: float
    static_w_per_die: float


@dataclass(frozen=True)
class PimStack:
    """Memory stacks of one kind, in which some or all SIDs compute, or none.

    Each of `stacks` has `channels` x `pseudo_channels` x `sids` x `bank_groups` x `banks` banks of
    `rows` x `columns` x `column_bytes`. The first `pim_sids` SIDs compute; their banks have only
    `pim_rows` rows, as units take room. The bandwidths are those of all stacks together. A KV head
    stays in one channel for `stripe_tokens` tokens and goes on in the next; 0 keeps it in one
    channel whole. Of `levels`, `level` is used. With no computing SID, unit and levels say what
    could be built and nothing is.
    """

    stacks: int
    channels: int
    pseudo_channels: int
    sids: int
    pim_sids: int
    bank_groups: int
    banks: int
    rows: int
    pim_rows: int
    columns: int
    column_bytes: int
    dies: int
    stripe_tokens: int
    base_die_bytes: int
    bandwidth_bytes_per_s: float
    dma_bandwidth_bytes_per_s: float
    launch_ns: float
    level: str
    power_cap: bool
    unit: Unit
    timing: Timing
    levels: Mapping[str, Level]
    energy: Energy

    @classmethod
    def read(cls, table: TableReader) -> PimStack:
        """Read `[pim]` with its tables unit, timing, levels and energy."""
        levels = table.table("levels")
        stack = cls(
            **_numbers(table, cls, zero={"stripe_tokens", "pim_sids"}),
            level=table.text("level"),
            power_cap=table.flag("power_cap"),
            unit=_read(table.table("unit"), Unit),
            timing=_read(table.table("timing"), Timing, zero=_MAY_BE_ZERO),
            levels={name: _read(levels.table(name), Level) for name in levels},
            energy=_read(table.table("energy"), Energy, zero=_all_of(Energy)),
        )
        stack._check(table)
        table.finish()
        return stack

    def at(self, level: str | None = None, power_cap: bool | None = None) -> PimStack:
        """Return the same stack with its units at another level, or with or without the cap.

        ValueError: the stack has no such level.
        """
        level = self.level if level is None else level
        if level not in self.levels:
            raise ValueError(f"no units at level {level!r}; there are {', '.join(self.levels)}")
        return replace(
            self, level=level, power_cap=self.power_cap if power_cap is None else power_cap
        )

    @property
    def mac_interval_cycles(self) -> int:
        """The least cycles between two commands of the units."""
        level = self.levels[self.level]
        return level.capped_cycles if self.power_cap else level.uncapped_cycles

    @property
    def computes(self) -> bool:
        """Whether there is a unit at all."""
        return self.pim_sids > 0

    @property
    def density(self) -> float:
        """Rows of a computing bank over those of a dense one (rho); 1 where units take no room."""
        return self.pim_rows / self.rows

    @property
    def num_units(self) -> int:
        """Units of all stacks at the level in use."""
        banks = self.pim_sids * self._banks_per_sid
        units = {
            "bank": banks // self.unit.banks_per_unit,
            "bank-group": banks // self.banks,
            "buffer": self.stacks * self.channels * self.pseudo_channels if self.computes else 0,
        }
        return units[self.level]

    @property
    def capacity_bytes(self) -> int:
        """What all stacks hold, dense and computing."""
        return self.dense_bytes + self.pim_bytes

    @property
    def dense_bytes(self) -> int:
        """What the SIDs without units hold."""
        return (self.sids - self.pim_sids) * self._banks_per_sid * self.rows * self._row_bytes

    @property
    def pim_bytes(self) -> int:
        """What the computing SIDs hold."""
        return self.pim_sids * self._banks_per_sid * self.pim_rows * self._row_bytes

    @property
    def num_banks(self) -> int:
        """Banks of all stacks."""
        return self.sids * self._banks_per_sid

    @property
    def internal_bandwidth_bytes_per_s(self) -> float:
        """Peak bytes per second that the units read, all at once, rows open."""
        interval_s = self.mac_interval_cycles * self.timing.cycle_ns * 1e-9
        return self.num_units * self.column_bytes / interval_s

    @property
    def _banks_per_sid(self) -> int:
        channels = self.stacks * self.channels * self.pseudo_channels
        return channels * self.bank_groups * self.banks

    @property
    def _row_bytes(self) -> int:
        return self.columns * self.column_bytes

    def _check(self, table: TableReader) -> None:
        for key, reason in (*self._impossible(), *self._unordered()):
            raise table.error(key, reason)

    def _impossible(self) -> Iterator[tuple[str, str]]:
        """Yield each key whose value no stack can have, and why."""
        unknown = [name for name in self.levels if name not in LEVELS]
        if unknown:
            yield f"levels.{unknown[0]}", f"no such level; there are {', '.join(LEVELS)}"
        if self.level not in self.levels:
            yield "level", f"no [pim.levels.{self.level}]"
        if self.pim_sids > self.sids:
            yield "pim_sids", f"{self.pim_sids} of {self.sids} sids cannot compute"
        if self.pim_rows > self.rows:
            yield "pim_rows", f"{self.pim_rows} is more than the {self.rows} rows of a dense bank"
        if self.dies % self.sids:
            yield "dies", f"{self.dies} dies are not a whole number for each of {self.sids} sids"
        if self.unit.lanes * 2 != self.column_bytes:
            lanes = f"{self.unit.lanes} FP16 lanes do not take {self.column_bytes} bytes a column"
            yield "unit.lanes", lanes
        if self.banks % self.unit.banks_per_unit:
            per_unit = self.unit.banks_per_unit
            yield (
                "unit.banks_per_unit",
                f"{per_unit} does not divide the {self.banks} banks of a group",
            )

    def _unordered(self) -> Iterator[tuple[str, str]]:
        """Yield each key that is below another that it cannot be below."""
        for name, level in self.levels.items():
            if level.capped_cycles < level.uncapped_cycles:
                yield f"levels.{name}.capped_cycles", _below(level, "capped", "uncapped")
        for large, small in _ORDERED:
            if getattr(self.timing, f"{large}_cycles") < getattr(self.timing, f"{small}_cycles"):
                yield f"timing.{large}_cycles", _below(self.timing, large, small)
        if self.bandwidth_bytes_per_s < self.dma_bandwidth_bytes_per_s:
            yield "dma_bandwidth_bytes_per_s", "is above bandwidth_bytes_per_s, which carries it"


_ORDERED = (
    ("rtp_l", "rtp_s"),
    ("ccd_l", "ccd_s"),
    ("rrd_l", "rrd_s"),
    ("wtr_l", "wtr_s"),
    ("ras", "rcd_read"),
    ("rc", "ras"),
    ("refi", "rfc"),
)
"""Of each pair of timings the first is at least the second."""


def _below(record: object, large: str, small: str) -> str:
    value, bound = (getattr(record, f"{name}_cycles") for name in (large, small))
    return f"{value} is below {small}_cycles = {bound}"


_MAY_BE_ZERO = {
    "rfc_bank_cycles",
    "rfc_cycles",
    "move_after_switch_cycles",
    "softmax_per_token_cycles",
}
_Record = TypeVar("_Record")


def _read(table: TableReader, record: type[_Record], zero: set[str] | None = None) -> _Record:
    values = _numbers(table, record, zero or set())
    table.finish()
    return record(**values)


def _numbers(table: TableReader, record: type[object], zero: set[str]) -> dict[str, Any]:
    """Read the fields of `record` that are numbers: whole ones where the field is an int."""
    values: dict[str, Any] = {}
    for field in fields(cast("Any", record)):
        if field.type == "int":
            values[field.name] = table.count(field.name, zero=field.name in zero)
        elif field.type == "float":
            values[field.name] = table.number(field.name, zero=field.name in zero)
    return values


def _all_of(record: type[object]) -> set[str]:
    return {field.name for field in fields(cast("Any", record))}
