"""Float32 tensors out of one memory-mapped file whose table of contents is known.

Knows nothing of what a tensor means; `tensor_names` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenloom.models.dequantize import FORMATS, dequantize
from tokenloom.models.errors import ModelError


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `offset_bytes` from the start of the file, `shape` as in numpy."""

    name: str
    format: str
    shape: tuple[int, ...]
    offset_bytes: int


class TensorFile:
    """The tensors of one file. Raises ModelError when the file cannot hold them.

    Bounds and formats are checked at once, data is read on demand.
    """

    def __init__(self, path: Path, entries: Iterable[TensorEntry]) -> None:
        self._path = path
        self._entries = {entry.name: entry for entry in entries}
        try:
            self._data = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error
        for entry in self._entries.values():
            if entry.offset_bytes + self._num_bytes(entry) > self._data.size:
                raise ModelError(
                    f"{path} is cut short: '{entry.name}' ends at byte "
                    f"{entry.offset_bytes + self._num_bytes(entry)}, the file at {self._data.size}"
                )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by its name in the file."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def read_into(
        self,
        name: str,
        out: NDArray[np.float32],
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        """Fill contiguous `out` (of the tensor's shape), row r from row `rows[r]` if given."""
        entry = self._entries[name]
        end = entry.offset_bytes + self._num_bytes(entry)
        raw = self._data[entry.offset_bytes : end]
        if rows is not None:
            raw = raw.reshape(len(rows), -1)[rows]
        dequantize(raw, FORMATS[entry.format], out)

    def _num_bytes(self, entry: TensorEntry) -> int:
        try:
            row_bytes = FORMATS[entry.format].row_bytes(entry.shape[-1] if entry.shape else 1)
        except KeyError:
            raise ModelError(
                f"{self._path}: '{entry.name}' is stored as {entry.format}, which is not "
                f"supported (supported: {', '.join(FORMATS)})"
            ) from None
        except ValueError as error:
            raise ModelError(f"{self._path}: '{entry.name}': {error}") from error
        return prod(entry.shape[:-1]) * row_bytes
