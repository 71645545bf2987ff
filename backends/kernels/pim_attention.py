# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Attention on KV pages in the banks of a PIM stack: one TIR function, its values and its commands.

Banks hold and compute FP16: a multiply-accumulate rounds after the multiply and after the add.
The base die computes float32: rotation, softmax, sums over banks and slots. Buffers of banks are
indexed [row, channel, column, pseudo channel, bank group, bank, lane]; where a page lies there is
the layout of `backends/pim/layout.py`, how it is worked on an `AttentionSchedule`. The blocks
`score` and `context` are scheduled for a level of units and replaced by the intrinsics of
`pim_units`; `pim_record` makes of the result what computes and what writes commands.

Order of rounding and adding, for one row and one KV head:

- score of a token: in each bank the products of a column are added as a tree (l with l+8, l+4,
  l+2, l+1), and trees of several columns in order, all FP16; the base die adds the banks in order;
- softmax: over the pages of a phase, see `pim_softmax`; phases are merged online, in order;
- context: each lane of each bank adds over the phase's pages; the base die adds slots, SID by SID.

The order follows the page table only, so that neither the batch, nor the pages' places, nor the
level of the units change bits. It knows nothing of requests beyond their page tables.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_moves import (
    enter_channel,
    load_queries,
    move_results,
    move_scores,
    move_weights,
)
from tokenloom.backends.kernels.pim_pages import (
    CHANNEL,
    COLUMN,
    ENTRY,
    FRAME,
    NOWHERE,
    ROW,
    RUN_SIZE,
    RUNS,
    SIZE,
    VISIBLE,
    WHERE,
    count_visible,
    find_pages,
    take_run,
)
from tokenloom.backends.kernels.pim_plan import AttentionPlan
from tokenloom.backends.kernels.pim_record import CONTROL, command
from tokenloom.backends.kernels.pim_softmax import gather_phase, merge_phase, softmax_phase
from tokenloom.backends.kernels.pim_units import BANK, BASE, OPERAND, REGISTER, mac_lanes, mac_tree
from tokenloom.backends.kernels.vector import LANES, NEGATIVE, constant, lanes
from tokenloom.backends.pim.operations.schedule import SEGMENT_PAGES
from tokenloom.backends.pim.streams.commands import ON, Op

KEPT_FUNCTIONS = 8
"""Scheduled functions that are kept."""


def place_of(b: Any, page: Any, column: Any) -> tuple[Any, ...]:
    """Return row, channel and column of a page of the run at hand."""
    entry = b.control[ENTRY] + page
    first = b.places[COLUMN, entry]
    return T.Cast("int64", b.places[ROW, entry]), b.places[WHERE, entry], first + column


@T.macro
def score_run(a, b, plan):
    """Multiply the keys of the run's pages with the queries, for all query heads together."""
    at = T.meta_var(b.control[ENTRY] % (2 * SEGMENT_PAGES))
    for step, head, bank, channel in T.grid(
        b.control[SIZE] * plan.page_steps, plan.heads, plan.shape.banks, plan.shape.pseudo_channels
    ):
        groups = T.meta_var(T.ramp(0, 1, plan.shape.pim_groups))
        zeros = T.meta_var(T.broadcast(T.float16(0), plan.shape.pim_groups))
        b.partial[at * plan.page_steps + step, head, bank, channel, groups] = zeros
    with T.sblock("scores"):
        for loops in T.grid(
            b.control[SIZE],
            plan.page_steps,
            plan.passes,
            plan.heads,
            plan.shape.pseudo_channels,
            plan.shape.pim_groups,
            plan.shape.banks,
            LANES,
        ):
            with T.sblock("score"):
                T.sblock_attr({"pim.kind": "score"})
                page, again, number, head, channel, group, bank, lane = T.axis.remap(
                    "SSRSSSSR", loops
                )
                step = T.meta_var((at + page) * plan.page_steps + again)
                column = T.meta_var(again * plan.passes + number)
                place = T.meta_var((*place_of(b, page, column), channel, group, bank, lane))
                unit = T.meta_var((step, head, bank, channel, group))
                T.reads(b.partial[unit], a.keys[place], b.query[number, head, bank, lane])
                T.writes(b.partial[unit])
                b.partial[unit] = (
                    b.partial[unit] + a.keys[place] * b.query[number, head, bank, lane]
                )


