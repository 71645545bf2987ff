"""What the commands of a stream work on: banks, units, and the base die's memory, with values.

It executes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.stack import PimStack

Arithmetic = Literal["fp16", "fused", "float32", "int8"]
"""How units multiply and add: see ARITHMETIC."""
Values = NDArray[Any]

CLOSED = -1
"""In `open_rows`: no row of this bank is open."""


@dataclass(frozen=True)
class _Types:
    """Types of a column's elements, of their products and sums, and of registers."""

    element: np.dtype[Any]
    product: np.dtype[Any]
    register: np.dtype[Any]


def _types(element: str, product: str, register: str) -> _Types:
    return _Types(np.dtype(element), np.dtype(product), np.dtype(register))


ARITHMETIC: dict[Arithmetic, _Types] = {
    "fp16": _types("float16", "float16", "float16"),
    "fused": _types("float16", "float64", "float16"),
    "float32": _types("float16", "float32", "float32"),
    "int8": _types("int8", "int32", "int32"),
}
"""fp16 rounds after multiply and after add; fused only after add, which no unit of ours does;
float32 keeps sums in float32; int8 multiplies INT8, 32 lanes a column, and adds INT32."""


class StackState:
    """What commands work on: banks, operand buffers, registers and the base die's memory.

    `operands` is [channel, pseudo channel, SID, bank group, unit, entry, lane], over the SIDs that
    compute, `registers` likewise; `base` holds `base_elements` float32, all that there is if None.
    Banks are those of the SIDs that compute. Everything is 0 at first, but for `banks` where given;
    rows are closed and units are off.
    """

    def __init__(
        self,
        stack: PimStack,
        arithmetic: Arithmetic = "fp16",
        base_elements: int | None = None,
        banks: BankArrays | None = None,
    ):
        self.stack = stack
        self.types = ARITHMETIC[arithmetic]
        self.banks = BankArrays(StackGeometry.computing(stack)) if banks is None else banks
        self.lanes = stack.column_bytes // self.types.element.itemsize
        channels, unit = stack.stacks * stack.channels, stack.unit
        per_sid = stack.bank_groups, stack.banks // unit.banks_per_unit
        units = channels, stack.pseudo_channels, stack.pim_sids, *per_sid
        self.operands: Values = np.zeros(
            (*units, unit.operand_entries, self.lanes), self.types.element
        )
        self.registers: Values = np.zeros((*units, unit.registers, self.lanes), self.types.register)
        elements = stack.base_die_bytes // 4 if base_elements is None else base_elements
        self.base: NDArray[np.float32] = np.zeros(elements, np.float32)
        self.units_on = np.zeros(channels, bool)
        all_banks = stack.pseudo_channels, stack.sids, stack.bank_groups, stack.banks
        self.open_rows = np.full((channels, *all_banks), CLOSED, np.int64)

    @property
    def columns(self) -> Values:
        """The banks: [channel, pseudo channel, SID, bank group, bank, row, column, lane]."""
        lanes = self.banks.lanes.view(self.types.element)
        row, stacks, channel, *rest = lanes.shape
        return np.moveaxis(lanes.reshape(row, stacks * channel, *rest), (0, 2), (5, 6))

    @property
    def slots(self) -> int:
        """Bank groups of a channel that compute."""
        return self.banks.geometry.slots
