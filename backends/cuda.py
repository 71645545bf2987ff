"""A GPU as a device: buffers in its memory, kernels from CUDA source compiled by nvcc.

Work is queued on one stream. Both numeric modes run the same float32 kernels. It knows nothing of
models, pages or requests.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from threading import Lock
from typing import Any, cast

import numpy as np

from tokenloom.backends.cuda_driver import CudaDriver
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
from tokenloom.backends.kernels.build import OnBuild, kernel_dir
from tokenloom.backends.kernels.gpu_build import GpuKernel, blocks, emit_cuda
from tokenloom.backends.ledger import Ledger
from tokenloom.kernel_spec import KernelSpec, Mode

RESERVED_BYTES = 512 << 20
"""Left to the driver and to others."""


class CudaKernel(Kernel):
    """A function on the GPU with its checks and the order of its parameters."""

    def __init__(self, checks: LaunchChecks, made: GpuKernel, function: ctypes.c_void_p):
        self.spec = checks.spec
        self.checks = checks
        self.made = made
        self.function = function
        names = [argument.name for argument in checks.schema.arguments]
        self.order = [names.index(parameter) for parameter in made.parameters]


class CudaDevice(Device):
    """The first GPU. DeviceError, in one line, where there is none or no nvcc for a kernel."""

    name = "cuda"

    def __init__(self, mode: Mode = "exact", on_build: OnBuild | None = None):
        self.mode = mode
        self.on_build = on_build
        self._driver = CudaDriver()
        self._driver.use()
        size_bytes = max(self._driver.free_bytes() - RESERVED_BYTES, 0)
        self._ledger = Ledger(
            self.name, Capacity({"dense": size_bytes}, self._driver.num_processors)
        )
        self._kernels: dict[KernelSpec, CudaKernel] = {}
        self._lock = Lock()
        self._open = True

    def capacity(self) -> Capacity:
        """Return the memory that was free at opening, and the number of multiprocessors."""
        return self._ledger.capacity

    def allocate(self, shape: Sequence[int], dtype: str, tier: str = "dense") -> Buffer:
        """Reserve zeroed memory on the GPU."""
        buffer = self._ledger.reserve(shape, dtype, tier)
        try:
            self._driver.use()
            buffer.storage = ctypes.c_uint64(self._driver.allocate(buffer.size_bytes))
        except DeviceError:
            self._ledger.release(buffer)
            raise
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give the memory back, after all queued work."""
        self._ledger.check(buffer)
        address = _address(buffer)
        self._ledger.release(buffer)
        self._driver.use()
        self._driver.free(address)

    def write(self, buffer: Buffer, data: Array, start: int = 0) -> Event:
        """Copy rows to the GPU."""
        self._ledger.check_write(buffer, data, start)
        self._driver.use()
        target = _address(buffer) + start * _row_bytes(buffer)
        self._driver.upload(target, np.ascontiguousarray(data))
        return self._ledger.event()

    def read(self, buffer: Buffer, start: int = 0, stop: int | None = None) -> Array:
        """Copy rows from the GPU, after all queued work."""
        start, stop = self._ledger.check_rows(buffer, start, stop)
        data = np.empty((stop - start, *buffer.shape[1:]), buffer.dtype)
        self._driver.use()
        self._driver.download(data, _address(buffer) + start * _row_bytes(buffer))
        return data

    def copy(self, source: Buffer, target: Buffer, rows: Sequence[tuple[int, int]]) -> Event:
        """Queue copies within the GPU, in order."""
        self._ledger.check_copy(source, target, rows)
        self._driver.use()
        size = _row_bytes(source)
        for origin, destination in rows:
            self._driver.move(
                _address(target) + destination * size, _address(source) + origin * size, size
            )
        return self._ledger.event()

    def prepare_weight(self, spec: KernelSpec, data: Array) -> Buffer:
        """Store a matrix of `linear` as [inputs, outputs], so that threads read side by side."""
        LaunchChecks(spec, self._ledger).check_weight(data)
        buffer = self.allocate(data.shape, "float32")
        is_matrix = spec.op in ("linear", "linear_bias")
        self._driver.use()
        self._driver.upload(_address(buffer), np.ascontiguousarray(data.T if is_matrix else data))
        return buffer

    def load(self, spec: KernelSpec) -> CudaKernel:
        """Compile the kernel for this GPU and load it."""
        self._ledger.check_open()
        if spec not in self._kernels:
            checks = LaunchChecks(spec, self._ledger)
            if self.on_build:
                self.on_build(spec)
            arch = self._driver.arch
            made = emit_cuda([spec], kernel_dir() / f"cuda-{arch}", arch)[0]
            if made.binary is None:
                raise DeviceError("cuda: no nvcc to compile kernels; install the CUDA toolkit")
            self._driver.use()
            function = self._driver.load(made.binary, made.function)
            self._kernels[spec] = CudaKernel(checks, made, function)
        return self._kernels[spec]

    def launch(self, kernel: Kernel, arguments: Sequence[Argument]) -> Event:
        """Queue the kernel."""
        if not isinstance(kernel, CudaKernel):
            raise DeviceError(f"cuda: kernel {kernel.spec} was loaded by another device")
        checks = kernel.checks
        max_rows = checks.check_buffers(arguments)
        checks.check_scalars(arguments[checks.num_buffers :], max_rows)
        rows = cast("int", arguments[-1])
        if rows:
            values = [_value(arguments[index]) for index in kernel.order]
            with self._lock:
                self._driver.use()
                grid = blocks(kernel.spec, rows)
                self._driver.launch(kernel.function, grid, kernel.made.threads, values)
        return self._ledger.event()

    def wait(self, event: Event) -> None:
        """Wait for all queued work."""
        self._ledger.check_event(event)
        self._driver.use()
        self._driver.wait()

    def close(self) -> None:
        """Free everything and let the GPU go."""
        if self._open:
            self._open = False
            self._driver.use()
            self._driver.wait()
            for buffer in self._ledger.live():
                self._driver.free(_address(buffer))
            self._driver.close()
        self._ledger.close()


def _address(buffer: Buffer) -> int:
    return cast("ctypes.c_uint64", buffer.storage).value


def _row_bytes(buffer: Buffer) -> int:
    return math.prod(buffer.shape[1:]) * np.dtype(buffer.dtype).itemsize


def _value(argument: Argument) -> Any:
    return argument.storage if isinstance(argument, Buffer) else ctypes.c_int32(int(argument))
