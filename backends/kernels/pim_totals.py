# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Turns a scheduled PIM function into one that adds up its commands instead of writing them.

For each channel: how many of each kind, their bytes, and the cycle that each would issue at by the
rules of the event model (`pim/timing.py`), taken as it comes: units in order at their interval, a
row switch where the row changes, moves in order on a path of their own, each waiting for its data.
Left out is the rest of what the event model does, above all the slots of the command bus. All banks
of units are one here, as at bank level. It knows no operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm.tirx

from tokenloom.backends.kernels.pim_record import CommandRule, lowered
from tokenloom.backends.kernels.pim_shape import PimShape
from tokenloom.backends.pim.operations.totals import (
    ACTIVATES,
    ARRIVED,
    BANK,
    BANK_ROW,
    COLUMN,
    COMPUTING,
    CYCLES,
    DONE,
    DUE,
    ELEMENTS,
    FLOOR,
    FOUR,
    FROM_UNITS,
    LAST_OF,
    MOVE,
    NUMBER,
    OPENED,
    PATH,
    READY,
    RULES,
    SIZE_BYTES,
    SOFTMAX,
    SOFTMAX_RULE,
    SOFTMAX_TOKENS,
    SWITCHED,
    TO_UNITS,
    TRANSFER_RULE,
    USED,
    state_width,
)
from tokenloom.backends.pim.streams.commands import FIELDS, UNITS, Op

tirx: Any = tvm.tirx
Expr = Any
Command = dict[str, Expr]


def totals(function: Any, shape: PimShape) -> Any:
    """Return the function that adds up, with the arrays of `TotalsArrays` as further buffers."""
    return lowered(function, _Totals(shape))


class _Totals(CommandRule):
    """What each kind of command adds to the state of its channel."""

    def __init__(self, shape: PimShape):
        self.shape = shape
        self.rules = _buffer("rules", "int32", TRANSFER_RULE + 1)
        self.counts = _buffer("counts", "int64", None, len(Op), ELEMENTS + 1)
        width = state_width(shape.pseudo_channels, shape.sids)
        self.state = _buffer("state", "int32", None, width)
        self.rows = _buffer("rows", "int32", None, None, BANK)
        self.registers = _buffer("registers", "int32", None, None, READY)
        self.entries = _buffer("entries", "int32", None, None, READY)
        self.added = [
            self.rules,
            self.counts,
            self.state,
            self.rows,
            self.registers,
            self.entries,
        ]
        self.makers: dict[Op, Callable[[_Channel, Op, Command], None]] = {
            Op.MAC_TREE: _unit,
            Op.MAC_LANES: _unit,
            Op.WR: _write,
            Op.ROT: _rotate,
            Op.WR_GB: _move,
            Op.MV_GB: _move,
            Op.MV_SB: _move,
            Op.SFM: _softmax,
            Op.GATHER: _gather,
            Op.BARRIER: _barrier,
        }

    def made_of(self, words: list[Any]) -> Any:
        """Count the command and let its channel's state go on. MODE begins and ends a launch."""
        op = Op(int(words[0]))
        if op is Op.MODE:
            return tirx.Evaluate(0)
        command = dict(zip(FIELDS, words, strict=False))
        channel = _Channel(self, command["channel"])
        channel.count(op, NUMBER, 1)
        channel.count(op, SIZE_BYTES, command["size_bytes"])
        channel.count(op, ELEMENTS, command["size"])
        self.makers[op](channel, op, command)
        return tirx.SeqStmt(channel.statements)


class _Channel:
    """Statements on the state of one channel, in order."""

    def __init__(self, totals: _Totals, index: Expr):
        self.totals = totals
        self.statements: list[Any] = []
        self.index = self.let(index)

    def let(self, value: Expr) -> Expr:
        """Compute a value now; return a name for it."""
        variable = tirx.Var("v", "int32")
        self.statements.append(tirx.Bind(variable, tirx.Cast("int32", value)))
        return variable

    def rule(self, name: str) -> Expr:
        """Return the cycles of a constraint."""
        return tirx.BufferLoad(self.totals.rules, [RULES.index(name)])

    def get(self, field: Expr) -> Expr:
        """Return a field of the channel's state."""
        return tirx.BufferLoad(self.totals.state, [self.index, field])

    def put(self, field: Expr, value: Expr) -> None:
        """Replace a field of the channel's state."""
        value = tirx.Cast("int32", value)
        self.statements.append(tirx.BufferStore(self.totals.state, value, [self.index, field]))

    def load(self, buffer: Any, index: Expr, field: int) -> Expr:
        """Return a field of a bank, a register or an operand entry."""
        return tirx.BufferLoad(buffer, [self.index, index, field])

    def store(self, buffer: Any, index: Expr, field: int, value: Expr) -> None:
        """Replace a field of a bank, a register or an operand entry."""
        value = tirx.Cast("int32", value)
        self.statements.append(tirx.BufferStore(buffer, value, [self.index, index, field]))

    def count(self, op: Op, field: int, value: Expr) -> None:
        """Add to what is counted of a kind of command."""
        at = [self.index, int(op), field]
        total = tirx.BufferLoad(self.totals.counts, at) + tirx.Cast("int64", value)
        self.statements.append(tirx.BufferStore(self.totals.counts, total, at))

    def later(self, field: int, value: Expr) -> None:
        """Move a field of the state on to a cycle, never back."""
        self.put(field, tirx.max(self.get(field), value))

    def when(self, condition: Expr, build: Callable[[], None]) -> None:
        """Do what `build` appends only under a condition."""
        before, self.statements = self.statements, []
        build()
        then = tirx.SeqStmt(self.statements)
        self.statements = [*before, tirx.IfThenElse(condition, then, None)]


