"""The GEMV 4096 x 1024 that a stack with one unit for two banks must compute to the last bit.

The inputs are those of the test vectors shipped with Samsung's PIMSimulator, drawn again from their
seed; the model is ours, and the checksums were taken from the simulator's own lanes and sums
(PIMSimulator, its functional tests). It knows nothing of streams or kernels: numpy only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]

ROWS, INPUTS, LANES, TILE = 4096, 1024, 16, 128
"""TILE: inputs that lie together in the even or in the odd banks, by turns."""

SHA256 = {
    "inputs": "0417545dce97cc41",
    "weights": "717adf1dba0cd0ad",
    "product": "9264286ab6deb6c8",
    "lanes": "3b439805b7266d30",
    "sums": "d2375ab2a237b3ec",
}
"""The first 16 digits of the checksums, by field of GoldenGemv."""


@dataclass(frozen=True)
class GoldenGemv:
    """`weights` [4096, 1024] times `inputs` [1024].

    `product` [4096, 1] is numpy's float16 product, `lanes` [4096, 16] the accumulators after all
    inputs, `sums` [4096] the lanes added one after the other in FP16.
    """

    inputs: Half
    weights: Half
    product: Half
    lanes: Half
    sums: Half

    @property
    def columns(self) -> Half:
        """The weights as columns of 16 lanes: [row, column, lane]."""
        return self.weights.reshape(ROWS, INPUTS // LANES, LANES)


@cache
def golden_gemv() -> GoldenGemv:
    """Return inputs and results, drawn from numpy's legacy generator with seed 1113."""
    random = np.random.RandomState(1113)
    inputs = random.standard_normal((INPUTS, 1)).astype(np.float16)
    weights = random.standard_normal((ROWS, INPUTS)).astype(np.float16)
    random.shuffle(weights)
    lanes = accumulate(weights, inputs[:, 0])
    return GoldenGemv(inputs[:, 0], weights, weights @ inputs, lanes, sum_lanes(lanes))


def column_order() -> list[int]:
    """Return the columns (16 inputs each) in the order they are accumulated: even tiles, odd."""
    per_tile = TILE // LANES
    tiles = [*range(0, INPUTS // TILE, 2), *range(1, INPUTS // TILE, 2)]
    return [tile * per_tile + column for tile in tiles for column in range(per_tile)]


def accumulate(weights: Half, inputs: Half, *, fused: bool = False) -> Half:
    """Return the accumulators [4096, 16]: rounded after multiply and after add, or once if fused.

    float64 holds product and sum of a fused step exactly enough to round only at the end.
    """
    lanes = np.zeros((ROWS, LANES), np.float16)
    for column in column_order():
        part = slice(column * LANES, (column + 1) * LANES)
        if fused:
            exact = weights[:, part].astype(np.float64) * inputs[part] + lanes
            lanes = exact.astype(np.float16)
        else:
            lanes = weights[:, part] * inputs[part] + lanes
    return lanes


def sum_lanes(lanes: Half) -> Half:
    """Return the lanes added in order, rounded to FP16 after each."""
    total = np.zeros(len(lanes), np.float16)
    for lane in range(LANES):
        total = total + lanes[:, lane]
    return total


def checksum(values: Half) -> str:
    """Return the first 16 digits of the SHA-256 of the values in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
