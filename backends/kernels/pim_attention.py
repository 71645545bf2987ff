# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""What a PIM stack computes on KV pages in its banks: append and attention, for the CPU.

Banks hold and compute FP16: a multiply-accumulate rounds after the multiply and after the add.
The base die computes float32: rotation, softmax, sums over banks and slots. Buffers of banks are
indexed [row, channel, column, pseudo channel, bank group, bank x lane]; where a page lies there is
the layout of `backends/pim/layout.py`. It knows nothing of requests beyond their page tables.

Order of rounding and adding, for one row and one KV head:

- score of a token: in each bank each lane adds its products over the bank's columns; the 16 lanes
  are added as a tree (l with l+8, l+4, l+2, l+1), all FP16; the base die adds the banks in order;
- softmax: over segments of SEGMENT_PAGES entries of the page table, probabilities relative to the
  segment's largest score and rounded to FP16; segments are merged online, in order;
- context: each lane of each bank adds over the segment's pages; the base die adds slots in order.

The order follows the page table only, so that neither the batch nor the pages' places change bits.
Where a segment's pages lie in several channels, its partial sums go on from one to the next.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_append import rotate
from tokenloom.backends.kernels.pim_shape import PAGE_TOKENS, PimShape
from tokenloom.backends.kernels.vector import (
    LANES,
    NEGATIVE,
    constant,
    exp,
    fma,
    lane_max,
    lanes,
    spread,
)

SEGMENT_PAGES = 16
SEGMENT_TOKENS = SEGMENT_PAGES * PAGE_TOKENS


def _exchanged(step: int) -> tuple[list[int], list[int]]:
    """Return what two vectors become, `step` rows apart, in a transposition of a square."""
    upper = [lane if not lane & step else LANES + lane - step for lane in range(LANES)]
    lower = [lane + step if not lane & step else LANES + lane for lane in range(LANES)]
    return upper, lower


