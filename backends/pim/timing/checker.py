"""Whether a timed stream is legal on a stack: an independent look at every pair that matters.

It replays each channel by cycle, with every bank on its own, and knows nothing of how the cycles
were found. What commands wait for in program order, their data, is `dependencies`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, ON, UNIT_OPS, Command, CommandStream, Op
from tokenloom.backends.pim.streams.limits import check_fields
from tokenloom.backends.pim.timing.attention_shape import at_level
from tokenloom.backends.pim.timing.dependencies import Violation, broken_dependencies
from tokenloom.backends.pim.timing.pair_rules import (
    BASE_DIE,
    COLUMNS,
    ROWS,
    PairRule,
    pair_rules,
)

__all__ = ["Violation", "check"]

MAX_DEBT = 8
"""Refreshes that may be outstanding (JEDEC: postponed refresh commands)."""
_CLOSED = -1
_ON_BUS = COLUMNS | BASE_DIE


def check(stream: CommandStream, stack: PimStack, refresh: bool = True) -> list[Violation]:
    """Return what a timed stream breaks, channel by channel; empty if it is legal.

    `refresh`: also that refreshes are not left out. StreamError: a command names what the stack
    does not have, such as a register or an operand entry.
    """
    check_fields(stream, at_level(stack), element_bytes=1)
    named = set(np.unique(stream.records["channel"]).tolist())
    every = set(range(stack.stacks * stack.channels))
    channels = sorted((named & every) | (set(sorted(every - named)[:1]) if ALL in named else set()))
    violations: list[Violation] = []
    seen: set[bytes] = set()
    for channel in channels:
        mine = stream.of_channel(channel)
        alike = mine.records.copy()
        alike["channel"] = ALL
        if alike.tobytes() in seen:
            continue
        seen.add(alike.tobytes())
        commands = list(mine)
        violations += _Replay(commands, stack).violations(refresh)
        violations += broken_dependencies(commands, stack)
    return violations


@dataclass(frozen=True)
class _Window:
    """Recent commands of one kind, and how far back a rule with them reaches."""

    ops: frozenset[Op]
    recent: deque[Command]
    cycles: int


class _Replay:
    """One channel's commands by cycle: pairs, open rows, mode and refreshes."""

    def __init__(self, commands: list[Command], stack: PimStack):
        self.stack = stack
        self.commands = sorted(commands, key=lambda command: command.cycle)
        self.rules: dict[tuple[Op, Op], list[PairRule]] = {}
        for rule in pair_rules(stack):
            for first in rule.first:
                for second in rule.second:
                    self.rules.setdefault((first, second), []).append(rule)
        self.windows = [self._window(ops) for ops in (ROWS, COLUMNS, BASE_DIE)]
        self.reach = {
            (op, index): self._reach(window.ops, op)
            for op in Op
            for index, window in enumerate(self.windows)
        }
        sizes = stack.pseudo_channels, stack.sids, stack.bank_groups, stack.banks
        self.rows = np.full(sizes, _CLOSED, np.int64)
        self.opened: dict[tuple[int, int], deque[Command]] = {}
        self.on_since: Command | None = None
        self.refreshes = 0

    def violations(self, refresh: bool) -> list[Violation]:
        """Return what the channel breaks."""
        found: list[Violation] = []
        for command in self.commands:
            found += self._pairs(command)
            found += self._state(command)
            if refresh and command.op == Op.REF:
                found += self._debt(command)
                self.refreshes += 1
            for window in self.windows:
                if command.op in window.ops:
                    window.recent.append(command)
        if refresh and self.commands:
            found += self._debt(self.commands[-1])
        return found

    def _window(self, ops: frozenset[Op]) -> _Window:
        cycles = max(
            (
                rule.cycles
                for (first, _), rules in self.rules.items()
                for rule in rules
                if first in ops
            ),
            default=0,
        )
        return _Window(ops, deque(), cycles)

    def _reach(self, ops: frozenset[Op], second: Op) -> int:
        """Return how many cycles before a command rules with commands of `ops` reach."""
        return max(
            (rule.cycles for op in ops for rule in self.rules.get((op, second), [])), default=0
        )

    def _pairs(self, command: Command) -> Iterator[Violation]:
        for index, window in enumerate(self.windows):
            while window.recent and command.cycle - window.recent[0].cycle >= window.cycles:
                window.recent.popleft()
            reach = self.reach[command.op, index]
            for before in reversed(window.recent):
                gap = command.cycle - before.cycle
                if gap >= reach:
                    break
                for rule in self.rules.get((before.op, command.op), []):
                    if gap < rule.cycles and self._share(before, command, rule.shared):
                        yield Violation(rule.name, before, command, rule.cycles, gap)

    def _share(self, one: Command, other: Command, level: int) -> bool:
        """Whether two commands touch the same part of the hierarchy down to a level."""
        for depth in range(level):
            a, b = one.scope[depth], other.scope[depth]
            if depth == 3 and self._banks(one) != self._banks(other):
                return self._meet(one, other)
            if a != b and ALL not in (a, b):
                return False
            if (
                depth == 1
                and a != b
                and max(a, b) >= self.stack.pim_sids
                and self._computes(one, other)
            ):
                return False
        return True

    @staticmethod
    def _computes(one: Command, other: Command) -> bool:
        """Whether the one of two commands that names no SID means those that compute."""
        return (one if one.sid == ALL else other).op in UNIT_OPS

    def _banks(self, command: Command) -> slice:
        """Return the banks of a group that a command touches."""
        per_unit = self.stack.unit.banks_per_unit
        if command.bank == ALL:
            return slice(None)
        if per_unit > 1 and command.op in UNIT_OPS:
            return slice(command.bank, None, per_unit)
        return slice(command.bank, command.bank + 1)

    def _meet(self, one: Command, other: Command) -> bool:
        banks = range(self.stack.banks)
        return bool(set(banks[self._banks(one)]) & set(banks[self._banks(other)]))

    def _state(self, command: Command) -> Iterator[Violation]:
        """Replay what the command does to rows and mode."""
        if command.op in _ON_BUS or command.op in ROWS:
            yield from self._mode(command)
        if command.op == Op.MODE:
            self.on_since = command if command.flags & ON else None
        elif command.op == Op.ACT:
            yield from self._activate(command)
        elif command.op == Op.PRE:
            self.rows[self._place(command)] = _CLOSED
        elif command.op == Op.REF:
            opened = int(self.rows.max())
            if opened != _CLOSED:
                yield Violation("REF with a row open", None, command, _CLOSED, opened)
        elif command.op in COLUMNS:
            rows = self.rows[self._place(command)]
            if np.any(rows != command.row):
                other = int(rows[rows != command.row].flat[0])
                yield Violation("row open", None, command, command.row, other)

    def _mode(self, command: Command) -> Iterator[Violation]:
        since = self.on_since
        if since is None:
            if command.op in UNIT_OPS:
                yield Violation("units on", None, command, 1, 0)
            return
        needed = self.stack.timing.first_mac_cycles if command.op in UNIT_OPS else 1
        if command.cycle - since.cycle < needed:
            yield Violation("after MODE", since, command, needed, command.cycle - since.cycle)

    def _activate(self, command: Command) -> Iterator[Violation]:
        place = self._place(command)
        if np.any(self.rows[place] != _CLOSED):
            opened = int(self.rows[place].max())
            yield Violation("ACT with a row open", None, command, _CLOSED, opened)
        self.rows[place] = command.row
        if ALL in command.scope[1:]:
            return
        stack = self.stack
        every = range(stack.pseudo_channels)
        for pc in every if command.pseudo_channel == ALL else [command.pseudo_channel]:
            recent = self.opened.setdefault((pc, command.sid), deque(maxlen=4))
            if len(recent) == 4 and command.cycle - recent[0].cycle < stack.timing.faw_cycles:
                gap = command.cycle - recent[0].cycle
                yield Violation("tFAW", recent[0], command, stack.timing.faw_cycles, gap)
                return
            recent.append(command)

    def _place(self, command: Command) -> tuple[slice, slice, slice, slice]:
        pc, sid, group = (_slice(index) for index in command.scope[:3])
        if command.sid == ALL and command.op in UNIT_OPS:
            sid = slice(self.stack.pim_sids)
        return pc, sid, group, self._banks(command)

    def _debt(self, command: Command) -> Iterator[Violation]:
        owed = command.cycle // self.stack.timing.refi_cycles - self.refreshes
        if owed > MAX_DEBT:
            yield Violation("refreshes owed", None, command, MAX_DEBT, owed)


def _slice(index: int) -> slice:
    return slice(None) if index == ALL else slice(index, index + 1)
