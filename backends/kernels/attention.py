# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Attention over pages on the CPU, in float32.

Keys lie rotated by their position within their frame (see `pages`); a query is rotated by its
position minus the frame's start whenever the frame changes. It knows page tables as arrays of
integers, and nothing of who owns a page.

A row's result depends on its own query and table only: pages are taken in order with an online
softmax, in splits of SPLIT_PAGES pages that are merged in order. So prefill, in whatever chunks,
and decode agree to the bit.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.pages import HeadSizes
from tokenloom.backends.kernels.vector import (
    LANES,
    NEGATIVE,
    constant,
    exp,
    fma,
    fma_scalar,
    lane_max,
    lanes,
    spread,
)

SPLIT_PAGES = 16
"""Pages a split: the unit in which a long context may be shared out; part of the result's bits."""

SERIAL_PAGES = 64
"""Fewer pages times heads times rows than this are done before another thread has woken up."""

CHAINS = 4
"""Independent sums of a score, so that a multiply-add need not wait for the one before."""


@T.macro
def rotate_query(qkv, cos, sin, query, row, head, distance, s):
    """Rotate the queries of one kv head by `distance` and scale them, into `query`."""
    for g in T.serial(s.group):
        for d in T.serial(s.half):
            start = T.meta_var((head * s.group + g) * s.head_dim + d)
            c = T.meta_var(cos[distance, d])
            z = T.meta_var(sin[distance, d])
            low = T.meta_var(qkv[row, start])
            high = T.meta_var(qkv[row, start + s.half])
            query[g, d] = fma_scalar(low, c, T.float32(0.0) - high * z) * T.float32(s.scale)
            query[g, s.half + d] = fma_scalar(high, c, low * z) * T.float32(s.scale)


