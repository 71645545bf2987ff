"""How many commands the attention of one KV head takes in a channel, after AttAcc.

Counts follow from the level of the units: at every bank, at every bank group, or one for each
pseudo channel in the base die. It knows no cycles and no addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from tokenloom.backends.pim.errors import StreamError
from tokenloom.backends.pim.stack import PimStack


@dataclass(frozen=True)
class AttentionShape:
    """Commands of one KV head in a channel, by phase, for its `queries` query heads.

    A *slot* works on a token of its own; `tokens` of them follow each other in a slot. A token
    takes `columns` columns of K, and its V is read in as many passes of a column a token. A column
    is read by `repeats` commands: one for each query and for each bank of a unit. `writes` bring
    the queries in; in each of `groups` of tokens `score_moves` bring scores out. `entries` operand
    entries hold the probabilities of a query, `span` of them at a time; `probability_moves` fill
    one in all slots. `result_moves` bring out what one pass has summed up.
    """

    queries: int
    slots: int
    lanes: int
    tokens: int
    columns: int
    repeats: int
    writes: int
    groups: int
    score_moves: int
    entries: int
    span: int
    probability_moves: int
    result_moves: int

    @property
    def phase_columns(self) -> int:
        """Columns that the units of a slot read in the score phase, and again in the other."""
        return self.tokens * self.columns

    @property
    def phase_macs(self) -> int:
        """Commands of units in the score phase, and again in the context phase."""
        return self.phase_columns * self.repeats

    @property
    def refills(self) -> int:
        """How often the probabilities are brought in: once, or in every pass if they do not fit."""
        return 1 if self.span >= self.entries else self.columns

    @property
    def moves(self) -> dict[str, int]:
        """Moves of a head by name of the command, queries and softmaxes included."""
        out = self.groups * self.score_moves + self.columns * self.result_moves
        filled = self.queries * self.entries * self.probability_moves
        return {
            "WR_GB": self.writes,
            "MV_GB": self.refills * filled,
            "MV_SB": out,
            "SFM": self.queries,
        }


def attention_shape(
    stack: PimStack, length: int, head_dim: int, element_bytes: int = 2, queries: int = 1
) -> AttentionShape:
    """Return the counts for `length` tokens of `head_dim` elements of `element_bytes`.

    `queries` query heads share the KV head. Source: trace generators of the AttAcc simulator.
    StreamError: the units have not the registers or the operand entries that so many queries need.
    """
    lanes = stack.column_bytes // element_bytes
    groups = stack.pim_sids * stack.bank_groups
    banks, results, per_unit = 1, stack.pim_sids, 1
    if stack.level == "bank":
        banks, results, per_unit = stack.banks, groups_of_banks(stack), stack.unit.banks_per_unit
    elif stack.level == "buffer":
        groups = results = 1
    slots = stack.pseudo_channels * groups
    tokens, columns = -(-length // slots), -(-head_dim // (banks * lanes))
    entries, unit = -(-length // (slots * lanes)), at_level(stack).unit
    free = unit.operand_entries - 2 * queries * columns * per_unit
    if free < 2 * queries or unit.registers < queries * per_unit:
        raise StreamError(
            f"attention: {queries} queries of {head_dim} elements to a KV head need more than the"
            f" {unit.registers} registers and {unit.operand_entries} operand entries of a unit;"
            " a unit needs more of them"
        )
    return AttentionShape(
        queries=queries,
        slots=slots,
        lanes=lanes,
        tokens=tokens,
        columns=columns,
        repeats=queries * per_unit,
        writes=queries * banks * columns,
        groups=-(-tokens // stack.unit.lanes),
        score_moves=queries * groups,
        entries=entries,
        span=entries if entries * queries <= free else free // (2 * queries),
        probability_moves=groups,
        result_moves=queries * results,
    )


def shared_queries(stack: PimStack, head_dim: int, element_bytes: int, heads_per_kv: int) -> int:
    """Return how many of the query heads of a KV head are streamed over it at a time.

    The largest divisor of `heads_per_kv` for which registers and operand entries suffice, or 1.
    """
    lanes = stack.column_bytes // element_bytes
    banks = stack.banks if stack.level == "bank" else 1
    per_unit = stack.unit.banks_per_unit if stack.level == "bank" else 1
    columns, unit = -(-head_dim // (banks * lanes)), at_level(stack).unit
    room = unit.operand_entries // (2 * columns * per_unit + 2), unit.registers // per_unit
    fitting = [n for n in range(1, heads_per_kv + 1) if heads_per_kv % n == 0 and n <= min(room)]
    return max(fitting, default=1)


def groups_of_banks(stack: PimStack) -> int:
    """Return how many moves bring out the registers of all units of a channel, bank by bank."""
    return stack.banks * stack.pim_sids


def at_level(stack: PimStack) -> PimStack:
    """Return the stack with the registers and operands of one unit at its level.

    A unit of a bank group or of the base die takes the place of those of its banks, and has their
    registers and operand entries together.
    """
    levels = {
        "bank": (),
        "bank-group": (stack.banks,),
        "buffer": (stack.banks, stack.bank_groups, max(1, stack.pim_sids)),
    }
    banks, unit = prod(levels[stack.level]), stack.unit
    entries, registers = unit.operand_entries * banks, unit.registers * banks
    return replace(stack, unit=replace(unit, operand_entries=entries, registers=registers))
