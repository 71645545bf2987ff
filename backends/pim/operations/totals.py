"""What a launch comes to, channel by channel: the arrays that compiled kernels add up in.

A kernel's commands are counted instead of written (see `kernels/pim_totals.py`), with a running
estimate of the cycle that each issues at. Numbers of fields only; it computes nothing.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import Op
from tokenloom.backends.pim.timing.constraints import Constraints

RULES: tuple[str, ...] = tuple(field.name for field in fields(Constraints) if field.type == "int")
"""The cycles of `Constraints` that a kernel is given, in order."""
SOFTMAX_TOKENS = 1 << 10
"""Tokens whose softmax takes as many cycles as the first rule behind RULES says."""
SOFTMAX_RULE, TRANSFER_RULE = len(RULES), len(RULES) + 1
"""Rules behind RULES: cycles of SOFTMAX_TOKENS, and bytes that the base die collects in a cycle."""

NUMBER, SIZE_BYTES, ELEMENTS = range(3)
"""Of `counts` [channel, command, .]: how many, the bytes they move, the elements they name."""

COLUMN, PATH, MOVE, FLOOR, DONE, ARRIVED, SOFTMAX, COMPUTING, SWITCHED, DUE, CYCLES = range(11)
"""Of `state` [channel, .]: cycles of the last column, from which the path of moves is free, of the
last move, from which BARRIER lets commands go, and when the last move is done; when scores are
there and their softmax is done; whether units computed and rows were switched since the last
BARRIER; the next refresh; the last command of units."""
LAST_OF = CYCLES + 1
"""Behind them, the cycles of the last WR_GB and the last MV_GB."""
ACTIVATES = LAST_OF + 2
"""Behind them, for each SID of each pseudo channel the cycles of the last four ACTs of one bank."""
FOUR = 4

BANK_ROW, OPENED, USED = range(3)
"""Of `rows` [channel, bank, .]: the open row, the cycle it was opened at, that of its last use."""
BANK = USED + 1

FROM_UNITS, TO_UNITS = range(2)
"""Of `ready` [channel, register or entry, .]: cycles from which a move may read or replace what a
unit wrote or reads, and from which a unit may use what a move brought or took."""
READY = TO_UNITS + 1

NEVER = -(1 << 24)
"""A cycle before all others; small enough that no sum of it overflows."""


def rules_of(stack: PimStack) -> NDArray[np.int32]:
    """Return what a kernel is given of a stack's constraints."""
    rules = Constraints.of(stack)
    softmax = round(rules.softmax_per_token * SOFTMAX_TOKENS)
    cycles = [int(getattr(rules, name)) for name in RULES]
    return np.array([*cycles, softmax, max(1, int(rules.transfer_bytes))], np.int32)


def state_width(pseudo_channels: int, sids: int) -> int:
    """Return how many fields the state of a channel has."""
    return ACTIVATES + FOUR * pseudo_channels * sids


class TotalsArrays:
    """The arrays of one launch, as they are at its start."""

    def __init__(self, stack: PimStack):
        channels = stack.stacks * stack.channels
        banks = stack.pseudo_channels * stack.sids * stack.bank_groups * stack.banks
        self.rules = rules_of(stack)
        self.counts: NDArray[np.int64] = np.zeros((channels, len(Op), ELEMENTS + 1), np.int64)
        width = state_width(stack.pseudo_channels, stack.sids)
        self.state: NDArray[np.int32] = np.zeros((channels, width), np.int32)
        self.rows: NDArray[np.int32] = np.zeros((channels, banks + 1, BANK), np.int32)
        self.registers: NDArray[np.int32] = np.zeros(
            (channels, stack.unit.registers, READY), np.int32
        )
        self.entries: NDArray[np.int32] = np.zeros(
            (channels, stack.unit.operand_entries, READY), np.int32
        )
        self.refresh_every = Constraints.of(stack).refresh_every or 1 << 30

    def reset(self) -> None:
        """Begin a launch: nothing counted, all rows closed, units turned on in cycle 0."""
        self.counts[:] = 0
        self.state[:] = 0
        self.state[:, COLUMN] = NEVER
        self.state[:, FLOOR] = 1
        self.state[:, LAST_OF:] = NEVER
        self.state[:, DUE] = self.refresh_every
        self.rows[:] = NEVER
        self.rows[:, :, BANK_ROW] = -1
        self.registers[:] = NEVER
        self.entries[:] = NEVER

    @property
    def arguments(self) -> list[NDArray[np.int32] | NDArray[np.int64]]:
        """The arrays in the order of a kernel's arguments."""
        return [self.rules, self.counts, self.state, self.rows, self.registers, self.entries]
