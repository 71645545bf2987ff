"""The command stream of attention, written by its compiled kernel, as one launch or head by head.

The kernel's loops, conditions and page tables run without its arithmetic (see
`kernels/pim_record`); what it writes are the commands in program order. It knows no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import Array
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout
from tokenloom.backends.pim.operations.attention_specs import Heads, append_spec, attention_spec
from tokenloom.backends.pim.operations.native_kernels import record
from tokenloom.backends.pim.operations.schedule import AttentionSchedule, check_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, CommandStream, Op
from tokenloom.backends.pim.streams.overlap import HeadParts, overlapped

Index = NDArray[np.int32]


@dataclass(frozen=True)
class AttentionTables:
    """What a launch of attention attends to: index arrays as the operation takes them."""

    positions: Index
    row_requests: Index
    table_offsets: Index
    pages: Index
    frame_starts: Index
    page_positions: Index
    page_lengths: Index

    @classmethod
    def contiguous(cls, requests: int, length: int) -> AttentionTables:
        """Return tables of requests of `length` tokens, pages in order, their last row each."""
        count = -(-length // PAGE_TOKENS)
        starts = np.arange(count) * PAGE_TOKENS
        arrays = (
            np.full(requests, length - 1),
            np.arange(requests),
            np.arange(requests + 1) * count,
            np.arange(requests * count),
            np.zeros(requests * count),
            np.tile(starts, requests),
            np.tile(np.minimum(PAGE_TOKENS, length - starts), requests),
        )
        return cls(*(array.astype(np.int32) for array in arrays))

    @property
    def arrays(self) -> tuple[Index, ...]:
        """The arrays in the order of the operation's arguments."""
        return tuple(vars(self).values())


@dataclass(frozen=True)
class Pools:
    """Where keys and values lie: their layout, and the rows of the banks where each pool begins."""

    layout: KvLayout
    first_key: int
    first_value: int


def launch_stream(
    stack: PimStack,
    heads: Heads,
    schedule: AttentionSchedule,
    tables: AttentionTables,
    pools: Pools,
    rows: tuple[int, int] | None = None,
) -> CommandStream:
    """Return the commands of one launch for `rows` (first, count), all of them if None.

    DeviceError: the stack cannot run the schedule.
    """
    check_schedule(stack, heads.head_dim, heads.per_kv, schedule)
    spec = attention_spec(stack, heads, schedule, "commands")
    first, count = rows or (0, len(tables.positions))
    arrays = attention_arguments(heads, tables, pools.layout)
    scalars = (pools.layout.stripe, first, count)
    words = record(spec, arrays, scalars)
    stream = CommandStream.of_words("attention", "", words)
    for op, base in ((Op.MAC_TREE, pools.first_key), (Op.MAC_LANES, pools.first_value)):
        stream.records["row"][stream.records["op"] == op] += base
    return stream


def append_stream(stack: PimStack, heads: Heads, slots: Index, pools: Pools) -> CommandStream:
    """Return the commands that write the keys and values of tokens to their `slots`."""
    arrays = append_arguments(heads, slots, pools.layout)
    scalars = (pools.layout.stripe, pools.first_key, pools.first_value, len(slots))
    words = record(append_spec(stack, heads, "commands"), arrays, scalars)
    return CommandStream.of_words("append", "", words)


def heads_stream(
    stack: PimStack,
    heads: int,
    length: int,
    head_dim: int,
    schedule: AttentionSchedule,
    heads_per_kv: int = 1,
) -> CommandStream:
    """Return the commands of `heads` query heads over `length` tokens on one stack.

    Each KV head lies in a channel, in pages that follow each other; heads that share a channel
    overlap (see `overlap`). Queries are given rotated, as to AttAcc. DeviceError: the stack cannot
    run the schedule.
    """
    one = replace(stack, stacks=1, channels=1)
    shape = Heads(heads_per_kv, 1, head_dim)
    per_channel = _per_channel(-(-heads // heads_per_kv), stack.channels)
    parts: list[NDArray[Any]] = []
    for count, channels in per_channel.items():
        pages = -(-length // PAGE_TOKENS)
        layout = KvLayout(StackGeometry.of(one), count * pages, 1, head_dim, pages)
        pools = Pools(layout, 0, stack.pim_rows // 2)
        tables = AttentionTables.contiguous(count, length)
        stream = launch_stream(one, shape, schedule, tables, pools)
        stream = overlapped(stream, HeadParts.of(one, head_dim, schedule))
        records = stream.records[stream.records["op"] != Op.ROT]
        if len(channels) == stack.channels * stack.stacks:
            records["channel"] = ALL
            parts.append(records)
            continue
        many = np.tile(records, len(channels))
        many["channel"] = np.repeat(np.array(channels, np.int32), len(records))
        parts.append(many)
    return CommandStream(f"attention-{heads}x{length}x{head_dim}", "", np.concatenate(parts))


def _per_channel(kv_heads: int, channels: int) -> dict[int, list[int]]:
    """Return which channels hold how many heads, dealt in turn; channels without any left out."""
    dealt: dict[int, list[int]] = {}
    for channel in range(channels):
        count = kv_heads // channels + (channel < kv_heads % channels)
        if count:
            dealt.setdefault(count, []).append(channel)
    return dealt


def attention_arguments(heads: Heads, tables: AttentionTables, layout: KvLayout) -> list[Array]:
    """Return the arrays that attention is launched on, without values: tables only."""
    rows = len(tables.positions)
    queries, *rotary = _inputs(heads, rows)
    out = _shaped((rows, heads.num_heads * heads.head_dim), np.float32)
    sums = _shaped((rows, heads.num_heads, 2), np.float32)
    return [queries, *tables.arrays, *rotary, *_banks(layout), out, sums]


def append_arguments(heads: Heads, slots: Index, layout: KvLayout) -> list[Array]:
    """Return the arrays that an append is launched on, without values: slots only."""
    queries, *rotary = _inputs(heads, len(slots))
    return [queries, np.zeros(len(slots), np.int32), slots, *rotary, *_banks(layout)]


def _inputs(heads: Heads, rows: int) -> list[Array]:
    """Return activations and rotary tables; none of their values is read."""
    width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim
    rotary = _shaped((1, heads.head_dim // 2), np.float32)
    return [_shaped((rows, width), np.float32), rotary, rotary]


def _banks(layout: KvLayout) -> list[Array]:
    """Return the arguments of the pools; none of their values is read."""
    geometry = layout.geometry
    units = geometry.size("sid") * geometry.size("bank_group"), geometry.size("bank")
    above = geometry.channels, geometry.size("column"), geometry.size("pseudo_channel")
    return [_shaped((layout.num_rows, *above, *units, geometry.lanes), np.float16)] * 2


def _shaped(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """Return an array of a shape that takes no memory: all elements are one."""
    return np.broadcast_to(np.zeros(1, dtype), shape)