def _unit(channel: _Channel, op: Op, command: Command) -> None:
    """Add a column of all units; keys and values lie in different rows."""
    totals = channel.totals
    row = channel.let(command["row"] * 2 + int(op is Op.MAC_LANES))
    _open(channel, 0, row, "read_to_precharge")
    dst, src = channel.let(command["dst"]), channel.let(command["src"])
    cycle = channel.let(
        _latest(
            channel.rule("first_mac"),
            channel.get(FLOOR),
            channel.get(COLUMN) + channel.rule("unit"),
            channel.load(totals.rows, 0, OPENED) + channel.rule("to_read"),
            channel.load(totals.entries, src, TO_UNITS),
            channel.load(totals.registers, dst, TO_UNITS),
        )
    )
    late = channel.get(DUE) + channel.rule("refresh_wait")
    channel.when(cycle >= late, lambda: _reopen(channel))
    reopened = channel.load(totals.rows, 0, OPENED) + channel.rule("to_read")
    cycle = channel.let(_latest(cycle, reopened))
    after = tirx.Select(
        channel.get(SWITCHED) > 0, channel.rule("move_after_switch"), channel.rule("move_after_mac")
    )
    channel.store(totals.registers, dst, FROM_UNITS, cycle + after)
    channel.store(totals.entries, src, FROM_UNITS, cycle + 1)
    channel.store(totals.rows, 0, USED, cycle)
    channel.put(COLUMN, cycle)
    channel.put(COMPUTING, 1)
    channel.later(CYCLES, cycle)


def _write(channel: _Channel, op: Op, command: Command) -> None:
    """Add a column over the external bus into one bank."""
    del op
    totals, shape = channel.totals, channel.totals.shape
    sid = channel.let(command["pseudo_channel"] * shape.sids + command["sid"])
    group = sid * shape.bank_groups + command["bank_group"]
    bank = channel.let(group * shape.banks + command["bank"] + 1)
    _open(channel, bank, channel.let(command["row"]), "write_to_precharge", sid)
    cycle = channel.let(
        _latest(
            channel.get(FLOOR),
            channel.get(COLUMN) + channel.rule("column_group"),
            channel.load(totals.rows, bank, OPENED) + channel.rule("to_write_column"),
        )
    )
    channel.store(totals.rows, bank, USED, cycle)
    channel.put(COLUMN, cycle)
    channel.later(CYCLES, cycle + channel.rule("write_latency"))


def _open(channel: _Channel, bank: Expr, row: Expr, closing: str, sid: Expr | None = None) -> None:
    """Open a row where another is open, or none, as early as the bank allows.

    One bank of a `sid` also waits for other banks that opened. A refresh that is due comes first.
    """
    rows = channel.totals.rows

    def switch() -> None:
        used = channel.load(rows, bank, USED) + channel.rule(closing)
        kept = channel.load(rows, bank, OPENED) + channel.rule("row_open")
        closed = channel.let(_latest(used, kept))
        again = channel.load(rows, bank, OPENED) + channel.rule("row_cycle")
        opened = channel.let(_latest(1, closed + channel.rule("precharge"), again))
        if sid is not None:
            opened = _spaced(channel, sid, opened)
        channel.store(rows, bank, OPENED, opened)
        channel.store(rows, bank, BANK_ROW, row)
        channel.later(SWITCHED, channel.get(COMPUTING))
        channel.count(Op.ACT, NUMBER, 1)
        now = channel.get(COLUMN)
        channel.when(channel.get(DUE) <= tirx.max(opened, now), lambda: refresh(closed))

    def refresh(closed: Expr) -> None:
        start = _latest(closed + channel.rule("precharge_to_refresh"), channel.get(DUE))
        channel.store(rows, bank, OPENED, start + channel.rule("refresh"))
        channel.put(DUE, channel.get(DUE) + channel.rule("refresh_every"))
        channel.count(Op.REF, NUMBER, 1)

    channel.when(channel.load(rows, bank, BANK_ROW) != row, switch)


def _spaced(channel: _Channel, sid: Expr, opened: Expr) -> Expr:
    """Return when one bank opens among others of its SID, by tRRD and tFAW, and note it."""
    first = channel.let(sid * FOUR + ACTIVATES)
    opened = channel.let(
        _latest(
            opened,
            channel.get(first) + channel.rule("four_activates"),
            channel.get(first + FOUR - 1) + channel.rule("activate_group"),
        )
    )
    for number in range(FOUR - 1):
        channel.put(first + number, channel.get(first + number + 1))
    channel.put(first + FOUR - 1, opened)
    return opened


