"""Where the weights and the results of a matrix-vector product lie in the banks, and its schedules.

Outputs are spread over all units: output `o` is in accumulator group `o // units`, unit
`o % units`, counted over channels, pseudo channels, SIDs, bank groups and units. `registers`
groups make a tile of outputs, `operands` columns of inputs a tile of inputs. In each bank the
columns of a tile of outputs follow those of the one before, within it tile of inputs by tile of
inputs, operand by operand, register by register. Where a unit serves several banks, tiles of
inputs take turns between them, and a bank's tiles are computed before the next bank's. Results
lie in rows of their own, register by register. It computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.host_memory import aligned_zeros
from tokenloom.backends.pim.operations.program import check_level, unit_axes
from tokenloom.backends.pim.stack import PimStack

Lanes = NDArray[Any]


@dataclass(frozen=True)
class GemvSchedule:
    """How a product is tiled and in which order its commands go out.

    `operands` inputs columns and `registers` accumulators of each unit make a tile. `level` is that
    of the commands. `by_channel`: a command for every channel, not one for all of them.
    `operand_inner`: within a tile all operands of an accumulator follow each other, instead of all
    accumulators of an operand. `banks_inner`: commands on different banks alternate, instead of a
    tile in one bank following that in another.
    """

    operands: int
    registers: int
    level: str = "bank"
    by_channel: bool = False
    operand_inner: bool = False
    banks_inner: bool = False


@dataclass(frozen=True)
class GemvLayout:
    """The places of W [outputs, inputs] and of the accumulators after W x."""

    stack: PimStack
    outputs: int
    inputs: int
    lanes: int
    operands: int
    registers: int

    @classmethod
    def of(
        cls, stack: PimStack, outputs: int, inputs: int, schedule: GemvSchedule, lanes: int = 16
    ) -> GemvLayout:
        """Lay out for a schedule, whose tiles are cut to what the product needs.

        DeviceError: an empty product, a level without units, more registers or operands than there
        are.
        """
        if outputs < 1 or inputs < 1:
            raise DeviceError(
                f"pim: a product of {outputs} x {inputs} is empty; both sizes must be positive"
            )
        check_level(stack, schedule.level)
        unit = stack.unit
        for what, asked, there in (
            ("registers", schedule.registers, unit.registers),
            ("operand entries", schedule.operands, unit.operand_entries),
        ):
            if not 1 <= asked <= there:
                raise DeviceError(f"pim: a schedule with {asked} {what}; a unit has {there}")
        layout = cls(stack, outputs, inputs, lanes, 1, 1)
        return replace(
            layout,
            operands=min(schedule.operands, -(-layout.chunks // unit.banks_per_unit)),
            registers=min(schedule.registers, layout.groups),
        )

    @cached_property
    def units(self) -> tuple[int, int, int, int, int]:
        """Units by channel (of all stacks), pseudo channel, SID, bank group, unit of the group."""
        return unit_axes(self.stack)

    @property
    def chunks(self) -> int:
        """Columns that the inputs of one output fill; the last may be padded."""
        return -(-self.inputs // self.lanes)

    @property
    def groups(self) -> int:
        """Outputs of each unit, before padding to whole tiles."""
        return -(-self.outputs // prod(self.units))

    @property
    def output_tiles(self) -> int:
        """Tiles of outputs."""
        return -(-self.groups // self.registers)

    @property
    def input_tiles(self) -> int:
        """Tiles of inputs in each bank."""
        return -(-self.chunks // (self.operands * self.stack.unit.banks_per_unit))

    @property
    def padded_chunks(self) -> int:
        """Columns of inputs with padding to whole tiles in all banks of a unit."""
        return self.input_tiles * self.operands * self.stack.unit.banks_per_unit

    @property
    def weight_rows(self) -> int:
        """Rows that the weights take in every bank."""
        tiles = self.output_tiles * self.input_tiles
        return -(-tiles * self.operands * self.registers // self.stack.columns)

    @property
    def result_rows(self) -> int:
        """Rows that the results take."""
        return -(-self.output_tiles * self.registers // self.stack.columns)

    def check_rows(self, stores: bool) -> int:
        """Return the rows needed; DeviceError where the computing banks have fewer."""
        needed = self.weight_rows + (self.result_rows if stores else 0)
        if needed > self.stack.pim_rows:
            raise DeviceError(
                f"pim: a product of {self.outputs} x {self.inputs} takes {needed} rows in each bank"
                f" that computes; there are {self.stack.pim_rows}"
            )
        return needed

    def bank_shape(self, num_rows: int) -> tuple[int, ...]:
        """Return the shape of rows of the banks: [row, channel, column, .., unit, bank, lane]."""
        stack, per_unit = self.stack, self.stack.unit.banks_per_unit
        channels, pseudo_channels, _, groups, units = self.units
        within = pseudo_channels, stack.pim_sids, groups, units, per_unit, self.lanes
        return num_rows, channels, stack.columns, *within

    def scatter(self, rows: Lanes, weights: Lanes) -> None:
        """Write weights [outputs, inputs] to `rows`, of shape `bank_shape`; padding becomes 0."""
        tiles, entries, per_unit = self.input_tiles, self.operands, self.stack.unit.banks_per_unit
        padded = np.zeros((self._padded_outputs, self.padded_chunks * self.lanes), weights.dtype)
        padded[: self.outputs, : self.inputs] = weights
        shape = self.output_tiles, self.registers, *self.units, tiles, per_unit, entries, self.lanes
        # output tile, register, 5 unit axes, input tile, bank, operand, lane
        columns = padded.reshape(shape).transpose(0, 7, 9, 1, 2, 3, 4, 5, 6, 8, 10)
        columns = columns.reshape(-1, *self.units, per_unit, self.lanes)
        count = self.stack.columns
        for row in range(self.weight_rows):
            part = columns[row * count : (row + 1) * count]
            target = rows[row].swapaxes(0, 1)
            target[: len(part)] = part
            target[len(part) :] = 0

    def gather(self, rows: Lanes) -> Lanes:
        """Return the accumulators [outputs, lanes] out of `rows` with results."""
        columns = rows.swapaxes(1, 2)[..., 0, :]
        return self.outputs_of(columns.reshape(-1, *self.units, self.lanes))

    def outputs_of(self, accumulators: Lanes) -> Lanes:
        """Return [outputs, lanes] of accumulators [group, unit axes, lane]."""
        count = self.output_tiles * self.registers
        return accumulators[:count].reshape(-1, self.lanes)[: self.outputs]

    def chunked(self, vector: Lanes) -> NDArray[np.float32]:
        """Return the inputs as the base die holds them: [padded chunks, lanes], float32."""
        padded = aligned_zeros((self.padded_chunks, self.lanes), "float32")
        padded.reshape(-1)[: self.inputs] = vector
        return padded

    @property
    def _padded_outputs(self) -> int:
        return self.output_tiles * self.registers * prod(self.units)


def default_schedule(stack: PimStack, level: str | None = None) -> GemvSchedule:
    """Return the schedule of Samsung's GEMV: tiles of 8 operands and 8 accumulators at most."""
    unit = stack.unit
    return GemvSchedule(min(8, unit.operand_entries), min(8, unit.registers), level or stack.level)
