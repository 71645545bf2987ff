"""Whether commands wait for their data: operands, registers, base die memory, barriers.

Each command is compared with those before it in program order that made what it uses, or used what
it overwrites. It knows nothing of rows and buses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import LANES, UNIT_OPS, UNITS, Command, Op
from tokenloom.backends.pim.timing.pair_rules import BASE_DIE, COLUMNS

_MULTIPLY = frozenset({Op.MAC_TREE, Op.MAC_LANES, Op.MAC})


@dataclass(frozen=True)
class Violation:
    """`later` does not keep `constraint` with `earlier`, or alone: what is required, what found.

    Both are cycles, but where the constraint is one on rows, registers or counts.
    """

    constraint: str
    earlier: Command | None
    later: Command
    required: int
    found: int

    def __str__(self) -> str:
        after = f" after {_name(self.earlier)}" if self.earlier else ""
        return (
            f"{_name(self.later)}{after}: {self.constraint} requires {self.required},"
            f" found {self.found}"
        )


def broken_dependencies(commands: list[Command], stack: PimStack) -> list[Violation]:
    """Return the commands of one channel, in program order, that do not wait for their data."""
    walk = _Walk(stack)
    return [violation for command in commands for violation in walk.step(command)]


def _name(command: Command) -> str:
    units = "".join("*" if index < 0 else f"{index}." for index in command.scope).rstrip(".")
    place = f" row {command.row} column {command.column}" if command.op in COLUMNS else ""
    return f"{command.op.name} at {command.cycle} ({units}{place})"


@dataclass
class _Written:
    """A part of the base die's memory and the command that wrote it; `wait` until it is there."""

    start: int
    stop: int
    command: Command
    wait: int


class _Walk:
    """What was last written and read, command by command."""

    def __init__(self, stack: PimStack):
        self.stack = stack
        self.filled: dict[int, Command] = {}
        self.multiplied: dict[int, Command] = {}
        self.computed: dict[int, tuple[Command, int]] = {}
        self.moved: dict[int, Command] = {}
        self.memory: dict[tuple[Op, int], _Written] = {}
        self.latest: Command | None = None
        self.fence: Command | None = None
        self.computing = self.switched = False

    def step(self, command: Command) -> Iterator[Violation]:
        """Check a command, then note what it writes and reads."""
        if command.op == Op.BARRIER:
            self.fence, self.computing, self.switched = self.latest, False, False
        elif command.op == Op.ACT:
            self.switched |= self.computing
        elif command.op in COLUMNS or command.op in BASE_DIE:
            yield from self._wait("BARRIER", self.fence, command, 1)
            if command.op in UNIT_OPS:
                yield from self._unit(command)
            else:
                yield from self._move(command)
            if self.latest is None or command.cycle > self.latest.cycle:
                self.latest = command

    def _unit(self, command: Command) -> Iterator[Violation]:
        timing = self.stack.timing
        if command.op in _MULTIPLY:
            yield from self._wait("operand", self.filled.get(command.src), command, 1)
            self.multiplied[command.src] = command
        if command.op != Op.STORE:
            yield from self._wait("register in use", self.moved.get(command.dst), command, 1)
            waits = timing.move_after_mac_cycles, timing.move_after_switch_cycles
            self.computed[command.dst] = command, waits[self.switched]
        self.computing = True

    def _move(self, command: Command) -> Iterator[Violation]:
        if command.op == Op.MV_GB and command.flags & UNITS:
            made, wait = self.computed.get(command.dst, (None, 0))
            yield from self._wait("register", made, command, wait)
            self.moved[command.dst] = self._later(self.moved.get(command.dst), command)
        elif command.op in (Op.WR_GB, Op.MV_GB):
            yield from self._wait("operand in use", self.multiplied.get(command.src), command, 1)
            self.filled[command.src] = self._later(self.filled.get(command.src), command)
        elif command.op == Op.MV_SB:
            made, wait = self.computed.get(command.dst, (None, 0))
            yield from self._wait("register", made, command, wait)
            self.moved[command.dst] = self._later(self.moved.get(command.dst), command)
        yield from self._base_die(command)

    def _base_die(self, command: Command) -> Iterator[Violation]:
        """Check and note what a command reads and writes of the base die's memory."""
        start, stop = self._range(command)
        if command.op in (Op.SFM, Op.MV_GB, Op.WR_GB, Op.WR):
            for part in self.memory.values():
                if part.start < stop and start < part.stop:
                    yield from self._wait("memory", part.command, command, part.wait)
        timing = self.stack.timing
        softmax = 1 + ceil(command.size * timing.softmax_per_token_cycles)
        waits = {
            Op.MV_SB: timing.move_interval_cycles,
            Op.SFM: softmax,
            Op.RD: timing.cl_cycles + timing.bl_cycles,
            Op.ROT: 1,
        }
        if command.op in waits:
            written = _Written(start, stop, command, waits[command.op])
            self.memory[command.op, command.address] = written

    def _range(self, command: Command) -> tuple[int, int]:
        """Return the elements of the base die's memory that a command reads or writes."""
        size, lanes = command.size, self.stack.unit.lanes
        if command.op == Op.MV_GB or (command.op == Op.MV_SB and not command.flags & LANES):
            stack = self.stack
            groups = stack.pim_sids * stack.bank_groups if stack.level != "buffer" else 1
            size = lanes * stack.pseudo_channels * groups
        elif command.op == Op.MV_SB:
            size = lanes * self.stack.banks
        elif command.op in (Op.WR_GB, Op.RD, Op.WR):
            size = lanes
        return command.address, command.address + size

    @staticmethod
    def _wait(name: str, first: Command | None, later: Command, cycles: int) -> Iterator[Violation]:
        if first is not None and later.cycle - first.cycle < cycles:
            yield Violation(name, first, later, cycles, later.cycle - first.cycle)

    @staticmethod
    def _later(one: Command | None, other: Command) -> Command:
        return other if one is None or other.cycle >= one.cycle else one
