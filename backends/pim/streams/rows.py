"""Rows opened and closed where a command stream needs it: what a memory controller adds.

A row is closed where the stream goes on with another in the same banks. When that happens in
cycles is up to `timing`.
"""

from __future__ import annotations

import numpy as np

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.channels import ChannelGroup, join, split
from tokenloom.backends.pim.streams.commands import (
    ALL,
    COLUMN_OPS,
    FIELDS,
    RECORD,
    UNIT_OPS,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.streams.limits import check_fields
from tokenloom.backends.pim.timing.attention_shape import at_level

Scope = tuple[int, int, int, int]
Record = tuple[int, ...]

_CHANNEL, _PSEUDO_CHANNEL, _BANK, _ROW = (
    FIELDS.index(name) for name in ("channel", "pseudo_channel", "bank", "row")
)


def with_rows(stream: CommandStream, stack: PimStack) -> CommandStream:
    """Return the stream with PRE and ACT before the commands whose row is not open.

    ACT has the scope of the command that needs the row; where a unit reads several banks, of all
    banks of its group. PRE comes once those banks go on with another row, and the same
    bank of other bank groups too: one for all groups if all are open. A stream that
    opens rows itself is returned as it is. StreamError: a command names a row, a column or
    another place that the stack does not have.
    """
    check_fields(stream, at_level(stack), element_bytes=1)
    if np.any(stream.records["op"] == Op.ACT):
        return stream
    groups = [_with_rows(group, stack) for group in split(stream, stack)]
    return join(stream.name, stream.machine, groups)


def _with_rows(group: ChannelGroup, stack: PimStack) -> ChannelGroup:
    """Insert what one channel needs, one pass in program order."""
    at = np.flatnonzero(np.isin(group.records["op"], [int(op) for op in COLUMN_OPS])).tolist()
    records: list[Record] = group.records[at].tolist()
    uses = [(_row_scope(record, stack), record[_ROW]) for record in records]
    rows = _OpenRows(stack.pim_sids * stack.bank_groups)
    places: list[int] = []
    inserted: list[Record] = []
    for place, record, (scope, row), last in zip(at, records, uses, _last_uses(uses), strict=True):
        if rows.open.get(scope) != row:
            added = rows.switch(record[_CHANNEL], scope, row)
            inserted += added
            places += [place] * len(added)
        if last:
            added = rows.finish(record[_CHANNEL], scope)
            inserted += added
            places += [place + 1] * len(added)
    if not inserted:
        return group
    merged = np.insert(group.records, places, np.array(inserted, RECORD))
    order = np.append(group.order, group.order[-1:])
    return group.replaced(merged, np.insert(group.order, places, order[places]))


class _OpenRows:
    """The rows open in a channel by the scope that opened them, and the scopes done with theirs.

    `groups` is how many bank groups compute.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self.open: dict[Scope, int] = {}
        self.done: set[Scope] = set()

    def switch(self, channel: int, scope: Scope, row: int) -> list[Record]:
        """Return the commands that open a row, after closing what is open in its banks."""
        commands: list[Record] = []
        for known in [known for known in self.open if _overlap(known, scope)]:
            commands.append(self._close(channel, known, [known]))
        self.open[scope] = row
        return [*commands, _row_command(Op.ACT, channel, scope, row)]

    def finish(self, channel: int, scope: Scope) -> list[Record]:
        """Return what closes the same bank of all bank groups once all open ones are done."""
        self.done.add(scope)
        wide: Scope = (scope[0], ALL, ALL, scope[3])
        alike = [known for known in self.open if _overlap(known, wide)]
        if not all(_contains(wide, known) for known in alike):
            return [self._close(channel, scope, [scope])]
        if not all(known in self.done for known in alike):
            return []
        if len(alike) == self.groups:
            return [self._close(channel, wide, alike)]
        return [self._close(channel, known, [known]) for known in alike]

    def _close(self, channel: int, scope: Scope, opened: list[Scope]) -> Record:
        for known in opened:
            del self.open[known]
            self.done.discard(known)
        return _row_command(Op.PRE, channel, scope)


def _last_uses(uses: list[tuple[Scope, int]]) -> list[bool]:
    """Return for each use of a row whether the same scope uses another row next."""
    following: dict[Scope, int] = {}
    last: list[bool] = []
    for scope, row in reversed(uses):
        last.append(following.get(scope, row) != row)
        following[scope] = row
    return last[::-1]


def _row_scope(record: Record, stack: PimStack) -> Scope:
    """Return the banks in which a column command needs its row."""
    pseudo_channel, sid, group, bank = record[_PSEUDO_CHANNEL : _BANK + 1]
    shared = stack.unit.banks_per_unit > 1 and record[0] in UNIT_OPS
    return pseudo_channel, sid, group, ALL if shared else bank


def _overlap(one: Scope, other: Scope) -> bool:
    """Whether some bank is in both scopes."""
    return all(a in (ALL, b) or b == ALL for a, b in zip(one, other, strict=True))


def _contains(wide: Scope, scope: Scope) -> bool:
    """Whether all banks of a scope are in a wider one."""
    return all(a in (ALL, b) for a, b in zip(wide, scope, strict=True))


def _row_command(op: Op, channel: int, scope: Scope, row: int = 0) -> Record:
    return (int(op), channel, *scope, row, *(0,) * (len(FIELDS) - _ROW - 2), -1)
