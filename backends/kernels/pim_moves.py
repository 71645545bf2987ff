# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""What moves between the units and the base die in attention: each command with what it moves.

Queries and probabilities go in, scores and results come out. Where a phase's pages lie in several
channels, the accumulators of its context are carried from one to the next as they are, so that no
sum depends on where a page lies. It knows nothing of page tables beyond the run at hand.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_append import rotate
from tokenloom.backends.kernels.pim_pages import (
    CHANNEL,
    COUNT,
    ENTRY,
    FIRST,
    FRAME,
    SIZE,
    WHERE,
)
from tokenloom.backends.kernels.pim_plan import REGIONS, AttentionPlan
from tokenloom.backends.kernels.pim_record import command
from tokenloom.backends.kernels.vector import LANES, NEGATIVE, constant, lanes
from tokenloom.backends.pim.operations.schedule import SEGMENT_PAGES
from tokenloom.backends.pim.streams.commands import LANES as LANE_BY_LANE
from tokenloom.backends.pim.streams.commands import START, UNITS, Op

Expr = Any


def base(plan: AttentionPlan, task: Expr, part: int, head: Expr, size: int) -> Expr:
    """Return the base die element where a part of a task begins, for a query head."""
    return task % REGIONS * plan.region + part + head * size


@T.macro
def write_queries(b, task, channel, plan):
    """Bring the queries to the operand buffers: to each bank the dimensions that it holds."""
    for head, bank, number in T.grid(plan.heads, plan.shape.banks, plan.passes):
        chunk = T.meta_var((number * plan.shape.banks + bank) * LANES)
        T.evaluate(
            command(
                Op.WR_GB,
                channel=channel,
                bank=bank,
                src=head * plan.passes + number,
                address=base(plan, task, plan.query_base + chunk, head, plan.shape.padded),
                size=LANES,
                size_bytes=2 * LANES,
            )
        )
        b.query[number, head, bank, lanes(0)] = b.rotated[head, lanes(chunk)]
    T.evaluate(command(Op.BARRIER, channel=channel))


