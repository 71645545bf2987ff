"""Cycles of one stack's attention by its schedule, in closed form: a step a phase.

It follows the order of `kernels/pim_attention.py`; the order of AttAcc has a form of its own
(`closed_form`), exact to the cycle. It needs no commands and chooses nothing (that is `search`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from tokenloom.backends.pim.layout import PAGE_TOKENS
from tokenloom.backends.pim.operations.schedule import SEGMENT_TOKENS, AttentionSchedule, slots_of
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.timing.constraints import Constraints
from tokenloom.backends.pim.timing.gemv_model import with_refreshes


def schedule_cycles(
    stack: PimStack,
    rounds: int,
    length: int,
    head_dim: int,
    heads_per_kv: int,
    schedule: AttentionSchedule,
) -> int:
    """Return the cycles of a channel with `rounds` KV heads of `length` tokens, pages in order.

    Phases follow each other in pairs, as in `overlap`: both scores, then both contexts, so that
    units work on one while scores and probabilities of the other move.
    """
    if not rounds or not length:
        return 0
    model = _Model(stack, head_dim, schedule)
    tokens, turns = (
        schedule.phase_segments * SEGMENT_TOKENS,
        heads_per_kv // schedule.heads_together,
    )
    whole, rest = divmod(length, tokens)
    phases = [tokens] * whole + ([rest] if rest else [])
    work = [*enumerate(phases)] * (rounds * turns)
    end = model.start + sum(map(model.pair_cycles, work[::2], work[1::2]))
    if len(work) % 2:
        end += model.alone_cycles(work[-1])
    end += (-(-len(work) // 2) - 1) * model.switch + model.tail
    return with_refreshes(end, model.refresh, stack.timing.refi_cycles)


Work = tuple[int, int]
"""A phase of a head: its index, and how many tokens it has."""


@dataclass(frozen=True)
class _Model:
    """Costs of the parts of a phase for the query heads that are together."""

    stack: PimStack
    head_dim: int
    schedule: AttentionSchedule

    @property
    def rules(self) -> Constraints:
        return Constraints.of(self.stack.at(self.schedule.level))

    @property
    def columns_of_token(self) -> int:
        return ceil(self.head_dim / (self.stack.unit.lanes * self.stack.banks))

    @property
    def selected(self) -> int:
        """Banks, or groups of them, that commands select one of."""
        stack = self.stack
        banks = {"bank": (), "bank-group": (stack.banks,)}
        return prod(
            banks.get(self.schedule.level, (stack.pim_sids, stack.bank_groups, stack.banks))
        )

    @property
    def switch(self) -> int:
        """Opening another row: hidden where banks take turns."""
        rules = self.rules
        if self.schedule.level != "bank":
            return rules.unit
        return rules.read_to_precharge + rules.precharge + rules.to_read

    @property
    def start(self) -> int:
        """The first command, once queries are there."""
        writes = self.stack.banks * self.columns_of_token * self.schedule.heads_together
        return max(self.rules.first_mac, writes * self.rules.operand_write)

    @property
    def tail(self) -> int:
        """From the last command to the last result's."""
        moves = self.stack.banks * self.stack.pim_sids * self.schedule.heads_together
        if not self.schedule.pass_major:
            moves *= self.columns_of_token
        return self.rules.move_after_mac + moves * self.rules.move

    @property
    def refresh(self) -> int:
        """What a refresh adds."""
        rules = self.rules
        cost = rules.precharge_to_refresh + rules.refresh + rules.read_to_precharge + rules.to_read
        return cost - self.switch

    def pair_cycles(self, one: Work, other: Work) -> int:
        """Return the cycles of two phases, from the first command to the last."""
        first, second = self.columns_cycles(one[1]), self.columns_cycles(other[1])
        on = self.rules.unit if self.same_row(one, other) else self.switch
        context = max(first + on + second + self.switch, first + self.gap_cycles(one[1]))
        scored = first + on + second
        return max(context + first + on, scored + self.gap_cycles(other[1])) + second

    def alone_cycles(self, one: Work) -> int:
        """Return the cycles of a phase whose scores are waited for."""
        return 2 * self.columns_cycles(one[1]) + max(self.switch, self.gap_cycles(one[1]))

    def same_row(self, one: Work, other: Work) -> bool:
        """Whether a phase goes on in the row where the one before it has stopped."""
        tokens = self.schedule.phase_segments * SEGMENT_TOKENS
        starts = other[0] * self.columns(tokens) % self.stack.columns
        return other[0] == one[0] + 1 and starts > 0

    def columns(self, tokens: int) -> int:
        """Return the columns of the keys of `tokens` in a bank."""
        steps = ceil(tokens / PAGE_TOKENS) * ceil(PAGE_TOKENS / slots_of(self.stack))
        return steps * self.columns_of_token

    def columns_cycles(self, tokens: int) -> int:
        """Return the cycles from the first command to the last on the keys of `tokens`."""
        columns = self.columns(tokens)
        rows = ceil(columns / self.stack.columns)
        commands = columns * self.schedule.heads_together * self.selected
        return (commands - rows) * self.rules.unit + (rows - 1) * self.switch

    def gap_cycles(self, tokens: int) -> int:
        """Return how long a context waits for its scores: moves out, softmax, moves in."""
        rules, together = self.rules, self.schedule.heads_together
        groups = self.stack.pim_sids * self.stack.bank_groups
        segments = ceil(tokens / SEGMENT_TOKENS)
        softmax = ceil(tokens * rules.softmax_per_token) + rules.move
        moved = rules.move_after_mac + groups * together * rules.move * (1 + segments)
        return moved + softmax * together