@T.macro
def exchange(square, start, step):
    """One of the four steps, 8, 4, 2 and 1, that transpose 16 x 16 numbers from row `start`."""
    for pair in T.unroll(LANES // 2):
        with T.sblock("exchange"):
            upper = T.sblock_alloc_buffer((LANES,), "float16", scope="local")
            row = T.meta_var(start + pair // step * (2 * step) + pair % step)
            both = T.meta_var([square[row, lanes(0)], square[row + step, lanes(0)]])
            upper[lanes(0)] = T.Shuffle(both, _exchanged(step)[0])
            square[row + step, lanes(0)] = T.Shuffle(both, _exchanged(step)[1])
            square[row, lanes(0)] = upper[lanes(0)]


@T.macro
def fold(tree, width):
    """Add the lanes from `width` on to the first ones: one level of the adder tree."""
    for lane in T.unroll(width):
        tree[lane, lanes(0)] = tree[lane, lanes(0)] + tree[width + lane, lanes(0)]


@T.macro
def score_page(scores, query, keys, tile, entry, visible, shape):
    """Write the scores of one page for all query heads of its KV head; hidden tokens are NEGATIVE.

    The page is turned around once, so that a vector holds one dimension of all its tokens.
    """
    with T.sblock("score"):
        turned = T.sblock_alloc_buffer((shape.padded, LANES), "float16", scope="local")
        tree = T.sblock_alloc_buffer((LANES, LANES), "float16", scope="local")
        total = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        for chunk in T.serial(shape.chunks):
            for token in T.unroll(PAGE_TOKENS):
                place = T.meta_var(shape.index(tile, token, chunk, lanes(0)))
                turned[chunk * LANES + token, lanes(0)] = keys[place]
            exchange(turned, chunk * LANES, 8)
            exchange(turned, chunk * LANES, 4)
            exchange(turned, chunk * LANES, 2)
            exchange(turned, chunk * LANES, 1)
        for g in T.serial(shape.heads_per_kv):
            total[lanes(0)] = constant(0.0)
            for bank in T.unroll(min(shape.banks, shape.chunks)):
                for lane in T.unroll(LANES):
                    tree[lane, lanes(0)] = turned[bank * LANES + lane, lanes(0)] * spread(
                        query[g, bank * LANES + lane]
                    )
                    for step in T.serial(1, (shape.chunks - bank + shape.banks - 1) // shape.banks):
                        d = T.meta_var((bank + step * shape.banks) * LANES + lane)
                        tree[lane, lanes(0)] = tree[lane, lanes(0)] + turned[d, lanes(0)] * spread(
                            query[g, d]
                        )
                fold(tree, 8)
                fold(tree, 4)
                fold(tree, 2)
                fold(tree, 1)
                total[lanes(0)] = total[lanes(0)] + T.Cast("float32x16", tree[0, lanes(0)])
            scores[g, lanes(entry * PAGE_TOKENS)] = T.Select(
                T.ramp(T.int32(0), 1, LANES) < T.broadcast(visible, LANES),
                total[lanes(0)],
                constant(NEGATIVE),
            )


@T.macro
def softmax_segment(scores, weights, largest, total, g):
    """Write the segment's FP16 weights, relative to its largest score, and their float32 sum."""
    with T.sblock("softmax"):
        sums = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        sums[lanes(0)] = scores[g, lanes(0)]
        for entry in T.serial(1, SEGMENT_PAGES):
            sums[lanes(0)] = T.max(sums[lanes(0)], scores[g, lanes(entry * PAGE_TOKENS)])
        largest[g] = lane_max(sums[lanes(0)])
        sums[lanes(0)] = constant(0.0)
        for entry in T.serial(SEGMENT_PAGES):
            at = T.meta_var(lanes(entry * PAGE_TOKENS))
            weights[g, at] = T.Cast("float16x16", exp(scores[g, at] - spread(largest[g])))
            sums[lanes(0)] = sums[lanes(0)] + T.Cast("float32x16", weights[g, at])
        total[g] = T.float32(0)
        for lane in T.serial(LANES):
            total[g] = total[g] + sums[lane]


@T.macro
def context_page(partial, weights, values, tile, entry, shape):
    """Add one page's weighted values in the lanes of the banks, for all query heads."""
    for token, chunk, g in T.grid(PAGE_TOKENS, shape.chunks, shape.heads_per_kv):
        at = T.meta_var(lanes(chunk * LANES))
        slot = T.meta_var(token % shape.slots)
        product = T.meta_var(
            values[shape.index(tile, token, chunk, lanes(0))]
            * spread(weights[g, entry * PAGE_TOKENS + token])
        )
        partial[g, slot, at] = partial[g, slot, at] + product


@T.macro
def merge_segment(result, state, partial, largest, total, g, shape):
    """Merge a segment into the running result; `state[g]` is its largest score and its sum."""
    with T.sblock("merge"):
        old = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        new = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        sums = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        both = T.meta_var(T.max(state[g, 0], largest[g]))
        old[lanes(0)] = exp(spread(state[g, 0] - both))
        new[lanes(0)] = exp(spread(largest[g] - both))
        for chunk in T.serial(shape.chunks):
            at = T.meta_var(lanes(chunk * LANES))
            sums[lanes(0)] = constant(0.0)
            for slot in T.serial(shape.slots):
                sums[lanes(0)] = sums[lanes(0)] + T.Cast("float32x16", partial[g, slot, at])
            result[g, at] = fma(sums[lanes(0)], new[lanes(0)], result[g, at] * old[lanes(0)])
        sums[lanes(0)] = fma(spread(total[g]), new[lanes(0)], spread(state[g, 1]) * old[lanes(0)])
        state[g, 1] = sums[0]
        state[g, 0] = both


@T.macro
def clear_segment(b, shape):
    """Forget the scores and the partial sums of the segment before."""
    for g in T.serial(shape.heads_per_kv):
        for entry in T.serial(SEGMENT_PAGES):
            b.scores[g, lanes(entry * PAGE_TOKENS)] = constant(NEGATIVE)
        for slot, chunk in T.grid(shape.slots, shape.chunks):
            b.partial[g, slot, lanes(chunk * LANES)] = T.broadcast(T.float16(0), LANES)


@T.macro
def rotate_queries(a, b, row, kv_head, frame_start, shape):
    """Write the queries of a KV head, rotated for pages whose frame starts at `frame_start`."""
    if b.frame[0] != frame_start:
        b.frame[0] = frame_start
        for g in T.serial(shape.heads_per_kv):
            start = T.meta_var((kv_head * shape.heads_per_kv + g) * shape.head_dim)
            position = T.meta_var(a.positions[row] - frame_start)
            half = T.meta_var(shape.head_dim // 2)
            scale = T.meta_var(shape.head_dim**-0.5)
            rotate(b.query, g, a.qkv, row, start, a.cos, a.sin, position, half, scale)


@T.macro
def attend_segment(a, b, row, kv_head, start, length, shape):
    """Score the segment's pages, weigh their values, and merge both into the result."""
    clear_segment(b, shape)
    for entry in T.serial(length):
        page = T.meta_var(start + entry)
        past = T.meta_var(a.positions[row] - a.page_positions[page] + 1)
        if past > 0:
            rotate_queries(a, b, row, kv_head, a.frame_starts[page], shape)
            visible = T.meta_var(T.min(past, a.page_lengths[page]))
            tile = T.meta_var(shape.tile(a.pages[page], kv_head, a.stripe))
            score_page(b.scores, b.query, a.keys, tile, entry, visible, shape)
    for g in T.serial(shape.heads_per_kv):
        softmax_segment(b.scores, b.weights, b.largest, b.total, g)
    for entry in T.serial(length):
        if a.page_positions[start + entry] <= a.positions[row]:
            tile = T.meta_var(shape.tile(a.pages[start + entry], kv_head, a.stripe))
            context_page(b.partial, b.weights, a.values, tile, entry, shape)
    for g in T.serial(shape.heads_per_kv):
        if b.largest[g] > T.float32(NEGATIVE):
            merge_segment(b.result, b.state, b.partial, b.largest, b.total, g, shape)


@T.macro
def attend(a, row, kv_head, shape):
    """Write to `out` the attention of one row for the query heads of one KV head.

    A row that sees no token gets zeros.
    """
    with T.sblock("attend"):
        group = T.meta_var(shape.heads_per_kv)
        query = T.sblock_alloc_buffer((group, shape.padded), "float16", scope="local")
        scores = T.sblock_alloc_buffer((group, SEGMENT_TOKENS), "float32", scope="local")
        weights = T.sblock_alloc_buffer((group, SEGMENT_TOKENS), "float16", scope="local")
        partial_shape = T.meta_var((group, shape.slots, shape.padded))
        partial = T.sblock_alloc_buffer(partial_shape, "float16", scope="local")
        result = T.sblock_alloc_buffer((group, shape.padded), "float32", scope="local")
        state = T.sblock_alloc_buffer((group, 2), "float32", scope="local")
        largest = T.sblock_alloc_buffer((group,), "float32", scope="local")
        total = T.sblock_alloc_buffer((group,), "float32", scope="local")
        frame = T.sblock_alloc_buffer((1,), "int32", scope="local")
        b = T.meta_var(
            SimpleNamespace(
                query=query,
                scores=scores,
                weights=weights,
                partial=partial,
                result=result,
                state=state,
                largest=largest,
                total=total,
                frame=frame,
            )
        )
        begin = T.meta_var(a.table_offsets[a.row_requests[row]])
        end = T.meta_var(a.table_offsets[a.row_requests[row] + 1])
        frame[0] = -1
        for g in T.serial(group):
            state[g, 0] = T.float32(NEGATIVE)
            state[g, 1] = T.float32(0)
            for chunk in T.serial(shape.chunks):
                result[g, lanes(chunk * LANES)] = constant(0.0)
                query[g, lanes(chunk * LANES)] = T.broadcast(T.float16(0), LANES)
        for segment in T.serial((end - begin + SEGMENT_PAGES - 1) // SEGMENT_PAGES):
            start = T.meta_var(begin + segment * SEGMENT_PAGES)
            if a.page_positions[start] <= a.positions[row]:
                length = T.meta_var(T.min(SEGMENT_PAGES, end - start))
                attend_segment(a, b, row, kv_head, start, length, shape)
        for g, d in T.grid(group, shape.head_dim):
            a.out[row, (kv_head * group + g) * shape.head_dim + d] = T.if_then_else(
                state[g, 1] > T.float32(0), result[g, d] / state[g, 1], T.float32(0)
            )


def attention(name: str, shape: PimShape) -> Any:
    """Return the function of the attention operations, with `stripe` before `first` and `n`."""
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
        stripe: T.int32,
        first: T.int32,
        n: T.int32,
    ):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(11)])
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
        keys = T.match_buffer(keys_, shape.bank_shape(key_rows), "float16")
        values = T.match_buffer(values_, shape.bank_shape(value_rows), "float16")
        out = T.match_buffer(out_, (sizes[10], width), "float32")
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
                stripe=stripe,
            )
        )
        for task in T.parallel(n * shape.num_kv_heads):
            attend(a, first + task // shape.num_kv_heads, task % shape.num_kv_heads, shape)

    return main