@T.macro
def load_queries(a, b, row, kv_head, batch, task, plan):
    """Rotate the queries for the frame of the run, and bring them to its channel.

    Nothing is done where the units hold them already.
    """
    frame = T.meta_var(a.frame_starts[b.control[FIRST] + b.control[ENTRY]])
    channel = T.meta_var(b.places[WHERE, b.control[ENTRY]])
    if b.control[FRAME] != frame or b.control[CHANNEL] != channel:
        if b.control[FRAME] != frame:
            for head in T.serial(plan.heads):
                T.evaluate(
                    command(
                        Op.ROT,
                        channel=channel,
                        address=base(plan, task, plan.query_base, head, plan.shape.padded),
                        size=plan.shape.head_dim,
                        size_bytes=4 * plan.shape.head_dim,
                    )
                )
                number = T.meta_var(kv_head * plan.shape.heads_per_kv + batch * plan.heads + head)
                start = T.meta_var(number * plan.shape.head_dim)
                half = T.meta_var(plan.shape.head_dim // 2)
                scale = T.meta_var(plan.shape.head_dim**-0.5)
                position = T.meta_var(a.positions[row] - frame)
                rotate(b.rotated, head, a.qkv, row, start, a.cos, a.sin, position, half, scale)
        write_queries(b, task, channel, plan)
        b.control[FRAME] = frame
        b.control[CHANNEL] = channel


@T.macro
def add_banks(scores, partial, head, step, channel, element, plan):
    """Write the scores of one step in one pseudo channel, its banks added in order."""
    with T.sblock("banks"):
        count = T.meta_var(plan.shape.pim_groups)
        total = T.sblock_alloc_buffer((count,), "float32", scope="local")
        total[T.ramp(0, 1, count)] = T.broadcast(T.float32(0), count)
        for bank in T.serial(plan.shape.banks):
            part = T.meta_var(partial[step, head, bank, channel, T.ramp(0, 1, count)])
            total[T.ramp(0, 1, count)] = total[T.ramp(0, 1, count)] + T.Cast(
                f"float32x{count}", part
            )
        scores[head, T.ramp(element, 1, count)] = total[T.ramp(0, 1, count)]


@T.macro
def hide(scores, head, start, seen, plan):
    """Make the scores of a page's tokens from `seen` on NEGATIVE."""
    if plan.page_elements == LANES:
        scores[head, lanes(start)] = T.Select(
            T.ramp(T.int32(0), 1, LANES) < T.broadcast(seen, LANES),
            scores[head, lanes(start)],
            constant(NEGATIVE),
        )
    else:
        for token in T.serial(plan.page_elements):
            if token >= seen:
                scores[head, start + token] = T.float32(NEGATIVE)


@T.macro
def move_scores(a, b, row, task, plan):
    """Move the scores of the run to the base die, banks added up; hidden tokens are NEGATIVE."""
    segment = T.meta_var(b.control[ENTRY] // SEGMENT_PAGES)
    start = T.meta_var(b.control[ENTRY] % SEGMENT_PAGES * plan.page_steps)
    stop = T.meta_var(start + b.control[SIZE] * plan.page_steps)
    for head, group in T.grid(plan.heads, plan.page_steps):
        low = T.meta_var(T.max(start, group * LANES))
        high = T.meta_var(T.min(stop, (group + 1) * LANES))
        first = T.meta_var((segment * plan.page_steps + group) * LANES * plan.shape.slots)
        if low < high:
            for sid, bank_group in T.grid(plan.shape.pim_sids, plan.shape.bank_groups):
                T.evaluate(
                    command(
                        Op.MV_SB,
                        channel=b.places[WHERE, b.control[ENTRY]],
                        sid=sid,
                        bank_group=bank_group,
                        dst=segment % 2 * plan.score_registers + head * plan.page_steps + group,
                        lane=low - group * LANES,
                        address=base(plan, task, plan.score_base, head, plan.phase_elements)
                        + first,
                        size=high - low,
                        size_bytes=2 * LANES * plan.shape.pseudo_channels,
                    )
                )
    from_step = T.meta_var(segment % 2 * plan.segment_steps + start)
    for head, step in T.grid(plan.heads, b.control[SIZE] * plan.page_steps):
        for channel in T.serial(plan.shape.pseudo_channels):
            element = T.meta_var(
                (b.control[ENTRY] * plan.page_steps + step) * plan.shape.slots
                + channel * plan.shape.pim_groups
            )
            add_banks(b.scores, b.partial, head, from_step + step, channel, element, plan)
    for head, entry in T.grid(plan.heads, b.control[SIZE]):
        page = T.meta_var(b.control[FIRST] + b.control[ENTRY] + entry)
        past = T.meta_var(a.positions[row] - a.page_positions[page] + 1)
        seen = T.meta_var(T.min(past, a.page_lengths[page]))
        hide(b.scores, head, (b.control[ENTRY] + entry) * plan.page_elements, seen, plan)


@T.macro
def move_weights(b, task, plan):
    """Move the probabilities of the run's segment to the operand buffers of its channel."""
    segment = T.meta_var(b.control[ENTRY] // SEGMENT_PAGES)
    for head, sid, bank_group, group in T.grid(
        plan.heads, plan.shape.pim_sids, plan.shape.bank_groups, plan.page_steps
    ):
        entry = T.meta_var(segment * plan.page_steps + group)
        T.evaluate(
            command(
                Op.MV_GB,
                channel=b.places[WHERE, b.control[ENTRY]],
                sid=sid,
                bank_group=bank_group,
                src=plan.weight_entry + head * plan.phase_entries + entry,
                address=base(plan, task, plan.score_base, head, plan.phase_elements)
                + entry * LANES * plan.shape.slots,
                size=LANES * plan.shape.pseudo_channels,
                size_bytes=2 * LANES * plan.shape.pseudo_channels,
            )
        )
    for head, step, channel in T.grid(
        plan.heads, b.control[SIZE] * plan.page_steps, plan.shape.pseudo_channels
    ):
        count = T.meta_var(plan.shape.pim_groups)
        at = T.meta_var(b.control[ENTRY] * plan.page_steps + step)
        element = T.meta_var(at * plan.shape.slots + channel * count)
        b.operand[at, head, channel, T.ramp(0, 1, count)] = b.weights[
            head, T.ramp(element, 1, count)
        ]


@T.macro
def carry(op, channel, task, plan):
    """Move all accumulators of context between a channel and the base die, as they are."""
    for head, number, bank, sid in T.grid(
        plan.heads, plan.passes, plan.shape.banks, plan.shape.pim_sids
    ):
        units = T.meta_var(plan.shape.pseudo_channels * plan.shape.bank_groups)
        which = T.meta_var((number * plan.shape.banks + bank) * plan.shape.pim_sids + sid)
        T.evaluate(
            command(
                op,
                channel=channel,
                sid=sid,
                bank=bank,
                dst=plan.context_register + head * plan.passes + number,
                address=base(plan, task, plan.carry_base, head, plan.carry_elements)
                + which * units * LANES,
                size=LANES * units,
                size_bytes=2 * LANES * units,
                flags=UNITS,
            )
        )


@T.macro
def enter_channel(b, task, plan):
    """Begin the context of a run: wait for probabilities, and carry on what another channel began.

    Accumulators leave by MV_SB and come in by MV_GB, both with flag UNITS.
    """
    entry = T.meta_var(b.control[ENTRY])
    here = T.meta_var(b.places[WHERE, entry])
    before = T.meta_var(b.places[WHERE, T.max(entry - 1, 0)])
    if entry == 0:
        T.evaluate(command(Op.BARRIER, channel=here))
    else:
        if here != before:
            carry(Op.MV_SB, before, task, plan)
            carry(Op.MV_GB, here, task, plan)
            T.evaluate(command(Op.BARRIER, channel=here))


@T.macro
def move_results(b, task, plan):
    """Move the results of a phase to the base die: lane by lane, slots added in order."""
    last = T.meta_var(b.control[COUNT] - 1)
    for head, number, bank in T.grid(plan.heads, plan.passes, plan.shape.banks):
        chunk = T.meta_var((number * plan.shape.banks + bank) * LANES)
        for sid in T.serial(plan.shape.pim_sids):
            T.evaluate(
                command(
                    Op.MV_SB,
                    channel=b.places[WHERE, last],
                    sid=sid,
                    bank=bank,
                    dst=plan.context_register + head * plan.passes + number,
                    address=base(plan, task, plan.result_base, head, plan.shape.padded)
                    + number * plan.shape.banks * LANES,
                    size=LANES,
                    size_bytes=2 * LANES * plan.shape.pseudo_channels * plan.shape.bank_groups,
                    flags=T.Select(sid == 0, LANE_BY_LANE + START, LANE_BY_LANE),
                )
            )
        b.sums[head, lanes(chunk)] = constant(0.0)
        for sid, channel, group in T.grid(
            plan.shape.pim_sids, plan.shape.pseudo_channels, plan.shape.bank_groups
        ):
            part = T.meta_var(
                b.context[
                    number, head, channel, sid * plan.shape.bank_groups + group, bank, lanes(0)
                ]
            )
            b.sums[head, lanes(chunk)] = b.sums[head, lanes(chunk)] + T.Cast("float32x16", part)