@T.macro
def context_run(a, b, plan):
    """Add the values of the run's pages, weighted, to the sums of all query heads."""
    with T.sblock("contexts"):
        for loops in T.grid(
            b.control[SIZE],
            plan.page_steps,
            plan.passes,
            plan.heads,
            plan.shape.pseudo_channels,
            plan.shape.pim_groups,
            plan.shape.banks,
            LANES,
        ):
            with T.sblock("context"):
                T.sblock_attr({"pim.kind": "context"})
                page, again, number, head, channel, group, bank, lane = T.axis.remap(
                    "RRSSSSSS", loops
                )
                step = T.meta_var((b.control[ENTRY] + page) * plan.page_steps + again)
                column = T.meta_var(again * plan.passes + number)
                place = T.meta_var((*place_of(b, page, column), channel, group, bank, lane))
                unit = T.meta_var((number, head, channel, group, bank, lane))
                weight = T.meta_var((step, head, channel, group))
                T.reads(b.context[unit], a.values[place], b.operand[weight])
                T.writes(b.context[unit])
                b.context[unit] = b.context[unit] + a.values[place] * b.operand[weight]


@T.macro
def attend_phase(a, b, row, kv_head, batch, task, plan):
    """Score the phase's pages, weigh their values, and merge both into the result."""
    for run in T.serial(b.control[RUNS]):
        take_run(b, run)
        load_queries(a, b, row, kv_head, batch, task, plan)
        score_run(a, b, plan)
        move_scores(a, b, row, task, plan)
    for head in T.serial(plan.heads):
        softmax_phase(b, head, task, plan)
    for run in T.serial(b.control[RUNS]):
        take_run(b, run)
        move_weights(b, task, plan)
    for number, head, channel, group, bank in T.grid(
        plan.passes, plan.heads, plan.shape.pseudo_channels, plan.shape.pim_groups, plan.shape.banks
    ):
        zeros = T.meta_var(T.broadcast(T.float16(0), LANES))
        b.context[number, head, channel, group, bank, lanes(0)] = zeros
    for run in T.serial(b.control[RUNS]):
        take_run(b, run)
        enter_channel(b, task, plan)
        context_run(a, b, plan)
    move_results(b, task, plan)
    gather_phase(b, task, plan)
    for head in T.serial(plan.heads):
        merge_phase(b, head, plan)


