"""What a launch is metered at equals what its command stream holds, and about what it takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.energy import stream_energy
from tokenloom.backends.pim.geometry import StackGeometry
from tokenloom.backends.pim.layout import KvLayout
from tokenloom.backends.pim.operations.attention_specs import Heads, append_spec, attention_spec
from tokenloom.backends.pim.operations.kernel_stream import (
    AttentionTables,
    Pools,
    append_arguments,
    append_stream,
    attention_arguments,
    launch_stream,
)
from tokenloom.backends.pim.operations.meter import LaunchCost, MeteredKernel, PimMeter
from tokenloom.backends.pim.operations.schedule import AttentionSchedule, default_schedule
from tokenloom.backends.pim.stack import PimStack
from tokenloom.backends.pim.streams.commands import ALL, CommandStream, Op
from tokenloom.backends.pim.streams.rows import with_rows
from tokenloom.backends.pim.timing.event_model import TimedStream, time_stream

HEADS = Heads(6, 2, 64)


def small_stack() -> PimStack:
    pim = load_machine("this-host-pim").pim
    assert pim is not None
    return replace(pim, channels=4, rows=256, pim_rows=256)


def pools(stack: PimStack, heads: Heads, num_pages: int, stripe: int) -> Pools:
    geometry = StackGeometry.of(stack)
    layout = KvLayout(geometry, num_pages, heads.num_kv_heads, heads.head_dim, stripe)
    return Pools(layout, 0, layout.num_rows)


def timed(stream: CommandStream, stack: PimStack) -> TimedStream:
    return time_stream(with_rows(stream, stack), stack)


def counts(stream: CommandStream, stack: PimStack) -> NDArray[np.int64]:
    """Return the commands of a timed stream by channel and kind, without MODE and PRE."""
    channels = stack.stacks * stack.channels
    records = stream.records[~np.isin(stream.records["op"], (Op.MODE, Op.PRE))]
    everywhere = records["channel"] == ALL
    mine = records[~everywhere]
    flat = mine["channel"].astype(np.int64) * len(Op) + mine["op"]
    single = np.bincount(flat, minlength=channels * len(Op)).reshape(channels, len(Op))
    return single + np.bincount(records["op"][everywhere], minlength=len(Op))


def metered(
    stack: PimStack, heads: Heads, schedule: AttentionSchedule, tables: AttentionTables, at: Pools
) -> MeteredKernel:
    spec = attention_spec(stack, heads, schedule, "totals")
    return MeteredKernel(stack, spec, tables.arrays, attention_arguments(heads, tables, at.layout))


def cost_of_all(
    stack: PimStack, heads: Heads, schedule: AttentionSchedule, tables: AttentionTables, at: Pools
) -> LaunchCost:
    kernel = metered(stack, heads, schedule, tables, at)
    return kernel.cost((at.layout.stripe, 0, len(tables.positions)))


@st.composite
def launches(draw: st.DrawFn) -> tuple[AttentionTables, int]:
    """Tables of some requests, in pages anywhere, in frames, with rows that see a part."""
    lengths = draw(st.lists(st.integers(1, 700), min_size=1, max_size=3))
    parts = [AttentionTables.contiguous(1, length) for length in lengths]
    sizes = [len(part.pages) for part in parts]
    rows = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=4))
    seen = [draw(st.integers(0, lengths[request] - 1)) for request in rows]
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(sum(sizes))
    starts = np.concatenate([part.page_positions for part in parts])
    in_frames = draw(st.booleans())
    tables = AttentionTables(
        positions=np.array(seen, np.int32),
        row_requests=np.array(rows, np.int32),
        table_offsets=np.cumsum([0, *sizes]).astype(np.int32),
        pages=order.astype(np.int32),
        frame_starts=(starts // 160 * 160 if in_frames else starts * 0).astype(np.int32),
        page_positions=starts,
        page_lengths=np.concatenate([part.page_lengths for part in parts]),
    )
    return tables, draw(st.sampled_from([0, 1, 16]))


@settings(max_examples=25, deadline=None)
@given(launches())
def test_a_launch_is_metered_at_its_commands(launch: tuple[AttentionTables, int]) -> None:
    tables, stripe = launch
    stack = small_stack()
    at = pools(stack, HEADS, len(tables.pages), stripe)
    schedule = default_schedule(stack, HEADS.head_dim, HEADS.per_kv)
    stream = timed(launch_stream(stack, HEADS, schedule, tables, at), stack)
    cost = cost_of_all(stack, HEADS, schedule, tables, at)
    assert np.array_equal(cost.counts, counts(stream.stream, stack))
    assert abs(cost.cycles.max() - stream.cycles) <= 0.06 * stream.cycles
    sums = {op.name: 0 for op in Op}
    for command in stream.stream:
        sums[command.op.name] += command.size_bytes
    assert cost.size_bytes == {name: size for name, size in sums.items() if size}


@pytest.mark.parametrize("length", [1, 16, 200, 256, 500])
def test_one_head_takes_the_cycles_of_the_event_model(length: int) -> None:
    stack = replace(small_stack(), stripe_tokens=0)
    heads, tables = Heads(1, 1, 128), AttentionTables.contiguous(1, length)
    at = pools(stack, heads, len(tables.pages), 0)
    schedule = AttentionSchedule(phase_segments=2)
    stream = timed(launch_stream(stack, heads, schedule, tables, at), stack)
    cost = cost_of_all(stack, heads, schedule, tables, at)
    assert int(cost.cycles.max()) == stream.cycles
    energy = stream_energy(stream, stack)
    assert sum(cost.energy_j.values()) == pytest.approx(energy.total, rel=1e-9)
    assert cost.attended == length


def test_refreshes_are_metered_where_the_event_model_has_them() -> None:
    stack = small_stack()
    heads, tables = Heads(4, 1, 128), AttentionTables.contiguous(1, 4000)
    at = pools(stack, heads, len(tables.pages), 0)
    schedule = default_schedule(stack, 128, 4)
    stream = timed(launch_stream(stack, heads, schedule, tables, at), stack)
    cost = cost_of_all(stack, heads, schedule, tables, at)
    assert cost.counts[:, Op.REF].sum() == stream.stream.counts()["REF"] > 0
    assert abs(cost.cycles.max() - stream.cycles) <= 0.02 * stream.cycles


def test_appends_are_metered_at_their_writes() -> None:
    stack = small_stack()
    slots = np.array([3, 20, -1, 21, 40], np.int32)
    at = pools(stack, HEADS, 4, 1)
    stream = append_stream(stack, HEADS, slots, at)
    assert stream.counts() == {"WR": 4 * 2 * 2 * 4}
    arrays = append_arguments(HEADS, slots, at.layout)
    kernel = MeteredKernel(stack, append_spec(stack, HEADS, "totals"), [slots], arrays)
    cost = kernel.cost((at.layout.stripe, at.first_key, at.first_value, len(slots)))
    event = timed(stream, stack)
    assert np.array_equal(cost.counts, counts(event.stream, stack))
    assert cost.size_bytes == {"WR": 64 * 32}
    assert abs(cost.cycles.max() - event.cycles) <= 0.06 * event.cycles


def test_equal_launches_are_added_up_once() -> None:
    stack = small_stack()
    tables = AttentionTables.contiguous(2, 100)
    at = pools(stack, HEADS, len(tables.pages), 16)
    schedule = default_schedule(stack, HEADS.head_dim, HEADS.per_kv)
    meter, kernel = PimMeter(), metered(stack, HEADS, schedule, tables, at)
    first = meter.add(kernel, (16, 0, 2))
    assert meter.add(kernel, (16, 0, 2)) is first
    tables.positions[1] = 50
    other = meter.add(kernel, (16, 0, 2))
    assert other.attended == HEADS.num_heads * (100 + 51)
    assert meter.launches == 3
    assert meter.attended == 2 * first.attended + other.attended
    assert meter.time_ns == 2 * first.time_ns + other.time_ns
    assert meter.energy_j["mac"] == pytest.approx(2 * first.energy_j["mac"] + other.energy_j["mac"])
