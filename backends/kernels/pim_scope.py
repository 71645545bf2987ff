"""Which units one command works on, as shapes and indices of TIR buffers and fields of a command.

Buffers of banks are indexed [row, channel, column, pseudo channel, SID, bank group, unit, bank of
the unit, lane], registers [.., channel, pseudo channel, SID, bank group, unit, lane]. It knows no
operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from tokenloom.backends.kernels.pim_address import BankAddress
from tokenloom.kernel_spec import KernelSpec

Expr = Any

AXES = ("channel", "pseudo_channel", "sid", "bank_group", "unit")
"""What a command may select or take whole, outermost first."""

OUTSIDE: dict[str, tuple[str, ...]] = {
    "bank": (),
    "bank-group": ("unit",),
    "buffer": ("sid", "bank_group", "unit"),
}
"""The axes that a command at a level selects one of; the others it takes whole."""

_FIELD = {"unit": "bank"}


@dataclass(frozen=True)
class UnitScope:
    """The units of a stack and those that one command takes together.

    All SIDs compute; `units` counts the units of a bank group. `outside` are the axes of which a
    command selects one.
    """

    channels: int
    pseudo_channels: int
    sids: int
    bank_groups: int
    units: int
    lanes: int
    column_bytes: int
    banks_per_unit: int
    address: BankAddress
    outside: tuple[str, ...]

    @classmethod
    def of(cls, spec: KernelSpec, level: str, by_channel: bool) -> UnitScope:
        """Take the sizes out of a spec, see `pim.specs`; `by_channel`: a command for a channel."""
        per_unit = spec.dim("banks_per_unit")
        return cls(
            channels=spec.dim("channels"),
            pseudo_channels=spec.dim("pseudo_channels"),
            sids=spec.dim("sids"),
            bank_groups=spec.dim("bank_groups"),
            units=spec.dim("banks") // per_unit,
            lanes=spec.dim("lanes"),
            column_bytes=spec.dim("column_bytes"),
            banks_per_unit=per_unit,
            address=BankAddress.of(spec),
            outside=(("channel",) if by_channel else ()) + OUTSIDE[level],
        )

    @property
    def key(self) -> str:
        """A name for what the scope is, to register intrinsics by."""
        sizes = [getattr(self, field.name) for field in fields(self)[:8]]
        sizes += [getattr(self.address, field.name) for field in fields(self.address)]
        return ".".join([*map(str, sizes), *self.outside])

    @property
    def extents(self) -> tuple[int, ...]:
        """How many there are on each of AXES."""
        return self.channels, self.pseudo_channels, self.sids, self.bank_groups, self.units

    @property
    def taken(self) -> tuple[int, ...]:
        """How many a command takes on each of AXES."""
        pairs = zip(AXES, self.extents, strict=True)
        return tuple(1 if axis in self.outside else extent for axis, extent in pairs)

    @property
    def loops(self) -> tuple[int, ...]:
        """The extents above 1 of what a command takes: the loops of an intrinsic."""
        return tuple(extent for extent in self.taken if extent > 1)

    @property
    def unit_loops(self) -> tuple[int, ...]:
        """The loops over units, at least one."""
        return self.loops or (1,)

    @property
    def num_units(self) -> int:
        """Units that one command makes work."""
        return prod(self.taken)

    def bank_shape(self, num_rows: int) -> tuple[int, ...]:
        """Return the shape of rows of the banks."""
        channel, *rest = self.extents
        return num_rows, channel, self.address.columns, *rest, self.banks_per_unit, self.lanes

    @property
    def column(self) -> tuple[int, ...]:
        """The shape of what a command reads or writes of the banks."""
        channel, *rest = self.taken
        return 1, channel, 1, *rest, 1, self.lanes

    @property
    def register(self) -> tuple[int, ...]:
        """The shape of what a command reads or writes of registers."""
        return 1, *self.taken, self.lanes

    def unit_index(self, loops: Any) -> tuple[Expr, ...]:
        """Return the index on AXES out of the variables of `loops`, 0 where there is no loop."""
        variables: Iterator[Expr] = iter(loops if isinstance(loops, Sequence) else [loops])  # pyright: ignore[reportUnknownArgumentType]
        return tuple(next(variables) if extent > 1 else 0 for extent in self.taken)

    def in_column(self, loops: Any, lane: Expr) -> tuple[Expr, ...]:
        """Return the index into a buffer of the shape `column`."""
        channel, *rest = self.unit_index(loops)
        return 0, channel, 0, *rest, 0, lane

    def in_register(self, loops: Any, lane: Expr) -> tuple[Expr, ...]:
        """Return the index into a buffer of the shape `register`."""
        return 0, *self.unit_index(loops), lane

    def fields(self, offset: Expr, first_row: int = 0) -> dict[str, Expr]:
        """Return the fields of a command on the column at `offset` from `first_row` on.

        Row, column, units and bytes.
        """
        names = [_FIELD.get(axis, axis) for axis in self.outside]
        if self.banks_per_unit > 1 and "bank" not in names:
            names.append("bank")
        size_bytes = self.num_units // self.taken[0] * self.column_bytes
        place = self.address.fields(offset, names)
        return {**place, "row": first_row + place["row"], "size_bytes": size_bytes}

    def slot_fields(self, offset: Expr) -> dict[str, Expr]:
        """Return the unit fields of a command on one slot, at an offset into registers."""
        index, found = offset // (self.units * self.lanes), dict[str, Expr]()
        for axis, extent in reversed(list(zip(AXES, self.extents, strict=True))[:-1]):
            found[axis] = index % extent
            index = index // extent
        return found

    def register_index(self, offset: Expr) -> Expr:
        """Return the first index into registers [n, AXES, lane] at an element offset."""
        return offset // (prod(self.extents) * self.lanes)