@T.macro
def score_part(query, keys, score, page, head, part, s):
    """Compute the scores of 16 tokens for each query of the group, in `score[:, 0]`."""
    for g in T.unroll(s.group):
        for c in T.unroll(CHAINS):
            score[g, c, lanes(0)] = constant(0.0)
    for step in T.serial(s.head_dim // CHAINS):
        for c in T.unroll(CHAINS):
            for g in T.unroll(s.group):
                d = T.meta_var(step * CHAINS + c)
                score[g, c, lanes(0)] = fma(
                    spread(query[g, d]),
                    keys[page, head, d, lanes(part * LANES)],
                    score[g, c, lanes(0)],
                )
    for g in T.unroll(s.group):
        score[g, 0, lanes(0)] = (score[g, 0, lanes(0)] + score[g, 1, lanes(0)]) + (
            score[g, 2, lanes(0)] + score[g, 3, lanes(0)]
        )


@T.macro
def add_part(score, values, page, head, part, visible, peak, total, acc, s):
    """Take 16 scored tokens, the first `visible` of them, into the softmax state."""
    for g in T.unroll(s.group):
        with T.sblock("soften"):
            T.reads()
            T.writes()
            before = T.sblock_alloc_buffer((1,), "float32", scope="local")
            seen = T.meta_var(lanes(T.int32(0)) < spread(visible))
            masked = T.meta_var(T.Select(seen, score[g, 0, lanes(0)], constant(NEGATIVE)))
            before[0] = peak[g]
            score[g, 1, lanes(0)] = masked
            peak[g] = T.max(before[0], lane_max(score[g, 1, lanes(0)]))
            score[g, 2, lanes(0)] = exp(spread(before[0] - peak[g]))
            score[g, 0, lanes(0)] = T.Select(
                seen, exp(score[g, 1, lanes(0)] - spread(peak[g])), constant(0.0)
            )
            total[g, lanes(0)] = fma(
                total[g, lanes(0)], score[g, 2, lanes(0)], score[g, 0, lanes(0)]
            )
            for v in T.unroll(s.vectors):
                acc[g, lanes(v * LANES)] = acc[g, lanes(v * LANES)] * score[g, 2, lanes(0)]
    for t in T.serial(visible):
        for v in T.unroll(s.vectors):
            for g in T.unroll(s.group):
                acc[g, lanes(v * LANES)] = fma(
                    spread(score[g, 0, t]),
                    values[page, head, part * LANES + t, lanes(v * LANES)],
                    acc[g, lanes(v * LANES)],
                )


@T.macro
def merge_split(peak, total, acc, all_peak, all_total, all_acc, s):
    """Take a split's softmax state into the row's."""
    for g in T.unroll(s.group):
        with T.sblock("merge"):
            T.reads()
            T.writes()
            old = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            new = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            top = T.sblock_alloc_buffer((1,), "float32", scope="local")
            top[0] = T.max(all_peak[g], peak[g])
            old[lanes(0)] = exp(spread(all_peak[g] - top[0]))
            new[lanes(0)] = exp(spread(peak[g] - top[0]))
            all_peak[g] = top[0]
            all_total[g, lanes(0)] = fma(
                all_total[g, lanes(0)], old[lanes(0)], total[g, lanes(0)] * new[lanes(0)]
            )
            for v in T.unroll(s.vectors):
                all_acc[g, lanes(v * LANES)] = fma(
                    all_acc[g, lanes(v * LANES)],
                    old[lanes(0)],
                    acc[g, lanes(v * LANES)] * new[lanes(0)],
                )


@T.macro
def clear(peak, total, acc, s):
    """Make a softmax state that has seen nothing."""
    for g in T.unroll(s.group):
        peak[g] = T.float32(NEGATIVE)
        total[g, lanes(0)] = constant(0.0)
        for v in T.unroll(s.vectors):
            acc[g, lanes(v * LANES)] = constant(0.0)


@T.macro
def write_heads(out, row, head, total, acc, s):
    """Write a row's weighted values; a row that saw no token is zero."""
    for g in T.unroll(s.group):
        with T.sblock("divide"):
            T.reads()
            T.writes()
            weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
            weight[0] = total[g, 0]
            for lane in T.unroll(LANES - 1):
                weight[0] = weight[0] + total[g, lane + 1]
            weight[0] = T.if_then_else(
                weight[0] > T.float32(0.0), T.float32(1.0) / weight[0], T.float32(0.0)
            )
            for v in T.unroll(s.vectors):
                out[row, lanes((head * s.group + g) * s.head_dim + v * LANES)] = acc[
                    g, lanes(v * LANES)
                ] * spread(weight[0])


@T.macro
def attend_page(b, query, score, state, row, head, j, s):
    """Take one page of the table into the split's state, as far as the row may see it."""
    for part in T.serial(s.parts):
        with T.sblock("part"):
            T.reads()
            T.writes()
            visible = T.sblock_alloc_buffer((1,), "int32", scope="local")
            visible[0] = T.min(
                T.min(b.lengths[j], b.positions[row] - b.starts[j] + 1) - part * LANES, LANES
            )
            if visible[0] > 0:
                score_part(query, b.keys, score, b.pages[j], head, part, s)
                add_part(
                    score,
                    b.values,
                    b.pages[j],
                    head,
                    part,
                    visible[0],
                    state.peak,
                    state.total,
                    state.acc,
                    s,
                )


@T.macro
def attend(b, row, head, s):
    """Compute one row's output for the query heads of one kv head."""
    with T.sblock("attend"):
        T.reads()
        T.writes()
        query = T.sblock_alloc_buffer((s.group, s.head_dim), "float32", scope="local")
        score = T.sblock_alloc_buffer((s.group, CHAINS, LANES), "float32", scope="local")
        peak = T.sblock_alloc_buffer((s.group,), "float32", scope="local")
        total = T.sblock_alloc_buffer((s.group, LANES), "float32", scope="local")
        acc = T.sblock_alloc_buffer((s.group, s.head_dim), "float32", scope="local")
        all_peak = T.sblock_alloc_buffer((s.group,), "float32", scope="local")
        all_total = T.sblock_alloc_buffer((s.group, LANES), "float32", scope="local")
        all_acc = T.sblock_alloc_buffer((s.group, s.head_dim), "float32", scope="local")
        begin = T.meta_var(b.offsets[b.requests[row]])
        end = T.meta_var(b.offsets[b.requests[row] + 1])
        clear(all_peak, all_total, all_acc, s)
        for split in T.serial((end - begin + SPLIT_PAGES - 1) // SPLIT_PAGES):
            if b.starts[begin + split * SPLIT_PAGES] <= b.positions[row]:
                clear(peak, total, acc, s)
                for o in T.serial(T.min(SPLIT_PAGES, end - begin - split * SPLIT_PAGES)):
                    j = T.meta_var(begin + split * SPLIT_PAGES + o)
                    if b.starts[j] <= b.positions[row]:
                        if o == 0 or b.frames[j] != b.frames[T.max(j - 1, 0)]:
                            rotate_query(
                                b.qkv,
                                b.cos,
                                b.sin,
                                query,
                                row,
                                head,
                                b.positions[row] - b.frames[j],
                                s,
                            )
                        attend_page(
                            b,
                            query,
                            score,
                            SimpleNamespace(peak=peak, total=total, acc=acc),
                            row,
                            head,
                            j,
                            s,
                        )
                merge_split(peak, total, acc, all_peak, all_total, all_acc, s)
        write_heads(b.out, row, head, all_total, all_acc, s)


def attention(
    name: str,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    page_tokens: int,
    num_cores: int,
) -> Any:
    """Return the function of `attention_prefill` and `attention_decode`: both are this one.

    Rows and kv heads are dealt to the cores like cards, so that the later, longer rows of a prompt
    spread evenly.
    """
    s = HeadSizes(num_heads, num_kv_heads, head_dim, page_tokens)

    @T.prim_func(s_tir=True)
    def main(
        qkv_: T.handle,
        positions_: T.handle,
        requests_: T.handle,
        offsets_: T.handle,
        pages_: T.handle,
        frames_: T.handle,
        starts_: T.handle,
        lengths_: T.handle,
        cos_: T.handle,
        sin_: T.handle,
        keys_: T.handle,
        values_: T.handle,
        out_: T.handle,
        first: T.int32,
        n: T.int32,
    ):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(13)])
        qkv = T.match_buffer(qkv_, (sizes[0], s.qkv_width), "float32")
        positions = T.match_buffer(positions_, (sizes[1],), "int32")
        requests = T.match_buffer(requests_, (sizes[2],), "int32")
        offsets = T.match_buffer(offsets_, (sizes[3],), "int32")
        pages = T.match_buffer(pages_, (sizes[4],), "int32")
        frames = T.match_buffer(frames_, (sizes[5],), "int32")
        starts = T.match_buffer(starts_, (sizes[6],), "int32")
        lengths = T.match_buffer(lengths_, (sizes[7],), "int32")
        cos = T.match_buffer(cos_, (sizes[8], s.half), "float32")
        sin = T.match_buffer(sin_, (sizes[9], s.half), "float32")
        keys = T.match_buffer(keys_, (sizes[10], num_kv_heads, head_dim, page_tokens), "float32")
        values = T.match_buffer(
            values_, (sizes[11], num_kv_heads, page_tokens, head_dim), "float32"
        )
        out = T.match_buffer(out_, (sizes[12], num_heads * head_dim), "float32")
        b = T.meta_var(
            SimpleNamespace(
                qkv=qkv,
                positions=positions,
                requests=requests,
                offsets=offsets,
                pages=pages,
                frames=frames,
                starts=starts,
                lengths=lengths,
                cos=cos,
                sin=sin,
                keys=keys,
                values=values,
                out=out,
            )
        )
        items = T.meta_var(n * num_kv_heads)
        longest = T.meta_var(
            offsets[requests[first + n - 1] + 1] - offsets[requests[first + n - 1]]
        )
        if n > 0:
            if items * longest < SERIAL_PAGES:
                for item in T.serial(items):
                    attend(b, first + item // num_kv_heads, item % num_kv_heads, s)
            else:
                for core in T.parallel(num_cores):
                    for turn in T.serial((items - core + num_cores - 1) // num_cores):
                        item = T.meta_var(turn * num_cores + core)
                        attend(b, first + item // num_kv_heads, item % num_kv_heads, s)

    return main
