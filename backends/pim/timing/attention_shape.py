"""How many commands the attention of one KV head takes in a channel, after AttAcc.

Counts follow from the level of the units: at every bank, at every bank group, or one for each
pseudo channel in the base die. It knows no cycles and no addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def dealt(stack: PimStack, heads: int, heads_per_kv: int, queries: int) -> tuple[int, int]:
    """Return how many sets of `queries` pass through the fullest channels, and how many are those.

    KV heads go to the channels in turn; all sets of one pass where its K and V lie. The other
    channels have the sets of one KV head less.
    """
    kv_heads, passes = -(-heads // heads_per_kv), heads_per_kv // queries
    rounds, left = divmod(kv_heads, stack.channels)
    return (rounds + bool(left)) * passes, left or stack.channels


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


@dataclass(frozen=True)
class AttentionCounts:
    """What attention of some heads on one stack consists of, over all of its channels.

    `commands` by name, but for the rows'; `opened_banks` counts rows that open, bank by bank;
    `unit_bytes` is what units read, `moved_bytes` what crosses between units and base die, of which
    `query_bytes` are queries; `tokens` counts those of all softmaxes.
    """

    commands: Mapping[str, int]
    opened_banks: int
    unit_bytes: int
    moved_bytes: int
    query_bytes: int
    tokens: int


def attention_counts(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    element_bytes: int = 2,
    heads_per_kv: int = 1,
) -> AttentionCounts:
    """Return what `attacc_stream.attention_stream` of the same arguments consists of.

    StreamError: the units have no room for one query.
    """
    if heads <= 0 or length <= 0:
        return AttentionCounts({}, 0, 0, 0, 0, 0)
    queries = shared_queries(stack, head_dim, element_bytes, heads_per_kv)
    shape = attention_shape(stack, length, head_dim, element_bytes, queries)
    most, full = dealt(stack, heads, heads_per_kv, queries)
    fewer = most - heads_per_kv // queries
    streams = full * most + (stack.channels - full) * fewer
    commands = {name: count * streams for name, count in shape.moves.items()}
    commands["MAC_TREE"] = commands["MAC_LANES"] = shape.phase_macs * streams
    commands["MODE"] = 2 * (stack.channels if fewer else full)
    commands["BARRIER"] = full * _barriers(most) + (stack.channels - full) * _barriers(fewer)
    query_bytes = commands["WR_GB"] * stack.column_bytes
    moves = commands["MV_GB"] + commands["MV_SB"]
    return AttentionCounts(
        commands,
        opened_banks=2 * streams * opened_banks(stack, shape),
        unit_bytes=2 * shape.phase_macs * streams * banks_of_a_mac(stack) * stack.column_bytes,
        moved_bytes=query_bytes + moves * move_bytes(stack),
        query_bytes=query_bytes,
        tokens=streams * queries * length,
    )


def opened_banks(stack: PimStack, shape: AttentionShape) -> int:
    """Return how many rows a phase opens, counted in every bank."""
    rows, rest = divmod(shape.phase_columns, stack.columns)
    if stack.level == "bank":
        return (rows + bool(rest)) * shape.slots * stack.banks
    if stack.level == "bank-group":
        return (rows + bool(rest)) * shape.slots
    banks = stack.pim_sids * stack.bank_groups * stack.banks
    sets, rest = divmod(shape.phase_columns, banks * stack.columns)
    return (sets * banks + min(banks, rest)) * stack.pseudo_channels


def banks_of_a_mac(stack: PimStack) -> int:
    """Return how many banks one command of units at the level in use reads."""
    banks = stack.pseudo_channels
    if stack.level != "buffer":
        banks *= stack.pim_sids * stack.bank_groups
    if stack.level == "bank":
        banks *= stack.banks // stack.unit.banks_per_unit
    return banks


def move_bytes(stack: PimStack) -> int:
    """Return the bytes of one move: a column's worth for each pseudo channel, which it serves."""
    return stack.pseudo_channels * stack.column_bytes


def _barriers(heads: int) -> int:
    """Return the barriers of `heads` heads of one channel: see `attacc_stream`."""
    if not heads:
        return 0
    pairs, odd = divmod(heads, 2)
    return 1 + 2 * pairs + odd + max(0, pairs - (not odd))