@T.macro
def clear_heads(b, plan):
    """Begin a batch of query heads: no result, and no queries in the units."""
    b.control[FRAME] = NOWHERE
    b.control[CHANNEL] = NOWHERE
    for number, head, bank in T.grid(plan.passes, plan.heads, plan.shape.banks):
        b.query[number, head, bank, lanes(0)] = T.broadcast(T.float16(0), LANES)
    for head in T.serial(plan.heads):
        b.state[head, 0] = T.float32(NEGATIVE)
        b.state[head, 1] = T.float32(0)
        for chunk in T.serial(plan.shape.padded // LANES):
            b.result[head, lanes(chunk * LANES)] = constant(0.0)
            b.rotated[head, lanes(chunk * LANES)] = T.broadcast(T.float16(0), LANES)


@T.macro
def write_result(a, b, row, kv_head, batch, plan):
    """Write the attention of a batch of query heads, and what merges it with that of more pages."""
    for head in T.serial(plan.heads):
        number = T.meta_var(kv_head * plan.shape.heads_per_kv + batch * plan.heads + head)
        for part in T.serial(2):
            a.sums[row, number, part] = b.state[head, part]
        for d in T.serial(plan.shape.head_dim):
            a.out[row, number * plan.shape.head_dim + d] = T.if_then_else(
                b.state[head, 1] > T.float32(0),
                b.result[head, d] / b.state[head, 1],
                T.float32(0),
            )


@T.macro
def attend(a, row, kv_head, task, plan):
    """Write to `out` the attention of one row for the query heads of one KV head.

    A row that sees no token gets zeros.
    """
    with T.sblock("attend"):
        shape = T.meta_var(plan.shape)
        heads, channels = T.meta_var(plan.heads), T.meta_var(shape.pseudo_channels)
        groups, banks = T.meta_var(shape.pim_groups), T.meta_var(shape.banks)
        control = T.sblock_alloc_buffer((SIZE + 1,), "int32", scope=CONTROL)
        places = T.sblock_alloc_buffer((RUN_SIZE + 1, plan.phase_pages), "int32", scope=CONTROL)
        rotated = T.sblock_alloc_buffer((heads, shape.padded), "float16", scope=BASE)
        query = T.sblock_alloc_buffer((plan.passes, heads, banks, LANES), "float16", scope=OPERAND)
        score_units = T.meta_var((2 * plan.segment_steps, heads, banks, channels, groups))
        score = T.sblock_alloc_buffer(score_units, "float16", scope=REGISTER)
        scores = T.sblock_alloc_buffer((heads, plan.phase_elements), "float32", scope=BASE)
        weights = T.sblock_alloc_buffer((heads, plan.phase_elements), "float16", scope=BASE)
        weight_units = T.meta_var((plan.phase_steps, heads, channels, groups))
        operand = T.sblock_alloc_buffer(weight_units, "float16", scope=OPERAND)
        context_units = T.meta_var((plan.passes, heads, channels, groups, banks, LANES))
        context = T.sblock_alloc_buffer(context_units, "float16", scope=REGISTER)
        sums = T.sblock_alloc_buffer((heads, shape.padded), "float32", scope=BASE)
        result = T.sblock_alloc_buffer((heads, shape.padded), "float32", scope=BASE)
        state = T.sblock_alloc_buffer((heads, 2), "float32", scope=BASE)
        largest = T.sblock_alloc_buffer((heads,), "float32", scope=BASE)
        total = T.sblock_alloc_buffer((heads,), "float32", scope=BASE)
        b = T.meta_var(
            SimpleNamespace(
                control=control,
                places=places,
                rotated=rotated,
                query=query,
                partial=score,
                scores=scores,
                weights=weights,
                operand=operand,
                context=context,
                sums=sums,
                result=result,
                state=state,
                largest=largest,
                total=total,
            )
        )
        begin = T.meta_var(a.table_offsets[a.row_requests[row]])
        end = T.meta_var(a.table_offsets[a.row_requests[row] + 1])
        count_visible(a, b, row, begin, end)
        for batch in T.serial(plan.batches):
            clear_heads(b, plan)
            for phase in T.serial((b.control[VISIBLE] + plan.phase_pages - 1) // plan.phase_pages):
                find_pages(a, b, row, kv_head, begin, phase, plan)
                attend_phase(a, b, row, kv_head, batch, task, plan)
            write_result(a, b, row, kv_head, batch, plan)


def attention(name: str, plan: AttentionPlan) -> Any:
    """Return the scheduled function of the attention operations, to be split by `pim_record`.

    Behind `out` it takes `sums` [n, query heads, 2], to which it writes the largest score of each
    row and query head and the sum of its weights; `stripe` stands before `first` and `n`.
    """
    return _scheduled(plan).with_attr("global_symbol", name)


def _function(plan: AttentionPlan) -> Any:
    shape = plan.shape
    half, width = shape.head_dim // 2, shape.num_heads * shape.head_dim

    @T.prim_func(s_tir=True)
    def main(
        qkv_: T.handle,
        positions_: T.handle,
        row_requests_: T.handle,
        table_offsets_: T.handle,
        pages_: T.handle,
        frame_starts_: T.handle,
        page_positions_: T.handle,
        page_lengths_: T.handle,
        cos_: T.handle,
        sin_: T.handle,
        keys_: T.handle,
        values_: T.handle,
        out_: T.handle,
        sums_: T.handle,
        stripe: T.int32,
        first: T.int32,
        n: T.int32,
    ):
        T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
        sizes = T.meta_var([T.int32() for _ in range(12)])
        key_rows = T.int64()
        value_rows = T.int64()
        qkv = T.match_buffer(qkv_, (sizes[0], shape.width), "float32")
        positions = T.match_buffer(positions_, (sizes[1],), "int32")
        row_requests = T.match_buffer(row_requests_, (sizes[2],), "int32")
        table_offsets = T.match_buffer(table_offsets_, (sizes[3],), "int32")
        pages = T.match_buffer(pages_, (sizes[4],), "int32")
        frame_starts = T.match_buffer(frame_starts_, (sizes[5],), "int32")
        page_positions = T.match_buffer(page_positions_, (sizes[6],), "int32")
        page_lengths = T.match_buffer(page_lengths_, (sizes[7],), "int32")
        cos = T.match_buffer(cos_, (sizes[8], half), "float32")
        sin = T.match_buffer(sin_, (sizes[9], half), "float32")
        keys = T.match_buffer(keys_, shape.bank_shape(key_rows), "float16", scope=BANK)
        values = T.match_buffer(values_, shape.bank_shape(value_rows), "float16", scope=BANK)
        out = T.match_buffer(out_, (sizes[10], width), "float32")
        sums = T.match_buffer(sums_, (sizes[11], shape.num_heads, 2), "float32")
        a = T.meta_var(
            SimpleNamespace(
                qkv=qkv,
                positions=positions,
                row_requests=row_requests,
                table_offsets=table_offsets,
                pages=pages,
                frame_starts=frame_starts,
                page_positions=page_positions,
                page_lengths=page_lengths,
                cos=cos,
                sin=sin,
                keys=keys,
                values=values,
                out=out,
                sums=sums,
                stripe=stripe,
            )
        )
        T.evaluate(command(Op.MODE, flags=ON))
        for task in T.parallel(n * shape.num_kv_heads):
            row = T.meta_var(first + task // shape.num_kv_heads)
            attend(a, row, task % shape.num_kv_heads, task, plan)
        T.evaluate(command(Op.MODE))

    return main


@lru_cache(KEPT_FUNCTIONS)
def _scheduled(plan: AttentionPlan) -> Any:
    """Bind the loops of both blocks to the units of the plan's level, and name their intrinsics.

    The function is kept for its other lowerings, since it takes longer to make than to compile.
    """
    schedule: Any = Schedule(tvm.IRModule({"main": _function(plan)}))
    for kind, intrinsic in (("score", mac_tree(plan)), ("context", mac_lanes(plan))):
        loops = schedule.get_loops(_block(schedule, kind))
        page, again, number, head, channel, group, bank, lane = loops[-8:]
        outer_bank, bank = schedule.split(bank, [None, plan.banks])
        outer_group, group = schedule.split(group, [None, plan.groups])
        order = [page, again, number]
        if kind == "context" and plan.schedule.pass_major:
            order = [number, page, again]
        schedule.reorder(outer_bank, *order, outer_group, head, channel, group, bank, lane)
        schedule.tensorize(head, intrinsic)
    return schedule.mod["main"]


def _block(schedule: Any, kind: str) -> Any:
    """Return the block of the loops of `kind`, by its annotation: TVM numbers names."""
    found = [schedule.get_sblock("root")]
    while found:
        block = found.pop()
        if schedule.get(block).annotations.get("pim.kind") == kind:
            return block
        found += schedule.get_child_blocks(block)
    raise ValueError(f"no block of kind {kind}")
