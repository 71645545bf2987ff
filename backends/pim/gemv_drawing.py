"""Where the weights of a matrix-vector product lie, as data to print or to draw.

It knows of `GemvLayout` and nothing of how a picture looks.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tokenloom.backends.pim.drawing import Cell, Share, TensorMap, slot_names
from tokenloom.backends.pim.geometry import Index, StackGeometry
from tokenloom.backends.pim.operations.gemv_layout import GemvLayout, default_schedule
from tokenloom.backends.pim.stack import PimStack

DRAWN_COLUMNS = 2
"""Columns of the first row that a drawing shows."""


def gemv_map(stack: PimStack, outputs: int, inputs: int) -> TensorMap:
    """Return where weights [outputs, inputs] lie under the default schedule.

    DeviceError: no SID computes, or the weights do not fit the stack.
    """
    geometry = StackGeometry.computing(stack)
    layout = GemvLayout.of(stack, outputs, inputs, default_schedule(stack))
    layout.check_rows(stores=False)
    shares = _shares(layout)
    return TensorMap(
        f"weights, FP16: outputs {outputs}, inputs {inputs}",
        _facts(layout),
        geometry.channels,
        "output",
        shares,
        len(shares),
        slot_names(geometry),
        geometry.size("bank"),
        f"channel 0, row 0, columns 0 to {DRAWN_COLUMNS - 1}",
        _cells(layout),
    )


def weight_places(layout: GemvLayout, output: Index, chunk: Index) -> tuple[Index, ...]:
    """Return channel, slot, bank, row and column of chunks of an output's inputs."""
    units, per_unit = layout.units, layout.stack.unit.banks_per_unit
    group, unit = np.divmod(output, prod(units))
    channel, slot_unit = np.divmod(unit, prod(units[1:]))
    slot, unit = np.divmod(slot_unit, units[-1])
    output_tile, register = np.divmod(group, layout.registers)
    tile, within = np.divmod(chunk, per_unit * layout.operands)
    bank, operand = np.divmod(within, layout.operands)
    first = (output_tile * layout.input_tiles + tile) * layout.operands
    row, column = np.divmod((first + operand) * layout.registers + register, layout.stack.columns)
    return channel, slot, unit * per_unit + bank, row, column


def _facts(layout: GemvLayout) -> tuple[str, ...]:
    stack, units = layout.stack, prod(layout.units)
    filled = (
        layout.outputs
        * layout.inputs
        / (units * stack.unit.banks_per_unit * layout.weight_rows * stack.columns * layout.lanes)
    )
    return (
        f"Output o is computed by unit o mod {units:,}; units count within a bank group, then slot"
        " by slot and channel by channel.",
        f"A unit has {layout.groups} outputs; {layout.registers} of them x {layout.operands}"
        f" columns of {layout.lanes} inputs make a tile.",
        "A tile's columns go operand by operand, and for an operand output by output.",
        f"Weights take rows 0 to {layout.weight_rows - 1} of {stack.pim_rows:,};"
        f" {filled:.1%} of their lanes hold data.",
    )


def _shares(layout: GemvLayout) -> tuple[Share, ...]:
    """Return what each channel computes: the first outputs, which repeat after all units."""
    units, a_channel = prod(layout.units), prod(layout.units[1:])
    again = f", and of every {units:,} after" if layout.groups > 1 else ""
    shares: list[Share] = []
    for channel in range(layout.units[0]):
        first = channel * a_channel
        last = min(first + a_channel, layout.outputs) - 1
        if last >= first:
            what = f"outputs {first} to {last}{again}"
            shares.append(Share(channel, first, what, 0, layout.weight_rows - 1))
    return tuple(shares)


def _cells(layout: GemvLayout) -> tuple[Cell, ...]:
    """Return the chunks of the first tile of outputs in channel 0 that are in the columns drawn."""
    units, a_channel = prod(layout.units), prod(layout.units[1:])
    outputs = np.arange(layout.registers)[:, None] * units + np.arange(a_channel)
    chunks = np.arange(min(layout.chunks, layout.operands * layout.stack.unit.banks_per_unit))
    output, chunk = np.meshgrid(outputs[outputs < layout.outputs], chunks, indexing="ij")
    _, slot, bank, row, column = weight_places(layout, output, chunk)
    cells: list[Cell] = []
    for index in np.argwhere((row == 0) & (column < DRAWN_COLUMNS)).tolist():
        here, first = tuple(index), int(chunk[tuple(index)]) * layout.lanes
        last = min(first + layout.lanes, layout.inputs) - 1
        what = f"o{output[here]} i{first}-{last}"
        cells.append(Cell(int(slot[here]), int(bank[here]), int(column[here]), what))
    return tuple(cells)
