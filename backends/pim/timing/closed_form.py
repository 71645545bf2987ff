"""Cycles of attention and element-wise operations in closed form: what `timing` finds by command.

The mapping of attention is that of `attacc_stream`. It steps through rows and refreshes, not
through commands. One head a channel agrees with the event model to the cycle at bank and bank-group
level where each bank has a unit of its own (3 cycles more on HBM2-PIM); several agree within 6 %,
as does buffer level from a row in every bank on (shorter heads within 25 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.timing.attention_shape import (
    AttentionShape,
    attention_shape,
    dealt,
    shared_queries,
)
from tokenloom.backends.pim.timing.constraints import Compat, Constraints
from tokenloom.backends.pim.timing.phase_model import Phase, RowModel

_MANY = 16
"""Heads a channel up to which each is stepped through; an even number of pairs."""


def attention_cycles(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    element_bytes: int = 2,
    compat: Compat | None = None,
    heads_per_kv: int = 1,
    refresh: bool = True,
) -> int:
    """Return the cycles of `heads` query heads over `length` tokens each on one stack.

    `heads_per_kv` query heads share a KV head, as many at a time as the units have room for; KV
    heads go to the channels in turn, and those of a channel in pairs. With many heads a channel the
    later ones take as long as the earlier. `compat="attacc"` is the published simulator's own, see
    `timing`. StreamError: the units have no room for one query.
    """
    if heads <= 0 or length <= 0:
        return 0
    queries = shared_queries(stack, head_dim, element_bytes, heads_per_kv)
    shape = attention_shape(stack, length, head_dim, element_bytes, queries)
    rounds, _ = dealt(stack, heads, heads_per_kv, queries)
    if compat is None and rounds <= _MANY:
        return _Channel(stack, shape, length, None, refresh).cycles(rounds)
    few = rounds if rounds <= _MANY else _MANY // 2 + rounds % (_MANY // 2)
    end = _Channel(stack, shape, length, compat, refresh=False).cycles(few)
    if few < rounds:
        half = _Channel(stack, shape, length, compat, refresh=False).cycles(few + _MANY // 2)
        end += (rounds - few) // (_MANY // 2) * (half - end)
    return _with_refreshes(stack, end, compat) if refresh else end


def elementwise_cycles(
    stack: PimStack, elements: int, operands: int = 2, columns: int = 8, refresh: bool = True
) -> int:
    """Return the cycles of an element-wise operation on FP16 `elements` over all stacks.

    Tiles of `columns` columns in every unit: each of `operands` is read from a row of its own, then
    the result written to another; the same in the next bank where commands do not reach all banks.
    Source: the order of `elementwise`.
    """
    if elements <= 0:
        return 0
    per_unit = stack.unit.banks_per_unit
    units = stack.stacks * stack.channels * stack.pseudo_channels * stack.pim_sids
    units *= stack.bank_groups * stack.banks // per_unit
    needed = ceil(elements / (units * stack.unit.lanes))
    count = max(1, min(columns, stack.unit.registers, needed))
    rows = RowModel(stack, None, refresh, in_turn=False)
    for _ in range(ceil(needed / count)):
        for bank in range(_selected(stack)):
            for visit in range(operands + 1):
                rows.visit(count, write=visit == operands, bank=bank)
    return rows.now


def _selected(stack: PimStack) -> int:
    """Return how many commands reach a column in all banks of a channel."""
    around = stack.pim_sids * stack.bank_groups * stack.banks
    return {"bank": 1, "bank-group": stack.banks, "buffer": around}[stack.level]


def _with_refreshes(stack: PimStack, end: int, compat: Compat | None) -> int:
    """Add what refreshes cost: at bank level each takes the place of a row switch.

    In the AttAcc simulator REF comes one cycle after PRE, and at bank level those due before the
    end are counted (fitted to its cycles, exact for one head a channel); there and elsewhere each
    moves the end, before which another may be due.
    """
    timing, rules = stack.timing, Constraints.of(stack, compat)
    switch = timing.rtp_l_cycles + timing.rp_cycles + timing.rcd_read_cycles
    cost = rules.precharge_to_refresh + rules.refresh + timing.rtp_l_cycles + timing.rcd_read_cycles
    cost -= switch if stack.level == "bank" else rules.unit
    if compat == "attacc" and stack.level == "bank":
        return end + cost * (end // timing.refi_cycles)
    return end + cost * (end // (timing.refi_cycles - cost))


@dataclass
class _Moves:
    """The queue of moves: when the next may issue, and when the last has."""

    free: int = 1
    last: int = 0

    def run(self, earliest: int, count: int, interval: int) -> None:
        """Issue `count` moves."""
        if count:
            start = max(self.free, earliest, self.last + 1)
            self.last = start + (count - 1) * interval
            self.free = self.last + interval


class _Channel:
    """Phases of the heads of a channel: what each waits for."""

    def __init__(
        self,
        stack: PimStack,
        shape: AttentionShape,
        length: int,
        compat: Compat | None,
        refresh: bool,
    ):
        self.compat, self.shape = compat, shape
        self.rows = RowModel(stack, compat, refresh)
        self.rules, self.outputs = self.rows.rules, stack.unit.lanes
        self.softmax = ceil(length * self.rules.softmax_per_token)
        self.around = stack.pim_sids * stack.bank_groups if stack.level == "buffer" else 1
        self.moves = _Moves()

    def cycles(self, rounds: int) -> int:
        """Return the last cycle of `rounds` heads, one after the other or in pairs."""
        self.queries(1)
        gate, end = max(self.moves.last + 1, self.rules.first_mac), 0
        for first in range(0, rounds, 2):
            more = first + 2 < rounds
            end = self.pair(gate, more) if first + 1 < rounds else self.alone(gate)
            gate = end + 1
        return end

    def alone(self, gate: int) -> int:
        """Run a head that has the channel to itself; return its last cycle."""
        score = self.phase(gate)
        self.score_groups(score, last=True)
        context = self.phase(self.probabilities())
        self.passes(context, last=True)
        return max(context.last, self.moves.last)

    def pair(self, gate: int, more: bool) -> int:
        """Run two heads, each under the softmax of the other; return the last cycle.

        `more`: the queries of a third come in under the last phase.
        """
        self.queries(self.moves.last + 1)
        first = self.phase(gate)
        self.score_groups(first, last=True)
        gate = self.probabilities()
        second = self.phase(0)
        self.score_groups(second, last=False)
        context = self.phase(max(gate, self.moves.last + 1, second.last + 1))
        self.group_out(second, self.shape.groups - 1, context.first)
        gate = self.probabilities()
        self.passes(context, last=False)
        gate = max(gate, self.moves.last + 1, context.last + 1)
        final = self.phase(gate, again=self.compat == "attacc")
        self.pass_out(context, self.shape.columns - 1, gate)
        if more:
            self.queries(gate)
        self.passes(final, last=True)
        return max(final.last, self.moves.last)

    def queries(self, earliest: int) -> None:
        """Bring the queries of a head to the units."""
        self.moves.run(earliest, self.shape.writes, self.rules.operand_write)
        self.moves.free = self.moves.last + self.rules.move

    def phase(self, gate: int, again: bool = False) -> Phase:
        """Run all columns of a head's K, or of its V; `again` of what was just read."""
        return self.rows.phase(gate, self.shape.phase_columns, self.shape.repeats, again)

    def score_groups(self, phase: Phase, last: bool) -> None:
        """Move the scores of all groups of tokens out; the last group only if `last`."""
        groups = self.shape.groups
        for group in range(max(0, groups - 2), groups if last else groups - 1):
            self.group_out(phase, group, 0)

    def group_out(self, phase: Phase, group: int, gate: int) -> None:
        """Move the scores of a group of tokens out, not before `gate`."""
        per_group = self.outputs * self.shape.columns * self.shape.repeats
        self.out(phase, min((group + 1) * per_group, phase.count) - 1, self.shape.score_moves, gate)

    def passes(self, phase: Phase, last: bool) -> None:
        """Move the results of all passes out; those of the last pass only if `last`."""
        for number in range(self.shape.columns - (not last)):
            self.pass_out(phase, number, 0)

    def pass_out(self, phase: Phase, number: int, gate: int) -> None:
        """Move the results of a pass out, not before `gate`."""
        per_pass = self.shape.tokens * self.shape.repeats
        self.out(phase, (number + 1) * per_pass - 1, self.shape.result_moves, gate)

    def out(self, phase: Phase, index: int, count: int, gate: int) -> None:
        """Move accumulators out, query by query, each once the last command has added to it."""
        rules, queries = self.rules, self.shape.queries
        after = rules.move_after_switch if phase.switched(index) else rules.move_after_mac
        for query in range(queries):
            last = max(0, index - (queries - 1 - query) * self.around)
            self.moves.run(max(gate, phase.cycle(last) + after), count // queries, rules.move)

    def probabilities(self) -> int:
        """Run softmax and bring probabilities in; return when units may start on them."""
        shape, moves = self.shape, self.moves
        done: list[int] = []
        cycle = moves.last + self.rules.move
        for _ in range(shape.queries):
            done.append(cycle + 1 + self.softmax)
            moves.last, cycle = cycle, done[-1]
        count = min(shape.span, shape.entries) * shape.probability_moves
        for ready in done:
            moves.run(ready, count, self.rules.probability)
        return moves.last + 1
