"""Heads that share a channel overlap: the base die is at one head while the units are at another.

Takes the commands of a channel as a kernel wrote them, head after head, and orders those of each
pair as AttAcc does: the softmax of the first under the scores of the second, and so on. The second
has registers and operand entries of its own. It changes no command but these numbers, adds
nothing, and knows no cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.pim.operations.schedule import AttentionSchedule, UnitNeeds, unit_needs
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import LANES, CommandStream, Op
from tokenloom.backends.pim.timing.attention_shape import at_level

Records = NDArray[Any]


@dataclass(frozen=True)
class HeadParts:
    """What tells the parts of a head's commands apart, and how many units' numbers there are."""

    needs: UnitNeeds
    registers: int
    operand_entries: int

    @classmethod
    def of(cls, stack: PimStack, head_dim: int, schedule: AttentionSchedule) -> HeadParts:
        """Return the needs of a schedule, and what the units of its level have."""
        unit = at_level(stack.at(schedule.level)).unit
        needs = unit_needs(stack, head_dim, schedule)
        return cls(needs, unit.registers, unit.operand_entries)


@dataclass(frozen=True)
class _Head:
    """The commands of one head: queries in, scores, softmax with probabilities in, context, out.

    `last_moves` are the moves of scores that follow the last multiplication.
    """

    queries: Records
    scores: Records
    last_moves: Records
    softmax: Records
    context: Records
    results: Records


def overlapped(stream: CommandStream, parts: HeadParts) -> CommandStream:
    """Return the commands of one channel with its heads in pairs, MODE around them kept.

    Each phase of a head counts as one; it keeps the queries of the phase before unless it brings
    some in. All pages of a phase lie in the channel.
    """
    records = stream.records
    ops = records["op"]
    switches, barriers = records[ops == Op.MODE], records[ops == Op.BARRIER][:1]
    ends = np.flatnonzero(_is_result(records[:-1]) & ~_is_result(records[1:])) + 1
    pieces = np.split(records, ends)[: len(ends)]
    heads: list[_Head] = []
    loads = 0
    for index, piece in enumerate(pieces):
        head = _parts(piece)
        loads += len(head.queries) > 0
        heads.append(_renamed(head, index % 2, (loads - 1) % 2, parts))
    ordered: list[Records] = [switches[:1]]
    for first in range(0, len(heads), 2):
        if first + 1 == len(heads):
            ordered += _alone(heads[first], barriers, first)
        else:
            ordered += _pair(heads[first], heads[first + 1], barriers, first, heads[first + 2 :])
    return CommandStream(stream.name, stream.machine, np.concatenate([*ordered, switches[1:]]))


def _alone(head: _Head, barrier: Records, index: int) -> Iterator[Records]:
    """Yield a head that has the channel to itself; its queries are there unless it is the first."""
    if index == 0:
        yield head.queries
        yield barrier
    yield head.scores
    yield head.last_moves
    yield head.softmax
    yield barrier
    yield head.context
    yield head.results


def _pair(
    first: _Head, second: _Head, barrier: Records, index: int, following: list[_Head]
) -> Iterator[Records]:
    """Yield two heads, the base die at one while the units are at the other."""
    if index == 0:
        yield first.queries
        yield barrier
    yield second.queries
    yield first.scores
    yield first.last_moves
    yield first.softmax
    yield second.scores
    yield barrier
    yield second.last_moves
    yield first.context
    yield second.softmax
    yield barrier
    yield first.results
    yield second.context
    yield from (head.queries for head in following[:1])
    yield second.results
    if following:
        yield barrier


def _parts(records: Records) -> _Head:
    ops = records["op"]
    scores = np.flatnonzero(ops == Op.MAC_TREE)
    softmax = np.flatnonzero(np.isin(ops, (Op.SFM, Op.MV_GB)))
    context = np.flatnonzero(ops == Op.MAC_LANES)
    results = np.flatnonzero(_is_result(records))
    queries = records[: scores[0]]
    return _Head(
        queries=queries[np.isin(queries["op"], (Op.ROT, Op.WR_GB))],
        scores=records[scores[0] : scores[-1] + 1],
        last_moves=records[scores[-1] + 1 : softmax[0]],
        softmax=records[softmax],
        context=records[context],
        results=records[results],
    )


def _renamed(head: _Head, parity: int, queries: int, parts: HeadParts) -> _Head:
    """Give the head the registers and entries of its parity: even heads the first of each.

    `queries` is the parity of the queries that it works with.
    """
    needs = parts.needs
    context_set = needs.context_registers
    if needs.registers + context_set > parts.registers:
        context_set = 0
    weights = needs.weight_entries
    if 2 * needs.query_entries + 2 * weights > parts.operand_entries:
        weights = 0
    entry = queries * needs.query_entries
    scores = _shifted(head.scores, "src", entry, Op.MAC_TREE)
    context = _shifted(head.context, "src", parity * weights, Op.MAC_LANES)
    return _Head(
        queries=_shifted(head.queries, "src", entry, Op.WR_GB),
        scores=_other_set(scores, parity, needs.score_registers),
        last_moves=_other_set(head.last_moves, parity, needs.score_registers),
        softmax=_shifted(head.softmax, "src", parity * weights, Op.MV_GB),
        context=_shifted(context, "dst", parity * context_set, Op.MAC_LANES),
        results=_shifted(head.results, "dst", parity * context_set, Op.MV_SB),
    )


def _shifted(records: Records, field: str, shift: int, op: Op) -> Records:
    moved = records.copy()
    moved[field][moved["op"] == op] += shift
    return moved


def _other_set(records: Records, parity: int, registers: int) -> Records:
    """Swap the two sets of score registers for odd heads."""
    moved = records.copy()
    if parity:
        moved["dst"] = (moved["dst"] + registers) % (2 * registers)
    return moved


def _is_result(records: Records) -> NDArray[np.bool_]:
    moved = (records["op"] == Op.MV_SB) & (records["flags"] & LANES > 0)
    return moved | (records["op"] == Op.GATHER)
