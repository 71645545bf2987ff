# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownArgumentType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Appends tokens to KV pages in the banks of a PIM stack: keys rotated, both rounded to FP16.

The columns of a token come over the external bus, a WR for each, as a processor writes memory.

Buffers of banks are indexed [row, channel, column, pseudo channel, bank group, bank, lane]. It
knows slots of pages, and nothing of requests.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.pim_record import command
from tokenloom.backends.kernels.pim_shape import LANES, PAGE_TOKENS, PimShape
from tokenloom.backends.pim.streams.commands import Op


@T.macro
def rotate(out, g, x, row, start, cos, sin, position, half, scale):
    """Write to `out[g]` the head at `x[row, start]`, rotated, times `scale`, rounded to FP16."""
    for i in T.serial(half):
        low = T.meta_var(x[row, start + i])
        high = T.meta_var(x[row, start + half + i])
        c = T.meta_var(cos[position, i])
        s = T.meta_var(sin[position, i])
        out[g, i] = T.Cast("float16", (low * c - high * s) * T.float32(scale))
        out[g, half + i] = T.Cast("float16", (high * c + low * s) * T.float32(scale))


@T.macro
def write_columns(tile, token, first_row, address, shape):
    """Say which columns a token's keys or values are written to, from the pool's `first_row` on."""
    slot = T.meta_var(token % shape.slots)
    for chunk in T.serial(shape.chunks):
        T.evaluate(
            command(
                Op.WR,
                channel=tile[1],
                pseudo_channel=slot // shape.pim_groups,
                sid=slot % shape.pim_groups // shape.bank_groups,
                bank_group=slot % shape.bank_groups,
                bank=chunk % shape.banks,
                row=first_row + tile[0],
                column=tile[2] + token // shape.slots * shape.chunk_passes + chunk // shape.banks,
                address=address + chunk * LANES,
                size=LANES,
                size_bytes=2 * LANES,
            )
        )


def append(name: str, shape: PimShape) -> Any:
    """Return the function that appends tokens, to be split by `pim_record`.

    It takes (qkv, frame_positions, slots, cos, sin, keys, values, stripe, first_key, first_value,
    n). `stripe` is the number of pages that stay in a channel, `first_key` and `first_value` are
    the rows of the banks where the pools begin. Slots below 0 are skipped.
    """
    dim, half = shape.head_dim, shape.head_dim // 2
    key_start = shape.num_heads * dim
    value_start = key_start + shape.num_kv_heads * dim

    @T.prim_func(s_tir=True)
    def main(
        qkv_: T.handle,
        positions_: T.handle,
        slots_: T.handle,
        cos_: T.handle,
        sin_: T.handle,
        keys_: T.handle,
        values_: T.handle,
        stripe: T.int32,
        first_key: T.int32,
        first_value: T.int32,
        n: T.int32,
    ):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_qkv = T.int32()
        num_positions = T.int32()
        num_slots = T.int32()
        num_cos = T.int32()
        num_sin = T.int32()
        key_rows = T.int64()
        value_rows = T.int64()
        qkv = T.match_buffer(qkv_, (num_qkv, shape.width), "float32")
        positions = T.match_buffer(positions_, (num_positions,), "int32")
        slots = T.match_buffer(slots_, (num_slots,), "int32")
        cos = T.match_buffer(cos_, (num_cos, half), "float32")
        sin = T.match_buffer(sin_, (num_sin, half), "float32")
        keys = T.match_buffer(keys_, shape.bank_shape(key_rows), "float16")
        values = T.match_buffer(values_, shape.bank_shape(value_rows), "float16")
        for i, head in T.grid(n, shape.num_kv_heads):
            if slots[i] >= 0:
                with T.sblock("token"):
                    key = T.sblock_alloc_buffer((1, dim), "float16", scope="local")
                    start = T.meta_var(key_start + head * dim)
                    rotate(key, 0, qkv, i, start, cos, sin, positions[i], half, 1.0)
                    page = T.meta_var(slots[i] // PAGE_TOKENS)
                    token = T.meta_var(slots[i] % PAGE_TOKENS)
                    tile = T.meta_var(shape.tile(page, head, stripe))
                    address = T.meta_var((i * shape.num_kv_heads + head) * 2 * shape.padded)
                    write_columns(tile, token, first_key, address, shape)
                    write_columns(tile, token, first_value, address + shape.padded, shape)
                    for d in T.serial(dim):
                        place = T.meta_var(shape.index(tile, token, d // LANES, d % LANES))
                        keys[place] = key[0, d]
                        values[place] = T.Cast("float16", qkv[i, value_start + head * dim + d])

    return main
