"""Element-wise operations in the banks of a stack: values, and the commands that compute them.

Elements fill a column of every unit before they go on to the next. It knows no times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.operations.native_kernels import bound, record
from tokenloom.backends.pim.operations.program import banks_for, check_level, program, unit_axes
from tokenloom.backends.pim.operations.specs import elementwise_spec
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import CommandStream
from tokenloom.kernel_spec import KernelSpec

Half = NDArray[np.float16]
Operation = Literal["add", "mul", "relu"]
TILE_COLUMNS = 8
"""Columns of an operand that are loaded before the next operand's: as many as a row switch pays
for, and what Samsung's kernels take."""
OPERANDS: dict[Operation, int] = {"add": 2, "mul": 2, "relu": 1}


@dataclass(frozen=True)
class ElementwiseLayout:
    """Where operands and result of `elements` elements lie: each in `rows` rows of its own.

    Tiles of `registers` columns take turns between the banks of a unit.
    """

    stack: PimStack
    elements: int
    registers: int

    @property
    def units(self) -> tuple[int, int, int, int, int]:
        """Units by channel (of all stacks), pseudo channel, SID, bank group, unit of the group."""
        return unit_axes(self.stack)

    @property
    def tiles(self) -> int:
        """Tiles of each unit, those of all its banks."""
        per_column = prod(self.units) * self.stack.unit.lanes
        return max(1, -(-self.elements // (per_column * self.registers)))

    @property
    def rows(self) -> int:
        """Rows of one operand."""
        tiles = -(-self.tiles // self.stack.unit.banks_per_unit)
        return -(-tiles * self.registers // self.stack.columns)

    def bank_shape(self) -> tuple[int, ...]:
        """Return the shape of one operand's rows: [row, channel, column, .., unit, bank, lane]."""
        channel, *rest = self.units
        unit = self.stack.unit
        return self.rows, channel, self.stack.columns, *rest, unit.banks_per_unit, unit.lanes

    def scatter(self, rows: Half, data: Half) -> None:
        """Write elements to `rows`, of shape `bank_shape`; padding becomes 0."""
        per_unit, lanes = self.stack.unit.banks_per_unit, self.stack.unit.lanes
        turns = -(-self.tiles // per_unit)
        padded = np.zeros((turns, per_unit, self.registers, *self.units, lanes), np.float16)
        padded.reshape(-1)[: data.size] = data.reshape(-1)
        columns = np.moveaxis(padded, 1, -2).reshape(-1, *self.units, per_unit, lanes)
        count = self.stack.columns
        for row in range(self.rows):
            part = columns[row * count : (row + 1) * count]
            rows[row].swapaxes(0, 1)[: len(part)] = part

    def gather(self, rows: Half) -> Half:
        """Return the elements out of `rows`."""
        per_unit, lanes = self.stack.unit.banks_per_unit, self.stack.unit.lanes
        turns = -(-self.tiles // per_unit)
        columns = rows.swapaxes(1, 2).reshape(-1, *self.units, per_unit, lanes)
        tiles = columns[: turns * self.registers].reshape(
            turns, self.registers, *self.units, per_unit, lanes
        )
        return np.moveaxis(tiles, -2, 1).reshape(-1)[: self.elements]


@dataclass(frozen=True)
class ElementwiseResult:
    """The values, in the shape of the operands, and the commands that compute them."""

    values: Half
    stream: CommandStream


@dataclass(frozen=True)
class Elementwise:
    """Operands that lie in the banks from `first_row` on, ready to be combined."""

    operation: Operation
    layout: ElementwiseLayout
    level: str
    by_channel: bool
    banks: BankArrays
    first_row: int
    machine: str

    @classmethod
    def load(
        cls,
        stack: PimStack,
        operation: Operation,
        operands: Sequence[Half],
        *,
        level: str | None = None,
        by_channel: bool = False,
        machine: str = "",
    ) -> Elementwise:
        """Write the operands to banks. DeviceError: they do not match, or do not fit."""
        _check_operands(operation, operands)
        check_level(stack, level or stack.level)
        columns = -(-operands[0].size // (prod(unit_axes(stack)) * stack.unit.lanes))
        registers = max(1, min(TILE_COLUMNS, stack.unit.registers, columns))
        layout = ElementwiseLayout(stack, operands[0].size, registers)
        needed = layout.rows * (OPERANDS[operation] + 1)
        if needed > stack.pim_rows:
            raise DeviceError(
                f"pim: {operation} of {operands[0].size:,} elements takes {needed} rows in each"
                f" bank that computes; there are {stack.pim_rows}"
            )
        banks = banks_for(stack, needed)
        first_row = banks.allocate(needed).start
        made = cls(operation, layout, level or stack.level, by_channel, banks, first_row, machine)
        for rows, operand in zip(made.arrays, operands, strict=False):
            layout.scatter(rows, operand)
        return made

    @property
    def arrays(self) -> list[Half]:
        """The rows of the operands, and at last of the result."""
        rows, shape = self.layout.rows, self.layout.bank_shape()
        starts = range(OPERANDS[self.operation] + 1)
        lanes = self.banks.lanes[self.first_row :]
        return [lanes[i * rows : (i + 1) * rows].reshape(shape) for i in starts]

    @property
    def values(self) -> Half:
        """The result's elements in a row."""
        return self.layout.gather(self.arrays[-1])

    def bound(self) -> Callable[[], None]:
        """Return what computes, to be called over and over."""
        return partial(bound(self._spec(""), self.arrays), ())

    def run(self) -> Half:
        """Compute, and return the result's elements in a row."""
        self.bound()()
        return self.values

    def stream(self) -> CommandStream:
        """Return the commands."""
        words = record(self._spec("_commands"), self.arrays)
        name = f"{self.operation} {self.layout.elements}"
        return program(name, self.machine, words, self.first_row)

    def _spec(self, suffix: str) -> KernelSpec:
        return elementwise_spec(
            f"pim_{self.operation}{suffix}",
            self.layout.stack,
            self.layout.tiles,
            self.layout.registers,
            self.layout.rows,
            self.level,
            self.by_channel,
        )


def elementwise(
    stack: PimStack, operation: Operation, *operands: Half, machine: str = ""
) -> ElementwiseResult:
    """Return add or mul of two FP16 arrays, or relu of one, of any number of elements.

    Rounded to FP16 once, as numpy does. relu makes +0 of every number whose sign bit is set: of -0
    and of a NaN with that bit, too.
    """
    loaded = Elementwise.load(stack, operation, operands, machine=machine)
    return ElementwiseResult(loaded.run().reshape(operands[0].shape), loaded.stream())


def _check_operands(operation: Operation, operands: Sequence[Half]) -> None:
    if len(operands) != OPERANDS[operation]:
        raise DeviceError(
            f"pim: {operation} takes {OPERANDS[operation]} operands, not {len(operands)}"
        )
    shapes = {operand.shape for operand in operands}
    types = sorted({str(operand.dtype) for operand in operands})
    if len(shapes) > 1:
        raise DeviceError(f"pim: {operation} of operands of different shapes {sorted(shapes)}")
    if types != ["float16"]:
        raise DeviceError(f"pim: {operation} of {', '.join(types)}; units combine float16")
