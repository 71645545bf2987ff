"""What every device checks and counts: live buffers, bytes by tier, row ranges, events.

It holds no memory and runs nothing; it knows neither kernels nor models.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from tokenloom.backends.device import Array, Buffer, Capacity, DeviceError, Event


class Ledger:
    """The books of one device.

    Methods that check raise DeviceError and change nothing then. Safe to call from any thread.
    """

    def __init__(self, device: str, capacity: Capacity):
        self.device = device
        self.capacity = capacity
        self._used_bytes = dict.fromkeys(capacity.size_bytes, 0)
        self._live: dict[Buffer, int] = {}
        self._num_events = 0
        self._closed = False
        self._lock = Lock()

    def free_bytes(self, tier: str) -> int:
        """Return what `tier` can still hold; an unknown tier is a DeviceError."""
        if tier not in self._used_bytes:
            known = ", ".join(self._used_bytes)
            raise DeviceError(f"{self.device}: no tier {tier!r}; this device has {known}")
        return self.capacity.size_bytes[tier] - self._used_bytes[tier]

    def reserve(
        self, shape: Sequence[int], dtype: str, tier: str, size_bytes: int | None = None
    ) -> Buffer:
        """Return a live buffer without storage, its bytes counted.

        `size_bytes` is what it takes in truth, where that is not shape times dtype.
        """
        self.check_open()
        buffer = Buffer(self.device, _checked_shape(self.device, shape), dtype, tier, None)
        _check_dtype(self.device, dtype)
        asked = buffer.size_bytes if size_bytes is None else size_bytes
        with self._lock:
            free = self.free_bytes(tier)
            if asked > free:
                raise DeviceError(
                    f"{self.device}: {asked:,} bytes asked in tier {tier}, {free:,} bytes free"
                    f" of {self.capacity.size_bytes[tier]:,}"
                )
            self._used_bytes[tier] += asked
            self._live[buffer] = asked
        return buffer

    def release(self, buffer: Buffer) -> None:
        """Take the buffer off the books and drop its storage."""
        self.check(buffer)
        with self._lock:
            self._used_bytes[buffer.tier] -= self._live.pop(buffer)
        buffer.storage = None

    def is_live(self, buffer: Buffer) -> bool:
        """Return whether the buffer is this device's and not freed."""
        return buffer in self._live

    def live(self) -> list[Buffer]:
        """Return all live buffers."""
        return list(self._live)

    def check(self, buffer: Buffer) -> None:
        """Raise unless the buffer is this device's and live."""
        if buffer in self._live:
            return
        self.check_open()
        if buffer.device != self.device:
            raise DeviceError(f"{self.device}: the buffer belongs to device {buffer.device}")
        raise DeviceError(
            f"{self.device}: the buffer {buffer.dtype}{list(buffer.shape)} was freed already"
            " or was made by another instance of the device"
        )

    def check_rows(self, buffer: Buffer, start: int, stop: int | None) -> tuple[int, int]:
        """Return the checked row range `start:stop`, where None means to the end."""
        self.check(buffer)
        rows = buffer.shape[0]
        end = rows if stop is None else stop
        if not 0 <= start <= end <= rows:
            raise DeviceError(f"{self.device}: rows {start}:{end} of a buffer with {rows} rows")
        return start, end

    def check_write(self, buffer: Buffer, data: Array, start: int) -> None:
        """Raise unless `data` fits rows `start:start + len(data)` in shape and dtype."""
        if data.ndim == 0:
            raise DeviceError(f"{self.device}: a write needs rows, got a scalar")
        self.check_rows(buffer, start, start + len(data))
        if data.shape[1:] != buffer.shape[1:] or data.dtype != np.dtype(buffer.dtype):
            raise DeviceError(
                f"{self.device}: rows {data.dtype}{list(data.shape[1:])} written to a buffer of"
                f" rows {buffer.dtype}{list(buffer.shape[1:])}"
            )

    def check_copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> None:
        """Raise unless the buffers' rows are alike and all indices of `rows` lie inside."""
        self.check(source)
        self.check(target)
        if source.shape[1:] != target.shape[1:] or source.dtype != target.dtype:
            raise DeviceError(
                f"{self.device}: cannot copy rows {source.dtype}{list(source.shape[1:])} to rows"
                f" {target.dtype}{list(target.shape[1:])}"
            )
        for origin, destination in rows:
            if not (0 <= origin < source.shape[0] and 0 <= destination < target.shape[0]):
                raise DeviceError(
                    f"{self.device}: cannot copy row {origin} of {source.shape[0]} to row"
                    f" {destination} of {target.shape[0]}"
                )

    def event(self) -> Event:
        """Return the next event."""
        self._num_events += 1
        return Event(self.device, self._num_events)

    def check_event(self, event: Event) -> None:
        """Raise unless the event is one this device has returned."""
        if event.device != self.device:
            raise DeviceError(f"{self.device}: cannot wait for an event of {event.device}")
        if not 0 < event.id <= self._num_events:
            raise DeviceError(f"{self.device}: event {event.id} was never returned")

    def check_open(self) -> None:
        """Raise if the device is closed."""
        if self._closed:
            raise DeviceError(f"{self.device}: the device is closed")

    def close(self) -> None:
        """Drop all buffers and refuse what comes after; twice is fine."""
        self._closed = True
        for buffer in self._live:
            buffer.storage = None
        self._live.clear()
        self._used_bytes = dict.fromkeys(self._used_bytes, 0)


def _checked_shape(device: str, shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if not sizes or min(sizes) < 0:
        raise DeviceError(f"{device}: {list(sizes)} is no shape of a buffer")
    return sizes


def _check_dtype(device: str, dtype: str) -> None:
    try:
        np.dtype(dtype)
    except TypeError:
        raise DeviceError(f"{device}: unknown dtype {dtype!r}") from None
