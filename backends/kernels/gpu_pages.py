# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownVariableType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Storing KV in pages and attention over them for GPUs; what it computes is as in `attention`.

A block takes one row and one kv head and goes through the row's pages in order; its threads share
the scores of a page, then the sums over its tokens. A row's result depends on its query and table
only. `bind` is that of `gpu_rows`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.gpu_blocks import THREADS
from tokenloom.backends.kernels.gpu_rows import Bind
from tokenloom.backends.kernels.pages import HeadSizes

NEGATIVE = -(2.0**127)
"""Stands for minus infinity where a difference of two of them must not be NaN."""


def kv_append(
    name: str, num_heads: int, num_kv_heads: int, head_dim: int, page_tokens: int, bind: Bind
) -> Any:
    """Return the function that writes rows of keys, rotated, and values into their slots."""
    s = HeadSizes(num_heads, num_kv_heads, head_dim, page_tokens)

    @T.macro
    def element(b, i, h, d):
        page = T.meta_var(b.slots[i] // page_tokens)
        token = T.meta_var(b.slots[i] % page_tokens)
        k = T.meta_var((num_heads + h) * head_dim)
        v = T.meta_var((num_heads + num_kv_heads + h) * head_dim)
        c = T.meta_var(b.cos[b.positions[i], d])
        z = T.meta_var(b.sin[b.positions[i], d])
        low = T.meta_var(b.qkv[i, k + d])
        high = T.meta_var(b.qkv[i, k + s.half + d])
        if b.slots[i] >= 0:
            b.keys[page, h, d, token] = low * c - high * z
            b.keys[page, h, s.half + d, token] = high * c + low * z
            b.values[page, h, token, d] = b.qkv[i, v + d]
            b.values[page, h, token, s.half + d] = b.qkv[i, v + s.half + d]

    @T.prim_func(s_tir=True)
    def main(
        qkv_: T.handle,
        positions_: T.handle,
        slots_: T.handle,
        cos_: T.handle,
        sin_: T.handle,
        keys_: T.handle,
        values_: T.handle,
        n: T.int32,
    ):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(7)])
        qkv = T.match_buffer(qkv_, (sizes[0], s.qkv_width), "float32")
        frame_positions = T.match_buffer(positions_, (sizes[1],), "int32")
        slots = T.match_buffer(slots_, (sizes[2],), "int32")
        cos = T.match_buffer(cos_, (sizes[3], s.half), "float32")
        sin = T.match_buffer(sin_, (sizes[4], s.half), "float32")
        keys = T.match_buffer(keys_, (sizes[5], num_kv_heads, head_dim, page_tokens), "float32")
        values = T.match_buffer(values_, (sizes[6], num_kv_heads, page_tokens, head_dim), "float32")
        b = T.meta_var(
            SimpleNamespace(
                qkv=qkv,
                positions=frame_positions,
                slots=slots,
                cos=cos,
                sin=sin,
                keys=keys,
                values=values,
            )
        )
        for i in bind(n, "blockIdx.x"):
            for t in bind(THREADS, "threadIdx.x"):
                for c in T.serial((num_kv_heads * s.half - t + THREADS - 1) // THREADS):
                    index = T.meta_var(c * THREADS + t)
                    element(b, i, index // s.half, index % s.half)

    return main


@T.macro
def score_page(b, m, row, head, j, s, bind):
    """Rotate the queries for the page's frame, then score its tokens, unseen ones NEGATIVE."""
    for t in bind(THREADS, "threadIdx.x"):
        for c in T.serial((s.group * s.half - t + THREADS - 1) // THREADS):
            g = T.meta_var((c * THREADS + t) // s.half)
            d = T.meta_var((c * THREADS + t) % s.half)
            distance = T.meta_var(T.max(b.positions[row] - b.frames[j], 0))
            start = T.meta_var((head * s.group + g) * s.head_dim + d)
            low = T.meta_var(b.qkv[row, start])
            high = T.meta_var(b.qkv[row, start + s.half])
            m.query[g, d] = low * b.cos[distance, d] - high * b.sin[distance, d]
            m.query[g, s.half + d] = high * b.cos[distance, d] + low * b.sin[distance, d]
    for t in bind(THREADS, "threadIdx.x"):
        for c in T.serial((s.group * s.page_tokens - t + THREADS - 1) // THREADS):
            with T.sblock("score"):
                T.reads()
                T.writes()
                total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                g = T.meta_var((c * THREADS + t) // s.page_tokens)
                token = T.meta_var((c * THREADS + t) % s.page_tokens)
                total[0] = T.float32(0)
                for d in T.serial(s.head_dim):
                    total[0] = total[0] + m.query[g, d] * b.keys[b.pages[j], head, d, token]
                seen = T.meta_var(
                    T.And(token < b.lengths[j], b.starts[j] + token <= b.positions[row])
                )
                m.score[g, token] = T.Select(
                    seen, total[0] * T.float32(s.scale), T.float32(NEGATIVE)
                )


@T.macro
def take_page(b, m, head, j, t, s, bind):
    """Take the scored page into the online softmax of each output this thread keeps."""
    for c in T.unroll(s.slots):
        if c * THREADS + t < s.group * s.head_dim:
            with T.sblock("soften"):
                T.reads()
                T.writes()
                weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
                top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                own = T.meta_var(bind.own(t))
                g = T.meta_var((c * THREADS + t) // s.head_dim)
                d = T.meta_var((c * THREADS + t) % s.head_dim)
                top[0] = m.peak[own, c]
                for token in T.serial(s.page_tokens):
                    top[0] = T.max(top[0], m.score[g, token])
                weight[0] = T.exp(m.peak[own, c] - top[0])
                m.peak[own, c] = top[0]
                m.total[own, c] = m.total[own, c] * weight[0]
                m.acc[own, c] = m.acc[own, c] * weight[0]
                for token in T.serial(s.page_tokens):
                    weight[0] = T.Select(
                        m.score[g, token] > T.float32(NEGATIVE),
                        T.exp(m.score[g, token] - top[0]),
                        T.float32(0),
                    )
                    m.total[own, c] = m.total[own, c] + weight[0]
                    m.acc[own, c] = m.acc[own, c] + weight[0] * b.values[b.pages[j], head, token, d]


@T.macro
def attend(b, row, head, s, bind):
    """Compute one row's output for the query heads of one kv head."""
    with T.sblock("attend"):
        T.reads()
        T.writes()
        query = T.sblock_alloc_buffer((s.group, s.head_dim), "float32", scope="shared")
        score = T.sblock_alloc_buffer((s.group, s.page_tokens), "float32", scope="shared")
        peak = T.sblock_alloc_buffer((bind.own_rows, s.slots), "float32", scope="local")
        total = T.sblock_alloc_buffer((bind.own_rows, s.slots), "float32", scope="local")
        acc = T.sblock_alloc_buffer((bind.own_rows, s.slots), "float32", scope="local")
        m = T.meta_var(SimpleNamespace(query=query, score=score, peak=peak, total=total, acc=acc))
        begin = T.meta_var(b.offsets[b.requests[row]])
        end = T.meta_var(b.offsets[b.requests[row] + 1])
        for t in bind(THREADS, "threadIdx.x"):
            for c in T.unroll(s.slots):
                peak[bind.own(t), c] = T.float32(NEGATIVE)
                total[bind.own(t), c] = T.float32(0)
                acc[bind.own(t), c] = T.float32(0)
        for o in T.serial(end - begin):
            # Pages past the row's position are masked, not left: all threads of a block must meet
            # where they wait for each other.
            score_page(b, m, row, head, begin + o, s, bind)
            for t in bind(THREADS, "threadIdx.x"):
                take_page(b, m, head, begin + o, t, s, bind)
        for t in bind(THREADS, "threadIdx.x"):
            for c in T.unroll(s.slots):
                if c * THREADS + t < s.group * s.head_dim:
                    own = T.meta_var(bind.own(t))
                    b.out[row, head * s.group * s.head_dim + c * THREADS + t] = T.if_then_else(
                        total[own, c] > T.float32(0),
                        acc[own, c] / total[own, c],
                        T.float32(0),
                    )


class GpuHeadSizes(HeadSizes):
    """The sizes of attention; `slots` is how many outputs a thread keeps in registers."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int, page_tokens: int):
        super().__init__(num_heads, num_kv_heads, head_dim, page_tokens)
        self.slots = -(-self.group * head_dim // THREADS)


def attention(
    name: str, num_heads: int, num_kv_heads: int, head_dim: int, page_tokens: int, bind: Bind
) -> Any:
    """Return the function of `attention_prefill` and `attention_decode`: both are this one."""
    s = GpuHeadSizes(num_heads, num_kv_heads, head_dim, page_tokens)

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
        row_requests = T.match_buffer(requests_, (sizes[2],), "int32")
        table_offsets = T.match_buffer(offsets_, (sizes[3],), "int32")
        pages = T.match_buffer(pages_, (sizes[4],), "int32")
        frame_starts = T.match_buffer(frames_, (sizes[5],), "int32")
        page_positions = T.match_buffer(starts_, (sizes[6],), "int32")
        page_lengths = T.match_buffer(lengths_, (sizes[7],), "int32")
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
                requests=row_requests,
                offsets=table_offsets,
                pages=pages,
                frames=frame_starts,
                starts=page_positions,
                lengths=page_lengths,
                cos=cos,
                sin=sin,
                keys=keys,
                values=values,
                out=out,
            )
        )
        for i in bind(n, "blockIdx.x"):
            for head in bind(num_kv_heads, "blockIdx.y"):
                attend(b, first + i, head, s, bind)

    return main
