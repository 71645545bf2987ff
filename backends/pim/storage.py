"""What a buffer of the PIM device is: base-die memory, KV pages in banks, or interleaved bytes.

Each reads and writes rows of the buffer's leading axis as logical arrays and translates to where
they lie. It knows nothing of kernels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Literal

import numpy as np

from tokenloom.backends.device import Array, DeviceError
from tokenloom.backends.host_memory import aligned_zeros
from tokenloom.backends.pim.banks import BankArrays, Half, RowRange
from tokenloom.backends.pim.geometry import Index, interleaved_map
from tokenloom.backends.pim.layout import PAGE_TOKENS, KvLayout

Role = Literal["keys", "values"]


class Storage(ABC):
    """The memory of one buffer."""

    @abstractmethod
    def read(self, rows: Index) -> Array:
        """Return rows of the buffer, copied."""

    @abstractmethod
    def write(self, rows: Index, data: Array) -> None:
        """Replace rows of the buffer; of a row given twice the last stays."""


class BankStorage(Storage):
    """Memory in the banks: `num_rows` rows of all of them, between `attach` and `free`."""

    def __init__(self, banks: BankArrays, num_rows: int):
        self.banks = banks
        self.num_rows = num_rows
        self.rows = RowRange(0, 0)

    def attach(self) -> None:
        """Take rows, zeroed; DeviceError if there are none."""
        self.rows = self.banks.allocate(self.num_rows)

    def free(self) -> None:
        """Give the rows back."""
        self.banks.free(self.rows)


class BaseDieArray(Storage):
    """An array in the base die, zeroed."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.array = aligned_zeros(shape, dtype)

    def read(self, rows: Index) -> Array:
        """Return the rows, copied."""
        return self.array[rows]

    def write(self, rows: Index, data: Array) -> None:
        """Replace the rows."""
        self.array[rows] = data


class InterleavedRows(BankStorage):
    """Rows of any dtype over interleaved addresses, each from a new column on."""

    def __init__(self, banks: BankArrays, shape: tuple[int, ...], dtype: str):
        self._map = interleaved_map(banks.geometry)
        self._shape, self._dtype = shape[1:], np.dtype(dtype)
        self._row_bytes = prod(shape[1:]) * self._dtype.itemsize
        column_bytes = banks.geometry.column_bytes
        self._columns = -(-self._row_bytes // column_bytes)
        size_bytes = shape[0] * self._columns * column_bytes
        super().__init__(banks, max(1, -(-size_bytes // banks.geometry.row_bytes)))

    def read(self, rows: Index) -> Array:
        """Return the rows, gathered column by column."""
        place, _ = self._map.decode(self._addresses(rows))
        data = self.banks.read_columns(place).reshape(len(rows), -1)[:, : self._row_bytes]
        return np.ascontiguousarray(data).view(self._dtype).reshape(len(rows), *self._shape)

    def write(self, rows: Index, data: Array) -> None:
        """Replace the rows, column by column."""
        place, _ = self._map.decode(self._addresses(rows))
        column_bytes = self.banks.geometry.column_bytes
        columns = np.zeros((len(rows), self._columns * column_bytes), np.uint8)
        flat = np.ascontiguousarray(data, self._dtype).reshape(len(rows), -1)
        columns[:, : self._row_bytes] = flat.view(np.uint8)
        self.banks.write_columns(place, columns.reshape(len(rows), -1, column_bytes))

    def _addresses(self, rows: Index) -> Index:
        column_bytes, row_bytes = self.banks.geometry.column_bytes, self.banks.geometry.row_bytes
        columns = rows[:, None] * self._columns + np.arange(self._columns)
        return self.rows.start * row_bytes + columns * column_bytes


class KvPool(BankStorage):
    """KV pages of one layer in FP16, laid out by `KvLayout`.

    `keys` are pages [kv_heads, head_dim, 16], `values` [kv_heads, 16, head_dim]. A head of 16
    dimensions has both forms alike: `bind` says later which it is, and moves what is there.
    """

    def __init__(self, banks: BankArrays, shape: tuple[int, ...], stripe_pages: int):
        num_pages, kv_heads, first, last = shape
        self._square = first == last
        self.role: Role = "keys" if last == PAGE_TOKENS else "values"
        head_dim = first if self.role == "keys" else last
        self.layout = KvLayout(banks.geometry, num_pages, kv_heads, head_dim, stripe_pages)
        super().__init__(banks, self.layout.num_rows)

    @staticmethod
    def fits(shape: tuple[int, ...], dtype: str) -> bool:
        """Return whether a buffer is a KV pool by its shape and dtype."""
        return len(shape) == 4 and dtype == "float16" and PAGE_TOKENS in shape[2:]

    @property
    def units(self) -> Half:
        """The pool's rows of the banks, as `KvLayout.units`: what kernels work on."""
        return self.layout.units(self._bank_rows)

    def bind(self, role: Role) -> None:
        """Say what the pool holds; DeviceError if it is known to hold the other."""
        if role != self.role:
            if not self._square:
                raise DeviceError(f"pim: a pool laid out for {self.role} is used for {role}")
            pages = np.arange(self.layout.num_pages)
            data = self.read(pages)
            self.role = role
            self.write(pages, data)
        self._square = False

    def read(self, rows: Index) -> Array:
        """Return pages, gathered out of the banks."""
        tokens = self.layout.gather(self._bank_rows, rows)
        return np.ascontiguousarray(tokens.swapaxes(2, 3) if self.role == "keys" else tokens)

    def write(self, rows: Index, data: Array) -> None:
        """Replace pages in the banks."""
        tokens = data.swapaxes(2, 3) if self.role == "keys" else data
        self.layout.scatter(self._bank_rows, rows, tokens)

    @property
    def _bank_rows(self) -> Half:
        return self.banks.lanes[self.rows.start : self.rows.stop]
