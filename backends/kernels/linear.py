# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportMissingModuleSource=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# The parameters of macros are buffers and expressions of the script; they have no Python types.
"""Matrix product with a packed weight for the CPU, equal to the bit for any number of rows.

Each output is one lane that adds its inputs in order with fused multiply-adds, whatever the tile
around it. The weight lies as [groups][inputs][width], so that a group is one stream and stays in
the second-level cache while all rows pass. It knows nothing of what the rows are.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from tokenloom.backends.kernels.packing import Tile
from tokenloom.backends.kernels.vector import LANES, constant, fma, lanes, spread

SERIAL_WEIGHTS = 16_384
"""A weight smaller than this is not worth waking other threads for (7 us on the test machine)."""


@T.macro
def store(out, bias, acc, row, start, outputs):
    """Write 16 sums, and of the last vector of a ragged weight those that are outputs."""
    if start + LANES <= outputs:
        if bias is None:
            out[row, lanes(start)] = acc
        else:
            out[row, lanes(start)] = acc + bias[lanes(start)]
    else:
        with T.sblock("ragged"):
            T.reads()
            T.writes()
            last = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            last[lanes(0)] = acc
            for lane in T.serial(LANES):
                if start + lane < outputs:
                    if bias is None:
                        out[row, start + lane] = last[lane]
                    else:
                        out[row, start + lane] = last[lane] + bias[start + lane]


@T.macro
def rows_of_group(x, weight, bias, out, group, first, rows, sizes):
    """Compute `rows` rows of one group's outputs in registers."""
    with T.sblock("tile"):
        T.reads()
        T.writes()
        acc = T.sblock_alloc_buffer((rows, sizes.width), "float32", scope="local")
        for r in T.unroll(rows):
            for v in T.unroll(sizes.vectors):
                acc[r, lanes(v * LANES)] = constant(0.0)
        for k in T.serial(sizes.inputs):
            for r in T.unroll(rows):
                for v in T.unroll(sizes.vectors):
                    acc[r, lanes(v * LANES)] = fma(
                        spread(x[first + r, k]),
                        weight[group, k, lanes(v * LANES)],
                        acc[r, lanes(v * LANES)],
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
def one_group(x, weight, bias, out, group, n, sizes):
    """Compute all rows of one group: whole tiles, then what is left as 4 + 2 + 1."""
    for step in T.serial(n // sizes.rows):
        rows_of_group(x, weight, bias, out, group, step * sizes.rows, sizes.rows, sizes)
    if n % sizes.rows >= 4:
        rows_of_group(x, weight, bias, out, group, n // sizes.rows * sizes.rows, 4, sizes)
    if n % sizes.rows % 4 >= 2:
        rows_of_group(x, weight, bias, out, group, n // 2 * 2 - 2, 2, sizes)
    if n % 2 == 1:
        rows_of_group(x, weight, bias, out, group, n - 1, 1, sizes)


@T.macro
def all_groups(x, weight, bias, out, n, sizes):
    """Compute the product, on all cores where it is worth it."""
    if sizes.inputs * sizes.outputs >= SERIAL_WEIGHTS:
        for group in T.parallel(sizes.groups):
            one_group(x, weight, bias, out, group, n, sizes)
    else:
        for group in T.serial(sizes.groups):
            one_group(x, weight, bias, out, group, n, sizes)


class LinearSizes:
    """The sizes of a product, by name, for macros; `pairs` counts inputs by two, rounded up."""

    def __init__(self, inputs: int, outputs: int, tile: Tile):
        self.inputs, self.outputs, self.pairs = inputs, outputs, -(-inputs // 2)
        self.rows, self.vectors, self.width = tile.rows, tile.vectors, tile.width
        self.groups = tile.groups(outputs)


def linear(name: str, inputs: int, outputs: int, tile: Tile) -> Any:
    """Return the function (x, weight, out, n) named `name`."""
    sizes = LinearSizes(inputs, outputs, tile)

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, weight_: T.handle, out_: T.handle, n: T.int32):
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        num_x = T.int32()
        num_out = T.int32()
        x = T.match_buffer(x_, (num_x, inputs), "float32")
        weight = T.match_buffer(weight_, (sizes.groups, inputs, sizes.width), "float32")
        out = T.match_buffer(out_, (num_out, outputs), "float32")
        all_groups(x, weight, None, out, n, sizes)

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
        weight = T.match_buffer(weight_, (sizes.groups, inputs, sizes.width), "float32")
        bias = T.match_buffer(bias_, (outputs,), "float32")
        out = T.match_buffer(out_, (num_out, outputs), "float32")
        all_groups(x, weight, bias, out, n, sizes)

    return main