def _reopen(channel: _Channel) -> None:
    """Refresh now, though the row is still used: it cannot wait any longer."""
    rows = channel.totals.rows
    used = channel.load(rows, 0, USED) + channel.rule("read_to_precharge")
    kept = channel.load(rows, 0, OPENED) + channel.rule("row_open")
    closed = _latest(used, kept) + channel.rule("precharge_to_refresh")
    opened = channel.let(_latest(closed, channel.get(DUE)) + channel.rule("refresh"))
    channel.store(rows, 0, OPENED, opened)
    channel.put(DUE, channel.get(DUE) + channel.rule("refresh_every"))
    channel.count(Op.REF, NUMBER, 1)
    channel.count(Op.ACT, NUMBER, 1)


def _move(channel: _Channel, op: Op, command: Command) -> None:
    """Add a move between units and base die: operands in, registers out, or registers in."""
    totals, rule = channel.totals, channel.rule
    into_registers = op is Op.MV_GB and _is(command["flags"], UNITS)
    if op is Op.MV_SB or into_registers:
        where, index = totals.registers, channel.let(command["dst"])
    else:
        where, index = totals.entries, channel.let(command["src"])
    earliest = _latest(
        channel.get(FLOOR), channel.get(MOVE) + 1, channel.load(where, index, FROM_UNITS)
    )
    last = LAST_OF + int(op is Op.MV_GB)
    if op is not Op.MV_SB:
        interval = rule("operand_write") if op is Op.WR_GB else rule("probability")
        earliest = _latest(earliest, channel.get(last) + interval)
    if op is Op.MV_GB and not into_registers:
        earliest = _latest(earliest, channel.get(SOFTMAX))
    cycle = channel.let(_latest(earliest, channel.get(PATH)))
    channel.put(PATH, cycle + rule("move"))
    channel.put(MOVE, cycle)
    channel.put(
        ARRIVED if op is Op.MV_SB else last, cycle + (rule("move") if op is Op.MV_SB else 0)
    )
    channel.store(where, index, TO_UNITS, cycle + 1)
    channel.later(DONE, cycle)


def _softmax(channel: _Channel, op: Op, command: Command) -> None:
    """Add a softmax of the base die, one at a time."""
    del op
    cycle = channel.let(
        _latest(
            channel.get(FLOOR), channel.get(MOVE) + 1, channel.get(ARRIVED), channel.get(SOFTMAX)
        )
    )
    per_tokens = tirx.BufferLoad(channel.totals.rules, [SOFTMAX_RULE])
    tokens = tirx.Cast("int32", command["size"])
    taken = (tokens * per_tokens + SOFTMAX_TOKENS - 1) // SOFTMAX_TOKENS
    done = channel.let(cycle + 1 + taken)
    channel.put(MOVE, cycle)
    channel.put(SOFTMAX, done)
    channel.later(DONE, done - 1)


def _rotate(channel: _Channel, op: Op, command: Command) -> None:
    """Add a query made in the base die: it takes a slot among the moves."""
    del op, command
    cycle = channel.let(_latest(channel.get(FLOOR), channel.get(MOVE) + 1))
    channel.put(MOVE, cycle)
    channel.later(DONE, cycle)


def _gather(channel: _Channel, op: Op, command: Command) -> None:
    """Add results collected by the base die."""
    del op
    per_cycle = tirx.BufferLoad(channel.totals.rules, [TRANSFER_RULE])
    taken = (tirx.Cast("int32", command["size_bytes"]) + per_cycle - 1) // per_cycle
    cycle = channel.let(_latest(channel.get(FLOOR), channel.get(MOVE) + 1, channel.get(PATH)))
    stop = channel.let(cycle + _latest(channel.rule("move"), taken))
    channel.put(PATH, stop)
    channel.put(MOVE, cycle)
    channel.later(DONE, stop - 1)


def _barrier(channel: _Channel, op: Op, command: Command) -> None:
    """Let what follows wait for all that precedes."""
    del op, command
    channel.later(FLOOR, _latest(channel.get(CYCLES), channel.get(DONE)) + 1)
    channel.put(COMPUTING, 0)
    channel.put(SWITCHED, 0)


def _latest(first: Expr, *others: Expr) -> Expr:
    for other in others:
        first = tirx.max(first, other)
    return first


def _is(value: Expr, number: int) -> bool:
    """Return whether a field is a number that is known now."""
    return isinstance(value, tirx.IntImm) and int(value) == number


def _buffer(name: str, dtype: str, *shape: int | None) -> Any:
    """Return a buffer; sizes that are not given are taken from the array."""
    sizes = [
        tirx.Var(f"{name}_{axis}", "int32") if n is None else n for axis, n in enumerate(shape)
    ]
    return tirx.decl_buffer(sizes, dtype, name)
