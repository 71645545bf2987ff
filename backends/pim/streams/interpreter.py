"""The plain interpreter of command streams: the oracle that faster ways to compute are held to.

One command at a time, numpy over all units of the command, with the meaning given in `commands`.
It knows no time, and nothing of what a stream computes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.streams.commands import (
    ALL,
    COLUMN_OPS,
    LANES,
    ON,
    START,
    UNIT_OPS,
    UNITS,
    Command,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.streams.limits import check_fields, place
from tokenloom.backends.pim.streams.stack_state import CLOSED, StackState, Values

Scope = tuple[slice, slice, slice, slice, slice]
SOFTMAX_WIDTH = 16
"""Elements that the base die works on at once: it clears the rest of the last of them."""


def interpret(stream: CommandStream, state: StackState) -> None:
    """Execute the stream on the state.

    Rows need to be open where the stream opens rows, and units to be on where it turns them on.
    StreamError: a command names what the stack does not have, or meets a closed row, units that are
    off, or an end of the base die's memory; the commands before it are executed.
    """
    check_fields(stream, state.stack, state.types.element.itemsize)
    ops = stream.records["op"]
    run = _Run(state, bool(np.any(ops == Op.ACT)), bool(np.any(ops == Op.MODE)))
    with np.errstate(all="ignore"):  # an overflow is an infinity, as in the units
        for index, command in enumerate(stream):
            try:
                run.step(command)
            except _Fault as fault:
                raise StreamError(f"{place(stream, index)}: {fault}") from None


class _Fault(Exception):
    """Why a command cannot be executed."""


class _Run:
    """One execution: whether rows and units are checked, and a function for each command."""

    def __init__(self, state: StackState, checks_rows: bool, checks_mode: bool):
        self.state = state
        self.columns = state.columns
        self.checks_rows, self.checks_mode = checks_rows, checks_mode
        self.functions: dict[Op, Callable[[Command], None]] = {
            Op.MODE: self.mode,
            Op.ACT: self.activate,
            Op.PRE: self.precharge,
            Op.REF: self.refresh,
            Op.RD: self.read,
            Op.WR: self.write,
            Op.WR_GB: self.write_operands,
            Op.MV_GB: self.move_to_operands,
            Op.MV_SB: self.move_from_registers,
            Op.SFM: self.softmax,
        }

    def step(self, command: Command) -> None:
        if command.op in COLUMN_OPS and self.checks_rows:
            self.check_row(command)
        if command.op in UNIT_OPS:
            self.compute(command)
        elif command.op in self.functions:
            self.functions[command.op](command)
        elif command.op is Op.ROT:
            raise _Fault("its angles are not in the stream; rotate before it runs")

    def mode(self, command: Command) -> None:
        self.state.units_on[_one(command.channel)] = bool(command.flags & ON)

    def activate(self, command: Command) -> None:
        rows = self.state.open_rows[self.all_banks(command)]
        if np.any(rows != CLOSED):
            raise _Fault(f"row {int(rows.max())} is open; precharge before activating")
        rows[...] = command.row

    def precharge(self, command: Command) -> None:
        self.state.open_rows[self.all_banks(command)] = CLOSED

    def refresh(self, command: Command) -> None:
        if np.any(self.state.open_rows[self.all_banks(command)] != CLOSED):
            raise _Fault("a row is open; precharge before refreshing")

    def read(self, command: Command) -> None:
        column = self.columns[self.held_banks(command)][..., command.row, command.column, :]
        if column.size != self.state.lanes:
            raise _Fault("one bank is read at a time; name channel, SID, bank group and bank")
        self.memory(command.address, self.state.lanes)[:] = column.reshape(-1)

    def write(self, command: Command) -> None:
        data = self.to_elements(self.memory(command.address, self.state.lanes))
        self.columns[self.held_banks(command)][..., command.row, command.column, :] = data

    def compute(self, command: Command) -> None:
        if self.checks_mode and not self.state.units_on[_one(command.channel)].all():
            raise _Fault("units are off; a MODE command with +on turns them on")
        types, units = self.state.types, self.units(command)
        column = self.columns[self.unit_banks(command)][..., command.row, command.column, :]
        registers = self.state.registers[units][..., command.dst, :]
        if command.op is Op.STORE:
            column[...] = self.to_elements(registers)
            return
        before = registers
        if command.op is Op.MAC_TREE:
            registers = registers[..., command.lane]
        if command.op in (Op.MAC, Op.MAC_LANES, Op.MAC_TREE):
            before = np.zeros_like(registers) if command.flags & START else registers
        value = self.value(command, column, before, self.state.operands[units])
        registers[...] = value.astype(types.register)

    def value(self, command: Command, column: Values, before: Values, operands: Values) -> Values:
        """Return what a unit command makes of a column, before the registers' rounding."""
        product = self.state.types.product
        values, operand = column.astype(product), operands[..., command.src, :].astype(product)
        match command.op:
            case Op.MAC_TREE:
                return before.astype(product) + _tree(values * operand)
            case Op.MAC_LANES:
                scalar = operand[..., command.lane : command.lane + 1]
                return before.astype(product) + values * scalar
            case Op.MAC:
                return before.astype(product) + values * operand
            case Op.ADD:
                return before.astype(product) + values
            case Op.MUL:
                return before.astype(product) * values
            case Op.RELU:
                bits = column.view(f"int{column.itemsize * 8}")
                return np.where(bits < 0, 0, column)
            case _:
                return column

    def write_operands(self, command: Command) -> None:
        data = self.to_elements(self.memory(command.address, self.state.lanes))
        self.state.operands[self.units(command)][..., command.src, :] = data

    def move_to_operands(self, command: Command) -> None:
        units = self.units(command)
        if command.flags & UNITS:
            registers = self.state.registers[units][..., command.dst, :]
            registers[...] = self.memory(command.address, registers.size).reshape(registers.shape)
            return
        data = self.to_elements(self.by_slot(command))[self.slots(command)]
        self.state.operands[units][..., command.src, :] = data[:, :, :, None, :]

    def move_from_registers(self, command: Command) -> None:
        registers = self.state.registers[self.units(command)][..., command.dst, :]
        if len(registers) > 1:
            raise _Fault("results of several channels would go to one place; name the channel")
        registers = registers[0].astype(np.float32)
        if command.flags & UNITS:
            self.memory(command.address, registers.size)[:] = registers.reshape(-1)
        elif command.flags & LANES:
            self.add_slots(command, registers)
        else:
            self.add_units(command, registers)

    def add_units(self, command: Command, registers: Values) -> None:
        """Replace elements by the sums over the units of each slot."""
        stop = command.lane + (command.size or self.state.lanes)
        if stop > self.state.lanes:
            raise _Fault(f"lanes up to {stop - 1} of a register, which has {self.state.lanes}")
        lanes = slice(command.lane, stop)
        total = np.zeros_like(registers[:, :, :, 0, lanes])
        for unit in range(registers.shape[3]):
            total = total + registers[:, :, :, unit, lanes]
        self.by_slot(command)[self.slots(command)][..., lanes] = total

    def add_slots(self, command: Command, registers: Values) -> None:
        """Add the lanes of slot after slot to elements, or to 0."""
        lanes = self.state.lanes
        memory = self.memory(command.address, self.state.registers.shape[4] * lanes)
        chosen = memory.reshape(-1, lanes)[self.units(command)[4]]
        total = np.zeros_like(chosen) if command.flags & START else chosen.copy()
        for slot in registers.reshape(-1, *chosen.shape):
            total = total + slot
        chosen[...] = total

    def softmax(self, command: Command) -> None:
        if not command.size:
            raise _Fault("a softmax over no elements; size must be positive")
        padded = self.memory(command.address, -(-command.size // SOFTMAX_WIDTH) * SOFTMAX_WIDTH)
        scores, result = padded[: command.size], self.memory(command.dst, 2)
        largest = scores.max()
        scores[:] = np.exp(scores - largest).astype(np.float16)
        padded[command.size :] = 0
        result[:] = largest, scores.sum(dtype=np.float64)

    def check_row(self, command: Command) -> None:
        banks = self.unit_banks if command.op in UNIT_OPS else self.all_banks
        rows = self.state.open_rows[banks(command)]
        if np.all(rows == command.row):
            return
        other = int(rows[rows != command.row][0])
        state = "no row is" if other == CLOSED else f"row {other} is"
        raise _Fault(f"row {command.row} is closed, {state} open; activate it first")

    def units(self, command: Command) -> Scope:
        """Return the index of the units: those of computing SIDs, whichever bank they work on."""
        scope = [_one(value) for value in (command.channel, *command.scope)]
        if command.op in UNIT_OPS and self.state.stack.unit.banks_per_unit > 1:
            scope[4] = slice(None)
        return scope[0], scope[1], scope[2], scope[3], scope[4]

    def unit_banks(self, command: Command) -> Scope:
        """Return the index of the banks that units read: one of each unit's."""
        scope, per_unit = self.units(command), self.state.stack.unit.banks_per_unit
        sids = slice(self.state.stack.pim_sids) if command.sid == ALL else scope[2]
        banks = slice(command.bank, None, per_unit) if per_unit > 1 else scope[4]
        return scope[0], scope[1], sids, scope[3], banks

    def held_banks(self, command: Command) -> Scope:
        """Return the index of banks that a column of the external bus is in."""
        stack = self.state.stack
        if command.sid >= stack.pim_sids or command.row >= stack.pim_rows:
            raise _Fault(
                f"SID {command.sid}, row {command.row}: only banks of the SIDs that compute hold"
                f" values here, {stack.pim_sids} SIDs of {stack.pim_rows} rows"
            )
        return self.all_banks(command)

    @staticmethod
    def all_banks(command: Command) -> Scope:
        """Return the index of the banks, in dense SIDs too."""
        values = (command.channel, *command.scope)
        return tuple(_one(value) for value in values)  # pyright: ignore[reportReturnType]

    @staticmethod
    def slots(command: Command) -> tuple[slice, slice, slice]:
        """Return the index of the slots by pseudo channel, SID and bank group."""
        return _one(command.pseudo_channel), _one(command.sid), _one(command.bank_group)

    def by_slot(self, command: Command) -> Values:
        """Return base die memory as [pseudo channel, SID, bank group, lane], from `address` on."""
        state = self.state
        memory = self.memory(command.address, state.slots * state.lanes)
        stack = state.stack
        return memory.reshape(
            state.lanes, stack.pseudo_channels, stack.pim_sids, stack.bank_groups
        ).transpose(1, 2, 3, 0)

    def memory(self, address: int, size: int) -> NDArray[np.float32]:
        """Return a part of the base die's memory."""
        if address + size > len(self.state.base):
            raise _Fault(
                f"elements {address} to {address + size - 1} of the base die's memory,"
                f" which has {len(self.state.base)}"
            )
        return self.state.base[address : address + size]

    def to_elements(self, values: Values) -> Values:
        """Round to what columns and operands hold; INT8 saturates."""
        element = self.state.types.element
        if element.kind == "i":
            limits = np.iinfo(element)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return values.astype(element)


def _one(index: int) -> slice:
    """Return the index of one unit, or of all; a slice, so that no axis goes."""
    return slice(None) if index == ALL else slice(index, index + 1)


def _tree(values: Values) -> Values:
    """Add the lanes in halves: l with l + n/2, and so on."""
    while (half := values.shape[-1] // 2) >= 1:
        values = values[..., :half] + values[..., half:]
    return values[..., 0]
