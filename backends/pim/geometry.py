"""Where bytes lie in a memory stack: the hierarchy, and address maps over it.

Stack, channel, pseudo channel, SID, bank group, bank, row, column. Computing and dense SIDs of a
stack have different numbers of rows, so each kind is a geometry of its own, with SIDs from 0. An
address map is a bijection between byte addresses and places. It holds no data and knows nothing of
what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.pim.stack import PimStack

Index = NDArray[np.int64]

INTERLEAVE_COLUMNS = 4
"""Neighbouring columns that stay in one bank when addresses are interleaved (128 bytes)."""


@dataclass(frozen=True)
class Place:
    """Columns in the hierarchy: one index array a level, all of one shape."""

    stack: Index
    channel: Index
    pseudo_channel: Index
    sid: Index
    bank_group: Index
    bank: Index
    row: Index
    column: Index

    def __iter__(self) -> Iterator[Index]:
        return (getattr(self, name) for name in LEVELS)


LEVELS: tuple[str, ...] = tuple(Place.__annotations__)


@dataclass(frozen=True)
class StackGeometry:
    """Sizes of the levels, by name as in LEVELS; of `sid`, the first `pim_sids` compute.

    A slot is a bank group of a channel that computes; slots are numbered as in `commands`.
    """

    sizes: tuple[int, ...]
    pim_sids: int
    column_bytes: int
    lanes: int

    @classmethod
    def of(cls, stack: PimStack) -> StackGeometry:
        """Take what the units of the stack reach: as `computing`."""
        return cls.computing(stack)

    @classmethod
    def computing(cls, stack: PimStack) -> StackGeometry:
        """Take the SIDs that compute. DeviceError: none does."""
        return cls._part(stack, stack.pim_sids, stack.pim_rows, computes=True)

    @classmethod
    def dense(cls, stack: PimStack) -> StackGeometry:
        """Take the SIDs without units. DeviceError: all have them."""
        return cls._part(stack, stack.sids - stack.pim_sids, stack.rows, computes=False)

    @classmethod
    def _part(cls, stack: PimStack, sids: int, rows: int, *, computes: bool) -> StackGeometry:
        if not sids:
            kind = "computing" if computes else "dense"
            raise DeviceError(f"pim: none of the {stack.sids} SIDs of the stack is {kind}")
        sizes = (
            stack.stacks,
            stack.channels,
            stack.pseudo_channels,
            sids,
            stack.bank_groups,
            stack.banks,
            rows,
            stack.columns,
        )
        return cls(sizes, sids if computes else 0, stack.column_bytes, stack.unit.lanes)

    def size(self, level: str) -> int:
        """Return how many there are of `level` in the level above it."""
        return self.sizes[LEVELS.index(level)]

    @property
    def channels(self) -> int:
        """Channels of all stacks."""
        return self.size("stack") * self.size("channel")

    @property
    def slots(self) -> int:
        """Bank groups of a channel that compute: each works on a token of its own."""
        return self.size("pseudo_channel") * self.pim_sids * self.size("bank_group")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row index in all banks: what row-wise allocation hands out."""
        return self.capacity_bytes // self.size("row")

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all banks."""
        return prod(self.sizes) * self.column_bytes


@dataclass(frozen=True)
class _Digit:
    """A part of an address: `size` values of a level, whose step in that level is `weight`."""

    level: str
    size: int
    weight: int = 1


class AddressMap:
    """A bijection between `range(capacity_bytes)` and the bytes of all places.

    `digits` are the parts of an address above the byte in a column, the most significant first.
    With `spread_rows`, bank and bank group are XORed with the low bits of the row, so that rows
    which follow each other in one place of the address do not fall on one bank.
    DeviceError: `spread_rows` with a number of banks or bank groups that is no power of two.
    """

    def __init__(
        self, geometry: StackGeometry, digits: Sequence[_Digit], *, spread_rows: bool = False
    ):
        self.geometry = geometry
        self._digits = tuple(digits)
        self._spread_rows = spread_rows
        for level in ("bank", "bank_group") if spread_rows else ():
            if geometry.size(level) & (geometry.size(level) - 1):
                raise DeviceError(
                    f"pim: {level} has {geometry.size(level)} values; XOR with the row needs a"
                    " power of two"
                )

    def encode(self, place: Place) -> Index:
        """Return the address of each column's first byte."""
        place = self._exchanged(place)
        address = np.zeros_like(place.column)
        for digit in self._digits:
            value = getattr(place, digit.level) // digit.weight % digit.size
            address = address * digit.size + value
        return address * self.geometry.column_bytes

    def decode(self, address: Index) -> tuple[Place, Index]:
        """Return the columns that hold the addressed bytes, and the bytes' index in them."""
        rest, byte = np.divmod(address, self.geometry.column_bytes)
        levels = {name: np.zeros_like(rest) for name in LEVELS}
        for digit in reversed(self._digits):
            rest, value = np.divmod(rest, digit.size)
            levels[digit.level] += value * digit.weight
        return self._exchanged(Place(**levels)), byte

    def _exchanged(self, place: Place) -> Place:
        """Return the place with its banks exchanged by row; doing it twice changes nothing."""
        if not self._spread_rows:
            return place
        banks, groups = self.geometry.size("bank"), self.geometry.size("bank_group")
        return replace(
            place,
            bank=place.bank ^ place.row % banks,
            bank_group=place.bank_group ^ place.row // banks % groups,
        )


def interleaved_map(geometry: StackGeometry, *, spread_rows: bool = False) -> AddressMap:
    """Return the map of dense data: neighbouring addresses spread over channels and bank groups.

    From the most significant: row, bank, SID, column (high), bank group, pseudo channel, stack,
    channel, column (low). A row index is a contiguous range of `row_bytes`.
    """
    columns = geometry.size("column")
    low = gcd(columns, INTERLEAVE_COLUMNS)
    order = ("row", "bank", "sid", "column", "bank_group", "pseudo_channel", "stack", "channel")
    digits = [
        _Digit("column", columns // low, low) if name == "column" else _whole(geometry, name)
        for name in order
    ]
    return AddressMap(geometry, [*digits, _Digit("column", low)], spread_rows=spread_rows)


def tile_local_map(geometry: StackGeometry) -> AddressMap:
    """Return the map of PIM tiles, levels in the order of LEVELS: neighbours share a bank's row."""
    return AddressMap(geometry, [_whole(geometry, name) for name in LEVELS])


def _whole(geometry: StackGeometry, level: str) -> _Digit:
    return _Digit(level, geometry.size(level))
