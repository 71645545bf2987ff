"""The device contract: allocate, copy, launch, wait, and what a device can hold.

Every device passes `tests/conformance`. The contract knows nothing of models, pages or requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]


class DeviceError(Exception):
    """The device cannot do what was asked; the message names the device and the amounts."""


@dataclass(frozen=True)
class Capacity:
    """What a device offers: bytes by tier (`pim`, `dense`, `host`, `disk`) and parallel lanes."""

    size_bytes: Mapping[str, int]
    lanes: int


class Buffer:
    """Memory of one device, made by `Device.allocate` and freed by `Device.free`.

    `shape` and `dtype` are the logical ones; how the elements lie is the device's own affair.
    """

    def __init__(self, device: str, shape: tuple[int, ...], dtype: str, tier: str, storage: Any):
        self.device = device
        self.shape = shape
        self.dtype = dtype
        self.tier = tier
        self.storage = storage

    @property
    def size_bytes(self) -> int:
        """The logical size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Event:
    """Done when the work it was returned for is done; `device` says whose work."""

    device: str
    id: int


Argument = Buffer | int | float


class Kernel(ABC):
    """A kernel that one device has loaded. `spec` says which."""

    spec: KernelSpec


class Device(ABC):
    """One place that holds buffers and runs kernels.

    Work is queued in order: a launch sees what earlier writes, copies and launches on the same
    device left. `read` waits for what it reads.
    """

    name: str

    @abstractmethod
    def capacity(self) -> Capacity:
        """Return what the device can hold and how wide it is."""

    @abstractmethod
    def allocate(self, shape: Sequence[int], dtype: str, tier: str = "dense") -> Buffer:
        """Reserve zeroed memory. DeviceError: bytes asked and free, or an unknown tier."""

    @abstractmethod
    def free(self, buffer: Buffer) -> None:
        """Give the memory back. To use or free the buffer afterwards is a DeviceError."""

    @abstractmethod
    def write(self, buffer: Buffer, data: Array, start: int = 0) -> Event:
        """Copy `data` into rows `start:start + len(data)`; dtypes must agree."""

    @abstractmethod
    def read(self, buffer: Buffer, start: int = 0, stop: int | None = None) -> Array:
        """Return a copy of rows `start:stop` of the leading axis, after all queued work."""

    @abstractmethod
    def copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> Event:
        """Copy leading-axis rows `(from, to)` between two buffers of equal row shape and dtype."""

    @abstractmethod
    def prepare_weight(self, spec: KernelSpec, data: Array) -> Buffer:
        """Return `data` in the layout and dtype that the kernel `spec` reads its weight in."""

    @abstractmethod
    def load(self, spec: KernelSpec) -> Kernel:
        """Build the kernel or take it from the cache. DeviceError: an unknown operation."""

    @abstractmethod
    def launch(self, kernel: Kernel, arguments: Sequence[Argument]) -> Event:
        """Queue a kernel. Arguments are in the order of `kernel_ops.OPS`."""

    @abstractmethod
    def wait(self, event: Event) -> None:
        """Return when the work is done. Twice is fine; another device's event is an error."""

    def figures(self) -> Mapping[str, float]:
        """Return what the modelled hardware would have taken so far, by name with its unit.

        Empty for devices that are what they run on.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Free everything. The device cannot be used afterwards; closing twice is fine."""
