"""How many commands the attention of one KV head takes in a channel, after AttAcc.

Counts follow from the level of the units: at every bank, at every bank group, or one for each
pseudo channel in the base die. It knows no cycles and no addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenloom.backends.pim.stack import PimStack


@dataclass(frozen=True)
class AttentionShape:
    """Commands of one KV head in a channel, by phase, for all of its `queries` query heads.

    A *slot* works on a token of its own; `tokens` of them follow each other in a slot. A token
    takes `columns` columns of K, and its V is read in `passes` passes of a column a token.
    `writes` bring the queries in, `score_moves` scores out, `probability_moves` probabilities in
    and `result_moves` results out; a softmax for each query lies between.
    """

    queries: int
    slots: int
    tokens: int
    columns: int
    passes: int
    writes: int
    score_moves: int
    probability_moves: int
    result_moves: int

    @property
    def score_macs(self) -> int:
        """Commands that multiply K with the queries."""
        return self.queries * self.tokens * self.columns

    @property
    def context_macs(self) -> int:
        """Commands that multiply V with the probabilities."""
        return self.queries * self.tokens * self.passes

    @property
    def score_columns(self) -> int:
        """Columns of K that a unit's commands address, each by every query."""
        return self.tokens * self.columns

    @property
    def context_columns(self) -> int:
        """Columns of V that a unit's commands address, each by every query."""
        return self.tokens * self.passes


def attention_shape(
    stack: PimStack, length: int, head_dim: int, element_bytes: int = 2, queries: int = 1
) -> AttentionShape:
    """Return the counts for `length` tokens of `head_dim` elements of `element_bytes`.

    `queries` query heads share the KV head. Source: trace generators of the AttAcc simulator.
    """
    lanes = stack.column_bytes // element_bytes
    groups = stack.pim_sids * stack.bank_groups
    banks, out_scopes = 1, stack.pim_sids
    if stack.level == "bank":
        banks, out_scopes = stack.banks, stack.banks * stack.pim_sids
    elif stack.level == "buffer":
        groups, out_scopes = 1, 1
    slots = stack.pseudo_channels * groups
    tokens = -(-length // slots)
    columns = -(-head_dim // (banks * lanes))
    return AttentionShape(
        queries=queries,
        slots=slots,
        tokens=tokens,
        columns=columns,
        passes=columns,
        writes=queries * banks * columns,
        score_moves=queries * groups * -(-tokens // stack.unit.lanes),
        probability_moves=queries * groups * -(-length // (slots * lanes)),
        result_moves=queries * out_scopes * columns,
    )
