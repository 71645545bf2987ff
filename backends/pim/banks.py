"""The banks of a stack as one array of FP16 lanes, and which rows of them are in use.

Columns are read and written by place, as a DMA engine would. It knows nothing of pages or kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenloom.backends.device import DeviceError
from tokenloom.backends.host_memory import aligned_zeros
from tokenloom.backends.pim.geometry import Place, StackGeometry

Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class RowRange:
    """Rows `start:stop`, the same in every bank of every stack."""

    start: int
    stop: int


class BankArrays:
    """All banks of all stacks, zero at first.

    `lanes` is indexed [row, stack, channel, column, pseudo channel, SID, bank group, bank, lane]:
    what one all-bank command touches, the same column of all banks of a channel, lies together, so
    that the host's caches see what a channel sees. The memory is taken when it is first written.
    """

    def __init__(self, geometry: StackGeometry):
        self.geometry = geometry
        stack, channel, pseudo_channel, sid, group, bank, row, column = geometry.sizes
        shape = (row, stack, channel, column, pseudo_channel, sid, group, bank, geometry.lanes)
        try:
            self.lanes: Half = aligned_zeros(shape, "float16")
        except (MemoryError, OSError):
            raise DeviceError(
                f"pim: this machine has no room for a stack of {geometry.capacity_bytes:,} bytes"
            ) from None
        self._free = [RowRange(0, row)]
        self._touched = 0

    def read_columns(self, place: Place) -> Bytes:
        """Return the bytes of the columns at `place`, in an axis added last."""
        return np.ascontiguousarray(self.lanes[self._index(place)]).view(np.uint8)

    def write_columns(self, place: Place, data: Bytes) -> None:
        """Write whole columns; `data` has the bytes of a column in its last axis."""
        self.lanes[self._index(place)] = np.ascontiguousarray(data).view(np.float16)

    def allocate(self, num_rows: int) -> RowRange:
        """Take rows of all banks, zeroed: the first free run that is long enough."""
        for index, run in enumerate(self._free):
            if run.stop - run.start >= num_rows:
                taken = RowRange(run.start, run.start + num_rows)
                self._free[index : index + 1] = _nonempty(RowRange(taken.stop, run.stop))
                self.lanes[taken.start : min(taken.stop, self._touched)] = 0
                self._touched = max(self._touched, taken.stop)
                return taken
        longest = max((run.stop - run.start for run in self._free), default=0)
        raise DeviceError(
            f"pim: {num_rows} rows asked in all banks, the longest free run has {longest}"
            f" of {self.geometry.size('row')}"
        )

    def free(self, rows: RowRange) -> None:
        """Give rows back; neighbouring free runs become one."""
        merged: list[RowRange] = []
        for run in sorted([*self._free, rows], key=lambda run: run.start):
            if merged and merged[-1].stop == run.start:
                merged[-1] = RowRange(merged[-1].start, run.stop)
            else:
                merged.append(run)
        self._free = merged

    def release(self) -> None:
        """Drop the memory; the banks cannot be used afterwards."""
        self.lanes = np.zeros(0, np.float16)

    @staticmethod
    def _index(place: Place) -> tuple[NDArray[np.int64], ...]:
        stack, channel, pseudo_channel, sid, group, bank, row, column = place
        return row, stack, channel, column, pseudo_channel, sid, group, bank


def _nonempty(run: RowRange) -> list[RowRange]:
    return [run] if run.stop > run.start else []
