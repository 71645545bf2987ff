"""Calls functions of compiled kernel libraries through the C interface of tvm-ffi.

Neither `tvm` nor `tvm_ffi` is imported (1 to 3 s, since tvm_ffi imports torch): two small runtime
libraries are opened, and arguments are laid out once and called again with other row counts. The
structures are those of `tvm/ffi/c_api.h` and `dlpack/dlpack.h`. It knows no operation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tokenloom.backends.device import Array, DeviceError

_INT, _TENSOR = 1, 7
_CPU = 1
_CODES = {"i": 0, "u": 1, "f": 2}
_RUNTIME_FUNCTIONS = (
    "TVMBackendParallelLaunch",
    "TVMBackendAllocWorkspace",
    "TVMBackendFreeWorkspace",
)
_OBJECT_HEADER_BYTES = 24


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Any(ctypes.Structure):
    _fields_ = [
        ("type_index", ctypes.c_int32),
        ("padding", ctypes.c_uint32),
        ("value", ctypes.c_int64),
    ]


class _Error(ctypes.Structure):
    _fields_ = [
        ("header", ctypes.c_uint8 * _OBJECT_HEADER_BYTES),
        ("kind", ctypes.c_char_p),
        ("kind_bytes", ctypes.c_size_t),
        ("message", ctypes.c_char_p),
        ("message_bytes", ctypes.c_size_t),
    ]


class TensorView:
    """A contiguous array as a kernel argument; it keeps the array alive."""

    def __init__(self, array: Array):
        self.array = array
        self._shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        self._tensor = _Tensor(
            data=array.ctypes.data,
            device_type=_CPU,
            ndim=array.ndim,
            code=_CODES[array.dtype.kind],
            bits=array.dtype.itemsize * 8,
            lanes=1,
            shape=self._shape,
        )
        self.address = ctypes.addressof(self._tensor)


class Call:
    """One function with its tensors bound; the last arguments are given call by call.

    Not to be called from two threads at once.
    """

    def __init__(self, function: NativeFunction, tensors: Sequence[TensorView], num_scalars: int):
        self._function = function.entry
        self._tensors = tuple(tensors)
        self._count = len(tensors) + num_scalars
        self._arguments = (_Any * self._count)()
        for index, tensor in enumerate(tensors):
            self._arguments[index] = _Any(_TENSOR, 0, tensor.address)
        for index in range(len(tensors), self._count):
            self._arguments[index] = _Any(_INT, 0, 0)
        self._scalars = [self._arguments[index] for index in range(len(tensors), self._count)]
        self._address = ctypes.addressof(self._arguments)
        self._result = _Any()
        self._result_address = ctypes.addressof(self._result)

    def __call__(self, scalars: Sequence[int]) -> None:
        """Run the function; a failed check inside it is a DeviceError."""
        for slot, value in zip(self._scalars, scalars, strict=True):
            slot.value = value
        if self._function(None, self._address, self._count, self._result_address):
            raise DeviceError(f"host: kernel failed: {_raised_message()}")


class NativeFunction:
    """A function of a kernel library.

    `holds_lock`: keep Python's lock while it runs. Right for what takes microseconds, as getting
    the lock back from a busy thread takes milliseconds.
    """

    def __init__(self, path: Path, symbol: str, holds_lock: bool):
        runtime = _runtime()
        library = (ctypes.PyDLL if holds_lock else ctypes.CDLL)(str(path))
        for name in _RUNTIME_FUNCTIONS:
            address = ctypes.cast(getattr(runtime, name), ctypes.c_void_p)
            try:
                ctypes.c_void_p.in_dll(library, f"__{name}").value = address.value
            except ValueError:
                continue  # the linker leaves out what the kernel does not use
        self.entry = library[f"__tvm_ffi_{symbol}"]
        self.entry.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_void_p,
        ]
        self.entry.restype = ctypes.c_int


@cache
def _ffi() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_site("tvm_ffi", "libtvm_ffi.so")), mode=ctypes.RTLD_GLOBAL)
    library.TVMFFIErrorMoveFromRaised.argtypes = [ctypes.c_void_p]
    library.TVMFFIErrorMoveFromRaised.restype = None
    library.TVMFFIObjectDecRef.argtypes = [ctypes.c_void_p]
    return library


@cache
def _runtime() -> ctypes.CDLL:
    _ffi()
    return ctypes.CDLL(str(_site("tvm", "libtvm_runtime.so")), mode=ctypes.RTLD_GLOBAL)


def _site(package: str, library: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise DeviceError(f"host: package {package} is not installed; run pip install tokenloom")
    return Path(found.origin).parent / "lib" / library


def _raised_message() -> str:
    handle = ctypes.c_void_p()
    _ffi().TVMFFIErrorMoveFromRaised(ctypes.byref(handle))
    if not handle.value:
        return "no message"
    message = _Error.from_address(handle.value).message or b""
    _ffi().TVMFFIObjectDecRef(handle)
    return message.decode(errors="replace").strip()
