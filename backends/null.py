"""A device that does nothing: arguments are checked and memory is counted, nothing is computed.

Schedules and page handling are tested on it. It holds no data: what is read back is zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tokenloom.backends.device import (
    Argument,
    Array,
    Buffer,
    Capacity,
    Device,
    DeviceError,
    Event,
    Kernel,
)
from tokenloom.backends.kernel_ops import LaunchChecks
from tokenloom.backends.ledger import Ledger
from tokenloom.kernel_spec import KernelSpec, Mode

CAPACITY: Mapping[str, int] = {
    "pim": 16 << 30,
    "dense": 64 << 30,
    "host": 256 << 30,
    "disk": 1 << 40,
}
"""A made-up machine with every tier, so that any plan can be tried."""


class NullKernel(Kernel):
    """A kernel's name and checks."""

    def __init__(self, checks: LaunchChecks):
        self.spec = checks.spec
        self.checks = checks


class NullDevice(Device):
    """Accepts what a real device would accept, refuses what it would refuse, in no time."""

    name = "null"

    def __init__(
        self,
        mode: Mode = "exact",
        size_bytes: Mapping[str, int] | None = None,
        on_build: Callable[[KernelSpec], None] | None = None,
    ):
        del on_build  # nothing is ever built
        self.mode = mode
        self._ledger = Ledger(self.name, Capacity(dict(size_bytes or CAPACITY), lanes=1))
        self.num_launches = 0

    def capacity(self) -> Capacity:
        """Return the made-up capacity."""
        return self._ledger.capacity

    def allocate(self, shape: Sequence[int], dtype: str, tier: str = "dense") -> Buffer:
        """Count the bytes; no memory is taken."""
        return self._ledger.reserve(shape, dtype, tier)

    def free(self, buffer: Buffer) -> None:
        """Give the counted bytes back."""
        self._ledger.release(buffer)

    def write(self, buffer: Buffer, data: Array, start: int = 0) -> Event:
        """Check the range, shape and dtype."""
        self._ledger.check_write(buffer, data, start)
        return self._ledger.event()

    def read(self, buffer: Buffer, start: int = 0, stop: int | None = None) -> Array:
        """Return zeros of the range's shape."""
        start, stop = self._ledger.check_rows(buffer, start, stop)
        return np.zeros((stop - start, *buffer.shape[1:]), buffer.dtype)

    def copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> Event:
        """Check both buffers and all rows."""
        self._ledger.check_copy(source, target, rows)
        return self._ledger.event()

    def prepare_weight(self, spec: KernelSpec, data: Array) -> Buffer:
        """Count the bytes of `data`."""
        LaunchChecks(spec, self._ledger).check_weight(data)
        return self._ledger.reserve(data.shape, "float32", "dense")

    def load(self, spec: KernelSpec) -> NullKernel:
        """Check the spec."""
        self._ledger.check_open()
        return NullKernel(LaunchChecks(spec, self._ledger))

    def launch(self, kernel: Kernel, arguments: Sequence[Argument]) -> Event:
        """Check the arguments."""
        if not isinstance(kernel, NullKernel):
            raise DeviceError(f"null: kernel {kernel.spec} was loaded by another device")
        checks = kernel.checks
        max_rows = checks.check_buffers(arguments)
        checks.check_scalars(arguments[checks.num_buffers :], max_rows)
        self.num_launches += 1
        return self._ledger.event()

    def wait(self, event: Event) -> None:
        """Check that the event is this device's."""
        self._ledger.check_event(event)

    def close(self) -> None:
        """Drop the books."""
        self._ledger.close()
