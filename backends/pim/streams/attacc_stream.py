"""Attention on a memory stack as AttAcc orders its commands, written down plainly.

It is the mapping that the closed form describes and that kernels are compared with: one KV head in
a channel, tokens over the slots, K's and V's dimensions over banks. Rows of a head follow each
other in a bank, K's from row 0 on and V's from the middle; base die addresses are those of a
channel's own part. It opens no rows (see `rows`) and knows no time.

Heads that share a channel go in pairs: while units score the second head the base die does the
softmax of the first, and so on (AttAcc, trace generators of its simulator).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.channels import Records
from tokenloom.backends.pim.streams.commands import (
    ALL,
    FIELDS,
    LANES,
    ON,
    RECORD,
    START,
    CommandStream,
    Op,
)
from tokenloom.backends.pim.timing.attention_shape import (
    AttentionShape,
    at_level,
    attention_shape,
    banks_of_a_mac,
    dealt,
    move_bytes,
    shared_queries,
)
from tokenloom.backends.pim.timing.constraints import Compat

Index = NDArray[np.int64]

_UNITS = ("channel", "pseudo_channel", "sid", "bank_group", "bank")


def attention_stream(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    element_bytes: int = 2,
    compat: Compat | None = None,
    heads_per_kv: int = 1,
    machine: str = "",
) -> CommandStream:
    """Return the stream of `heads` query heads over `length` tokens each on one stack.

    `heads_per_kv` of them share a KV head, as many at a time as units have room for; KV heads go to
    the channels in turn. `compat="attacc"` reads the second V of a pair where the first lies.
    StreamError: the units have no room for one query.
    """
    name = f"attention-{heads}x{length}x{head_dim}"
    queries = shared_queries(stack, head_dim, element_bytes, heads_per_kv)
    shape = attention_shape(stack, length, head_dim, element_bytes, queries)
    most, full = dealt(stack, heads, heads_per_kv, queries)
    fewer, channels = most - heads_per_kv // queries, stack.channels
    parts: list[Records] = []
    for count, first, stop in ((most, 0, full), (fewer, full, channels)):
        if count and stop > first and length:
            one = np.concatenate(list(_Channel(stack, shape, length, compat).heads(count)))
            if stop - first == stack.stacks * channels:
                parts.append(one)
                continue
            many = np.tile(one, stop - first)
            many["channel"] = np.repeat(np.arange(first, stop, dtype=np.int32), len(one))
            parts.append(many)
    records = np.concatenate(parts) if parts else np.zeros(0, RECORD)
    return CommandStream(name, machine, records)


class _Channel:
    """The commands of one channel, head by head."""

    def __init__(self, stack: PimStack, shape: AttentionShape, length: int, compat: Compat | None):
        self.stack, self.shape, self.length, self.compat = stack, shape, length, compat
        self.parts = _parts_of_commands(stack)
        self.places = _places(stack, np.arange(shape.phase_columns))
        self.rows_per_head = int(self.places["row"].max()) + 1
        self.mac_bytes = banks_of_a_mac(stack) * stack.column_bytes
        self.row_of_v = stack.pim_rows // 2
        self.per_unit = shape.repeats // shape.queries
        self.result_base = 2 * shape.queries * shape.entries * shape.slots * shape.lanes

    def heads(self, count: int) -> Iterator[Records]:
        """Yield the commands of `count` heads, two at a time."""
        yield _block(1, op=Op.MODE, flags=ON)
        yield self.queries_in(0)
        yield _block(1, op=Op.BARRIER)
        for first in range(0, count, 2):
            if first + 1 < count:
                yield from self.pair(first, last=first + 2 >= count)
            else:
                yield from self.alone(first)
        yield _block(1, op=Op.MODE)

    def alone(self, head: int) -> Iterator[Records]:
        """Yield the commands of a head that has the channel to itself."""
        yield from self.score(head)
        yield self.scores_out(head, self.shape.groups - 1)
        yield self.softmax(head)
        yield from self.context(head, then=())
        yield self.results_out(head, self.shape.columns - 1)

    def pair(self, first: int, last: bool) -> Iterator[Records]:
        """Yield the commands of two heads, the base die at one while the units are at the other."""
        second, shape = first + 1, self.shape
        yield self.queries_in(second)
        yield from self.score(first)
        yield self.scores_out(first, shape.groups - 1)
        yield self.softmax(first)
        yield self.probabilities_in(first, 0, 0)
        yield from self.score(second)
        last_scores = self.scores_out(second, shape.groups - 1)
        under = [last_scores, self.softmax(second)]
        if shape.refills == 1:
            under.append(self.probabilities_in(second, 0, 0))
        yield from self.context(first, then=under, filled=True)
        results = self.results_out(first, shape.columns - 1)
        queries = [] if last else [self.queries_in(second + 1)]
        filled = shape.refills == 1
        yield from self.context(second, then=[results, *queries], filled=filled)
        yield self.results_out(second, shape.columns - 1)
        if not last:
            yield _block(1, op=Op.BARRIER)

    def queries_in(self, head: int) -> Records:
        """Bring the queries of a head to the units: bank by bank, as each needs its dimensions."""
        shape = self.shape
        at_banks = self.stack.level == "bank"
        entries = shape.columns * self.per_unit
        index = np.arange(shape.writes)
        query, rest = np.divmod(index, shape.writes // shape.queries)
        bank, entry = np.divmod(rest, entries)
        return _block(
            shape.writes,
            op=Op.WR_GB,
            bank=bank if at_banks else ALL,
            src=self.query_entry(head, query) + entry,
            address=self.result_base + index * shape.lanes,
            size_bytes=self.stack.column_bytes,
        )

    def score(self, head: int) -> Iterator[Records]:
        """Yield K times queries, with the moves of all groups of tokens but the last."""
        for group in range(self.shape.groups):
            yield self.score_macs(head, group)
            if group:
                yield self.scores_out(head, group - 1)

    def score_macs(self, head: int, group: int) -> Records:
        """K times queries for the tokens of a group, token by token."""
        shape, lanes = self.shape, self.stack.unit.lanes
        first = group * lanes * shape.columns
        stop = min((group + 1) * lanes * shape.columns, shape.phase_columns)
        column, bank, query = self.repeated(first, stop)
        token, part = np.divmod(column, shape.columns)
        return _block(
            len(column),
            op=Op.MAC_TREE,
            **self.place(column, bank, head * self.rows_per_head),
            dst=self.register(head, group, query),
            src=self.query_entry(head, query) + part * self.per_unit + bank,
            lane=token % lanes,
            flags=np.where((part == 0) & (bank == 0), START, 0),
            size_bytes=self.mac_bytes,
        )

    def scores_out(self, head: int, group: int) -> Records:
        """Move the scores of a group of tokens to the base die."""
        shape = self.shape
        query, part = np.divmod(np.arange(shape.score_moves), len(self.parts["sid"]))
        return _block(
            shape.score_moves,
            op=Op.MV_SB,
            **{name: values[part] for name, values in self.parts.items()},
            dst=self.register(head, group, query),
            address=self.score_address(head, query) + group * self.stack.unit.lanes * shape.slots,
            size_bytes=move_bytes(self.stack),
        )

    def softmax(self, head: int) -> Records:
        """Softmax of all queries of a head."""
        query = np.arange(self.shape.queries)
        return _block(
            len(query),
            op=Op.SFM,
            address=self.score_address(head, query),
            dst=self.result_base + 2 * query,
            size=self.length,
        )

    def probabilities_in(self, head: int, turn: int, part: int) -> Records:
        """Fill one span of the operand entries, all slots and queries."""
        shape = self.shape
        start = part * shape.span
        count = min(shape.span, shape.entries - start)
        moves = len(self.parts["sid"])
        query, rest = np.divmod(np.arange(shape.queries * count * moves), count * moves)
        unit, entry = np.divmod(rest, count)
        return _block(
            len(query),
            op=Op.MV_GB,
            **{name: values[unit] for name, values in self.parts.items()},
            src=self.probability_entry(head, turn, query) + entry,
            address=self.score_address(head, query) + (start + entry) * shape.lanes * shape.slots,
            size_bytes=move_bytes(self.stack),
        )

    def context(
        self, head: int, then: list[Records] | tuple[()], filled: bool = False
    ) -> Iterator[Records]:
        """Yield probabilities times V, pass by pass; `then` follows its BARRIER.

        `filled`: the first span of probabilities is already in.
        """
        shape = self.shape
        spans = -(-shape.entries // shape.span)
        turns = [(p, s) for p in range(shape.columns) for s in range(spans)]
        if not filled:
            yield self.probabilities_in(head, 0, 0)
        yield _block(1, op=Op.BARRIER)
        yield from then
        for turn, (number, part) in enumerate(turns):
            if spans > 1 and turn + 1 < len(turns):
                yield self.probabilities_in(head, turn + 1, turns[turn + 1][1])
            yield self.context_macs(head, turn, number, part)
            if part == spans - 1 and number + 1 < shape.columns:
                yield self.results_out(head, number)

    def context_macs(self, head: int, turn: int, number: int, part: int) -> Records:
        """Probabilities times V for one pass and one span of the tokens."""
        shape = self.shape
        tokens = shape.span * shape.lanes
        start = number * shape.tokens
        first, stop = part * tokens, min((part + 1) * tokens, shape.tokens)
        column, bank, query = self.repeated(start + first, start + stop)
        token = column - start - first
        shared = self.compat == "attacc" and head % 2
        row = self.row_of_v + (head - 1 if shared else head) * self.rows_per_head
        entry = self.probability_entry(head, turn, query) + token // shape.lanes
        return _block(
            len(column),
            op=Op.MAC_LANES,
            **self.place(column, bank, row),
            dst=self.register(head, number, query * self.per_unit + bank),
            src=entry,
            lane=token % shape.lanes,
            flags=LANES + np.where((token == 0) & (part == 0), START, 0),
            size_bytes=self.mac_bytes,
        )

    def results_out(self, head: int, number: int) -> Records:
        """Move what one pass has summed up to the base die."""
        shape, stack = self.shape, self.stack
        at_banks, at_buffer = stack.level == "bank", stack.level == "buffer"
        banks = stack.banks // self.per_unit if at_banks else 1
        sids = 1 if at_buffer else stack.pim_sids
        query, rest = np.divmod(np.arange(shape.result_moves), shape.result_moves // shape.queries)
        bank_of_unit, rest = np.divmod(rest, banks * sids)
        bank, sid = np.divmod(rest, sids)
        return _block(
            shape.result_moves,
            op=Op.MV_SB,
            sid=ALL if at_buffer else sid,
            bank=bank if at_banks else ALL,
            dst=self.register(head, number, query * self.per_unit + bank_of_unit),
            address=self.result_base + (query * shape.columns + number) * stack.banks * shape.lanes,
            flags=LANES + np.where(sid == 0, START, 0),
            size_bytes=move_bytes(self.stack),
        )

    def repeated(self, first: int, stop: int) -> tuple[Index, Index, Index]:
        """Return column, bank of the unit and query for each command on columns `first:stop`.

        All queries read a column before the next; at buffer level, where reading a bank group again
        takes longer than another, they take turns on a column of every bank group.
        """
        index = np.arange((stop - first) * self.shape.repeats)
        column, rest = np.divmod(index, self.shape.repeats)
        bank, query = np.divmod(rest, self.shape.queries)
        column += first
        if self.stack.level == "buffer":
            around = self.stack.pim_sids * self.stack.bank_groups
            order = np.lexsort((column, query, column // around))
            column, query = column[order], query[order]
        return column, bank, query

    def place(self, column: Index, bank: Index, row: int) -> dict[str, Any]:
        """Return the unit fields, row and column of columns of a head that starts in `row`."""
        fields: dict[str, Any] = {name: values[column] for name, values in self.places.items()}
        fields["row"] = fields["row"] + row
        if self.per_unit > 1:
            fields["bank"] = bank
        return fields

    def register(self, head: int, step: int, index: Index) -> Index:
        """Return accumulators, two sets of them in turn where there are as many."""
        per_set = self.shape.repeats
        sets = 2 if 2 * per_set <= at_level(self.stack).unit.registers else 1
        return (head + step) % sets * per_set + index

    def query_entry(self, head: int, query: Index) -> Index:
        """Return where the operands of a query begin; two heads have room."""
        entries = self.shape.columns * self.per_unit
        return (head % 2 * self.shape.queries + query) * entries

    def probability_entry(self, head: int, turn: int, query: Index) -> Index:
        """Return where the probabilities of a query begin."""
        shape = self.shape
        queries = 2 * shape.queries * shape.columns * self.per_unit
        free = at_level(self.stack).unit.operand_entries - queries
        halves = 2 if 2 * shape.queries * shape.span <= free else 1
        half = (turn if shape.refills > 1 else head) % halves
        return queries + (half * shape.queries + query) * shape.span

    def score_address(self, head: int, query: Index) -> Index:
        """Return where the scores of a query lie in the base die."""
        shape = self.shape
        return (head % 2 * shape.queries + query) * shape.entries * shape.slots * shape.lanes


def _block(count: int, **values: Any) -> Records:
    """Return `count` records; a value is one for all or an array; units not given are ALL."""
    records = np.zeros(count, RECORD)
    for name in FIELDS:
        records[name] = values.get(name, ALL if name in _UNITS else 0)
    records["cycle"] = -1
    return records


def _parts_of_commands(stack: PimStack) -> dict[str, Index]:
    """Return SID and bank group of the moves that together serve all slots of a channel."""
    if stack.level == "buffer":
        return {"sid": np.array([ALL]), "bank_group": np.array([ALL])}
    sid, group = np.divmod(np.arange(stack.pim_sids * stack.bank_groups), stack.bank_groups)
    return {"sid": sid, "bank_group": group}


def _places(stack: PimStack, index: Index) -> dict[str, Index]:
    """Return units, row and column of a head's columns, in the order of AttAcc's level."""
    if stack.level == "bank":
        row, column = np.divmod(index, stack.columns)
        return {"row": row, "column": column}
    if stack.level == "bank-group":
        rest, column = np.divmod(index, stack.columns)
        row, bank = np.divmod(rest, stack.banks)
        return {"bank": bank, "row": row, "column": column}
    rest, group = np.divmod(index, stack.pim_sids * stack.bank_groups)
    sid, bank_group = np.divmod(group, stack.bank_groups)
    rest, bank = np.divmod(rest, stack.banks)
    row, column = np.divmod(rest, stack.columns)
    return {"sid": sid, "bank_group": bank_group, "bank": bank, "row": row, "column": column}
