"""What a tiled matrix product reads at each level of a GPU's memory, and how full its waves are.

The tile of a multiprocessor is the one of least second-level traffic times squared idleness, the
tile of the second-level cache the one of least memory traffic (AttAcc simulator). It knows no
times and no energies.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.system.description import Chip

_SIDES = np.array([8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512])
_L1_INNER = 32
_L2_INNER_SHARE = 64
"""Of the inner dimension, the second-level cache holds 1 in this many at a time."""
_REGISTER_SIDE = 16


@dataclass(frozen=True)
class Product:
    """`repeats` products of [rows, inner] and [inner, outputs].

    With `spread`, the tiles of one product run on different multiprocessors; without, a product
    runs on one.
    """

    rows: int
    outputs: int
    inner: int
    repeats: int = 1
    spread: bool = True

    @property
    def macs(self) -> int:
        """Multiplications, each with an addition."""
        return self.rows * self.outputs * self.inner * self.repeats


@dataclass(frozen=True)
class Traffic:
    """Bytes read and written at each level; `utilization`: busy share of the multiprocessors."""

    memory_bytes: float
    l2_bytes: float
    l1_bytes: float
    utilization: float


def traffic(product: Product, element_bytes: int, chip: Chip) -> Traffic:
    """Return what `product` moves when its tiles are chosen as the module says."""
    tile = _l1_tile(product, element_bytes, chip)
    outer = _l2_tile(product, tile, element_bytes, chip)
    scale = element_bytes * product.repeats
    return Traffic(
        float(_elements(product, *outer)) * scale,
        float(_elements(product, *tile)) * scale,
        float(_elements(product, _REGISTER_SIDE, _REGISTER_SIDE)) * scale,
        float(_utilization(product, *tile, chip)),
    )


def wave_utilization(blocks: int, chip: Chip) -> float:
    """Return the busy share of the multiprocessors over all waves of `blocks` equal blocks."""
    return blocks / (ceil(blocks / chip.multiprocessors) * chip.multiprocessors)


_Sides = int | NDArray[np.int64]


def _elements(product: Product, rows: _Sides, outputs: _Sides) -> NDArray[np.int64]:
    """Return the elements that one product moves with tiles of `rows` x `outputs`."""
    left = np.ceil(product.outputs / np.asarray(outputs)).astype(np.int64)
    right = np.ceil(product.rows / np.asarray(rows)).astype(np.int64)
    return (
        left * (product.rows * product.inner)
        + right * (product.outputs * product.inner)
        + product.rows * product.outputs
    )


def _utilization(
    product: Product, rows: _Sides, outputs: _Sides, chip: Chip
) -> NDArray[np.float64]:
    blocks = np.asarray(product.repeats, dtype=np.float64)
    if product.spread:
        tiles = np.ceil(product.rows / np.asarray(rows)) * np.ceil(
            product.outputs / np.asarray(outputs)
        )
        blocks = blocks * tiles
    return blocks / (np.ceil(blocks / chip.multiprocessors) * chip.multiprocessors)


def _l1_tile(product: Product, element_bytes: int, chip: Chip) -> tuple[int, int]:
    rows = np.minimum(_SIDES, product.rows)[:, None]
    outputs = np.minimum(_SIDES, product.outputs)[None, :]
    held = ((rows + outputs) * _L1_INNER + rows * outputs) * element_bytes
    cost = _elements(product, rows, outputs) / _utilization(product, rows, outputs, chip) ** 2
    best = int(np.argmin(np.where(held <= chip.l1_bytes, cost, np.inf)))
    row, column = divmod(best, len(_SIDES))
    return int(rows[row, 0]), int(outputs[0, column])


def _l2_tile(
    product: Product, tile: tuple[int, int], element_bytes: int, chip: Chip
) -> tuple[int, int]:
    rows = _multiples(tile[0], product.rows)[:, None]
    outputs = _multiples(tile[1], product.outputs)[None, :]
    inner = product.inner / _L2_INNER_SHARE
    held = ((rows + outputs) * inner + rows * outputs) * element_bytes
    moved = _elements(product, rows, outputs).astype(np.float64)
    # The tile of one multiprocessor is possible whatever the cache holds.
    fits = (held <= chip.l2_bytes) | ((rows == tile[0]) & (outputs == tile[1]))
    row, column = divmod(int(np.argmin(np.where(fits, moved, np.inf))), outputs.shape[1])
    return int(rows[row, 0]), int(outputs[0, column])


def _multiples(side: int, size: int) -> NDArray[np.int64]:
    """Return the multiples of `side` up to `size`, and `size`."""
    return np.append(np.arange(side, size + 1, side), size)
