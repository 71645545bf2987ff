# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Storing rows of keys and values in pages on the CPU, in float32.

A page holds keys as [kv head, dim, token] and values as [kv head, token, dim]. Keys are stored
rotated by their position within the run they are appended to (the frame). It knows nothing of who
owns a page.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.vector import LANES, fma_scalar, lanes

SERIAL_ELEMENTS = 16_384
"""Fewer elements than this are done before another thread has woken up."""


class HeadSizes:
    """The sizes of one kernel; `group` is the number of query heads of a kv head."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int, page_tokens: int):
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim, self.half, self.vectors = head_dim, head_dim // 2, head_dim // LANES
        self.page_tokens, self.parts = page_tokens, page_tokens // LANES
        self.group = num_heads // num_kv_heads
        self.qkv_width = (num_heads + 2 * num_kv_heads) * head_dim
        self.scale = head_dim**-0.5


@T.macro
def append_row(qkv, positions, slots, cos, sin, keys, values, i, s):
    """Store one row's keys, rotated, and values in the slot it was given."""
    if slots[i] >= 0:
        for h in T.serial(s.num_kv_heads):
            page = T.meta_var(slots[i] // s.page_tokens)
            token = T.meta_var(slots[i] % s.page_tokens)
            k = T.meta_var((s.num_heads + h) * s.head_dim)
            v = T.meta_var((s.num_heads + s.num_kv_heads + h) * s.head_dim)
            for d in T.serial(s.half):
                c = T.meta_var(cos[positions[i], d])
                z = T.meta_var(sin[positions[i], d])
                low = T.meta_var(qkv[i, k + d])
                high = T.meta_var(qkv[i, k + s.half + d])
                keys[page, h, d, token] = fma_scalar(low, c, T.float32(0.0) - high * z)
                keys[page, h, s.half + d, token] = fma_scalar(high, c, low * z)
            for d in T.serial(s.vectors):
                values[page, h, token, lanes(d * LANES)] = qkv[i, lanes(v + d * LANES)]


def kv_append(name: str, num_heads: int, num_kv_heads: int, head_dim: int, page_tokens: int) -> Any:
    """Return the function that writes rows of keys and values into their slots."""
    s = HeadSizes(num_heads, num_kv_heads, head_dim, page_tokens)

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
        num_qkv = T.int32()
        num_positions = T.int32()
        num_slots = T.int32()
        num_cos = T.int32()
        num_sin = T.int32()
        num_keys = T.int32()
        num_values = T.int32()
        qkv = T.match_buffer(qkv_, (num_qkv, s.qkv_width), "float32")
        positions = T.match_buffer(positions_, (num_positions,), "int32")
        slots = T.match_buffer(slots_, (num_slots,), "int32")
        cos = T.match_buffer(cos_, (num_cos, s.half), "float32")
        sin = T.match_buffer(sin_, (num_sin, s.half), "float32")
        keys = T.match_buffer(keys_, (num_keys, num_kv_heads, head_dim, page_tokens), "float32")
        values = T.match_buffer(
            values_, (num_values, num_kv_heads, page_tokens, head_dim), "float32"
        )
        if n * num_kv_heads * head_dim < SERIAL_ELEMENTS:
            for i in T.serial(n):
                append_row(qkv, positions, slots, cos, sin, keys, values, i, s)
        else:
            for i in T.parallel(n):
                append_row(qkv, positions, slots, cos, sin, keys, values, i, s)

    return main
