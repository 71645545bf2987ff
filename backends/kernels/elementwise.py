# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Operations without a sum on the CPU: embed, take_rows, add, silu_mul.

They know rows of floats, and neither layers nor requests.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.vector import LANES, constant, exp, lanes

SERIAL_ELEMENTS = 65_536
"""Fewer elements than this are done before another thread has woken up."""


def take_rows(name: str, width: int) -> Any:
    """Return the function (x, rows, out, n): out[i] = x[rows[i]]."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, rows_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_rows = T.int32()
        num_out = T.int32()
        x = T.match_buffer(x_, (num_x, width), "float32")
        rows = T.match_buffer(rows_, (num_rows,), "int32")
        out = T.match_buffer(out_, (num_out, width), "float32")
        for i in T.serial(n):
            for v in T.serial(width // LANES):
                out[i, lanes(v * LANES)] = x[rows[i], lanes(v * LANES)]

    return main


def embed(name: str, vocab: int, width: int) -> Any:
    """Return the function (tokens, weight, out, n): out[i] = weight[tokens[i]]."""

    @T.prim_func(s_tir=True)
    def main(tokens_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_tokens = T.int32()
        num_out = T.int32()
        tokens = T.match_buffer(tokens_, (num_tokens,), "int32")
        weight = T.match_buffer(weight_, (vocab, width), "float32")
        out = T.match_buffer(out_, (num_out, width), "float32")
        for i in T.serial(n):
            for v in T.serial(width // LANES):
                out[i, lanes(v * LANES)] = weight[tokens[i], lanes(v * LANES)]

    return main


def add(name: str, width: int) -> Any:
    """Return the function (x, y, n): x[i] += y[i]."""

    @T.macro
    def row(x, y, i):
        for v in T.serial(width // LANES):
            x[i, lanes(v * LANES)] = x[i, lanes(v * LANES)] + y[i, lanes(v * LANES)]

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, y_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_y = T.int32()
        x = T.match_buffer(x_, (num_x, width), "float32")
        y = T.match_buffer(y_, (num_y, width), "float32")
        if n * width < SERIAL_ELEMENTS:
            for i in T.serial(n):
                row(x, y, i)
        else:
            for i in T.parallel(n):
                row(x, y, i)

    return main


def silu_mul(name: str, ffn: int) -> Any:
    """Return the function (gate_up, out, n): out = gate / (1 + exp(-gate)) * up."""

    @T.macro
    def row(gate_up, out, i):
        for v in T.serial(ffn // LANES):
            gate = T.meta_var(gate_up[i, lanes(v * LANES)])
            up = T.meta_var(gate_up[i, lanes(ffn + v * LANES)])
            below = T.meta_var(constant(1.0) + exp(T.min(constant(0.0) - gate, constant(88.0))))
            out[i, lanes(v * LANES)] = gate / below * up

    @T.prim_func(s_tir=True)
    def main(gate_up_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_in = T.int32()
        num_out = T.int32()
        gate_up = T.match_buffer(gate_up_, (num_in, 2 * ffn), "float32")
        out = T.match_buffer(out_, (num_out, ffn), "float32")
        if n * ffn < SERIAL_ELEMENTS // 8:
            for i in T.serial(n):
                row(gate_up, out, i)
        else:
            for i in T.parallel(n):
                row(gate_up, out, i)

    return main
