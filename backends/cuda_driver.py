"""The few calls of the CUDA driver that a device needs, through ctypes; no toolkit is needed.

Names and signatures are those of the CUDA Driver API. It knows neither kernels nor buffers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenloom.backends.device import Array, DeviceError

_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16
_OUT_OF_MEMORY = 2


class CudaDriver:
    """The first GPU. DeviceError where there is none."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise DeviceError("cuda: no GPU here (no libcuda.so.1); use --device host") from None
        if self._library.cuInit(0):
            raise DeviceError("cuda: no GPU here (cuInit failed); use --device host")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._device = device.value
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context

    @property
    def arch(self) -> str:
        """The architecture as nvcc names it, such as sm_90."""
        return f"sm_{self._attribute(_MAJOR)}{self._attribute(_MINOR)}"

    @property
    def num_processors(self) -> int:
        """The number of multiprocessors."""
        return self._attribute(_PROCESSORS)

    def use(self) -> None:
        """Make the GPU the calling thread's; every thread must, before the other calls."""
        self._call("cuCtxSetCurrent", self._context)

    def free_bytes(self) -> int:
        """Return the memory that is free on the GPU."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size_bytes: int) -> int:
        """Return the address of zeroed memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size_bytes, 1)))
        self._call("cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back, after all queued work."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, data: Array) -> None:
        """Copy a contiguous array to the GPU."""
        self._call(
            "cuMemcpyHtoD_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_size_t(data.nbytes),
        )

    def download(self, data: Array, address: int) -> None:
        """Fill a contiguous array from the GPU, after all queued work."""
        self._call(
            "cuMemcpyDtoH_v2",
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(data.nbytes),
        )

    def move(self, target: int, source: int, size_bytes: int) -> None:
        """Copy within the GPU's memory."""
        self._call(
            "cuMemcpyDtoD_v2",
            ctypes.c_uint64(target),
            ctypes.c_uint64(source),
            ctypes.c_size_t(size_bytes),
        )

    def load(self, binary: Path, function: str) -> ctypes.c_void_p:
        """Return a function of a cubin."""
        module, handle = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), binary.read_bytes())
        self._call("cuModuleGetFunction", ctypes.byref(handle), module, function.encode())
        return handle

    def launch(
        self,
        function: ctypes.c_void_p,
        blocks: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        """Queue a function; `arguments` are ctypes values in the function's order."""
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )
        sizes = (*blocks, 1, threads, 1, 1, 0)
        grid = (ctypes.c_uint(size) for size in sizes)
        self._call("cuLaunchKernel", function, *grid, None, pointers, None)

    def wait(self) -> None:
        """Return when all queued work is done."""
        self._call("cuCtxSynchronize")

    def close(self) -> None:
        """Let the GPU go."""
        self._call("cuDevicePrimaryCtxRelease_v2", ctypes.c_int(self._device))

    def _attribute(self, name: int) -> int:
        value = ctypes.c_int()
        device = ctypes.c_int(self._device)
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(name), device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise DeviceError(f"cuda: the GPU is out of memory, {self.free_bytes():,} bytes free")
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(text))
            raise DeviceError(f"cuda: {name} failed: {(text.value or b'unknown').decode()}")
