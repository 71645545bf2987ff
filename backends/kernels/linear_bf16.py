# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Matrix product with a bfloat16 weight for CPUs with AVX512-BF16, used in mode `fast`.

Inputs are rounded to bfloat16 too; products are summed in float32 in the order of the inputs, two
at a time: equal bits for any number of rows, as in `linear`, whose tiles these are. The weight lies
as [groups][pairs of inputs][width], a pair in one word.

Chosen by measurement (two cores of an AMD EPYC, 576 inputs, 3072 outputs; 1, 8, 64, 512 rows):
149, 181, 998, 8164 us; in float32 295, 318, 2120, 16300 us; oneDNN's bfloat16 product through torch
236, 291, 745, 4806 us, better from some 30 rows on, but torch takes 1 s to import and would need
the weights a second time.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.linear import LinearSizes, store
from tokenloom.backends.kernels.packing import Tile
from tokenloom.backends.kernels.vector import LANES, constant, lanes, spread

_MULTIPLY_PAIRS = """
define <16 x float> @tokenloom_multiply_pairs(<16 x float> %acc, <16 x i32> %a, <16 x i32> %b) #0 {
  %x = bitcast <16 x i32> %a to <32 x bfloat>
  %y = bitcast <16 x i32> %b to <32 x bfloat>
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %acc, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %r
}
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
attributes #0 = { alwaysinline nounwind "target-features"="+avx512f,+avx512bf16" }
"""
"""The instruction on words: TVM 0.27 cannot name bfloat vectors for the CPU, LLVM can."""


def multiply_pairs(acc: Any, inputs: Any, weights: Any) -> Any:
    """Return acc + the products of 16 pairs of bfloat16, each pair in one int32 lane."""
    return T.call_pure_extern("float32x16", "tokenloom_multiply_pairs", acc, inputs, weights)


def rounded_bits(value: Any) -> Any:
    """Return the bits of a float32 rounded to bfloat16, to nearest even, in the low half."""
    bits = T.reinterpret("uint32", value)
    odd = (bits >> T.uint32(16)) & T.uint32(1)
    return (bits + T.uint32(0x7FFF) + odd) >> T.uint32(16)


@T.macro
def round_row(x, words, row, inputs):
    """Write a row's inputs as pairs; a last one without a partner is paired with zero."""
    for k in T.serial(inputs // 2):
        words[row, k] = T.reinterpret(
            "int32",
            rounded_bits(x[row, 2 * k]) | (rounded_bits(x[row, 2 * k + 1]) << T.uint32(16)),
        )
    if inputs % 2 == 1:
        words[row, inputs // 2] = T.reinterpret("int32", rounded_bits(x[row, inputs - 1]))


@T.macro
def rows_of_group(words, weight, bias, out, group, first, rows, sizes):
    """Compute `rows` rows of one group's outputs in registers."""
    with T.sblock("tile"):
        T.reads()
        T.writes()
        acc = T.sblock_alloc_buffer((rows, sizes.width), "float32", scope="local")
        for r in T.unroll(rows):
            for v in T.unroll(sizes.vectors):
                acc[r, lanes(v * LANES)] = constant(0.0)
        for k in T.serial(sizes.pairs):
            for r in T.unroll(rows):
                for v in T.unroll(sizes.vectors):
                    acc[r, lanes(v * LANES)] = multiply_pairs(
                        acc[r, lanes(v * LANES)],
                        spread(words[first + r, k]),
                        weight[group, k, lanes(v * LANES)],
                    )
        for r in T.unroll(rows):
            for v in T.unroll(sizes.vectors):
                store(
                    out,
                    bias,
                    acc[r, lanes(v * LANES)],
                    first + r,
                    group * sizes.width + v * LANES,
                    sizes.outputs,
                )


@T.macro
def one_group(words, weight, bias, out, group, n, sizes):
    """Compute all rows of one group: whole tiles, then what is left as 4 + 2 + 1."""
    for step in T.serial(n // sizes.rows):
        rows_of_group(words, weight, bias, out, group, step * sizes.rows, sizes.rows, sizes)
    if n % sizes.rows >= 4:
        rows_of_group(words, weight, bias, out, group, n // sizes.rows * sizes.rows, 4, sizes)
    if n % sizes.rows % 4 >= 2:
        rows_of_group(words, weight, bias, out, group, n // 2 * 2 - 2, 2, sizes)
    if n % 2 == 1:
        rows_of_group(words, weight, bias, out, group, n - 1, 1, sizes)


@T.macro
def product(x, weight, bias, out, n, sizes):
    """Round the inputs, then compute all groups on all cores."""
    with T.sblock("product"):
        T.reads()
        T.writes()
        words = T.sblock_alloc_buffer((n, sizes.pairs), "int32")
        for row in T.serial(n):
            round_row(x, words, row, sizes.inputs)
        with T.attr(T.int32(0), "pragma_import_llvm", _MULTIPLY_PAIRS):
            for group in T.parallel(sizes.groups):
                one_group(words, weight, bias, out, group, n, sizes)


def linear(name: str, inputs: int, outputs: int, tile: Tile) -> Any:
    """Return the function (x, weight, out, n) named `name`."""
    sizes = LinearSizes(inputs, outputs, tile)

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_out = T.int32()
        x = T.match_buffer(x_, (num_x, inputs), "float32")
        weight = T.match_buffer(weight_, (sizes.groups, sizes.pairs, sizes.width), "int32")
        out = T.match_buffer(out_, (num_out, outputs), "float32")
        product(x, weight, None, out, n, sizes)

    return main


def linear_bias(name: str, inputs: int, outputs: int, tile: Tile) -> Any:
    """Return the function (x, weight, bias, out, n) named `name`."""
    sizes = LinearSizes(inputs, outputs, tile)

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, bias_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_out = T.int32()
        x = T.match_buffer(x_, (num_x, inputs), "float32")
        weight = T.match_buffer(weight_, (sizes.groups, sizes.pairs, sizes.width), "int32")
        bias = T.match_buffer(bias_, (outputs,), "float32")
        out = T.match_buffer(out_, (num_out, outputs), "float32")
        product(x, weight, bias, out, n, sizes)

    return main
