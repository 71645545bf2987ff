"""Which place of the banks an element offset means, as expressions of a TIR function.

The offset counts FP16 elements from the first row of the array that a kernel is given, which is
indexed [row, channel over all stacks, column, pseudo channel, SID, bank group, bank, lane] as in
`backends/pim/banks.py`, however a kernel groups these levels. It knows no operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from tokenloom.kernel_spec import KernelSpec

Expr = Any

_ORDER = ("channel", "column", "pseudo_channel", "sid", "bank_group", "bank", "lane")


@dataclass(frozen=True)
class BankAddress:
    """Sizes of the levels below a row; `sids` counts all of them, computing or not."""

    channels: int
    columns: int
    pseudo_channels: int
    sids: int
    bank_groups: int
    banks: int
    lanes: int

    @classmethod
    def of(cls, spec: KernelSpec) -> BankAddress:
        """Take the sizes out of the dimensions of a spec, which has them under these names."""
        return cls(**{name: spec.dim(name) for name in cls.__annotations__})

    @property
    def row_elements(self) -> int:
        """Elements of one row index in all banks."""
        return prod(self._sizes)

    def row(self, offset: Expr) -> Expr:
        """Return the row, counted from the first of the array."""
        return offset // self.row_elements

    def level(self, name: str, offset: Expr) -> Expr:
        """Return the index of a level below the row: `channel` to `bank`, or `lane`."""
        index = _ORDER.index(name)
        step = prod(self._sizes[index + 1 :])
        return offset // step % self._sizes[index]

    def fields(self, offset: Expr, units: Iterable[str]) -> dict[str, Expr]:
        """Return the fields of a command on the column at `offset`: row, column and `units`.

        Units of the hierarchy that are not named stay ALL.
        """
        names = {"row": self.row(offset), "column": self.level("column", offset)}
        return names | {unit: self.level(unit, offset) for unit in units}

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (
            self.channels,
            self.columns,
            self.pseudo_channels,
            self.sids,
            self.bank_groups,
            self.banks,
            self.lanes,
        )
