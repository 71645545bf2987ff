# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Root-mean-square norms on the CPU: of rows, and of the heads of packed query, key, value rows.

Sums go by lane first and then from the first lane to the last, so they do not depend on the rows
around. It knows neither layers nor requests.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.vector import LANES, constant, fma, lanes, spread

SERIAL_ELEMENTS = 32_768
"""Fewer elements than this are done before another thread has woken up."""


@T.macro
def normalize(x, weight, out, row, x_start, start, width, eps):
    """Write out[row, start:] = x[row, x_start:] / rms * weight over `width` elements."""
    with T.sblock("normalize"):
        T.reads()
        T.writes()
        squares = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
        scale = T.sblock_alloc_buffer((1,), "float32", scope="local")
        squares[lanes(0)] = constant(0.0)
        for v in T.serial(width // LANES):
            squares[lanes(0)] = fma(
                x[row, lanes(x_start + v * LANES)],
                x[row, lanes(x_start + v * LANES)],
                squares[lanes(0)],
            )
        scale[0] = squares[0]
        for lane in T.unroll(LANES - 1):
            scale[0] = scale[0] + squares[lane + 1]
        scale[0] = T.float32(1.0) / T.sqrt(scale[0] / T.float32(width) + T.float32(eps))
        for v in T.serial(width // LANES):
            out[row, lanes(start + v * LANES)] = (
                x[row, lanes(x_start + v * LANES)] * spread(scale[0]) * weight[lanes(v * LANES)]
            )


def rms_norm(name: str, hidden: int, eps: float) -> Any:
    """Return the function (x, weight, out, n): out = x / sqrt(mean(x^2) + eps) * weight."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_out = T.int32()
        x = T.match_buffer(x_, (num_x, hidden), "float32")
        weight = T.match_buffer(weight_, (hidden,), "float32")
        out = T.match_buffer(out_, (num_out, hidden), "float32")
        if n * hidden < SERIAL_ELEMENTS:
            for i in T.serial(n):
                normalize(x, weight, out, i, 0, 0, hidden, eps)
        else:
            for i in T.parallel(n):
                normalize(x, weight, out, i, 0, 0, hidden, eps)

    return main


def head_norm(name: str, num_heads: int, num_kv_heads: int, head_dim: int, eps: float) -> Any:
    """Return the function (qkv, q_norm, k_norm, n): every query and key head normed in place."""
    width = (num_heads + 2 * num_kv_heads) * head_dim

    @T.macro
    def row(qkv, q_norm, k_norm, i):
        for head in T.serial(num_heads):
            normalize(qkv, q_norm, qkv, i, head * head_dim, head * head_dim, head_dim, eps)
        for head in T.serial(num_kv_heads):
            start = T.meta_var((num_heads + head) * head_dim)
            normalize(qkv, k_norm, qkv, i, start, start, head_dim, eps)

    @T.prim_func(s_tir=True)
    def main(qkv_: T.handle, q_norm_: T.handle, k_norm_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_rows = T.int32()
        qkv = T.match_buffer(qkv_, (num_rows, width), "float32")
        q_norm = T.match_buffer(q_norm_, (head_dim,), "float32")
        k_norm = T.match_buffer(k_norm_, (head_dim,), "float32")
        if n * width < SERIAL_ELEMENTS:
            for i in T.serial(n):
                row(qkv, q_norm, k_norm, i)
        else:
            for i in T.parallel(n):
                row(qkv, q_norm, k_norm, i)

    return main
