"""What makes a whole system of described devices: how many, what joins them, what a layer costs.

Read from `[system]` of a machine description, whose processors, tiers and stacks are those of one
of the devices. It knows nothing of models, and computes no times (that is `system_estimate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenloom.backends.machine_reader import TableReader
from tokenloom.backends.pim.stack import LEVELS


@dataclass(frozen=True)
class Chip:
    """What the tiling of a matrix product depends on; `l1_bytes` is that of a multiprocessor."""

    multiprocessors: int
    l1_bytes: int
    l2_bytes: int

    @classmethod
    def read(cls, table: TableReader) -> Chip:
        """Read `[system.chip]`."""
        chip = cls(table.count("multiprocessors"), table.count("l1_bytes"), table.count("l2_bytes"))
        table.finish()
        return chip


@dataclass(frozen=True)
class Elementwise:
    """Affine times of kernels without products: a floor, and passes over their bytes in memory."""

    activation_floor_ns: float
    activation_passes: float
    norm_floor_ns: float
    norm_passes: float

    @classmethod
    def read(cls, table: TableReader) -> Elementwise:
        """Read `[system.elementwise]`."""
        elementwise = cls(
            table.number("activation_floor_ns", zero=True),
            table.number("activation_passes"),
            table.number("norm_floor_ns", zero=True),
            table.number("norm_passes"),
        )
        table.finish()
        return elementwise


@dataclass(frozen=True)
class Exchange:
    """How devices add up their partial results: steps of a ring, and the link's one direction."""

    step_ns: float
    ns_per_byte: float
    bandwidth_bytes_per_s: float

    @classmethod
    def read(cls, table: TableReader) -> Exchange:
        """Read `[system.exchange]`."""
        exchange = cls(
            table.number("step_ns", zero=True),
            table.number("ns_per_byte", zero=True),
            table.number("bandwidth_bytes_per_s"),
        )
        table.finish()
        return exchange


@dataclass(frozen=True)
class SystemEnergy:
    """Energy of a processor's work; `register_pj` is paid three times a product of two numbers.

    `static_w` is that of the processor's memory where it is not a stack of `[pim]`.
    """

    memory_pj_per_byte: float
    l2_pj_per_byte: float
    l1_pj_per_byte: float
    register_pj: float
    mac_pj: float
    link_pj_per_byte: float
    static_w: float

    @classmethod
    def read(cls, table: TableReader) -> SystemEnergy:
        """Read `[system.energy]`."""
        energy = cls(
            table.number("memory_pj_per_byte"),
            table.number("l2_pj_per_byte"),
            table.number("l1_pj_per_byte"),
            table.number("register_pj"),
            table.number("mac_pj"),
            table.number("link_pj_per_byte"),
            table.number("static_w", zero=True),
        )
        table.finish()
        return energy


@dataclass(frozen=True)
class Ratio:
    """Bandwidth of a stack's units over that of its pins, with and without a power cap."""

    capped: float
    uncapped: float

    @classmethod
    def read(cls, table: TableReader) -> Ratio:
        """Read `[system.near_memory.ratio.<level>]`."""
        ratio = cls(table.number("capped"), table.number("uncapped"))
        table.finish()
        return ratio


@dataclass(frozen=True)
class NearMemory:
    """What processor and stacks do side by side.

    `overlap`: projections run behind the attention of other heads. `share_feed_forward`: the units
    take a part of the MLP, after the bandwidth `ratio` of the level they are at.
    """

    overlap: bool
    share_feed_forward: bool
    ratio: Mapping[str, Ratio]

    @classmethod
    def read(cls, table: TableReader) -> NearMemory:
        """Read `[system.near_memory]`."""
        ratios = table.table("ratio")
        for level in ratios:
            if level not in LEVELS:
                raise ratios.error(level, f"no such level; there are {', '.join(LEVELS)}")
        near = cls(
            table.flag("overlap"),
            table.flag("share_feed_forward"),
            {level: Ratio.read(ratios.table(level)) for level in ratios},
        )
        table.finish()
        return near


@dataclass(frozen=True)
class System:
    """`devices` of what the machine describes, each with a part of every layer."""

    devices: int
    chip: Chip
    elementwise: Elementwise
    exchange: Exchange
    energy: SystemEnergy
    near_memory: NearMemory | None

    @classmethod
    def read(cls, table: TableReader) -> System:
        """Read `[system]`."""
        near = table.table("near_memory") if "near_memory" in table else None
        system = cls(
            table.count("devices"),
            Chip.read(table.table("chip")),
            Elementwise.read(table.table("elementwise")),
            Exchange.read(table.table("exchange")),
            SystemEnergy.read(table.table("energy")),
            NearMemory.read(near) if near else None,
        )
        table.finish()
        return system
