"""Stored number formats to float32, exactly as ggml and safetensors define them.

Knows nothing of files: it sees the bytes of one tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class NumberFormat:
    """A format stores `block_elements` consecutive numbers of a row in `block_bytes` bytes.

    `decode(blocks, out)` fills float32 `out[n, block_elements]` from uint8
    `blocks[n, block_bytes]`.
    """

    block_elements: int
    block_bytes: int
    decode: Callable[[Bytes, Array], None]

    def row_bytes(self, num_elements: int) -> int:
        """Return the bytes of a row. ValueError: not a whole number of blocks."""
        num_blocks, rest = divmod(num_elements, self.block_elements)
        if rest:
            raise ValueError(f"a row of {num_elements} is no multiple of {self.block_elements}")
        return num_blocks * self.block_bytes


def dequantize(raw: Bytes, number_format: NumberFormat, out: Array) -> None:
    """Fill contiguous float32 `out` from the bytes of as many numbers, in the same order."""
    blocks = raw.reshape(-1, number_format.block_bytes)
    number_format.decode(blocks, out.reshape(-1, number_format.block_elements))


def _f32(blocks: Bytes, out: Array) -> None:
    out[...] = np.ascontiguousarray(blocks).view("<f4")


def _f16(blocks: Bytes, out: Array) -> None:
    out[...] = np.ascontiguousarray(blocks).view("<f2")


def _bf16(blocks: Bytes, out: Array) -> None:
    # bfloat16 is the upper half of a float32.
    halves = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    np.left_shift(halves, 16, out=out.view(np.uint32))


def _q4_1(blocks: Bytes, out: Array) -> None:
    """Decode `block_q4_1` of ggml-common.h: scale, minimum, then 32 nibbles (low ones first)."""
    scale = np.ascontiguousarray(blocks[:, 0:2]).view("<f2").astype(np.float32)
    minimum = np.ascontiguousarray(blocks[:, 2:4]).view("<f2").astype(np.float32)
    nibbles = blocks[:, 4:]
    out[:, :16] = nibbles & 0x0F
    out[:, 16:] = nibbles >> 4
    out *= scale
    out += minimum


def _q8_0(blocks: Bytes, out: Array) -> None:
    """Decode `block_q8_0` of ggml-common.h: scale, then 32 signed bytes."""
    scale = np.ascontiguousarray(blocks[:, 0:2]).view("<f2").astype(np.float32)
    out[...] = blocks[:, 2:].view(np.int8)
    out *= scale


FORMATS: dict[str, NumberFormat] = {
    "F32": NumberFormat(1, 4, _f32),
    "F16": NumberFormat(1, 2, _f16),
    "BF16": NumberFormat(1, 2, _bf16),
    "Q4_1": NumberFormat(32, 20, _q4_1),
    "Q8_0": NumberFormat(32, 34, _q8_0),
}
