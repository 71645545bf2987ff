"""Tiles of the CPU matrix product and the weight layout that goes with them.

It imports no compiler: weights are packed where kernels are only loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenloom.backends.device import Array
from tokenloom.backends.kernels.cpu import Cpu
from tokenloom.kernel_spec import KernelSpec

_LANES = 16
_CACHED_TILES = 4  # what is rounded at once stays in the second-level cache


@dataclass(frozen=True)
class Tile:
    """Rows and vectors of 16 outputs that are accumulated in registers at once."""

    rows: int
    vectors: int

    @property
    def width(self) -> int:
        """Outputs of a tile."""
        return self.vectors * _LANES

    def groups(self, outputs: int) -> int:
        """Return how many tiles cover `outputs`."""
        return -(-outputs // self.width)

    def packed_shape(self, outputs: int, inputs: int) -> tuple[int, int, int]:
        """Return the shape of a packed weight."""
        return self.groups(outputs), inputs, self.width

    def pair_shape(self, outputs: int, inputs: int) -> tuple[int, int, int]:
        """Return the shape of a weight packed by `pack_pairs`."""
        return self.groups(outputs), -(-inputs // 2), self.width

    def pack_pairs(self, weight: Array, target: Array) -> None:
        """Fill `target`, int32 of `pair_shape`, with pairs of inputs rounded to bfloat16."""
        bits = weight.view(np.uint32)
        for first in range(0, len(target), _CACHED_TILES):
            part = bits[first * self.width : (first + _CACHED_TILES) * self.width]
            rounded = part >> 16  # to nearest, ties to even
            rounded &= 1
            rounded += part
            rounded += 0x7FFF
            pairs = np.zeros((len(part), 2 * target.shape[1]), np.uint16)
            pairs[:, : weight.shape[1]] = rounded.view(np.uint16)[:, 1::2]  # the upper halves
            self.pack(pairs.view(np.int32), target[first : first + _CACHED_TILES])

    def pack(self, weight: Array, target: Array) -> None:
        """Fill `target` of `packed_shape` from `weight` [outputs, inputs], zeros past its end."""
        outputs, inputs = weight.shape
        whole = outputs // self.width
        blocks = weight[: whole * self.width].reshape(whole, self.width, inputs)
        target[:whole] = blocks.transpose(0, 2, 1)
        if whole < len(target):
            rest = weight[whole * self.width :]
            target[whole] = 0
            target[whole, :, : len(rest)] = np.swapaxes(rest, 0, 1)


def uses_bfloat16(spec: KernelSpec, cpu: Cpu) -> bool:
    """Return whether the kernel is a product that mode `fast` computes from bfloat16 pairs."""
    is_product = spec.op in ("linear", "linear_bias")
    return is_product and spec.mode == "fast" and "avx512_bf16" in cpu.flags


def tile_for(cpu: Cpu) -> Tile:
    """Return the tile that fits the registers: 24 of 32 with AVX-512, 12 of 16 with AVX2.

    On the test machine (AMD EPYC, AVX-512) 8x3 reached 109 GFLOP/s at 512 rows and 24 GB/s at one;
    6x4, 12x2 and 4x4 were equal or less.
    """
    return Tile(rows=8, vectors=3) if "avx512f" in cpu.flags else Tile(rows=6, vectors=1)
