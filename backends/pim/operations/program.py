"""What is common to the programs of a stack: where they lie, and the mode their units are in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.banks import BankArrays
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import COLUMN_OPS, ON, Command, CommandStream, Op


def unit_axes(stack: PimStack) -> tuple[int, int, int, int, int]:
    """Return the units by channel (of all stacks), pseudo channel, SID, bank group, unit of it."""
    per_group = stack.banks // stack.unit.banks_per_unit
    channels = stack.stacks * stack.channels
    return channels, stack.pseudo_channels, stack.pim_sids, stack.bank_groups, per_group


def check_level(stack: PimStack, level: str) -> None:
    """Raise DeviceError where commands of a level do not reach the units of the stack."""
    levels = list(stack.levels) if stack.unit.banks_per_unit == 1 else ["bank"]
    if level not in levels:
        raise DeviceError(f"pim: no units at level {level!r}; this stack has {', '.join(levels)}")


def banks_for(stack: PimStack, rows: int) -> BankArrays:
    """Return banks of the computing SIDs with `rows` rows only. DeviceError: too much memory."""
    return BankArrays(StackGeometry.of(replace(stack, rows=rows, pim_rows=rows)))


def program(name: str, machine: str, words: NDArray[np.int32], first_row: int = 0) -> CommandStream:
    """Return the commands that a kernel wrote as a program: units on, commands, units off.

    Rows are counted from `first_row` on, where the kernel's rows begin.
    """
    stream = CommandStream.of_words(name, machine, words)
    columns = np.isin(stream.records["op"], [int(op) for op in COLUMN_OPS])
    stream.records["row"][columns] += first_row
    switches = [Command(Op.MODE, flags=ON), Command(Op.MODE)]
    on, off = (CommandStream.of(name, machine, [switch]).records for switch in switches)
    return CommandStream(name, machine, np.concatenate([on, stream.records, off]))
