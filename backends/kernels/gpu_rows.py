# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownVariableType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Operations on rows for GPUs: embed, take_rows, add, silu_mul, norms, linear.

Written over blocks and threads; `bind` makes them those of a GPU, or plain loops, by which the same
functions are tested where there is none. It knows neither devices nor models.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.gpu_blocks import THREADS, TILE_ROWS


class Bind:
    """How the loops over blocks and threads are bound: to a GPU's, or to none.

    Registers that live on between two such loops over threads are a buffer of `own_rows` rows, of
    which a thread uses row `own(t)`: on a GPU each thread has the buffer to itself.
    """

    def __init__(self, to_gpu: bool):
        self.to_gpu = to_gpu
        self.own_rows = 1 if to_gpu else THREADS

    def __call__(self, extent: Any, tag: str) -> Any:
        """Return a loop over `blockIdx.x`, `blockIdx.y` or `threadIdx.x`."""
        return T.thread_binding(extent, tag) if self.to_gpu else T.serial(extent)

    def own(self, thread: Any) -> Any:
        """Return the row of a thread's registers."""
        return 0 if self.to_gpu else thread


@T.macro
def pick(x, rows, out, n, width, bind):
    """Write out[i] = x[rows[i]]."""
    for i in bind(n, "blockIdx.x"):
        for t in bind(THREADS, "threadIdx.x"):
            for c in T.serial((width - t + THREADS - 1) // THREADS):
                out[i, c * THREADS + t] = x[rows[i], c * THREADS + t]


def take_rows(name: str, width: int, bind: Bind) -> Any:
    """Return (x, rows, out, n): out[i] = x[rows[i]]."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, rows_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(3)])
        x = T.match_buffer(x_, (sizes[0], width), "float32")
        rows = T.match_buffer(rows_, (sizes[1],), "int32")
        out = T.match_buffer(out_, (sizes[2], width), "float32")
        pick(x, rows, out, n, width, bind)

    return main


def embed(name: str, vocab: int, width: int, bind: Bind) -> Any:
    """Return (tokens, weight, out, n): out[i] = weight[tokens[i]]."""

    @T.prim_func(s_tir=True)
    def main(tokens_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        tokens = T.match_buffer(tokens_, (sizes[0],), "int32")
        weight = T.match_buffer(weight_, (vocab, width), "float32")
        out = T.match_buffer(out_, (sizes[1], width), "float32")
        pick(weight, tokens, out, n, width, bind)

    return main


def add(name: str, width: int, bind: Bind) -> Any:
    """Return (x, y, n): x[i] += y[i]."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, y_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        x = T.match_buffer(x_, (sizes[0], width), "float32")
        y = T.match_buffer(y_, (sizes[1], width), "float32")
        for i in bind(n, "blockIdx.x"):
            for t in bind(THREADS, "threadIdx.x"):
                for c in T.serial((width - t + THREADS - 1) // THREADS):
                    x[i, c * THREADS + t] = x[i, c * THREADS + t] + y[i, c * THREADS + t]

    return main


def silu_mul(name: str, ffn: int, bind: Bind) -> Any:
    """Return (gate_up, out, n): out = gate / (1 + exp(-gate)) * up."""

    @T.prim_func(s_tir=True)
    def main(gate_up_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        gate_up = T.match_buffer(gate_up_, (sizes[0], 2 * ffn), "float32")
        out = T.match_buffer(out_, (sizes[1], ffn), "float32")
        for i in bind(n, "blockIdx.x"):
            for t in bind(THREADS, "threadIdx.x"):
                for c in T.serial((ffn - t + THREADS - 1) // THREADS):
                    gate = T.meta_var(gate_up[i, c * THREADS + t])
                    up = T.meta_var(gate_up[i, ffn + c * THREADS + t])
                    out[i, c * THREADS + t] = gate / (T.float32(1) + T.exp(-gate)) * up

    return main


@T.macro
def normalize(x, weight, out, row, start, width, eps, bind):
    """Write out[row, start:] = x[row, start:] / rms * weight over `width` elements."""
    with T.sblock("normalize"):
        T.reads()
        T.writes()
        partial = T.sblock_alloc_buffer((THREADS,), "float32", scope="shared")
        for t in bind(THREADS, "threadIdx.x"):
            with T.sblock("squares"):
                T.reads()
                T.writes()
                sum_ = T.sblock_alloc_buffer((1,), "float32", scope="local")
                sum_[0] = T.float32(0)
                for c in T.serial((width - t + THREADS - 1) // THREADS):
                    value = T.meta_var(x[row, start + c * THREADS + t])
                    sum_[0] = sum_[0] + value * value
                partial[t] = sum_[0]
        for t in bind(THREADS, "threadIdx.x"):
            with T.sblock("scale"):
                T.reads()
                T.writes()
                total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                total[0] = T.float32(0)
                for lane in T.serial(THREADS):
                    total[0] = total[0] + partial[lane]
                total[0] = T.float32(1) / T.sqrt(total[0] / T.float32(width) + T.float32(eps))
                for c in T.serial((width - t + THREADS - 1) // THREADS):
                    out[row, start + c * THREADS + t] = (
                        x[row, start + c * THREADS + t] * total[0] * weight[c * THREADS + t]
                    )


def rms_norm(name: str, hidden: int, eps: float, bind: Bind) -> Any:
    """Return (x, weight, out, n): out = x / sqrt(mean(x^2) + eps) * weight."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        x = T.match_buffer(x_, (sizes[0], hidden), "float32")
        weight = T.match_buffer(weight_, (hidden,), "float32")
        out = T.match_buffer(out_, (sizes[1], hidden), "float32")
        for i in bind(n, "blockIdx.x"):
            normalize(x, weight, out, i, 0, hidden, eps, bind)

    return main


def head_norm(
    name: str, num_heads: int, num_kv_heads: int, head_dim: int, eps: float, bind: Bind
) -> Any:
    """Return (qkv, q_norm, k_norm, n): a block norms the heads of one row in place."""
    width = (num_heads + 2 * num_kv_heads) * head_dim

    @T.prim_func(s_tir=True)
    def main(qkv_: T.handle, q_norm_: T.handle, k_norm_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32()])
        qkv = T.match_buffer(qkv_, (sizes[0], width), "float32")
        q_norm = T.match_buffer(q_norm_, (head_dim,), "float32")
        k_norm = T.match_buffer(k_norm_, (head_dim,), "float32")
        for i in bind(n, "blockIdx.x"):
            for head in T.serial(num_heads):
                normalize(qkv, q_norm, qkv, i, head * head_dim, head_dim, eps, bind)
            for head in T.serial(num_kv_heads):
                normalize(qkv, k_norm, qkv, i, (num_heads + head) * head_dim, head_dim, eps, bind)

    return main


@T.macro
def linear_block(x, weight, bias, out, block, tile, n, inputs, outputs, bind):
    """Compute THREADS outputs of TILE_ROWS rows; each sum goes over the inputs in order."""
    for t in bind(THREADS, "threadIdx.x"):
        with T.sblock("outputs"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((TILE_ROWS,), "float32", scope="local")
            column = T.meta_var(block * THREADS + t)
            if column < outputs:
                for r in T.unroll(TILE_ROWS):
                    acc[r] = T.float32(0)
                for k in T.serial(inputs):
                    for r in T.unroll(TILE_ROWS):
                        row = T.meta_var(T.min(tile * TILE_ROWS + r, n - 1))
                        acc[r] = acc[r] + x[row, k] * weight[k, column]
                for r in T.unroll(TILE_ROWS):
                    if tile * TILE_ROWS + r < n:
                        if bias is None:
                            out[tile * TILE_ROWS + r, column] = acc[r]
                        else:
                            out[tile * TILE_ROWS + r, column] = acc[r] + bias[column]


def linear(name: str, inputs: int, outputs: int, bind: Bind) -> Any:
    """Return (x, weight [inputs, outputs], out, n)."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        x = T.match_buffer(x_, (sizes[0], inputs), "float32")
        weight = T.match_buffer(weight_, (inputs, outputs), "float32")
        out = T.match_buffer(out_, (sizes[1], outputs), "float32")
        for block in bind((outputs + THREADS - 1) // THREADS, "blockIdx.x"):
            for tile in bind((n + TILE_ROWS - 1) // TILE_ROWS, "blockIdx.y"):
                linear_block(x, weight, None, out, block, tile, n, inputs, outputs, bind)

    return main


def linear_bias(name: str, inputs: int, outputs: int, bind: Bind) -> Any:
    """Return (x, weight [inputs, outputs], bias, out, n)."""

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, bias_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        sizes = T.meta_var([T.int32() for _ in range(2)])
        x = T.match_buffer(x_, (sizes[0], inputs), "float32")
        weight = T.match_buffer(weight_, (inputs, outputs), "float32")
        bias = T.match_buffer(bias_, (outputs,), "float32")
        out = T.match_buffer(out_, (sizes[1], outputs), "float32")
        for block in bind((outputs + THREADS - 1) // THREADS, "blockIdx.x"):
            for tile in bind((n + TILE_ROWS - 1) // TILE_ROWS, "blockIdx.y"):
                linear_block(x, weight, bias, out, block, tile, n, inputs, outputs, bind)

    return main
